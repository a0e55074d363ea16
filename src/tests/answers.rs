//! The protocol by which an exit is answered.

use super::fake::*;
use crate::*;
use VCpuState::{Blocked, Free, Ready};

/// A ready vCPU that has just left with `exit`.
fn left(exit: Exit) -> (AxVCpu<Fake>, std::sync::Arc<Probe>) {
    let (vcpu, probe) = ready();
    probe.plan_exit(exit);
    assert_eq!(vcpu.run(), Ok(exit));
    probe.calls();
    (vcpu, probe)
}

fn asking() -> [Exit; 3] {
    [READ, Exit::IoRead { port: 0x60, width: AccessWidth::Byte }, Exit::SysRegRead { addr: 0xc00 }]
}

#[test]
fn entering_without_the_answer_is_refused() {
    for exit in asking() {
        assert!(exit.asks());
        let (vcpu, probe) = left(exit);
        for _ in 0..3 {
            assert_eq!(vcpu.run(), Err(AxError::Unanswered));
            assert_eq!(vcpu.state(), Ready);
        }
        assert_eq!(vcpu.set_entry(ENTRY), Err(AxError::Unanswered), "it would lose the answer");
        assert_eq!(probe.calls(), []);
        vcpu.set_return_value(0x55).unwrap();
        assert_eq!(vcpu.set_return_value(0x66), Err(AxError::NotAsked), "only once");
        assert_eq!(vcpu.run(), Ok(Exit::Nothing));
        assert_eq!(probe.calls(), [Call::Answer(0x55), Call::Run]);
    }
}

#[test]
fn a_question_outlasts_everything_but_its_answer() {
    for exit in asking() {
        let (vcpu, probe) = left(exit);
        vcpu.kick();
        vcpu.wake();
        vcpu.inject_interrupt(1).unwrap();
        vcpu.set_gpr(1, 1).unwrap();
        vcpu.get_gpr(1).unwrap();
        vcpu.with_arch(|_| ()).unwrap();
        assert_eq!(vcpu.run(), Err(AxError::Unanswered));
        vcpu.unbind().unwrap();
        vcpu.bind().unwrap();
        assert_eq!(vcpu.run(), Err(AxError::Unanswered));
        vcpu.block().unwrap();
        assert_eq!(vcpu.state(), Ready, "something is pending");
        probe.calls();
        vcpu.set_return_value(1).unwrap();
        assert_eq!(vcpu.run(), Ok(Exit::Nothing), "the kick was not used up by refusals");
        assert_eq!(probe.calls(), [Call::Answer(1), Call::Inject(1)]);
    }
}

#[test]
fn answers_are_taken_in_every_state_at_rest() {
    let (vcpu, probe) = left(READ);
    vcpu.block().unwrap();
    assert_eq!(vcpu.set_return_value(1), Ok(()));
    assert_eq!(vcpu.state(), Blocked);
    vcpu.wake();
    probe.plan_exit(READ);
    assert_eq!(vcpu.run(), Ok(READ));
    vcpu.unbind().unwrap();
    assert_eq!(vcpu.set_return_value(2), Ok(()));
    assert_eq!(vcpu.state(), Free);
    assert_eq!(vcpu.set_return_value(3), Err(AxError::NotAsked));
}

#[test]
fn a_hypercall_may_be_answered_once_or_not_at_all() {
    let (vcpu, probe) = left(HYPERCALL);
    probe.plan_exit(HYPERCALL);
    assert_eq!(vcpu.run(), Ok(HYPERCALL), "not answering is fine");
    vcpu.set_return_value(7).unwrap();
    assert_eq!(vcpu.set_return_value(8), Err(AxError::NotAsked));
    assert_eq!(vcpu.run(), Ok(Exit::Nothing));
    assert_eq!(probe.calls(), [Call::Run, Call::Answer(7), Call::Run]);
    // Its chance is over with the next run.
    let (vcpu, _probe) = left(HYPERCALL);
    vcpu.run().unwrap();
    assert_eq!(vcpu.set_return_value(7), Err(AxError::NotAsked));
}

