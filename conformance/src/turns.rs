//! Two physical CPUs, or many vCPUs on one, that take turns.

use core::sync::atomic::{AtomicUsize, Ordering};

use crate::bench::{Bench, GuestsOf};
use crate::report::{Verdict, ensure_eq, fail};
use crate::requests::{two_cpus, wait_for};
use crate::subject::Subject;

/// Calls `step` for each turn, on two CPUs alternately.
pub(crate) fn take_turns<S: Subject>(
    subject: &S,
    turns: usize,
    step: impl Fn(usize) -> Verdict + Sync,
) -> Verdict {
    const GIVEN_UP: usize = usize::MAX;
    let next = AtomicUsize::new(0);
    let player = |own: usize| {
        for turn in (own..turns).step_by(2) {
            wait_for::<S>("the other CPU", || match next.load(Ordering::SeqCst) {
                GIVEN_UP => fail!("the other CPU gave up"),
                now => Ok(now == turn),
            })?;
            if let Err(stop) = step(turn) {
                next.store(GIVEN_UP, Ordering::SeqCst);
                return Err(stop);
            }
            next.store(turn + 1, Ordering::SeqCst);
        }
        Ok(())
    };
    two_cpus(subject, || player(0), || player(1))
}

/// What [`registers`] begins with, and adds every round.
pub(crate) const STEP: u64 = 0x1234_5678_9abc_def1;

/// The guest fills 40 registers with multiples of a number, and the `system` registers with what their masks keep of
/// it; marks 1; stores all of them one after the other in its data; marks 2; and adds [`STEP`] to the number. `seen` is
/// what counts of what it found in a system register.
pub(crate) fn registers<S: Subject, I: GuestsOf<S>>(
    subject: &S,
    mut bench: Bench<S, I>,
    system: &[(u16, u64)],
    seen: impl Fn(u16, u64) -> u64 + Sync,
) -> Verdict {
    bench.add_hart(subject, 0)?;
    let (hart, space) = (bench.hart(), &bench.space);
    take_turns(subject, 40, |turn| {
        hart.vcpu.bind()?;
        hart.mark(1 + turn as u64 % 2)?;
        hart.vcpu.unbind()?;
        if turn % 2 == 0 {
            return Ok(());
        }
        let seed = STEP.wrapping_mul(turn as u64 / 2 + 1);
        for index in 0..40 {
            let found = space.read(I::DATA + 8 * index)?;
            ensure_eq!(found, seed.wrapping_mul(index + 1), "register {index} in turn {turn}");
        }
        for (index, &(register, mask)) in (40..).zip(system) {
            let found = space.read(I::DATA + 8 * index)?;
            let seen = seen(register, found);
            ensure_eq!(seen, seed & mask, "system register {register:#x} in turn {turn}");
        }
        Ok(())
    })
}
