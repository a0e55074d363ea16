//! Kicks, wake-ups and interrupts from elsewhere, before, during and after a run: what is the same on every
//! architecture once the guest is there.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use axvcpu::{AxVCpu, VCpuState};

use crate::bench::{Bench, Exit, GuestsOf, Hart, Isa, dispatch};
use crate::report::{Stop, Verdict, ensure, ensure_eq, fail};
use crate::subject::Subject;

/// How often each of the races is run.
pub(crate) const ROUNDS: u64 = 200;

/// Does `here` on this CPU and `there` on another; skips the case if there is only one.
pub(crate) fn two_cpus<S: Subject>(
    subject: &S,
    mut here: impl FnMut() -> Verdict,
    mut there: impl FnMut() -> Verdict + Send,
) -> Verdict {
    let (mut first, mut second) = (None, None);
    if !subject.on_two_cpus(&mut || first = Some(here()), &mut || second = Some(there())) {
        return Err(Stop::Skipped("needs a second physical CPU"));
    }
    match (first, second) {
        // Whoever waited for the other in vain says no more than that.
        (Some(Err(Stop::Failed(here))), Some(Err(Stop::Failed(there)))) => {
            fail!("{here}; and on the other CPU: {there}")
        }
        (_, Some(Err(stop))) | (Some(Err(stop)), _) => Err(stop),
        (Some(Ok(())), Some(Ok(()))) => Ok(()),
        _ => fail!("on_two_cpus did not call both of its functions"),
    }
}

/// Waits, on a CPU that does not run the guest, for what the guest does in bounded time.
pub(crate) fn wait_for<S: Subject>(what: &str, mut done: impl FnMut() -> Verdict<bool>) -> Verdict {
    let mut looks = 0;
    while !done()? {
        looks += 1;
        if !S::look_again(looks) {
            fail!("waited too long for {what}");
        }
    }
    Ok(())
}

/// Runs a vCPU here again and again, while `there` lasts on another CPU. `concern` gets the exits that concern the suite.
pub(crate) fn run_while<S: Subject>(
    subject: &S,
    vcpu: &AxVCpu<S::Arch>,
    mut concern: impl FnMut(Exit) -> Verdict,
    mut there: impl FnMut() -> Verdict + Send,
) -> Verdict {
    let done = AtomicBool::new(false);
    two_cpus(
        subject,
        || {
            while !done.load(Ordering::SeqCst) {
                match vcpu.run()? {
                    Exit::Nothing => {}
                    Exit::ExternalInterrupt { .. } => dispatch::<S>(),
                    exit => concern(exit)?,
                }
            }
            Ok(())
        },
        || {
            let result = there();
            done.store(true, Ordering::SeqCst);
            vcpu.kick();
            result
        },
    )
}

/// For [`run_while`], when every exit that concerns the suite is a mistake.
pub(crate) fn unexpected(exit: Exit) -> Verdict {
    fail!("{exit:x?}")
}

/// The guest marks 1 and then traps for ever, on the first instruction of its own handler.
pub(crate) fn kick_trapping<S: Subject, I: Isa>(subject: &S, bench: &Bench<S, I>) -> Verdict {
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.mark(1)?;
    run_while(subject, vcpu, unexpected, || {
        wait_for::<S>("the guest to run", || Ok(vcpu.state() == VCpuState::Running))
    })
}

/// Adds the two vCPUs that [`ping_pong`] is about.
pub(crate) fn pair<S: Subject, I: GuestsOf<S>>(subject: &S, bench: &mut Bench<S, I>) -> Verdict {
    for id in 0..2 {
        bench.add_hart(subject, id)?;
    }
    Ok(())
}

/// Each of two guests waits for an interrupt, and answers it with one for the other. The first begins, unless the case has
/// injected its first interrupt; `is_sent` tells whether an exit of a vCPU sends the other one an interrupt, which is
/// `vector`.
pub(crate) fn ping_pong<S: Subject, I: Isa>(
    subject: &S,
    bench: &Bench<S, I>,
    vector: usize,
    is_sent: impl Fn(usize, &Hart<S, I>, &Exit) -> Verdict<bool> + Sync,
) -> Verdict {
    let sent = [AtomicU64::new(0), AtomicU64::new(0)];
    let stop = AtomicBool::new(false);
    let harts = &bench.harts;
    let player = |own: usize| {
        let hart = &harts[own];
        let (vcpu, other) = (&hart.vcpu, &harts[1 - own].vcpu);
        let play = || -> Verdict {
            vcpu.bind()?;
            while sent[own].load(Ordering::SeqCst) < ROUNDS {
                match vcpu.run()? {
                    exit if is_sent(own, hart, &exit)? => {
                        sent[own].fetch_add(1, Ordering::SeqCst);
                        other.inject_interrupt(vector)?;
                    }
                    Exit::Halt { .. } => wait_for::<S>("the other's interrupt", || {
                        ensure!(!stop.load(Ordering::SeqCst), "the other gave up");
                        Ok(vcpu.state() != VCpuState::Blocked)
                    })?,
                    Exit::Nothing => {}
                    Exit::ExternalInterrupt { .. } => dispatch::<S>(),
                    exit => fail!("vCPU {own}: {exit:x?}"),
                }
            }
            vcpu.unbind()?;
            Ok(())
        };
        let result = play();
        if result.is_err() {
            stop.store(true, Ordering::SeqCst);
        }
        result
    };
    two_cpus(subject, || player(0), || player(1))?;
    for sent in &sent {
        ensure_eq!(sent.load(Ordering::SeqCst), ROUNDS, "interrupts sent");
    }
    Ok(())
}
