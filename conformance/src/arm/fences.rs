//! Changes of page tables and instructions, and the fences that make them visible.

use core::sync::atomic::{AtomicBool, Ordering};

use axvcpu::AccessWidth::Qword;
use axvcpu::{AccessKind, Fence};
use axvcpu_arm::asm::*;
use axvcpu_stage2::Perms;

use super::NamedCase;
use super::Subject;
use super::bench::{Bench, Exit, dispatch};
use super::guest::*;
use super::paging::{LAST, VIRTUAL, bits, entry, write_tables};
use crate::report::{Verdict, ensure_eq, fail};
use crate::requests::{two_cpus, wait_for};

/// A page whose mapping changes, and the memory it leads to in turn.
const WINDOW: u64 = DATA + 0x10_0000;
const FIRST: u64 = DATA + 0x20_0000;
const SECOND: u64 = DATA + 0x20_1000;

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
    let mut bench = Bench::boot(subject, |g| {
        g.li(X19, WINDOW);
        for _ in 0..2 {
            g.ldr(X20, X19, 0);
            g.report(X20);
        }
        g.str(X20, X19, 8);
        g.stp(X20, X20, X19, 0);
    })?;
    bench.space.add(FIRST, 1, None)?;
    bench.space.write(FIRST, 11)?;
    bench.space.map(WINDOW, FIRST, Perms::RW)?;
    bench.hart().mark(11)?;
    bench.space.unmap(WINDOW)?;
    bench.vcpu().request_fence(Fence::STAGE2_TLB);
    if bench.vcpu().fence_outstanding(Fence::STAGE2_TLB) {
        fail!("outstanding, although the guest does not run");
    }
    bench.hart().mmio_read(WINDOW, Qword)?;
    bench.vcpu().set_return_value(12)?;
    bench.hart().mark(12)?;
    bench.hart().mmio_write(WINDOW + 8, Qword, 12)?;
    bench.hart().nested_fault(WINDOW, AccessKind::Write)?;
    ensure_eq!(bench.space.read(FIRST)?, 11, "memory that was taken away");
    Ok(())
}

fn write_protected<S: Subject>(subject: &S) -> Verdict {
    let mut bench = Bench::boot(subject, |g| {
        g.li(X19, WINDOW);
        g.li(X20, 1);
        for _ in 0..3 {
            g.str(X20, X19, 0);
            g.ldr(X21, X19, 0);
            g.report(X21);
            g.add_imm(X20, X20, 1);
        }
    })?;
    bench.space.add(FIRST, 1, None)?;
    bench.space.map(WINDOW, FIRST, Perms::RW)?;
    bench.hart().mark(1)?;
    bench.space.protect(WINDOW, Perms::R)?;
    bench.vcpu().request_fence(Fence::STAGE2_TLB);
    bench.hart().mmio_write(WINDOW, Qword, 2)?;
    bench.hart().mark(1)?;
    bench.space.protect(WINDOW, Perms::RW)?;
    bench.vcpu().request_fence(Fence::STAGE2_TLB);
    bench.hart().mark(3)
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
    for _ in 0..3 {
        bench.hart().mark(1)?;
        bench.hart().mark(1)?;
        bench.space.protect(NEAR, Perms::R)?;
        bench.vcpu().request_fence(Fence::STAGE2_TLB);
        bench.hart().nested_fault(NEAR, AccessKind::Execute)?;
        bench.space.protect(NEAR, Perms::RX)?;
        bench.vcpu().request_fence(Fence::STAGE2_TLB);
    }
    Ok(())
}

fn exchanged<S: Subject>(subject: &S) -> Verdict {
    let mut bench = Bench::boot(subject, |g| {
        g.li(X19, WINDOW);
        let again = g.here_label();
        g.blr(X19);
        g.report(X20);
        g.ldr(X20, X19, 16);
        g.report(X20);
        g.b(again);
    })?;
    for (page, value) in [(FIRST, 1), (SECOND, 2)] {
        bench.space.add(page, 1, None)?;
        bench.space.fill(page, &value_function(value))?;
        bench.space.write(page + 16, 10 * value)?;
    }
    // Data, instructions and everything derived from them change together, again and again.
    for _ in 0..3 {
        for (page, value) in [(FIRST, 1), (SECOND, 2)] {
            bench.space.unmap(WINDOW)?;
            bench.space.map(WINDOW, page, Perms::RWX)?;
            bench.vcpu().request_fence(Fence::STAGE2_TLB | Fence::INSTRUCTION);
            bench.hart().mark(value)?;
            bench.hart().mark(10 * value)?;
        }
    }
    Ok(())
}

fn instructions<S: Subject>(subject: &S) -> Verdict {
    let mut bench = Bench::boot(subject, |g| {
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
    bench.space.add(WINDOW, 1, Some(Perms::RX))?;
    for value in 0..5 {
        bench.space.fill(WINDOW, &value_function(value))?;
        bench.vcpu().request_fence(Fence::INSTRUCTION);
        bench.hart().mark(value)?;
    }
    Ok(())
}

fn guest_tables<S: Subject>(subject: &S) -> Verdict {
    let mut bench = Bench::boot(subject, |g| {
        g.mmu_on();
        g.li(X19, VIRTUAL);
        let again = g.here_label();
        g.ldr(X20, X19, 0);
        g.report(X20);
        g.b(again);
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
    const ROUNDS: usize = 20;
    let mut bench = Bench::boot(subject, |g| {
        g.li(X19, WINDOW);
        let again = g.here_label();
        g.ldr(X20, X19, 0);
        g.add_imm(X20, X20, 1);
        g.str(X20, X19, 0);
        g.b(again);
    })?;
    bench.space.add(FIRST, 1, None)?;
    bench.space.add(SECOND, 1, None)?;
    bench.space.map(WINDOW, FIRST, Perms::RW)?;
    let Bench { harts, space } = &mut bench;
    let hart = &harts[0];
    let done = AtomicBool::new(false);
    two_cpus(
        subject,
        || {
            while !done.load(Ordering::SeqCst) {
                match hart.vcpu.run()? {
                    Exit::Nothing => {}
                    // Between unmapping and mapping anew the guest finds nothing there.
                    Exit::MmioRead { addr, .. } | Exit::MmioWrite { addr, .. }
                        if addr.as_u64() == WINDOW =>
                    {
                        hart.vcpu.retry()?;
                    }
                    Exit::ExternalInterrupt { .. } => dispatch::<S>(),
                    exit => fail!("{exit:x?}"),
                }
            }
            Ok(())
        },
        || {
            let result = (|| -> Verdict {
                for round in 0..ROUNDS {
                    let (old, new) = if round % 2 == 0 { (FIRST, SECOND) } else { (SECOND, FIRST) };
                    wait_for::<S>("the guest to count", || Ok(space.read(old)? != 0))?;
                    space.unmap(WINDOW)?;
                    space.map(WINDOW, new, Perms::RW)?;
                    hart.vcpu.request_fence(Fence::STAGE2_TLB);
                    wait_for::<S>("the fence", || {
                        Ok(!hart.vcpu.fence_outstanding(Fence::STAGE2_TLB))
                    })?;
                    // From now on the old page is the host's.
                    space.write(old, 0)?;
                    wait_for::<S>("the guest to count elsewhere", || Ok(space.read(new)? != 0))?;
                    ensure_eq!(space.read(old)?, 0, "round {round}: a page after its fence");
                }
                Ok(())
            })();
            done.store(true, Ordering::SeqCst);
            hart.vcpu.kick();
            result
        },
    )
}
