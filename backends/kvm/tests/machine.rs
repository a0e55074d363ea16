//! The backend on this machine's KVM: what its own interface adds to the contract, which the conformance suite checks.
//! Where there is no KVM each test says so.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![allow(unsafe_code)] // makes event descriptors, and promises that a table maps nothing

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use axvcpu::AccessWidth::{Byte, Dword};
use axvcpu::{AxVCpuExitReason as Exit, Fence, GuestPhysAddr, VCpuState};
use axvcpu_kvm::{Irqchip, KvmSetup, MachineConfig, MsrExits};
use axvcpu_x86::asm::*;
use axvcpu_x86::ept::Perms;
use axvcpu_x86::reg::{gpr, msr};
use common::{Bench, CODE, assemble, cpu, kvm, long_mode};

/// Without the kernel's interrupt controllers.
fn bare() -> MachineConfig {
    MachineConfig { irqchip: Irqchip::None, ..Default::default() }
}

#[test]
fn ranges_of_registers_are_exits_whether_the_kernel_knows_them_or_not() {
    let Some(kvm) = kvm("ranges of model-specific registers") else { return };
    let _cpu = cpu();
    const LSTAR: u32 = 0xc000_0082;
    let code = assemble(|a| {
        a.li(RCX, LSTAR.into());
        a.li(RAX, 0x5555_6666);
        a.li(RDX, 0x1111_2222);
        a.wrmsr();
        a.rdmsr();
        a.li(RCX, u64::from(LSTAR) + 1);
        a.wrmsr(); // not in the range: the kernel's
        a.out_imm(0x10, AL);
        a.hlt();
    });
    let msr_exits = MsrExits { unknown: false, ranges: vec![LSTAR..=LSTAR] };
    let mut bench = Bench::new(kvm, &MachineConfig { msr_exits, ..bare() }, &code);
    let vcpu = bench.add(KvmSetup::Start(long_mode()));
    vcpu.bind().unwrap();
    let addr = LSTAR.into();
    assert_eq!(vcpu.run(), Ok(Exit::SysRegWrite { addr, value: 0x1111_2222_5555_6666 }));
    assert_eq!(vcpu.run(), Ok(Exit::SysRegRead { addr }));
    vcpu.set_return_value(0x4444_7777_8888).unwrap();
    assert_eq!(vcpu.get_gpr(gpr::RAX), Ok(0x7777_8888));
    assert_eq!(vcpu.get_gpr(gpr::RDX), Ok(0x4444));
    assert_eq!(vcpu.run(), Ok(Exit::IoWrite { port: 0x10, width: Byte, data: 0x88 }));
}

#[test]
fn more_ranges_than_the_kernel_takes_are_refused() {
    let Some(kvm) = kvm("too many ranges") else { return };
    let ranges = (0..17).map(|n| n * 16..=n * 16 + 1).collect();
    let msr_exits = MsrExits { unknown: false, ranges };
    let refused = axvcpu_kvm::KvmMachine::new(kvm, &MachineConfig { msr_exits, ..bare() });
    let text = refused.err().unwrap().to_string();
    assert!(text.contains("more than 16 ranges"), "{text}");
}

#[test]
fn memory_is_cached_and_string_instructions_are_fast() {
    let Some(kvm) = kvm("what firmware leaves in registers") else { return };
    let _cpu = cpu();
    let code = assemble(|a| {
        for register in [msr::MTRR_DEF_TYPE, msr::MISC_ENABLE] {
            a.li(RCX, register.into());
            a.rdmsr();
            a.out_imm(0x10, EAX);
        }
    });
    let mut bench = Bench::new(kvm, &bare(), &code);
    let vcpu = bench.add(KvmSetup::Start(long_mode()));
    vcpu.bind().unwrap();
    let read = || match vcpu.run() {
        Ok(Exit::IoWrite { data, .. }) => data,
        other => panic!("{other:?}"),
    };
    assert_eq!(read(), 0x806, "write-back by default");
    assert_eq!(read() & 1, 1, "fast strings");
}

/// Adds up in registers of two kinds, and writes each sum to a port.
fn adder() -> Vec<u8> {
    assemble(|a| {
        const STAR: u64 = 0xc000_0081;
        let again = a.here_label();
        a.inc(R12);
        a.li(RCX, STAR);
        a.rdmsr();
        a.inc(EDX);
        a.wrmsr();
        a.mov(RAX, R12);
        a.out_imm(0x10, EAX);
        a.mov(EAX, EDX);
        a.out_imm(0x11, EAX);
        a.jmp(again);
    })
}

