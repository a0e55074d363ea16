//! The guest's clock and timer, by Sstc and by the firmware call.

use axvcpu_riscv::asm::*;
use axvcpu_riscv::csr::{CAUSE_INTERRUPT, cause, irq, num};

use super::NamedCase;
use super::Subject;
use super::bench::{Bench, Hart};
use super::guest::*;
use crate::report::{Verdict, ensure, ensure_eq, fail};

const TIMER: u64 = CAUSE_INTERRUPT | irq::TIMER as u64;
/// What cases wait for: long enough to see that somebody waits, short enough for many of them.
const DELAY_NS: u64 = 2_000_000;

pub(super) fn cases<S: Subject>() -> [NamedCase<S>; 11] {
    [
        ("timer: stimecmp in the past interrupts at once", past),
        ("timer: stimecmp while the guest runs", by_register_running),
        ("timer: stimecmp while the guest waits", by_register_waiting),
        ("timer: SBI set_timer while the guest runs", by_call_running),
        ("timer: SBI set_timer while the guest waits", by_call_waiting),
        ("timer: the legacy call", by_legacy_call),
        ("timer: pending until it is set anew", pending),
        ("timer: not armed, it names no time to wait", not_armed),
        ("timer: masked, it names no time to wait", masked),
        ("timer: survives unbinding", unbound),
        ("time: goes on, also while the guest waits", time),
    ]
}

/// How the guest sets its timer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Register,
    Call,
    LegacyCall,
}

impl Guest {
    /// Sets the timer to the time in `a0`. With a call this uses `a0`, `a1`, `a6` and `a7`.
    fn set_timer(&mut self, by: By) {
        match by {
            By::Register => self.csrw(num::STIMECMP, A0),
            By::Call => {
                self.li(A1, -1);
                self.li(A6, 0);
                self.li(A7, 0x5449_4d45); // SBI 2.0, 6.1
                self.ecall();
            }
            By::LegacyCall => {
                self.li(A7, 0); // SBI 2.0, 5.1
                self.ecall();
            }
        }
    }

    /// Tries to set the timer's register, and reports what comes of it.
    fn try_stimecmp(&mut self) {
        self.li(A0, -1);
        self.csrw(num::STIMECMP, A0);
        self.end();
    }

    /// `a0`: the time, so many nanoseconds from now. Uses `t1`.
    fn time_after<S: Subject>(&mut self, subject: &S, ns: u64) {
        self.csrr(A0, num::TIME);
        self.li(T1, ticks(subject, ns) as i64);
        self.add(A0, A0, T1);
    }
}

/// The ways there are.
fn ways<S: Subject>(subject: &S) -> impl Iterator<Item = By> {
    let all = [By::Register, By::Call, By::LegacyCall];
    let has_register = subject.has_stimecmp();
    all.into_iter().filter(move |&by| has_register || by != By::Register)
}

/// A guest that has no timer register finds none.
fn no_register<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, Guest::try_stimecmp)?;
    bench.hart().trap_for(cause::ILLEGAL)?;
    Ok(())
}

fn ticks<S: Subject>(subject: &S, ns: u64) -> u64 {
    (u128::from(ns) * u128::from(subject.time_base()) / 1_000_000_000) as u64
}

/// Runs a guest that waits until it takes its timer interrupt, waking it when its time has come. Answers how often
/// it waited.
fn timer_trap<S: Subject>(subject: &S, hart: &Hart<S>, delay: u64) -> Verdict<usize> {
    use super::bench::Exit;
    let mut halts = 0;
    loop {
        match hart.run()? {
            Exit::Halt { wake_after_ns: Some(ns) } => {
                ensure!(ns <= 2 * delay, "waits {ns} ns for a timer {delay} ns away");
                halts += 1;
                ensure!(halts < 1000, "always halts again");
                subject.sleep(ns);
                hart.vcpu.wake();
            }
            Exit::Halt { wake_after_ns: None } => fail!("waits for a timer, and names no time"),
            Exit::Hypercall { nr: TRAP, args, .. } => {
                ensure_eq!(args[1], TIMER, "scause");
                return Ok(halts);
            }
            exit => fail!("{exit:x?}"),
        }
    }
}

fn past<S: Subject>(subject: &S) -> Verdict {
    for by in ways(subject) {
        let bench = Bench::boot(subject, |g| {
            g.enable_interrupts(1 << irq::TIMER);
            g.li(A0, 0);
            g.set_timer(by);
            g.mark(1);
        })?;
        bench.hart().trap_for(TIMER)?;
    }
    Ok(())
}

fn running<S: Subject>(subject: &S, by: By) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.enable_interrupts(1 << irq::TIMER);
        g.time_after(subject, DELAY_NS);
        g.mv(S0, A0);
        g.csrr(S2, num::TIME); // on a busy machine the timer may fire before the loop's first look
        g.set_timer(by);
        if by != By::Register {
            g.mv(S1, A0);
            g.mv(S3, A1);
        }
        let again = g.here_label();
        g.csrr(S2, num::TIME);
        g.j(again);
    })?;
    let hart = bench.hart();
    let trap = hart.trap_for(TIMER)?;
    ensure!(trap.pending & 1 << irq::TIMER != 0, "sip.STIP in the handler");
    let register = |number| hart.vcpu.get_gpr(number).ok();
    if let (Some(due), Some(last)) = (register(8), register(18)) {
        // The loop's last look at the clock is from before the interrupt, or it came late, never early.
        let late = last.saturating_sub(due);
        let limit = ticks(subject, 2_000_000_000);
        ensure!(last + ticks(subject, DELAY_NS) >= due, "{last} when it was due at {due}");
        ensure!(late < limit, "{late} ticks late");
    }
    if by != By::Register {
        for (number, name) in [(9, "a0")].into_iter().chain((by == By::Call).then_some((19, "a1")))
        {
            ensure_eq!(register(number).unwrap_or(0), 0, "{name} after the call");
        }
    }
    Ok(())
}

