//! Interrupts that are injected while the guest does not run.

use axvcpu::{AxError, VCpuState};

use super::{Architecture, GuestsOf, Instructions, NamedCase, Program};
use crate::bench::Bench;
use crate::report::{Stop, Verdict, ensure, ensure_eq};
use crate::subject::Subject;

pub(super) fn cases<S: Subject, I: Architecture + GuestsOf<S>>() -> [NamedCase<S>; 6] {
    [
        ("interrupt: stays pending until enabled, and is taken once", taken_once::<S, I>),
        ("interrupt: several at once, each of them is taken", several::<S, I>),
        ("interrupt: the wait does not halt while one is pending", no_halt::<S, I>),
        ("interrupt: ends the wait of a blocked vCPU", wakes::<S, I>),
        ("interrupt: stays pending while the vCPU is bound to no CPU", over_unbinding::<S, I>),
        ("interrupt: one that there is not is refused alone", no_such_vector::<S, I>),
    ]
}

fn taken_once<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    for vector in I::VECTORS {
        let bench = Bench::<S, I>::boot(subject, |g| {
            g.mark(1);
            g.mark(2);
            g.enable_interrupts();
            g.mark(3);
            g.mark(4);
        })?;
        let hart = bench.hart();
        hart.mark(1)?;
        hart.vcpu.inject_interrupt(vector)?;
        hart.mark(2)?; // still off
        ensure_eq!(I::interrupt(&hart.trap()?), Some(vector), "the interrupt");
        hart.mark(3)?;
        hart.vcpu.inject_interrupt(vector)?;
        ensure_eq!(I::interrupt(&hart.trap()?), Some(vector), "the second interrupt");
        hart.mark(4)?;
        hart.end()?;
    }
    Ok(())
}

fn several<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let bench = Bench::<S, I>::boot(subject, |g| {
        g.mark(1);
        g.enable_interrupts();
        g.mark(2);
    })?;
    let hart = bench.hart();
    // Before the first run and after it.
    hart.vcpu.inject_interrupt(I::VECTORS[0])?;
    hart.mark(1)?;
    for vector in &I::VECTORS[1..] {
        hart.vcpu.inject_interrupt(*vector)?;
    }
    let mut left = alloc::vec::Vec::from(I::VECTORS);
    while !left.is_empty() {
        let trap = hart.trap()?;
        let place = left.iter().position(|&vector| I::interrupt(&trap) == Some(vector));
        ensure!(place.is_some(), "waited for one of {left:?}, found {trap:x?}");
        left.remove(place.unwrap_or(0));
    }
    hart.mark(2)?;
    hart.end()
}

fn no_halt<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let bench = Bench::<S, I>::boot(subject, |g| {
        g.mark(1);
        g.mark(2);
        g.await_interrupt();
        g.mark(3);
    })?;
    let hart = bench.hart();
    hart.mark(1)?;
    hart.vcpu.inject_interrupt(I::VECTORS[0])?;
    hart.mark(2)?; // by now the backend knows of it, and the core does not any more
    hart.mark(3)?;
    hart.end()
}

fn wakes<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let bench = Bench::<S, I>::boot(subject, |g| {
        for number in 1..=3 {
            g.await_interrupt();
            g.mark(number);
        }
    })?;
    let hart = bench.hart();
    for number in 1..=3 {
        hart.halt()?;
        // Woken for nothing it waits again.
        hart.vcpu.wake();
        hart.halt()?;
        hart.vcpu.inject_interrupt(I::VECTORS[0])?;
        ensure_eq!(hart.vcpu.state(), VCpuState::Ready, "after the interrupt");
        hart.mark(number)?;
    }
    hart.end()
}

fn over_unbinding<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let bench = Bench::<S, I>::boot(subject, |g| {
        g.mark(1);
        g.mark(2);
        g.enable_interrupts();
        g.mark(3);
        g.mark(4);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    let rebind = || vcpu.unbind().and_then(|()| vcpu.bind());
    hart.mark(1)?;
    vcpu.inject_interrupt(I::VECTORS[0])?;
    rebind()?; // before the backend knows of it
    hart.mark(2)?;
    rebind()?; // and after
    ensure_eq!(I::interrupt(&hart.trap()?), Some(I::VECTORS[0]), "the interrupt");
    hart.mark(3)?;
    vcpu.unbind()?;
    vcpu.inject_interrupt(I::VECTORS[1])?;
    vcpu.bind()?;
    ensure_eq!(I::interrupt(&hart.trap()?), Some(I::VECTORS[1]), "one that came while unbound");
    hart.mark(4)?;
    hart.end()
}

fn no_such_vector<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let Some(vector) = I::NO_VECTOR else {
        return Err(Stop::Skipped("the architecture has all vectors"));
    };
    let bench = Bench::<S, I>::boot(subject, |g| {
        g.enable_interrupts();
        g.mark(1);
        g.mark(2);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.mark(1)?;
    // One before and one after it in the order of their numbers, if there are such.
    vcpu.inject_interrupt(I::VECTORS[0])?;
    vcpu.inject_interrupt(vector)?;
    vcpu.inject_interrupt(I::VECTORS[1])?;
    let refused = vcpu.run();
    ensure!(
        refused == Err(AxError::InterruptFailed { vector })
            || refused == Err(AxError::InvalidInput),
        "the run with vector {vector}: expected a refusal, found {refused:x?}"
    );
    ensure_eq!(vcpu.state(), VCpuState::Ready, "after the refusal");
    let found = [hart.trap()?, hart.trap()?].map(|trap| I::interrupt(&trap));
    for vector in &I::VECTORS[..2] {
        ensure!(found.contains(&Some(*vector)), "vector {vector} was lost, found {found:?}");
    }
    hart.mark(2)?;
    hart.end()
}