#[test]
fn calls_the_backend_understood_may_be_answered_too() {
    for exit in [
        Exit::CpuUp { target_cpu: 1, entry_point: ENTRY, arg: 2 },
        Exit::CpuDown { state: 0 },
        Exit::SystemDown,
        Exit::SystemReset,
        Exit::SendIpi { base: 0, mask: 1, vector: 1 },
    ] {
        assert!(!exit.asks());
        let (vcpu, probe) = left(exit);
        assert_eq!(vcpu.set_return_value(7), Ok(()), "{exit:?}");
        assert_eq!(vcpu.set_return_value(8), Err(AxError::NotAsked));
        assert_eq!(vcpu.run(), Ok(Exit::Nothing));
        assert_eq!(probe.calls(), [Call::Answer(7), Call::Run]);
    }
}

#[test]
fn what_does_not_ask_takes_no_answer() {
    let width = AccessWidth::Byte;
    let addr = GuestPhysAddr::new(8);
    for exit in [
        Exit::MmioWrite { addr, width, data: 1 },
        Exit::IoWrite { port: 1, width, data: 1 },
        Exit::SysRegWrite { addr: 1, value: 1 },
        Exit::NestedPageFault { addr, access: AccessKind::Read },
        Exit::ExternalInterrupt { vector: 1 },
        Exit::FailEntry { reason: 1 },
        Exit::Nothing,
    ] {
        assert!(!exit.asks());
        let (vcpu, probe) = left(exit);
        assert_eq!(vcpu.set_return_value(1), Err(AxError::NotAsked), "{exit:?}");
        assert_eq!(vcpu.run(), Ok(Exit::Nothing));
        assert_eq!(probe.calls(), [Call::Run]);
    }
    assert!(!HYPERCALL.asks());
}

#[test]
fn retry_and_fail_access_close_the_question() {
    type Close = fn(&AxVCpu<Fake>) -> AxResult;
    let closes: [(Close, Op, Call); 2] = [
        (AxVCpu::retry, Op::Retry, Call::Retry),
        (AxVCpu::fail_access, Op::FailAccess, Call::FailAccess),
    ];
    for (close, op, call) in closes {
        let (vcpu, probe) = left(READ);
        // Refused by the backend: the question stays.
        for error in [AxError::Unsupported, AxError::NotAsked] {
            probe.plan(op, Act::Fail(error));
            assert_eq!(close(&vcpu), Err(error));
            assert_eq!(vcpu.run(), Err(AxError::Unanswered));
        }
        probe.calls();
        assert_eq!(close(&vcpu), Ok(()));
        assert_eq!(vcpu.set_return_value(1), Err(AxError::NotAsked));
        assert_eq!(vcpu.run(), Ok(Exit::Nothing));
        assert_eq!(probe.calls(), [call, Call::Run]);
    }
}

#[test]
fn reset_forgets_the_question() {
    for exit in [READ, HYPERCALL] {
        let (vcpu, probe) = left(exit);
        vcpu.reset().unwrap();
        assert_eq!(vcpu.set_return_value(1), Err(AxError::NotAsked));
        assert_eq!(vcpu.set_entry(ENTRY), Ok(()));
        assert_eq!(vcpu.run(), Ok(Exit::Nothing));
        assert_eq!(probe.calls(), [Call::Reset, Call::SetEntry(ENTRY.as_u64()), Call::Run]);
    }
    // A reset that the backend does not offer changes nothing.
    let (vcpu, probe) = left(READ);
    probe.plan(Op::Reset, Act::Fail(AxError::Unsupported));
    assert_eq!(vcpu.reset(), Err(AxError::Unsupported));
    assert_eq!(vcpu.run(), Err(AxError::Unanswered));
}
