//! Two physical CPUs, or many vCPUs on one, that take turns.

use core::sync::atomic::{AtomicUsize, Ordering};

use axvcpu::Fence;
use axvcpu_stage2::Perms;

use crate::bench::{Bench, GuestsOf, Program};
use crate::report::{Verdict, ensure, ensure_eq, fail};
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
/// while.
pub(crate) fn crowd<S: Subject, I: GuestsOf<S>>(subject: &S) -> Verdict {
    let machine = |value| -> Verdict<_> {
        let mut bench = Bench::<S, I>::boot(subject, |g| g.report_for_ever(I::WINDOW))?;
        bench.space.add(I::WINDOW, 1, Some(Perms::RW))?;
        bench.space.write(I::WINDOW, value)?;
        bench.announce();
        Ok((bench, value))
    };
    let mut machines = [machine(1)?, machine(2)?];
    for count in 0..subject.crowd() {
        let (bench, value) = &mut machines[count % 2];
        bench.add_hart(subject, 1)?;
        bench.announce();
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

/// Pages are exchanged while the guest reports what is in the window.
pub(crate) fn pages<S: Subject, I: GuestsOf<S>>(subject: &S) -> Verdict {
    const TURNS: usize = 30;
    let mut bench = Bench::<S, I>::empty(subject)?;
    bench.load(|g| g.report_for_ever(I::WINDOW))?;
    bench.space.add(I::FIRST, 1, None)?;
    bench.space.add(I::SECOND, 1, None)?;
    bench.space.write(I::FIRST, 0)?;
    bench.space.write(I::SECOND, 1)?;
    bench.add_hart(subject, 0)?;
    // Every three turns the other page, so that each CPU has seen either when it is exchanged.
    for part in 0..TURNS / 3 {
        let page = if part % 2 == 0 { I::FIRST } else { I::SECOND };
        if part > 0 {
            bench.space.unmap(I::WINDOW)?;
        }
        bench.space.map(I::WINDOW, page, Perms::RW)?;
        bench.vcpu().request_fence(Fence::STAGE2_TLB);
        let hart = bench.hart();
        // The first turn is another CPU's each time.
        take_turns(subject, 4, |turn| {
            if turn == 0 && part % 2 == 1 {
                return Ok(());
            }
            hart.vcpu.bind()?;
            for _ in 0..2 {
                let found = hart.report()?;
                ensure!(found == part as u64 % 2, "page {found} in part {part}, turn {turn}");
            }
            Ok(hart.vcpu.unbind()?)
        })?;
    }
    Ok(())
}
