//! Interrupts: what is pending, what is enabled, which comes first, and waiting for one.

use std::time::{Duration, Instant};

use axvcpu::{AxError, AxVCpuExitReason, VCpuState};
use axvcpu_riscv::asm::*;
use axvcpu_riscv::csr::sstatus::SPIE;
use axvcpu_riscv::paging::SV39;
use axvcpu_soft::Clock;

use crate::machine::{Machine, RAM};
use crate::probe::{CODE, How, Probe};

const INTERRUPT: u64 = 1 << 63;
const VECTORS: [u64; 3] = [1, 5, 9];
const OPEN: How = How { status: SPIE, ..How::S };

/// Sets `sie` and clears what is pending of software interrupts.
fn enable(probe: &Probe, mask: u64) {
    probe.set(T1, mask);
    probe.run(
        |a| {
            a.csrw(csrs::SIE, T1);
            a.csrw(csrs::SIP, ZERO)
        },
        How::S,
    );
}

fn pending(probe: &Probe) -> u64 {
    probe.run(|a| a.csrr(A5, csrs::SIP), How::S);
    probe.get(A5)
}

/// Each interrupt by itself: taken before the first instruction if it is enabled, pending until then.
#[test]
fn what_is_enabled_is_taken() {
    for vector in VECTORS {
        for enabled in [0, 1 << 1, 1 << 5, 1 << 9, 0x222] {
            for how in [How::S, OPEN, How::U, How { user: true, ..OPEN }] {
                let probe = Probe::paged(SV39);
                enable(&probe, enabled);
                probe.machine.vcpu.inject_interrupt(vector as usize).unwrap();
                assert_eq!(pending(&probe), 1 << vector);
                let trap = probe.execute(|a| a.nop(), how).unwrap();
                let open = how.user || how.status & SPIE != 0;
                let start = probe.place(CODE, how);
                if enabled & 1 << vector != 0 && open {
                    assert_eq!((trap.cause, trap.value, trap.pc), (INTERRUPT | vector, 0, start));
                    assert_eq!(trap.status & 1 << 8, if how.user { 0 } else { 1 << 8 });
                    assert_eq!(trap.status & SPIE, how.status);
                    // An edge is over; the software interrupt is the guest's to clear.
                    assert_eq!(pending(&probe), if vector == 1 { 2 } else { 0 });
                    probe.run(|a| a.csrrci(ZERO, csrs::SIP, 2), How::S);
                    assert_eq!(probe.execute(|a| a.nop(), how).unwrap().cause, 3);
                } else {
                    assert_eq!(trap.cause, 3);
                    assert_eq!(pending(&probe), 1 << vector, "it is not lost");
                }
            }
        }
    }
}

/// Whatever unmasks an interrupt is the last instruction before it is taken.
#[test]
fn unmasking_takes_effect_at_once() {
    const WAYS: [fn(&mut Asm); 3] = [
        |a| a.csrrsi(ZERO, csrs::SSTATUS, 2),
        |a| a.csrrs(ZERO, csrs::SIE, T1),
        |a| a.csrrsi(ZERO, csrs::SIP, 2),
    ];
    for (i, way) in WAYS.into_iter().enumerate() {
        let probe = Probe::bare();
        enable(&probe, if i == 1 { 0 } else { 2 });
        if i < 2 {
            probe.machine.vcpu.inject_interrupt(1).unwrap();
        }
        probe.set(T1, 2);
        let code = |a: &mut Asm| {
            a.nop();
            way(a);
            a.li(A5, 1);
        };
        probe.set(A5, 0);
        let trap = probe.execute(code, if i == 0 { How::S } else { OPEN }).unwrap();
        assert_eq!((trap.cause, trap.pc, probe.get(A5)), (INTERRUPT | 1, CODE + 8, 0), "{i}");
    }
}

#[test]
fn external_before_software_before_timer() {
    let probe = Probe::bare();
    enable(&probe, 0x222);
    for vector in VECTORS {
        probe.machine.vcpu.inject_interrupt(vector as usize).unwrap();
    }
    let next = || {
        let cause = probe.execute(|a| a.nop(), OPEN).unwrap().cause;
        if cause == INTERRUPT | 1 {
            probe.run(|a| a.csrw(csrs::SIP, ZERO), How::S);
        }
        cause & !INTERRUPT
    };
    assert_eq!([next(), next(), next(), next()], [9, 1, 5, 3]);
    // The same vector twice before it is taken is one interrupt.
    for _ in 0..2 {
        probe.machine.vcpu.inject_interrupt(5).unwrap();
    }
    assert_eq!([next(), next()], [5, 3]);
}

