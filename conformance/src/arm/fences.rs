//! Changes of page tables and instructions, and the fences that make them visible.

use axvcpu::AccessKind::Write;
use axvcpu::AccessWidth::Qword;
use axvcpu::Fence;
use axvcpu_arm::asm::*;
use axvcpu_stage2::Perms;

use super::NamedCase;
use super::Subject;
use super::bench::{Arm, Bench, Exit};
use super::guest::*;
use super::paging::{LAST, VIRTUAL, bits, entry, write_tables};
use crate::bench::Isa;
use crate::fences;
use crate::report::{Verdict, fail};

const WINDOW: u64 = Arm::WINDOW;
const FIRST: u64 = Arm::FIRST;

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
        g.li(X19, WINDOW);
        for _ in 0..2 {
            g.ldr(X20, X19, 0);
            g.report(X20);
        }
        g.str(X20, X19, 8);
        g.stp(X20, X20, X19, 0);
    })?;
    fences::unmapped(bench, |hart| hart.nested_fault(WINDOW, Write))
}

fn write_protected<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.li(X19, WINDOW);
        g.li(X20, 1);
        for _ in 0..3 {
            g.str(X20, X19, 0);
            g.ldr(X21, X19, 0);
            g.report(X21);
            g.add_imm(X20, X20, 1);
        }
    })?;
    fences::write_protected(bench)
}

/// `mov x20, #value` and `ret`.
fn value_function(value: u64) -> alloc::vec::Vec<u8> {
    let mut asm = Asm::new(0);
    asm.li(X20, value);
    asm.ret();
    asm.finish().unwrap_or_default()
}

fn execute_protected<S: Subject>(subject: &S) -> Verdict {
    // Within the reach of a direct branch: whatever links code to code must let go of it, too.
    const NEAR: u64 = CODE + 0x8_0000;
    let mut bench = Bench::boot(subject, |g| {
        let again = g.here_label();
        g.li(X21, 300);
        let inner = g.here_label();
        let distance = NEAR - g.here();
        g.word(0x9400_0000 | (distance >> 2) as u32); // bl
        g.sub_imm(X21, X21, 1);
        g.cbnz(X21, inner);
        g.mark(1);
        g.b(again);
    })?;
    bench.space.add(NEAR, 1, Some(Perms::RX))?;
    bench.space.fill(NEAR, &value_function(0))?;
    bench.vcpu().request_fence(Fence::INSTRUCTION);
    fences::execute_protected(bench, NEAR)
}

fn exchanged<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.li(X19, WINDOW);
        let again = g.here_label();
        g.blr(X19);
        g.report(X20);
        g.ldr(X20, X19, 16);
        g.report(X20);
        g.b(again);
    })?;
    fences::exchanged(bench, value_function)
}

fn instructions<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.li(X19, WINDOW);
        let again = g.here_label();
        // A loop, so that whatever translates code has good reason to.
        g.li(X21, 300);
        let inner = g.here_label();
        g.blr(X19);
        g.sub_imm(X21, X21, 1);
        g.cbnz(X21, inner);
        g.report(X20);
        g.b(again);
    })?;
    fences::instructions(bench, value_function)
}

fn guest_tables<S: Subject>(subject: &S) -> Verdict {
    let mut bench = Bench::boot(subject, |g| {
        g.mmu_on();
        g.report_for_ever(VIRTUAL);
    })?;
    write_tables(&mut bench, FIRST, bits::NORMAL)?;
    bench.space.add(FIRST, 1, Some(Perms::RW))?;
    bench.space.write(FIRST, 0x1111)?;
    for target in [FIRST, DEVICE, FIRST, DEVICE] {
        let leaf = target | bits::NORMAL | bits::TABLE;
        bench.space.write(entry(LAST, VIRTUAL, 0), leaf)?;
        bench.vcpu().request_fence(Fence::GUEST_TLB);
        if target == FIRST {
            bench.hart().mark(0x1111)?;
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
        g.li(X19, WINDOW);
        let again = g.here_label();
        g.ldr(X20, X19, 0);
        g.add_imm(X20, X20, 1);
        g.str(X20, X19, 0);
        g.b(again);
    })?;
    fences::while_running(subject, bench, |vcpu, exit| match exit {
        Exit::MmioRead { addr, .. } | Exit::MmioWrite { addr, .. } if addr.as_u64() == WINDOW => {
            Ok(vcpu.retry()?)
        }
        exit => fail!("{exit:x?}"),
    })
}
