//! Whole machines, on vCPUs that run Rust functions.

use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use axvcpu::{AccessWidth, AxVCpuExitReason as Exit, GuestPhysAddr};
use axvcpu_arm::stage2::IPA39;

use super::*;
use crate::testing::{
    ArmFake, Console, Heap, Program, Threads, Virtual, arm_machine, build_arm, hvc,
};
use crate::{ExitKind, Outcome};

const SYSTEM_OFF: u32 = 0x8400_0008;
const CPU_ON: u32 = 0x8400_0003;
const CPU_OFF: u32 = 0x8400_0002;
const AFFINITY_INFO: u32 = 0x8400_0004;
/// The bit of the serial port's interrupt.
const UART_BIT: u64 = 1 << UART_INTID;

fn off() -> Exit {
    hvc(SYSTEM_OFF, [0; 3])
}

fn load(addr: u64) -> Exit {
    Exit::MmioRead { addr: GuestPhysAddr::new(addr), width: AccessWidth::Dword }
}

fn store(addr: u64, data: u64) -> Exit {
    Exit::MmioWrite { addr: GuestPhysAddr::new(addr), width: AccessWidth::Dword, data }
}

#[test]
fn memory_is_laid_out_without_overlap() {
    let (sender, seen) = mpsc::channel();
    let program: Program = Box::new(move |regs| {
        sender.send((regs.pc, regs.gpr[0])).unwrap();
        off()
    });
    let initrd = [0x5a; 10_000];
    let config = ArmVmConfig {
        kernel: b"flat kernel",
        initrd: Some(&initrd),
        stage2: IPA39,
        ..Default::default()
    };
    let heap = Heap::new(4 << 20);
    let written = heap.written.clone();
    let mut program = Some(program);
    let create = |_, _| program.take().unwrap();
    let console = Arc::new(Console::default());
    let vm = ArmVm::<ArmFake>::new(&config, Box::new(heap), console, create, |_| ()).unwrap();
    assert_eq!(vm.run_in_turn(&Virtual::default()), Outcome::PowerOff);
    let (pc, tree) = seen.recv().unwrap();
    assert_eq!((pc, tree % 8), (RAM_BASE + (2 << 20), 0));
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
    // A host that has to clean its caches hears of all that.
    let expected = [(pc, 11), (initrd_at, 10_000), (tree, len)].map(|(at, n)| (at - RAM_BASE, n));
    assert_eq!(*written.lock().unwrap(), expected);
}

#[test]
fn machines_that_cannot_be_built() {
    let error = |config: ArmVmConfig<'_>, ram| {
        let programs = (0..8).map(|_| Box::new(|_: &mut _| off()) as Program).collect();
        build_arm(&config, ram, programs, Arc::default()).err().unwrap().to_string()
    };
    let config = ArmVmConfig { kernel: b"kernel", ..Default::default() };
    let none = ArmVmConfig { cpus: 0, ..config };
    assert_eq!(error(none, 4 << 20), "0 CPUs: a guest can have 1 to 64");
    assert!(error(ArmVmConfig { cpus: 65, ..config }, 4 << 20).contains("65"));
    assert!(error(config, 0).contains("4 KiB"));
    assert!(error(config, 2 << 20).starts_with("kernel: the kernel needs 3 MiB"));
    assert!(error(ArmVmConfig { kernel: b"", ..config }, 4 << 20).contains("empty"));
    assert!(error(ArmVmConfig { bootargs: "a\0", ..config }, 4 << 20).contains("NUL"));
    let bootargs = "x".repeat(2 << 20);
    let long = ArmVmConfig { bootargs: &bootargs, ..config };
    assert!(error(long, 8 << 20).contains("command line is too long"));
    let initrd = vec![1; 2 << 20];
    let message = error(ArmVmConfig { initrd: Some(&initrd), ..config }, 4 << 20);
    assert!(message.starts_with("initrd: the kernel together with its initrd"), "{message}");
}

