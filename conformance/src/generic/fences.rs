//! Changes of stage-2 tables and instructions, and the fences that make them visible.

use axvcpu::AccessKind::Execute;
use axvcpu::AccessWidth::Qword;
use axvcpu::{AxError, Fence};

use super::accesses::NEEDS_EXECUTE;
use super::{Architecture, Atomic, GuestsOf, Instructions, NamedCase, Perms, Program, Reg};
use crate::bench::{Bench, Exit};
use crate::report::{Verdict, ensure_eq, fail};
use crate::requests::{run_while, wait_for};
use crate::subject::Subject;

pub(super) fn cases<S: Subject, I: Architecture + GuestsOf<S>>() -> [NamedCase<S>; 6] {
    [
        ("fence: memory taken away from stage 2", unmapped::<S, I>),
        ("fence: write permission taken away in stage 2", write_protected::<S, I>),
        ("fence: execute permission taken away in stage 2", execute_protected::<S, I>),
        ("fence: another page behind the same address", exchanged::<S, I>),
        ("fence: the host writes instructions", instructions::<S, I>),
        ("fence: a running guest stops using a page", while_running::<S, I>),
    ]
}

fn unmapped<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let mut bench = Bench::<S, I>::boot(subject, |g| {
        g.set(Reg::B, I::WINDOW);
        for _ in 0..2 {
            g.load(Reg::A, Qword, Reg::B, 0);
            g.report(Reg::A);
        }
        g.store(Reg::A, Qword, Reg::B, 8);
        g.atomic_add(Reg::A, Reg::B);
    })?;
    bench.space.add(I::FIRST, 1, None)?;
    bench.space.write(I::FIRST, 11)?;
    bench.space.map(I::WINDOW, I::FIRST, Perms::RW)?;
    bench.announce();
    bench.hart().mark(11)?;
    bench.space.unmap(I::WINDOW)?;
    bench.vcpu().request_fence(Fence::STAGE2_TLB);
    if bench.vcpu().fence_outstanding(Fence::STAGE2_TLB) {
        fail!("outstanding, although the guest does not run");
    }
    bench.hart().mmio_read(I::WINDOW, Qword)?;
    bench.vcpu().set_return_value(12)?;
    bench.hart().mark(12)?;
    bench.hart().mmio_write(I::WINDOW + 8, Qword, 12)?;
    match I::ATOMIC {
        Atomic::Fault(access) => bench.hart().nested_fault(I::WINDOW, access)?,
        Atomic::Device => bench.hart().mmio_read(I::WINDOW, Qword)?,
    }
    ensure_eq!(bench.space.read(I::FIRST)?, 11, "memory that was taken away");
    Ok(())
}

fn write_protected<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let mut bench = Bench::<S, I>::boot(subject, |g| {
        g.set(Reg::B, I::WINDOW);
        for number in 1..=3 {
            g.set(Reg::A, number);
            g.store(Reg::A, Qword, Reg::B, 0);
            g.load(Reg::A, Qword, Reg::B, 0);
            g.report(Reg::A);
        }
    })?;
    bench.space.add(I::FIRST, 1, None)?;
    bench.space.map(I::WINDOW, I::FIRST, Perms::RW)?;
    bench.announce();
    bench.hart().mark(1)?;
    bench.space.protect(I::WINDOW, Perms::R)?;
    bench.vcpu().request_fence(Fence::STAGE2_TLB);
    bench.hart().mmio_write(I::WINDOW, Qword, 2)?;
    bench.hart().mark(1)?;
    bench.space.protect(I::WINDOW, Perms::RW)?;
    bench.vcpu().request_fence(Fence::STAGE2_TLB);
    bench.hart().mark(3)
}

fn execute_protected<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let mut bench = Bench::<S, I>::boot(subject, |g| {
        g.for_ever(|g| {
            g.repeat(300, |g| g.call(I::NEAR));
            g.mark(1);
        });
    })?;
    bench.space.add(I::NEAR, 1, Some(Perms::RX))?;
    bench.space.fill(I::NEAR, &I::function(1)?)?;
    bench.vcpu().request_fence(Fence::INSTRUCTION);
    if !I::enforces_execute(subject) {
        bench.announce();
        bench.hart().mark(1)?;
        bench.space.protect(I::NEAR, Perms::R)?;
        bench.vcpu().request_fence(Fence::STAGE2_TLB);
        bench.hart().mark(1)?;
        return Err(NEEDS_EXECUTE);
    }
    bench.announce();
    for _ in 0..3 {
        bench.hart().mark(1)?;
        bench.hart().mark(1)?;
        bench.space.protect(I::NEAR, Perms::R)?;
        bench.vcpu().request_fence(Fence::STAGE2_TLB);
        bench.hart().nested_fault(I::NEAR, Execute)?;
        bench.space.protect(I::NEAR, Perms::RX)?;
        bench.vcpu().request_fence(Fence::STAGE2_TLB);
    }
    Ok(())
}

