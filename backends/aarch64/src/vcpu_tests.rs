//! What needs no EL2: answers, what undoes an access, exceptions, registers that trap; on the model of the registers.
#![allow(unsafe_code)] // a platform without anything

use axvcpu::{AccessWidth, AxMmHal, HostVirtAddr};
use axvcpu_arm::sysreg::{self, *};

use std::format;

use super::*;
use crate::decode::{Access, Operand};
use crate::exit::Left;
use crate::sys::model;

struct Platform;
struct Memory;

// SAFETY: no memory at all.
unsafe impl AxMmHal for Memory {
    fn alloc_frame() -> Option<HostPhysAddr> {
        None
    }
    unsafe fn dealloc_frame(_: HostPhysAddr) {}
    fn phys_to_virt(addr: HostPhysAddr) -> HostVirtAddr {
        HostVirtAddr::new(addr.as_usize())
    }
    fn virt_to_phys(addr: HostVirtAddr) -> HostPhysAddr {
        HostPhysAddr::new(addr.as_u64())
    }
}

// SAFETY: the default word serves the one CPU there is.
unsafe impl AxVCpuHal for Platform {
    type MmHal = Memory;
    fn irq_hanlder() {}
}

/// A vCPU that is on no CPU, at EL1 somewhere in its program.
fn vcpu() -> ArmVCpu<Platform> {
    let shared = Image::shared(0).unwrap();
    let mut vcpu = ArmVCpu {
        context: Context::new(),
        shared: Owned::new(shared),
        cpu: None,
        open: Open::NOTHING,
        exception: None,
        fp_value: None,
        stack_delta: 0,
        interrupts: Interrupts::new(Arc::new(ForwardAll)),
        debug: crate::sysreg::Debug::default(),
        fetch_always: false,
        sve_bytes: 0,
        features: Features::default(),
        space: None,
        time_offset: 0,
        stage2: axvcpu_arm::stage2::IPA39,
        entry: 0x4000_0000,
        hal: PhantomData,
    };
    vcpu.reset_context();
    vcpu.context.pc = PC;
    vcpu.on_cpu().image().mpidr = 1 << 31 | 2;
    vcpu
}

const PC: u64 = 0x4000_1000;
const DEVICE: u64 = 0x0900_0018;

/// A data abort of the guest at [`DEVICE`], with these bits of the syndrome.
fn abort(vcpu: &mut ArmVCpu<Platform>, bits: u64) -> Option<Left> {
    model::put(FAR_EL2, 0xffff_0000_0000_0018);
    model::put(HPFAR_EL2, DEVICE >> 12 << 4);
    vcpu.trapped(0x24 << 26 | 1 << 25 | 1 << 24 | 0x07 | bits)
}

fn load(register: u64, size: u64, signed: bool, wide: bool) -> u64 {
    size << 22 | u64::from(signed) << 21 | register << 16 | u64::from(wide) << 15
}

#[test]
fn loads_are_answered_as_the_instruction_says() {
    for (size, signed, wide, value, expected) in [
        (0, false, false, 0xff_ff80, 0x80),
        (0, true, false, 0xff80, 0xffff_ff80),
        (0, true, true, 0xff80, 0xffff_ffff_ffff_ff80),
        (1, true, true, 0x7fff, 0x7fff),
        (2, false, false, 0xffff_ffff_8000_0000, 0x8000_0000),
        (2, true, true, 0x8000_0000, 0xffff_ffff_8000_0000),
        (3, false, true, u64::MAX, u64::MAX),
    ] {
        let mut vcpu = vcpu();
        let left = abort(&mut vcpu, load(7, size, signed, wide));
        let width = AccessWidth::from_bytes(1 << size).unwrap();
        assert_eq!(left, Some(Left::MmioRead { addr: DEVICE, width }));
        assert_eq!(vcpu.context.pc, PC, "not completed yet");
        vcpu.set_return_value(value);
        assert_eq!((vcpu.x(7), vcpu.context.pc), (expected, PC + 4));
    }
}

#[test]
fn the_zero_register_takes_and_gives_nothing() {
    let mut vcpu = vcpu();
    vcpu.context.x = [u64::MAX; 31];
    abort(&mut vcpu, load(31, 2, false, false));
    vcpu.set_return_value(5);
    assert_eq!(vcpu.context.x, [u64::MAX; 31]);
    let left = abort(&mut vcpu, load(31, 2, false, false) | 1 << 6);
    let width = AccessWidth::Dword;
    assert_eq!(left, Some(Left::MmioWrite { addr: DEVICE, width, data: 0 }));
}

