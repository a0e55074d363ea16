//! Kicks, wake-ups and interrupts from elsewhere, before, during and after a run: what is the same on every
//! architecture once the guest is there.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use axvcpu::{AccessWidth, AxError, AxVCpu, VCpuState};

use crate::bench::{Bench, Exit, GuestsOf, Hart, Isa, Program, dispatch};
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
    // The other CPU's account explains a failure here, if it has one.
    match (first, second) {
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

/// The guest stores something other than 0 in its data, and marks 1.
pub(crate) fn kick_before<S: Subject, I: Isa>(bench: &Bench<S, I>) -> Verdict {
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    vcpu.kick();
    vcpu.kick();
    ensure_eq!(vcpu.run(), Ok(Exit::Nothing), "the run that was kicked before");
    ensure_eq!(vcpu.state(), VCpuState::Ready, "after it");
    ensure_eq!(bench.space.read(I::DATA)?, 0, "what the guest did meanwhile");
    // It is used up.
    let exit = loop {
        match vcpu.run()? {
            Exit::ExternalInterrupt { .. } => dispatch::<S>(),
            exit => break exit,
        }
    };
    let call = hart.call(&exit)?;
    ensure!(call.is_some_and(|(nr, _)| nr == I::REPORT), "kicked once, but {exit:?}");
    hart.end()
}

pub(crate) fn kick_between<S: Subject, I: GuestsOf<S>>(subject: &S) -> Verdict {
    let bench = Bench::<S, I>::boot(subject, |g| {
        g.mark(1);
        g.wfi();
        g.mark(2);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.mark(1)?;
    vcpu.kick();
    ensure_eq!(vcpu.run(), Ok(Exit::Nothing), "kicked after an exit");
    hart.halt()?;
    vcpu.kick();
    ensure_eq!(vcpu.state(), VCpuState::Ready, "kicked while blocked");
    ensure_eq!(vcpu.run(), Ok(Exit::Nothing), "kicked while blocked");
    hart.mark(2)
}

pub(crate) fn kick_during<S: Subject, I: GuestsOf<S>>(subject: &S) -> Verdict {
    let bench = Bench::<S, I>::boot(subject, Program::count_for_ever)?;
    let (vcpu, space) = (bench.vcpu(), &bench.space);
    let runs = AtomicU64::new(0);
    let done = AtomicBool::new(false);
    two_cpus(
        subject,
        || {
            while !done.load(Ordering::SeqCst) {
                match vcpu.run()? {
                    Exit::Nothing => {}
                    Exit::ExternalInterrupt { .. } => dispatch::<S>(),
                    exit => fail!("{exit:?}"),
                }
                runs.fetch_add(1, Ordering::SeqCst);
            }
            Ok(())
        },
        || {
            let result = (|| {
                wait_for::<S>("the guest to start", || Ok(space.read(I::DATA)? != 0))?;
                for round in 0..ROUNDS {
                    // Now and then long after the guest went on, mostly while it is about to.
                    if round % 8 == 0 {
                        let before = space.read(I::DATA)?;
                        wait_for::<S>("the guest to go on", || {
                            Ok(space.read(I::DATA)?.wrapping_sub(before) > 100)
                        })?;
                    }
                    let before = runs.load(Ordering::SeqCst);
                    vcpu.kick();
                    wait_for::<S>("the kicked run to end", || {
                        Ok(runs.load(Ordering::SeqCst) != before)
                    })?;
                }
                Ok(())
            })();
            done.store(true, Ordering::SeqCst);
            vcpu.kick();
            result
        },
    )
}

/// The guest marks 1 and then traps for ever, on the first instruction of its own handler.
pub(crate) fn kick_trapping<S: Subject, I: Isa>(subject: &S, bench: &Bench<S, I>) -> Verdict {
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.mark(1)?;
    run_while(subject, vcpu, unexpected, || {
        wait_for::<S>("the guest to run", || Ok(vcpu.state() == VCpuState::Running))
    })
}

/// The guest reads a byte from the device and reports it. `vector` is an interrupt that comes to it.
pub(crate) fn block<S: Subject, I: Isa>(bench: &Bench<S, I>, vector: usize) -> Verdict {
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.mmio_read(I::DEVICE, AccessWidth::Byte)?;
    vcpu.block()?;
    ensure_eq!(vcpu.state(), VCpuState::Blocked, "while the device thinks");
    let refused = Err(AxError::BadState { found: VCpuState::Blocked });
    ensure_eq!(vcpu.run(), refused, "running while blocked");
    vcpu.set_return_value(5)?;
    vcpu.wake();
    ensure_eq!(vcpu.state(), VCpuState::Ready, "woken");
    hart.mark(5)?;
    vcpu.wake();
    vcpu.block()?;
    ensure_eq!(vcpu.state(), VCpuState::Ready, "a wake-up that came first");
    vcpu.inject_interrupt(vector)?;
    vcpu.block()?;
    ensure_eq!(vcpu.state(), VCpuState::Ready, "an interrupt that came first");
    Ok(())
}

pub(crate) fn wake_before<S: Subject, I: GuestsOf<S>>(subject: &S) -> Verdict {
    let bench = Bench::<S, I>::boot(subject, |g| {
        for _ in 0..3 {
            g.wfi();
        }
        g.mark(1);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    vcpu.wake();
    vcpu.wake();
    let exit = hart.run()?;
    ensure!(matches!(exit, Exit::Halt { .. }), "{exit:?}");
    ensure_eq!(vcpu.state(), VCpuState::Ready, "halted after the wake-up");
    hart.halt()?;
    vcpu.wake();
    hart.halt()?;
    vcpu.wake();
    hart.mark(1)
}

pub(crate) fn wake_race<S: Subject, I: GuestsOf<S>>(subject: &S) -> Verdict {
    let bench = Bench::<S, I>::boot(subject, Program::wait_for_ever)?;
    let vcpu = bench.vcpu();
    let halts = AtomicU64::new(0);
    run_while(
        subject,
        vcpu,
        |exit| {
            ensure!(matches!(exit, Exit::Halt { .. }), "{exit:x?}");
            wait_for::<S>("the wake-up", || Ok(vcpu.state() != VCpuState::Blocked))?;
            halts.fetch_add(1, Ordering::SeqCst);
            Ok(())
        },
        || {
            for _ in 0..ROUNDS {
                let before = halts.load(Ordering::SeqCst);
                vcpu.wake();
                wait_for::<S>("the guest to go on", || Ok(halts.load(Ordering::SeqCst) != before))?;
            }
            Ok(())
        },
    )
}

/// `gpr` is a register of the guest that it does not use.
pub(crate) fn refused_while_running<S: Subject, I: GuestsOf<S>>(
    subject: &S,
    gpr: usize,
) -> Verdict {
    let bench = Bench::<S, I>::boot(subject, Program::count_for_ever)?;
    let (vcpu, space) = (bench.vcpu(), &bench.space);
    let done = AtomicBool::new(false);
    two_cpus(
        subject,
        || {
            while !done.load(Ordering::SeqCst) {
                match vcpu.run() {
                    Ok(Exit::ExternalInterrupt { .. }) => dispatch::<S>(),
                    Ok(Exit::Nothing) => {}
                    // The other CPU is trying something at this moment.
                    Err(AxError::ResourceBusy) => {}
                    Err(AxError::BadState { found: VCpuState::Running }) => {}
                    other => fail!("{other:?}"),
                }
            }
            Ok(())
        },
        || {
            let result = (|| {
                wait_for::<S>("the guest to start", || Ok(space.read(I::DATA)? != 0))?;
                // Between two of its runs it may be ready for a moment.
                let refused = |result: axvcpu::AxResult, what: &str| -> Verdict {
                    let running = AxError::BadState { found: VCpuState::Running };
                    let between = AxError::ResourceBusy;
                    ensure!(
                        result == Ok(()) || result == Err(running) || result == Err(between),
                        "{what} while running: {result:?}"
                    );
                    Ok(())
                };
                let mut seen = false;
                for _ in 0..ROUNDS {
                    seen |= vcpu.state() == VCpuState::Running;
                    refused(vcpu.set_gpr(gpr, 1), "set_gpr")?;
                    refused(vcpu.get_gpr(gpr).map(drop).or_else(unsupported), "get_gpr")?;
                    let elsewhere = match vcpu.unbind() {
                        Err(AxError::WrongCpu { .. }) => Ok(()),
                        Ok(()) => fail!("unbound from another physical CPU"),
                        other => other,
                    };
                    refused(elsewhere, "unbind")?;
                    let elsewhere = match vcpu.run() {
                        Err(AxError::WrongCpu { .. }) => Ok(()),
                        Ok(_) => fail!("ran on two physical CPUs"),
                        Err(other) => Err(other),
                    };
                    refused(elsewhere, "run")?;
                }
                ensure!(seen, "never seen running");
                Ok(())
            })();
            done.store(true, Ordering::SeqCst);
            vcpu.kick();
            result
        },
    )
}

fn unsupported(error: AxError) -> axvcpu::AxResult {
    if error == AxError::Unsupported { Ok(()) } else { Err(error) }
}

/// Injects edges into a guest, each when the one before was counted. The guest counts the interrupts of the vectors in
/// words behind the first one of its data.
pub(crate) fn inject_and_count<S: Subject, I: Isa>(
    subject: &S,
    bench: &Bench<S, I>,
    vectors: [usize; 3],
) -> Verdict {
    let (vcpu, space) = (bench.vcpu(), &bench.space);
    run_while(
        subject,
        vcpu,
        |exit| match exit {
            Exit::Halt { .. } => {
                wait_for::<S>("an interrupt", || Ok(vcpu.state() != VCpuState::Blocked))
            }
            exit => unexpected(exit),
        },
        || {
            for round in 1..=ROUNDS {
                // One at a time, then all at once.
                let together = round % 2 == 0;
                for (index, vector) in (1..).zip(vectors) {
                    vcpu.inject_interrupt(vector)?;
                    if !together {
                        wait_for::<S>("one interrupt", || {
                            Ok(space.read(I::DATA + 8 * index)? >= round)
                        })?;
                    }
                }
                for index in 1..=3 {
                    wait_for::<S>("all interrupts", || {
                        Ok(space.read(I::DATA + 8 * index)? >= round)
                    })?;
                }
            }
            Ok(())
        },
    )?;
    for index in 1..=3 {
        ensure_eq!(
            space.read(I::DATA + 8 * index)?,
            ROUNDS,
            "interrupts taken, none of them twice"
        );
    }
    Ok(())
}

/// Adds the two vCPUs that [`ping_pong`] is about.
pub(crate) fn pair<S: Subject, I: GuestsOf<S>>(subject: &S, bench: &mut Bench<S, I>) -> Verdict {
    for id in 0..2 {
        bench.add_hart(subject, id)?;
        bench.harts[id].vcpu.set_gpr(I::NUMBER, id as u64)?;
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
