//! Which vCPU a physical CPU is working on.

use std::sync::Arc;

use super::fake::*;
use super::places::Operation;
use crate::*;

const THIS: CurrentVCpu = CurrentVCpu { vm_id: 3, vcpu_id: 7 };

#[test]
fn none_outside_of_backend_methods() {
    assert_eq!(current_ids::<Hal>(), None);
    assert_eq!(with_current_vcpu::<Fake, _>(|_| ()), None);
    let (vcpu, _probe) = ready();
    // That it is set inside of each method is what the fake backend itself insists on.
    for operation in [Operation::SetGpr, Operation::Run, Operation::Reset, Operation::Unbind] {
        operation.perform(&vcpu).unwrap();
        assert_eq!(current_ids::<Hal>(), None);
    }
    vcpu.bind().unwrap();
    assert_eq!(current_ids::<Hal>(), None, "a bound vCPU is not current by itself");
}

#[test]
fn every_method_sees_its_own_vcpu() {
    let ops = [
        Op::SetEntry,
        Op::SetEptRoot,
        Op::Setup,
        Op::Bind,
        Op::Run,
        Op::Answer,
        Op::SetGpr,
        Op::GetGpr,
        Op::Inject,
        Op::Line,
        Op::Fence,
        Op::Retry,
        Op::FailAccess,
        Op::Reset,
        Op::Unbind,
    ];
    let (vcpu, probe) = created();
    let address = core::ptr::from_ref(&vcpu) as usize;
    for op in ops {
        probe.plan_call(op, move |vcpu| {
            assert_eq!(core::ptr::from_ref(vcpu) as usize, address);
            assert_eq!(current_ids::<Hal>(), Some(THIS));
            assert_eq!((vcpu.vm_id(), vcpu.vcpu_id()), (3, 7));
        });
    }
    setup(&vcpu).unwrap();
    vcpu.inject_interrupt(1).unwrap();
    vcpu.set_interrupt_line(1, true).unwrap();
    vcpu.request_fence(Fence::all());
    vcpu.bind().unwrap();
    vcpu.run().unwrap();
    probe.plan_exit(READ);
    vcpu.run().unwrap();
    vcpu.set_return_value(1).unwrap();
    for operation in [
        Operation::SetGpr,
        Operation::GetGpr,
        Operation::Retry,
        Operation::FailAccess,
        Operation::Reset,
        Operation::Unbind,
    ] {
        operation.perform(&vcpu).unwrap();
    }
    assert!(probe.played_out());
    let inside = vcpu.with_arch(|_| current_ids::<Hal>()).unwrap();
    assert_eq!(inside, Some(THIS));
}

#[test]
fn another_backends_type_is_not_answered() {
    let (vcpu, probe) = ready();
    probe.plan_call(Op::Run, |_| {
        assert_eq!(with_current_vcpu::<Bare, _>(|_| ()), None);
        assert!(with_current_vcpu::<Fake, _>(|_| ()).is_some());
        assert_eq!(current_ids::<Hal>(), Some(THIS), "the ids have no type");
    });
    vcpu.run().unwrap();
    let bare = AxVCpu::<Bare>::new(8, 9, 0, None, ()).unwrap();
    assert_eq!(bare.with_arch(|_| ()), Err(AxError::BadState { found: VCpuState::Created }));
    assert!(probe.played_out());
}

#[test]
fn drop_unbinds_with_the_vcpu_current() {
    let (vcpu, probe) = ready();
    probe.plan_call(Op::Unbind, |vcpu| assert_eq!((vcpu.vm_id(), vcpu.vcpu_id()), (3, 7)));
    drop(vcpu);
    assert!(probe.played_out());
    assert_eq!(current_ids::<Hal>(), None);
}

#[test]
fn methods_that_drive_another_vcpu_nest() {
    // A run that runs another vCPU, inside of which a third is made, set up and dropped while bound.
    let probe = Arc::new(Probe::default());
    let inner = AxVCpu::<Fake>::new(10, 11, 0, None, probe.clone()).unwrap();
    setup(&inner).unwrap();
    let inner_ids = Some(CurrentVCpu { vm_id: 10, vcpu_id: 11 });
    probe.plan_call(Op::Run, move |_| {
        assert_eq!(current_ids::<Hal>(), inner_ids);
        let third = AxVCpu::<Fake>::new(20, 21, 0, None, Default::default()).unwrap();
        setup(&third).unwrap();
        third.bind().unwrap();
        drop(third);
        assert_eq!(current_ids::<Hal>(), inner_ids);
    });
    probe.calls();
    let (outer, outer_probe) = ready();
    outer_probe.plan_call(Op::Run, move |outer| {
        assert_eq!(current_ids::<Hal>(), Some(THIS));
        inner.bind().unwrap();
        assert_eq!(current_ids::<Hal>(), Some(THIS));
        inner.run().unwrap();
        assert_eq!(current_ids::<Hal>(), Some(THIS));
        // It can also be asked to act on the outer one.
        inner.with_arch(|_| assert_eq!(outer.state(), VCpuState::Running)).unwrap();
        inner.unbind().unwrap();
    });
    outer.run().unwrap();
    assert_eq!(current_ids::<Hal>(), None);
    assert!(probe.played_out() && outer_probe.played_out());
}

#[test]
fn each_physical_cpu_has_its_own() {
    let (vcpu, probe) = free();
    let run_on = |cpu| Hal::on_cpu(cpu, || vcpu.bind().and_then(|()| vcpu.run()));
    probe.plan_call(Op::Run, |_| {
        assert_eq!(Hal::on_cpu(2, current_ids::<Hal>), None);
        assert_eq!(Hal::on_cpu(1, current_ids::<Hal>), Some(THIS));
        let elsewhere = std::thread::spawn(current_ids::<Hal>).join().unwrap();
        assert_eq!(elsewhere, None);
    });
    run_on(1).unwrap();
    assert!(probe.played_out());
    Hal::on_cpu(1, || vcpu.unbind()).unwrap();
}

#[test]
fn requests_work_on_the_current_vcpu() {
    let (vcpu, probe) = ready();
    probe.plan_call(Op::Run, |_| {
        // What a host's interrupt handler does with the vCPU it interrupted.
        let refused = with_current_vcpu::<Fake, _>(|vcpu| {
            vcpu.inject_interrupt(6).unwrap();
            vcpu.set_gpr(0, 0)
        });
        assert_eq!(refused, Some(Err(AxError::BadState { found: VCpuState::Running })));
    });
    vcpu.run().unwrap();
    assert_eq!(probe.calls(), [Call::Run, Call::Inject(6), Call::Run]);
}
