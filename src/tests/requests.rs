//! What other threads want from a vCPU: kicks, wake-ups, interrupts, lines and fences.

use std::vec::Vec;

use super::fake::*;
use super::places::while_running;
use crate::*;
use VCpuState::{Blocked, Free, Ready};

const NOTHING: AxResult<Exit> = Ok(Exit::Nothing);

#[test]
fn a_kick_before_the_run_ends_it_once() {
    let (vcpu, probe) = free();
    vcpu.kick();
    vcpu.bind().unwrap();
    vcpu.kick(); // they do not add up
    probe.calls();
    assert_eq!(vcpu.run(), NOTHING);
    assert_eq!(probe.calls(), [], "not entered");
    assert_eq!(vcpu.run(), NOTHING);
    assert_eq!(probe.calls(), [Call::Run]);
    assert_eq!(Hal::kicked(), [], "no physical CPU had to be disturbed");
}

#[test]
fn a_kick_during_the_run_ends_it_once() {
    let (vcpu, probe) = ready();
    let cpu = Hal::cpu_id();
    probe.plan_call(Op::Run, move |vcpu| {
        vcpu.kick();
        assert_eq!(Hal::kicked(), [cpu]);
    });
    assert_eq!(vcpu.run(), NOTHING);
    assert_eq!(probe.calls(), [Call::Run], "not entered again");
    assert_eq!(vcpu.run(), NOTHING);
    assert_eq!(probe.calls(), [Call::Run]);
}

#[test]
fn a_kick_that_meets_another_exit_ends_the_next_run() {
    let (vcpu, probe) = ready();
    // The kick comes while the requests for this entry are carried out, after they were taken.
    vcpu.inject_interrupt(1).unwrap();
    probe.plan_call(Op::Inject, |vcpu| vcpu.kick());
    probe.plan_exit(HYPERCALL);
    assert_eq!(vcpu.run(), Ok(HYPERCALL));
    assert_eq!(vcpu.run(), NOTHING);
    assert_eq!(probe.calls(), [Call::Inject(1), Call::Run]);
    assert_eq!(vcpu.run(), NOTHING);
    assert_eq!(probe.calls(), [Call::Run]);
}

#[test]
fn a_kick_from_elsewhere_reaches_the_cpu() {
    let (vcpu, probe) = free();
    while_running(&vcpu, &probe, || {
        let cpu = vcpu.bound_cpu().unwrap();
        assert_ne!(cpu, Hal::cpu_id());
        Hal::kicked();
        vcpu.kick();
        assert_eq!(Hal::kicked(), [cpu]);
        vcpu.wake();
        assert_eq!(Hal::kicked(), [], "a wake-up means nothing to a guest that runs");
        vcpu.inject_interrupt(1).unwrap();
        vcpu.set_interrupt_line(1, true).unwrap();
        vcpu.request_fence(Fence::GUEST_TLB);
        assert_eq!(Hal::kicked(), [cpu; 3]);
    });
}

#[test]
fn every_kind_of_wake_up() {
    type Waker = fn(&AxVCpu<Fake>);
    let wakers: [(Waker, bool); 4] = [
        (|vcpu| vcpu.kick(), true),
        (|vcpu| vcpu.wake(), false),
        (|vcpu| vcpu.inject_interrupt(1).unwrap(), false),
        (|vcpu| vcpu.set_interrupt_line(1, true).unwrap(), false),
    ];
    for (wake, ends_run) in wakers {
        // While it waits.
        let (vcpu, probe) = ready();
        probe.plan_exit(HALT);
        assert_eq!(vcpu.run(), Ok(HALT));
        assert_eq!(vcpu.state(), Blocked);
        Hal::kicked();
        wake(&vcpu);
        assert_eq!(vcpu.state(), Ready);
        assert_eq!(Hal::kicked(), [Hal::cpu_id()], "its CPU may be asleep");
        probe.calls();
        assert_eq!(vcpu.run(), NOTHING);
        assert_eq!(probe.calls().contains(&Call::Run), !ends_run);
        probe.plan_exit(HALT);
        vcpu.run().unwrap();
        assert_eq!(vcpu.state(), Blocked, "it was used up");

        // In the race with the halt.
        let (vcpu, probe) = ready();
        vcpu.request_fence(Fence::GUEST_TLB); // its carrying out is the last moment before the entry
        probe.plan_call(Op::Fence, wake);
        probe.plan_exit(HALT);
        assert_eq!(vcpu.run(), Ok(HALT));
        assert_eq!(vcpu.state(), Ready, "it must not sleep");
        assert_eq!(vcpu.run(), NOTHING);
        probe.plan_exit(HALT);
        vcpu.run().unwrap();
        assert_eq!(vcpu.state(), Blocked);
    }
}

