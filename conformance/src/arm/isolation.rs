//! What one vCPU sees of another: nothing.

use axvcpu_arm::asm::*;
use axvcpu_stage2::{PAGE_SIZE, Perms};

use super::NamedCase;
use super::Subject;
use super::bench::Bench;
use super::float;
use super::guest::*;
use super::paging::{TABLES, TCR, bits, entry};
use super::sve;
use crate::report::{Verdict, ensure, ensure_eq};

pub(super) fn cases<S: Subject>() -> [NamedCase<S>; 10] {
    [
        ("isolation: general-purpose registers of vCPUs that take turns", general),
        ("isolation: floating-point registers of vCPUs that take turns", float::isolation),
        ("isolation: floating-point registers before their first use", float::nothing_leaks),
        ("isolation: a floating-point answer after another's turn", float::late_answer),
        ("isolation: floating point switched off and on again", float::switched),
        ("isolation: SVE registers of vCPUs that take turns", sve::isolation),
        ("isolation: system registers of vCPUs that take turns", system),
        ("isolation: keys of pointer authentication", keys),
        ("isolation: stack pointers of vCPUs that take turns", stack_pointers),
        ("isolation: a reservation does not outlast another vCPU's store", reservation),
    ]
}

fn general<S: Subject>(subject: &S) -> Verdict {
    // Everything but what reporting uses, a multiple of the vCPU's number plus 1.
    const USED: [X; 4] = [X0, X1, X9, X10];
    let kept = || registers().filter(|register| !USED.contains(register));
    let bench = Bench::boot_many(subject, 3, |g| {
        g.add_imm(X10, X0, 1);
        for register in kept() {
            g.li(X9, pattern(register.number().into()));
            g.mul(register, X9, X10);
        }
        g.mark(1);
        let again = g.here_label();
        for register in kept() {
            g.report(register);
        }
        g.b(again);
    })?;
    for hart in &bench.harts {
        hart.mark(1)?;
    }
    for round in 0..2 {
        for register in kept() {
            for (factor, hart) in (1..).zip(&bench.harts) {
                let expected = pattern(register.number().into()).wrapping_mul(factor);
                ensure_eq!(hart.report()?, expected, "{register} of vCPU {factor}, round {round}");
            }
        }
    }
    Ok(())
}

/// Registers, and what each is made to hold by the first and by the second vCPU: values that every implementation keeps.
pub(super) const KEPT: [(u16, [u64; 2]); 23] = [
    (sys::TPIDR_EL0, [0x1111_0000_1111, 0x2222_0000_2222]),
    (sys::TPIDRRO_EL0, [0x3333_0000_3333, 0x4444_0000_4444]),
    (sys::TPIDR_EL1, [0x5555_0000_5555, 0x6666_0000_6666]),
    (sys::SP_EL0, [0x7770, 0x8880]),
    (sys::ELR_EL1, [0x4000_0104, 0x4000_0208]),
    (sys::SPSR_EL1, [0x3c5, 0x8000_0000]),
    (sys::ESR_EL1, [0x5600_0001, 0x9200_0010]),
    (sys::FAR_EL1, [0xaaaa_0000, 0xbbbb_0000]),
    (sys::MAIR_EL1, [0xff04, 0x44_ff04]),
    (sys::TTBR1_EL1, [0x4100_0000, 0x4200_0000]),
    (sys::TTBR0_EL1, [TABLES, TABLES + PAGE_SIZE]),
    (sys::TCR_EL1, [TCR, TCR | 1 << 37]), // TBI0
    (sys::CONTEXTIDR_EL1, [0x1234, 0x5678]),
    (sys::CSSELR_EL1, [0, 2]),
    (sys::PAR_EL1, [0x4000_0800, 0x4000_1800]),
    (sys::CNTKCTL_EL1, [1, 2]),
    (sys::CNTV_CVAL_EL0, [1 << 60, 1 << 61]),
    (sys::CNTP_CVAL_EL0, [3 << 60, 5 << 59]),
    (sys::CNTV_CTL_EL0, [2, 0]),
    (sys::CNTP_CTL_EL0, [0, 2]),
    (sys::CPACR_EL1, [3 << 20, 1 << 20]),
    (sys::ICC_PMR_EL1, [0x40, 0x80]),
    (sys::MDSCR_EL1, [0, 1 << 13]), // KDE,
];

