//! `lr`, `sc` and the AMOs.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use axvcpu::{AxVCpuExitReason, GuestPhysAddr};
use axvcpu_riscv::asm::*;
use axvcpu_riscv::paging::{SV39, pte};
use axvcpu_soft::Clock;

use crate::machine::{DEVICE, Machine, RAM, exit};
use crate::probe::{DATA, How, Kind, OPS, Probe};
use crate::tables::ALL;

#[rustfmt::skip]
const VALUES: &[u64] = &[
    0, 1, 2, u64::MAX, u64::MAX - 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0x1_0000_0000, 0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000, 0x8000_0000_7fff_ffff, 0x7fff_ffff_8000_0000, 0x0123_4567_89ab_cdef,
];

/// What an AMO leaves in memory.
fn amo(name: &str, memory: u64, operand: u64) -> u64 {
    let (what, width) = name[3..].split_once('.').unwrap();
    if width == "w" {
        let (a, b) = (memory as u32, operand as u32);
        let result = match what {
            "swap" => b,
            "add" => a.wrapping_add(b),
            "xor" => a ^ b,
            "and" => a & b,
            "or" => a | b,
            "min" => (a as i32).min(b as i32) as u32,
            "max" => (a as i32).max(b as i32) as u32,
            "minu" => a.min(b),
            _ => a.max(b),
        };
        return memory & !0xffff_ffff | u64::from(result);
    }
    let (a, b) = (memory, operand);
    match what {
        "swap" => b,
        "add" => a.wrapping_add(b),
        "xor" => a ^ b,
        "and" => a & b,
        "or" => a | b,
        "min" => (a as i64).min(b as i64) as u64,
        "max" => (a as i64).max(b as i64) as u64,
        "minu" => a.min(b),
        _ => a.max(b),
    }
}

#[test]
fn amo_results() {
    let probe = Probe::bare();
    for op in OPS.iter().filter(|op| op.name.starts_with("amo")) {
        for &memory in VALUES {
            for &operand in VALUES {
                probe.machine.write_u64(DATA, memory);
                probe.set(A3, operand);
                assert_eq!(probe.access(op.name, DATA, How::S).unwrap().cause, 3);
                let old = if op.bytes == 4 { memory as i32 as u64 } else { memory };
                assert_eq!(probe.get(A5), old, "{}", op.name);
                let expected = amo(op.name, memory, operand);
                assert_eq!(
                    probe.machine.read_u64(DATA),
                    expected,
                    "{} {memory:#x} {operand:#x}",
                    op.name
                );
            }
        }
    }
    // The upper word, and registers that coincide.
    probe.machine.write_u64(DATA, 5 << 32 | 7);
    probe.set(A3, 2);
    assert_eq!(probe.access("amoadd.w", DATA + 4, How::S).unwrap().cause, 3);
    assert_eq!(probe.machine.read_u64(DATA), 7 << 32 | 7);
    probe.set(A1, DATA);
    probe.run(
        |a| {
            a.amoadd_d(ZERO, A3, A1, Order::Relaxed);
            a.amoadd_d(A3, A3, A1, Order::Relaxed)
        },
        How::S,
    );
    assert_eq!((probe.get(A3), probe.machine.read_u64(DATA)), (7 << 32 | 9, 7 << 32 | 11));
    probe.run(|a| a.amoadd_w(A1, A1, A1, Order::Relaxed), How::S);
    assert_eq!(probe.get(A1), 11);
}

/// Nothing but aligned atomics, whatever lies there.
#[test]
fn misaligned_atomics() {
    let probe = Probe::paged(SV39);
    let va = probe.tables().free(0);
    for op in OPS.iter().filter(|op| matches!(op.kind, Kind::Reserve | Kind::Atomic)) {
        for offset in (0..16).filter(|offset| offset % op.bytes != 0) {
            for at in [DATA + offset, va + offset] {
                let trap = probe.access(op.name, at, How::S).unwrap();
                let cause = if op.kind == Kind::Reserve { 4 } else { 6 };
                let pc = probe.stub(op.name, How::S);
                assert_eq!((trap.cause, trap.value, trap.pc), (cause, at, pc), "{}", op.name);
            }
        }
    }
}

