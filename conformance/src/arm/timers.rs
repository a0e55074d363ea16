//! The guest's counters and timers.

use axvcpu_arm::asm::*;
use axvcpu_arm::gic::{PHYSICAL_TIMER, VIRTUAL_TIMER};

use super::NamedCase;
use super::Subject;
use super::bench::{Bench, Exit, Hart};
use super::guest::*;
use crate::report::{Verdict, ensure, ensure_eq, fail};

/// What cases wait for: long enough to see that somebody waits, short enough for many of them.
const DELAY_NS: u64 = 2_000_000;
/// So long that it does not come to pass before it is called off.
const LONG_NS: u64 = 100_000_000_000;

pub(super) fn cases<S: Subject>() -> [NamedCase<S>; 12] {
    [
        ("timer: in the past interrupts at once", past),
        ("timer: while the guest runs", running),
        ("timer: by its value that counts down", by_value),
        ("timer: while the guest waits", waiting),
        ("timer: while the guest runs and never exits", inside),
        ("timer: masked, it is only seen", masked),
        ("timer: interrupts until it is set anew", pending),
        ("timer: not armed, it names no time to wait", not_armed),
        ("timer: the nearer of two is waited for", nearer),
        ("timer: survives unbinding", unbound),
        ("timer: belongs to one vCPU", one_of_two),
        ("time: goes on, also while the guest waits", time),
    ]
}

/// One of the guest's timers.
#[derive(Clone, Copy)]
struct Timer {
    intid: u64,
    control: u16,
    compare: u16,
    value: u16,
    count: u16,
}

const TIMERS: [Timer; 2] = [
    Timer {
        intid: VIRTUAL_TIMER as u64,
        control: sys::CNTV_CTL_EL0,
        compare: sys::CNTV_CVAL_EL0,
        value: sys::CNTV_TVAL_EL0,
        count: sys::CNTVCT_EL0,
    },
    Timer {
        intid: PHYSICAL_TIMER as u64,
        control: sys::CNTP_CTL_EL0,
        compare: sys::CNTP_CVAL_EL0,
        value: sys::CNTP_TVAL_EL0,
        count: sys::CNTPCT_EL0,
    },
];

// CNTV_CTL and CNTP_CTL.
const ENABLE: u64 = 1;
const MASK: u64 = 1 << 1;
const STATUS: u64 = 1 << 2;

impl Guest {
    /// Arms a timer for so many nanoseconds from now. Uses `x9` and `x10`.
    fn arm<S: Subject>(&mut self, subject: &S, timer: Timer, ns: u64, control: u64) {
        self.isb();
        self.mrs(X10, timer.count);
        self.li(X9, ticks(subject, ns));
        self.add(X10, X10, X9);
        self.msr(timer.compare, X10);
        self.set_sys(timer.control, control);
        self.isb();
    }

    /// Waits for ever.
    fn wait(&mut self) {
        let again = self.here_label();
        self.wfi();
        self.b(again);
    }
}

fn ticks<S: Subject>(subject: &S, ns: u64) -> u64 {
    (u128::from(ns) * u128::from(subject.time_base()) / 1_000_000_000) as u64
}

/// Runs a guest that waits until it takes a timer's interrupt, waking it when its time has come. Answers how often it
/// waited.
fn timer_interrupt<S: Subject>(
    subject: &S,
    hart: &Hart<S>,
    intid: u64,
    delay: u64,
) -> Verdict<usize> {
    let mut halts = 0;
    loop {
        match hart.run()? {
            Exit::Halt { wake_after_ns: Some(ns) } => {
                ensure!(ns <= 2 * delay, "waits {ns} ns for a timer {delay} ns away");
                halts += 1;
                ensure!(halts < 100_000, "always halts again");
                subject.sleep(ns.max(10_000)); // the interrupt may take a moment
                hart.vcpu.wake();
            }
            Exit::Halt { wake_after_ns: None } => fail!("waits for a timer, and names no time"),
            Exit::Hypercall { nr: TRAP, args, .. } => {
                ensure_eq!((args[0], args[5]), (vector::IRQ, intid), "vector and INTID");
                return Ok(halts);
            }
            exit => fail!("{exit:x?}"),
        }
    }
}

