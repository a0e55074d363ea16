//! One vCPU on two physical CPUs, one after the other.

use axvcpu::Fence;
use axvcpu_riscv::asm::*;
use axvcpu_riscv::csr::num;
use axvcpu_riscv::stage2::Perms;

use super::NamedCase;
use super::bench::Bench;
use super::float::float_registers;
use super::guest::*;

use super::Subject;
use crate::report::{Verdict, ensure, ensure_eq};
use crate::turns::take_turns;

pub(super) fn cases<S: Subject>() -> [NamedCase<S>; 2] {
    [
        ("migration: registers of every kind go along", registers),
        ("migration: a page taken away while the vCPU was elsewhere", pages),
    ]
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
    const STEP: u64 = 0x1234_5678_9abc_def1;
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
    bench.add_hart(subject, 0)?;
    let (hart, space) = (bench.hart(), &bench.space);
    take_turns(subject, 40, |turn| {
        hart.vcpu.bind()?;
        hart.mark(1 + turn as u64 % 2)?;
        hart.vcpu.unbind()?;
        if turn % 2 == 0 {
            return Ok(());
        }
        let seed = STEP.wrapping_mul(turn as u64 / 2 + 1);
        for index in 0..40 {
            let found = space.read(DATA + 8 * index)?;
            ensure_eq!(found, seed.wrapping_mul(index + 1), "register {index} in turn {turn}");
        }
        for (index, (csr, mask)) in (40..).zip(CSRS) {
            let found = space.read(DATA + 8 * index)?;
            let seen = if csr == num::SENVCFG { found & 1 } else { found };
            ensure_eq!(seen, seed & mask, "CSR {csr:#x} in turn {turn}");
        }
        Ok(())
    })
}

fn pages<S: Subject>(subject: &S) -> Verdict {
    const WINDOW: u64 = DATA + 0x10_0000;
    const FIRST: u64 = DATA + 0x20_0000;
    const SECOND: u64 = DATA + 0x20_1000;
    const TURNS: usize = 30;
    let mut bench = Bench::empty(subject)?;
    bench.load(|g| {
        g.li(S0, WINDOW as i64);
        let again = g.here_label();
        g.ld(S1, 0, S0);
        g.report(S1);
        g.j(again);
    })?;
    bench.space.add(FIRST, 1, None)?;
    bench.space.add(SECOND, 1, None)?;
    bench.space.write(FIRST, 0)?;
    bench.space.write(SECOND, 1)?;
    bench.add_hart(subject, 0)?;
    // Every three turns the other page, so that each CPU has seen either when it is exchanged.
    for part in 0..TURNS / 3 {
        let page = if part % 2 == 0 { FIRST } else { SECOND };
        if part > 0 {
            bench.space.unmap(WINDOW)?;
        }
        bench.space.map(WINDOW, page, Perms::RW)?;
        bench.vcpu().request_fence(Fence::STAGE2_TLB);
        let hart = bench.hart();
        // The first turn is another CPU's each time.
        take_turns(subject, 4, |turn| {
            if turn == 0 && part % 2 == 1 {
                return Ok(());
            }
            hart.vcpu.bind()?;
            for _ in 0..2 {
                let found = hart.report()?;
                ensure!(found == part as u64 % 2, "page {found} in part {part}, turn {turn}");
            }
            Ok(hart.vcpu.unbind()?)
        })?;
    }
    Ok(())
}
