//! Where a vCPU can be: a way to every state, and through every public operation.
#![allow(unsafe_code)] // promises stage-2 roots that nobody follows

use core::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::thread;

use super::fake::*;
use crate::*;

/// A state, and for `Invalid` whether the vCPU is still on its physical CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Created,
    Free,
    Ready,
    /// Seen from inside the guest entry.
    Running,
    /// Seen from another physical CPU.
    RunningElsewhere,
    Blocked,
    Invalid,
    InvalidOnCpu,
}

impl Place {
    pub(super) const ALL: [Self; 8] = [
        Self::Created,
        Self::Free,
        Self::Ready,
        Self::Running,
        Self::RunningElsewhere,
        Self::Blocked,
        Self::Invalid,
        Self::InvalidOnCpu,
    ];

    pub(super) fn state(self) -> VCpuState {
        match self {
            Self::Created => VCpuState::Created,
            Self::Free => VCpuState::Free,
            Self::Ready => VCpuState::Ready,
            Self::Running | Self::RunningElsewhere => VCpuState::Running,
            Self::Blocked => VCpuState::Blocked,
            Self::Invalid | Self::InvalidOnCpu => VCpuState::Invalid,
        }
    }
}

/// Brings a vCPU to `place`, calls `f` there and answers what `f` did.
pub(super) fn at<R: Send + 'static>(
    place: Place,
    f: impl FnOnce(&AxVCpu<Fake>, &Probe) -> R + Send + 'static,
) -> R {
    let (vcpu, probe) = match place {
        Place::Created => created(),
        Place::Free => free(),
        Place::Invalid => {
            let (vcpu, probe) = created();
            probe.plan(Op::Setup, Act::Fail(AxError::NoMemory));
            assert_eq!(setup(&vcpu), Err(AxError::NoMemory));
            (vcpu, probe)
        }
        _ => ready(),
    };
    match place {
        Place::Blocked => vcpu.block().unwrap(),
        Place::InvalidOnCpu => {
            probe.plan(Op::Run, Act::Fail(AxError::Host { code: 5 }));
            assert_eq!(vcpu.run(), Err(AxError::Host { code: 5 }));
        }
        Place::Running => {
            let (send, receive) = mpsc::channel();
            let own = probe.clone();
            probe.plan_call(Op::Run, move |vcpu| {
                own.calls();
                assert_eq!(vcpu.state(), VCpuState::Running);
                send.send(f(vcpu, &own)).unwrap();
            });
            assert!(vcpu.run().is_ok());
            return receive.recv().unwrap();
        }
        Place::RunningElsewhere => return while_running(&vcpu, &probe, || f(&vcpu, &probe)),
        _ => {}
    }
    probe.calls();
    assert_eq!(vcpu.state(), place.state());
    f(&vcpu, &probe)
}

/// Calls `f` while another thread, to which the vCPU is bound, is inside the guest entry.
pub(super) fn while_running<R>(
    vcpu: &AxVCpu<Fake>,
    probe: &Arc<Probe>,
    f: impl FnOnce() -> R,
) -> R {
    if vcpu.bound_cpu().is_some() {
        vcpu.unbind().unwrap();
    }
    let (entered, has_entered) = mpsc::channel();
    let (leave, may_leave) = mpsc::channel::<()>();
    probe.plan_call(Op::Run, move |_| {
        entered.send(()).unwrap();
        may_leave.recv().unwrap();
    });
    thread::scope(|scope| {
        let runner = scope.spawn(|| {
            vcpu.bind()?;
            let exit = vcpu.run();
            vcpu.unbind()?;
            exit
        });
        has_entered.recv().unwrap();
        probe.calls();
        let result = catch_unwind(AssertUnwindSafe(f));
        leave.send(()).unwrap();
        runner.join().unwrap().unwrap();
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Every operation that can be refused or can change the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Setup,
    Bind,
    Unbind,
    Run,
    Block,
    SetReturnValue,
    SetGpr,
    GetGpr,
    SetEntry,
    WithArch,
    Reset,
    Retry,
    FailAccess,
    Kick,
    Wake,
    Inject,
    Raise,
    /// Lowers a line that is low.
    Lower,
    RequestFence,
    Read,
}

impl Operation {
    pub(super) fn perform(self, vcpu: &AxVCpu<Fake>) -> AxResult {
        match self {
            Self::Setup => setup(vcpu),
            Self::Bind => vcpu.bind(),
            Self::Unbind => vcpu.unbind(),
            Self::Run => vcpu.run().map(drop),
            Self::Block => vcpu.block(),
            Self::SetReturnValue => vcpu.set_return_value(9),
            Self::SetGpr => vcpu.set_gpr(1, 2),
            Self::GetGpr => vcpu.get_gpr(1).map(drop),
            Self::SetEntry => vcpu.set_entry(ENTRY),
            Self::WithArch => vcpu.with_arch(|_| ()),
            Self::Reset => vcpu.reset(),
            Self::Retry => vcpu.retry(),
            Self::FailAccess => vcpu.fail_access(),
            Self::Kick => {
                vcpu.kick();
                Ok(())
            }
            Self::Wake => {
                vcpu.wake();
                Ok(())
            }
            Self::Inject => vcpu.inject_interrupt(5),
            Self::Raise => vcpu.set_interrupt_line(9, true),
            Self::Lower => vcpu.set_interrupt_line(9, false),
            Self::RequestFence => {
                vcpu.request_fence(Fence::all());
                Ok(())
            }
            Self::Read => {
                let _ = (vcpu.state(), vcpu.bound_cpu(), vcpu.fence_outstanding(Fence::all()));
                let _ = (vcpu.vm_id(), vcpu.vcpu_id(), vcpu.favor_phys_cpu(), vcpu.phys_cpu_set());
                Ok(())
            }
        }
    }
}

/// What a panic said.
pub(super) fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<std::string::String>().map(|text| text.as_str());
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("")
}