#[test]
fn a_write_can_be_undone_and_failed() {
    let mut vcpu = vcpu();
    vcpu.context.x[3] = 0x1_2345_6789;
    let left = abort(&mut vcpu, load(3, 2, false, false) | 1 << 6);
    let width = AccessWidth::Dword;
    assert_eq!(left, Some(Left::MmioWrite { addr: DEVICE, width, data: 0x2345_6789 }));
    assert_eq!(vcpu.context.pc, PC + 4);
    vcpu.retry().unwrap();
    assert_eq!(vcpu.context.pc, PC);
    assert_eq!(vcpu.retry(), Err(AxError::NotAsked));
    abort(&mut vcpu, load(3, 2, false, false) | 1 << 6);
    vcpu.fail_access().unwrap();
    assert_eq!(vcpu.context.pc, PC);
    let exception = vcpu.exception.unwrap();
    assert_eq!(exception.syndrome, 0x25 << 26 | 1 << 25 | 1 << 6 | 0x10);
    assert_eq!(exception.address, Some(0xffff_0000_0000_0018));
}

#[test]
fn write_back_is_part_of_the_access() {
    let run = |operand| {
        let access = Access { operand, width: AccessWidth::Qword, write_back: Some((5, 8)) };
        let mut vcpu = vcpu();
        vcpu.context.x[5] = 0x100;
        vcpu.device_access(Open::decoded(vcpu.place(), DEVICE, access), DEVICE);
        vcpu
    };
    let mut loaded = run(Operand::Load { register: 1, signed: false, wide: true });
    assert_eq!(loaded.x(5), 0x100, "with the answer");
    loaded.set_return_value(9);
    assert_eq!((loaded.x(1), loaded.x(5)), (9, 0x108));
    let mut stored = run(Operand::Store { register: 1 });
    assert_eq!(stored.x(5), 0x108);
    stored.retry().unwrap();
    assert_eq!(stored.x(5), 0x100);
    let mut float = run(Operand::LoadFloat { register: 1 });
    float.fail_access().unwrap();
    assert_eq!((float.x(5), float.fp_value), (0x100, None));
}

/// The way that frequent accesses go is no other than that of all.
#[test]
fn plain_accesses_are_the_same_on_their_own_way() {
    for bits in
        [load(7, 0, true, true), load(9, 2, false, false) | 1 << 6, load(31, 3, false, true)]
    {
        let (mut one, mut other) = (vcpu(), vcpu());
        one.context.x[9] = 0x1234_5678_9abc;
        other.context.x[9] = 0x1234_5678_9abc;
        let left = abort(&mut one, bits).map(Exit::from);
        let cause = 0x24 << 26 | 1 << 25 | 1 << 24 | 0x07 | bits;
        assert_eq!(cause & PLAIN_BITS, PLAIN);
        assert_eq!(other.plain_access(cause).ok(), left);
        assert_eq!(format!("{:?}", one.open), format!("{:?}", other.open));
        assert_eq!(one.context.pc, other.context.pc);
    }
    let others = [1 << 8, 1 << 7, 0x0c, 0x10].map(|bits| 0x24 << 26 | 1 << 24 | 0x07 | bits);
    for cause in others.into_iter().chain([0x24 << 26 | 0x07, 0x20 << 26 | 1 << 24 | 0x07]) {
        assert_ne!(cause & PLAIN_BITS, PLAIN, "{cause:#x}");
    }
}

#[test]
fn misaligned_accesses_are_the_guest_s_fault() {
    let mut vcpu = vcpu();
    model::put(VBAR_EL1, 0x8000);
    model::put(FAR_EL2, 0x19);
    model::put(HPFAR_EL2, DEVICE >> 12 << 4);
    let left = vcpu.trapped(0x24 << 26 | 1 << 25 | 1 << 24 | 0x07 | load(0, 2, false, false));
    assert_eq!(left, None);
    assert_eq!(sys::read::<ESR_EL1>(), 0x25 << 26 | 1 << 25 | 0x21);
    assert_eq!((sys::read::<FAR_EL1>(), sys::read::<ELR_EL1>()), (0x19, PC));
    assert_eq!(vcpu.context.pc, 0x8200);
}

#[test]
fn exceptions_go_to_the_vector_of_where_the_guest_was() {
    for (pstate, vector, class) in
        [(0x3c5, 0x200, 0x25), (0x3c4, 0, 0x25), (0x8000_0000, 0x400, 0x24)]
    {
        let mut vcpu = vcpu();
        model::put(VBAR_EL1, 0x1_0000);
        vcpu.context.pstate = pstate;
        vcpu.raise(Exception { syndrome: 0x25 << 26 | 0x10, address: Some(1) });
        assert_eq!(vcpu.context.pc, 0x1_0000 + vector);
        assert_eq!(sys::read::<ESR_EL1>() >> 26, class);
        assert_eq!((sys::read::<SPSR_EL1>(), sys::read::<ELR_EL1>()), (pstate, PC));
        assert_eq!(vcpu.context.pstate & 0x3ff, EL1H_MASKED);
        assert_eq!(vcpu.context.pstate >> 28, pstate >> 28, "flags are kept");
    }
}