fn past<S: Subject>(subject: &S) -> Verdict {
    for timer in TIMERS {
        let bench = Bench::boot(subject, |g| {
            g.enable_interrupts();
            g.set_sys(timer.compare, 0);
            g.set_sys(timer.control, ENABLE);
            g.isb();
            // A moment for the interrupt to come.
            g.li(X20, 100_000);
            let again = g.here_label();
            g.sub_imm(X20, X20, 1);
            g.cbnz(X20, again);
            g.mark(1);
        })?;
        bench.hart().interrupt(timer.intid)?;
    }
    Ok(())
}

/// A guest that does nothing until the interrupt comes, and then looks at the time: `x21` is when it was due, `x22` when it
/// came.
fn looks(g: &mut Guest, timer: Timer, arm: impl FnOnce(&mut Guest)) {
    let (start, table) = (g.label(), g.label());
    g.b(start);
    g.table(table, |g, number| {
        if number == 5 {
            g.isb();
            g.mrs(X22, timer.count);
            g.report_sys(sys::ICC_IAR1_EL1);
        } else {
            g.mark(0xbad);
        }
    });
    g.bind(start);
    g.set_vectors(table);
    arm(g);
    g.mrs(X21, timer.compare);
    g.enable_interrupts(); // on a busy machine it may come at once
    let again = g.here_label();
    g.b(again);
}

fn looked<S: Subject>(subject: &S, bench: &Bench<S>, timer: Timer) -> Verdict {
    let hart = bench.hart();
    ensure_eq!(hart.report()?, timer.intid, "interrupt");
    let (due, came) = (hart.vcpu.get_gpr(21)?, hart.vcpu.get_gpr(22)?);
    ensure!(came >= due, "came at {came} when it was due at {due}");
    let (late, limit) = (came - due, ticks(subject, 2_000_000_000));
    ensure!(late < limit, "{late} ticks late");
    Ok(())
}

fn running<S: Subject>(subject: &S) -> Verdict {
    for timer in TIMERS {
        let bench = Bench::boot(subject, |g| {
            looks(g, timer, |g| g.arm(subject, timer, DELAY_NS, ENABLE));
        })?;
        looked(subject, &bench, timer)?;
    }
    Ok(())
}

fn by_value<S: Subject>(subject: &S) -> Verdict {
    for timer in TIMERS {
        let bench = Bench::boot(subject, |g| {
            looks(g, timer, |g| {
                g.set_sys(timer.value, ticks(subject, DELAY_NS));
                g.set_sys(timer.control, ENABLE);
                g.isb();
            });
        })?;
        looked(subject, &bench, timer)?;
    }
    Ok(())
}

fn waiting<S: Subject>(subject: &S) -> Verdict {
    'timers: for timer in TIMERS {
        // On a busy machine a short time is over before the guest comes to wait for it.
        for delay in [DELAY_NS, 10 * DELAY_NS, 100 * DELAY_NS] {
            let bench = Bench::boot(subject, |g| {
                g.enable_interrupts();
                g.arm(subject, timer, delay, ENABLE);
                g.wait();
            })?;
            if timer_interrupt(subject, bench.hart(), timer.intid, delay)? > 0 {
                continue 'timers;
            }
        }
        fail!("never halted");
    }
    Ok(())
}

