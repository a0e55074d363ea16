//! Every call, with good and bad arguments, as the guest sees the answers.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use std::sync::mpsc;

use axvcpu::{AxVCpuExitReason as Exit, VCpuState};

use super::*;
use crate::ExitKind;
use crate::arm::layout::RAM_BASE;
use crate::arm::{ArmVm, ArmVmConfig};
use crate::testing::{ArmFake, Console, Program, Regs, Virtual, arm_machine, build_arm, hvc};

const NOT_SUPPORTED: u64 = -1i64 as u64;
const INVALID_PARAMETERS: u64 = -2i64 as u64;
const ALREADY_ON: u64 = -4i64 as u64;
const PENDING: u64 = -5i64 as u64;
const INVALID_ADDRESS: u64 = -9i64 as u64;

fn off() -> Exit {
    hvc(id::SYSTEM_OFF, [0; 3])
}

/// A program that is never to run.
fn nothing() -> Program {
    Box::new(|_| panic!("this CPU is off"))
}

/// What each call of CPU 0 of a machine with two CPUs is answered.
fn answers(calls: Vec<Exit>) -> Vec<u64> {
    let (sender, results) = mpsc::channel();
    let mut rest = calls.into_iter();
    let program: Program = Box::new(move |regs| {
        if regs.step > 0 {
            // Every other register is preserved.
            assert_eq!(regs.gpr[1..18], [0x77; 17]);
            sender.send(regs.gpr[0]).unwrap();
        }
        regs.gpr[1..18].fill(0x77);
        rest.next().unwrap_or_else(off)
    });
    let (vm, _) = arm_machine(vec![program, nothing()]);
    assert_eq!(vm.run_in_turn(&Virtual::default()), Outcome::PowerOff);
    results.try_iter().collect()
}

fn one(function: u32, args: [u64; 3]) -> u64 {
    answers(vec![hvc(function, args)])[0]
}

#[test]
fn versions_and_features() {
    assert_eq!(one(id::SMCCC_VERSION, [0; 3]), 0x1_0002);
    assert_eq!(one(id::PSCI_VERSION, [0; 3]), 0x1_0001);
    assert_eq!(one(id::MIGRATE_INFO_TYPE, [0; 3]), 2);
    for (feature, answer) in [
        (id::SMCCC_VERSION, 0),
        (id::SMCCC_ARCH_FEATURES, 0),
        (0x8000_0002, NOT_SUPPORTED), // SMCCC_ARCH_SOC_ID
        (0x8000_3fff, NOT_SUPPORTED), // SMCCC_ARCH_WORKAROUND_3
        (id::PSCI_VERSION, NOT_SUPPORTED),
    ] {
        assert_eq!(one(id::SMCCC_ARCH_FEATURES, [feature.into(), 0, 0]), answer, "{feature:#x}");
    }
    for (function, answer) in [
        (id::SMCCC_VERSION, 0),
        (id::PSCI_VERSION, 0),
        (id::CPU_SUSPEND, 0),
        (id::CPU_SUSPEND | id::SMC64, 0),
        (id::CPU_OFF, 0),
        (id::CPU_OFF | id::SMC64, NOT_SUPPORTED),
        (id::CPU_ON | id::SMC64, 0),
        (id::SYSTEM_RESET2 | id::SMC64, 0),
        (id::PSCI_FEATURES, 0),
        (0x8400_0005, NOT_SUPPORTED), // MIGRATE
        (0xc400_000e, NOT_SUPPORTED), // SYSTEM_SUSPEND
        (0, NOT_SUPPORTED),
    ] {
        assert_eq!(one(id::PSCI_FEATURES, [function.into(), 0, 0]), answer, "{function:#x}");
    }
}

#[test]
fn unknown_calls() {
    for function in [
        0,
        1,
        0x8400_0005,
        0x8400_000e,
        0xc400_000e,
        0xc400_0000,
        0xc400_0002,
        0xc400_0008,
        0x8400_001f,
        0x8400_0015,
        0xbf00_ff01,
        0xc200_0000,
        0x8000_8000,
        u32::MAX,
    ] {
        assert_eq!(one(function, [0; 3]), NOT_SUPPORTED, "{function:#x}");
    }
    // The upper half of x0 is nobody's.
    let call = Exit::Hypercall { nr: 0xdead << 32 | 0x8400_0000, function: 0, args: [0; 6] };
    assert_eq!(answers(vec![call]), [0x1_0001]);
}