#[test]
fn a_vcpu_goes_on_where_another_was_saved() {
    let (Some(first), Some(second)) = (kvm("save"), kvm("save")) else { return };
    let _cpu = cpu();
    let code = adder();
    let mut bench = Bench::new(first, &bare(), &code);
    let vcpu = bench.add(KvmSetup::Start(long_mode()));
    let expect = |vcpu: &common::VCpu, sum: u64| {
        assert_eq!(vcpu.run(), Ok(Exit::IoWrite { port: 0x10, width: Dword, data: sum }));
        assert_eq!(vcpu.run(), Ok(Exit::IoWrite { port: 0x11, width: Dword, data: sum }));
    };
    vcpu.bind().unwrap();
    (1..5).for_each(|sum| expect(vcpu, sum));
    vcpu.unbind().unwrap();
    let state = vcpu.with_arch(|arch| arch.state()).unwrap().unwrap();
    assert_eq!(state.general.r12, 4);
    assert_eq!(state.msrs.iter().find(|msr| msr.0 == 0xc000_0081).unwrap().1 >> 32, 4);
    assert_ne!(state.extended().len(), 0);

    let mut other = Bench::new(second, &bare(), &code);
    let vcpu = other.add(KvmSetup::State(Box::new(state)));
    vcpu.bind().unwrap();
    (5..9).for_each(|sum| expect(vcpu, sum));
    // A reset takes it to where it began.
    vcpu.reset().unwrap();
    (5..9).for_each(|sum| expect(vcpu, sum));
}

#[test]
fn memory_that_stays_is_there_all_the_time() {
    let Some(kvm) = kvm("memory slots") else { return };
    const COUNTER: u64 = 0x5_0000;
    let code = assemble(|a| {
        let again = a.here_label();
        a.lock().inc(abs(COUNTER as i32).of(Width::Qword));
        a.inc(R12);
        a.jmp(again);
    });
    let mut bench = Bench::new(kvm, &MachineConfig { cpus: 2, ..bare() }, &code);
    bench.add(KvmSetup::Start(long_mode()));
    bench.add(KvmSetup::Start(long_mode()));
    let Bench { vcpus, table, .. } = &mut bench;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        // One counts without a break, in the middle of what the other one takes to pieces and puts together.
        scope.spawn(|| {
            let _cpu = cpu();
            vcpus[0].bind().unwrap();
            while !done.load(Ordering::Relaxed) {
                assert_eq!(vcpus[0].run(), Ok(Exit::Nothing));
            }
            vcpus[0].unbind().unwrap();
        });
        let _cpu = cpu();
        vcpus[1].bind().unwrap();
        let page = GuestPhysAddr::new(COUNTER + 0x2000);
        // Memory that grows by more pieces than are left lying around: the counter's is put together with them.
        for index in 0..100 {
            let more = GuestPhysAddr::new(0x4000_0000 + 0x1000 * index);
            let host = table.query(GuestPhysAddr::new(0x1000 * index)).unwrap().host;
            table.map(more, host, 0x1000, Perms::RW).unwrap();
            vcpus[1].request_fence(Fence::STAGE2_TLB);
            vcpus[1].kick();
            assert_eq!(vcpus[1].run(), Ok(Exit::Nothing));
        }
        for round in 0..100 {
            let perms = if round % 2 == 0 { Perms::R } else { Perms::RWX };
            table.protect(page, 0x1000, perms).unwrap();
            vcpus[1].request_fence(Fence::STAGE2_TLB);
            vcpus[1].kick();
            assert_eq!(vcpus[1].run(), Ok(Exit::Nothing));
            thread::sleep(Duration::from_micros(200));
        }
        done.store(true, Ordering::Relaxed);
        vcpus[0].kick();
    });
    let counted = vcpus[0].get_gpr(12).unwrap();
    let found = (0..8).map(|i| u64::from(bench.read(COUNTER + i)) << (8 * i)).sum::<u64>();
    assert!(counted > 0);
    // It may have been stopped between the two instructions.
    assert!(
        found == counted || found == counted + 1,
        "{found} in memory, {counted} in the register"
    );
}

#[test]
fn the_kernel_s_local_apics_take_interrupts_and_start_cpus() {
    let Some(kvm) = kvm("local APICs") else { return };
    // The first: sends INIT and a start-up IPI for page 8 to the second, through its x2APIC, and waits for it.
    let code = assemble(|a| {
        const X2APIC_ICR: u64 = 0x830;
        const APIC_BASE: u64 = 0x1b;
        a.li(RCX, APIC_BASE);
        a.rdmsr();
        a.or(EAX, 1 << 10 | 1 << 11);
        a.wrmsr();
        for command in [0x4500, 0x4608] {
            a.li(RCX, X2APIC_ICR);
            a.li(RDX, 1);
            a.li(RAX, command);
            a.wrmsr();
        }
        let wait = a.here_label();
        a.pause();
        a.cmp(abs(0x6000).of(Width::Byte), 0);
        a.jcc(Cond::E, wait);
        a.out_imm(0x10, AL);
        let idle = a.here_label();
        a.hlt(); // in the kernel: no exit
        a.jmp(idle);
    });
    let config = MachineConfig { cpus: 2, ..Default::default() };
    let mut bench = Bench::new(kvm, &config, &code);
    // mov byte [0x6000], 1; out 0x90, al; hlt: of 16 bits
    bench.write(0x8000, &[0xc6, 0x06, 0x00, 0x60, 0x01, 0xe6, 0x90, 0xf4]);
    bench.add(KvmSetup::Start(long_mode()));
    bench.add(KvmSetup::Wait);
    let vcpus = &bench.vcpus;
    thread::scope(|scope| {
        let second = scope.spawn(|| {
            let _cpu = cpu();
            vcpus[1].bind().unwrap();
            let exit = loop {
                match vcpus[1].run().unwrap() {
                    Exit::Nothing => {}
                    exit => break exit,
                }
            };
            assert!(matches!(exit, Exit::IoWrite { port: 0x90, .. }), "{exit:?}");
            vcpus[1].unbind().unwrap();
        });
        let _cpu = cpu();
        vcpus[0].bind().unwrap();
        let exit = loop {
            match vcpus[0].run().unwrap() {
                Exit::Nothing => {}
                exit => break exit,
            }
        };
        assert!(matches!(exit, Exit::IoWrite { port: 0x10, .. }), "{exit:?}");
        second.join().unwrap();
        // A guest that waits in the kernel is running, as far as anybody can see, and comes back for a kick.
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(20));
                assert_eq!(vcpus[0].state(), VCpuState::Running);
                vcpus[0].kick();
            });
            assert_eq!(vcpus[0].run(), Ok(Exit::Nothing));
        });
        for vector in [0, 1, 3, 15, 256] {
            vcpus[0].inject_interrupt(vector).unwrap();
            assert!(vcpus[0].run().is_err(), "vector {vector}");
        }
        vcpus[0].unbind().unwrap();
    });
}

