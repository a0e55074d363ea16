//! Kicks, wake-ups and interrupts from elsewhere, before, during and after a run.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use axvcpu::AccessWidth::{Byte, Qword};
use axvcpu::{AxError, AxResult, VCpuState};

use super::{Architecture, GuestsOf, Instructions, Isa, NamedCase, Program, Reg};
use crate::bench::{Bench, Exit, Hart, dispatch, pattern};
use crate::report::{Verdict, ensure, ensure_eq, fail};
use crate::requests::{self, ROUNDS, run_while, two_cpus, unexpected, wait_for};
use crate::subject::Subject;

pub(super) fn cases<S: Subject, I: Architecture + GuestsOf<S>>() -> [NamedCase<S>; 13] {
    [
        ("kick: before a run, nothing is executed", kick_before::<S, I>),
        ("kick: between runs, and while blocked", kick_between::<S, I>),
        ("kick: from another CPU ends every run", kick_during::<S, I>),
        ("kick: ends the run of a guest that only traps", kick_trapping::<S, I>),
        ("block: the hypervisor waits, and is woken", block::<S, I>),
        ("wake: kept for the next halt, once", wake_before::<S, I>),
        ("wake: from another CPU races with the halt", wake_race::<S, I>),
        ("running: everything that needs the backend is refused", refused_while_running::<S, I>),
        ("running: an interrupt from another CPU goes in at once", interrupt_during::<S, I>),
        ("running: interrupts from another CPU to a halting guest", interrupt_race::<S, I>),
        ("running: interrupts leave the guest's registers alone", interrupts_and_registers::<S, I>),
        ("running: interrupts between two vCPUs on two CPUs", ping_pong::<S, I>),
        ("running: additions of two vCPUs all count", additions::<S, I>),
    ]
}

fn kick_before<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let bench = Bench::<S, I>::boot(subject, |g| {
        g.set(Reg::B, I::DATA);
        g.store(Reg::B, Qword, Reg::B, 0);
        g.mark(1);
    })?;
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

fn kick_between<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
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

fn kick_during<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
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

fn kick_trapping<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let bench = Bench::<S, I>::boot(subject, |g| {
        g.mark(1);
        g.trap_for_ever();
    })?;
    requests::kick_trapping(subject, &bench)
}

fn block<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let bench = Bench::<S, I>::boot(subject, |g| {
        g.set(Reg::B, I::DEVICE);
        g.load(Reg::A, Byte, Reg::B, 0);
        g.report(Reg::A);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.mmio_read(I::DEVICE, Byte)?;
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
    vcpu.inject_interrupt(I::VECTORS[0])?;
    vcpu.block()?;
    ensure_eq!(vcpu.state(), VCpuState::Ready, "an interrupt that came first");
    Ok(())
}

fn wake_before<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
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

fn wake_race<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
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

fn refused_while_running<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
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
                let refused = |result: AxResult, what: &str| -> Verdict {
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
                    refused(vcpu.set_gpr(I::SPARE, 1), "set_gpr")?;
                    refused(vcpu.get_gpr(I::SPARE).map(drop).or_else(unsupported), "get_gpr")?;
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

fn unsupported(error: AxError) -> AxResult {
    if error == AxError::Unsupported { Ok(()) } else { Err(error) }
}

fn interrupt_during<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let bench = Bench::<S, I>::boot(subject, |g| {
        g.count_interrupts();
        g.count_for_ever();
    })?;
    inject_and_count(subject, &bench, I::VECTORS)
}

fn interrupt_race<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let bench = Bench::<S, I>::boot(subject, |g| {
        g.count_interrupts();
        g.wait_for_ever();
    })?;
    inject_and_count(subject, &bench, I::VECTORS)
}

