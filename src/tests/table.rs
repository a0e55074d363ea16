//! Every operation in every state: what it answers and where it leads.

use std::vec;

use super::fake::*;
use super::places::{Operation, Place, at};
use crate::*;

/// What a cell of the table expects.
#[derive(Clone, Copy, Debug)]
enum Expect {
    /// The call succeeds and leads here.
    To(VCpuState),
    /// The call succeeds and the state stays.
    Stay,
    /// Refused with `BadState` and the state found.
    Bad,
    /// Refused with `NotAsked`.
    Unasked,
}
use Expect::{Bad, Stay, To, Unasked};
use VCpuState::{Blocked, Free, Invalid, Ready};

/// One row for each operation; columns in the order of [`Place::ALL`].
#[rustfmt::skip]
const TABLE: [(Operation, [Expect; 8]); 20] = [
    //                             Created   Free       Ready        Running  elsewhere  Blocked    Invalid  Invalid, on a CPU
    (Operation::Setup,          [To(Free), Bad,       Bad,         Bad,     Bad,       Bad,       Bad,     Bad]),
    (Operation::Bind,           [Bad,      To(Ready), Bad,         Bad,     Bad,       Bad,       Bad,     Bad]),
    (Operation::Unbind,         [Bad,      Bad,       To(Free),    Bad,     Bad,       Bad,       Bad,     To(Invalid)]),
    (Operation::Run,            [Bad,      Bad,       To(Ready),   Bad,     Bad,       Bad,       Bad,     Bad]),
    (Operation::Block,          [Bad,      Bad,       To(Blocked), Bad,     Bad,       Bad,       Bad,     Bad]),
    (Operation::SetReturnValue, [Bad,      Unasked,   Unasked,     Bad,     Bad,       Unasked,   Bad,     Bad]),
    (Operation::SetGpr,         [Bad,      Stay,      Stay,        Bad,     Bad,       Stay,      Bad,     Bad]),
    (Operation::GetGpr,         [Bad,      Stay,      Stay,        Bad,     Bad,       Stay,      Bad,     Bad]),
    (Operation::SetEntry,       [Bad,      Stay,      Stay,        Bad,     Bad,       Stay,      Bad,     Bad]),
    (Operation::WithArch,       [Bad,      Stay,      Stay,        Bad,     Bad,       Stay,      Bad,     Bad]),
    (Operation::Reset,          [Bad,      Stay,      Stay,        Bad,     Bad,       Stay,      Bad,     Bad]),
    (Operation::Retry,          [Bad,      Stay,      Stay,        Bad,     Bad,       Stay,      Bad,     Bad]),
    (Operation::FailAccess,     [Bad,      Stay,      Stay,        Bad,     Bad,       Stay,      Bad,     Bad]),
    (Operation::Kick,           [Stay,     Stay,      Stay,        Stay,    Stay,      To(Ready), Stay,    Stay]),
    (Operation::Wake,           [Stay,     Stay,      Stay,        Stay,    Stay,      To(Ready), Stay,    Stay]),
    (Operation::Inject,         [Stay,     Stay,      Stay,        Stay,    Stay,      To(Ready), Bad,     Bad]),
    (Operation::Raise,          [Stay,     Stay,      Stay,        Stay,    Stay,      To(Ready), Bad,     Bad]),
    (Operation::Lower,          [Stay,     Stay,      Stay,        Stay,    Stay,      Stay,      Bad,     Bad]),
    (Operation::RequestFence,   [Stay,     Stay,      Stay,        Stay,    Stay,      Stay,      Stay,    Stay]),
    (Operation::Read,           [Stay,     Stay,      Stay,        Stay,    Stay,      Stay,      Stay,    Stay]),
];

