//! The CPU interface and what the distributor tells it: priorities, enables, more interrupts than the hardware has room
//! for, ends of interrupts, interrupts for others.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};

use axvcpu_arm::asm::*;
use axvcpu_arm::gic::Forwarding;

use super::NamedCase;
use super::Subject;
use super::bench::{Bench, Exit};
use super::guest::*;
use crate::report::{Verdict, ensure, ensure_eq, fail};
use crate::requests::{run_while, unexpected, wait_for};

pub(super) fn cases<S: Subject>() -> [NamedCase<S>; 15] {
    [
        ("gic: the most important comes first", priorities),
        ("gic: a more important one interrupts a handler", preemption),
        ("gic: more are pending than fit, in their order", crowded),
        ("gic: more are pending than fit, without exits", crowded_inside),
        ("gic: handlers nest deeper than fit", nested),
        ("gic: more are active than fit, ended in two steps", unfinished),
        ("gic: disabled ones wait until they are enabled", enabled_later),
        ("gic: enabled while the guest runs", enabled_while_running),
        ("gic: one that is disabled while it is pending waits", disabled_pending),
        ("gic: a priority that changes while it is pending", changed_priority),
        ("gic: end and deactivation apart (EOImode 1)", end_modes),
        ("gic: interrupts for others", interrupts_for_others),
        ("gic: interrupts for all others", interrupts_for_all),
        ("gic: an interrupt for another ends its halt", for_a_halted_one),
        ("gic: registers of the CPU interface keep what is written", interface_registers),
    ]
}

/// Numbers of interrupts that the suite's distributor knows.
const INTIDS: usize = 64;

/// A priority that means disabled.
const DISABLED: u32 = 256;

/// The suite's distributor.
struct Distributor {
    generation: AtomicU32,
    priorities: [AtomicU32; INTIDS],
}

impl Distributor {
    /// With a priority for each interrupt.
    fn new(priority: impl Fn(usize) -> u32) -> Arc<Self> {
        let priorities = core::array::from_fn(|intid| AtomicU32::new(priority(intid)));
        Arc::new(Self { generation: AtomicU32::new(0), priorities })
    }

    fn set(&self, intid: usize, priority: u32) {
        self.priorities[intid].store(priority, Ordering::Release);
        self.generation.fetch_add(1, Ordering::Release);
    }
}

impl Forwarding for Distributor {
    fn generation(&self) -> u32 {
        self.generation.load(Ordering::Acquire)
    }

    fn priority(&self, intid: u32) -> Option<u8> {
        let priority = self.priorities.get(intid as usize)?;
        u8::try_from(priority.load(Ordering::Acquire)).ok()
    }
}

/// A machine with one vCPU that has a distributor.
fn boot<S: Subject>(
    subject: &S,
    distributor: &Arc<Distributor>,
    body: impl FnOnce(&mut Guest),
) -> Verdict<Bench<S>> {
    let mut bench = Bench::empty(subject)?;
    bench.load(body)?;
    bench.add_hart_with(subject, 0, subject.forwarding_config(distributor.clone())?)?;
    bench.vcpu().bind()?;
    Ok(bench)
}

/// A guest that reports marks for ever with interrupts on.
fn marking<S: Subject>(subject: &S, distributor: &Arc<Distributor>) -> Verdict<Bench<S>> {
    boot(subject, distributor, |g| {
        g.enable_interrupts();
        let again = g.here_label();
        g.mark(1);
        g.b(again);
    })
}

fn priorities<S: Subject>(subject: &S) -> Verdict {
    let distributor = Distributor::new(|intid| match intid {
        3 => 0x80,
        33 => 0x20,
        40 => 0x60,
        _ => 0xa0,
    });
    let bench = marking(subject, &distributor)?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.mark(1)?;
    for order in [[3, 33, 40, 50], [50, 40, 33, 3], [40, 3, 50, 33]] {
        for vector in order {
            vcpu.inject_interrupt(vector)?;
        }
        let first = hart.interrupt(33)?;
        for expected in [40, 3, 50] {
            let trap = hart.interrupt(expected)?;
            ensure_eq!(trap.elr, first.elr, "ELR: nothing was executed in between");
        }
        hart.mark(1)?;
    }
    Ok(())
}

