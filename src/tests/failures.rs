//! Failures and panics inside every backend method, and what becomes of the vCPU.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::fake::*;
use super::places::{Operation, message};
use crate::*;
use VCpuState::{Blocked, Created, Free, Invalid, Ready};

const ERRORS: [AxError; 5] = [
    AxError::Unsupported,
    AxError::NoMemory,
    AxError::InvalidInput,
    AxError::ResourceBusy,
    AxError::Host { code: -3 },
];

/// A backend method, the operation that reaches it from a state, and what an error and a panic there lead to.
/// The last entry says whether the backend has something on the physical CPU afterwards.
const STEPS: [(VCpuState, Operation, Op, VCpuState, bool); 13] = [
    (Created, Operation::Setup, Op::SetEntry, Invalid, false),
    (Created, Operation::Setup, Op::SetEptRoot, Invalid, false),
    (Created, Operation::Setup, Op::Setup, Invalid, false),
    (Free, Operation::Bind, Op::Bind, Invalid, true),
    (Ready, Operation::Run, Op::Run, Invalid, true),
    (Ready, Operation::Unbind, Op::Unbind, Invalid, true),
    (Ready, Operation::SetGpr, Op::SetGpr, Ready, true),
    (Ready, Operation::GetGpr, Op::GetGpr, Ready, true),
    (Ready, Operation::SetEntry, Op::SetEntry, Ready, true),
    (Ready, Operation::Retry, Op::Retry, Ready, true),
    (Ready, Operation::FailAccess, Op::FailAccess, Ready, true),
    (Blocked, Operation::SetGpr, Op::SetGpr, Blocked, true),
    (Free, Operation::SetGpr, Op::SetGpr, Free, false),
];

fn at(state: VCpuState) -> (AxVCpu<Fake>, std::sync::Arc<Probe>) {
    let (vcpu, probe) = match state {
        Created => created(),
        Free => free(),
        _ => ready(),
    };
    if state == Blocked {
        vcpu.block().unwrap();
    }
    probe.calls();
    assert_eq!(vcpu.state(), state);
    (vcpu, probe)
}

fn unbinds(calls: &[Call]) -> usize {
    calls.iter().filter(|call| matches!(call, Call::Unbind(_))).count()
}

#[test]
fn an_error_at_every_step() {
    for (from, operation, step, then, on_cpu) in STEPS {
        for error in ERRORS {
            let (vcpu, probe) = at(from);
            probe.plan(step, Act::Fail(error));
            assert_eq!(operation.perform(&vcpu), Err(error), "{operation:?} failing in {step:?}");
            assert_eq!(vcpu.state(), then, "{operation:?} failing in {step:?}");
            assert!(probe.played_out());
            probe.calls();
            drop(vcpu);
            assert_eq!(unbinds(&probe.calls()), usize::from(on_cpu), "{operation:?} in {step:?}");
        }
    }
}

#[test]
fn a_panic_at_every_step() {
    let answer = (Ready, Operation::SetReturnValue, Op::Answer, Invalid, true);
    let reset = (Ready, Operation::Reset, Op::Reset, Invalid, true);
    for (from, operation, step, _, on_cpu) in STEPS.into_iter().chain([answer, reset]) {
        let (vcpu, probe) = at(from);
        if step == Op::Answer {
            probe.plan_exit(READ);
            vcpu.run().unwrap();
        }
        probe.plan(step, Act::Panic);
        let panic = catch_unwind(AssertUnwindSafe(|| operation.perform(&vcpu))).unwrap_err();
        assert!(message(&*panic).contains("planned panic"), "{operation:?}");
        assert_eq!(vcpu.state(), Invalid, "{operation:?} panicking in {step:?}");
        assert_eq!(current_ids::<Hal>(), None, "the current vCPU is reset on the way out");
        assert_eq!(operation.perform(&vcpu).is_ok(), operation == Operation::Unbind);
        probe.calls();
        let on_cpu = on_cpu && operation != Operation::Unbind;
        drop(vcpu);
        assert_eq!(unbinds(&probe.calls()), usize::from(on_cpu), "{operation:?} in {step:?}");
    }
}

