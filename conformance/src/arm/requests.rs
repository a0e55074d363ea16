//! Kicks, wake-ups and interrupts from elsewhere, before, during and after a run.

use axvcpu_arm::asm::*;

use super::NamedCase;
use super::Subject;
use super::bench::{Bench, Exit};
use super::guest::*;
use crate::report::Verdict;
use crate::requests;

pub(super) fn cases<S: Subject>() -> [NamedCase<S>; 1] {
    [("running: software-generated interrupts between two vCPUs", ping_pong)]
}

/// Each of two guests waits for an interrupt, and answers it with one for the other.
fn ping_pong<S: Subject>(subject: &S) -> Verdict {
    const INTID: usize = 6;
    let mut bench = Bench::empty(subject)?;
    bench.load(|g| {
        // x25: the other's bit in a target list.
        g.cmp_imm(X0, 0);
        g.cset(X25, Cond::Eq);
        g.add_imm(X25, X25, 1);
        g.li(X9, (INTID as u64) << 24);
        g.orr(X25, X25, X9);
        g.mov(X26, X0);
        g.gic_on();
        let (again, wait) = (g.label(), g.label());
        g.cbnz(X26, wait);
        g.bind(again);
        g.msr(sys::ICC_SGI1R_EL1, X25);
        g.bind(wait);
        g.wfi();
        g.mrs(X20, sys::ICC_IAR1_EL1);
        g.cmp_imm(X20, INTID as u32);
        g.b_cond(Cond::Ne, wait);
        g.msr(sys::ICC_EOIR1_EL1, X20);
        g.b(again);
    })?;
    let is_sent = |own: usize, _: &_, exit: &Exit| {
        Ok(match *exit {
            Exit::SendIpi { base, mask, vector } => {
                vector == INTID as u64
                    && mask.is_power_of_two()
                    && base.wrapping_add(mask.trailing_zeros().into()) == 1 - own as u64
            }
            _ => false,
        })
    };
    requests::pair(subject, &mut bench)?;
    requests::ping_pong(subject, &bench, INTID, is_sent)
}
