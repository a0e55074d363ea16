//! Every call, with good and bad arguments, as the guest sees the answers.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use std::sync::mpsc;

use axvcpu::{AxVCpuExitReason as Exit, VCpuState};
use sbi_spec::pmu;

use super::*;
use crate::riscv::RiscvVm;
use crate::riscv::layout::RAM_BASE;
use crate::testing::{Console, Fake, Program, Regs, Virtual, build, ecall, machine};
use crate::{ExitKind, Outcome, PowerState};

const NOT_SUPPORTED: u64 = -2i64 as u64;
const INVALID_PARAM: u64 = -3i64 as u64;
const INVALID_ADDRESS: u64 = -5i64 as u64;
const ALREADY_AVAILABLE: u64 = -6i64 as u64;

type Ecall = (usize, usize, [u64; 3]);

fn shutdown() -> Exit {
    ecall(srst::EID_SRST, 0, [0, 0, 0])
}

/// A program that is never to run.
fn nothing() -> Program {
    Box::new(|_| panic!("this hart is off"))
}

/// Performs `calls` on hart 0 of a machine with two harts and answers what came back in `a0` and `a1`.
fn answers(calls: Vec<Ecall>, before: impl FnOnce(&RiscvVm<Fake>)) -> (Vec<(u64, u64)>, Vec<u8>) {
    const STALE: u64 = 0xdead;
    let (sender, results) = mpsc::channel();
    let mut rest = calls.into_iter();
    let program: Program = Box::new(move |regs| {
        if regs.step > 0 {
            sender.send((regs.gpr[10], regs.gpr[11])).unwrap();
        }
        regs.gpr[11] = STALE;
        rest.next().map_or_else(shutdown, |(nr, function, args)| ecall(nr, function, args))
    });
    let (vm, console) = machine(vec![program, nothing()]);
    before(&vm);
    assert_eq!(vm.run_in_turn(&Virtual::default()), Outcome::PowerOff);
    let out = console.0.lock().unwrap().clone();
    (results.try_iter().collect(), out)
}

fn one(nr: usize, function: usize, args: [u64; 3]) -> (u64, u64) {
    answers(vec![(nr, function, args)], |_| ()).0[0]
}

#[test]
fn base() {
    let call = |function, arg| one(base::EID_BASE, function, [arg, 0, 0]);
    assert_eq!(call(base::GET_SBI_SPEC_VERSION, 0), (0, 0x0200_0000));
    assert_eq!(call(base::GET_SBI_IMPL_ID, 0), (0, IMPLEMENTATION_ID));
    assert_eq!(call(base::GET_SBI_IMPL_VERSION, 0), (0, IMPLEMENTATION_VERSION));
    for zero in [base::GET_MVENDORID, base::GET_MARCHID, base::GET_MIMPID] {
        assert_eq!(call(zero, 0), (0, 0));
    }
    assert_eq!(call(7, 0), (NOT_SUPPORTED, 0));
    for (id, there) in [
        (base::EID_BASE, 1),
        (time::EID_TIME, 1),
        (spi::EID_SPI, 1),
        (rfnc::EID_RFNC, 1),
        (hsm_spec::EID_HSM, 1),
        (srst::EID_SRST, 1),
        (dbcn::EID_DBCN, 1),
        (legacy::LEGACY_CONSOLE_PUTCHAR, 1),
        (legacy::LEGACY_SEND_IPI, 0),
        (pmu::EID_PMU, 0),
        (0x0900_0000, 0),
    ] {
        assert_eq!(call(base::PROBE_EXTENSION, id as u64), (0, there), "{id:#x}");
    }
    assert_eq!(call(base::PROBE_EXTENSION, 1 << 32 | base::EID_BASE as u64), (0, 0));
}

#[test]
fn unknown_extensions_and_functions() {
    for (nr, function) in [
        (pmu::EID_PMU, 0),
        (0x0900_0000, 0),
        (0x1_0000_0010, 0), // BASE in the lower half only
        (time::EID_TIME, 1),
        (spi::EID_SPI, 1),
        (rfnc::EID_RFNC, rfnc::REMOTE_HFENCE_GVMA),
        (rfnc::EID_RFNC, 99),
        (hsm_spec::EID_HSM, 4),
        (srst::EID_SRST, 1),
        (dbcn::EID_DBCN, 3),
        (base::EID_BASE, 1 << 32),
    ] {
        assert_eq!(one(nr, function, [0; 3]), (NOT_SUPPORTED, 0), "{nr:#x} {function}");
    }
    // Legacy calls have one result register.
    assert_eq!(one(legacy::LEGACY_SEND_IPI, 0, [0; 3]), (NOT_SUPPORTED, 0xdead));
}