/// The handler does not exit either.
fn inside<S: Subject>(subject: &S) -> Verdict {
    const TIMES: u64 = 5;
    for timer in TIMERS {
        let bench = Bench::boot(subject, |g| {
            let (start, table) = (g.label(), g.label());
            g.b(start);
            g.table(table, |g, number| {
                if number == 5 {
                    g.mrs(X20, sys::ICC_IAR1_EL1);
                    g.add_imm(X21, X21, 1);
                    g.li(X22, ticks(subject, DELAY_NS / 4));
                    g.msr(timer.value, X22); // set anew, it interrupts no more
                    g.isb();
                    g.msr(sys::ICC_EOIR1_EL1, X20);
                    g.eret();
                } else {
                    g.mark(0xbad);
                }
            });
            g.bind(start);
            g.set_vectors(table);
            g.li(X21, 0);
            g.enable_interrupts();
            g.arm(subject, timer, DELAY_NS / 4, ENABLE);
            let again = g.here_label();
            g.cmp_imm(X21, TIMES as u32);
            g.b_cond(Cond::Lo, again);
            g.set_sys(timer.control, 0);
            g.report(X20);
            g.report(X21);
        })?;
        ensure_eq!(bench.hart().report()?, timer.intid, "the last interrupt");
        let interrupts = bench.hart().report()?;
        ensure!(interrupts >= TIMES, "{interrupts} interrupts");
    }
    Ok(())
}

fn masked<S: Subject>(subject: &S) -> Verdict {
    for timer in TIMERS {
        let bench = Bench::boot(subject, |g| {
            g.enable_interrupts();
            g.set_sys(timer.compare, 0);
            g.set_sys(timer.control, ENABLE | MASK);
            g.isb();
            for _ in 0..3 {
                g.report_sys(timer.control);
            }
            g.wfi(); // nothing to wait for
            g.mark(1);
            g.set_sys(timer.control, ENABLE);
            g.isb();
            g.wait();
        })?;
        let hart = bench.hart();
        for _ in 0..3 {
            ensure_eq!(hart.report()?, ENABLE | MASK | STATUS, "control");
        }
        ensure_eq!(hart.halt()?, None, "nanoseconds to wait");
        bench.vcpu().wake();
        hart.mark(1)?;
        hart.interrupt(timer.intid)?;
    }
    Ok(())
}

fn pending<S: Subject>(subject: &S) -> Verdict {
    for timer in TIMERS {
        let bench = Bench::boot(subject, |g| {
            g.gic_on();
            g.set_sys(timer.compare, 0);
            g.set_sys(timer.control, ENABLE);
            g.isb();
            // Masked in the CPU it ends no run, but it is there.
            g.wfi();
            for _ in 0..2 {
                g.report_sys(sys::ISR_EL1);
                g.report_sys(sys::ICC_IAR1_EL1);
                g.li(X20, timer.intid);
                g.msr(sys::ICC_EOIR1_EL1, X20);
                g.isb();
            }
            g.set_sys(timer.control, 0);
            g.isb();
            g.mark(1);
            g.mrs(X21, sys::ICC_IAR1_EL1);
            g.report(X21);
            let none = g.label();
            g.cmp(X21, X20);
            g.b_cond(Cond::Ne, none);
            g.msr(sys::ICC_EOIR1_EL1, X20);
            g.bind(none);
            g.isb();
            g.report_sys(sys::ISR_EL1);
            g.report_sys(sys::ICC_IAR1_EL1);
        })?;
        let hart = bench.hart();
        for _ in 0..2 {
            ensure_eq!(hart.report()?, pstate::I, "ISR");
            ensure_eq!(hart.report()?, timer.intid, "ICC_IAR1");
        }
        hart.mark(1)?;
        // One that had been presented already may stay, as it does in list registers of hardware; none follows.
        let last = hart.report()?;
        ensure!(last == timer.intid || last == 1023, "ICC_IAR1, switched off: {last}");
        ensure_eq!(hart.report()?, 0, "ISR, switched off");
        ensure_eq!(hart.report()?, 1023, "ICC_IAR1, switched off");
        hart.end()?;
    }
    Ok(())
}

fn not_armed<S: Subject>(subject: &S) -> Verdict {
    for timer in TIMERS {
        let bench = Bench::boot(subject, |g| {
            g.wfi(); // never armed
            g.enable_interrupts();
            g.arm(subject, timer, LONG_NS, ENABLE);
            g.set_sys(timer.control, 0);
            g.isb();
            g.wfi(); // disarmed
            g.mark(1);
        })?;
        for _ in 0..2 {
            ensure_eq!(bench.hart().halt()?, None, "nanoseconds to wait");
            bench.vcpu().wake();
        }
        bench.hart().mark(1)?;
    }
    Ok(())
}

