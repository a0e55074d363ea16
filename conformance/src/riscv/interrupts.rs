//! Interrupts: edges and lines, whatever the guest is doing or not ready for.

use axvcpu::{AxError, VCpuState};
use axvcpu_riscv::asm::*;
use axvcpu_riscv::csr::{CAUSE_INTERRUPT, irq, num, sstatus};

use super::NamedCase;
use super::Subject;
use super::bench::Bench;
use super::guest::*;
use crate::report::{Verdict, ensure, ensure_eq};

const SOFTWARE: u64 = 1 << irq::SOFTWARE;
const TIMER: u64 = 1 << irq::TIMER;
const EXTERNAL: u64 = 1 << irq::EXTERNAL;
const ALL: u64 = SOFTWARE | TIMER | EXTERNAL;

pub(super) fn cases<S: Subject>() -> [NamedCase<S>; 16] {
    [
        ("interrupt: an edge is taken once", edge_once),
        ("interrupt: an edge is taken once, by a guest that never exits", edge_once_inside),
        ("interrupt: requested before setup and while unbound", before_binding),
        ("interrupt: what the trap looks like", trap_state),
        ("interrupt: masked, it waits", masked),
        ("interrupt: one of several is masked", one_masked),
        ("interrupt: the most important comes first", priority),
        ("interrupt: through a vector table", vectored),
        ("interrupt: in VU-mode it needs no enable bit", in_user_mode),
        ("interrupt: ends a halt", ends_halt),
        ("interrupt: pending but masked, it ends wfi all the same", wfi_goes_on),
        ("interrupt: for a vCPU that is not the one running", elsewhere),
        ("interrupt: a software interrupt stays until the guest clears it", software_sticks),
        ("interrupt: a line is taken until it is lowered", line),
        ("interrupt: a line and an edge at once", line_and_edge),
        ("interrupt: vectors there are not", unknown),
    ]
}

/// A guest that reports marks for ever with all interrupts on; software interrupts are cleared by hand.
fn marking<S: Subject>(subject: &S) -> Verdict<Bench<S>> {
    Bench::boot(subject, |g| {
        g.enable_interrupts(ALL);
        let again = g.here_label();
        g.mark(1);
        g.csrrci(ZERO, num::SIP, SOFTWARE as u32);
        g.j(again);
    })
}

fn edge_once<S: Subject>(subject: &S) -> Verdict {
    let bench = marking(subject)?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.mark(1)?;
    for vector in [irq::TIMER, irq::EXTERNAL] {
        vcpu.inject_interrupt(vector)?;
        vcpu.inject_interrupt(vector)?; // not taken yet: the same edge
        let trap = hart.trap_for(CAUSE_INTERRUPT | vector as u64)?;
        ensure_eq!(trap.value, 0, "stval");
        for _ in 0..3 {
            hart.mark(1)?;
        }
    }
    Ok(())
}

