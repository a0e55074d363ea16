//! Whole machines, on vCPUs that run Rust functions.

use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use axvcpu::{
    AccessKind, AccessWidth, AxError, AxVCpuExitReason as Exit, Fence, GuestPhysAddr, VCpuState,
};
use sbi_spec::{hsm, rfnc, spi, srst};

use super::*;
use crate::testing::{Console, Fake, Program, Threads, Virtual, build, ecall, machine};
use crate::{ExitKind, Outcome};

fn shutdown() -> Exit {
    ecall(srst::EID_SRST, 0, [0, 0, 0])
}

fn load(addr: u64, width: AccessWidth) -> Exit {
    Exit::MmioRead { addr: GuestPhysAddr::new(addr), width }
}

fn store(addr: u64, width: AccessWidth, data: u64) -> Exit {
    Exit::MmioWrite { addr: GuestPhysAddr::new(addr), width, data }
}

/// Runs every vCPU on a thread of its own; all of them must see the same end.
fn run_on_threads(vm: &RiscvVm<Fake>) -> Outcome {
    run_shared(vm, 1)
}

/// Runs the vCPUs on threads, `sharing` on each.
fn run_shared(vm: &RiscvVm<Fake>, sharing: usize) -> Outcome {
    let host = &Threads::new();
    let cpus: Vec<_> = (0..vm.cpus().len()).collect();
    thread::scope(|scope| {
        let threads: Vec<_> = cpus
            .chunks(sharing)
            .map(|cpus| scope.spawn(move || vm.run_vcpus(cpus, host)))
            .collect();
        let mut outcomes = threads.into_iter().map(|thread| thread.join().unwrap());
        let first = outcomes.next().unwrap();
        assert!(outcomes.all(|outcome| outcome == first));
        first
    })
}

#[test]
fn memory_is_laid_out_without_overlap() {
    let (sender, seen) = mpsc::channel();
    let program: Program = Box::new(move |regs| {
        sender.send((regs.pc, regs.gpr[10], regs.gpr[11])).unwrap();
        shutdown()
    });
    let initrd = [0x5a; 10_000];
    let config = RiscvVmConfig {
        kernel: b"flat kernel",
        initrd: Some(&initrd),
        bootargs: "quiet",
        ..Default::default()
    };
    let vm = build(&config, 4 << 20, vec![program], Arc::new(Console::default())).unwrap();
    assert_eq!(vm.run_in_turn(&Virtual::default()), Outcome::PowerOff);
    let (pc, hart, tree) = seen.recv().unwrap();
    assert_eq!((pc, hart), (RAM_BASE + (2 << 20), 0));
    let read = |addr, len| {
        let mut buf = vec![0; len];
        vm.memory().read(addr, &mut buf).unwrap();
        buf
    };
    assert_eq!(read(pc, 11), b"flat kernel");
    let header = read(tree, 8);
    assert_eq!(header[..4], [0xd0, 0x0d, 0xfe, 0xed]);
    let len = u64::from(u32::from_be_bytes(header[4..].try_into().unwrap()));
    assert!(tree + len <= RAM_BASE + (4 << 20));
    let initrd_at = (tree - 10_000) & !0xfff;
    assert_eq!(read(initrd_at, 10_000), initrd);
    let blob = read(tree, len as usize);
    let start = &initrd_at.to_be_bytes()[..];
    assert!(blob.windows(8).any(|window| window == start));
}

#[test]
fn machines_that_cannot_be_built() {
    let console = || Arc::new(Console::default());
    let error = |config: RiscvVmConfig<'_>, ram| {
        let programs = (0..8).map(|_| Box::new(|_: &mut _| shutdown()) as Program).collect();
        build(&config, ram, programs, console()).err().unwrap().to_string()
    };
    let config = RiscvVmConfig { kernel: b"kernel", ..Default::default() };
    assert_eq!(
        error(RiscvVmConfig { cpus: 0, ..config }, 4 << 20),
        "0 CPUs: a guest can have 1 to 512"
    );
    assert!(error(RiscvVmConfig { cpus: 513, ..config }, 4 << 20).contains("513"));
    for timebase in [0, 1 << 32] {
        let message = error(RiscvVmConfig { timebase, ..config }, 4 << 20);
        assert!(message.starts_with(&alloc::format!("a clock of {timebase} Hz")), "{message}");
    }
    assert!(error(config, 0).contains("4 KiB"));
    assert!(
        error(config, 2 << 20)
            .contains("kernel: the kernel needs 3 MiB of memory, the guest has 2 MiB")
    );
    assert!(error(RiscvVmConfig { kernel: b"", ..config }, 4 << 20).contains("empty"));
    assert!(error(RiscvVmConfig { bootargs: "a\0", ..config }, 4 << 20).contains("NUL"));
    let initrd = vec![1; 2 << 20];
    let message = error(RiscvVmConfig { initrd: Some(&initrd), ..config }, 4 << 20);
    assert!(message.starts_with("initrd: the kernel together with its initrd"), "{message}");
    assert!(message.ends_with("needs 5 MiB of memory, the guest has 4 MiB: raise --memory"));
    let stage1 = RiscvVmConfig { stage2_mode: axvcpu_riscv::paging::SV39, ..config };
    assert!(error(stage1, 4 << 20).starts_with("stage-2"));
}

