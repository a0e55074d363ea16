//! What is not assembly, on the model of the CSRs (see [`csr`](crate::csr)).
use std::sync::atomic::{AtomicUsize, Ordering};

use axvcpu::{
    AccessKind, AccessWidth, AxArchPerCpu, AxArchVCpu, AxError, AxMmHal, AxVCpuExitReason as Exit,
    AxVCpuHal, GuestPhysAddr, HostPhysAddr, HostVirtAddr,
};
use axvcpu_riscv::asm::{Asm, FT0, S1, ZERO};
use axvcpu_riscv::csr::{CAUSE_INTERRUPT, cause, irq, num as snum, sstatus as sbits};

use crate::csr::model;
use crate::hext::{cause as hcause, guest_level, num};
use crate::slot::Slot;
use crate::switch::Trap;
use crate::{Features, RiscvConfig, RiscvPerCpu, RiscvVCpu};

struct Memory;

#[allow(unsafe_code)] // an unsafe trait
// SAFETY: hands nothing out.
unsafe impl AxMmHal for Memory {
    fn alloc_frame() -> Option<HostPhysAddr> {
        None
    }

    unsafe fn dealloc_frame(_frame: HostPhysAddr) {}

    fn phys_to_virt(addr: HostPhysAddr) -> HostVirtAddr {
        HostVirtAddr::new(addr.as_usize())
    }

    fn virt_to_phys(addr: HostVirtAddr) -> HostPhysAddr {
        HostPhysAddr::new(addr.as_u64())
    }
}

struct Hal;

static NEXT_CPU: AtomicUsize = AtomicUsize::new(0);

std::thread_local! {
    /// Each test is a physical CPU, like the model's registers.
    static CPU: usize = NEXT_CPU.fetch_add(1, Ordering::Relaxed);
    static ARMED: core::cell::Cell<u64> = const { core::cell::Cell::new(0) };
}

#[allow(unsafe_code)] // an unsafe trait
// SAFETY: a number for each thread; the current vCPU is not used.
unsafe impl AxVCpuHal for Hal {
    type MmHal = Memory;

    fn irq_fetch() -> usize {
        77
    }

    fn irq_hanlder() {}

    fn cpu_id() -> usize {
        CPU.with(|cpu| *cpu)
    }

    fn arm_timer(deadline: u64) -> bool {
        ARMED.set(deadline);
        true
    }
}

type VCpu = RiscvVCpu<Hal>;

const CODE: u64 = 0x8000_0000;

/// A vCPU on this thread's CPU, loaded.
fn vcpu(config: RiscvConfig) -> VCpu {
    let features = Features {
        sstc: true,
        fp: true,
        vlenb: 16,
        vmid_bits: 14,
        stage2_modes: 0x700,
        ..Features::default()
    };
    Slot::of(Hal::cpu_id()).unwrap().set_enabled(Some(features));
    let mut vcpu = VCpu::new(0, 0, config).unwrap();
    vcpu.set_entry(GuestPhysAddr::new(CODE)).unwrap();
    assert_eq!(vcpu.bind(), Err(AxError::InvalidInput), "without stage 2");
    #[allow(unsafe_code)] // promises what nobody relies on
    // SAFETY: no hart follows the root.
    unsafe { vcpu.set_ept_root(HostPhysAddr::new(0x4000)) }.unwrap();
    vcpu.setup(()).unwrap();
    vcpu.bind().unwrap();
    vcpu.prepare();
    vcpu
}

fn trap(cause: u64) -> Trap {
    Trap { cause, pc: CODE, a: [0; 8] }
}

/// The instruction as `htinst` shows it: with the offset in the place of the base register.
fn transformed(write: impl FnOnce(&mut Asm)) -> u64 {
    let mut asm = Asm::new(0);
    write(&mut asm);
    let code = asm.finish().unwrap();
    u64::from(u32::from_le_bytes(code[..4].try_into().unwrap()))
}

fn fault(vcpu: &mut VCpu, code: u64, addr: u64, htinst: u64) -> Option<Exit> {
    model::put(num::HTVAL, addr >> 2);
    model::put(snum::STVAL, addr);
    model::put(num::HTINST, htinst);
    trapped(vcpu, trap(code))
}