/// Devices have no atomics.
#[test]
fn atomics_on_devices() {
    let probe = Probe::bare();
    for op in OPS.iter().filter(|op| matches!(op.kind, Kind::Reserve | Kind::Atomic)) {
        let exit = probe.access(op.name, DEVICE + 8, How::S).unwrap_err();
        let access = if op.kind == Kind::Reserve {
            axvcpu::AccessKind::Read
        } else {
            axvcpu::AccessKind::Write
        };
        let addr = GuestPhysAddr::new(DEVICE + 8);
        assert_eq!(exit, AxVCpuExitReason::NestedPageFault { addr, access }, "{}", op.name);
        probe.machine.vcpu.fail_access().unwrap();
        assert_eq!(probe.resume().unwrap().cause, op.kind.access_fault());
    }
}

/// A piece of code, and what it leaves in `a5` (the results of its `sc`s as digits) and in memory.
type Case = (&'static str, fn(&mut Asm), u64, u64);

/// Adds the result in `t1` to `a5` as a further decimal digit.
fn note(a: &mut Asm) {
    a.li(T2, 10);
    a.mul(A5, A5, T2);
    a.add(A5, A5, T1);
}

#[test]
fn reservations() {
    const CASES: &[Case] = &[
        (
            "pair",
            |a| {
                a.lr_d(T3, A1, Order::Relaxed);
                a.sc_d(T1, A3, A1, Order::Relaxed);
                note(a)
            },
            0,
            9,
        ),
        (
            "no lr",
            |a| {
                a.sc_d(T1, A3, A1, Order::Relaxed);
                note(a)
            },
            1,
            5,
        ),
        (
            "twice",
            |a| {
                a.lr_d(T3, A1, Order::Relaxed);
                a.sc_d(T1, A3, A1, Order::Relaxed);
                note(a);
                a.sc_d(T1, A2, A1, Order::Relaxed);
                note(a)
            },
            1,
            9,
        ),
        (
            "elsewhere, which also ends it",
            |a| {
                a.lr_d(T3, A1, Order::Relaxed);
                a.addi(T4, A1, 8);
                a.sc_d(T1, A3, T4, Order::Relaxed);
                note(a);
                a.sc_d(T1, A3, A1, Order::Relaxed);
                note(a)
            },
            11,
            5,
        ),
        (
            "another value came between",
            |a| {
                a.lr_d(T3, A1, Order::Relaxed);
                a.li(T4, 6);
                a.amoswap_d(ZERO, T4, A1, Order::Relaxed);
                a.sc_d(T1, A3, A1, Order::Relaxed);
                note(a)
            },
            1,
            6,
        ),
        (
            "word, then doubleword",
            |a| {
                a.lr_w(T3, A1, Order::Relaxed);
                a.sc_d(T1, A3, A1, Order::Relaxed);
                note(a)
            },
            1,
            5,
        ),
        (
            "the last lr counts",
            |a| {
                a.addi(T4, A1, 8);
                a.lr_d(T3, T4, Order::Relaxed);
                a.lr_d(T3, A1, Order::Relaxed);
                a.sc_d(T1, A3, T4, Order::Relaxed);
                note(a);
                a.lr_d(T3, T4, Order::Relaxed);
                a.lr_d(T3, A1, Order::Relaxed);
                a.sc_d(T1, A3, A1, Order::Relaxed);
                note(a)
            },
            10,
            9,
        ),
        (
            "words",
            |a| {
                a.lr_w(T3, A1, Order::Acquire);
                a.sc_w(T1, A3, A1, Order::Release);
                note(a)
            },
            0,
            9,
        ),
        (
            "the result in the register stored",
            |a| {
                a.mv(T1, A3);
                a.lr_d(T3, A1, Order::Relaxed);
                a.sc_d(T1, T1, A1, Order::Relaxed);
                note(a)
            },
            0,
            9,
        ),
    ];
    let probe = Probe::bare();
    for &(what, code, digits, memory) in CASES {
        probe.machine.write_u64(DATA, 5);
        probe.machine.write_u64(DATA + 8, 5);
        for (register, value) in [(A1, DATA), (A2, 77), (A3, 9), (A5, 0)] {
            probe.set(register, value);
        }
        probe.run(code, How::S);
        assert_eq!((probe.get(A5), probe.machine.read_u64(DATA)), (digits, memory), "{what}");
        assert_eq!(probe.machine.read_u64(DATA + 8), 5, "{what}");
    }
}

/// What the hypervisor or a device stores between `lr` and `sc` is seen.
#[test]
fn a_store_from_outside_ends_the_reservation() {
    let probe = Probe::bare();
    for (stored, result) in [(6, 1), (5, 0)] {
        probe.machine.write_u64(DATA, 5);
        probe.set(A1, DATA);
        probe.set(A3, 9);
        let code = |a: &mut Asm| {
            a.lr_d(T3, A1, Order::Relaxed);
            a.li(T4, DEVICE as i64);
            a.sd(ZERO, 0, T4);
            a.sc_d(A5, A3, A1, Order::Relaxed);
        };
        assert!(probe.execute(code, How::S).is_err());
        probe.machine.write_u64(DATA, stored);
        assert_eq!(probe.resume().unwrap().cause, 3);
        assert_eq!(probe.get(A5), result);
        assert_eq!(probe.machine.read_u64(DATA), if result == 0 { 9 } else { 6 });
    }
}

/// A reset forgets the reservation.
#[test]
fn reservations_and_reset() {
    let mut a = Asm::new(RAM);
    let second = a.label();
    a.li(A1, DATA as i64);
    a.amoadd_d(T1, ZERO, A1, Order::Relaxed);
    a.ld(T1, 8, A1);
    a.bnez(T1, second);
    a.lr_d(T2, A1, Order::Relaxed);
    done(&mut a);
    a.bind(second);
    a.sc_d(A0, A1, A1, Order::Relaxed);
    done(&mut a);
    let machine = Machine::new(a);
    for reset in [false, true] {
        machine.write_u64(DATA + 8, 0);
        machine.vcpu.reset().unwrap();
        machine.until(77);
        machine.write_u64(DATA + 8, 1);
        if reset {
            machine.vcpu.reset().unwrap();
        } else {
            machine.vcpu.set_entry(GuestPhysAddr::new(RAM)).unwrap();
        }
        machine.until(77);
        assert_eq!(machine.x(10), u64::from(reset));
    }
}

/// `lr` of a page that cannot be written is fine, `sc` to it is not.
#[test]
fn reservations_and_permissions() {
    let probe = Probe::paged(SV39);
    let va = probe.tables().free(1);
    probe.tables().map(&probe.machine, va, 0, DATA, ALL & !pte::W);
    probe.set(A1, va);
    assert_eq!(probe.access("lr.w", va, How::S.fence(How::ALL)).unwrap().cause, 3);
    let trap = probe.access("sc.w", va, How::S).unwrap();
    assert_eq!((trap.cause, trap.value), (15, va));
    // Words are sign-extended.
    probe.machine.write_u64(DATA, 0x1234_5678_8000_0001);
    assert_eq!(probe.access("lr.w", va, How::S).unwrap().cause, 3);
    assert_eq!(probe.get(A5), 0xffff_ffff_8000_0001);
}

fn host_ns() -> u64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

/// Runs one vCPU for each entry on a thread of its own until all have called the hypervisor.
fn in_parallel(machine: &Machine, entries: &[u64]) {
    let started = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for (id, &entry) in entries.iter().enumerate() {
            let started = &started;
            scope.spawn(move || {
                let vcpu = machine.another(id + 1, Clock::Host(host_ns), entry);
                vcpu.bind().unwrap();
                started.fetch_add(1, Ordering::SeqCst);
                while started.load(Ordering::SeqCst) < entries.len() {
                    std::thread::yield_now();
                }
                let exit = exit(&vcpu);
                assert!(matches!(exit, AxVCpuExitReason::Hypercall { nr: 77, .. }), "{exit:?}");
                vcpu.unbind().unwrap();
            });
        }
    });
}