/// A line interrupts for as long as it is up, an edge once; the guest cannot change either.
#[test]
fn lines_and_edges() {
    let probe = Probe::bare();
    enable(&probe, 0x222);
    let vcpu = &probe.machine.vcpu;
    let next = || probe.execute(|a| a.nop(), OPEN).unwrap().cause & !INTERRUPT;
    for _ in 0..3 {
        vcpu.set_interrupt_line(9, true).unwrap();
        assert_eq!([next(), next(), next()], [9, 9, 9]);
        assert_eq!(pending(&probe), 1 << 9);
        probe.run(|a| a.csrw(csrs::SIP, ZERO), How::S);
        assert_eq!(next(), 9);
        vcpu.set_interrupt_line(9, false).unwrap();
        assert_eq!(next(), 3);
        assert_eq!(pending(&probe), 0);
    }
    // An edge under a line, and a line that falls before it was seen.
    vcpu.set_interrupt_line(9, true).unwrap();
    vcpu.inject_interrupt(9).unwrap();
    assert_eq!([next(), next()], [9, 9]);
    vcpu.set_interrupt_line(9, false).unwrap();
    assert_eq!(next(), 3);
    vcpu.inject_interrupt(9).unwrap();
    vcpu.set_interrupt_line(9, true).unwrap();
    vcpu.set_interrupt_line(9, false).unwrap();
    assert_eq!([next(), next()], [9, 3]);
    // Only the software interrupt can be made by the guest.
    probe.set(T1, u64::MAX);
    probe.run(
        |a| {
            a.csrw(csrs::SIP, T1);
            a.csrr(A5, csrs::SIP);
            a.csrw(csrs::SIP, ZERO)
        },
        How::S,
    );
    assert_eq!(probe.get(A5), 2);
}

/// What the hart has no such interrupt for is refused, and the guest goes on.
#[test]
fn vectors_that_do_not_exist() {
    let probe = Probe::bare();
    let vcpu = &probe.machine.vcpu;
    for vector in [0, 2, 3, 4, 6, 7, 8, 10, 11, 12, 13, 63, 64, 1023] {
        vcpu.inject_interrupt(vector).unwrap();
        assert_eq!(vcpu.run(), Err(AxError::InterruptFailed { vector }));
        assert_eq!(vcpu.state(), VCpuState::Ready);
        if vector < 64 {
            vcpu.set_interrupt_line(vector, true).unwrap();
            assert_eq!(vcpu.run(), Err(AxError::InterruptFailed { vector }));
        }
    }
    assert_eq!(pending(&probe), 0);
}

/// The handler of a vectored `stvec` is at four times the number.
#[test]
fn vectored_handlers() {
    for vector in VECTORS {
        let mut a = Asm::new(RAM);
        let table = a.label();
        a.la(T0, table);
        a.addi(T0, T0, 1);
        a.csrw(csrs::STVEC, T0);
        a.li(T1, 0x222);
        a.csrw(csrs::SIE, T1);
        a.li(A0, 100);
        a.csrrsi(ZERO, csrs::SSTATUS, 2);
        let spin = a.here_label();
        a.j(spin);
        a.align(64);
        a.bind(table);
        let end = a.label();
        for number in 0..16 {
            let entry = a.here();
            a.c_li(A0, number);
            a.c_j(end);
            assert_eq!(a.here(), entry + 4);
        }
        a.bind(end);
        a.li(A7, 77);
        a.ecall();
        let machine = Machine::new(a);
        machine.vcpu.inject_interrupt(vector as usize).unwrap();
        machine.until(77);
        assert_eq!(machine.x(10), vector);
    }
}