fn trapped(vcpu: &mut VCpu, trap: Trap) -> Option<Exit> {
    vcpu.trapped(trap).map(Exit::from)
}

#[test]
fn nothing_works_where_virtualization_is_off() {
    let refused = VCpu::new(0, 0, RiscvConfig::new()).err();
    assert_eq!(refused, Some(AxError::Unsupported));
    let mut percpu = RiscvPerCpu::<Hal>::new(Hal::cpu_id()).unwrap();
    assert_eq!(percpu.hardware_enable(), Err(AxError::Unsupported));
    assert!(!percpu.is_enabled());
    assert_eq!(percpu.hardware_disable(), Ok(()));
    assert!(RiscvPerCpu::<Hal>::new(crate::MAX_CPUS).is_err());
}

#[test]
fn what_a_vcpu_is_made_with_is_checked() {
    let _ = vcpu(RiscvConfig::new());
    let odd = RiscvConfig { stage2: axvcpu_riscv::paging::SV39, ..RiscvConfig::new() };
    assert_eq!(VCpu::new(0, 0, odd).err(), Some(AxError::InvalidInput));
    let stopped = RiscvConfig { timebase: 0, ..RiscvConfig::new() };
    assert_eq!(VCpu::new(0, 0, stopped).err(), Some(AxError::InvalidInput));
}

#[test]
fn loads_are_completed_with_width_and_sign() {
    let mut vcpu = vcpu(RiscvConfig::new());
    let htinst = transformed(|a| a.lb(S1, 0, ZERO));
    let exit = fault(&mut vcpu, hcause::GUEST_LOAD_PAGE, 0x1000_0003, htinst);
    let addr = GuestPhysAddr::new(0x1000_0003);
    assert_eq!(exit, Some(Exit::MmioRead { addr, width: AccessWidth::Byte }));
    vcpu.set_return_value(0x180);
    assert_eq!(vcpu.get_gpr(9), Ok(0x80_u8 as i8 as i64 as u64));
    assert_eq!(vcpu.context.pc, CODE + 4);
    assert_eq!(vcpu.retry(), Err(AxError::NotAsked));

    // Compressed, and to nowhere.
    let htinst = transformed(|a| a.ld(ZERO, 0, ZERO)) & !2;
    fault(&mut vcpu, hcause::GUEST_LOAD_PAGE, 0x1000_0000, htinst).unwrap();
    vcpu.set_return_value(u64::MAX);
    assert_eq!((vcpu.get_gpr(0), vcpu.context.pc), (Ok(0), CODE + 2));
}

#[test]
fn stores_are_over_unless_they_are_undone() {
    let mut vcpu = vcpu(RiscvConfig::new());
    vcpu.set_gpr(9, 0x1_2345_6789).unwrap();
    let htinst = transformed(|a| a.sw(S1, 0, ZERO));
    let exit = fault(&mut vcpu, hcause::GUEST_STORE_PAGE, 0x1000_0004, htinst);
    let addr = GuestPhysAddr::new(0x1000_0004);
    let expected = Exit::MmioWrite { addr, width: AccessWidth::Dword, data: 0x2345_6789 };
    assert_eq!((exit, vcpu.context.pc), (Some(expected), CODE + 4));
    vcpu.retry().unwrap();
    assert_eq!(vcpu.context.pc, CODE);
    assert_eq!(vcpu.fail_access(), Err(AxError::NotAsked));
}

#[test]
fn failed_accesses_are_the_guests_access_faults() {
    let mut vcpu = vcpu(RiscvConfig::new());
    model::put(num::VSTVEC, 0x8000_1000);
    model::put(num::VSSTATUS, sbits::SIE);
    let htinst = transformed(|a| a.sw(S1, 0, ZERO));
    fault(&mut vcpu, hcause::GUEST_STORE_PAGE, 0x1000_0004, htinst).unwrap();
    vcpu.fail_access().unwrap();
    vcpu.prepare();
    assert_eq!(vcpu.context.pc, 0x8000_1000);
    assert_eq!(model::get(num::VSCAUSE), cause::STORE_ACCESS);
    assert_eq!(model::get(num::VSTVAL), 0x1000_0004);
    assert_eq!(model::get(num::VSEPC), CODE);
    assert_eq!(model::get(num::VSSTATUS), sbits::SPIE | sbits::SPP);
}

