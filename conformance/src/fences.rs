//! Fences: what is the same on every architecture once the guest is there.

use alloc::vec::Vec;

use axvcpu::AccessWidth::Qword;
use axvcpu::{AccessKind, AxVCpu, Fence};
use axvcpu_stage2::Perms;

use crate::bench::{Bench, Exit, Hart, Isa};
use crate::report::{Verdict, ensure_eq, fail};
use crate::requests::{run_while, wait_for};
use crate::subject::Subject;

/// The guest loads from the window and reports it, twice; stores that 8 behind it; and accesses the window in yet another
/// way, to whose exit `last` runs.
pub(crate) fn unmapped<S: Subject, I: Isa>(
    mut bench: Bench<S, I>,
    last: impl FnOnce(&Hart<S, I>) -> Verdict,
) -> Verdict {
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
    last(bench.hart())?;
    ensure_eq!(bench.space.read(I::FIRST)?, 11, "memory that was taken away");
    Ok(())
}

/// The guest stores a number in the window, loads it and reports it: 1, 2 and 3.
pub(crate) fn write_protected<S: Subject, I: Isa>(mut bench: Bench<S, I>) -> Verdict {
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

/// The guest calls a function at `near` many times and marks 1, for ever.
pub(crate) fn execute_protected<S: Subject, I: Isa>(mut bench: Bench<S, I>, near: u64) -> Verdict {
    bench.announce();
    for _ in 0..3 {
        bench.hart().mark(1)?;
        bench.hart().mark(1)?;
        bench.space.protect(near, Perms::R)?;
        bench.vcpu().request_fence(Fence::STAGE2_TLB);
        bench.hart().nested_fault(near, AccessKind::Execute)?;
        bench.space.protect(near, Perms::RX)?;
        bench.vcpu().request_fence(Fence::STAGE2_TLB);
    }
    Ok(())
}

/// The guest calls a function at the window, reports what it gave, and reports what is 16 behind, for ever. `function`
/// gives a number.
pub(crate) fn exchanged<S: Subject, I: Isa>(
    mut bench: Bench<S, I>,
    function: impl Fn(u64) -> Vec<u8>,
) -> Verdict {
    for (page, value) in [(I::FIRST, 1), (I::SECOND, 2)] {
        bench.space.add(page, 1, None)?;
        bench.space.fill(page, &function(value))?;
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

/// The guest calls a function at the window many times and reports what it gave, for ever. `function` gives a number.
pub(crate) fn instructions<S: Subject, I: Isa>(
    mut bench: Bench<S, I>,
    function: impl Fn(u64) -> Vec<u8>,
) -> Verdict {
    bench.space.add(I::WINDOW, 1, Some(Perms::RX))?;
    bench.announce();
    for value in 0..5 {
        bench.space.fill(I::WINDOW, &function(value))?;
        bench.vcpu().request_fence(Fence::INSTRUCTION);
        bench.hart().mark(value)?;
    }
    Ok(())
}

/// The guest counts in the window for ever. `absent` undoes the exit that comes when nothing is there, and refuses any
/// other.
pub(crate) fn while_running<S: Subject, I: Isa>(
    subject: &S,
    mut bench: Bench<S, I>,
    absent: impl Fn(&AxVCpu<S::Arch>, Exit) -> Verdict,
) -> Verdict {
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
        |exit| absent(vcpu, exit),
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