fn edge_once_inside<S: Subject>(subject: &S) -> Verdict {
    const ROUNDS: u64 = 3;
    let bench = Bench::boot(subject, |g| {
        g.li(S2, DATA as i64);
        g.count_interrupts();
        g.enable_interrupts(ALL);
        for _ in 0..ROUNDS {
            g.mark(1);
            // Long enough for whatever looks at interrupts now and then only.
            g.li(T1, 100_000);
            let again = g.here_label();
            g.addi(T1, T1, -1);
            g.bnez(T1, again);
        }
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    for _ in 0..ROUNDS {
        hart.mark(1)?;
        for vector in [irq::SOFTWARE, irq::TIMER, irq::EXTERNAL] {
            vcpu.inject_interrupt(vector)?;
        }
    }
    hart.end()?;
    for (offset, name) in [(0, "software"), (8, "timer"), (16, "external")] {
        ensure_eq!(bench.space.read(DATA + offset)?, ROUNDS, "{name} interrupts taken");
    }
    Ok(())
}

fn before_binding<S: Subject>(subject: &S) -> Verdict {
    let mut bench = Bench::empty(subject)?;
    bench.load(|g| {
        g.enable_interrupts(ALL);
        g.mark(1);
        g.mark(2);
    })?;
    let config = subject.create_config(&bench.machine)?;
    let vcpu = axvcpu::AxVCpu::<S::Arch>::new(1, 0, 0, None, config)?;
    vcpu.inject_interrupt(irq::TIMER)?;
    bench.harts.push(super::bench::Hart::new(vcpu));
    bench.setup(subject, 0)?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    vcpu.bind()?;
    hart.trap_for(CAUSE_INTERRUPT | irq::TIMER as u64)?;
    hart.mark(1)?;
    vcpu.unbind()?;
    vcpu.inject_interrupt(irq::EXTERNAL)?;
    vcpu.bind()?;
    hart.trap_for(CAUSE_INTERRUPT | irq::EXTERNAL as u64)?;
    hart.mark(2)
}

fn trap_state<S: Subject>(subject: &S) -> Verdict {
    let bench = marking(subject)?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.mark(1)?;
    vcpu.inject_interrupt(irq::EXTERNAL)?;
    let trap = hart.trap()?;
    ensure_eq!(trap.cause, CAUSE_INTERRUPT | irq::EXTERNAL as u64, "scause");
    ensure!((CODE..CODE + CODE_PAGES * 4096).contains(&trap.epc), "sepc: {:#x}", trap.epc);
    let bits = sstatus::SPP | sstatus::SPIE | sstatus::SIE;
    let expected = sstatus::SPP | sstatus::SPIE;
    ensure_eq!(trap.status & bits, expected, "sstatus.SPP, SPIE and SIE");
    ensure_eq!(trap.pending & EXTERNAL, 0, "sip.SEIP, once the edge was taken");
    // Interrupts are on again after the handler.
    vcpu.inject_interrupt(irq::EXTERNAL)?;
    hart.trap_for(CAUSE_INTERRUPT | irq::EXTERNAL as u64)?;
    hart.mark(1)
}

fn masked<S: Subject>(subject: &S) -> Verdict {
    for vector in [irq::SOFTWARE, irq::TIMER, irq::EXTERNAL] {
        let bench = Bench::boot(subject, |g| {
            g.li(T0, ALL as i64);
            g.csrw(num::SIE, T0);
            g.mark(1);
            g.report_csr(num::SIP);
            g.csrrsi(ZERO, num::SSTATUS, 2);
            g.csrrci(ZERO, num::SIP, SOFTWARE as u32);
            g.report_csr(num::SIP);
        })?;
        let (hart, vcpu) = (bench.hart(), bench.vcpu());
        hart.mark(1)?;
        vcpu.inject_interrupt(vector)?;
        ensure_eq!(hart.report()?, 1 << vector, "sip while masked");
        hart.trap_for(CAUSE_INTERRUPT | vector as u64)?;
        if vector == irq::SOFTWARE {
            // It stays pending, so the guest gets nowhere until it clears it, which is another case's matter.
            continue;
        }
        ensure_eq!(hart.report()?, 0, "sip afterwards");
    }
    Ok(())
}

fn one_masked<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.enable_interrupts(TIMER);
        g.mark(1);
        g.mark(2);
        g.li(T0, EXTERNAL as i64);
        g.csrrs(ZERO, num::SIE, T0);
        g.mark(3);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.mark(1)?;
    vcpu.inject_interrupt(irq::EXTERNAL)?;
    vcpu.inject_interrupt(irq::TIMER)?;
    hart.trap_for(CAUSE_INTERRUPT | irq::TIMER as u64)?;
    hart.mark(2)?;
    hart.trap_for(CAUSE_INTERRUPT | irq::EXTERNAL as u64)?;
    hart.mark(3)
}

fn priority<S: Subject>(subject: &S) -> Verdict {
    let bench = marking(subject)?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.mark(1)?;
    for vector in [irq::TIMER, irq::EXTERNAL] {
        vcpu.inject_interrupt(vector)?;
    }
    if !subject.orders_interrupts() {
        // Each comes all the same, and once.
        let mut causes = [hart.trap()?.cause, hart.trap()?.cause];
        causes.sort_unstable();
        let expected = [irq::TIMER, irq::EXTERNAL].map(|irq| CAUSE_INTERRUPT | irq as u64);
        ensure_eq!(causes, expected, "scause of two traps");
        return hart.mark(1);
    }
    hart.trap_for(CAUSE_INTERRUPT | irq::EXTERNAL as u64)?;
    hart.trap_for(CAUSE_INTERRUPT | irq::TIMER as u64)?;
    hart.mark(1)?;
    // External, software, timer: the software interrupt, which stays, keeps the timer's away.
    for vector in [irq::TIMER, irq::SOFTWARE, irq::EXTERNAL] {
        vcpu.inject_interrupt(vector)?;
    }
    let external = hart.trap_for(CAUSE_INTERRUPT | irq::EXTERNAL as u64)?;
    let software = hart.trap_for(CAUSE_INTERRUPT | irq::SOFTWARE as u64)?;
    ensure_eq!(software.epc, external.epc, "sepc: nothing was executed in between");
    ensure!(software.pending & TIMER != 0, "sip.STIP: {:#x}", software.pending);
    Ok(())
}

fn vectored<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        let (start, table) = (g.label(), g.label());
        g.j(start);
        g.align(256);
        g.bind(table);
        let entries: [Label; 12] = core::array::from_fn(|_| g.label());
        for entry in entries {
            g.j(entry); // 4 bytes each
        }
        for (number, entry) in (100..).zip(entries) {
            g.bind(entry);
            g.mark(number);
            g.csrr(T1, num::SEPC);
            if number == 100 {
                g.addi(T1, T1, 4); // an exception: step over its instruction
            }
            g.csrw(num::SEPC, T1);
            g.csrrci(ZERO, num::SIP, SOFTWARE as u32);
            g.sret();
        }
        g.bind(start);
        g.la(T0, table);
        g.addi(T0, T0, 1);
        g.csrw(num::STVEC, T0);
        g.enable_interrupts(ALL);
        g.mark(1);
        g.ebreak();
        g.mark(2);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.mark(1)?;
    for vector in [irq::SOFTWARE, irq::TIMER, irq::EXTERNAL] {
        vcpu.inject_interrupt(vector)?;
        hart.mark(100 + vector as u64)?;
    }
    hart.mark(100)?;
    hart.mark(2)
}

