//! Interrupts: edges and lines, whatever the guest is doing or not ready for.

use axvcpu::{AxError, VCpuState};
use axvcpu_arm::asm::*;
use axvcpu_arm::gic::SPURIOUS;

use super::NamedCase;
use super::Subject;
use super::bench::{Bench, Hart};
use super::guest::*;
use crate::report::{Verdict, ensure, ensure_eq};

/// One of each kind: software-generated, private and shared. The timers' own are not among them.
const KINDS: [usize; 4] = [3, 20, 33, 200];

pub(super) fn cases<S: Subject>() -> [NamedCase<S>; 16] {
    [
        ("interrupt: an edge is taken once", edge_once),
        ("interrupt: an edge is taken once, by a guest that never exits", edge_once_inside),
        ("interrupt: requested before setup and while unbound", before_binding),
        ("interrupt: what the exception looks like", exception_state),
        ("interrupt: masked by PSTATE, it waits", masked),
        ("interrupt: below the priority mask, it waits", below_the_mask),
        ("interrupt: its group is off, it waits", group_off),
        ("interrupt: at EL0", in_user_mode),
        ("interrupt: ends a halt", ends_halt),
        ("interrupt: pending but masked, it ends wfi all the same", wfi_goes_on),
        ("interrupt: for a vCPU that is not the one running", elsewhere),
        ("interrupt: while it is active, the next edge waits", edge_while_active),
        ("interrupt: a line is taken until it is lowered", line),
        ("interrupt: a line and an edge at once", line_and_edge),
        ("interrupt: a line that is lowered before it is taken", line_withdrawn),
        ("interrupt: vectors there are not", unknown),
    ]
}

/// A guest that reports marks for ever with interrupts on.
fn marking<S: Subject>(subject: &S) -> Verdict<Bench<S>> {
    Bench::boot(subject, |g| {
        g.enable_interrupts();
        let again = g.here_label();
        g.mark(1);
        g.b(again);
    })
}

fn edge_once<S: Subject>(subject: &S) -> Verdict {
    let bench = marking(subject)?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.mark(1)?;
    for vector in KINDS.into_iter().chain([0, 15, 16, 31, 32, 1019]) {
        vcpu.inject_interrupt(vector)?;
        vcpu.inject_interrupt(vector)?; // not taken yet: the same edge
        hart.interrupt(vector as u64)?;
        for _ in 0..3 {
            hart.mark(1)?;
        }
    }
    Ok(())
}