fn system<S: Subject>(subject: &S) -> Verdict {
    let mut bench = Bench::boot_many(subject, 2, |g| {
        g.mov(X25, X0);
        // Its own tables, which say the same, and its own vectors.
        let (first, own) = (g.label(), g.label());
        g.cbz(X25, first);
        g.mmu_on_with(TABLES + PAGE_SIZE);
        g.b(own);
        g.bind(first);
        g.mmu_on_with(TABLES);
        g.bind(own);
        g.lsl(X9, X25, 11);
        g.li(X10, 0x4800_0000);
        g.add(X9, X9, X10);
        g.msr(sys::VBAR_EL1, X9); // nothing is taken here
        for (register, [first, second]) in KEPT {
            let own = g.label();
            g.li(X9, first);
            g.cbz(X25, own);
            g.li(X9, second);
            g.bind(own);
            g.msr(register, X9);
        }
        g.isb();
        let again = g.here_label();
        for (register, _) in KEPT {
            g.report_sys(register);
        }
        g.report_sys(sys::ISR_EL1);
        g.report_sys(sys::VBAR_EL1);
        g.report_sys(sys::SCTLR_EL1);
        g.b(again);
    })?;
    bench.space.add(TABLES, 2, Some(Perms::RW))?;
    for root in [TABLES, TABLES + PAGE_SIZE] {
        let gigabyte = CODE & !((1 << 30) - 1);
        let leaf = gigabyte | bits::NORMAL | bits::VALID;
        bench.space.write(entry(root, CODE, 2), leaf)?;
    }
    for round in 0..4 {
        for (register, values) in KEPT {
            for (id, (hart, expected)) in bench.harts.iter().zip(values).enumerate() {
                let found = hart.report()?;
                ensure_eq!(found, expected, "register {register:#x} of vCPU {id}, round {round}");
            }
        }
        for (id, hart) in bench.harts.iter().enumerate() {
            // The group is off for both; what is pending for one must not show up at the other.
            ensure_eq!(hart.report()?, 0, "ISR of vCPU {id}, round {round}");
        }
        for (id, hart) in (0..).zip(&bench.harts) {
            ensure_eq!(hart.report()?, 0x4800_0000 + (id << 11), "VBAR of vCPU {id}");
        }
        for hart in &bench.harts {
            ensure_eq!(hart.report()? & 5, 5, "SCTLR.M and C");
        }
        if round == 1 {
            bench.harts[1].vcpu.inject_interrupt(33)?;
        }
    }
    Ok(())
}

/// If there are any, which the guest is told.
fn keys<S: Subject>(subject: &S) -> Verdict {
    let keys = [(1, 0), (1, 1), (1, 2), (1, 3), (2, 0), (2, 1), (2, 2), (2, 3), (3, 0), (3, 1)];
    let keys = keys.map(|(crm, op2)| sys::reg(3, 0, 2, crm, op2));
    let bench = Bench::boot_many(subject, 2, |g| {
        let there = g.label();
        g.add_imm(X25, X0, 1);
        g.mrs(X20, sys::reg(3, 0, 0, 6, 1)); // ID_AA64ISAR1_EL1: APA, API, GPA, GPI
        g.li(X21, 0xff << 24 | 0xff << 4);
        g.mrs(X22, sys::reg(3, 0, 0, 6, 2)); // ID_AA64ISAR2_EL1: GPA3, APA3
        g.li(X23, 0xff << 8);
        g.and(X20, X20, X21);
        g.and(X22, X22, X23);
        g.orr(X20, X20, X22);
        g.cbnz(X20, there);
        let again = g.here_label();
        g.mark(0);
        g.b(again);
        g.bind(there);
        for (index, key) in (0..).zip(keys) {
            g.li(X20, pattern(index));
            g.mul(X20, X20, X25);
            g.msr(key, X20);
        }
        g.isb();
        g.mark(1);
        let again = g.here_label();
        for key in keys {
            g.report_sys(key);
        }
        g.b(again);
    })?;
    for hart in &bench.harts {
        if hart.report()? == 0 {
            return Ok(()); // what a guest without them finds is another case's matter
        }
    }
    for round in 0..2 {
        for (index, key) in (0..).zip(keys) {
            for (factor, hart) in (1..).zip(&bench.harts) {
                let expected = pattern(index).wrapping_mul(factor);
                ensure_eq!(
                    hart.report()?,
                    expected,
                    "key {key:#x} of vCPU {factor}, round {round}"
                );
            }
        }
    }
    Ok(())
}

fn stack_pointers<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot_many(subject, 2, |g| {
        g.lsl(X19, X0, 12);
        g.li(X20, 0x5000_0000);
        g.add(X19, X19, X20);
        g.mov_sp(SP, X19);
        let again = g.here_label();
        g.mov_sp(X21, SP);
        g.report(X21);
        g.b(again);
    })?;
    for _ in 0..3 {
        for (id, hart) in (0..).zip(&bench.harts) {
            ensure_eq!(hart.report()?, 0x5000_0000 + (id << 12), "the stack pointer of vCPU {id}");
        }
    }
    Ok(())
}

fn reservation<S: Subject>(subject: &S) -> Verdict {
    let mut bench = Bench::boot_many(subject, 2, |g| {
        let second = g.label();
        g.mov(X25, X0);
        g.mmu_on();
        g.li(X19, DATA);
        g.cbnz(X25, second);
        g.ldxr(X20, X19);
        g.report(X20);
        g.li(X21, 77);
        g.stxr(X22, X21, X19);
        g.report(X22);
        g.end();
        g.bind(second);
        g.li(X21, 55);
        g.str(X21, X19, 0);
        g.mark(2);
    })?;
    super::paging::write_tables(&mut bench, DEVICE, bits::NORMAL)?;
    bench.harts[0].mark(0)?;
    bench.harts[1].mark(2)?;
    ensure!(bench.harts[0].report()? != 0, "store-exclusive succeeded after the other's store");
    ensure_eq!(bench.space.read(DATA)?, 55, "the other's store");
    Ok(())
}
