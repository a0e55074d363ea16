//! Kicks, wake-ups and interrupts from elsewhere, before, during and after a run.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use axvcpu::{AxError, VCpuState};
use axvcpu_riscv::asm::*;
use axvcpu_riscv::csr::{irq, num};

use super::NamedCase;
use super::bench::{Bench, Exit, dispatch};
use super::guest::*;
use crate::Subject;
use crate::report::{Stop, Verdict, ensure, ensure_eq, fail};

const ROUNDS: u64 = 200;

pub(super) fn cases<S: Subject>() -> [NamedCase<S>; 11] {
    [
        ("kick: before a run, nothing is executed", kick_before),
        ("kick: between runs, and while blocked", kick_between),
        ("kick: from another CPU ends every run", kick_during),
        ("kick: ends the run of a guest that only traps", kick_trapping),
        ("block: the hypervisor waits, and is woken", block),
        ("wake: kept for the next halt, once", wake_before),
        ("wake: from another CPU races with the halt", wake_race),
        ("running: everything that needs the backend is refused", refused_while_running),
        ("running: an interrupt from another CPU goes in at once", interrupt_during),
        ("running: interrupts from another CPU to a halting guest", interrupt_race),
        ("running: interrupts between two vCPUs on two CPUs", ping_pong),
    ]
}

/// Does `here` on this CPU and `there` on another; skips the case if there is only one.
pub(super) fn two_cpus<S: Subject>(
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
pub(super) fn wait_for<S: Subject>(what: &str, mut done: impl FnMut() -> Verdict<bool>) -> Verdict {
    let mut looks = 0;
    while !done()? {
        looks += 1;
        if !S::look_again(looks) {
            fail!("waited too long for {what}");
        }
    }
    Ok(())
}

fn counting<S: Subject>(subject: &S) -> Verdict<Bench<S>> {
    Bench::boot(subject, Guest::count_for_ever)
}

fn kick_before<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.li(S0, DATA as i64);
        g.sd(S0, 0, S0);
        g.mark(1);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    vcpu.kick();
    vcpu.kick();
    ensure_eq!(vcpu.run(), Ok(Exit::Nothing), "the run that was kicked before");
    ensure_eq!(vcpu.state(), VCpuState::Ready, "after it");
    ensure_eq!(bench.space.read(DATA)?, 0, "what the guest did meanwhile");
    // It is used up.
    let exit = loop {
        match vcpu.run()? {
            Exit::ExternalInterrupt { .. } => dispatch::<S>(),
            exit => break exit,
        }
    };
    ensure!(matches!(exit, Exit::Hypercall { nr: REPORT, .. }), "kicked once, but {exit:?}");
    hart.end()
}

fn kick_between<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
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