fn in_user_mode<S: Subject>(subject: &S) -> Verdict {
    let mut user_code = 0..0;
    let bench = Bench::boot(subject, |g| {
        let user = g.label();
        g.li(T0, ALL as i64);
        g.csrw(num::SIE, T0);
        g.la(T0, user);
        g.csrw(num::SEPC, T0);
        // Back to user mode with interrupts off there, which means nothing.
        g.li(T0, (sstatus::SPP | sstatus::SPIE) as i64);
        g.csrrc(ZERO, num::SSTATUS, T0);
        g.mark(1);
        g.sret();
        g.bind(user);
        user_code.start = g.here();
        g.nop();
        g.ebreak();
        user_code.end = g.here();
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.mark(1)?;
    vcpu.inject_interrupt(irq::TIMER)?;
    let trap = hart.trap_for(CAUSE_INTERRUPT | irq::TIMER as u64)?;
    ensure!(user_code.contains(&trap.epc), "sepc: {:#x}", trap.epc);
    ensure_eq!(trap.status & (sstatus::SPP | sstatus::SPIE), 0, "sstatus.SPP and SPIE");
    hart.trap_for(axvcpu_riscv::csr::cause::BREAKPOINT)?;
    Ok(())
}

fn ends_halt<S: Subject>(subject: &S) -> Verdict {
    for vector in [irq::SOFTWARE, irq::TIMER, irq::EXTERNAL] {
        let mut behind = 0;
        let bench = Bench::boot(subject, |g| {
            g.enable_interrupts(ALL);
            g.wfi();
            behind = g.here();
            g.mark(1);
        })?;
        let (hart, vcpu) = (bench.hart(), bench.vcpu());
        hart.halt()?;
        ensure_eq!(
            vcpu.run(),
            Err(AxError::BadState { found: VCpuState::Blocked }),
            "running while blocked"
        );
        vcpu.inject_interrupt(vector)?;
        ensure_eq!(vcpu.state(), VCpuState::Ready, "after the interrupt");
        let trap = hart.trap_for(CAUSE_INTERRUPT | vector as u64)?;
        ensure_eq!(trap.epc, behind, "sepc: behind the wfi");
    }
    Ok(())
}

fn wfi_goes_on<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.li(T0, ALL as i64);
        g.csrw(num::SIE, T0);
        g.mark(1);
        g.wfi(); // pending: goes on, without a trap, as sstatus.SIE is off
        g.mark(2);
        g.csrw(num::SIE, ZERO);
        g.wfi(); // pending, but not enabled: waits
        g.mark(3);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.mark(1)?;
    vcpu.inject_interrupt(irq::EXTERNAL)?;
    hart.mark(2)?;
    hart.halt()?;
    vcpu.wake();
    hart.mark(3)
}

fn elsewhere<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot_many(subject, 2, |g| {
        g.mv(S5, A0);
        g.enable_interrupts(ALL);
        let again = g.here_label();
        g.report(S5);
        g.j(again);
    })?;
    let [first, second] = &bench.harts[..] else { return Ok(()) };
    first.mark(0)?;
    second.mark(1)?;
    first.vcpu.inject_interrupt(irq::TIMER)?;
    for _ in 0..3 {
        second.mark(1)?;
    }
    first.trap_for(CAUSE_INTERRUPT | irq::TIMER as u64)?;
    second.vcpu.set_interrupt_line(irq::EXTERNAL, true)?;
    for _ in 0..3 {
        first.mark(0)?;
    }
    second.trap_for(CAUSE_INTERRUPT | irq::EXTERNAL as u64)?;
    second.vcpu.set_interrupt_line(irq::EXTERNAL, false)?;
    second.mark(1)
}

