//! One vCPU on two physical CPUs, one after the other.

use axvcpu_riscv::asm::*;
use axvcpu_riscv::csr::num;

use super::NamedCase;
use super::bench::Bench;
use super::float::float_registers;
use super::guest::*;

use super::Subject;
use crate::report::Verdict;
use crate::turns::{self, STEP};

pub(super) fn cases<S: Subject>() -> [NamedCase<S>; 1] {
    [("migration: registers of every kind go along", registers)]
}

fn registers<S: Subject>(subject: &S) -> Verdict {
    /// What goes into each register: a multiple of a number that changes every round, of which it keeps this.
    const CSRS: [(u16, u64); 7] = [
        (num::SSCRATCH, u64::MAX),
        (num::SEPC, !3),
        (num::SCAUSE, 15),
        (num::STVAL, u64::MAX),
        (num::SCOUNTEREN, 7),
        (num::SENVCFG, 1),
        (num::FCSR, 0x1f),
    ];
    const INTEGER: [X; 8] = [S4, S5, S6, S7, S8, S9, S10, S11];
    let mut bench = Bench::empty(subject)?;
    bench.load(|g| {
        g.float_on();
        g.li(S2, DATA as i64);
        g.li(S3, STEP as i64);
        let again = g.here_label();
        g.mv(T1, S3);
        for register in float_registers() {
            g.fmv_d_x(register, T1);
            g.add(T1, T1, S3);
        }
        for register in INTEGER {
            g.mv(register, T1);
            g.add(T1, T1, S3);
        }
        for (csr, mask) in CSRS {
            g.li(T0, mask as i64);
            g.and(T0, T0, S3);
            g.csrw(csr, T0);
        }
        g.mark(1);
        for register in float_registers() {
            g.fsd(register, 8 * i32::from(register.number()), S2);
        }
        for (index, register) in (32..).zip(INTEGER) {
            g.sd(register, 8 * index, S2);
        }
        for (index, (csr, _)) in (40..).zip(CSRS) {
            g.csrr(T0, csr);
            g.sd(T0, 8 * index, S2);
        }
        g.mark(2);
        g.li(T0, STEP as i64);
        g.add(S3, S3, T0);
        g.j(again);
    })?;
    let seen = |csr, found| if csr == num::SENVCFG { found & 1 } else { found };
    turns::registers(subject, bench, &CSRS, seen)
}