fn done(a: &mut Asm) {
    a.li(A7, 77);
    a.ecall();
}

/// No increment is lost, however it is made.
#[test]
fn counters_shared_by_vcpus() {
    const ROUNDS: i64 = 100_000;
    let mut a = Asm::new(RAM);
    a.li(A1, DATA as i64);
    a.li(A3, 1);
    a.li(T6, ROUNDS);
    let top = a.here_label();
    a.amoadd_d(ZERO, A3, A1, Order::Relaxed);
    for (offset, word) in [(64, false), (128, true)] {
        a.addi(A2, A1, offset);
        let again = a.here_label();
        if word {
            a.lr_w(T1, A2, Order::Acquire);
            a.addi(T1, T1, 1);
            a.sc_w(T2, T1, A2, Order::Release);
        } else {
            a.lr_d(T1, A2, Order::Relaxed);
            a.addi(T1, T1, 1);
            a.sc_d(T2, T1, A2, Order::Relaxed);
        }
        a.bnez(T2, again);
    }
    // A lock by swapping, around a plain increment.
    a.addi(A2, A1, 192);
    let spin = a.here_label();
    a.amoswap_w(T1, A3, A2, Order::Acquire);
    a.bnez(T1, spin);
    a.ld(T2, 64, A2);
    a.addi(T2, T2, 1);
    a.sd(T2, 64, A2);
    a.amoswap_w(ZERO, ZERO, A2, Order::Release);
    a.addi(T6, T6, -1);
    a.bnez(T6, top);
    done(&mut a);
    let machine = Machine::new(a);
    in_parallel(&machine, &[RAM; 3]);
    for offset in [0, 64, 128, 256] {
        assert_eq!(machine.read_u64(DATA + offset), 3 * ROUNDS as u64, "at {offset}");
    }
}