#[test]
fn setup_stops_at_the_first_failing_step() {
    let all = [
        (Op::SetEntry, Call::SetEntry(ENTRY.as_u64())),
        (Op::SetEptRoot, Call::SetEptRoot(ROOT.as_u64())),
        (Op::Setup, Call::Setup(CONFIG)),
    ];
    for (index, (step, _)) in all.into_iter().enumerate() {
        let (vcpu, probe) = created();
        probe.plan(step, Act::Fail(AxError::NoMemory));
        assert_eq!(setup(&vcpu), Err(AxError::NoMemory));
        let made: std::vec::Vec<_> = all[..=index].iter().map(|&(_, call)| call).collect();
        assert_eq!(probe.calls(), made);
        assert_eq!(setup(&vcpu), Err(AxError::BadState { found: Invalid }), "no second try");
    }
}

#[test]
fn a_failed_bind_can_be_taken_off_the_cpu() {
    let (vcpu, probe) = free();
    probe.plan(Op::Bind, Act::Fail(AxError::NoMemory));
    assert_eq!(vcpu.bind(), Err(AxError::NoMemory));
    let cpu = Hal::cpu_id();
    assert_eq!(vcpu.bound_cpu(), None, "it is in no state to run there");
    probe.calls();
    assert_eq!(vcpu.unbind(), Ok(()));
    assert_eq!(probe.calls(), [Call::Unbind(cpu)]);
    assert_eq!(vcpu.unbind(), Err(AxError::BadState { found: Invalid }));
    drop(vcpu);
    assert_eq!(probe.calls(), [Call::Dropped], "not a second time");
}

#[test]
fn unbinding_may_be_tried_until_it_works() {
    let (vcpu, probe) = ready();
    for _ in 0..3 {
        probe.plan(Op::Unbind, Act::Fail(AxError::Host { code: 1 }));
        assert_eq!(vcpu.unbind(), Err(AxError::Host { code: 1 }));
        assert_eq!(vcpu.state(), Invalid);
    }
    assert_eq!(vcpu.unbind(), Ok(()));
    assert_eq!(vcpu.state(), Invalid);
    assert_eq!(vcpu.unbind(), Err(AxError::BadState { found: Invalid }));
    probe.calls();
    drop(vcpu);
    assert_eq!(probe.calls(), [Call::Dropped]);
}

#[test]
fn dropping_unbinds_exactly_once() {
    for state in [Ready, Blocked] {
        let (vcpu, probe) = at(state);
        drop(vcpu);
        assert_eq!(probe.calls(), [Call::Unbind(Hal::cpu_id()), Call::Dropped]);
    }
    for state in [Created, Free] {
        let (vcpu, probe) = at(state);
        drop(vcpu);
        assert_eq!(probe.calls(), [Call::Dropped]);
    }
    // Invalid after a failed run: still on the CPU.
    let (vcpu, probe) = ready();
    probe.plan(Op::Run, Act::Fail(AxError::NoMemory));
    assert!(vcpu.run().is_err());
    probe.calls();
    drop(vcpu);
    assert_eq!(probe.calls(), [Call::Unbind(Hal::cpu_id()), Call::Dropped]);
    // Nobody hears that the unbinding failed, but the backend is dropped all the same.
    let (vcpu, probe) = ready();
    probe.plan(Op::Unbind, Act::Fail(AxError::NoMemory));
    drop(vcpu);
    assert_eq!(probe.calls(), [Call::Unbind(Hal::cpu_id()), Call::Dropped]);
    let (vcpu, probe) = ready();
    probe.plan(Op::Unbind, Act::Panic);
    assert!(catch_unwind(AssertUnwindSafe(|| drop(vcpu))).is_err());
    assert_eq!(probe.calls(), [Call::Unbind(Hal::cpu_id()), Call::Dropped]);
}

#[test]
fn reset_failing() {
    for error in ERRORS {
        let (vcpu, probe) = ready();
        probe.plan(Op::Reset, Act::Fail(error));
        assert_eq!(vcpu.reset(), Err(error));
        let then = if error == AxError::Unsupported { Ready } else { Invalid };
        assert_eq!(vcpu.state(), then, "{error:?}");
    }
}

#[test]
fn a_refused_interrupt_is_reported_once() {
    let (vcpu, probe) = ready();
    for vector in [3, 5, 70] {
        vcpu.inject_interrupt(vector).unwrap();
    }
    probe.plan(Op::Inject, Act::Fail(AxError::InterruptFailed { vector: 3 }));
    assert_eq!(vcpu.run(), Err(AxError::InterruptFailed { vector: 3 }));
    assert_eq!(vcpu.state(), Ready);
    assert_eq!(
        probe.calls(),
        [Call::Inject(3), Call::Inject(5), Call::Inject(70)],
        "the others are delivered all the same, and nothing is entered"
    );
    assert_eq!(vcpu.run(), Ok(Exit::Nothing));
    assert_eq!(probe.calls(), [Call::Run]);
}