fn kick_during<S: Subject>(subject: &S) -> Verdict {
    let bench = counting(subject)?;
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
                wait_for::<S>("the guest to start", || Ok(space.read(DATA)? != 0))?;
                for round in 0..ROUNDS {
                    // Now and then long after the guest went on, mostly while it is about to.
                    if round % 8 == 0 {
                        let before = space.read(DATA)?;
                        wait_for::<S>("the guest to go on", || {
                            Ok(space.read(DATA)?.wrapping_sub(before) > 100)
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

fn kick_trapping<S: Subject>(subject: &S) -> Verdict {
    // The handler's first instruction traps, to itself: no instruction ever completes.
    let bench = Bench::boot(subject, |g| {
        let (start, handler) = (g.label(), g.label());
        g.j(start);
        g.align(4);
        g.bind(handler);
        g.ebreak();
        g.bind(start);
        g.la(T0, handler);
        g.csrw(num::STVEC, T0);
        g.mark(1);
        g.ebreak();
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.mark(1)?;
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
            }
            Ok(())
        },
        || {
            let result =
                wait_for::<S>("the guest to run", || Ok(vcpu.state() == VCpuState::Running));
            done.store(true, Ordering::SeqCst);
            vcpu.kick();
            result
        },
    )
}

fn block<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.li(S0, DEVICE as i64);
        g.lb(S1, 0, S0);
        g.report(S1);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.mmio_read(DEVICE, axvcpu::AccessWidth::Byte)?;
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
    vcpu.inject_interrupt(irq::SOFTWARE)?;
    vcpu.block()?;
    ensure_eq!(vcpu.state(), VCpuState::Ready, "an interrupt that came first");
    Ok(())
}

fn wake_before<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
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

fn wake_race<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        let again = g.here_label();
        g.wfi();
        g.j(again);
    })?;
    let vcpu = bench.vcpu();
    let halts = AtomicU64::new(0);
    let done = AtomicBool::new(false);
    two_cpus(
        subject,
        || {
            while !done.load(Ordering::SeqCst) {
                match vcpu.run()? {
                    Exit::Halt { .. } => {
                        wait_for::<S>("the wake-up", || Ok(vcpu.state() != VCpuState::Blocked))?;
                        halts.fetch_add(1, Ordering::SeqCst);
                    }
                    Exit::Nothing => {}
                    Exit::ExternalInterrupt { .. } => dispatch::<S>(),
                    exit => fail!("{exit:?}"),
                }
            }
            Ok(())
        },
        || {
            let result = (|| {
                for _ in 0..ROUNDS {
                    let before = halts.load(Ordering::SeqCst);
                    vcpu.wake();
                    wait_for::<S>("the guest to go on", || {
                        Ok(halts.load(Ordering::SeqCst) != before)
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

fn refused_while_running<S: Subject>(subject: &S) -> Verdict {
    let bench = counting(subject)?;
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
                wait_for::<S>("the guest to start", || Ok(space.read(DATA)? != 0))?;
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
                    refused(vcpu.set_gpr(31, 1), "set_gpr")?;
                    refused(vcpu.get_gpr(31).map(drop).or_else(unsupported), "get_gpr")?;
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

const ALL_INTERRUPTS: u64 = 1 << irq::SOFTWARE | 1 << irq::TIMER | 1 << irq::EXTERNAL;

/// Injects edge interrupts into a guest one after the other, each when the one before was counted.
fn inject_and_count<S: Subject>(subject: &S, body: impl FnOnce(&mut Guest)) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.li(S2, (DATA + 8) as i64);
        g.count_interrupts();
        g.enable_interrupts(ALL_INTERRUPTS);
        body(g);
    })?;
    let (vcpu, space) = (bench.vcpu(), &bench.space);
    let done = AtomicBool::new(false);
    two_cpus(
        subject,
        || {
            while !done.load(Ordering::SeqCst) {
                match vcpu.run()? {
                    Exit::Halt { .. } => {
                        wait_for::<S>("an interrupt", || Ok(vcpu.state() != VCpuState::Blocked))?
                    }
                    Exit::Nothing => {}
                    Exit::ExternalInterrupt { .. } => dispatch::<S>(),
                    exit => fail!("{exit:?}"),
                }
            }
            Ok(())
        },
        || {
            let result = (|| {
                for round in 1..=ROUNDS {
                    // One at a time, then all at once.
                    let together = round % 2 == 0;
                    for (index, vector) in (1..).zip([irq::SOFTWARE, irq::TIMER, irq::EXTERNAL]) {
                        vcpu.inject_interrupt(vector)?;
                        if !together {
                            wait_for::<S>("one interrupt", || {
                                Ok(space.read(DATA + 8 * index)? >= round)
                            })?;
                        }
                    }
                    for index in 1..=3 {
                        wait_for::<S>("all interrupts", || {
                            Ok(space.read(DATA + 8 * index)? >= round)
                        })?;
                    }
                }
                Ok(())
            })();
            done.store(true, Ordering::SeqCst);
            vcpu.kick();
            result
        },
    )?;
    for index in 1..=3 {
        ensure_eq!(space.read(DATA + 8 * index)?, ROUNDS, "interrupts taken, none of them twice");
    }
    Ok(())
}

fn interrupt_during<S: Subject>(subject: &S) -> Verdict {
    inject_and_count(subject, Guest::count_for_ever)
}

fn interrupt_race<S: Subject>(subject: &S) -> Verdict {
    inject_and_count(subject, |g| {
        let again = g.here_label();
        g.wfi();
        g.j(again);
    })
}

/// Each of two guests waits for an interrupt, and answers it with one for the other.
fn ping_pong<S: Subject>(subject: &S) -> Verdict {
    const SEND: u64 = 0x0a00_0010;
    let mut bench = Bench::empty(subject)?;
    bench.load(|g| {
        g.li(T1, 1 << irq::SOFTWARE);
        g.csrw(num::SIE, T1);
        let (again, wait) = (g.label(), g.label());
        g.bnez(A0, wait);
        g.bind(again);
        g.li(A7, SEND as i64);
        g.ecall();
        g.bind(wait);
        g.wfi();
        g.csrr(T1, num::SIP);
        g.beqz(T1, wait);
        g.csrrci(ZERO, num::SIP, 2);
        g.j(again);
    })?;
    for id in 0..2 {
        bench.add_hart(subject, id)?;
        bench.harts[id].vcpu.set_gpr(10, id as u64)?;
    }
    let sent = [AtomicU64::new(0), AtomicU64::new(0)];
    let stop = AtomicBool::new(false);
    let player = |own: usize| {
        let (vcpu, other) = (&bench.harts[own].vcpu, &bench.harts[1 - own].vcpu);
        let play = || -> Verdict {
            vcpu.bind()?;
            while sent[own].load(Ordering::SeqCst) < ROUNDS {
                match vcpu.run()? {
                    Exit::Hypercall { nr: SEND, .. } => {
                        sent[own].fetch_add(1, Ordering::SeqCst);
                        other.inject_interrupt(irq::SOFTWARE)?;
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
