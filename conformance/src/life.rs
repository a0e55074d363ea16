//! The life cycle: what is the same on every architecture once the guest is there.

use axvcpu::{AxArchVCpu, AxError, VCpuState, current_ids};

use crate::bench::{Bench, Exit, Isa};
use crate::report::{Verdict, ensure, ensure_eq};
use crate::subject::Subject;

/// Takes a vCPU that was made and not set up through every state. Its guest marks 1, waits, marks 2 and ends.
pub(crate) fn states<S: Subject, I: Isa>(subject: &S, bench: &Bench<S, I>) -> Verdict {
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

/// The guest marks 1.
pub(crate) fn current<S: Subject, I: Isa>(bench: &Bench<S, I>) -> Verdict {
    type Hal<S> = <<S as Subject>::Arch as AxArchVCpu>::Hal;
    ensure_eq!(current_ids::<Hal<S>>(), None, "bound");
    let exit = bench.hart().run()?;
    ensure!(matches!(exit, Exit::Hypercall { .. }), "found {exit:?}");
    ensure_eq!(current_ids::<Hal<S>>(), None, "after a run");
    let inside = bench.vcpu().with_arch(|_| current_ids::<Hal<S>>())?;
    let inside = inside.map(|ids| (ids.vm_id, ids.vcpu_id));
    ensure_eq!(inside, Some((1, 0)), "inside of the backend");
    Ok(())
}
