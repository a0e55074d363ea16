//! Kicks, wake-ups and interrupts from elsewhere, before, during and after a run.

use axvcpu_riscv::asm::*;
use axvcpu_riscv::csr::{irq, num};

use super::NamedCase;
use super::Subject;
use super::bench::{Bench, Exit, Riscv};
use super::guest::*;
use crate::report::Verdict;
use crate::requests;

pub(super) fn cases<S: Subject>() -> [NamedCase<S>; 11] {
    [
        ("kick: before a run, nothing is executed", kick_before),
        ("kick: between runs, and while blocked", requests::kick_between::<S, Riscv>),
        ("kick: from another CPU ends every run", requests::kick_during::<S, Riscv>),
        ("kick: ends the run of a guest that only traps", kick_trapping),
        ("block: the hypervisor waits, and is woken", block),
        ("wake: kept for the next halt, once", requests::wake_before::<S, Riscv>),
        ("wake: from another CPU races with the halt", requests::wake_race::<S, Riscv>),
        ("running: everything that needs the backend is refused", refused_while_running),
        ("running: an interrupt from another CPU goes in at once", interrupt_during),
        ("running: interrupts from another CPU to a halting guest", interrupt_race),
        ("running: interrupts between two vCPUs on two CPUs", ping_pong),
    ]
}

fn kick_before<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.li(S0, DATA as i64);
        g.sd(S0, 0, S0);
        g.mark(1);
    })?;
    requests::kick_before(&bench)
}

fn kick_trapping<S: Subject>(subject: &S) -> Verdict {
    // The handler's first instruction traps, to itself: no instruction ever completes.
    let bench = Bench::boot(subject, |g| {
        let (start, handler) = (g.label(), g.label());
        g.j(start);
        g.align(4);
        g.bind(handler);
        g.ebreak();
        g.bind(start);
        g.la(T0, handler);
        g.csrw(num::STVEC, T0);
        g.mark(1);
        g.ebreak();
    })?;
    requests::kick_trapping(subject, &bench)
}

fn block<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.li(S0, DEVICE as i64);
        g.lb(S1, 0, S0);
        g.report(S1);
    })?;
    requests::block(&bench, irq::SOFTWARE)
}

fn refused_while_running<S: Subject>(subject: &S) -> Verdict {
    requests::refused_while_running::<S, Riscv>(subject, 31)
}

const ALL_INTERRUPTS: u64 = 1 << irq::SOFTWARE | 1 << irq::TIMER | 1 << irq::EXTERNAL;

/// Injects edge interrupts into a guest one after the other, each when the one before was counted.
fn inject_and_count<S: Subject>(subject: &S, body: impl FnOnce(&mut Guest)) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.li(S2, (DATA + 8) as i64);
        g.count_interrupts();
        g.enable_interrupts(ALL_INTERRUPTS);
        body(g);
    })?;
    requests::inject_and_count(subject, &bench, [irq::SOFTWARE, irq::TIMER, irq::EXTERNAL])
}

fn interrupt_during<S: Subject>(subject: &S) -> Verdict {
    inject_and_count(subject, Guest::count_for_ever)
}

fn interrupt_race<S: Subject>(subject: &S) -> Verdict {
    inject_and_count(subject, Guest::wait_for_ever)
}

/// Each of two guests waits for an interrupt, and answers it with one for the other.
fn ping_pong<S: Subject>(subject: &S) -> Verdict {
    const SEND: u64 = 0x0a00_0010;
    let mut bench = Bench::empty(subject)?;
    bench.load(|g| {
        g.li(T1, 1 << irq::SOFTWARE);
        g.csrw(num::SIE, T1);
        let (again, wait) = (g.label(), g.label());
        g.bnez(A0, wait);
        g.bind(again);
        g.li(A7, SEND as i64);
        g.ecall();
        g.bind(wait);
        g.wfi();
        g.csrr(T1, num::SIP);
        g.beqz(T1, wait);
        g.csrrci(ZERO, num::SIP, 2);
        g.j(again);
    })?;
    let is_sent = |_, _: &_, exit: &Exit| Ok(matches!(exit, Exit::Hypercall { nr: SEND, .. }));
    requests::pair(subject, &mut bench)?;
    requests::ping_pong(subject, &bench, irq::SOFTWARE, is_sent)
}