fn preemption<S: Subject>(subject: &S) -> Verdict {
    let distributor = Distributor::new(|intid| if intid == 33 { 0x20 } else { 0xa0 });
    // The handler lets interrupts in again before it ends its own.
    let bench = boot(subject, &distributor, |g| {
        let (start, table) = (g.label(), g.label());
        g.b(start);
        g.table(table, |g, number| {
            if number == 5 {
                g.mrs(X20, sys::ICC_IAR1_EL1);
                g.report(X20);
                g.mrs(X21, sys::ELR_EL1);
                g.mrs(X22, sys::SPSR_EL1);
                // A more important one has registers of its own to use.
                let only = g.label();
                g.cmp_imm(X20, 33);
                g.b_cond(Cond::Eq, only);
                g.mov(X23, X20);
                g.mov(X24, X21);
                g.mov(X25, X22);
                g.daifclr(2);
                g.mark(2);
                g.daifset(2);
                g.mov(X20, X23);
                g.msr(sys::ELR_EL1, X24);
                g.msr(sys::SPSR_EL1, X25);
                g.bind(only);
                g.msr(sys::ICC_EOIR1_EL1, X20);
                g.eret();
            } else {
                g.mark(0xbad);
            }
        });
        g.bind(start);
        g.set_vectors(table);
        g.enable_interrupts();
        let again = g.here_label();
        g.mark(1);
        g.b(again);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.mark(1)?;
    vcpu.inject_interrupt(40)?;
    hart.mark(40)?;
    // One of the same priority has to wait, a more important one has not.
    vcpu.inject_interrupt(41)?;
    vcpu.inject_interrupt(33)?;
    hart.mark(33)?;
    hart.mark(2)?;
    hart.mark(41)?;
    hart.mark(2)?;
    hart.mark(1)
}

/// Twenty interrupts, the later the more important. Five bits of priority are what every implementation has.
const MANY: core::ops::Range<usize> = 32..52;

fn rank(intid: usize) -> u32 {
    if MANY.contains(&intid) { 0xa0 - 8 * (intid as u32 - 32) } else { 0xa8 }
}

fn crowded<S: Subject>(subject: &S) -> Verdict {
    let distributor = Distributor::new(rank);
    let bench = marking(subject, &distributor)?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.mark(1)?;
    for round in 0..2 {
        for vector in MANY {
            vcpu.inject_interrupt(vector)?;
        }
        for vector in MANY.rev() {
            hart.interrupt(vector as u64)?;
        }
        hart.mark(1)?;
        if round == 0 {
            // Also for a vCPU that moves between them.
            vcpu.unbind()?;
            vcpu.bind()?;
        }
    }
    // Some taken, the rest after rebinding.
    for vector in MANY {
        vcpu.inject_interrupt(vector)?;
    }
    for (count, vector) in MANY.rev().enumerate() {
        hart.interrupt(vector as u64)?;
        if count % 6 == 5 {
            vcpu.unbind()?;
            vcpu.bind()?;
        }
    }
    hart.mark(1)
}

fn crowded_inside<S: Subject>(subject: &S) -> Verdict {
    let distributor = Distributor::new(rank);
    let bench = boot(subject, &distributor, |g| {
        let (start, table) = (g.label(), g.label());
        g.b(start);
        // Writes down in which order they come.
        g.table(table, |g, number| {
            if number == 5 {
                g.mrs(X20, sys::ICC_IAR1_EL1);
                g.str_post(X20, X19, 8);
                g.msr(sys::ICC_EOIR1_EL1, X20);
                g.eret();
            } else {
                g.mark(0xbad);
            }
        });
        g.bind(start);
        g.set_vectors(table);
        g.li(X19, DATA);
        g.gic_on();
        g.mark(1);
        g.daifclr(2);
        // Until all are there, or so long that they will not be.
        g.li(X21, DATA + 8 * MANY.len() as u64);
        g.li(X22, 10_000_000);
        let (again, done) = (g.here_label(), g.label());
        g.cmp(X19, X21);
        g.b_cond(Cond::Hs, done);
        g.sub_imm(X22, X22, 1);
        g.cbnz(X22, again);
        g.bind(done);
        g.daifset(2);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.mark(1)?;
    for vector in MANY {
        vcpu.inject_interrupt(vector)?;
    }
    hart.end()?;
    for (index, vector) in (0..).zip(MANY.rev()) {
        let found = bench.space.read(DATA + 8 * index)?;
        ensure_eq!(found, vector as u64, "the interrupt that came after {index} others");
    }
    Ok(())
}

fn enabled_later<S: Subject>(subject: &S) -> Verdict {
    let distributor = Distributor::new(|_| DISABLED);
    let bench = marking(subject, &distributor)?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.mark(1)?;
    for vector in [3, 20, 33] {
        vcpu.inject_interrupt(vector)?;
        for _ in 0..3 {
            hart.mark(1)?;
        }
        distributor.set(vector, 0xa0);
        hart.interrupt(vector as u64)?;
        hart.mark(1)?;
    }
    // A line as well; and an interrupt that waits does not keep the guest from halting.
    vcpu.set_interrupt_line(40, true)?;
    hart.mark(1)?;
    distributor.set(40, 0xa0);
    hart.interrupt(40)?;
    hart.interrupt(40)?;
    distributor.set(40, DISABLED);
    hart.mark(1)?;
    vcpu.set_interrupt_line(40, false)?;
    distributor.set(40, 0xa0);
    hart.mark(1)?;
    let distributor = Distributor::new(|_| DISABLED);
    let bench = boot(subject, &distributor, |g| {
        g.enable_interrupts();
        g.mark(1);
        g.wfi();
        g.mark(2);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.mark(1)?;
    vcpu.inject_interrupt(33)?;
    hart.halt()?;
    distributor.set(33, 0xa0);
    vcpu.wake();
    hart.interrupt(33)?;
    hart.mark(2)
}

/// Another CPU enables what is pending and makes the vCPU leave the guest, as a distributor does.
fn enabled_while_running<S: Subject>(subject: &S) -> Verdict {
    const ROUNDS: u64 = 50;
    let distributor = Distributor::new(|_| DISABLED);
    let bench = boot(subject, &distributor, |g| {
        g.li(X19, DATA + 8 - 8 * 33);
        g.count_interrupts();
        g.enable_interrupts();
        g.count_for_ever();
    })?;
    let (vcpu, space) = (bench.vcpu(), &bench.space);
    run_while(subject, vcpu, unexpected, || {
        wait_for::<S>("the guest to start", || Ok(space.read(DATA)? != 0))?;
        for round in 0..ROUNDS {
            vcpu.inject_interrupt(33)?;
            let before = space.read(DATA)?;
            wait_for::<S>("the guest to go on", || {
                Ok(space.read(DATA)?.wrapping_sub(before) > 1000)
            })?;
            ensure_eq!(space.read(DATA + 8)?, round, "interrupts while it is disabled");
            distributor.set(33, 0xa0);
            vcpu.kick();
            wait_for::<S>("the interrupt", || Ok(space.read(DATA + 8)? > round))?;
            distributor.set(33, DISABLED);
            vcpu.kick();
        }
        Ok(())
    })?;
    ensure_eq!(space.read(DATA + 8)?, ROUNDS, "interrupts");
    Ok(())
}

fn disabled_pending<S: Subject>(subject: &S) -> Verdict {
    let distributor = Distributor::new(|_| 0xa0);
    // Presented to a guest that has interrupts masked, and taken back.
    let bench = boot(subject, &distributor, |g| {
        g.gic_on();
        g.mark(1);
        g.report_sys(sys::ISR_EL1);
        g.report_sys(sys::ISR_EL1);
        g.daifclr(2);
        g.mark(2);
        g.mark(3);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.mark(1)?;
    vcpu.inject_interrupt(33)?;
    ensure_eq!(hart.report()?, pstate::I, "ISR while it is enabled");
    distributor.set(33, DISABLED);
    ensure_eq!(hart.report()?, 0, "ISR while it is disabled");
    hart.mark(2)?;
    distributor.set(33, 0xa0);
    hart.interrupt(33)?;
    hart.mark(3)
}

fn changed_priority<S: Subject>(subject: &S) -> Verdict {
    let distributor = Distributor::new(|_| 0xa0);
    let bench = boot(subject, &distributor, |g| {
        g.gic_on();
        g.mark(1);
        g.mark(2);
        g.daifclr(2);
        g.mark(3);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.mark(1)?;
    distributor.set(34, 0x20);
    for vector in [33, 34] {
        vcpu.inject_interrupt(vector)?;
    }
    hart.mark(2)?;
    distributor.set(33, 0x10);
    hart.interrupt(33)?;
    hart.interrupt(34)?;
    hart.mark(3)
}

fn end_modes<S: Subject>(subject: &S) -> Verdict {
    let distributor = Distributor::new(|_| 0xa0);
    let bench = boot(subject, &distributor, |g| {
        // Without a handler, to do it step by step.
        g.gic_on();
        g.set_sys(sys::ICC_CTLR_EL1, 2);
        g.isb();
        for _ in 0..2 {
            g.mark(1);
            g.report_sys(sys::ICC_IAR1_EL1);
            g.li(X20, 33);
            g.msr(sys::ICC_EOIR1_EL1, X20);
            g.isb();
            g.report_sys(sys::ICC_RPR_EL1); // dropped
            g.report_sys(sys::ICC_IAR1_EL1); // but active
            g.msr(sys::ICC_DIR_EL1, X20);
            g.isb();
            g.mark(2);
        }
        g.report_sys(sys::ICC_IAR1_EL1);
        g.msr(sys::ICC_EOIR1_EL1, X20);
        g.msr(sys::ICC_DIR_EL1, X20);
        // Ends both at once otherwise.
        g.set_sys(sys::ICC_CTLR_EL1, 0);
        g.isb();
        g.mark(3);
        g.report_sys(sys::ICC_IAR1_EL1);
        g.msr(sys::ICC_EOIR1_EL1, X20);
        g.isb();
        g.mark(4);
        g.report_sys(sys::ICC_IAR1_EL1);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    for edge in [true, false] {
        hart.mark(1)?;
        match edge {
            true => vcpu.inject_interrupt(33)?,
            false => vcpu.set_interrupt_line(33, true)?,
        }
        ensure_eq!(hart.report()?, 33, "ICC_IAR1");
        ensure_eq!(hart.report()?, 0xff, "ICC_RPR after the end");
        ensure_eq!(hart.report()?, 1023, "ICC_IAR1 while it is active");
        hart.mark(2)?;
    }
    ensure_eq!(hart.report()?, 33, "ICC_IAR1 after the deactivation, the line being high");
    hart.mark(3)?;
    ensure_eq!(hart.report()?, 33, "ICC_IAR1, the line still being high");
    hart.mark(4)?;
    ensure_eq!(hart.report()?, 33, "ICC_IAR1 after the end");
    Ok(())
}

/// Each is acknowledged while those before are active; then they end, the most important first.
fn nested<S: Subject>(subject: &S) -> Verdict {
    let distributor = Distributor::new(rank);
    let bench = boot(subject, &distributor, |g| {
        g.gic_on();
        for _ in 0..2 {
            for _ in MANY {
                g.mark(1);
                g.report_sys(sys::ICC_IAR1_EL1);
            }
            for vector in MANY.rev() {
                g.li(X20, vector as u64);
                g.msr(sys::ICC_EOIR1_EL1, X20);
            }
            g.isb();
            g.report_sys(sys::ICC_RPR_EL1);
            g.report_sys(sys::ICC_IAR1_EL1);
        }
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    for _ in 0..2 {
        // The least important first: `rank` has them the other way round.
        for vector in MANY {
            hart.mark(1)?;
            vcpu.inject_interrupt(vector)?;
            ensure_eq!(hart.report()?, vector as u64, "ICC_IAR1");
        }
        ensure_eq!(hart.report()?, 0xff, "ICC_RPR after all have ended");
        ensure_eq!(hart.report()?, 1023, "ICC_IAR1 after all have ended");
    }
    hart.end()
}

/// Without an exit of the guest's own: all are acknowledged and dropped, then deactivated in another order.
fn unfinished<S: Subject>(subject: &S) -> Verdict {
    let distributor = Distributor::new(rank);
    let bench = boot(subject, &distributor, |g| {
        g.gic_on();
        g.set_sys(sys::ICC_CTLR_EL1, 2); // EOImode
        g.li(X19, DATA);
        g.isb();
        for _ in 0..2 {
            g.mark(1);
            for _ in MANY {
                // Those that did not fit come soon after the others were taken.
                g.li(X22, 10_000_000);
                let (again, taken) = (g.here_label(), g.label());
                g.mrs(X20, sys::ICC_IAR1_EL1);
                g.cmp_imm(X20, 1023);
                g.b_cond(Cond::Ne, taken);
                g.sub_imm(X22, X22, 1);
                g.cbnz(X22, again);
                g.bind(taken);
                g.str_post(X20, X19, 8);
                g.msr(sys::ICC_EOIR1_EL1, X20);
                g.isb();
            }
            for vector in MANY {
                g.li(X20, vector as u64);
                g.msr(sys::ICC_DIR_EL1, X20);
            }
            g.isb();
        }
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    for _ in 0..2 {
        hart.mark(1)?;
        for vector in MANY {
            vcpu.inject_interrupt(vector)?;
        }
    }
    hart.end()?;
    let order = MANY.rev().chain(MANY.rev());
    for (index, vector) in (0..).zip(order) {
        let found = bench.space.read(DATA + 8 * index)?;
        ensure_eq!(found, vector as u64, "the interrupt that came after {index} others");
    }
    Ok(())
}

/// The CPUs an exit interrupts, and with what.
fn sent(exit: Exit) -> Option<(impl Iterator<Item = u64>, u64)> {
    match exit {
        Exit::SendIpi { base, mask, vector } => {
            let chosen = (0..64).filter(move |bit| mask >> bit & 1 != 0);
            Some((chosen.map(move |bit| base.wrapping_add(bit)), vector))
        }
        _ => None,
    }
}

/// The value of `ICC_SGI1R_EL1` for CPUs with this Aff1 (IHI 0069, 12.2.22).
fn sgi(intid: u64, aff1: u64, targets: u64) -> u64 {
    intid << 24 | aff1 << 16 | targets
}

fn interrupts_for_others<S: Subject>(subject: &S) -> Verdict {
    let cases: [(u64, &[u64], u64); 6] = [
        (sgi(0, 0, 1 << 1), &[1], 0),
        (sgi(15, 0, 1 << 15), &[15], 15),
        (sgi(7, 0, 0xffff), &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15], 7),
        (sgi(5, 1, 1 << 2), &[18], 5),
        (sgi(5, 3, 0b1001), &[48, 51], 5),
        (sgi(1, 0, 1), &[0], 1), // itself
    ];
    let bench = Bench::boot(subject, |g| {
        for (index, (value, ..)) in (0..).zip(cases) {
            g.set_sys(sys::ICC_SGI1R_EL1, value);
            g.mark(index);
        }
        // To nobody.
        g.set_sys(sys::ICC_SGI1R_EL1, sgi(3, 0, 0));
        g.mark(99);
    })?;
    for (index, (_, cpus, intid)) in (0..).zip(cases) {
        let exit = bench.hart().run()?;
        let Some((found, vector)) = sent(exit) else { fail!("case {index}: {exit:x?}") };
        ensure!(found.eq(cpus.iter().copied()), "case {index}: {exit:x?}, not CPUs {cpus:?}");
        ensure_eq!(vector, intid, "case {index}: the interrupt");
        bench.hart().mark(index)?;
    }
    match bench.hart().run()? {
        Exit::SendIpi { mask: 0, .. } => bench.hart().mark(99),
        Exit::Hypercall { nr: REPORT, args: [99, ..], .. } => Ok(()),
        exit => fail!("to nobody: {exit:x?}"),
    }
}

fn interrupts_for_all<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot_many(subject, 3, |g| {
        g.mov(X25, X0);
        g.set_sys(sys::ICC_SGI1R_EL1, 1 << 40 | 9 << 24 | 1);
        g.report(X25);
    })?;
    for (own, hart) in (0..).zip(&bench.harts) {
        let expected = Exit::SendIpi { base: 0, mask: !(1 << own), vector: 9 };
        ensure_eq!(hart.run()?, expected, "sent by CPU {own}");
        hart.mark(own)?;
    }
    Ok(())
}

fn for_a_halted_one<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot_many(subject, 2, |g| {
        let second = g.label();
        g.mov(X25, X0);
        g.enable_interrupts();
        g.cbnz(X25, second);
        g.set_sys(sys::ICC_SGI1R_EL1, sgi(4, 0, 1 << 1));
        g.mark(1);
        g.end();
        g.bind(second);
        g.wfi();
        g.mark(2);
    })?;
    let [first, second] = &bench.harts[..] else { return Ok(()) };
    second.halt()?;
    let exit = first.run()?;
    let Some((mut cpus, vector)) = sent(exit) else { fail!("{exit:x?}") };
    ensure_eq!((cpus.next(), vector), (Some(1), 4), "the CPU and the interrupt");
    second.vcpu.inject_interrupt(vector as usize)?;
    first.mark(1)?;
    second.interrupt(4)?;
    second.mark(2)
}

fn interface_registers<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot_many(subject, 2, |g| {
        g.mov(X25, X0);
        g.gic_on();
        g.report_sys(sys::ICC_SRE_EL1);
        g.lsl(X26, X25, 6);
        g.add_imm(X26, X26, 0x40);
        g.msr(sys::ICC_PMR_EL1, X26);
        g.set_sys(sys::ICC_BPR1_EL1, 5);
        let again = g.here_label();
        g.report_sys(sys::ICC_PMR_EL1);
        g.report_sys(sys::ICC_BPR1_EL1);
        g.report_sys(sys::ICC_IGRPEN1_EL1);
        g.b(again);
    })?;
    for hart in &bench.harts {
        ensure_eq!(hart.report()? & 1, 1, "ICC_SRE.SRE");
    }
    for _ in 0..2 {
        for (own, hart) in (1..).zip(&bench.harts) {
            ensure_eq!(hart.report()?, own << 6, "ICC_PMR");
            ensure_eq!(hart.report()?, 5, "ICC_BPR1");
            ensure_eq!(hart.report()?, 1, "ICC_IGRPEN1");
        }
    }
    Ok(())
}
