//! The vCPU alone, with what only this architecture's do.

use alloc::format;

use axvcpu::AxVCpuExitReason as Exit;
use axvcpu_arm::asm::*;
use axvcpu_arm::sysreg::*;
use axvcpu_baremetal::Machine;

use super::{Config, DEVICE, INTERRUPT, handler, instructions, interrupts_on, many};
use crate::vcpu::{self, Bench, called, inside, runs, turns};
use crate::{Failure, Figure, Figures, ROUNDS};

pub(super) fn figures(_: &Machine) -> Figures {
    let mut figures = vcpu::figures(&Config::new())?;
    figures.extend([
        turns("the same, both with floating point", 4, Config::new(), float_forever)?,
        fetched_write()?,
        sent_interrupt()?,
        counted("identification register, answered in the backend", 3, |g| {
            many(g, |g| g.mrs(X2, ID_AA64PFR0_EL1));
        })?,
        counted("CNTV_CVAL_EL0 written by the guest: no exit", 4, |g| {
            many(g, |g| {
                g.sub_imm(X2, X2, 1);
                g.msr(CNTV_CVAL_EL0, X2);
            });
        })?,
        counted("tick of the virtual timer: armed, taken, ended", 8, tick)?,
    ]);
    Ok(figures)
}

/// What a guest counts by itself.
fn counted(
    what: &'static str,
    guest: u64,
    write: impl FnOnce(&mut Asm),
) -> Result<Figure, Failure> {
    let bench = Bench::new(1, Config::new(), write)?;
    Ok(Figure { what, each: inside(bench.vcpu())?, guest })
}

/// Calls, with a register changed that another vCPU changes as well.
fn float_forever(g: &mut Asm) {
    g.li(X0, 3 << 20);
    g.msr(CPACR_EL1, X0);
    g.isb();
    let again = g.here_label();
    g.fmov_to(V0, X19);
    g.hvc(0);
    g.add_imm(X19, X19, 1);
    g.b(again);
}

/// A store that the syndrome does not describe.
fn fetched_write() -> Result<Figure, Failure> {
    let bench = Bench::new(1, Config::new(), |g| {
        g.li(X20, DEVICE);
        let again = g.here_label();
        g.str_w_post(X19, X20, 0);
        g.add_imm(X19, X19, 1);
        g.b(again);
    })?;
    let each = runs(bench.vcpu(), |exit| matches!(exit, Exit::MmioWrite { .. }), |_| true)?;
    Ok(Figure { what: "MMIO write, decoded from memory: exit and entry", each, guest: 3 })
}

/// From the sender's instruction to the first of the receiver's handler, on one CPU: no more is done between than what
/// takes the interrupt there.
fn sent_interrupt() -> Result<Figure, Failure> {
    let bench = Bench::new(2, Config::new(), |g| {
        let (vectors, receiver) = (g.label(), g.label());
        g.mrs(X2, MPIDR_EL1);
        g.tbnz(X2, 0, receiver);
        g.li(X2, 1 << 1 | (INTERRUPT as u64) << 24); // to CPU 1
        let again = g.here_label();
        g.mrs(X1, CNTPCT_EL0);
        g.msr(ICC_SGI1R_EL1, X2);
        g.hvc(0);
        g.b(again);
        g.bind(receiver);
        interrupts_on(g, vectors);
        let wait = g.here_label();
        g.hvc(0);
        g.b(wait);
        handler(g, vectors, |g| {
            g.mrs(X1, CNTPCT_EL0);
            g.mrs(X2, ICC_IAR1_EL1);
            g.msr(ICC_EOIR1_EL1, X2);
            g.hvc(0);
        });
    })?;
    let (sender, receiver) = bench.both()?;
    let mut total = 0;
    for _ in 0..16 + ROUNDS {
        called(receiver)?;
        let sent = sender.run();
        let Ok(Exit::SendIpi { base: 0, mask: 2, vector }) = sent else {
            return Err(format!("{sent:?}"));
        };
        receiver.inject_interrupt(vector as usize).map_err(|error| format!("{error}"))?;
        let taken = called(receiver)?;
        total += taken.wrapping_sub(called(sender)?);
    }
    let each = instructions(total) / (16 + ROUNDS);
    let what = "SGI to another vCPU of this CPU: from ICC_SGI1R_EL1 to its handler";
    Ok(Figure { what, each, guest: 2 })
}

/// The timer's time has come whenever it is switched on, and its handler switches it off.
fn tick(g: &mut Asm) {
    let vectors = g.label();
    interrupts_on(g, vectors);
    g.msr(CNTV_CVAL_EL0, XZR);
    g.li(X2, 1);
    many(g, |g| {
        g.msr(CNTV_CTL_EL0, X2);
        g.isb();
    });
    handler(g, vectors, |g| {
        g.mrs(X3, ICC_IAR1_EL1);
        g.msr(CNTV_CTL_EL0, XZR);
        g.msr(ICC_EOIR1_EL1, X3);
    });
}