#[test]
fn misaligned_accesses_to_nothing_are_misaligned() {
    let mut vcpu = vcpu(RiscvConfig::new());
    let htinst = transformed(|a| a.lw(S1, 0, ZERO));
    assert_eq!(fault(&mut vcpu, hcause::GUEST_LOAD_PAGE, 0x1000_0002, htinst), None);
    assert_eq!(model::get(num::VSCAUSE), cause::LOAD_MISALIGNED);
    // The second part of an access that began two bytes before the page.
    let htinst = htinst | 2 << 15;
    assert_eq!(fault(&mut vcpu, hcause::GUEST_LOAD_PAGE, 0x1000_1000, htinst), None);
    assert_eq!(model::get(num::VSTVAL), 0x1000_0ffe);
}

#[test]
fn everything_else_is_a_nested_fault() {
    let mut vcpu = vcpu(RiscvConfig::new());
    for (code, htinst, access) in [
        (hcause::GUEST_LOAD_PAGE, 0x3000, AccessKind::Read),
        (hcause::GUEST_STORE_PAGE, 0x3000, AccessKind::Read),
        (hcause::GUEST_STORE_PAGE, 0x3020, AccessKind::Write),
        (hcause::GUEST_FETCH_PAGE, 0x3000, AccessKind::Read),
        (hcause::GUEST_FETCH_PAGE, 0, AccessKind::Execute),
        (hcause::GUEST_STORE_PAGE, 0x00b5_302f, AccessKind::Write), // an atomic
    ] {
        let exit = fault(&mut vcpu, code, 0x1000_0008, htinst);
        let addr = GuestPhysAddr::new(0x1000_0008);
        assert_eq!(exit, Some(Exit::NestedPageFault { addr, access }), "{code} {htinst:#x}");
        assert_eq!(vcpu.context.pc, CODE);
    }
}

#[test]
fn floats_are_loaded_boxed() {
    let mut vcpu = vcpu(RiscvConfig::new());
    model::put(num::VSSTATUS, sbits::FS & !(1 << 13));
    let htinst = transformed(|a| a.flw(FT0, 0, ZERO));
    fault(&mut vcpu, hcause::GUEST_LOAD_PAGE, 0x1000_0000, htinst).unwrap();
    vcpu.set_return_value(0x3f80_0000);
    vcpu.prepare();
    assert_eq!(vcpu.on_cpu().image().fp[0], 0xffff_ffff_3f80_0000);
    assert_eq!(model::get(num::VSSTATUS) & sbits::FS, sbits::FS);
}

#[test]
fn units_are_on_where_the_hart_has_them() {
    let mut vcpu = vcpu(RiscvConfig::new());
    let units = sbits::FS | crate::hext::sstatus::VS;
    let clean = crate::hext::sstatus::FS_CLEAN | crate::hext::sstatus::VS_CLEAN;
    assert_eq!(vcpu.context.sstatus & units, clean);
    vcpu.unbind().unwrap();
    let mut scalar = self::vcpu(RiscvConfig { vector: false, ..RiscvConfig::new() });
    assert_eq!(scalar.context.sstatus & units, crate::hext::sstatus::FS_CLEAN);
    scalar.unbind().unwrap();
}

#[test]
fn the_registers_follow_the_vcpu_that_runs() {
    let mut first = vcpu(RiscvConfig::new());
    let mut second = vcpu(RiscvConfig::new());
    let registers = [num::VSSCRATCH, num::VSTVEC, snum::SCOUNTEREN, num::VSTIMECMP, num::VSATP];
    for (offset, register) in (0..).zip(registers) {
        model::put(register, 100 + offset);
    }
    first.shared().ask(crate::image::todo::LOAD);
    first.prepare();
    for register in registers {
        assert!(!(100..110).contains(&model::get(register)), "{register:#x} of the other vCPU");
        model::put(register, 7);
    }
    assert!(second.shared().todo() != 0, "nobody told the other vCPU");
    second.prepare();
    for (offset, register) in (0..).zip(registers) {
        assert_eq!(model::get(register), 100 + offset, "{register:#x}");
    }
    // Different tags, and nothing left when both are gone.
    let vmid = |vcpu: &VCpu| {
        let _ = vcpu;
        model::get(num::HGATP) >> 44 & 0x3fff
    };
    let tag = vmid(&second);
    first.prepare();
    assert_ne!(vmid(&first), tag);
    second.unbind().unwrap();
    first.unbind().unwrap();
    assert_eq!((model::get(num::HGATP), model::get(num::HVIP)), (0, 0));
}