#[test]
fn a_wake_up_is_kept_for_the_next_halt() {
    let (vcpu, probe) = free();
    vcpu.wake();
    vcpu.bind().unwrap();
    assert_eq!(vcpu.run(), NOTHING, "it does not end a run");
    vcpu.unbind().unwrap();
    vcpu.bind().unwrap();
    probe.plan_exit(HALT);
    vcpu.run().unwrap();
    assert_eq!(vcpu.state(), Ready);
    probe.plan_exit(HALT);
    vcpu.run().unwrap();
    assert_eq!(vcpu.state(), Blocked);
}

#[test]
fn who_waits_himself_needs_no_kick() {
    let (vcpu, probe) = ready();
    probe.plan_exit(HALT);
    vcpu.run().unwrap();
    Hal::kicked();
    vcpu.wake_here();
    assert_eq!((vcpu.state(), Hal::kicked()), (Ready, Default::default()));
    // Otherwise it is a wake-up like any other.
    vcpu.wake_here();
    probe.plan_exit(HALT);
    vcpu.run().unwrap();
    assert_eq!(vcpu.state(), Ready);
}

#[test]
fn blocking_by_the_hypervisor() {
    let (vcpu, _) = ready();
    vcpu.block().unwrap();
    assert_eq!(vcpu.state(), Blocked);
    assert_eq!(vcpu.block(), Err(AxError::BadState { found: Blocked }));
    vcpu.wake();
    for wake in
        [AxVCpu::wake, AxVCpu::kick, |vcpu: &AxVCpu<Fake>| vcpu.inject_interrupt(1).unwrap()]
    {
        let (vcpu, _) = ready();
        wake(&vcpu);
        vcpu.block().unwrap();
        assert_eq!(vcpu.state(), Ready, "what would end the wait is already there");
    }
}

#[test]
fn a_deferred_interrupt_is_pending_too() {
    let (vcpu, probe) = ready();
    vcpu.inject_interrupt(1).unwrap();
    probe.plan(Op::Inject, Act::Fail(AxError::ResourceBusy));
    assert_eq!(vcpu.run(), NOTHING);
    vcpu.block().unwrap();
    assert_eq!(vcpu.state(), Ready);
    // Nor does the guest sleep on it.
    probe.plan(Op::Inject, Act::Fail(AxError::ResourceBusy));
    probe.plan_exit(HALT);
    assert_eq!(vcpu.run(), Ok(HALT));
    assert_eq!(vcpu.state(), Ready);
    probe.plan_exit(HALT);
    assert_eq!(vcpu.run(), Ok(HALT));
    assert_eq!(vcpu.state(), Blocked, "once it is delivered it is the guest's affair");
}

#[test]
fn a_fence_wakes_nobody() {
    let (vcpu, probe) = ready();
    probe.plan_exit(HALT);
    vcpu.run().unwrap();
    Hal::kicked();
    vcpu.request_fence(Fence::all());
    assert_eq!((vcpu.state(), Hal::kicked()), (Blocked, Vec::new()));
    // One that comes during the halt does not either.
    vcpu.wake();
    vcpu.inject_interrupt(1).unwrap();
    probe.plan_call(Op::Inject, |vcpu| vcpu.request_fence(Fence::GUEST_TLB));
    probe.plan_exit(HALT);
    vcpu.run().unwrap();
    assert_eq!(vcpu.state(), Blocked);
    probe.calls();
    vcpu.wake();
    vcpu.run().unwrap();
    assert_eq!(probe.calls(), [Call::Fence(Fence::GUEST_TLB), Call::Run]);
}

#[test]
fn fences_requested_together_are_carried_out_together() {
    let (vcpu, probe) = ready();
    for fence in Fence::all().iter() {
        vcpu.request_fence(fence);
        assert!(!vcpu.fence_outstanding(fence), "it is not in the guest");
    }
    assert_eq!(vcpu.run(), NOTHING);
    assert_eq!(probe.calls(), [Call::Fence(Fence::all()), Call::Run]);
}

