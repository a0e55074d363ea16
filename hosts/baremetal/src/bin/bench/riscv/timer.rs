//! The vCPU alone, with what a guest's timer costs.

use axvcpu_baremetal::Machine;
use axvcpu_riscv::asm::*;
use axvcpu_riscv::csr::num;
use axvcpu_riscv64::RiscvConfig;

use super::{config, features, many};
use crate::vcpu::{self, Bench, inside};
use crate::{Failure, Figure, Figures};

const SBI_TIME: i64 = 0x5449_4d45;

pub(super) fn figures(machine: &Machine) -> Figures {
    let config = config(machine);
    let without_sstc = RiscvConfig { sstc: false, ..config };
    let has_sstc = features().is_some_and(|features| features.sstc);
    let mut figures = vcpu::figures(&config)?;
    if has_sstc {
        figures.push(timer_call("set_timer call, guest timer in hardware (Sstc)", config, 0)?);
        figures.push(timer_register(config)?);
    }
    figures.push(timer_call("set_timer call without Sstc, later than armed", without_sstc, 1)?);
    let what = if has_sstc {
        "set_timer call without Sstc, earlier than armed (host arms by stimecmp)"
    } else {
        "set_timer call without Sstc, earlier than armed (host arms by SBI)"
    };
    figures.push(timer_call(what, without_sstc, -1)?);
    Ok(figures)
}

/// `set_timer` with a time that moves by `step` with each call, from far in the future.
fn timer_call(what: &'static str, config: RiscvConfig, step: i32) -> Result<Figure, Failure> {
    let bench = Bench::new(1, config, |g| {
        g.li(S1, 1 << 60);
        g.li(A7, SBI_TIME);
        g.li(A6, 0);
        many(g, |g| {
            g.addi(S1, S1, step);
            g.mv(A0, S1);
            g.ecall();
        });
    })?;
    Ok(Figure { what, each: inside(bench.vcpu())?, guest: 5 })
}

/// `stimecmp`, written by the guest.
fn timer_register(config: RiscvConfig) -> Result<Figure, Failure> {
    let bench = Bench::new(1, config, |g| {
        g.li(S1, 1 << 60);
        many(g, |g| {
            g.addi(S1, S1, 1);
            g.csrw(num::STIMECMP, S1);
        });
    })?;
    let each = inside(bench.vcpu())?;
    Ok(Figure { what: "stimecmp written by the guest: no exit", each, guest: 4 })
}