#[test]
fn a_refused_line_is_reported_once() {
    let (vcpu, probe) = ready();
    vcpu.set_interrupt_line(1, true).unwrap();
    vcpu.set_interrupt_line(9, true).unwrap();
    vcpu.inject_interrupt(2).unwrap();
    probe.plan(Op::Line, Act::Fail(AxError::InvalidInput));
    assert_eq!(vcpu.run(), Err(AxError::InvalidInput));
    assert_eq!(probe.calls(), [Call::Line(1, true), Call::Line(9, true), Call::Inject(2)]);
    assert_eq!(vcpu.state(), Ready);
    assert_eq!(vcpu.run(), Ok(Exit::Nothing));
    assert_eq!(probe.calls(), [Call::Run]);
}

#[test]
fn nothing_is_entered_before_a_fence_succeeded() {
    for error in ERRORS {
        let (vcpu, probe) = ready();
        vcpu.request_fence(Fence::STAGE2_TLB);
        for _ in 0..2 {
            probe.plan(Op::Fence, Act::Fail(error));
            assert_eq!(vcpu.run(), Err(error));
            assert_eq!(probe.calls(), [Call::Fence(Fence::STAGE2_TLB)]);
            assert_eq!(vcpu.state(), Ready);
        }
        assert_eq!(vcpu.run(), Ok(Exit::Nothing));
        assert_eq!(probe.calls(), [Call::Fence(Fence::STAGE2_TLB), Call::Run]);
    }
}

#[test]
fn a_kick_survives_a_run_that_fails_before_entry() {
    let (vcpu, probe) = ready();
    vcpu.inject_interrupt(2).unwrap();
    vcpu.kick();
    probe.plan(Op::Inject, Act::Fail(AxError::InvalidInput));
    assert_eq!(vcpu.run(), Err(AxError::InvalidInput));
    assert_eq!(vcpu.run(), Ok(Exit::Nothing));
    assert_eq!(probe.calls(), [Call::Inject(2)], "never entered");
    assert_eq!(vcpu.run(), Ok(Exit::Nothing));
    assert_eq!(probe.calls(), [Call::Run]);
}

#[test]
fn a_panic_while_requests_are_carried_out() {
    type Request = fn(&AxVCpu<Fake>);
    let requests: [(Op, Request); 3] = [
        (Op::Inject, |vcpu| vcpu.inject_interrupt(1).unwrap()),
        (Op::Line, |vcpu| vcpu.set_interrupt_line(1, true).unwrap()),
        (Op::Fence, |vcpu| vcpu.request_fence(Fence::GUEST_TLB)),
    ];
    for (op, request) in requests {
        let (vcpu, probe) = ready();
        request(&vcpu);
        probe.plan(op, Act::Panic);
        assert!(catch_unwind(AssertUnwindSafe(|| vcpu.run())).is_err());
        assert_eq!(vcpu.state(), Invalid, "{op:?}");
        assert_eq!(vcpu.unbind(), Ok(()));
    }
}

#[test]
fn a_panic_in_the_callers_closure() {
    let (vcpu, probe) = ready();
    let result = catch_unwind(AssertUnwindSafe(|| vcpu.with_arch(|_| panic!("the caller's"))));
    assert!(result.is_err());
    assert_eq!(vcpu.state(), Invalid, "nobody knows what it left behind");
    assert_eq!(current_ids::<Hal>(), None);
    drop(vcpu);
    assert_eq!(probe.calls(), [Call::Unbind(Hal::cpu_id()), Call::Dropped]);
}

#[test]
fn an_invalid_vcpu_takes_requests_without_harm() {
    let (vcpu, probe) = ready();
    probe.plan(Op::Run, Act::Fail(AxError::NoMemory));
    assert!(vcpu.run().is_err());
    probe.calls();
    Hal::kicked();
    vcpu.kick();
    vcpu.wake();
    vcpu.request_fence(Fence::all());
    assert!(!vcpu.fence_outstanding(Fence::all()), "it will never run stale, or at all");
    let bad = Err(AxError::BadState { found: Invalid });
    for _ in 0..2 {
        assert_eq!(vcpu.inject_interrupt(1), bad);
        assert_eq!(vcpu.set_interrupt_line(1, true), bad, "also when nothing would change");
        assert_eq!(vcpu.set_interrupt_line(2, false), bad);
    }
    assert_eq!(Hal::kicked(), [], "its CPU is not disturbed");
    assert_eq!(probe.calls(), []);
}
