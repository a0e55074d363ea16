//! Changes of page tables and instructions, and the fences that make them visible.

use axvcpu::AccessKind::Execute;
use axvcpu::AccessWidth::Qword;
use axvcpu::Fence;
use axvcpu_stage2::Perms;
use axvcpu_x86::asm::*;
use axvcpu_x86::paging::entry;

use super::NamedCase;
use super::Subject;
use super::bench::{Bench, Exit, X86};
use super::exceptions::{ROOT, VIRTUAL, write_tables};
use super::guest::*;
use crate::bench::Isa;
use crate::fences;
use crate::report::{Stop, Verdict, fail};

const WINDOW: u64 = X86::WINDOW;

pub(super) fn cases<S: Subject>() -> [NamedCase<S>; 7] {
    [
        ("fence: memory taken away from stage 2", unmapped),
        ("fence: write permission taken away in stage 2", write_protected),
        ("fence: execute permission taken away in stage 2", execute_protected),
        ("fence: another page behind the same address", exchanged),
        ("fence: the host writes instructions", instructions),
        ("fence: the host changes the guest's own tables", guest_tables),
        ("fence: a running guest stops using a page", while_running),
    ]
}

fn unmapped<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.li(RSI, WINDOW);
        for _ in 0..2 {
            g.mov(R12, mem(RSI));
            g.report(R12);
        }
        g.mov(mem(RSI) + 8, R12);
        g.call_at(RSI);
    })?;
    fences::unmapped(bench, |hart| hart.nested_fault(WINDOW, Execute))
}

fn write_protected<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.li(RSI, WINDOW);
        g.li(R12, 1);
        for _ in 0..3 {
            g.mov(mem(RSI), R12);
            g.mov(R13, mem(RSI));
            g.report(R13);
            g.inc(R12);
        }
    })?;
    fences::write_protected(bench)
}

/// A number to `rbx`, and `ret`.
fn value_function(value: u64) -> alloc::vec::Vec<u8> {
    let mut asm = Asm::new(0);
    asm.li(RBX, value);
    asm.ret();
    asm.finish().unwrap_or_default()
}

fn execute_protected<S: Subject>(subject: &S) -> Verdict {
    if !subject.enforces_execute() {
        return Err(Stop::Skipped("needs permission to execute, and not only to read"));
    }
    const NEAR: u64 = CODE + 0x8_0000;
    let mut bench = Bench::boot(subject, |g| {
        let again = g.here_label();
        g.li(R12, 300);
        let inner = g.here_label();
        g.li(RSI, NEAR);
        g.call_at(RSI);
        g.dec(R12D);
        g.jcc(Cond::Ne, inner);
        g.mark(1);
        g.jmp(again);
    })?;
    bench.space.add(NEAR, 1, Some(Perms::RX))?;
    bench.space.fill(NEAR, &value_function(0))?;
    fences::execute_protected(bench, NEAR)
}

fn exchanged<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.li(RSI, WINDOW);
        let again = g.here_label();
        g.call_at(RSI);
        g.report(RBX);
        g.mov(RBX, mem(RSI) + 16);
        g.report(RBX);
        g.jmp(again);
    })?;
    fences::exchanged(bench, value_function)
}

fn instructions<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.li(RSI, WINDOW);
        let again = g.here_label();
        // A loop, so that whatever translates code has good reason to.
        g.li(R12, 300);
        let inner = g.here_label();
        g.call_at(RSI);
        g.dec(R12D);
        g.jcc(Cond::Ne, inner);
        g.report(RBX);
        g.jmp(again);
    })?;
    fences::instructions(bench, value_function)
}

fn guest_tables<S: Subject>(subject: &S) -> Verdict {
    let mut bench = Bench::boot(subject, |g| {
        g.li(RAX, ROOT);
        g.mov_to_cr(3, RAX);
        g.report_for_ever(VIRTUAL);
    })?;
    let tables = write_tables(&mut bench, &[(DEVICE, entry::WRITE)])?;
    let at = tables.entry(VIRTUAL, 0).unwrap_or(0);
    let flags = entry::PRESENT | entry::WRITE;
    bench.space.write(DATA, pattern(1))?;
    bench.space.write(DATA + 0x1000, pattern(2))?;
    for target in [DEVICE, DATA, DATA + 0x1000, DEVICE, DATA, DEVICE + 0x1000] {
        bench.space.write(at, target | flags)?;
        bench.vcpu().request_fence(Fence::GUEST_TLB);
        if target < DEVICE {
            bench.hart().mark(bench.space.read(target)?)?;
        } else {
            bench.hart().mmio_read(target, Qword)?;
            bench.vcpu().set_return_value(4)?;
            bench.hart().mark(4)?;
        }
    }
    Ok(())
}

fn while_running<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.li(RSI, WINDOW);
        let again = g.here_label();
        g.lock().inc(qword(RSI));
        g.jmp(again);
    })?;
    fences::while_running(subject, bench, |vcpu, exit| match exit {
        Exit::MmioRead { addr, .. } | Exit::MmioWrite { addr, .. }
            if addr.as_u64() == WINDOW && subject.can_retry() =>
        {
            Ok(vcpu.retry()?)
        }
        Exit::MmioRead { addr, .. } if addr.as_u64() == WINDOW => Ok(vcpu.set_return_value(0)?),
        Exit::MmioWrite { addr, .. } if addr.as_u64() == WINDOW => Ok(()),
        exit => fail!("{exit:x?}"),
    })
}
