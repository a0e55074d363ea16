//! What one vCPU sees of another: nothing.

use axvcpu_riscv::asm::*;
use axvcpu_riscv::csr::{irq, num, sstatus};
use axvcpu_riscv::paging::{PAGE_SIZE, SV39, pte};
use axvcpu_riscv::stage2::Perms;

use super::NamedCase;
use super::Subject;
use super::bench::Bench;
use super::guest::*;
use super::{float, vector};
use crate::report::{Verdict, ensure, ensure_eq};

pub(super) fn cases<S: Subject>() -> [NamedCase<S>; 7] {
    [
        ("isolation: integer registers of vCPUs that take turns", integer),
        ("isolation: floating-point registers of vCPUs that take turns", float::isolation),
        ("isolation: floating-point registers before their first use", float::nothing_leaks),
        ("isolation: a floating-point answer after another's turn", float::late_answer),
        ("isolation: vectors of vCPUs that take turns", vector::isolation),
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
    // What each is made to hold by the first and by the second vCPU.
    let registers: [(u16, [u64; 2]); 10] = [
        (num::SSCRATCH, [0x1111, 0x2222]),
        (num::SEPC, [0x3332, 0x4444]),
        (num::SCAUSE, [3, 6]),
        (num::STVAL, [0x5555, 0x6666]),
        (num::SIE, [1 << irq::SOFTWARE, 1 << irq::TIMER]),
        (num::STIMECMP, [1 << 60, 1 << 61]),
        (num::SCOUNTEREN, [1, 2]),
        (num::SENVCFG, [1, 0]), // FIOM
        (num::FCSR, [1, 0x42]),
        (num::SSTATUS, [sstatus::SUM, sstatus::MXR]),
    ];
    let present = |&(csr, _): &(u16, [u64; 2])| csr != num::STIMECMP || subject.has_stimecmp();
    let registers = registers.into_iter().filter(present);
    let root = DATA + 0x40_0000;
    let mut bench = Bench::boot_many(subject, 2, |g| {
        g.li(T0, 1 << 13);
        g.csrrs(ZERO, num::SSTATUS, T0);
        g.mv(S5, A0);
        for (csr, [first, second]) in registers.clone() {
            let own = g.label();
            g.li(T0, first as i64);
            g.beqz(S5, own);
            g.li(T0, second as i64);
            g.bind(own);
            match csr {
                num::SSTATUS => g.csrrs(ZERO, csr, T0),
                _ => g.csrw(csr, T0),
            }
        }
        // A trap vector of its own: nothing traps here. And its own tables, which say the same.
        g.slli(T1, S5, 8);
        g.csrr(T0, num::STVEC);
        g.add(T0, T0, T1);
        g.csrw(num::STVEC, T0);
        g.csrw(num::SATP, A1);
        g.sfence_vma(ZERO, ZERO);
        let again = g.here_label();
        for (csr, _) in registers.clone() {
            g.report_csr(csr);
        }
        g.report_csr(num::SIP);
        g.report_csr(num::STVEC);
        g.report_csr(num::SATP);
        g.j(again);
    })?;
    bench.space.add(root, 2, Some(Perms::RW))?;
    let gigabyte = CODE & !((1 << 30) - 1);
    for (id, hart) in (0..).zip(&bench.harts) {
        let root = root + PAGE_SIZE * id;
        let entry = root + 8 * SV39.index(CODE, 2) as u64;
        let all = pte::V | pte::RWX | pte::A | pte::D;
        bench.space.write(entry, pte::new(gigabyte, all))?;
        hart.vcpu.set_gpr(11, SV39.root_register(root))?;
    }
    let mut vectors = [0; 2];
    for round in 0..4 {
        for (csr, values) in registers.clone() {
            for (id, (hart, expected)) in bench.harts.iter().zip(values).enumerate() {
                let found = match (hart.report()?, csr) {
                    (found, num::SSTATUS) => found & (sstatus::SUM | sstatus::MXR),
                    (found, _) => found,
                };
                ensure_eq!(found, expected, "CSR {csr:#x} of vCPU {id}, round {round}");
            }
        }
        for (index, hart) in bench.harts.iter().enumerate() {
            // Interrupt state, too: pending for one is not pending for the other.
            let pending = if round > 1 && index == 1 { 1 << irq::TIMER } else { 0 };
            ensure_eq!(hart.report()?, pending, "sip of vCPU {index}, round {round}");
        }
        for (index, hart) in bench.harts.iter().enumerate() {
            let found = hart.report()?;
            // With an edge that waits a backend may have put something of its own there.
            if round == 0 {
                vectors[index] = found;
            } else if round == 1 || index == 0 {
                ensure_eq!(found, vectors[index], "stvec of vCPU {index}, round {round}");
            }
        }
        for (id, hart) in (0..).zip(&bench.harts) {
            let expected = SV39.root_register(root + PAGE_SIZE * id);
            ensure_eq!(hart.report()?, expected, "satp of vCPU {id}, round {round}");
        }
        if round == 1 {
            bench.harts[1].vcpu.inject_interrupt(irq::TIMER)?;
        }
    }
    ensure!(vectors[0] != vectors[1], "the trap vectors are the same");
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
