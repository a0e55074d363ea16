//! The `time` counter and the timer: `stimecmp`, and SBI's calls for it.

use std::sync::atomic::{AtomicU64, Ordering};

use axvcpu::AxVCpuExitReason;
use axvcpu_riscv::asm::*;
use axvcpu_riscv::csr::sstatus::SPIE;
use axvcpu_soft::{Clock, NS_PER_TICK};

use crate::machine::{Machine, RAM};
use crate::probe::{CODE, How, Probe, server};

const TIMER: u64 = 1 << 63 | 5;
const OPEN: How = How { status: SPIE, ..How::S };
const SBI_TIME: i64 = 0x5449_4d45;

fn enable(probe: &Probe) {
    probe.run(
        |a| {
            a.li(T1, 1 << 5);
            a.csrw(csrs::SIE, T1)
        },
        How::S,
    );
}

fn now(probe: &Probe) -> u64 {
    probe.run(|a| a.csrr(A5, csrs::TIME), How::S);
    probe.get(A5)
}

/// An instruction takes a nanosecond, and so does a trap; a tick 100 of them; waiting takes none.
#[test]
fn time_by_instructions() {
    let probe = Probe::bare();
    let clock = probe.machine.clock.clone().unwrap();
    let start = now(&probe);
    for loops in [100_u64, 5_000, 100_000] {
        probe.set(T3, loops);
        probe.run(
            |a| {
                a.csrr(T1, csrs::TIME);
                let top = a.here_label();
                a.addi(T3, T3, -1);
                a.bnez(T3, top);
                a.csrr(T2, csrs::TIME);
            },
            How::S,
        );
        let ticks = probe.get(T2) - probe.get(T1);
        let expected = 2 * loops / NS_PER_TICK;
        assert!((expected..=expected + 1).contains(&ticks), "{ticks} for {loops} loops");
    }
    // What ends the probe's code is a trap, this far four times.
    assert_eq!(clock.now_ns(), probe.machine.instructions() + 4);
    let before = now(&probe);
    assert!(before > start);
    clock.advance_to_ns(1_000_000_000);
    clock.advance_to_ns(5); // the past changes nothing
    let after = now(&probe);
    assert!((10_000_000..10_000_010).contains(&after), "{after}");
}

/// A hart that only traps executes nothing, and time passes all the same: others may wait for it.
#[test]
fn time_passes_for_a_hart_that_only_traps() {
    let mut illegal = Asm::new(RAM);
    let handler = illegal.label();
    illegal.la(T1, handler);
    illegal.csrw(csrs::STVEC, T1);
    illegal.bind(handler);
    illegal.word(0);
    let mut nowhere = Asm::new(RAM);
    nowhere.csrw(csrs::STVEC, ZERO);
    nowhere.word(0);
    // Within the hart, and by way of the hypervisor, whose answer is that there is nothing.
    for (code, exits) in [(illegal, false), (nowhere, true)] {
        let machine = Machine::new(code);
        let clock = machine.clock.clone().unwrap();
        let due = 1_000 * NS_PER_TICK;
        for turn in 0.. {
            assert!(turn < 2_000, "{} ns after so many turns", clock.now_ns());
            let before = clock.now_ns();
            match machine.run() {
                AxVCpuExitReason::Nothing => assert!(!exits),
                AxVCpuExitReason::NestedPageFault { .. } => {
                    assert!(exits);
                    machine.vcpu.fail_access().unwrap();
                }
                exit => panic!("{exit:?}"),
            }
            assert!(clock.now_ns() > before);
            if clock.now_ns() >= due {
                break;
            }
        }
        assert!(machine.instructions() < 20);
    }
}

static NOW: AtomicU64 = AtomicU64::new(0);

/// The host's clock, in ticks.
#[test]
fn time_by_the_host() {
    let clock = Clock::Host(|| NOW.load(Ordering::Relaxed));
    let probe = Probe::on(Machine::with_clock(server(), clock), None);
    for ns in [0, 99, 100, 12_345, 1 << 40, u64::MAX] {
        NOW.store(ns, Ordering::Relaxed);
        assert_eq!(now(&probe), ns / 100);
    }
    // Time passes while the guest waits, and the timer fires.
    NOW.store(1000, Ordering::Relaxed);
    enable(&probe);
    probe.set(T1, 50);
    let exit = probe.execute(
        |a| {
            a.csrw(csrs::STIMECMP, T1);
            a.wfi()
        },
        How::S,
    );
    assert_eq!(exit, Err(AxVCpuExitReason::Halt { wake_after_ns: Some(4000) }));
    NOW.store(5000, Ordering::Relaxed);
    probe.machine.vcpu.wake();
    assert_eq!(probe.resume().unwrap().cause, 3);
    assert_eq!(probe.execute(|_| {}, OPEN).unwrap().cause, TIMER);
    // It fires in a loop as well.
    probe.set(T1, 60);
    probe.run(|a| a.csrw(csrs::STIMECMP, T1), How::S);
    NOW.store(5999, Ordering::Relaxed);
    probe.set(T1, 100_000);
    let looping = |a: &mut Asm| {
        let top = a.here_label();
        a.addi(T1, T1, -1);
        a.bnez(T1, top);
    };
    assert_eq!(probe.execute(looping, OPEN).unwrap().cause, 3);
    NOW.store(6000, Ordering::Relaxed);
    probe.set(T1, u64::MAX);
    assert_eq!(probe.execute(looping, OPEN).unwrap().cause, TIMER);
}