#[test]
fn every_operation_in_every_state() {
    for (operation, row) in TABLE {
        for (place, expect) in Place::ALL.into_iter().zip(row) {
            let found = place.state();
            let (result, state, bound, calls) = at(place, move |vcpu, probe| {
                let bound = vcpu.bound_cpu();
                let result = operation.perform(vcpu);
                (result, vcpu.state(), (bound, vcpu.bound_cpu()), probe.calls())
            });
            let (want, then) = match expect {
                To(state) => (Ok(()), state),
                Stay => (Ok(()), found),
                Bad => (Err(AxError::BadState { found }), found),
                Unasked => (Err(AxError::NotAsked), found),
            };
            assert_eq!((result, state), (want, then), "{operation:?} at {place:?}");
            if result.is_err() {
                assert_eq!(
                    calls,
                    [],
                    "{operation:?} at {place:?}: refused, but reached the backend"
                );
                assert_eq!(bound.0, bound.1, "{operation:?} at {place:?}: refused, but moved");
            }
        }
    }
}

#[test]
fn refused_operations_leave_no_trace() {
    // After everything that is refused in a state was tried there, the life goes on as if it had not been.
    for place in [Place::Created, Place::Free, Place::Ready, Place::Blocked] {
        at(place, move |vcpu, probe| {
            let column = Place::ALL.iter().position(|&other| other == place).unwrap();
            for (operation, row) in TABLE {
                if matches!(row[column], Bad | Unasked) {
                    assert!(operation.perform(vcpu).is_err());
                }
            }
            assert_eq!(probe.calls(), []);
            if place == Place::Created {
                setup(vcpu).unwrap();
            }
            if matches!(place, Place::Created | Place::Free) {
                vcpu.bind().unwrap();
            }
            if place == Place::Blocked {
                vcpu.wake();
            }
            probe.calls();
            probe.plan_exit(HALT);
            assert_eq!(vcpu.run(), Ok(HALT));
            assert_eq!(vcpu.state(), Blocked);
            assert_eq!(probe.calls(), [Call::Run]);
        });
    }
}

#[test]
fn a_life_reaches_the_backend_in_order() {
    let (vcpu, probe) = created();
    assert_eq!((vcpu.vm_id(), vcpu.vcpu_id()), (3, 7));
    assert_eq!(vcpu.bound_cpu(), None);
    setup(&vcpu).unwrap();
    let (cpu, root) = (Hal::cpu_id(), ROOT.as_u64());
    assert_eq!(
        probe.calls(),
        [Call::SetEntry(ENTRY.as_u64()), Call::SetEptRoot(root), Call::Setup(CONFIG)]
    );
    vcpu.set_gpr(2, 5).unwrap();
    assert_eq!(vcpu.get_gpr(2), Ok(5));
    assert_eq!(vcpu.set_gpr(4, 5), Err(AxError::InvalidInput));
    assert_eq!(vcpu.get_gpr(4), Err(AxError::InvalidInput));
    vcpu.set_entry(GuestPhysAddr::new(4)).unwrap();
    assert_eq!(vcpu.bound_cpu(), None);
    vcpu.bind().unwrap();
    assert_eq!(vcpu.bound_cpu(), Some(cpu));
    assert_eq!(vcpu.run(), Ok(Exit::Nothing));
    vcpu.unbind().unwrap();
    assert_eq!(vcpu.bound_cpu(), None);
    vcpu.bind().unwrap();
    vcpu.unbind().unwrap();
    drop(vcpu);
    let expected = vec![
        Call::SetGpr(2, 5),
        Call::GetGpr(2),
        Call::SetGpr(4, 5),
        Call::GetGpr(4),
        Call::SetEntry(4),
        Call::Bind(cpu),
        Call::Run,
        Call::Unbind(cpu),
        Call::Bind(cpu),
        Call::Unbind(cpu),
        Call::Dropped,
    ];
    assert_eq!(probe.calls(), expected);
}