fn edge_once_inside<S: Subject>(subject: &S) -> Verdict {
    const ROUNDS: u64 = 3;
    let bench = Bench::boot(subject, |g| {
        g.li(X19, DATA);
        g.count_interrupts();
        g.enable_interrupts();
        for _ in 0..ROUNDS {
            g.mark(1);
            // Long enough for whatever looks at interrupts now and then only.
            g.li(X23, 100_000);
            let again = g.here_label();
            g.sub_imm(X23, X23, 1);
            g.cbnz(X23, again);
        }
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    for _ in 0..ROUNDS {
        hart.mark(1)?;
        for vector in KINDS {
            vcpu.inject_interrupt(vector)?;
        }
    }
    hart.end()?;
    for vector in KINDS {
        let taken = bench.space.read(DATA + 8 * vector as u64)?;
        ensure_eq!(taken, ROUNDS, "interrupts {vector} taken");
    }
    Ok(())
}

fn before_binding<S: Subject>(subject: &S) -> Verdict {
    let mut bench = Bench::empty(subject)?;
    bench.load(|g| {
        g.enable_interrupts();
        g.mark(1);
        g.mark(2);
    })?;
    let config = subject.create_config(&bench.machine)?;
    let vcpu = axvcpu::AxVCpu::<S::Arch>::new(1, 0, 0, None, config)?;
    vcpu.inject_interrupt(40)?;
    bench.harts.push(Hart::new(vcpu));
    bench.setup(subject, 0)?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    vcpu.bind()?;
    hart.interrupt(40)?;
    hart.mark(1)?;
    vcpu.unbind()?;
    vcpu.inject_interrupt(33)?;
    vcpu.bind()?;
    hart.interrupt(33)?;
    hart.mark(2)
}

fn exception_state<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        let (start, table) = (g.label(), g.label());
        g.b(start);
        g.table(table, |g, number| {
            if number == 5 {
                g.report_sys(sys::DAIF);
                g.report_sys(sys::ICC_HPPIR1_EL1);
                g.report_sys(sys::ICC_IAR1_EL1);
                g.report_sys(sys::ICC_RPR_EL1);
                g.report_sys(sys::ICC_IAR1_EL1);
                g.report_sys(sys::SPSR_EL1);
                g.report_sys(sys::ELR_EL1);
                g.li(X9, 33);
                g.msr(sys::ICC_EOIR1_EL1, X9);
                g.eret();
            } else {
                g.mark(0xbad);
            }
        });
        g.bind(start);
        g.set_vectors(table);
        g.enable_interrupts();
        g.report_sys(sys::ICC_RPR_EL1);
        let again = g.here_label();
        g.mark(1);
        g.b(again);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.mark(0xff)?; // idle
    hart.mark(1)?;
    for _ in 0..2 {
        vcpu.inject_interrupt(33)?;
        ensure_eq!(hart.report()?, pstate::DAIF, "DAIF in the handler");
        ensure_eq!(hart.report()?, 33, "ICC_HPPIR1");
        ensure_eq!(hart.report()?, 33, "ICC_IAR1");
        ensure!(hart.report()? < 0xff, "the running priority is idle");
        ensure_eq!(hart.report()?, u64::from(SPURIOUS), "ICC_IAR1, read again");
        let spsr = hart.report()?;
        let expected = pstate::EL1H | (pstate::DAIF & !pstate::I);
        ensure_eq!(spsr & 0x3ff, expected, "SPSR: EL1h, interrupts let in");
        let elr = hart.report()?;
        ensure!((CODE..CODE + CODE_PAGES * 4096).contains(&elr), "ELR: {elr:#x}");
        hart.mark(1)?;
    }
    Ok(())
}

/// A guest that holds interrupts off until `release`, and sees them pending meanwhile.
fn held_off<S: Subject>(
    subject: &S,
    hold: impl Fn(&mut Guest),
    release: impl Fn(&mut Guest),
    pending: u64,
) -> Verdict {
    for vector in KINDS {
        let bench = Bench::boot(subject, |g| {
            hold(g);
            g.mark(1);
            g.report_sys(sys::ISR_EL1);
            g.mark(2);
            release(g);
            g.report_sys(sys::ISR_EL1);
            g.mark(3);
        })?;
        let (hart, vcpu) = (bench.hart(), bench.vcpu());
        hart.mark(1)?;
        vcpu.inject_interrupt(vector)?;
        ensure_eq!(hart.report()?, pending, "ISR while interrupt {vector} is held off");
        hart.mark(2)?;
        hart.interrupt(vector as u64)?;
        ensure_eq!(hart.report()?, 0, "ISR after interrupt {vector}");
        hart.mark(3)?;
    }
    Ok(())
}

fn masked<S: Subject>(subject: &S) -> Verdict {
    held_off(
        subject,
        Guest::gic_on,
        |g| {
            g.daifclr(2);
            g.isb();
        },
        pstate::I,
    )
}

fn below_the_mask<S: Subject>(subject: &S) -> Verdict {
    held_off(
        subject,
        |g| {
            g.gic_on();
            g.set_sys(sys::ICC_PMR_EL1, 0x10);
            g.isb();
            g.daifclr(2);
        },
        |g| {
            g.set_sys(sys::ICC_PMR_EL1, 0xf0);
            g.isb();
        },
        0,
    )
}

fn group_off<S: Subject>(subject: &S) -> Verdict {
    held_off(
        subject,
        |g| {
            g.gic_on();
            g.set_sys(sys::ICC_IGRPEN1_EL1, 0);
            g.isb();
            g.daifclr(2);
        },
        |g| {
            g.set_sys(sys::ICC_IGRPEN1_EL1, 1);
            g.isb();
        },
        0,
    )
}

fn in_user_mode<S: Subject>(subject: &S) -> Verdict {
    let mut user_code = 0..0;
    let bench = Bench::boot(subject, |g| {
        g.gic_on();
        g.mark(1);
        g.go_user();
        user_code.start = g.here();
        g.nop();
        g.svc(0);
        user_code.end = g.here();
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.mark(1)?;
    vcpu.inject_interrupt(33)?;
    let trap = hart.trap()?;
    ensure_eq!((trap.vector, trap.intid), (vector::USER_IRQ, 33), "vector and INTID");
    ensure!(user_code.contains(&trap.elr), "ELR: {:#x}", trap.elr);
    ensure_eq!(trap.spsr & pstate::MODE, 0, "SPSR: EL0");
    let trap = hart.trap()?;
    ensure_eq!((trap.vector, trap.class()), (vector::USER_SYNC, class::SVC), "vector and class");
    Ok(())
}

fn ends_halt<S: Subject>(subject: &S) -> Verdict {
    for vector in KINDS {
        let mut behind = 0;
        let bench = Bench::boot(subject, |g| {
            g.enable_interrupts();
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
        let trap = hart.interrupt(vector as u64)?;
        ensure_eq!(trap.elr, behind, "ELR: behind the wfi");
        hart.mark(1)?;
    }
    // A line does it as well.
    let bench = Bench::boot(subject, |g| {
        g.enable_interrupts();
        g.wfi();
        g.mark(1);
    })?;
    bench.hart().halt()?;
    bench.vcpu().set_interrupt_line(33, true)?;
    ensure_eq!(bench.vcpu().state(), VCpuState::Ready, "after the line was raised");
    bench.hart().interrupt(33)?;
    Ok(())
}

fn wfi_goes_on<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.gic_on();
        g.mark(1);
        g.wfi(); // pending: goes on, without an exception, as PSTATE.I is set
        g.mark(2);
        g.mrs(X20, sys::ICC_IAR1_EL1);
        g.msr(sys::ICC_EOIR1_EL1, X20);
        g.report(X20);
        g.wfi(); // nothing is pending any more: waits
        g.mark(3);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.mark(1)?;
    vcpu.inject_interrupt(33)?;
    hart.mark(2)?;
    hart.mark(33)?;
    hart.halt()?;
    vcpu.wake();
    hart.mark(3)
}

fn elsewhere<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot_many(subject, 2, |g| {
        g.mov(X25, X0);
        g.enable_interrupts();
        let again = g.here_label();
        g.report(X25);
        g.b(again);
    })?;
    let [first, second] = &bench.harts[..] else { return Ok(()) };
    first.mark(0)?;
    second.mark(1)?;
    first.vcpu.inject_interrupt(33)?;
    for _ in 0..3 {
        second.mark(1)?;
    }
    first.interrupt(33)?;
    second.vcpu.set_interrupt_line(34, true)?;
    for _ in 0..3 {
        first.mark(0)?;
    }
    second.interrupt(34)?;
    second.vcpu.set_interrupt_line(34, false)?;
    second.mark(1)
}

/// The same interrupt, injected again while its handler runs, comes once more after it.
fn edge_while_active<S: Subject>(subject: &S) -> Verdict {
    let bench = marking(subject)?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.mark(1)?;
    for vector in KINDS {
        vcpu.inject_interrupt(vector)?;
        hart.interrupt(vector as u64)?; // taken, not ended
        vcpu.inject_interrupt(vector)?;
        hart.interrupt(vector as u64)?;
        for _ in 0..2 {
            hart.mark(1)?;
        }
    }
    Ok(())
}

fn line<S: Subject>(subject: &S) -> Verdict {
    let bench = marking(subject)?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.mark(1)?;
    for vector in [33, 16, 63] {
        vcpu.set_interrupt_line(vector, true)?;
        vcpu.set_interrupt_line(vector, true)?;
        for _ in 0..4 {
            hart.interrupt(vector as u64)?;
        }
        vcpu.set_interrupt_line(vector, false)?;
        for _ in 0..3 {
            hart.mark(1)?;
        }
    }
    // A pulse that is over before the guest is entered goes unseen.
    vcpu.set_interrupt_line(33, true)?;
    vcpu.set_interrupt_line(33, false)?;
    hart.mark(1)?;
    // It is still there after rebinding, and an unbound vCPU hears of the change.
    vcpu.set_interrupt_line(33, true)?;
    hart.interrupt(33)?;
    vcpu.unbind()?;
    vcpu.bind()?;
    hart.interrupt(33)?;
    vcpu.unbind()?;
    vcpu.set_interrupt_line(33, false)?;
    vcpu.bind()?;
    hart.mark(1)
}

fn line_and_edge<S: Subject>(subject: &S) -> Verdict {
    let bench = marking(subject)?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.mark(1)?;
    vcpu.set_interrupt_line(33, true)?;
    vcpu.inject_interrupt(34)?;
    // With one priority the order is the implementation's; the edge comes once.
    let mut edges = 0;
    for _ in 0..4 {
        let trap = hart.trap()?;
        ensure!(trap.intid == 33 || trap.intid == 34, "{trap:x?}");
        edges += u64::from(trap.intid == 34);
    }
    ensure!(edges <= 1, "the edge came {edges} times");
    vcpu.set_interrupt_line(33, false)?;
    if edges == 0 {
        hart.interrupt(34)?;
    }
    hart.mark(1)?;
    // An edge is not lost when the line of the same interrupt goes down.
    vcpu.set_interrupt_line(33, true)?;
    hart.interrupt(33)?;
    vcpu.inject_interrupt(33)?;
    vcpu.set_interrupt_line(33, false)?;
    hart.interrupt(33)?;
    hart.mark(1)
}

fn line_withdrawn<S: Subject>(subject: &S) -> Verdict {
    // Presented to a guest that is not ready, and gone when it is.
    let bench = Bench::boot(subject, |g| {
        g.gic_on();
        g.mark(1);
        g.report_sys(sys::ISR_EL1);
        g.report_sys(sys::ISR_EL1);
        g.report_sys(sys::ICC_IAR1_EL1);
        g.daifclr(2);
        g.mark(2);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.mark(1)?;
    vcpu.set_interrupt_line(33, true)?;
    ensure_eq!(hart.report()?, pstate::I, "ISR while the line is high");
    vcpu.set_interrupt_line(33, false)?;
    ensure_eq!(hart.report()?, 0, "ISR after the line went down");
    ensure_eq!(hart.report()?, u64::from(SPURIOUS), "ICC_IAR1");
    hart.mark(2)
}

fn unknown<S: Subject>(subject: &S) -> Verdict {
    let bench = marking(subject)?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    for vector in [axvcpu::MAX_VECTORS, usize::MAX] {
        let refused = Err(AxError::InterruptFailed { vector });
        ensure_eq!(vcpu.inject_interrupt(vector), refused, "vector {vector}");
        ensure_eq!(vcpu.set_interrupt_line(vector, true), refused, "line {vector}");
    }
    for vector in [1020, 1021, 1022, 1023] {
        vcpu.inject_interrupt(vector)?;
        ensure_eq!(vcpu.run(), Err(AxError::InterruptFailed { vector }), "vector {vector}");
        ensure_eq!(vcpu.state(), VCpuState::Ready, "after it");
        hart.mark(1)?;
    }
    for vector in [0, 1, 15] {
        vcpu.set_interrupt_line(vector, true)?;
        ensure_eq!(vcpu.run(), Err(AxError::InterruptFailed { vector }), "line {vector}");
        ensure_eq!(vcpu.state(), VCpuState::Ready, "after it");
        hart.mark(1)?;
    }
    // What came with it is not lost.
    vcpu.inject_interrupt(1023)?;
    vcpu.inject_interrupt(33)?;
    ensure_eq!(vcpu.run(), Err(AxError::InterruptFailed { vector: 1023 }), "two at once");
    hart.interrupt(33)?;
    hart.mark(1)
}