#[test]
fn exits_are_answered_and_counted() {
    let (sender, seen) = mpsc::channel();
    let program: Program = Box::new(move |regs| match regs.step {
        0 => store(UART_BASE, b'x'.into()),
        1 => load(UART_BASE + 0x18),
        2 => load(DISTRIBUTOR_BASE),
        3 => load(REDISTRIBUTOR_BASE + 0xffe8),
        4 => load(REDISTRIBUTOR_BASE + REDISTRIBUTOR_SIZE), // the second CPU's: there is none
        5 => Exit::SysRegRead { addr: 0x1234 },
        6 => Exit::SysRegWrite { addr: 0x1234, value: 1 },
        7 => Exit::SendIpi { base: 0, mask: 1, vector: 9 },
        _ => {
            let interrupts = regs.interrupts.clone();
            sender.send((regs.answers.clone(), regs.failed_accesses, interrupts)).unwrap();
            off()
        }
    });
    let (vm, console) = arm_machine(vec![program]);
    assert_eq!(vm.run_vcpu(0, &Threads::new()), Outcome::PowerOff);
    assert_eq!(seen.recv().unwrap(), (vec![0x97, 0x50, 0x30], 3, vec![9]));
    assert_eq!(*console.0.lock().unwrap(), b"x");
    let stats = vm.total_stats();
    for (kind, count) in [
        (ExitKind::MmioRead, 4),
        (ExitKind::MmioWrite, 1),
        (ExitKind::SysReg, 2),
        (ExitKind::Ipi, 1),
        (ExitKind::Hypercall, 1),
        (ExitKind::Unclaimed, 3),
    ] {
        assert_eq!(stats.count(kind), count, "{kind:?}");
    }
}

#[test]
fn console_input_raises_the_line() {
    let (sender, seen) = mpsc::channel();
    let program: Program = Box::new(move |regs| match regs.step {
        0 => store(UART_BASE + 0x30, 0x301),
        1 => store(UART_BASE + 0x38, 0x50),
        2 => {
            sender.send((regs.lines, 0)).unwrap();
            Exit::Halt { wake_after_ns: None }
        }
        3 => load(UART_BASE),
        4 => Exit::Nothing,
        _ => {
            sender.send((regs.lines, regs.answers[0])).unwrap();
            off()
        }
    });
    let (vm, _) = arm_machine(vec![program]);
    thread::scope(|scope| {
        let thread = scope.spawn(|| vm.run_vcpu(0, &Threads::new()));
        let timeout = Duration::from_secs(20);
        assert_eq!(seen.recv_timeout(timeout).unwrap(), (0, 0));
        assert_eq!(vm.push_console_input(b"k"), 1);
        assert_eq!(seen.recv_timeout(timeout).unwrap(), (0, b'k'.into()));
        assert_eq!(thread.join().unwrap(), Outcome::PowerOff);
    });
}