#[test]
fn only_a_halt_blocks() {
    let gpa = GuestPhysAddr::new(64);
    let width = AccessWidth::Word;
    let exits = [
        HYPERCALL,
        READ,
        Exit::MmioWrite { addr: gpa, width, data: 1 },
        Exit::IoRead { port: 1, width },
        Exit::IoWrite { port: 1, width, data: 2 },
        Exit::SysRegRead { addr: 3 },
        Exit::SysRegWrite { addr: 3, value: 4 },
        Exit::NestedPageFault { addr: gpa, access: AccessKind::Execute },
        Exit::ExternalInterrupt { vector: 5 },
        Exit::Halt { wake_after_ns: Some(6) },
        Exit::CpuUp { target_cpu: 1, entry_point: gpa, arg: 2 },
        Exit::CpuDown { state: 0 },
        Exit::SystemDown,
        Exit::SystemReset,
        Exit::SendIpi { base: 0, mask: 1, vector: 1 },
        Exit::FailEntry { reason: 7 },
        Exit::Nothing,
    ];
    for exit in exits {
        let (vcpu, probe) = ready();
        probe.plan_exit(exit);
        assert_eq!(vcpu.run(), Ok(exit));
        let blocks = matches!(exit, Exit::Halt { .. });
        assert_eq!(vcpu.state() == Blocked, blocks, "{exit:?}");
        assert_eq!(vcpu.state() == Ready, !blocks, "{exit:?}");
    }
}

#[test]
fn construction() {
    let probe = std::sync::Arc::new(Probe::default());
    let make = |set| AxVCpu::<Fake>::new(1, 2, 3, set, probe.clone());
    assert!(matches!(make(Some(0)), Err(AxError::InvalidInput)));
    for error in [AxError::Unsupported, AxError::NoMemory, AxError::InvalidInput] {
        probe.plan(Op::New, Act::Fail(error));
        assert_eq!(make(None).err(), Some(error));
    }
    let vcpu = make(Some(0b1010)).unwrap();
    assert_eq!((vcpu.vm_id(), vcpu.vcpu_id()), (1, 2));
    assert_eq!((vcpu.favor_phys_cpu(), vcpu.phys_cpu_set()), (3, Some(0b1010)));
    assert_eq!(vcpu.state(), VCpuState::Created);
    drop(vcpu);
    assert_eq!(probe.calls(), [Call::Dropped], "nothing to unbind");
}

#[test]
fn capabilities_default_to_unsupported() {
    let vcpu = AxVCpu::<Bare>::new(0, 0, 0, None, ()).unwrap();
    bare_setup(&vcpu);
    vcpu.bind().unwrap();
    assert_eq!(vcpu.get_gpr(0), Err(AxError::Unsupported));
    assert_eq!(vcpu.retry(), Err(AxError::Unsupported));
    assert_eq!(vcpu.fail_access(), Err(AxError::Unsupported));
    assert_eq!(vcpu.reset(), Err(AxError::Unsupported));
    assert_eq!(vcpu.state(), Ready, "a missing capability invalidates nothing");
    vcpu.set_interrupt_line(3, true).unwrap();
    assert_eq!(vcpu.run(), Err(AxError::Unsupported));
    assert_eq!(vcpu.run(), Ok(Exit::Nothing), "the refused line is not pending any more");
    vcpu.unbind().unwrap();
}

#[allow(unsafe_code)] // promises a stage-2 root that nobody follows
fn bare_setup(vcpu: &AxVCpu<Bare>) {
    // SAFETY: `Bare` follows no root.
    unsafe { vcpu.setup(ENTRY, ROOT, ()) }.unwrap();
}

#[test]
fn states_and_errors_have_words_of_their_own() {
    use std::collections::BTreeSet;
    use std::string::ToString;
    let states: BTreeSet<_> = VCpuState::ALL.iter().map(ToString::to_string).collect();
    assert_eq!(states.len(), VCpuState::ALL.len());
    let errors = [
        AxError::Unsupported,
        AxError::InterruptFailed { vector: 1 },
        AxError::BadState { found: Ready },
        AxError::BadState { found: Blocked },
        AxError::BadCpuState { found: PerCpuState::Enabled },
        AxError::BadCpuState { found: PerCpuState::Disabled },
        AxError::BadCpuState { found: PerCpuState::Uninitialized },
        AxError::WrongCpu { bound: 1, current: 2 },
        AxError::Unanswered,
        AxError::NotAsked,
        AxError::InvalidInput,
        AxError::NoMemory,
        AxError::ResourceBusy,
        AxError::Host { code: 3 },
    ];
    let texts: BTreeSet<_> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), errors.len());
    let error: &dyn core::error::Error = &errors[7];
    assert_eq!(error.to_string(), "called on physical CPU 2, but the vCPU belongs on 1");
}