#[test]
fn a_fence_is_outstanding_while_the_backend_is_at_work() {
    let (vcpu, probe) = ready();
    // It may be finishing an instruction, with memory that is about to be taken away.
    probe.plan_call(Op::GetGpr, |vcpu| {
        vcpu.request_fence(Fence::STAGE2_TLB);
        assert!(vcpu.fence_outstanding(Fence::STAGE2_TLB));
    });
    let _ = vcpu.get_gpr(1);
    assert!(probe.played_out());
    assert!(!vcpu.fence_outstanding(Fence::STAGE2_TLB));
}

#[test]
fn a_fence_is_outstanding_until_the_guest_is_left() {
    let (vcpu, probe) = ready();
    probe.plan_call(Op::Run, |vcpu| {
        vcpu.request_fence(Fence::GUEST_TLB);
        assert!(vcpu.fence_outstanding(Fence::GUEST_TLB));
        assert!(vcpu.fence_outstanding(Fence::all()));
        assert!(!vcpu.fence_outstanding(Fence::STAGE2_TLB), "not requested");
    });
    probe.plan_call(Op::Fence, |vcpu| assert!(!vcpu.fence_outstanding(Fence::all())));
    assert_eq!(vcpu.run(), NOTHING);
    assert_eq!(probe.calls(), [Call::Run, Call::Fence(Fence::GUEST_TLB), Call::Run]);
    assert!(probe.played_out());
    // One the guest was not asked to leave for any more is carried out by the next entry.
    probe.plan_exit(HYPERCALL);
    vcpu.inject_interrupt(0).unwrap();
    probe.plan_call(Op::Inject, |vcpu| vcpu.request_fence(Fence::INSTRUCTION));
    assert_eq!(vcpu.run(), Ok(HYPERCALL));
    assert!(!vcpu.fence_outstanding(Fence::INSTRUCTION));
    probe.calls();
    vcpu.run().unwrap();
    assert_eq!(probe.calls(), [Call::Fence(Fence::INSTRUCTION), Call::Run]);
}

#[test]
fn requests_are_carried_out_in_order_before_the_guest() {
    let (vcpu, probe) = free();
    vcpu.inject_interrupt(64).unwrap();
    vcpu.inject_interrupt(2).unwrap();
    vcpu.set_interrupt_line(9, true).unwrap();
    vcpu.request_fence(Fence::STAGE2_TLB);
    vcpu.kick();
    vcpu.bind().unwrap();
    probe.calls();
    assert_eq!(vcpu.run(), NOTHING);
    let carried_out =
        [Call::Fence(Fence::STAGE2_TLB), Call::Line(9, true), Call::Inject(2), Call::Inject(64)];
    assert_eq!(probe.calls(), carried_out, "also by the run that the kick ends");
}

#[test]
fn every_vector_arrives_once() {
    let (vcpu, probe) = ready();
    for vector in (0..MAX_VECTORS).rev() {
        vcpu.inject_interrupt(vector).unwrap();
        vcpu.inject_interrupt(vector).unwrap();
    }
    for vector in [MAX_VECTORS, MAX_VECTORS + 63, usize::MAX] {
        let refused = Err(AxError::InterruptFailed { vector });
        assert_eq!(vcpu.inject_interrupt(vector), refused);
    }
    assert_eq!(vcpu.run(), NOTHING);
    let mut expected: Vec<_> = (0..MAX_VECTORS).map(Call::Inject).collect();
    expected.push(Call::Run);
    assert_eq!(probe.calls(), expected);
    assert_eq!(vcpu.run(), NOTHING);
    assert_eq!(probe.calls(), [Call::Run]);
}

#[test]
fn an_interrupt_for_a_running_guest_goes_in_with_the_same_run() {
    let (vcpu, probe) = ready();
    probe.plan_call(Op::Run, |vcpu| vcpu.inject_interrupt(4).unwrap());
    probe.plan_exit(HYPERCALL);
    assert_eq!(vcpu.run(), Ok(HYPERCALL));
    assert_eq!(probe.calls(), [Call::Run, Call::Inject(4), Call::Run]);
}

#[test]
fn interrupts_the_backend_has_no_room_for_wait() {
    let (vcpu, probe) = ready();
    for vector in [3, 4, 5, 100] {
        vcpu.inject_interrupt(vector).unwrap();
    }
    let busy = || probe.plan(Op::Inject, Act::Fail(AxError::ResourceBusy));
    probe.plan_call(Op::Inject, |_| ());
    busy(); // 4: this word is not tried any further
    busy(); // 100
    probe.plan_exit(HYPERCALL);
    assert_eq!(vcpu.run(), Ok(HYPERCALL));
    let calls = [Call::Inject(3), Call::Inject(4), Call::Inject(100), Call::Run];
    assert_eq!(probe.calls(), calls);
    // They stay through whatever comes between, and new ones join them.
    vcpu.unbind().unwrap();
    vcpu.bind().unwrap();
    vcpu.inject_interrupt(1).unwrap();
    probe.calls();
    assert_eq!(vcpu.run(), NOTHING);
    let calls = [Call::Inject(1), Call::Inject(4), Call::Inject(5), Call::Inject(100), Call::Run];
    assert_eq!(probe.calls(), calls);
    assert_eq!(vcpu.run(), NOTHING);
    assert_eq!(probe.calls(), [Call::Run]);
}