fn software_sticks<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.li(T0, SOFTWARE as i64);
        g.csrw(num::SIE, T0);
        g.mark(1);
        g.report_csr(num::SIP);
        g.report_csr(num::SIP);
        g.csrrci(ZERO, num::SIP, SOFTWARE as u32);
        g.report_csr(num::SIP);
        g.csrrsi(ZERO, num::SSTATUS, 2);
        g.mark(2);
        g.csrrsi(ZERO, num::SIP, SOFTWARE as u32); // a guest may send itself one
        g.mark(3);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.mark(1)?;
    vcpu.inject_interrupt(irq::SOFTWARE)?;
    ensure_eq!(hart.report()?, SOFTWARE, "sip");
    ensure_eq!(hart.report()?, SOFTWARE, "sip, read again");
    ensure_eq!(hart.report()?, 0, "sip after the guest cleared it");
    hart.mark(2)?;
    hart.trap_for(CAUSE_INTERRUPT | 1)?;
    Ok(())
}

fn line<S: Subject>(subject: &S) -> Verdict {
    let bench = marking(subject)?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.mark(1)?;
    for _ in 0..2 {
        vcpu.set_interrupt_line(irq::EXTERNAL, true)?;
        vcpu.set_interrupt_line(irq::EXTERNAL, true)?;
        for _ in 0..4 {
            let trap = hart.trap_for(CAUSE_INTERRUPT | irq::EXTERNAL as u64)?;
            ensure_eq!(trap.pending & EXTERNAL, EXTERNAL, "sip.SEIP while the line is high");
        }
        vcpu.set_interrupt_line(irq::EXTERNAL, false)?;
        for _ in 0..3 {
            hart.mark(1)?;
        }
    }
    // A pulse that is over before the guest is entered goes unseen.
    vcpu.set_interrupt_line(irq::EXTERNAL, true)?;
    vcpu.set_interrupt_line(irq::EXTERNAL, false)?;
    hart.mark(1)?;
    // A line ends a halt like any interrupt, and is still there after rebinding.
    vcpu.set_interrupt_line(irq::EXTERNAL, true)?;
    hart.trap_for(CAUSE_INTERRUPT | irq::EXTERNAL as u64)?;
    vcpu.unbind()?;
    vcpu.bind()?;
    hart.trap_for(CAUSE_INTERRUPT | irq::EXTERNAL as u64)?;
    Ok(())
}

fn line_and_edge<S: Subject>(subject: &S) -> Verdict {
    let bench = marking(subject)?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    let external = CAUSE_INTERRUPT | irq::EXTERNAL as u64;
    hart.mark(1)?;
    vcpu.set_interrupt_line(irq::EXTERNAL, true)?;
    vcpu.inject_interrupt(irq::EXTERNAL)?;
    hart.trap_for(external)?;
    hart.trap_for(external)?; // the line
    vcpu.set_interrupt_line(irq::EXTERNAL, false)?;
    hart.mark(1)?;
    // An edge is not lost when the line goes down.
    vcpu.set_interrupt_line(irq::EXTERNAL, true)?;
    hart.trap_for(external)?;
    vcpu.inject_interrupt(irq::EXTERNAL)?;
    vcpu.set_interrupt_line(irq::EXTERNAL, false)?;
    hart.trap_for(external)?;
    hart.mark(1)
}

fn unknown<S: Subject>(subject: &S) -> Verdict {
    let bench = marking(subject)?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    for vector in [axvcpu::MAX_VECTORS, usize::MAX] {
        let refused = Err(AxError::InterruptFailed { vector });
        ensure_eq!(vcpu.inject_interrupt(vector), refused, "vector {vector}");
        ensure_eq!(vcpu.set_interrupt_line(vector, true), refused, "line {vector}");
    }
    for vector in [0, 2, 3, 4, 6, 7, 8, 10, 11, 12, 16, 63, 64, axvcpu::MAX_VECTORS - 1] {
        vcpu.inject_interrupt(vector)?;
        ensure_eq!(vcpu.run(), Err(AxError::InterruptFailed { vector }), "vector {vector}");
        ensure_eq!(vcpu.state(), VCpuState::Ready, "after it");
        hart.mark(1)?;
    }
    for vector in [0, 1, 5, 8, 10, 63] {
        vcpu.set_interrupt_line(vector, true)?;
        ensure_eq!(vcpu.run(), Err(AxError::InterruptFailed { vector }), "line {vector}");
        ensure_eq!(vcpu.state(), VCpuState::Ready, "after it");
        hart.mark(1)?;
    }
    // What came with it is not lost.
    vcpu.inject_interrupt(3)?;
    vcpu.inject_interrupt(irq::EXTERNAL)?;
    ensure_eq!(vcpu.run(), Err(AxError::InterruptFailed { vector: 3 }), "two at once");
    hart.trap_for(CAUSE_INTERRUPT | irq::EXTERNAL as u64)?;
    hart.mark(1)
}