#[test]
fn hart_masks() {
    let all = u64::MAX;
    for (nr, function) in [(spi::EID_SPI, 0), (rfnc::EID_RFNC, 0), (rfnc::EID_RFNC, 1)] {
        for (mask, base, result) in [
            (0, 0, 0),
            (0, 1000, 0),
            (0b11, 0, 0),
            (0b1, 1, 0),
            (0, all, 0),
            (all, all, 0),
            (0b100, 0, INVALID_PARAM),
            (0b10, 1, INVALID_PARAM),
            (1, 2, INVALID_PARAM),
            (0b10, all - 1, INVALID_PARAM),
            (1 << 63, all - 1, INVALID_PARAM),
        ] {
            assert_eq!(one(nr, function, [mask, base, 0]).0, result, "{mask:#x} {base:#x}");
        }
    }
}

#[test]
fn fence_ranges() {
    let call = |start, size| {
        let (sender, result) = mpsc::channel();
        let program: Program = Box::new(move |regs| {
            if regs.step == 0 {
                let (function, args) = (rfnc::REMOTE_SFENCE_VMA, [1, 0, start, size, 0, 0]);
                let (nr, function) = (rfnc::EID_RFNC as u64, function as u64);
                return Exit::Hypercall { nr, function, args };
            }
            sender.send((regs.gpr[10], regs.fences.clone())).unwrap();
            shutdown()
        });
        machine(vec![program]).0.run_in_turn(&Virtual::default());
        result.recv().unwrap()
    };
    let flushed = vec![axvcpu::Fence::GUEST_TLB];
    for (start, size) in [(0, 0), (0x1000, u64::MAX), (0x1000, 0x2000), (u64::MAX, 0)] {
        assert_eq!(call(start, size), (0, flushed.clone()));
    }
    assert_eq!(call(u64::MAX - 1, 4), (INVALID_ADDRESS, vec![]));
}

#[test]
fn hart_status_and_bad_starts() {
    let hsm = |function, args| one(hsm_spec::EID_HSM, function, args);
    assert_eq!(hsm(hsm_spec::HART_GET_STATUS, [0, 0, 0]), (0, 0));
    assert_eq!(hsm(hsm_spec::HART_GET_STATUS, [1, 0, 0]), (0, 1));
    assert_eq!(hsm(hsm_spec::HART_GET_STATUS, [2, 0, 0]), (INVALID_PARAM, 0));
    assert_eq!(hsm(hsm_spec::HART_GET_STATUS, [u64::MAX, 0, 0]), (INVALID_PARAM, 0));
    for (hart, entry, result) in [
        (0, RAM_BASE, ALREADY_AVAILABLE),
        (2, RAM_BASE, INVALID_PARAM),
        (1, 0, INVALID_ADDRESS),
        (1, RAM_BASE + 1, INVALID_ADDRESS),
        (1, RAM_BASE + (8 << 20), INVALID_ADDRESS),
        (1, u64::MAX - 1, INVALID_ADDRESS),
    ] {
        assert_eq!(hsm(hsm_spec::HART_START, [hart, entry, 0]), (result, 0), "{entry:#x}");
    }
    for (kind, result) in [
        (0, 0),
        (0xffff_ffff_8000_0000, NOT_SUPPORTED),
        (0x8000_0000, NOT_SUPPORTED),
        (1, INVALID_PARAM),
    ] {
        assert_eq!(hsm(hsm_spec::HART_SUSPEND, [kind, RAM_BASE, 0]), (result, 0), "{kind:#x}");
    }
}

#[test]
fn suspend_ends_by_itself_and_by_interrupts() {
    let program: Program = Box::new(|regs| match regs.step {
        0 => ecall(hsm_spec::EID_HSM, hsm_spec::HART_SUSPEND, [0; 3]),
        _ => shutdown(),
    });
    let host = Virtual::default();
    assert_eq!(machine(vec![program]).0.run_in_turn(&host), Outcome::PowerOff);
    assert_eq!(host.0.get(), 1_000_000);
}