#[test]
fn a_deferred_interrupt_does_not_keep_the_guest_out() {
    // Room only comes with progress: the guest must be entered although something waits.
    let (vcpu, probe) = ready();
    vcpu.inject_interrupt(3).unwrap();
    for _ in 0..5 {
        probe.plan(Op::Inject, Act::Fail(AxError::ResourceBusy));
        assert_eq!(vcpu.run(), NOTHING);
        assert_eq!(probe.calls(), [Call::Inject(3), Call::Run]);
    }
    // A kick ends the run all the same, and loses nothing.
    vcpu.kick();
    probe.plan(Op::Inject, Act::Fail(AxError::ResourceBusy));
    assert_eq!(vcpu.run(), NOTHING);
    assert_eq!(probe.calls(), [Call::Inject(3)]);
    assert_eq!(vcpu.run(), NOTHING);
    assert_eq!(probe.calls(), [Call::Inject(3), Call::Run]);
}

#[test]
fn lines_are_told_when_they_changed() {
    let (vcpu, probe) = ready();
    vcpu.set_interrupt_line(0, true).unwrap();
    vcpu.set_interrupt_line(63, true).unwrap();
    vcpu.set_interrupt_line(5, true).unwrap();
    vcpu.set_interrupt_line(5, false).unwrap(); // a pulse nobody saw
    assert_eq!(vcpu.run(), NOTHING);
    assert_eq!(probe.calls(), [Call::Line(0, true), Call::Line(63, true), Call::Run]);
    vcpu.set_interrupt_line(63, true).unwrap();
    assert_eq!(vcpu.run(), NOTHING);
    assert_eq!(probe.calls(), [Call::Run], "no change");
    vcpu.set_interrupt_line(63, false).unwrap();
    assert_eq!(vcpu.run(), NOTHING);
    assert_eq!(probe.calls(), [Call::Line(63, false), Call::Run]);
    for vector in [MAX_LINES, 1000, usize::MAX] {
        let refused = Err(AxError::InterruptFailed { vector });
        assert_eq!(vcpu.set_interrupt_line(vector, true), refused);
    }
}

#[test]
fn reset_forgets_interrupts_and_repeats_lines() {
    let (vcpu, probe) = ready();
    vcpu.set_interrupt_line(9, true).unwrap();
    vcpu.set_interrupt_line(3, true).unwrap();
    vcpu.run().unwrap();
    vcpu.set_interrupt_line(3, false).unwrap();
    vcpu.inject_interrupt(1).unwrap();
    vcpu.inject_interrupt(70).unwrap();
    probe.plan(Op::Inject, Act::Fail(AxError::ResourceBusy));
    vcpu.run().unwrap();
    vcpu.inject_interrupt(900).unwrap();
    vcpu.set_gpr(1, 6).unwrap();
    probe.calls();
    vcpu.reset().unwrap();
    assert_eq!(vcpu.get_gpr(1), Ok(0));
    assert_eq!(vcpu.run(), NOTHING);
    assert_eq!(probe.calls(), [Call::Reset, Call::GetGpr(1), Call::Line(9, true), Call::Run]);
    vcpu.set_interrupt_line(9, false).unwrap();
    vcpu.inject_interrupt(70).unwrap();
    vcpu.run().unwrap();
    assert_eq!(probe.calls(), [Call::Line(9, false), Call::Inject(70), Call::Run]);
}

#[test]
fn a_fence_that_is_none_changes_nothing() {
    for state in VCpuState::ALL {
        let (vcpu, probe) = ready();
        vcpu.request_fence(Fence::from_bits_retain(state as u32 | 1 << 3 | 1 << 4 | 1 << 8));
        assert_eq!(vcpu.state(), Ready);
        assert_eq!(vcpu.run(), NOTHING);
        assert_eq!(probe.calls(), [Call::Run], "not even a kick");
    }
}