#[test]
fn a_cpu_that_nobody_would_start_is_refused() {
    let (Some(first), Some(second)) = (kvm("waiting"), kvm("waiting")) else { return };
    let bench = Bench::new(first, &MachineConfig::default(), &[]);
    assert!(bench.try_add(0, KvmSetup::Wait).is_err(), "the first one");
    let bench = Bench::new(second, &bare(), &[]);
    assert!(bench.try_add(1, KvmSetup::Wait).is_err(), "without local APICs");
}

#[test]
fn events_take_the_place_of_exits() {
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::{AsFd, FromRawFd};
    let Some(kvm) = kvm("events") else { return };
    let _cpu = cpu();
    let code = assemble(|a| {
        a.li(RAX, 7);
        a.out_imm(0x30, AL); // an event
        a.li(RAX, 8);
        a.out_imm(0x30, AL); // another value: an exit
        a.li(RSI, 0xd000_0000);
        a.mov(mem(RSI), EAX); // an event
        a.out_imm(0x31, AL);
    });
    let mut bench = Bench::new(kvm, &MachineConfig::default(), &code);
    let event = || {
        // SAFETY: makes a descriptor, which is this program's alone.
        unsafe { File::from_raw_fd(libc::eventfd(0, libc::EFD_NONBLOCK)) }
    };
    let (mut port, mut address, line) = (event(), event(), event());
    bench.machine.connect_port(0x30, Byte, Some(7), port.as_fd()).unwrap();
    bench.machine.connect_address(0xd000_0000, Dword, None, address.as_fd()).unwrap();
    bench.machine.connect_line(5, line.as_fd()).unwrap();
    bench.machine.set_line(4, true).unwrap();
    bench.machine.set_line(4, false).unwrap();
    let vcpu = bench.add(KvmSetup::Start(long_mode()));
    vcpu.bind().unwrap();
    let run = || loop {
        match vcpu.run().unwrap() {
            Exit::Nothing => {}
            exit => break exit,
        }
    };
    assert_eq!(run(), Exit::IoWrite { port: 0x30, width: Byte, data: 8 });
    assert_eq!(run(), Exit::IoWrite { port: 0x31, width: Byte, data: 8 });
    for event in [&mut port, &mut address] {
        let mut count = [0; 8];
        event.read_exact(&mut count).unwrap();
        assert_eq!(u64::from_ne_bytes(count), 1);
    }
}

#[test]
fn a_machine_has_one_memory() {
    let Some(kvm) = kvm("one memory") else { return };
    let _cpu = cpu();
    let code = assemble(|a| a.hlt());
    let mut bench = Bench::new(kvm, &bare(), &code);
    bench.add(KvmSetup::Start(long_mode()));
    let other = axvcpu_x86::ept::Stage2::<common::Mm>::new(axvcpu_x86::ept::Ept).unwrap();
    let config = axvcpu_kvm::KvmConfig::new(bench.machine.clone());
    let vcpu = common::VCpu::new(1, 5, 0, None, config).unwrap();
    let entry = GuestPhysAddr::new(CODE);
    // SAFETY: the table maps nothing.
    let refused = unsafe { vcpu.setup(entry, other.root(), KvmSetup::Start(long_mode())) };
    assert_eq!(refused, Err(axvcpu::AxError::InvalidInput));
    drop(vcpu);
    // With the last vCPU the memory goes, and the machine can have another one.
    bench.vcpus.clear();
    let config = axvcpu_kvm::KvmConfig::new(bench.machine.clone());
    let vcpu = common::VCpu::new(1, 5, 0, None, config).unwrap();
    // SAFETY: the table maps nothing, and is dropped after the vCPU.
    unsafe { vcpu.setup(entry, other.root(), KvmSetup::Start(long_mode())) }.unwrap();
    drop(vcpu);
}
