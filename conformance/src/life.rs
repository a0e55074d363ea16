//! The life cycle: what is the same on every architecture once the guest is there.

use axvcpu::AccessWidth::Dword;
use axvcpu::{AxArchVCpu, AxError, AxVCpu, GuestPhysAddr, VCpuState, current_ids};

use crate::bench::{Bench, GuestsOf, Hart, Isa, Program, pattern};
use crate::report::{Verdict, ensure, ensure_eq};
use crate::subject::Subject;

/// Takes a vCPU through every state.
pub(crate) fn states<S: Subject, I: GuestsOf<S>>(subject: &S) -> Verdict {
    let mut bench = Bench::<S, I>::empty(subject)?;
    bench.load(|g| {
        g.mark(1);
        g.wfi();
        g.mark(2);
    })?;
    let vcpu = AxVCpu::new(5, 6, 0, None, subject.create_config(&bench.machine)?)?;
    ensure_eq!((vcpu.vm_id(), vcpu.vcpu_id()), (5, 6), "ids");
    bench.harts.push(Hart::new(vcpu));
    let (hart, vcpu) = (bench.hart(), bench.vcpu());

    let bad = |found| AxError::BadState { found };
    let refused = |found: VCpuState| -> Verdict {
        let bad = bad(found);
        ensure_eq!(vcpu.state(), found, "state");
        if found != VCpuState::Created {
            ensure_eq!(bench.setup(subject, 0), Err(bad), "setup while {found}");
        }
        if found != VCpuState::Free {
            ensure_eq!(vcpu.bind(), Err(bad), "bind while {found}");
        }
        if found != VCpuState::Ready {
            ensure_eq!(vcpu.run(), Err(bad), "run while {found}");
            ensure_eq!(vcpu.unbind(), Err(bad), "unbind while {found}");
            ensure_eq!(vcpu.block(), Err(bad), "block while {found}");
        }
        if found == VCpuState::Created {
            ensure_eq!(vcpu.set_gpr(1, 1), Err(bad), "set_gpr while {found}");
            ensure_eq!(vcpu.reset(), Err(bad), "reset while {found}");
            ensure_eq!(vcpu.set_return_value(1), Err(bad), "an answer while {found}");
        } else {
            vcpu.set_gpr(1, 1)?;
            ensure_eq!(vcpu.set_return_value(1), Err(AxError::NotAsked), "an answer while {found}");
        }
        ensure_eq!(vcpu.state(), found, "state after refusals");
        Ok(())
    };

    refused(VCpuState::Created)?;
    ensure_eq!(vcpu.bound_cpu(), None, "bound");
    bench.setup(subject, 0)?;
    refused(VCpuState::Free)?;
    vcpu.bind()?;
    ensure!(vcpu.bound_cpu().is_some(), "bound, but on no CPU");
    refused(VCpuState::Ready)?;
    hart.mark(1)?;
    ensure_eq!(vcpu.state(), VCpuState::Ready, "after an exit");
    hart.halt()?;
    refused(VCpuState::Blocked)?;
    vcpu.wake();
    ensure_eq!(vcpu.state(), VCpuState::Ready, "woken");
    hart.mark(2)?;
    hart.end()?;
    vcpu.unbind()?;
    ensure_eq!(vcpu.state(), VCpuState::Free, "unbound");
    ensure_eq!(vcpu.bound_cpu(), None, "unbound");
    Ok(())
}

pub(crate) fn current<S: Subject, I: GuestsOf<S>>(subject: &S) -> Verdict {
    let bench = Bench::<S, I>::boot(subject, |g| g.mark(1))?;
    type Hal<S> = <<S as Subject>::Arch as AxArchVCpu>::Hal;
    ensure_eq!(current_ids::<Hal<S>>(), None, "bound");
    let exit = bench.hart().run()?;
    ensure!(bench.hart().call(&exit)?.is_some(), "found {exit:?}");
    ensure_eq!(current_ids::<Hal<S>>(), None, "after a run");
    let inside = bench.vcpu().with_arch(|_| current_ids::<Hal<S>>())?;
    let inside = inside.map(|ids| (ids.vm_id, ids.vcpu_id));
    ensure_eq!(inside, Some((1, 0)), "inside of the backend");
    Ok(())
}