#[test]
fn a_vcpu_keeps_its_tag_until_it_has_run_elsewhere_or_tags_run_out() {
    let mut vcpu = vcpu(RiscvConfig::new());
    let before = model::get(num::HGATP);
    vcpu.unbind().unwrap();
    vcpu.bind().unwrap();
    vcpu.prepare();
    assert_eq!(model::get(num::HGATP), before);
    let slot = Slot::of(Hal::cpu_id()).unwrap();
    for _ in 0..1 << 14 {
        slot.new_vmid();
    }
    vcpu.unbind().unwrap();
    vcpu.bind().unwrap();
    vcpu.prepare();
    assert_ne!(model::get(num::HGATP), before);
    vcpu.unbind().unwrap();
}

#[test]
fn reset_forgets_everything() {
    let mut vcpu = vcpu(RiscvConfig::new());
    for register in [num::VSSCRATCH, num::VSTVEC, num::VSATP, num::VSIE, num::VSTVAL] {
        model::put(register, 5);
    }
    vcpu.set_gpr(5, 5).unwrap();
    vcpu.inject_interrupt(irq::EXTERNAL).unwrap();
    vcpu.prepare();
    vcpu.reset().unwrap();
    vcpu.prepare();
    for register in [num::VSSCRATCH, num::VSTVEC, num::VSATP, num::VSIE, num::VSTVAL, num::HVIP] {
        assert_eq!(model::get(register), 0, "{register:#x}");
    }
    assert_eq!(model::get(num::VSTIMECMP), u64::MAX);
    assert_eq!((vcpu.get_gpr(5), vcpu.context.pc), (Ok(0), CODE));
}

#[test]
fn an_edge_is_taken_back_when_the_guest_has_taken_it() {
    let mut vcpu = vcpu(RiscvConfig::new());
    model::put(num::VSTVEC, 0x8000_1001); // vectored
    vcpu.inject_interrupt(irq::EXTERNAL).unwrap();
    vcpu.inject_interrupt(irq::TIMER).unwrap();
    vcpu.prepare();
    let both = guest_level(irq::EXTERNAL) | guest_level(irq::TIMER);
    assert_eq!(model::get(num::HVIP), both);
    let hook = model::get(num::VSTVEC);
    assert_ne!(hook, 0x8000_1001);
    // The guest takes the external interrupt, and cannot fetch its handler.
    model::put(num::VSCAUSE, CAUSE_INTERRUPT | irq::EXTERNAL as u64);
    let at_hook = Trap { cause: cause::FETCH_PAGE, pc: hook, a: [0; 8] };
    assert_eq!(trapped(&mut vcpu, at_hook), None);
    assert_eq!(vcpu.context.pc, 0x8000_1000 + 4 * 9);
    assert_eq!(model::get(num::HVIP), guest_level(irq::TIMER));
    // The other one waits behind the same hook, also when it is an exception that comes first.
    assert_eq!(model::get(num::VSTVEC), hook);
    model::put(num::VSCAUSE, cause::BREAKPOINT);
    assert_eq!(trapped(&mut vcpu, at_hook), None);
    assert_eq!(vcpu.context.pc, 0x8000_1000);
    assert_eq!(model::get(num::HVIP), guest_level(irq::TIMER));
    model::put(num::VSCAUSE, CAUSE_INTERRUPT | irq::TIMER as u64);
    assert_eq!(trapped(&mut vcpu, at_hook), None);
    assert_eq!((model::get(num::HVIP), model::get(num::VSTVEC)), (0, 0x8000_1001));
    vcpu.unbind().unwrap();
}