/// `wfi` ends with any pending interrupt that is enabled in `sie`, whether or not it can be taken.
#[test]
fn waiting() {
    let halt = Err(AxVCpuExitReason::Halt { wake_after_ns: None });
    for vector in VECTORS {
        let probe = Probe::bare();
        let vcpu = &probe.machine.vcpu;
        let wait = |how| {
            probe.execute(
                |a| {
                    a.nop();
                    a.wfi();
                    a.li(A5, 1)
                },
                how,
            )
        };
        enable(&probe, 1 << vector);
        // Nothing pending: it waits, and goes on for any reason or none.
        assert_eq!(wait(How::S), halt);
        assert_eq!(vcpu.state(), VCpuState::Blocked);
        vcpu.wake();
        assert_eq!(vcpu.state(), VCpuState::Ready);
        assert_eq!(probe.resume().unwrap().pc, CODE + 12);
        // An interrupt that cannot be taken ends the wait; one that can is taken behind the instruction.
        assert_eq!(wait(How::S), halt);
        vcpu.inject_interrupt(vector as usize).unwrap();
        assert_eq!(vcpu.state(), VCpuState::Ready);
        assert_eq!(probe.resume().unwrap().pc, CODE + 12);
        assert_eq!(wait(How::S).unwrap().pc, CODE + 12, "pending already");
        assert_eq!(probe.execute(|_| {}, OPEN).unwrap().cause, INTERRUPT | vector);
        probe.run(|a| a.csrw(csrs::SIP, ZERO), How::S);
        assert_eq!(wait(OPEN), halt);
        vcpu.inject_interrupt(vector as usize).unwrap();
        let trap = probe.resume().unwrap();
        assert_eq!((trap.cause, trap.pc), (INTERRUPT | vector, CODE + 8));
        // Pending but not enabled: it waits.
        enable(&probe, 0);
        vcpu.inject_interrupt(vector as usize).unwrap();
        assert_eq!(wait(OPEN), halt);
        vcpu.kick();
        assert_eq!(vcpu.run().unwrap(), AxVCpuExitReason::Nothing);
        assert_eq!(probe.resume().unwrap().pc, CODE + 12);
    }
}

/// A reset forgets edges and enables; a line that is still up is seen again.
#[test]
fn interrupts_and_reset() {
    let mut a = Asm::new(RAM);
    a.csrr(A0, csrs::SIP);
    a.csrr(A1, csrs::SIE);
    a.csrr(A2, csrs::STIMECMP);
    a.li(T0, 0x222);
    a.csrw(csrs::SIE, T0);
    a.li(A7, 77);
    a.ecall();
    let machine = Machine::new(a);
    for line in [false, true] {
        machine.vcpu.set_interrupt_line(9, line).unwrap();
        machine.until(77);
        for vector in VECTORS {
            machine.vcpu.inject_interrupt(vector as usize).unwrap();
        }
        machine.vcpu.kick();
        assert_eq!(machine.run(), AxVCpuExitReason::Nothing);
        machine.vcpu.reset().unwrap();
        machine.until(77);
        let expected = [if line { 1 << 9 } else { 0 }, 0, u64::MAX];
        assert_eq!([machine.x(10), machine.x(11), machine.x(12)], expected);
        machine.vcpu.reset().unwrap();
    }
}

fn host_ns() -> u64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

/// A guest that loops hears of interrupts, and its host of kicks, while it runs.
#[test]
fn from_another_thread() {
    let mut a = Asm::new(RAM);
    let handler = a.label();
    a.la(T0, handler);
    a.csrw(csrs::STVEC, T0);
    a.li(T1, 0x222);
    a.csrw(csrs::SIE, T1);
    a.csrrsi(ZERO, csrs::SSTATUS, 2);
    let spin = a.here_label();
    a.addi(A0, A0, 1);
    a.j(spin);
    a.align(4);
    a.bind(handler);
    a.csrr(A1, csrs::SCAUSE);
    a.csrw(csrs::SIP, ZERO);
    a.li(A7, 77);
    a.ecall();
    a.sret();
    let machine = Machine::with_clock(a, Clock::Host(host_ns));
    let vcpu = &machine.vcpu;
    std::thread::scope(|scope| {
        for round in 0..30 {
            let vector = [1, 5, 9][round % 3];
            let kicker = scope.spawn(move || {
                while vcpu.state() != VCpuState::Running {
                    std::thread::yield_now();
                }
                std::thread::sleep(Duration::from_micros(200));
                let posted = Instant::now();
                vcpu.inject_interrupt(vector).unwrap();
                posted
            });
            machine.until(77);
            let latency = kicker.join().unwrap().elapsed();
            assert_eq!(machine.x(11), INTERRUPT | vector as u64);
            assert!(latency < Duration::from_secs(5), "{latency:?}");
            let kicker = scope.spawn(move || {
                while vcpu.state() != VCpuState::Running {
                    std::thread::yield_now();
                }
                std::thread::sleep(Duration::from_micros(200));
                vcpu.kick();
            });
            assert_eq!(machine.run(), AxVCpuExitReason::Nothing);
            kicker.join().unwrap();
        }
    });
    // A kick that came before is used up at the door.
    vcpu.kick();
    vcpu.kick();
    let before = machine.instructions();
    assert_eq!(machine.run(), AxVCpuExitReason::Nothing);
    assert_eq!(machine.instructions(), before);
}