fn waiting<S: Subject>(subject: &S, by: By) -> Verdict {
    // On a busy machine a short time is over before the guest comes to wait for it.
    for delay in [DELAY_NS, 10 * DELAY_NS, 100 * DELAY_NS] {
        let bench = Bench::boot(subject, |g| {
            g.enable_interrupts(1 << irq::TIMER);
            g.time_after(subject, delay);
            g.set_timer(by);
            let again = g.here_label();
            g.wfi();
            g.j(again);
        })?;
        if timer_trap(subject, bench.hart(), delay)? > 0 {
            return Ok(());
        }
    }
    fail!("never halted")
}

fn by_register_running<S: Subject>(subject: &S) -> Verdict {
    if !subject.has_stimecmp() {
        return no_register(subject);
    }
    running(subject, By::Register)
}

fn by_register_waiting<S: Subject>(subject: &S) -> Verdict {
    if !subject.has_stimecmp() {
        return no_register(subject);
    }
    waiting(subject, By::Register)
}

fn by_call_running<S: Subject>(subject: &S) -> Verdict {
    running(subject, By::Call)
}

fn by_call_waiting<S: Subject>(subject: &S) -> Verdict {
    waiting(subject, By::Call)
}

fn by_legacy_call<S: Subject>(subject: &S) -> Verdict {
    running(subject, By::LegacyCall)?;
    waiting(subject, By::LegacyCall)
}

fn pending<S: Subject>(subject: &S) -> Verdict {
    for by in ways(subject) {
        let bench = Bench::boot(subject, |g| {
            g.li(A0, 0);
            g.set_timer(by);
            g.report_csr(num::SIP);
            g.report_csr(num::SIP);
            // Writing sip does not help.
            g.li(T0, 1 << irq::TIMER);
            g.csrrc(ZERO, num::SIP, T0);
            g.report_csr(num::SIP);
            g.li(A0, -1);
            g.set_timer(by);
            g.report_csr(num::SIP);
        })?;
        for expected in [1 << irq::TIMER, 1 << irq::TIMER, 1 << irq::TIMER, 0] {
            ensure_eq!(bench.hart().report()?, expected, "sip");
        }
    }
    Ok(())
}

/// What a masked timer does ends no wait: a hypervisor that wakes its guest then does so for nothing, and for ever if the
/// time has come.
fn masked<S: Subject>(subject: &S) -> Verdict {
    for by in ways(subject) {
        let bench = Bench::boot(subject, |g| {
            g.enable_interrupts(1 << irq::EXTERNAL);
            g.li(A0, 0);
            g.set_timer(by);
            g.wfi(); // has come
            g.time_after(subject, DELAY_NS);
            g.set_timer(by);
            g.wfi(); // will come
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

fn not_armed<S: Subject>(subject: &S) -> Verdict {
    /// So long that it does not come to pass before it is called off.
    const LONG_NS: u64 = 100_000_000_000;
    for by in ways(subject) {
        let bench = Bench::boot(subject, |g| {
            g.wfi(); // never armed
            g.enable_interrupts(1 << irq::TIMER);
            g.time_after(subject, LONG_NS);
            g.set_timer(by);
            g.li(A0, -1);
            g.set_timer(by);
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

fn unbound<S: Subject>(subject: &S) -> Verdict {
    for by in ways(subject) {
        let bench = Bench::boot(subject, |g| {
            g.time_after(subject, DELAY_NS);
            g.set_timer(by);
            g.mark(1);
            g.enable_interrupts(1 << irq::TIMER);
            let again = g.here_label();
            g.wfi();
            g.j(again);
        })?;
        bench.hart().mark(1)?;
        bench.vcpu().unbind()?;
        subject.sleep(2 * DELAY_NS);
        bench.vcpu().bind()?;
        // Its time has come while it was away: it is taken at the next opportunity, not waited for.
        bench.hart().trap_for(TIMER)?;
    }
    Ok(())
}

fn time<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        for _ in 0..3 {
            for _ in 0..100 {
                g.csrr(S0, num::TIME);
                g.csrr(S1, num::TIME);
                let right = g.label();
                g.bgeu(S1, S0, right);
                g.ebreak();
                g.bind(right);
            }
            g.report(S1);
        }
    })?;
    let mut before = bench.hart().report()?;
    for _ in 0..2 {
        subject.sleep(DELAY_NS);
        let now = bench.hart().report()?;
        let (passed, least) = (now.wrapping_sub(before), ticks(subject, DELAY_NS));
        ensure!(passed >= least, "{passed} ticks in {DELAY_NS} ns, of which there are {least}");
        before = now;
    }
    bench.hart().end()
}