/// There are `count` registers. The guest stores all but `base` and `zero`, if there is one, one after the other at the
/// address in `base`, and ends. Nothing comes before that; its vCPU was set up and not bound.
pub(crate) fn registers<S: Subject, I: Isa>(
    bench: &Bench<S, I>,
    count: usize,
    base: usize,
    zero: Option<usize>,
) -> Verdict {
    let vcpu = bench.vcpu();
    for round in 0..2 {
        // Once before the first binding, once while bound.
        let value = |number: usize| match number {
            _ if number == base => I::DATA,
            _ if Some(number) == zero => 0,
            _ => pattern(number as u64 + round),
        };
        for number in 0..count {
            vcpu.set_gpr(number, if Some(number) == zero { 77 } else { value(number) })?;
        }
        for number in [count, count + 1, 63, 64, usize::MAX] {
            ensure_eq!(vcpu.set_gpr(number, 0), Err(AxError::InvalidInput), "set_gpr({number})");
        }
        for number in 0..count {
            match vcpu.get_gpr(number) {
                Err(AxError::Unsupported) => {}
                found => ensure_eq!(found, Ok(value(number)), "get_gpr({number})"),
            }
        }
        if round == 0 {
            vcpu.bind()?;
        } else {
            vcpu.set_entry(GuestPhysAddr::new(I::CODE))?;
        }
        bench.hart().end()?;
        for number in (0..count).filter(|&number| number != base && Some(number) != zero) {
            let found = bench.space.read(I::DATA + 8 * number as u64)?;
            ensure_eq!(found, value(number), "what the guest found in register {number}");
        }
    }
    Ok(())
}

/// The guest marks 1 and ends; at `second` it marks 2.
pub(crate) fn set_entry<S: Subject, I: Isa>(bench: &Bench<S, I>, second: u64) -> Verdict {
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    vcpu.set_entry(GuestPhysAddr::new(second))?;
    hart.mark(2)?;
    vcpu.set_entry(GuestPhysAddr::new(I::CODE))?;
    hart.mark(1)?;
    vcpu.unbind()?;
    vcpu.set_entry(GuestPhysAddr::new(second))?;
    vcpu.bind()?;
    hart.mark(2)
}

/// The guest adds up the numbers from 1 to 5, and reports each sum twice: from a general-purpose register and from a
/// system register.
pub(crate) fn rebinding<S: Subject, I: Isa>(bench: &Bench<S, I>) -> Verdict {
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    let mut sum = 0;
    for step in 1..=5 {
        sum += step;
        ensure_eq!(hart.report()?, sum, "a general-purpose register");
        vcpu.unbind()?;
        vcpu.bind()?;
        ensure_eq!(hart.report()?, sum, "a system register");
        vcpu.unbind()?;
        vcpu.bind()?;
    }
    hart.end()
}

/// The guest loads 32 bits from the device and reports them; 0x8765_4321 it sees as `seen`.
pub(crate) fn rebinding_unanswered<S: Subject, I: Isa>(bench: &Bench<S, I>, seen: u64) -> Verdict {
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    for when in ["while unbound", "after binding"] {
        hart.mmio_read(I::DEVICE, Dword)?;
        vcpu.unbind()?;
        if when == "while unbound" {
            vcpu.set_return_value(0x8765_4321)?;
            vcpu.bind()?;
        } else {
            vcpu.bind()?;
            ensure_eq!(vcpu.run(), Err(AxError::Unanswered), "running without the answer");
            vcpu.set_return_value(0x8765_4321)?;
        }
        ensure_eq!(hart.report()?, seen, "answered {when}");
        vcpu.set_entry(GuestPhysAddr::new(I::CODE))?;
    }
    Ok(())
}

/// The guest that `boot` starts marks 1, loads 32 bits from the device and waits.
pub(crate) fn dropped<S: Subject, I: Isa>(boot: impl Fn() -> Verdict<Bench<S, I>>) -> Verdict {
    // However far the one before got, the next starts as if there had been none.
    for steps in 0..4 {
        let bench = boot()?;
        let (hart, vcpu) = (bench.hart(), bench.vcpu());
        if steps > 0 {
            hart.mark(1)?;
        }
        if steps > 1 {
            hart.mmio_read(I::DEVICE, Dword)?;
        }
        if steps > 2 {
            vcpu.set_return_value(0)?;
            hart.halt()?;
        }
    }
    Ok(())
}