#[test]
fn interrupts_there_are_not() {
    let mut vcpu = vcpu(RiscvConfig::new());
    for vector in [0, 2, 3, 4, 6, 8, 10, 64, usize::MAX] {
        let refused = Err(AxError::InterruptFailed { vector });
        assert_eq!(vcpu.inject_interrupt(vector), refused);
        assert_eq!(vcpu.set_interrupt_line(vector, true), refused);
    }
    vcpu.set_interrupt_line(irq::EXTERNAL, true).unwrap();
    vcpu.inject_interrupt(irq::SOFTWARE).unwrap();
    vcpu.prepare();
    let both = guest_level(irq::EXTERNAL) | guest_level(irq::SOFTWARE);
    assert_eq!(model::get(num::HVIP), both);
    vcpu.set_interrupt_line(irq::EXTERNAL, false).unwrap();
    vcpu.prepare();
    assert_eq!(model::get(num::HVIP), guest_level(irq::SOFTWARE), "the guest clears that one");
}

#[test]
fn without_sstc_the_hosts_timer_stands_in() {
    let mut vcpu = vcpu(RiscvConfig { sstc: false, time_offset: 1000, ..RiscvConfig::new() });
    model::put(num::VSIE, 1 << irq::TIMER);
    model::put(snum::TIME, 5000); // 6000 for the guest
    vcpu.timer_call(true, 7000);
    assert_eq!((ARMED.get(), vcpu.context.armed), (6000, 7000));
    assert_eq!(vcpu.ns_to_timer(), Some(100_000));
    assert_eq!(model::get(num::HVIP), 0);
    model::put(snum::TIME, 6000);
    let interrupt = trap(CAUSE_INTERRUPT | irq::TIMER as u64);
    assert_eq!(trapped(&mut vcpu, interrupt), Some(Exit::ExternalInterrupt { vector: 77 }));
    let _ = vcpu.enter();
    assert_eq!(model::get(num::HVIP), guest_level(irq::TIMER));
    assert_eq!(ARMED.get(), u64::MAX);
    // Far away, further than the host's time goes.
    vcpu.timer_call(true, u64::MAX - 1);
    assert!(ARMED.get() > 1 << 60, "{}", ARMED.get());
    // Never again.
    vcpu.timer_call(true, u64::MAX);
    assert_eq!((model::get(num::HVIP), ARMED.get(), vcpu.ns_to_timer()), (0, u64::MAX, None));
}

/// The host deals with everything that is pending when any interrupt ends the run, its timer included.
#[test]
fn a_timer_that_fires_behind_a_kick_is_not_lost() {
    let mut vcpu = vcpu(RiscvConfig { sstc: false, ..RiscvConfig::new() });
    model::put(snum::TIME, 10);
    vcpu.timer_call(true, 100);
    assert_eq!((ARMED.get(), vcpu.context.armed), (100, 100));
    model::put(snum::TIME, 200);
    trapped(&mut vcpu, trap(CAUSE_INTERRUPT | irq::SOFTWARE as u64)).unwrap();
    let _ = vcpu.enter();
    assert_eq!(model::get(num::HVIP), guest_level(irq::TIMER));
    vcpu.unbind().unwrap();
}

#[test]
fn wfi_waits_only_for_what_is_enabled_and_not_there() {
    let mut vcpu = vcpu(RiscvConfig::new());
    model::put(snum::STVAL, crate::decode::WFI.into());
    model::put(num::VSIE, 1 << irq::TIMER);
    model::put(num::VSTIMECMP, u64::MAX);
    let wfi = trap(hcause::VIRTUAL_INSTRUCTION);
    assert_eq!(trapped(&mut vcpu, wfi), Some(Exit::Halt { wake_after_ns: None }));
    assert_eq!(vcpu.context.pc, CODE + 4);
    model::put(num::VSIP, 1 << irq::TIMER);
    assert_eq!(trapped(&mut vcpu, wfi), None);
    // Users may not.
    vcpu.context.sstatus &= !sbits::SPP;
    assert_eq!(trapped(&mut vcpu, wfi), None);
    assert_eq!(model::get(num::VSCAUSE), cause::ILLEGAL);
}

/// Found by the differential trials: a timer that had fired and was masked had its guest woken at once, for ever.
#[test]
fn a_masked_timer_ends_no_wait() {
    for sstc in [true, false] {
        let mut vcpu = vcpu(RiscvConfig { sstc, ..RiscvConfig::new() });
        model::put(snum::STVAL, crate::decode::WFI.into());
        model::put(snum::TIME, 5000);
        vcpu.timer_call(true, 1000);
        model::put(num::VSIE, 1 << irq::EXTERNAL);
        let wfi = trap(hcause::VIRTUAL_INSTRUCTION);
        assert_eq!(trapped(&mut vcpu, wfi), Some(Exit::Halt { wake_after_ns: None }));
        vcpu.timer_call(true, 6000);
        assert_eq!(trapped(&mut vcpu, wfi), Some(Exit::Halt { wake_after_ns: None }));
        model::put(num::VSIE, 1 << irq::TIMER);
        let wake_after_ns = Some(100_000);
        assert_eq!(trapped(&mut vcpu, wfi), Some(Exit::Halt { wake_after_ns }));
        vcpu.unbind().unwrap();
    }
}