#[test]
fn a_hart_that_was_told_to_start_is_pending() {
    let call = (hsm_spec::EID_HSM, hsm_spec::HART_GET_STATUS, [0, 0, 0]);
    let mut asked = false;
    let first: Program = Box::new(move |regs| {
        if core::mem::replace(&mut asked, true) {
            assert_eq!((regs.gpr[10], regs.gpr[11]), (0, 0));
            return shutdown();
        }
        ecall(call.0, call.1, call.2)
    });
    let (vm, _) = machine(vec![first, nothing()]);
    assert_eq!(vm.cpus().get(0).unwrap().power(), PowerState::Starting);
    assert_eq!(vm.cpus().get(1).unwrap().power(), PowerState::Off);
    assert!(vm.cpus().get(0).unwrap().start(0, 0).is_err());
    assert_eq!(vm.run_in_turn(&Virtual::default()), Outcome::PowerOff);
}

#[test]
fn harts_start_stop_and_start_again() {
    let (sender, seen) = mpsc::channel();
    let mut starts = 0;
    let first: Program = Box::new(move |regs| {
        let hsm = |function, args| ecall(hsm_spec::EID_HSM, function, args);
        let start = |entry, opaque| hsm(hsm_spec::HART_START, [1, RAM_BASE + entry, opaque]);
        match regs.step {
            0 => start(64, 77),
            1 => ecall(spi::EID_SPI, 0, [0b10, 0, 0]),
            // Until hart 1 has stopped.
            _ if regs.gpr[11] != 1 && starts == 0 => hsm(hsm_spec::HART_GET_STATUS, [1, 0, 0]),
            _ if starts == 0 => {
                starts = regs.step;
                start(128, 78)
            }
            step if step < starts + 5 => Exit::Nothing,
            _ => shutdown(),
        }
    });
    let second: Program = Box::new(move |regs| {
        if regs.step == 0 {
            sender.send((regs.pc, regs.gpr[10], regs.gpr[11], regs.interrupts.clone())).unwrap();
        }
        match (regs.interrupts.len(), regs.resets) {
            (0, 0) => Exit::Nothing,
            (_, 0) => ecall(hsm_spec::EID_HSM, hsm_spec::HART_STOP, [0; 3]),
            _ => Exit::Halt { wake_after_ns: None },
        }
    });
    let (vm, _) = machine(vec![first, second]);
    assert_eq!(vm.run_in_turn(&Virtual::default()), Outcome::PowerOff);
    let seen: Vec<_> = seen.try_iter().collect();
    assert_eq!(seen, [(RAM_BASE + 64, 1, 77, vec![]), (RAM_BASE + 128, 1, 78, vec![])]);
}

#[test]
fn the_last_hart_to_stop_ends_the_machine() {
    let program: Program = Box::new(|_| ecall(hsm_spec::EID_HSM, hsm_spec::HART_STOP, [0; 3]));
    let (vm, _) = machine(vec![program, nothing()]);
    assert_eq!(vm.run_in_turn(&Virtual::default()), Outcome::AllCpusStopped);
}

#[test]
fn resets() {
    let call = |kind, reason| {
        let program: Program = Box::new(move |regs| match regs.step {
            0 => ecall(srst::EID_SRST, 0, [kind, reason, 0]),
            _ => {
                // What is refused returns; what is done does not.
                assert_eq!(regs.gpr[10], INVALID_PARAM);
                ecall(legacy::LEGACY_SHUTDOWN, 0, [0; 3])
            }
        });
        let (vm, _) = machine(vec![program]);
        let outcome = vm.run_in_turn(&Virtual::default());
        assert_eq!(vm.cpus().get(0).unwrap().vcpu().state(), VCpuState::Free);
        (outcome, vm.total_stats().count(ExitKind::Hypercall))
    };
    for (kind, reason, outcome) in [
        (0, 0, Outcome::PowerOff),
        (1, 0, Outcome::Reboot { warm: false }),
        (2, 0, Outcome::Reboot { warm: true }),
        (0, 1, Outcome::Crashed { reboot: false }),
        (1, 1, Outcome::Crashed { reboot: true }),
        (2, 1, Outcome::Crashed { reboot: true }),
    ] {
        assert_eq!(call(kind, reason), (outcome, 1));
    }
    for (kind, reason) in [(3, 0), (0xf000_0000, 0), (0, 2), (0, 0xe000_0000)] {
        assert_eq!(call(kind, reason), (Outcome::PowerOff, 2));
    }
}