/// `MRS x4` or `MSR` of `value` in x4.
fn system(vcpu: &mut ArmVCpu<Platform>, reg: u16, value: Option<u64>) -> Option<Left> {
    let (op0, op1, op2) = (sysreg::op0(reg), sysreg::op1(reg), sysreg::op2(reg));
    let (crn, crm) = (sysreg::crn(reg), sysreg::crm(reg));
    vcpu.context.x[4] = value.unwrap_or(0xdead);
    let fields = u64::from(op0) << 20 | u64::from(op2) << 17 | u64::from(op1) << 14;
    let fields = fields | u64::from(crn) << 10 | 4 << 5 | u64::from(crm) << 1;
    vcpu.trapped(0x18 << 26 | 1 << 25 | fields | u64::from(value.is_none()))
}

fn is_undefined(vcpu: &ArmVCpu<Platform>) -> bool {
    vcpu.context.pc == model::get(VBAR_EL1) + 0x200 && model::get(ESR_EL1) == 1 << 25
}

#[test]
fn registers_that_trap() {
    model::put(ID_AA64PFR0_EL1, 0x1101_2222);
    model::put(VBAR_EL1, 0x2_0000);
    let read = |reg| {
        let mut vcpu = vcpu();
        assert_eq!(system(&mut vcpu, reg, None), None);
        (vcpu.context.pc == PC + 4).then(|| vcpu.x(4))
    };
    assert_eq!(read(ID_AA64PFR0_EL1), Some(0x0101_0011));
    assert_eq!(read(ICC_SRE_EL1), Some(7));
    assert_eq!(read(OSLSR_EL1), Some(0b1010));
    assert_eq!(read(reg(2, 0, 0, 3, 5)), Some(0), "DBGBCR3_EL1");
    for absent in [reg(3, 3, 9, 12, 0), reg(3, 0, 10, 4, 0), reg(2, 1, 0, 0, 4), reg(3, 1, 0, 0, 6)]
    {
        assert_eq!(read(absent), None, "{absent:#x}");
    }
    let mut vcpu = vcpu();
    assert_eq!(system(&mut vcpu, ID_AA64PFR0_EL1, Some(1)), None);
    assert!(is_undefined(&vcpu));
    vcpu.context.pc = PC;
    assert_eq!(system(&mut vcpu, OSLAR_EL1, Some(0)), None);
    assert_eq!(system(&mut vcpu, OSLSR_EL1, None), None);
    assert_eq!((vcpu.x(4), vcpu.context.pc), (0b1000, PC + 8));
    assert_eq!(system(&mut vcpu, MDSCR_EL1, Some(u64::MAX)), None);
    assert_eq!(model::get(MDSCR_EL1), 1 | 1 << 13 | 1 << 15);
    // Nothing of that for EL0.
    vcpu.context.pstate = 0;
    vcpu.context.pc = PC;
    assert_eq!(system(&mut vcpu, ID_AA64PFR0_EL1, None), None);
    assert_eq!(vcpu.context.pc, 0x2_0400);
    // But for the channel to a debugger, with nobody at the other end (MDCCSR_EL0).
    vcpu.context.pstate = 0;
    vcpu.context.pc = PC;
    assert_eq!(system(&mut vcpu, reg(2, 3, 0, 1, 0), None), None);
    assert_eq!((vcpu.x(4), vcpu.context.pc), (0, PC + 4));
}

#[test]
fn registers_of_an_implementation_are_exits() {
    let own = reg(3, 3, 15, 2, 1);
    let mut vcpu = vcpu();
    model::put(VBAR_EL1, 0);
    assert_eq!(system(&mut vcpu, own, None), Some(Left::SysRegRead { addr: own }));
    vcpu.set_return_value(77);
    assert_eq!((vcpu.x(4), vcpu.context.pc), (77, PC + 4));
    let write = Some(Left::SysRegWrite { addr: own, value: 5 });
    assert_eq!(system(&mut vcpu, own, Some(5)), write);
    assert_eq!(vcpu.context.pc, PC + 8);
    vcpu.fail_access().unwrap();
    assert_eq!(vcpu.context.pc, PC + 4);
    assert_eq!(vcpu.exception, Some(Exception::UNDEFINED));
}