/// Message passing: who has seen the flag sees the data. Store buffering: of two that store and then load, one
/// sees the other's store.
#[test]
fn fences_order_memory() {
    const ROUNDS: i64 = 100_000;
    let mut a = Asm::new(RAM);
    let writer = a.here();
    a.li(A1, DATA as i64);
    a.li(T6, 1);
    a.li(T5, ROUNDS);
    let top = a.here_label();
    a.sd(T6, 0, A1);
    a.fence(0b0001, 0b0001);
    a.sd(T6, 128, A1);
    a.addi(T6, T6, 1);
    a.bge(T5, T6, top);
    done(&mut a);
    let reader = a.here();
    a.li(A1, DATA as i64);
    a.li(T5, ROUNDS);
    let (top, good) = (a.here_label(), a.label());
    a.ld(T1, 128, A1);
    a.fence(0b0010, 0b0010);
    a.ld(T2, 0, A1);
    a.bgeu(T2, T1, good);
    a.li(T3, 1);
    a.sd(T3, 256, A1);
    a.bind(good);
    a.blt(T1, T5, top);
    done(&mut a);
    // Store buffering, a slot of its own for each round.
    let buffering: Vec<u64> = [(0, 8), (8, 0)]
        .into_iter()
        .map(|(mine, other)| {
            let entry = a.here();
            a.li(A1, DATA as i64 + 0x1000);
            a.li(T5, 20_000);
            a.li(T6, 1);
            let top = a.here_label();
            a.sd(T6, mine, A1);
            a.fence(0b0011, 0b0011);
            a.ld(T1, other, A1);
            a.sd(T1, mine + 16, A1);
            a.addi(A1, A1, 32);
            a.addi(T5, T5, -1);
            a.bnez(T5, top);
            done(&mut a);
            entry
        })
        .collect();
    let machine = Machine::new(a);
    in_parallel(&machine, &[writer, reader]);
    assert_eq!(machine.read_u64(DATA + 256), 0, "the flag was seen before the data");
    in_parallel(&machine, &buffering);
    for round in 0..20_000 {
        let at = DATA + 0x1000 + 32 * round;
        let seen = machine.read_u64(at + 16) + machine.read_u64(at + 24);
        assert_ne!(seen, 0, "round {round}: both missed the other's store");
    }
}