#[test]
fn using_the_backend_twice_at_once_is_refused() {
    let (vcpu, probe) = ready();
    let busy = Err(AxError::ResourceBusy);
    vcpu.with_arch(|_| {
        assert_eq!(vcpu.state(), Ready);
        assert_eq!(vcpu.set_gpr(0, 0), busy);
        assert_eq!(vcpu.get_gpr(0), Err(AxError::ResourceBusy));
        assert_eq!(vcpu.run(), Err(AxError::ResourceBusy));
        assert_eq!(vcpu.unbind(), busy);
        assert_eq!(vcpu.block(), busy);
        assert_eq!(vcpu.reset(), busy);
        assert_eq!(vcpu.set_return_value(0), busy);
        assert_eq!(vcpu.set_entry(ENTRY), busy);
        assert_eq!(vcpu.retry(), busy);
        assert_eq!(vcpu.with_arch(|_| ()), busy);
        // Requests never need the backend.
        vcpu.kick();
        vcpu.inject_interrupt(1).unwrap();
    })
    .unwrap();
    assert_eq!(probe.calls(), []);
    assert_eq!(vcpu.run(), NOTHING);
    assert_eq!(probe.calls(), [Call::Inject(1)]);
}

#[test]
fn a_wake_up_while_the_backend_is_in_use_takes_effect_after() {
    let (vcpu, _) = ready();
    vcpu.block().unwrap();
    vcpu.with_arch(|_| {
        vcpu.wake();
        assert_eq!(vcpu.state(), Blocked, "whoever uses it finds it as it was");
    })
    .unwrap();
    assert_eq!(vcpu.state(), Ready);
}

#[test]
fn the_bound_cpu_is_insisted_on() {
    let (vcpu, probe) = free();
    Hal::on_cpu(1, || vcpu.bind()).unwrap();
    assert_eq!(vcpu.bound_cpu(), Some(1));
    probe.calls();
    let wrong = AxError::WrongCpu { bound: 1, current: 2 };
    Hal::on_cpu(2, || {
        assert_eq!(vcpu.run(), Err(wrong));
        assert_eq!(vcpu.unbind(), Err(wrong));
        // Nothing else cares.
        vcpu.set_gpr(1, 1).unwrap();
        vcpu.block().unwrap();
        vcpu.wake();
    });
    assert_eq!(vcpu.state(), Ready);
    assert_eq!(probe.calls(), [Call::SetGpr(1, 1)]);
    Hal::on_cpu(1, || {
        vcpu.run().unwrap();
        vcpu.unbind().unwrap();
    });
    Hal::on_cpu(2, || vcpu.bind()).unwrap();
    assert_eq!(vcpu.bound_cpu(), Some(2));
    // An invalid one is taken off where it is, too.
    probe.plan(Op::Run, Act::Fail(AxError::NoMemory));
    assert_eq!(Hal::on_cpu(2, || vcpu.run()), Err(AxError::NoMemory));
    let wrong = AxError::WrongCpu { bound: 2, current: 3 };
    assert_eq!(Hal::on_cpu(3, || vcpu.unbind()), Err(wrong));
    assert_eq!(Hal::on_cpu(2, || vcpu.unbind()), Ok(()));
}

#[test]
fn affinity() {
    let make = |favor, set| {
        let vcpu = AxVCpu::<Fake>::new(0, 0, favor, set, Default::default()).unwrap();
        setup(&vcpu).unwrap();
        vcpu
    };
    let try_bind = |vcpu: &AxVCpu<Fake>, cpu| Hal::on_cpu(cpu, || vcpu.bind());
    // All CPUs.
    for cpu in 0..4 {
        assert_eq!(try_bind(&make(2, None), cpu), Ok(()), "the favourite is a wish only");
    }
    // Some: the answer names the favourite if that is one of them, else the first.
    for (favor, nearest) in [(3, 3), (1, 1), (0, 1), (99, 1), (usize::MAX, 1)] {
        let vcpu = make(favor, Some(0b1010));
        for current in [0, 2] {
            let wrong = AxError::WrongCpu { bound: nearest, current };
            assert_eq!(try_bind(&vcpu, current), Err(wrong));
            assert_eq!(vcpu.state(), Free);
        }
        assert_eq!(try_bind(&vcpu, 3), Ok(()));
    }
    // A CPU the set has no bit for: this thread's own.
    let vcpu = make(0, Some(usize::MAX));
    let current = Hal::cpu_id();
    let far = current >= usize::BITS as usize;
    assert_eq!(vcpu.bind().is_err(), far);
}