/// What sets the timer to the value in `a0`.
type Set = fn(&mut Asm);
const WAYS: [(&str, Set); 3] = [
    ("stimecmp", |a| a.csrw(csrs::STIMECMP, A0)),
    ("SBI TIME", |a| {
        a.li(A7, SBI_TIME);
        a.li(A6, 0);
        a.ecall()
    }),
    ("legacy SBI", |a| {
        a.li(A7, 0);
        a.li(A6, 1234);
        a.ecall()
    }),
];

/// The timer fires when it is due, not before, and within a slice.
#[test]
fn the_timer_fires() {
    for (name, set) in WAYS {
        let probe = Probe::bare();
        enable(&probe);
        for distance in [0, 1, 2, 10, 11, 100, 12_345] {
            let due = now(&probe) + distance + 2;
            probe.set(A1, due);
            let trap = probe.execute(
                |a| {
                    a.mv(A0, A1);
                    set(a);
                    a.li(T1, 0);
                    let top = a.here_label();
                    a.addi(T1, T1, 1);
                    a.j(top);
                },
                OPEN,
            );
            assert_eq!(trap.unwrap().cause, TIMER, "{name}");
            let late = probe.machine.clock.as_ref().unwrap().now_ns() - due * NS_PER_TICK;
            assert!(late < 1300, "{name} {distance}: {late} ns late");
            assert!(distance < 100 || probe.get(T1) > distance * 45, "{name}: too early");
            // Pending until it is set to later.
            probe.run(|a| a.csrr(A5, csrs::SIP), How::S);
            assert_eq!(probe.get(A5), 1 << 5);
            assert_eq!(probe.execute(|_| {}, OPEN).unwrap().cause, TIMER);
            probe.set(A1, u64::MAX);
            probe.run(
                |a| {
                    a.mv(A0, A1);
                    set(a);
                    a.csrr(A5, csrs::SIP)
                },
                How::S,
            );
            assert_eq!(probe.get(A5), 0, "{name}");
            assert_eq!(probe.execute(|a| a.nop(), OPEN).unwrap().cause, 3);
        }
    }
}

/// The calls answer as SBI says, without an exit, and touch nothing else.
#[test]
fn sbi_calls() {
    let probe = Probe::bare();
    for (name, set) in &WAYS[1..] {
        let kept = [RA, SP, GP, TP, T1, A2, A3, A5, S4, S8, T6];
        for (i, register) in kept.into_iter().enumerate() {
            probe.set(register, 1000 + i as u64);
        }
        probe.set(A1, 0x5555);
        let code = |a: &mut Asm| {
            a.li(A0, 0x1234);
            set(a);
            a.mv(S9, A0);
            a.mv(S10, A1);
            a.csrr(S11, csrs::STIMECMP);
        };
        assert_eq!(probe.execute(code, How::S).unwrap().cause, 3, "{name}");
        // The legacy call has one result, the others two.
        let a1 = if *name == "SBI TIME" { 0 } else { 0x5555 };
        assert_eq!([S9, S10, S11].map(|r| probe.get(r)), [0, a1, 0x1234], "{name}");
        for (i, register) in kept.into_iter().enumerate() {
            assert_eq!(probe.get(register), 1000 + i as u64, "{name}");
        }
    }
    // Functions that the extension does not have are the hypervisor's to refuse; users do not reach it.
    let exit = probe.execute(
        |a| {
            a.li(A7, SBI_TIME);
            a.li(A6, 1);
            a.ecall()
        },
        How::S,
    );
    let nr = SBI_TIME as u64;
    assert!(matches!(exit, Err(AxVCpuExitReason::Hypercall { nr: n, function: 1, .. }) if n == nr));
    assert_eq!(probe.resume().unwrap().cause, 3);
    let trap = probe
        .execute(
            |a| {
                a.li(A7, 0);
                a.ecall()
            },
            How::U,
        )
        .unwrap();
    assert_eq!((trap.cause, trap.pc), (8, CODE + 4));
}

/// How long the host may sleep.
#[test]
fn waiting_for_the_timer() {
    let probe = Probe::bare();
    let clock = probe.machine.clock.clone().unwrap();
    let wait = |due: u64| {
        probe.set(T1, due);
        probe.execute(
            |a| {
                a.csrw(csrs::STIMECMP, T1);
                a.wfi()
            },
            How::S,
        )
    };
    let halt = |wake_after_ns| Err(AxVCpuExitReason::Halt { wake_after_ns });
    // Not enabled, or never: it does not matter how long.
    assert_eq!(wait(1_000_000), halt(None));
    probe.machine.vcpu.wake();
    probe.resume().unwrap();
    enable(&probe);
    for never in [u64::MAX, u64::MAX / 100 + 1] {
        assert_eq!(wait(never), halt(None));
        probe.machine.vcpu.wake();
        probe.resume().unwrap();
    }
    let due = 2_000_000;
    let exit = wait(due);
    assert_eq!(exit, halt(Some(due * 100 - clock.now_ns())));
    clock.advance_to_ns(due * 100);
    probe.machine.vcpu.wake();
    assert_eq!(probe.resume().unwrap().cause, 3);
    assert_eq!(wait(due).unwrap().cause, 3, "due already");
    assert_eq!(wait(0).unwrap().cause, 3);
    assert_eq!(probe.execute(|_| {}, OPEN).unwrap().cause, TIMER);
    // Woken too early it waits for the rest.
    let exit = wait(2 * due);
    assert_eq!(exit, halt(Some(2 * due * 100 - clock.now_ns())));
}