#[test]
fn affinities_and_bad_starts() {
    let info = |target, level| one(id::AFFINITY_INFO | id::SMC64, [target, level, 0]);
    assert_eq!((info(0, 0), info(1, 0)), (ON, OFF));
    for (target, level) in [(2, 0), (0x10, 0), (0x100, 0), (1 << 32, 0), (u64::MAX, 0), (0, 1)] {
        assert_eq!(info(target, level), INVALID_PARAMETERS, "{target:#x} {level}");
    }
    for (cpu, entry, result) in [
        (0, RAM_BASE, ALREADY_ON),
        (2, RAM_BASE, INVALID_PARAMETERS),
        (1 << 31 | 1, RAM_BASE, INVALID_PARAMETERS), // MPIDR_EL1 has a bit there, affinities do not
        (1, 0, INVALID_ADDRESS),
        (1, RAM_BASE + 2, INVALID_ADDRESS),
        (1, RAM_BASE + (8 << 20), INVALID_ADDRESS),
        (1, u64::MAX - 3, INVALID_ADDRESS),
    ] {
        assert_eq!(one(id::CPU_ON | id::SMC64, [cpu, entry, 0]), result, "{cpu} {entry:#x}");
    }
    // 32-bit calls have 32-bit arguments.
    let high = 0xffff_ffff_0000_0000;
    assert_eq!(one(id::AFFINITY_INFO, [high | 1, high, 0]), OFF);
    assert_eq!(one(id::CPU_ON, [high, high | RAM_BASE, 0]), ALREADY_ON);
}

#[test]
fn standby() {
    for (state, result) in [
        (0, 0),
        (0x0100_0001, 0),
        (1 << 16, INVALID_PARAMETERS), // powers down
        (1 << 30, INVALID_PARAMETERS), // the other format
        (1 << 31, INVALID_PARAMETERS),
        (1 << 17, INVALID_PARAMETERS),
    ] {
        assert_eq!(one(id::CPU_SUSPEND, [state, RAM_BASE, 0]), result, "{state:#x}");
    }
    let program: Program = Box::new(|regs| match regs.step {
        0 => hvc(id::CPU_SUSPEND | id::SMC64, [0; 3]),
        _ => off(),
    });
    let host = Virtual::default();
    let (vm, _) = arm_machine(vec![program]);
    assert_eq!(vm.run_in_turn(&host), Outcome::PowerOff);
    assert_eq!(host.0.get(), STANDBY_NS);
    assert_eq!(vm.cpus().get(0).unwrap().power(), PowerState::On);
}

/// Nobody runs CPU 1 here, so that it never comes to start.
#[test]
fn a_cpu_that_was_told_to_start_is_pending() {
    let program: Program = Box::new(|regs| {
        let start = hvc(id::CPU_ON | id::SMC64, [1, RAM_BASE, 0]);
        let (answer, exit) = match regs.step {
            0 => return start,
            1 => (0, start),
            2 => (PENDING, hvc(id::AFFINITY_INFO, [1, 0, 0])),
            _ => (ON_PENDING, off()),
        };
        assert_eq!(regs.gpr[0], answer);
        exit
    });
    let (vm, _) = arm_machine(vec![program, nothing()]);
    assert_eq!(vm.cpus().get(0).unwrap().power(), PowerState::Starting);
    assert_eq!(vm.run_vcpu(0, &Virtual::default()), Outcome::PowerOff);
}

#[test]
fn cpus_start_stop_and_start_again() {
    let (sender, seen) = mpsc::channel();
    let mut starts = 0;
    let first: Program = Box::new(move |regs| {
        let start = |entry, arg| hvc(id::CPU_ON | id::SMC64, [1, RAM_BASE + entry, arg]);
        let info = || hvc(id::AFFINITY_INFO, [1, 0, 0]);
        match regs.step {
            0 => start(64, 77),
            1 => Exit::SendIpi { base: 0, mask: 0b10, vector: 5 },
            2 => info(),
            // Until CPU 1 has stopped.
            _ if regs.gpr[0] != OFF && starts == 0 => info(),
            _ if starts == 0 => {
                starts = regs.step;
                start(128, 78)
            }
            step if step < starts + 5 => Exit::Nothing,
            _ => off(),
        }
    });
    let second: Program = Box::new(move |regs| {
        if regs.step == 0 {
            sender.send((regs.pc, regs.gpr[0], regs.interrupts.clone())).unwrap();
        }
        match (regs.interrupts.len(), regs.resets) {
            (0, 0) => Exit::Nothing,
            (_, 0) => hvc(id::CPU_OFF, [0; 3]),
            _ => Exit::Halt { wake_after_ns: None },
        }
    });
    let (vm, _) = arm_machine(vec![first, second]);
    assert_eq!(vm.run_in_turn(&Virtual::default()), Outcome::PowerOff);
    let seen: Vec<_> = seen.try_iter().collect();
    assert_eq!(seen, [(RAM_BASE + 64, 77, vec![]), (RAM_BASE + 128, 78, vec![])]);
}