/// One CPU routes, enables and disables an interrupt of another, which waits, runs, or is about to do one of both.
/// Each time the other one finds what the first has set up last.
#[test]
fn changes_reach_other_cpus() {
    const ROUNDS: usize = 2000;
    let forwarding = Arc::new(std::sync::Mutex::new(None::<Arc<dyn Forwarding>>));
    let reached = Arc::new(AtomicUsize::new(0));
    let done = reached.clone();
    let first: Program = Box::new(move |regs| match regs.step {
        0 => store(DISTRIBUTOR_BASE, 3),
        1 => store(DISTRIBUTOR_BASE + 0x6000 + 8 * u64::from(UART_INTID), 1),
        2 => hvc(CPU_ON, [1, RAM_BASE, 0]),
        // Enables in odd rounds and disables in even ones, whenever the last change has arrived.
        step => {
            let round = done.load(Ordering::SeqCst);
            if round > ROUNDS {
                return off();
            }
            match step % 2 {
                0 => Exit::Nothing,
                _ if round % 2 == 0 => store(DISTRIBUTOR_BASE + 0x104, UART_BIT >> 32),
                _ => store(DISTRIBUTOR_BASE + 0x184, UART_BIT >> 32),
            }
        }
    });
    let (asks, mut generation) = (forwarding.clone(), 0);
    let second: Program = Box::new(move |_| {
        let forwarding = asks.lock().unwrap().clone().unwrap();
        // As a backend: what it knows is as old as the generation.
        if forwarding.generation() != generation {
            generation = forwarding.generation();
            let enabled = forwarding.priority(UART_INTID).is_some();
            let round = reached.load(Ordering::SeqCst);
            if enabled == (round % 2 == 0) {
                reached.store(round + 1, Ordering::SeqCst);
            }
        }
        Exit::Halt { wake_after_ns: None }
    });
    let config = ArmVmConfig { cpus: 2, kernel: b"kernel", ..Default::default() };
    let mut programs = vec![first, second].into_iter();
    let vm = ArmVm::<ArmFake>::new(
        &config,
        Box::new(Heap::new(8 << 20)),
        Arc::new(Console::default()),
        |cpu, its| {
            if cpu == 1 {
                *forwarding.lock().unwrap() = Some(its);
            }
            programs.next().unwrap()
        },
        |_| (),
    )
    .unwrap();
    let host = &Threads::new();
    thread::scope(|scope| {
        for cpu in 0..2 {
            let vm = &vm;
            scope.spawn(move || assert_eq!(vm.run_vcpu(cpu, host), Outcome::PowerOff));
        }
    });
}

/// A CPU is not kicked for the changes it makes itself.
#[test]
fn changes_of_ones_own_cost_no_exit() {
    let program: Program = Box::new(|regs| match regs.step {
        0 => store(DISTRIBUTOR_BASE, 3),
        1 => store(DISTRIBUTOR_BASE + 0x104, UART_BIT >> 32),
        2 => store(REDISTRIBUTOR_BASE + 0x1_0100, 1 << 27),
        _ => off(),
    });
    let (vm, _) = arm_machine(vec![program]);
    assert_eq!(vm.run_in_turn(&Virtual::default()), Outcome::PowerOff);
    assert_eq!(vm.total_stats().count(ExitKind::Nothing), 0);
    assert_eq!(vm.total_stats().total(), 4);
}

/// CPUs on as many threads, and on fewer that some of them share: the first one starts the others, interrupts them,
/// and waits until they have stopped.
#[test]
fn cpus_on_threads() {
    for cpus in 1..=4 {
        for sharing in 1..=cpus {
            cpus_that_share(cpus, sharing);
        }
    }
}

fn cpus_that_share(cpus: usize, sharing: usize) {
    const INTERRUPTS: usize = 20;
    let others = (1 << cpus) - 2;
    let mut waiting_for = 0;
    let mut asked = false;
    let boss: Program = Box::new(move |regs| {
        let next = regs.step as u64 + 1;
        if next < cpus as u64 {
            return hvc(CPU_ON, [next, RAM_BASE + 8, next]);
        }
        let answered = core::mem::take(&mut asked);
        if waiting_for == 0 || answered && regs.gpr[0] == 1 {
            waiting_for += 1;
        }
        if waiting_for == cpus as u64 {
            return off();
        }
        asked = regs.step % 2 == 0;
        match asked {
            true => hvc(AFFINITY_INFO, [waiting_for, 0, 0]),
            false => Exit::SendIpi { base: 0, mask: others, vector: 1 },
        }
    });
    let worker = || -> Program {
        Box::new(|regs| {
            let enough = regs.interrupts.len() > INTERRUPTS;
            if enough { hvc(CPU_OFF, [0; 3]) } else { Exit::Halt { wake_after_ns: None } }
        })
    };
    let mut programs = vec![boss];
    programs.extend((1..cpus).map(|_| worker()));
    let (vm, _) = arm_machine(programs);
    let host = &Threads::new();
    let all: Vec<_> = (0..cpus).collect();
    thread::scope(|scope| {
        for share in all.chunks(sharing) {
            let vm = &vm;
            scope.spawn(move || assert_eq!(vm.run_vcpus(share, host), Outcome::PowerOff));
        }
    });
}
