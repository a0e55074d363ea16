//! Changes of page tables and instructions, and the fences that make them visible.

use axvcpu::AccessKind::Write;
use axvcpu::AccessWidth::Qword;
use axvcpu::Fence;
use axvcpu_riscv::asm::*;
use axvcpu_riscv::csr::num;
use axvcpu_riscv::paging::{SV39, pte};
use axvcpu_riscv::stage2::Perms;

use super::NamedCase;
use super::Subject;
use super::bench::{Bench, Exit, Riscv};
use super::guest::*;
use crate::bench::Isa;
use crate::fences;
use crate::report::{Verdict, fail};

const WINDOW: u64 = Riscv::WINDOW;

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
        g.li(S0, WINDOW as i64);
        for _ in 0..2 {
            g.ld(S1, 0, S0);
            g.report(S1);
        }
        g.sd(S1, 8, S0);
        g.amoadd_d(S1, S1, S0, Order::Relaxed);
    })?;
    fences::unmapped(bench, |hart| hart.nested_fault(WINDOW, Write))
}

fn write_protected<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.li(S0, WINDOW as i64);
        g.li(S1, 1);
        for _ in 0..3 {
            g.sd(S1, 0, S0);
            g.ld(S2, 0, S0);
            g.report(S2);
            g.addi(S1, S1, 1);
        }
    })?;
    fences::write_protected(bench)
}

/// `li s1, value` and `ret`.
fn value_function(value: u64) -> alloc::vec::Vec<u8> {
    let mut asm = Asm::new(0);
    asm.li(S1, value as i64);
    asm.ret();
    asm.finish().unwrap_or_default()
}

fn execute_protected<S: Subject>(subject: &S) -> Verdict {
    // Within the reach of a direct call: whatever links code to code must let go of it, too.
    const NEAR: u64 = CODE + 0x8_0000;
    let mut bench = Bench::boot(subject, |g| {
        let again = g.here_label();
        g.li(S3, 300);
        let inner = g.here_label();
        let distance = (NEAR - g.here()) as i64;
        g.word(lookup("jal").and_then(|jal| jal.encode(&[1, distance])).unwrap_or(0));
        g.addi(S3, S3, -1);
        g.bnez(S3, inner);
        g.mark(1);
        g.j(again);
    })?;
    bench.space.add(NEAR, 1, Some(Perms::RX))?;
    bench.space.write(NEAR, 0x8082)?; // ret
    fences::execute_protected(bench, NEAR)
}

fn exchanged<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.li(S0, WINDOW as i64);
        let again = g.here_label();
        g.jalr(RA, 0, S0);
        g.report(S1);
        g.ld(S1, 16, S0);
        g.report(S1);
        g.j(again);
    })?;
    fences::exchanged(bench, value_function)
}

fn instructions<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.li(S0, WINDOW as i64);
        let again = g.here_label();
        // A loop, so that whatever translates code has good reason to.
        g.li(S3, 300);
        let inner = g.here_label();
        g.jalr(RA, 0, S0);
        g.addi(S3, S3, -1);
        g.bnez(S3, inner);
        g.report(S1);
        g.j(again);
    })?;
    fences::instructions(bench, value_function)
}

fn guest_tables<S: Subject>(subject: &S) -> Verdict {
    const VIRTUAL: u64 = 0x30_0000_0000;
    let root = DATA + 0x40_0000;
    let mut bench = Bench::boot(subject, |g| {
        g.csrw(num::SATP, A0);
        g.sfence_vma(ZERO, ZERO);
        g.report_for_ever(VIRTUAL);
    })?;
    bench.space.add(root, 1, Some(Perms::RW))?;
    // Gigabyte pages: the code where it is, and a window onto the gigabyte it is in, or onto nothing.
    let rwx = pte::V | pte::RWX | pte::A | pte::D;
    let gigabyte = CODE & !((1 << 30) - 1);
    let entry = |address| root + 8 * SV39.index(address, 2) as u64;
    bench.space.write(entry(CODE), pte::new(gigabyte, rwx))?;
    bench.vcpu().set_gpr(10, SV39.root_register(root))?;
    for target in [DEVICE, gigabyte, DEVICE, gigabyte] {
        let target = target & !((1 << 30) - 1);
        bench.space.write(entry(VIRTUAL), pte::new(target, rwx))?;
        bench.vcpu().request_fence(Fence::GUEST_TLB);
        if target == gigabyte {
            bench.hart().mark(bench.space.read(CODE)?)?;
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
        g.li(S0, WINDOW as i64);
        g.li(S1, 1);
        let again = g.here_label();
        g.amoadd_d(ZERO, S1, S0, Order::Relaxed);
        g.j(again);
    })?;
    fences::while_running(subject, bench, |_, exit| match exit {
        Exit::NestedPageFault { addr, .. } if addr.as_u64() == WINDOW => Ok(()),
        exit => fail!("{exit:x?}"),
    })
}
