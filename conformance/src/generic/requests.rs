//! Kicks, wake-ups and interrupts from elsewhere, before, during and after a run.

use axvcpu::AccessWidth::{Byte, Qword};

use super::{Architecture, GuestsOf, Instructions, NamedCase, Program, Reg};
use crate::bench::{Bench, Exit, Hart};
use crate::report::Verdict;
use crate::requests;
use crate::subject::Subject;

pub(super) fn cases<S: Subject, I: Architecture + GuestsOf<S>>() -> [NamedCase<S>; 11] {
    [
        ("kick: before a run, nothing is executed", kick_before::<S, I>),
        ("kick: between runs, and while blocked", requests::kick_between::<S, I>),
        ("kick: from another CPU ends every run", requests::kick_during::<S, I>),
        ("kick: ends the run of a guest that only traps", kick_trapping::<S, I>),
        ("block: the hypervisor waits, and is woken", block::<S, I>),
        ("wake: kept for the next halt, once", requests::wake_before::<S, I>),
        ("wake: from another CPU races with the halt", requests::wake_race::<S, I>),
        ("running: everything that needs the backend is refused", refused_while_running::<S, I>),
        ("running: an interrupt from another CPU goes in at once", interrupt_during::<S, I>),
        ("running: interrupts from another CPU to a halting guest", interrupt_race::<S, I>),
        ("running: interrupts between two vCPUs on two CPUs", ping_pong::<S, I>),
    ]
}

fn kick_before<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let bench = Bench::<S, I>::boot(subject, |g| {
        g.set(Reg::B, I::DATA);
        g.store(Reg::B, Qword, Reg::B, 0);
        g.mark(1);
    })?;
    requests::kick_before(&bench)
}

fn kick_trapping<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let bench = Bench::<S, I>::boot(subject, |g| {
        g.mark(1);
        g.trap_for_ever();
    })?;
    requests::kick_trapping(subject, &bench)
}

fn block<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let bench = Bench::<S, I>::boot(subject, |g| {
        g.set(Reg::B, I::DEVICE);
        g.load(Reg::A, Byte, Reg::B, 0);
        g.report(Reg::A);
    })?;
    requests::block(&bench, I::VECTORS[0])
}

fn refused_while_running<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    requests::refused_while_running::<S, I>(subject, I::SPARE)
}

fn interrupt_during<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let bench = Bench::<S, I>::boot(subject, |g| {
        g.count_interrupts();
        g.count_for_ever();
    })?;
    requests::inject_and_count(subject, &bench, I::VECTORS)
}

fn interrupt_race<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let bench = Bench::<S, I>::boot(subject, |g| {
        g.count_interrupts();
        g.wait_for_ever();
    })?;
    requests::inject_and_count(subject, &bench, I::VECTORS)
}

/// Each of two guests waits for an interrupt, and answers it with one for the other: it reports its number. The first
/// one's first interrupt comes from the case.
fn ping_pong<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let mut bench = Bench::<S, I>::empty(subject)?;
    bench.load(|g| {
        g.number(Reg::A);
        g.for_ever(|g| {
            g.await_interrupt();
            g.report(Reg::A);
        });
    })?;
    let is_sent = |own, hart: &Hart<S, I>, exit: &Exit| {
        let call = hart.call(exit)?;
        Ok(call.is_some_and(|(nr, args)| nr == I::REPORT && args[0] == own as u64))
    };
    requests::pair(subject, &mut bench)?;
    bench.vcpu().inject_interrupt(I::VECTORS[0])?;
    requests::ping_pong(subject, &bench, I::VECTORS[0], is_sent)
}
