//! Two physical CPUs, or many vCPUs on one, that take turns.

use core::sync::atomic::{AtomicUsize, Ordering};

use crate::bench::{Bench, Isa};
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

/// vCPUs of two machines come and go, until whatever tells their translations apart has been used up; two stay all the
/// while. `boot` makes a machine whose guests report this value for ever, from memory at an address of both.
pub(crate) fn crowd<S: Subject, I: Isa>(
    subject: &S,
    boot: impl Fn(u64) -> Verdict<Bench<S, I>>,
) -> Verdict {
    let mut machines = [(boot(1)?, 1), (boot(2)?, 2)];
    for count in 0..subject.crowd() {
        let (bench, value) = &mut machines[count % 2];
        bench.add_hart(subject, 1)?;
        bench.harts[1].vcpu.bind()?;
        ensure_eq!(bench.harts[1].report()?, *value, "what vCPU {count} found");
        bench.harts.pop();
        if count % 100 == 0 {
            for (bench, value) in &machines {
                ensure_eq!(bench.hart().report()?, *value, "found by one who stays, after {count}");
            }
        }
    }
    Ok(())
}