#[test]
fn software_interrupts() {
    let mut vcpu = vcpu();
    let mut send = |value| system(&mut vcpu, ICC_SGI1R_EL1, Some(value));
    let ipi = |base, mask, vector| Some(Left::SendIpi { base, mask, vector });
    assert_eq!(send(3 << 24 | 0b1010), ipi(0, 0b1010, 3));
    assert_eq!(send(1 << 16 | 0b1), ipi(16, 1, 0));
    assert_eq!(send(1 << 40 | 15 << 24), ipi(0, !0b100, 15));
    assert_eq!(send(1 << 32 | 0xffff), ipi(0, 0, 0), "other clusters there are not");
    assert_eq!(vcpu.context.pc, PC + 16);
    assert_eq!(vcpu.retry(), Err(AxError::NotAsked));
    vcpu.context.x[0] = 5;
    vcpu.set_return_value(0); // may be given, and goes nowhere
    assert_eq!((vcpu.x(0), vcpu.context.pc), (5, PC + 16));
}

#[test]
fn what_cannot_be_told_apart_is_an_exit() {
    for cause in [0x26 << 26, 0x34 << 26 | 5, 0x3f << 26, 0x24 << 26 | 1 << 24 | 0x10] {
        assert_eq!(vcpu().trapped(cause), Some(Left::FailEntry { reason: cause }));
    }
    model::put(ESR_EL2, 0x2f << 26 | 7);
    let serror = vcpu().trapped(crate::switch::SERROR);
    assert_eq!(serror, Some(Left::FailEntry { reason: 0x2f << 26 | 7 }));
}

#[test]
fn calls_with_another_number_are_undefined() {
    for (class, at) in [(0x16, PC + 4), (0x17, PC)] {
        let mut vcpu = vcpu();
        vcpu.context.pc = at; // a call by HVC has been executed
        assert_eq!(vcpu.trapped(class << 26 | 1 << 25 | 1), None);
        assert_eq!(model::get(ELR_EL1), PC);
        assert!(is_undefined(&vcpu));
    }
}

#[test]
fn waiting_is_as_long_as_the_nearer_timer() {
    model::put(CNTFRQ_EL0, 1_000_000);
    model::put(CNTPCT_EL0, 10_000);
    let halt = |vcpu: &mut ArmVCpu<Platform>| vcpu.trapped(0x01 << 26 | 1 << 25);
    let mut vcpu = vcpu();
    vcpu.time_offset = 4_000;
    assert_eq!(halt(&mut vcpu), Some(Left::Halt { wake_after_ns: None }));
    model::put(CNTV_CTL_EL0, 1);
    model::put(CNTV_CVAL_EL0, 6_007);
    assert_eq!(halt(&mut vcpu), Some(Left::Halt { wake_after_ns: Some(7_000) }));
    model::put(CNTP_CTL_EL0, 1);
    model::put(CNTP_CVAL_EL0, 10_002);
    assert_eq!(halt(&mut vcpu), Some(Left::Halt { wake_after_ns: Some(2_000) }));
    model::put(CNTP_CTL_EL0, 3); // masked
    model::put(CNTV_CVAL_EL0, 1);
    assert_eq!(halt(&mut vcpu), Some(Left::Halt { wake_after_ns: Some(50_000) }), "it is late");
    model::put(CNTV_CTL_EL0, 5);
    assert_eq!(halt(&mut vcpu), Some(Left::Halt { wake_after_ns: Some(0) }));
    assert_eq!(vcpu.trapped(0x01 << 26 | 1 << 25 | 1), Some(Left::Nothing), "WFE");
    assert_eq!(vcpu.context.pc, PC + 24);
}

#[test]
fn registers_are_numbered_to_31() {
    let mut vcpu = vcpu();
    for register in 0..31 {
        vcpu.set_gpr(register, register as u64 + 1).unwrap();
    }
    vcpu.set_gpr(31, 99).unwrap();
    assert_eq!((vcpu.get_gpr(30), vcpu.get_gpr(31)), (Ok(31), Ok(0)));
    assert_eq!(vcpu.set_gpr(32, 0), Err(AxError::InvalidInput));
    for vector in [1020, 1023, usize::MAX] {
        assert_eq!(vcpu.inject_interrupt(vector), Err(AxError::InterruptFailed { vector }));
    }
    for vector in [0, 15, 64] {
        let refused = Err(AxError::InterruptFailed { vector });
        assert_eq!(vcpu.set_interrupt_line(vector, true), refused);
    }
    assert_eq!(vcpu.set_entry(GuestPhysAddr::new(2)), Err(AxError::InvalidInput));
    assert!(matches!(ArmVCpu::<Platform>::new(0, 0, ArmConfig::new()), Err(AxError::Unsupported)));
}