/// All that [`RiscvVCpu::visit_state`] hands out, by its place.
fn state(vcpu: &RiscvVCpu<Hal>) -> std::vec::Vec<u64> {
    let mut words = std::vec::Vec::new();
    vcpu.visit_state(|word| words.push(word)).unwrap();
    words
}

#[test]
fn the_state_is_what_the_guest_reads() {
    const SIP: usize = 68;
    const STVEC: usize = 69;
    const STIMECMP: usize = 76;
    let mut vcpu = vcpu(RiscvConfig::new());
    vcpu.context.x[31] = 31;
    vcpu.prepare();
    let registers = [
        (num::VSSTATUS, 66),
        (num::VSIE, 67),
        (num::VSIP, SIP),
        (num::VSTVEC, STVEC),
        (snum::SCOUNTEREN, 70),
        (snum::SENVCFG, 71),
        (num::VSSCRATCH, 72),
        (num::VSEPC, 73),
        (num::VSCAUSE, 74),
        (num::VSTVAL, 75),
        (num::VSTIMECMP, STIMECMP),
        (num::VSATP, 77),
    ];
    for (register, place) in registers {
        model::put(register, 0x8000_0000 + 8 * place as u64);
    }
    let words = state(&vcpu);
    assert_eq!(words.len(), 80);
    assert_eq!((words[31], words[64], words[65]), (31, CODE, 0));
    for (register, place) in registers {
        assert_eq!(words[place], 0x8000_0000 + 8 * place as u64, "{register:#x}");
    }
    vcpu.context.sstatus &= !sbits::SPP;
    assert_eq!(state(&vcpu)[65], 1, "a user");

    // What an edge has put in the place of the guest's vector is not the guest's.
    vcpu.inject_interrupt(irq::EXTERNAL).unwrap();
    vcpu.prepare();
    assert_ne!(model::get(num::VSTVEC), words[STVEC]);
    assert_eq!(state(&vcpu)[STVEC], words[STVEC]);
    model::put(num::VSTVEC, 0x8000_4000); // the guest has written it since
    assert_eq!(state(&vcpu)[STVEC], 0x8000_4000);

    // It stays the same when it is taken out of the hart, what is pending included.
    model::put(num::HVIP, guest_level(irq::SOFTWARE));
    model::put(num::VSIP, 1 << irq::SOFTWARE | 1 << irq::TIMER);
    model::put(num::VSTIMECMP, 100);
    model::put(snum::TIME, 100);
    let bound = state(&vcpu);
    vcpu.unbind().unwrap();
    assert_eq!(state(&vcpu), bound);
    assert_eq!((bound[SIP], bound[STIMECMP]), (1 << irq::SOFTWARE | 1 << irq::TIMER, 100));
}

#[test]
fn the_state_is_not_told_elsewhere() {
    let vcpu = vcpu(RiscvConfig::new());
    let elsewhere = std::thread::spawn(move || (vcpu.visit_state(|_| panic!("told")), vcpu));
    let (told, mut vcpu) = elsewhere.join().unwrap();
    assert!(matches!(told, Err(AxError::WrongCpu { .. })), "{told:?}");
    vcpu.unbind().unwrap();
}

#[test]
fn every_cause_is_an_exit_or_the_guests() {
    let mut vcpu = vcpu(RiscvConfig::new());
    for code in (0..64).chain((0..64).map(|code| code | CAUSE_INTERRUPT)) {
        for htinst in [0, 1, 0x2000, 0x3020, u64::MAX, 0x13] {
            for addr in [0, u64::MAX, 0x1000_0001] {
                let _ = fault(&mut vcpu, code, addr, htinst);
                vcpu.set_return_value(addr);
                vcpu.prepare();
            }
        }
    }
}