#[test]
fn exits_are_answered_and_counted() {
    let (sender, seen) = mpsc::channel();
    let program: Program = Box::new(move |regs| match regs.step {
        0 => store(UART_BASE, AccessWidth::Byte, b'x'.into()),
        1 => load(UART_BASE + 5, AccessWidth::Byte),
        2 => load(PLIC_BASE + 40, AccessWidth::Dword),
        3 => load(0x4000, AccessWidth::Qword),
        4 => store(0x4000, AccessWidth::Qword, 1),
        5 => {
            Exit::NestedPageFault { addr: GuestPhysAddr::new(0x4000), access: AccessKind::Execute }
        }
        6 => Exit::IoRead { port: 0x80, width: AccessWidth::Word },
        7 => Exit::Nothing,
        8 => Exit::ExternalInterrupt { vector: 3 },
        9 => Exit::SysRegRead { addr: 0x800 },
        10 => Exit::SysRegWrite { addr: 0x800, value: 1 },
        _ => {
            sender.send((regs.answers.clone(), regs.failed_accesses)).unwrap();
            shutdown()
        }
    });
    let (vm, console) = machine(vec![program]);
    assert_eq!(vm.run_vcpu(0, &Threads::new()), Outcome::PowerOff);
    assert_eq!(seen.recv().unwrap(), (vec![0x60, 0, 0xffff], 5));
    assert_eq!(*console.0.lock().unwrap(), b"x");
    let stats = vm.total_stats();
    for (kind, count) in [
        (ExitKind::MmioRead, 3),
        (ExitKind::MmioWrite, 2),
        (ExitKind::NestedPageFault, 1),
        (ExitKind::IoRead, 1),
        (ExitKind::Nothing, 1),
        (ExitKind::ExternalInterrupt, 1),
        (ExitKind::Hypercall, 1),
        (ExitKind::SysReg, 2),
        (ExitKind::Unclaimed, 6),
    ] {
        assert_eq!(stats.count(kind), count, "{kind:?}");
    }
    assert_eq!(stats.total(), 12);
    assert_eq!(vm.outcome(), Some(Outcome::PowerOff));
}

#[test]
fn other_ends() {
    let end = |exit: Exit| {
        let (vm, _) = machine(vec![Box::new(move |_| exit)]);
        vm.run_in_turn(&Virtual::default())
    };
    assert_eq!(end(Exit::SystemDown), Outcome::PowerOff);
    assert_eq!(end(Exit::SystemReset), Outcome::Reboot { warm: false });
    for exit in [
        Exit::FailEntry { reason: 7 },
        Exit::CpuDown { state: 0 },
        Exit::SendIpi { base: 0, mask: 1, vector: 1 },
    ] {
        assert_eq!(end(exit), Outcome::UnknownExit { cpu: 0, exit });
    }
}

#[test]
fn misuse_by_the_host() {
    let (vm, _) = machine(vec![Box::new(|_| shutdown())]);
    let error = AxError::InvalidInput;
    assert_eq!(vm.run_vcpu(1, &Threads::new()), Outcome::CpuFailed { cpu: 1, error });
    // The first outcome stays, and nothing is run any more.
    assert_eq!(vm.run_vcpu(0, &Threads::new()), Outcome::CpuFailed { cpu: 1, error });
    assert_eq!(vm.total_stats().total(), 0);
    assert_eq!(vm.stop(Outcome::Stopped), Outcome::CpuFailed { cpu: 1, error });
}

#[test]
fn console_input_interrupts_the_hart() {
    let (sender, seen) = mpsc::channel();
    let program: Program = Box::new(move |regs| match regs.step {
        0 => store(PLIC_BASE + 40, AccessWidth::Dword, 1),
        1 => store(PLIC_BASE + 0x2080, AccessWidth::Dword, 1 << 10),
        2 => store(UART_BASE + 1, AccessWidth::Byte, 1),
        3 => {
            sender.send((regs.lines, 0)).unwrap();
            Exit::Halt { wake_after_ns: None }
        }
        4 => load(PLIC_BASE + 0x20_1004, AccessWidth::Dword),
        5 => {
            sender.send((regs.lines, regs.answers[0])).unwrap();
            load(UART_BASE, AccessWidth::Byte)
        }
        _ => {
            sender.send((regs.lines, regs.answers[1])).unwrap();
            shutdown()
        }
    });
    let (vm, _) = machine(vec![program]);
    thread::scope(|scope| {
        let thread = scope.spawn(|| vm.run_vcpu(0, &Threads::new()));
        let timeout = Duration::from_secs(20);
        assert_eq!(seen.recv_timeout(timeout).unwrap(), (0, 0));
        assert_eq!(vm.push_console_input(b"k"), 1);
        // Claimed: the line is low again, or the thread that raised it is about to lower it.
        assert_eq!(seen.recv_timeout(timeout).unwrap().1, 10);
        assert_eq!(seen.recv_timeout(timeout).unwrap().1, b'k'.into());
        assert_eq!(thread.join().unwrap(), Outcome::PowerOff);
    });
}

