//! Kicks, wake-ups and interrupts from elsewhere, before, during and after a run.

use axvcpu_x86::asm::*;

use super::NamedCase;
use super::Subject;
use super::bench::{Bench, Exit, X86};
use super::guest::*;
use crate::report::Verdict;
use crate::requests;

pub(super) fn cases<S: Subject>() -> [NamedCase<S>; 12] {
    [
        ("kick: before a run, nothing is executed", kick_before),
        ("kick: between runs, and while blocked", requests::kick_between::<S, X86>),
        ("kick: from another CPU ends every run", requests::kick_during::<S, X86>),
        ("kick: ends the run of a guest that only traps", kick_trapping),
        ("kick: ends the run of a program", kick_program),
        ("block: the hypervisor waits, and is woken", block),
        ("wake: kept for the next halt, once", requests::wake_before::<S, X86>),
        ("wake: from another CPU races with the halt", requests::wake_race::<S, X86>),
        ("running: everything that needs the backend is refused", refused_while_running),
        ("running: an interrupt from another CPU goes in at once", interrupt_during),
        ("running: interrupts from another CPU to a halting guest", interrupt_race),
        ("running: interrupts between two vCPUs on two CPUs", ping_pong),
    ]
}

fn kick_before<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.mov(at(DATA).of(Width::Qword), 5);
        g.mark(1);
    })?;
    requests::kick_before(&bench)
}

fn kick_trapping<S: Subject>(subject: &S) -> Verdict {
    // The handler's first instruction is undefined: it never gets any further, but onto its stack, which it begins anew.
    let bench = Bench::boot(subject, |g| {
        let handler = g.label();
        g.set_handler(vector::UD, handler);
        g.mark(1);
        g.bind(handler);
        g.li(RSP, STACK);
        g.ud2();
    })?;
    requests::kick_trapping(subject, &bench)
}

fn kick_program<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.mark(1);
        g.go_user(axvcpu_x86::reg::rflags::FIXED);
        g.count_for_ever();
    })?;
    requests::kick_trapping(subject, &bench)
}

fn block<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.li(RSI, DEVICE);
        g.movzx(R12D, byte(RSI));
        g.report(R12);
    })?;
    requests::block(&bench, 33)
}

fn refused_while_running<S: Subject>(subject: &S) -> Verdict {
    requests::refused_while_running::<S, X86>(subject, 15)
}

/// Injects edge interrupts into a guest one after the other, each when the one before was counted.
fn inject_and_count<S: Subject>(subject: &S, body: impl FnOnce(&mut Guest)) -> Verdict {
    const VECTORS: [usize; 3] = [33, 0x80, 0xff];
    let bench = Bench::boot(subject, |g| {
        g.count_interrupts(&VECTORS, DATA + 8);
        g.sti();
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
    const VECTOR: usize = 0x66;
    const SEND: u8 = 0x72;
    let mut bench = Bench::empty(subject)?;
    bench.load(|g| {
        let (again, wait, handler) = (g.label(), g.label(), g.label());
        g.set_handler(VECTOR as u64, handler);
        g.test(RDI, RDI);
        g.jcc(Cond::Ne, wait);
        g.bind(again);
        g.out_imm(SEND, AL);
        g.bind(wait);
        g.sti();
        g.hlt();
        g.jmp(wait); // woken for nothing
        g.bind(handler);
        g.add(RSP, 40); // does not go back
        g.jmp(again);
    })?;
    let is_sent = |_, _: &_, exit: &Exit| {
        Ok(matches!(exit, Exit::IoWrite { port, .. } if *port == SEND.into()))
    };
    requests::pair(subject, &mut bench)?;
    requests::ping_pong(subject, &bench, VECTOR, is_sent)
}