#[test]
fn the_last_cpu_to_stop_ends_the_machine() {
    let program: Program = Box::new(|_| hvc(id::CPU_OFF, [0; 3]));
    let (vm, _) = arm_machine(vec![program, nothing()]);
    assert_eq!(vm.run_in_turn(&Virtual::default()), Outcome::AllCpusStopped);
}

#[test]
fn ends() {
    let call = |function, kind| {
        let program: Program = Box::new(move |regs| match regs.step {
            0 => hvc(function, [kind, 0, 0]),
            _ => {
                // What is refused returns; what is done does not.
                assert_eq!(regs.gpr[0], INVALID_PARAMETERS);
                off()
            }
        });
        let (vm, _) = arm_machine(vec![program]);
        let outcome = vm.run_in_turn(&Virtual::default());
        assert_eq!(vm.cpus().get(0).unwrap().vcpu().state(), VCpuState::Free);
        (outcome, vm.total_stats().count(ExitKind::Hypercall))
    };
    for (function, outcome) in [
        (id::SYSTEM_OFF, Outcome::PowerOff),
        (id::SYSTEM_RESET, Outcome::Reboot { warm: false }),
        (id::SYSTEM_RESET2, Outcome::Reboot { warm: true }),
        (id::SYSTEM_RESET2 | id::SMC64, Outcome::Reboot { warm: true }),
    ] {
        assert_eq!(call(function, 0), (outcome, 1));
    }
    for kind in [1, 0x8000_0000] {
        assert_eq!(call(id::SYSTEM_RESET2, kind), (Outcome::PowerOff, 2));
    }
}

/// SGIs reach the CPUs they name that are there and on.
#[test]
fn interrupts_between_cpus() {
    let sends = [(0, 0b1011, 3), (1, u64::MAX, 4), (u64::MAX, 0b11, 5), (64, 1, 6), (0, 0, 7)];
    let sender: Program = Box::new(move |regs| match regs.step {
        0 => hvc(id::CPU_ON, [1, RAM_BASE, 0]),
        1 => Exit::Nothing, // CPU 1 starts
        step => match sends.get(step - 2) {
            Some(&(base, mask, vector)) => Exit::SendIpi { base, mask, vector },
            None if step < 12 => Exit::Nothing,
            None => {
                assert_eq!(regs.interrupts, [3]);
                off()
            }
        },
    });
    let (report, seen) = mpsc::channel();
    let receiver: Program = Box::new(move |regs| {
        report.send(regs.interrupts.clone()).unwrap();
        Exit::Nothing
    });
    let (vm, _) = arm_machine(vec![sender, receiver, nothing()]);
    assert_eq!(vm.run_in_turn(&Virtual::default()), Outcome::PowerOff);
    assert_eq!(seen.try_iter().last(), Some(vec![3, 4]));
    assert_eq!(vm.total_stats().count(ExitKind::Ipi), 5);
    // What is no SGI the firmware does not know.
    let exit = Exit::SendIpi { base: 0, mask: 1, vector: 16 };
    let (vm, _) = arm_machine(vec![Box::new(move |_| exit)]);
    assert_eq!(vm.run_in_turn(&Virtual::default()), Outcome::UnknownExit { cpu: 0, exit });
}

/// Numbers from a fixed seed in every register: whatever the guest asks for, it gets an answer.
#[test]
fn random_calls_never_panic() {
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let interesting = [0, 1, 2, 0x1000, RAM_BASE, RAM_BASE + (8 << 20), 1 << 31, 1 << 63, u64::MAX];
    let program: Program = Box::new(move |regs: &mut Regs| {
        if regs.step == 20_000 {
            return off();
        }
        let mut arg = || match next() % 3 {
            0 => next(),
            _ => interesting[next() as usize % interesting.len()].wrapping_add(next() % 3),
        };
        if arg() % 8 == 0 {
            return Exit::SendIpi { base: arg(), mask: arg(), vector: arg() % 16 };
        }
        let function = (arg() % 0x20) | [0x8400_0000, 0xc400_0000, 0x8000_0000][arg() as usize % 3];
        if matches!(function as u32, id::CPU_OFF | id::SYSTEM_OFF | id::SYSTEM_RESET)
            || function as u32 & !id::SMC64 == id::SYSTEM_RESET2
        {
            return Exit::Nothing; // would end the test
        }
        Exit::Hypercall { nr: function, function: 0, args: core::array::from_fn(|_| arg()) }
    });
    let idle = || -> Program { Box::new(|_| Exit::Halt { wake_after_ns: Some(1000) }) };
    let config = ArmVmConfig { cpus: 3, kernel: b"k", ..Default::default() };
    let console = Arc::new(Console::default());
    let vm: ArmVm<ArmFake> =
        build_arm(&config, 8 << 20, vec![program, idle(), idle()], console).unwrap();
    assert_eq!(vm.run_in_turn(&Virtual::default()), Outcome::PowerOff);
}