#[test]
fn console_write() {
    let text = RAM_BASE + 0x1000;
    let write = |len, low, high| (dbcn::EID_DBCN, dbcn::CONSOLE_WRITE, [len, low, high]);
    let calls = vec![
        write(5, text, 0),
        write(0, text, 0),
        (dbcn::EID_DBCN, dbcn::CONSOLE_WRITE_BYTE, [0x121, 0, 0]),
        (legacy::LEGACY_CONSOLE_PUTCHAR, 0, [b'?'.into(), 0, 0]),
        write(1 << 20, text, 0), // more than is taken at once
        write(5, text, 1),
        write(5, 0x1000, 0),
        write(5, RAM_BASE + (8 << 20) - 4, 0),
        write(u64::MAX, text, 0),
        write(1, u64::MAX, 0),
    ];
    let (results, out) = answers(calls, |vm| vm.memory().write(text, b"hello").unwrap());
    assert_eq!(results[..3], [(0, 5), (0, 0), (0, 0)]);
    assert_eq!(results[3], (0, 0xdead));
    assert_eq!(results[4], (0, 256));
    assert!(results[5..].iter().all(|&result| result == (INVALID_PARAM, 0)));
    assert_eq!(out[..7], *b"hello!?");
    assert_eq!(out.len(), 7 + 256);
}

#[test]
fn console_read() {
    let buffer = RAM_BASE + 0x1000;
    let read = |len, low, high| (dbcn::EID_DBCN, dbcn::CONSOLE_READ, [len, low, high]);
    let calls = vec![
        (legacy::LEGACY_CONSOLE_GETCHAR, 0, [0; 3]),
        read(3, buffer, 0),
        read(8, 0, 0), // refused without taking anything
        read(8, buffer + 3, 0),
        read(8, buffer, 0),
        (legacy::LEGACY_CONSOLE_GETCHAR, 0, [0; 3]),
    ];
    let (results, _) = answers(calls, |vm| assert_eq!(vm.push_console_input(b"abcdef"), 6));
    let expected = [(97, 0xdead), (0, 3), (INVALID_PARAM, 0), (0, 2), (0, 0), (u64::MAX, 0xdead)];
    assert_eq!(results, expected);
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
    let ids = [
        base::EID_BASE,
        spi::EID_SPI,
        rfnc::EID_RFNC,
        hsm_spec::EID_HSM,
        dbcn::EID_DBCN,
        legacy::LEGACY_CONSOLE_GETCHAR,
        pmu::EID_PMU,
    ];
    let interesting = [0, 1, 2, 0x1000, RAM_BASE, RAM_BASE + (8 << 20), 1 << 31, 1 << 63, u64::MAX];
    let program: Program = Box::new(move |regs: &mut Regs| {
        if regs.step == 20_000 {
            return shutdown();
        }
        let nr = ids[next() as usize % ids.len()] as u64;
        let function = next() % 6;
        if nr == hsm_spec::EID_HSM as u64 && function == hsm_spec::HART_STOP as u64 {
            return Exit::Nothing; // would end the test
        }
        let mut arg = || match next() % 3 {
            0 => next(),
            _ => interesting[next() as usize % interesting.len()].wrapping_add(next() % 3),
        };
        let args = core::array::from_fn(|_| arg());
        Exit::Hypercall { nr, function, args }
    });
    let idle = || -> Program { Box::new(|_| Exit::Halt { wake_after_ns: Some(1000) }) };
    let config = crate::riscv::RiscvVmConfig { cpus: 3, kernel: b"k", ..Default::default() };
    let console = Arc::new(Console::default());
    let vm = build(&config, 8 << 20, vec![program, idle(), idle()], console).unwrap();
    assert_eq!(vm.run_in_turn(&Virtual::default()), Outcome::PowerOff);
}