#[test]
fn virtual_time_moves_to_the_earliest_deadline() {
    let naps = |ns: u64, count: usize| -> Program {
        Box::new(move |regs| {
            if regs.step < count { Exit::Halt { wake_after_ns: Some(ns) } } else { shutdown() }
        })
    };
    let start: Program = Box::new(|regs| match regs.step {
        0 => ecall(hsm::EID_HSM, hsm::HART_START, [1, RAM_BASE, 0]),
        _ => Exit::Halt { wake_after_ns: Some(700) },
    });
    let host = Virtual::default();
    let (vm, _) = machine(vec![start, naps(1000, 3)]);
    assert_eq!(vm.run_in_turn(&host), Outcome::PowerOff);
    assert_eq!(host.0.get(), 3000);
    assert_eq!(vm.stats()[0].count(ExitKind::Halt), 5); // at 0, 700, 1400, 2100, 2800
}

/// Harts on as many threads, and on fewer that some of them share.
#[test]
fn harts_on_threads() {
    for harts in 1..=4 {
        for sharing in 1..=harts {
            harts_that_share(harts, sharing as usize);
        }
    }
}

/// The first hart starts the others, fences and interrupts them, and waits until they have stopped.
fn harts_that_share(harts: u64, sharing: usize) {
    const ROUNDS: usize = 400;
    const INTERRUPTS: usize = 20;
    let fences = Arc::new(AtomicU32::new(0));
    let others = (1 << harts) - 2;
    let mut waiting_for = 0;
    let boss: Program = Box::new(move |regs| {
        let round = regs.step;
        if round > 0 {
            assert_eq!(regs.gpr[10], 0);
        }
        if round as u64 + 1 < harts {
            let hart = round as u64 + 1;
            return ecall(hsm::EID_HSM, hsm::HART_START, [hart, RAM_BASE + 8, hart]);
        }
        if round < ROUNDS && round % 2 == 0 {
            return ecall(rfnc::EID_RFNC, rfnc::REMOTE_FENCE_I, [others, 0, 0]);
        }
        if round < ROUNDS || round % 2 == 0 {
            return ecall(spi::EID_SPI, 0, [others, 0, 0]);
        }
        // Every other round: has the next one stopped?
        if waiting_for == 0 || regs.gpr[9] == 1 {
            waiting_for += 1;
        }
        if waiting_for == harts {
            return shutdown();
        }
        ecall(hsm::EID_HSM, hsm::HART_GET_STATUS, [waiting_for, 0, 0])
    });
    // Remembers the answer of one call over the next, whose answer takes the same register.
    let boss: Program = {
        let mut inner = boss;
        let mut asked = false;
        Box::new(move |regs| {
            regs.gpr[9] = if asked { regs.gpr[11] } else { regs.gpr[9] };
            let exit = inner(regs);
            asked = matches!(exit, Exit::Hypercall { nr, function, .. }
                if nr == hsm::EID_HSM as u64 && function == hsm::HART_GET_STATUS as u64);
            exit
        })
    };
    let worker = |fences: Arc<AtomicU32>| -> Program {
        Box::new(move |regs| {
            let count = regs.fences.drain(..).filter(|&fence| fence == Fence::INSTRUCTION).count();
            fences.fetch_add(count as u32, Ordering::Relaxed);
            if regs.interrupts.len() > INTERRUPTS {
                ecall(hsm::EID_HSM, hsm::HART_STOP, [0; 3])
            } else {
                Exit::Halt { wake_after_ns: None }
            }
        })
    };
    let mut programs = vec![boss];
    programs.extend((1..harts).map(|_| worker(fences.clone())));
    let (vm, _) = machine(programs);
    assert_eq!(run_shared(&vm, sharing), Outcome::PowerOff);
    assert_eq!(fences.load(Ordering::Relaxed) > 0, harts > 1);
    for cpu in vm.cpus() {
        assert_eq!(cpu.vcpu().state(), VCpuState::Free);
    }
}

/// The host stops a machine whose harts wait, are off, or run.
#[test]
fn stopping_reaches_every_thread() {
    for _ in 0..50 {
        let spinning = Arc::new(AtomicBool::new(false));
        let flag = spinning.clone();
        let first: Program = Box::new(move |regs| match regs.step {
            0 => ecall(hsm::EID_HSM, hsm::HART_START, [1, RAM_BASE, 0]),
            _ => {
                flag.store(true, Ordering::Relaxed);
                Exit::Nothing
            }
        });
        let second: Program = Box::new(|_| Exit::Halt { wake_after_ns: None });
        let third: Program = Box::new(|_| panic!("this hart is off"));
        let (vm, _) = machine(vec![first, second, third]);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !spinning.load(Ordering::Relaxed) {
                    thread::yield_now();
                }
                vm.stop(Outcome::Stopped);
            });
            assert_eq!(run_on_threads(&vm), Outcome::Stopped);
        });
    }
}