/// Injects edges into a guest, each when the one before was counted. The guest counts the interrupts of the vectors in
/// words behind the first one of its data.
fn inject_and_count<S: Subject, I: Isa>(
    subject: &S,
    bench: &Bench<S, I>,
    vectors: [usize; 3],
) -> Verdict {
    let (vcpu, space) = (bench.vcpu(), &bench.space);
    let count = |index: u64| space.read(I::DATA + 8 * index);
    let taken = |index: u64, round: u64| -> Verdict {
        let result = wait_for::<S>("the guest to count", || Ok(count(index)? >= round));
        if result.is_err() {
            let counts = [count(1)?, count(2)?, count(3)?];
            let missing = vectors[index as usize - 1];
            fail!("interrupt {missing} was not counted in round {round}: DATA + 8 has {counts:?}");
        }
        Ok(())
    };
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
                        taken(index, round)?;
                    }
                }
                (1..=3).try_for_each(|index| taken(index, round))?;
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

/// Each of two guests waits for an interrupt, and answers it with one for the other: it reports its number. The first
/// one's first interrupt comes from the case.
fn ping_pong<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let mut bench = Bench::<S, I>::empty(subject)?;
    bench.load(|g| {
        g.number(Reg::A);
        g.for_ever(|g| {
            g.await_interrupt();
            g.report(Reg::A);
        });
    })?;
    let is_sent = |own, hart: &Hart<S, I>, exit: &Exit| {
        let call = hart.call(exit)?;
        Ok(call.is_some_and(|(nr, args)| nr == I::REPORT && args[0] == own as u64))
    };
    requests::pair(subject, &mut bench)?;
    bench.vcpu().inject_interrupt(I::VECTORS[0])?;
    requests::ping_pong(subject, &bench, I::VECTORS[0], is_sent)
}

/// The guest reports its registers for ever, and interrupts come all the while.
fn interrupts_and_registers<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let bench = Bench::<S, I>::boot(subject, |g| {
        for (number, register) in (1..).zip(Reg::ALL) {
            g.set(register, pattern(number));
        }
        g.enable_interrupts();
        g.for_ever(|g| Reg::ALL.into_iter().for_each(|register| g.report(register)));
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    let taken = AtomicU64::new(0);
    let mut expected = (1..=3).map(pattern).cycle();
    run_while(
        subject,
        vcpu,
        |exit| {
            match hart.call(&exit)? {
                Some((nr, args)) if nr == I::REPORT => {
                    let count = taken.load(Ordering::SeqCst);
                    ensure_eq!(Some(args[0]), expected.next(), "after {count} interrupts");
                }
                Some((nr, args)) if nr == I::TRAP => {
                    let trap = I::trap(args);
                    ensure_eq!(I::interrupt(&trap), Some(I::VECTORS[0]), "the interrupt");
                    taken.fetch_add(1, Ordering::SeqCst);
                }
                _ => return unexpected(exit),
            }
            Ok(())
        },
        || {
            for round in 1..=ROUNDS {
                vcpu.inject_interrupt(I::VECTORS[0])?;
                wait_for::<S>("the interrupt", || Ok(taken.load(Ordering::SeqCst) == round))?;
            }
            Ok(())
        },
    )
}

/// Two guests add to the same 64 bits at the same time.
fn additions<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    const TIMES: u64 = 20_000;
    let mut bench = Bench::<S, I>::empty(subject)?;
    bench.load(|g| {
        g.set(Reg::A, 1);
        g.set(Reg::B, I::DATA);
        g.repeat(TIMES, |g| g.atomic_add(Reg::A, Reg::B));
    })?;
    requests::pair(subject, &mut bench)?;
    let harts = &bench.harts;
    let add = |own: usize| -> Verdict {
        harts[own].vcpu.bind()?;
        harts[own].end()?;
        Ok(harts[own].vcpu.unbind()?)
    };
    two_cpus(subject, || add(0), || add(1))?;
    ensure_eq!(bench.space.read(I::DATA)?, 2 * TIMES, "the sum");
    Ok(())
}