fn nearer<S: Subject>(subject: &S) -> Verdict {
    for (near, far) in [(TIMERS[0], TIMERS[1]), (TIMERS[1], TIMERS[0])] {
        let bench = Bench::boot(subject, |g| {
            g.enable_interrupts();
            g.arm(subject, far, LONG_NS, ENABLE);
            g.arm(subject, near, LONG_NS / 4, ENABLE);
            g.wfi();
            g.set_sys(near.control, ENABLE | MASK);
            g.isb();
            g.wfi();
        })?;
        let first = bench.hart().halt()?;
        bench.vcpu().wake();
        let second = bench.hart().halt()?;
        let near = |ns: Option<u64>, of| ns.is_some_and(|ns| (of / 2..=of).contains(&ns));
        ensure!(near(first, LONG_NS / 4), "{first:?} ns for the nearer one");
        ensure!(near(second, LONG_NS), "{second:?} ns with the nearer one masked");
    }
    Ok(())
}

fn unbound<S: Subject>(subject: &S) -> Verdict {
    for timer in TIMERS {
        let bench = Bench::boot(subject, |g| {
            g.arm(subject, timer, DELAY_NS, ENABLE);
            g.mark(1);
            g.enable_interrupts();
            g.wait();
        })?;
        bench.hart().mark(1)?;
        bench.vcpu().unbind()?;
        subject.sleep(2 * DELAY_NS);
        bench.vcpu().bind()?;
        // Its time has come while it was away: it is taken at the next opportunity, not waited for.
        bench.hart().interrupt(timer.intid)?;
    }
    Ok(())
}

/// Two vCPUs on one physical CPU; the first one's timer fires while the second runs.
fn one_of_two<S: Subject>(subject: &S) -> Verdict {
    for timer in TIMERS {
        let bench = Bench::boot_many(subject, 2, |g| {
            let second = g.label();
            g.mov(X25, X0);
            g.cbnz(X25, second);
            g.arm(subject, timer, DELAY_NS, ENABLE);
            g.mark(1);
            g.enable_interrupts();
            g.wait();
            g.bind(second);
            g.enable_interrupts();
            let again = g.here_label();
            g.report_sys(timer.control);
            g.b(again);
        })?;
        let [first, second] = &bench.harts[..] else { return Ok(()) };
        first.mark(1)?;
        for _ in 0..3 {
            second.mark(0)?;
        }
        subject.sleep(2 * DELAY_NS);
        for _ in 0..3 {
            second.mark(0)?;
        }
        first.interrupt(timer.intid)?;
        second.mark(0)?;
    }
    Ok(())
}

fn time<S: Subject>(subject: &S) -> Verdict {
    for timer in TIMERS {
        let bench = Bench::boot(subject, |g| {
            g.report_sys(sys::CNTFRQ_EL0);
            for _ in 0..3 {
                g.li(X21, 100);
                let again = g.here_label();
                g.isb();
                g.mrs(X19, timer.count);
                g.isb();
                g.mrs(X20, timer.count);
                let right = g.label();
                g.cmp(X20, X19);
                g.b_cond(Cond::Hs, right);
                g.brk(0);
                g.bind(right);
                g.sub_imm(X21, X21, 1);
                g.cbnz(X21, again);
                g.report(X20);
            }
        })?;
        ensure_eq!(bench.hart().report()?, subject.time_base(), "CNTFRQ");
        let mut before = bench.hart().report()?;
        for _ in 0..2 {
            subject.sleep(DELAY_NS);
            let now = bench.hart().report()?;
            let (passed, least) = (now.wrapping_sub(before), ticks(subject, DELAY_NS));
            ensure!(passed >= least, "{passed} ticks in {DELAY_NS} ns, of which there are {least}");
            before = now;
        }
        bench.hart().end()?;
    }
    Ok(())
}
