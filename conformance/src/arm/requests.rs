//! Kicks, wake-ups and interrupts from elsewhere, before, during and after a run.

use axvcpu_arm::asm::*;

use super::NamedCase;
use super::Subject;
use super::bench::{Arm, Bench, Exit};
use super::guest::*;
use crate::report::Verdict;
use crate::requests;

pub(super) fn cases<S: Subject>() -> [NamedCase<S>; 11] {
    [
        ("kick: before a run, nothing is executed", kick_before),
        ("kick: between runs, and while blocked", requests::kick_between::<S, Arm>),
        ("kick: from another CPU ends every run", requests::kick_during::<S, Arm>),
        ("kick: ends the run of a guest that only traps", kick_trapping),
        ("block: the hypervisor waits, and is woken", block),
        ("wake: kept for the next halt, once", requests::wake_before::<S, Arm>),
        ("wake: from another CPU races with the halt", requests::wake_race::<S, Arm>),
        ("running: everything that needs the backend is refused", refused_while_running),
        ("running: an interrupt from another CPU goes in at once", interrupt_during),
        ("running: interrupts from another CPU to a halting guest", interrupt_race),
        ("running: interrupts between two vCPUs on two CPUs", ping_pong),
    ]
}

fn kick_before<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.li(X19, DATA);
        g.str(X19, X19, 0);
        g.mark(1);
    })?;
    requests::kick_before(&bench)
}

fn kick_trapping<S: Subject>(subject: &S) -> Verdict {
    // Every vector's first instruction is undefined: no instruction ever completes.
    let bench = Bench::boot(subject, |g| {
        let (start, table) = (g.label(), g.label());
        g.b(start);
        g.table(table, |g, _| g.udf(0));
        g.bind(start);
        g.set_vectors(table);
        g.mark(1);
        g.udf(0);
    })?;
    requests::kick_trapping(subject, &bench)
}

fn block<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.li(X19, DEVICE);
        g.ldrb(X20, X19, 0);
        g.report(X20);
    })?;
    requests::block(&bench, 33)
}

fn refused_while_running<S: Subject>(subject: &S) -> Verdict {
    requests::refused_while_running::<S, Arm>(subject, 28)
}

/// Injects edge interrupts into a guest one after the other, each when the one before was counted.
fn inject_and_count<S: Subject>(subject: &S, body: impl FnOnce(&mut Guest)) -> Verdict {
    /// In words one behind the other.
    const VECTORS: [usize; 3] = [33, 34, 35];
    let bench = Bench::boot(subject, |g| {
        g.li(X19, DATA + 8 - 8 * VECTORS[0] as u64);
        g.count_interrupts();
        g.enable_interrupts();
        body(g);
    })?;
    requests::inject_and_count(subject, &bench, VECTORS)
}

fn interrupt_during<S: Subject>(subject: &S) -> Verdict {
    inject_and_count(subject, Guest::count_for_ever)
}

fn interrupt_race<S: Subject>(subject: &S) -> Verdict {
    inject_and_count(subject, Guest::wait_for_ever)
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
