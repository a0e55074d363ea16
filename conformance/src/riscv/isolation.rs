//! What one vCPU sees of another: nothing.

use axvcpu_riscv::asm::*;
use axvcpu_riscv::csr::{irq, num};

use super::NamedCase;
use super::bench::Bench;
use super::float;
use super::guest::*;
use crate::Subject;
use crate::report::{Verdict, ensure_eq};

pub(super) fn cases<S: Subject>() -> [NamedCase<S>; 5] {
    [
        ("isolation: integer registers of vCPUs that take turns", integer),
        ("isolation: floating-point registers of vCPUs that take turns", float::isolation),
        ("isolation: floating-point registers before their first use", float::nothing_leaks),
        ("isolation: system registers of vCPUs that take turns", system),
        ("isolation: a reservation does not outlast another vCPU's store", reservation),
    ]
}

fn integer<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot_many(subject, 3, |g| {
        // Everything but what reporting uses, a multiple of the vCPU's number plus 1.
        let used = [T0, T1, A0, A7];
        g.addi(T1, A0, 1);
        for register in registers().filter(|register| !used.contains(register)) {
            g.li(T0, pattern(register.number().into()) as i64);
            g.mul(register, T0, T1);
        }
        g.mark(1);
        let again = g.here_label();
        for register in registers().filter(|register| !used.contains(register)) {
            g.report(register);
        }
        g.j(again);
    })?;
    for hart in &bench.harts {
        hart.mark(1)?;
    }
    for round in 0..2 {
        for register in registers().filter(|register| ![T0, T1, A0, A7].contains(register)) {
            for (factor, hart) in (1..).zip(&bench.harts) {
                let expected = pattern(register.number().into()).wrapping_mul(factor);
                ensure_eq!(hart.report()?, expected, "{register} of vCPU {factor}, round {round}");
            }
        }
    }
    Ok(())
}

fn system<S: Subject>(subject: &S) -> Verdict {
    // What each can hold: any value for two, a legal one for the others.
    let registers: [(u16, u64); 8] = [
        (num::SSCRATCH, 0x1111),
        (num::SEPC, 0x2222),
        (num::SCAUSE, 3),
        (num::STVAL, 0x4444),
        (num::SIE, 1 << irq::SOFTWARE),
        (num::STIMECMP, 1 << 60),
        (num::SCOUNTEREN, 1),
        (num::FCSR, 1),
    ];
    let bench = Bench::boot_many(subject, 2, |g| {
        g.li(T0, 1 << 13);
        g.csrrs(ZERO, num::SSTATUS, T0);
        g.mv(S5, A0);
        for (csr, value) in registers {
            g.li(T0, value as i64);
            g.sll(T0, T0, S5);
            g.csrw(csr, T0);
        }
        // A trap vector of its own: nothing traps here.
        g.slli(T1, S5, 8);
        g.csrr(T0, num::STVEC);
        g.add(T0, T0, T1);
        g.csrw(num::STVEC, T0);
        g.report(T0);
        let again = g.here_label();
        for (csr, _) in registers {
            g.report_csr(csr);
        }
        g.report_csr(num::STVEC);
        g.j(again);
    })?;
    let mut vectors = [0; 2];
    for (vector, hart) in vectors.iter_mut().zip(&bench.harts) {
        *vector = hart.report()?;
    }
    for round in 0..3 {
        for (csr, value) in registers {
            // The shift would make scause 6 and sie bit 2, which no hart has.
            for (shift, hart) in bench.harts.iter().enumerate() {
                let written = value << shift;
                let expected = if csr == num::SIE { written & 1 << irq::SOFTWARE } else { written };
                ensure_eq!(hart.report()?, expected, "CSR {csr:#x} of vCPU {shift}, round {round}");
            }
        }
        for (vector, hart) in vectors.iter().zip(&bench.harts) {
            ensure_eq!(hart.report()?, *vector, "stvec");
        }
        if round == 1 {
            // Interrupt state, too: pending for one is not pending for the other.
            bench.harts[1].vcpu.inject_interrupt(irq::TIMER)?;
        }
    }
    Ok(())
}

fn reservation<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot_many(subject, 2, |g| {
        let second = g.label();
        g.li(S2, DATA as i64);
        g.bnez(A0, second);
        g.lr_d(S1, S2, Order::Relaxed);
        g.report(S1);
        g.li(S3, 77);
        g.sc_d(S4, S3, S2, Order::Relaxed);
        g.sltu(S4, ZERO, S4);
        g.report(S4);
        g.end();
        g.bind(second);
        g.li(S3, 55);
        g.sd(S3, 0, S2);
        g.mark(2);
    })?;
    bench.harts[0].mark(0)?;
    bench.harts[1].mark(2)?;
    bench.harts[0].mark(1)?;
    ensure_eq!(bench.space.read(DATA)?, 55, "the other's store");
    Ok(())
}
