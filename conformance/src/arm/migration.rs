//! One vCPU on two physical CPUs, one after the other.

use axvcpu_arm::asm::*;

use super::NamedCase;
use super::Subject;
use super::bench::Bench;
use super::guest::*;
use crate::report::Verdict;
use crate::turns::{self, STEP, take_turns};

pub(super) fn cases<S: Subject>() -> [NamedCase<S>; 2] {
    [
        ("migration: registers of every kind go along", registers_go_along),
        ("migration: interrupts go along", interrupts),
    ]
}

fn registers_go_along<S: Subject>(subject: &S) -> Verdict {
    /// What goes into each register: a multiple of a number that changes every round, of which it keeps this.
    const SYSTEM: [(u16, u64); 10] = [
        (sys::TPIDR_EL0, u64::MAX),
        (sys::TPIDRRO_EL0, u64::MAX),
        (sys::TPIDR_EL1, u64::MAX),
        (sys::ELR_EL1, 0xffff_fffc),
        (sys::FAR_EL1, u64::MAX >> 8),
        (sys::ESR_EL1, 0xffff_ffff),
        (sys::CONTEXTIDR_EL1, 0xffff_ffff),
        (sys::CNTV_CVAL_EL0, u64::MAX),
        (sys::CNTP_CVAL_EL0, u64::MAX),
        (sys::FPSR, 0x1f),
    ];
    const GENERAL: [X; 8] = [X11, X12, X13, X14, X25, X26, X27, X28];
    let mut bench = Bench::empty(subject)?;
    bench.load(|g| {
        g.float_on();
        g.li(X19, DATA);
        g.li(X21, STEP);
        let again = g.here_label();
        g.mov(X20, X21);
        for register in float_registers() {
            g.fmov_to(register, X20);
            g.add(X20, X20, X21);
        }
        for register in GENERAL {
            g.mov(register, X20);
            g.add(X20, X20, X21);
        }
        for (register, mask) in SYSTEM {
            g.li(X9, mask);
            g.and(X9, X9, X21);
            g.msr(register, X9);
        }
        g.mark(1);
        for register in float_registers() {
            g.str_d(register, X19, 8 * u32::from(register.number()));
        }
        for (index, register) in (32..).zip(GENERAL) {
            g.str(register, X19, 8 * index);
        }
        for (index, (register, _)) in (40..).zip(SYSTEM) {
            g.mrs(X9, register);
            g.str(X9, X19, 8 * index);
        }
        g.mark(2);
        g.li(X9, STEP);
        g.add(X21, X21, X9);
        g.b(again);
    })?;
    turns::registers(subject, bench, &SYSTEM, |_, found| found)
}

/// One that is active on one CPU is ended on another; others are pending all the while.
fn interrupts<S: Subject>(subject: &S) -> Verdict {
    let mut bench = Bench::empty(subject)?;
    bench.load(|g| {
        g.enable_interrupts();
        let again = g.here_label();
        g.mark(1);
        g.b(again);
    })?;
    bench.add_hart(subject, 0)?;
    let hart = bench.hart();
    take_turns(subject, 40, |turn| {
        hart.vcpu.bind()?;
        match turn % 4 {
            0 => {
                hart.mark(1)?;
                for vector in [33, 34, 35] {
                    hart.vcpu.inject_interrupt(vector)?;
                }
                hart.trap().map(drop)?;
            }
            1 | 2 => hart.trap().map(drop)?,
            _ => hart.mark(1)?,
        }
        Ok(hart.vcpu.unbind()?)
    })
}
