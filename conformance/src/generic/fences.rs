//! Changes of stage-2 tables and instructions, and the fences that make them visible.

use axvcpu::AccessWidth::Qword;
use axvcpu::{AxError, Fence};

use super::accesses::NEEDS_EXECUTE;
use super::{Architecture, Atomic, GuestsOf, Instructions, NamedCase, Perms, Program, Reg};
use crate::bench::{Bench, Exit};
use crate::fences;
use crate::report::{Verdict, fail};
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
    let bench = Bench::<S, I>::boot(subject, |g| {
        g.set(Reg::B, I::WINDOW);
        for _ in 0..2 {
            g.load(Reg::A, Qword, Reg::B, 0);
            g.report(Reg::A);
        }
        g.store(Reg::A, Qword, Reg::B, 8);
        g.atomic_add(Reg::A, Reg::B);
    })?;
    fences::unmapped(bench, |hart| match I::ATOMIC {
        Atomic::Fault(access) => hart.nested_fault(I::WINDOW, access),
        Atomic::Device => hart.mmio_read(I::WINDOW, Qword),
    })
}

fn write_protected<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    fences::write_protected(Bench::<S, I>::boot(subject, |g| {
        g.set(Reg::B, I::WINDOW);
        for number in 1..=3 {
            g.set(Reg::A, number);
            g.store(Reg::A, Qword, Reg::B, 0);
            g.load(Reg::A, Qword, Reg::B, 0);
            g.report(Reg::A);
        }
    })?)
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
    fences::execute_protected(bench, I::NEAR)
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
    let bench = Bench::<S, I>::boot(subject, |g| {
        g.for_ever(|g| {
            g.call(I::WINDOW);
            g.report(Reg::A);
            g.set(Reg::B, I::WINDOW);
            g.load(Reg::A, Qword, Reg::B, 16);
            g.report(Reg::A);
        });
    })?;
    fences::exchanged(bench, |value| functions[value as usize].clone())
}

fn instructions<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let functions = functions::<I>()?;
    let bench = Bench::<S, I>::boot(subject, |g| {
        g.for_ever(|g| {
            // A loop, so that whatever translates code has good reason to.
            g.repeat(300, |g| g.call(I::WINDOW));
            g.report(Reg::A);
        });
    })?;
    fences::instructions(bench, |value| functions[value as usize].clone())
}

fn while_running<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let bench = Bench::<S, I>::boot(subject, |g| {
        g.set(Reg::B, I::WINDOW);
        g.set(Reg::A, 1);
        g.for_ever(|g| g.atomic_add(Reg::A, Reg::B));
    })?;
    fences::while_running(subject, bench, |vcpu, exit| match (I::ATOMIC, exit) {
        (Atomic::Fault(_), Exit::NestedPageFault { addr, .. }) if addr.as_u64() == I::WINDOW => {
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
    })
}