/// [`Architecture::function`] for numbers up to 5, which is what the shared cases ask for.
fn functions<I: Architecture>() -> Verdict<[alloc::vec::Vec<u8>; 6]> {
    let mut all = [const { alloc::vec::Vec::new() }; 6];
    for (value, function) in (0..).zip(&mut all) {
        *function = I::function(value)?;
        if function.is_empty() || function.len() > 16 {
            fail!("the function has {} bytes, not 1 to 16", function.len());
        }
    }
    Ok(all)
}

fn exchanged<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let functions = functions::<I>()?;
    let mut bench = Bench::<S, I>::boot(subject, |g| {
        g.for_ever(|g| {
            g.call(I::WINDOW);
            g.report(Reg::A);
            g.set(Reg::B, I::WINDOW);
            g.load(Reg::A, Qword, Reg::B, 16);
            g.report(Reg::A);
        });
    })?;
    for (page, value) in [(I::FIRST, 1), (I::SECOND, 2)] {
        bench.space.add(page, 1, None)?;
        bench.space.fill(page, &functions[value as usize])?;
        bench.space.write(page + 16, 10 * value)?;
    }
    // Data, instructions and everything derived from them change together, again and again.
    for _ in 0..3 {
        for (page, value) in [(I::FIRST, 1), (I::SECOND, 2)] {
            bench.space.unmap(I::WINDOW)?;
            bench.space.map(I::WINDOW, page, Perms::RWX)?;
            bench.vcpu().request_fence(Fence::STAGE2_TLB | Fence::INSTRUCTION);
            bench.hart().mark(value)?;
            bench.hart().mark(10 * value)?;
        }
    }
    Ok(())
}

fn instructions<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let functions = functions::<I>()?;
    let mut bench = Bench::<S, I>::boot(subject, |g| {
        g.for_ever(|g| {
            // A loop, so that whatever translates code has good reason to.
            g.repeat(300, |g| g.call(I::WINDOW));
            g.report(Reg::A);
        });
    })?;
    bench.space.add(I::WINDOW, 1, Some(Perms::RX))?;
    bench.announce();
    for value in 0..5 {
        bench.space.fill(I::WINDOW, &functions[value as usize])?;
        bench.vcpu().request_fence(Fence::INSTRUCTION);
        bench.hart().mark(value)?;
    }
    Ok(())
}

fn while_running<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let mut bench = Bench::<S, I>::boot(subject, |g| {
        g.set(Reg::B, I::WINDOW);
        g.set(Reg::A, 1);
        g.for_ever(|g| g.atomic_add(Reg::A, Reg::B));
    })?;
    const ROUNDS: usize = 20;
    bench.space.add(I::FIRST, 1, None)?;
    bench.space.add(I::SECOND, 1, None)?;
    bench.space.map(I::WINDOW, I::FIRST, Perms::RW)?;
    bench.announce();
    let Bench { harts, space, .. } = &mut bench;
    let vcpu = &harts[0].vcpu;
    run_while(
        subject,
        vcpu,
        // Between unmapping and mapping anew the guest finds nothing there.
        |exit| match (I::ATOMIC, exit) {
            (Atomic::Fault(_), Exit::NestedPageFault { addr, .. })
                if addr.as_u64() == I::WINDOW =>
            {
                Ok(())
            }
            (Atomic::Device, Exit::MmioRead { addr, .. } | Exit::MmioWrite { addr, .. })
                if addr.as_u64() == I::WINDOW =>
            {
                match vcpu.retry() {
                    // It may as well be lost: the guest goes on counting.
                    Err(AxError::Unsupported) if exit.asks() => Ok(vcpu.set_return_value(0)?),
                    Err(AxError::Unsupported) => Ok(()),
                    result => Ok(result?),
                }
            }
            (_, exit) => fail!("{exit:x?}"),
        },
        || {
            for round in 0..ROUNDS {
                let (old, new) =
                    if round % 2 == 0 { (I::FIRST, I::SECOND) } else { (I::SECOND, I::FIRST) };
                wait_for::<S>("the guest to count", || Ok(space.read(old)? != 0))?;
                space.unmap(I::WINDOW)?;
                space.map(I::WINDOW, new, Perms::RW)?;
                vcpu.request_fence(Fence::STAGE2_TLB);
                wait_for::<S>("the fence", || Ok(!vcpu.fence_outstanding(Fence::STAGE2_TLB)))?;
                // From now on the old page is the host's.
                space.write(old, 0)?;
                wait_for::<S>("the guest to count elsewhere", || Ok(space.read(new)? != 0))?;
                ensure_eq!(space.read(old)?, 0, "round {round}: a page after its fence");
            }
            Ok(())
        },
    )
}
