//! Interrupts: when the guest takes them, in which order, and how it waits for them.

use axvcpu::{AxError, VCpuState};
use axvcpu_x86::asm::*;
use axvcpu_x86::reg::rflags;

use super::NamedCase;
use super::Subject;
use super::bench::{Bench, Exit, Hart};
use super::guest::*;
use crate::report::{Stop, Verdict, ensure, ensure_eq};
use crate::requests::{ROUNDS, run_while, wait_for};

pub(super) fn cases<S: Subject>() -> [NamedCase<S>; 17] {
    [
        ("interrupt: pending until they are let in", pending),
        ("interrupt: one instruction more after sti", shadow),
        ("interrupt: the highest vector first", order),
        ("interrupt: every vector", every_vector),
        ("interrupt: twice before it is taken is once", twice),
        ("interrupt: keeps what it interrupts", transparent),
        ("interrupt: before the vCPU is bound", before_binding),
        ("interrupt: goes along when the vCPU is unbound", rebound),
        ("interrupt: while an exit waits for its answer", unanswered),
        ("interrupt: while a program runs", in_program),
        ("interrupt: no vector above 255", refused),
        ("interrupt: lines", lines),
        ("nmi: taken with interrupts off", nmi),
        ("nmi: the next one waits for iretq", nmi_blocked),
        ("halt: with interrupts off", halt_off),
        ("halt: an interrupt ends it", halt_on),
        ("halt: sti and hlt race with interrupts", halt_race),
    ]
}

/// Runs until the guest takes this interrupt; gives where it was.
fn taken<S: Subject>(hart: &Hart<S>, vector: usize) -> Verdict<u64> {
    let trap = hart.trap_for(vector as u64)?;
    ensure_eq!(trap.error, 0, "the error code of interrupt {vector}");
    Ok(trap.rip)
}

fn pending<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.mark(1);
        g.mark(2);
        g.sti();
        g.pass();
        g.mark(3);
        g.cli();
        g.mark(4);
        g.mark(5);
        g.pushfq();
        g.or(qword(RSP), rflags::IF as u32);
        g.popfq();
        g.pass();
        g.mark(6);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.mark(1)?;
    vcpu.inject_interrupt(0x40)?;
    hart.mark(2)?;
    taken(hart, 0x40)?;
    hart.mark(3)?;
    hart.mark(4)?;
    vcpu.inject_interrupt(0x41)?;
    hart.mark(5)?;
    taken(hart, 0x41)?;
    hart.mark(6)?;
    hart.end()
}

fn shadow<S: Subject>(subject: &S) -> Verdict {
    let (mut first, mut second) = (0, 0);
    let bench = Bench::boot(subject, |g| {
        g.mark(1);
        g.sti();
        g.inc(R12);
        first = g.here();
        g.pass();
        g.cli();
        g.mark(2);
        // Nothing gets in between the two.
        for _ in 0..50 {
            g.sti();
            g.cli();
        }
        g.mark(3);
        g.sti();
        g.nop();
        second = g.here();
        g.pass();
        g.mark(4);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    let expected = |rip: u64, place: u64| {
        // An emulator may look later.
        rip == place || subject.emulates() && (place..place + 16).contains(&rip)
    };
    hart.mark(1)?;
    vcpu.inject_interrupt(0x30)?;
    let rip = taken(hart, 0x30)?;
    ensure!(expected(rip, first), "taken at {rip:#x}, and not at {first:#x}");
    ensure_eq!(vcpu.get_gpr(12), Ok(1), "R12: the instruction behind sti");
    hart.mark(2)?;
    vcpu.inject_interrupt(0x31)?;
    hart.mark(3)?;
    let rip = taken(hart, 0x31)?;
    ensure!(expected(rip, second), "taken at {rip:#x}, and not at {second:#x}");
    hart.mark(4)
}

fn order<S: Subject>(subject: &S) -> Verdict {
    const VECTORS: [usize; 7] = [0x31, 0xf0, 0x55, 0x20, 0xff, 0x54, 0x80];
    let bench = Bench::boot(subject, |g| {
        g.mark(1);
        g.sti();
        for _ in VECTORS {
            g.pass();
        }
        g.mark(2);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.mark(1)?;
    for vector in VECTORS {
        vcpu.inject_interrupt(vector)?;
    }
    let mut sorted = VECTORS;
    sorted.sort_unstable();
    for vector in sorted.into_iter().rev() {
        taken(hart, vector)?;
    }
    hart.mark(2)?;
    hart.end()
}

fn every_vector<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.sti();
        g.report_for_ever(DATA);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    for vector in 32..256 {
        hart.mark(0)?;
        vcpu.inject_interrupt(vector)?;
        taken(hart, vector)?;
    }
    hart.mark(0)
}

fn twice<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        for _ in 0..2 {
            g.mark(1);
            g.sti();
            g.pass();
            g.mark(2);
            g.cli();
        }
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    for _ in 0..2 {
        hart.mark(1)?;
        vcpu.inject_interrupt(0x99)?;
        vcpu.inject_interrupt(0x99)?;
        taken(hart, 0x99)?;
        hart.mark(2)?;
    }
    hart.end()
}

fn transparent<S: Subject>(subject: &S) -> Verdict {
    let kept = || registers(Width::Qword).filter(|&register| ![RSP, RAX, RBX].contains(&register));
    let bench = Bench::boot(subject, |g| {
        for register in kept() {
            g.li(register, pattern(register.number().into()));
        }
        g.mark(1);
        g.sti();
        g.pass();
        g.mark(2);
        for register in kept() {
            g.report(register);
        }
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.mark(1)?;
    vcpu.inject_interrupt(0xa0)?;
    let trap = hart.trap_for(0xa0)?;
    ensure!(trap.flags & rflags::IF != 0, "RFLAGS.IF in the frame");
    hart.mark(2)?;
    for register in kept() {
        ensure_eq!(hart.report()?, pattern(register.number().into()), "{register:?}");
    }
    hart.end()
}

fn before_binding<S: Subject>(subject: &S) -> Verdict {
    let mut bench = Bench::empty(subject)?;
    bench.load(|g| {
        g.sti();
        g.pass();
        g.mark(1);
        g.mark(2);
    })?;
    let config = subject.create_config(&bench.machine)?;
    let vcpu = axvcpu::AxVCpu::<S::Arch>::new(1, 0, 0, None, config)?;
    vcpu.inject_interrupt(0x60)?;
    bench.harts.push(Hart::new(vcpu));
    bench.setup(subject, 0)?;
    bench.vcpu().bind()?;
    taken(bench.hart(), 0x60)?;
    bench.hart().mark(1)?;
    bench.hart().mark(2)
}

fn rebound<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.mark(1);
        g.mark(2);
        g.mark(3);
        g.sti();
        g.pass();
        g.mark(4);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.mark(1)?;
    vcpu.inject_interrupt(0x60)?;
    hart.mark(2)?;
    vcpu.unbind()?;
    vcpu.inject_interrupt(0x61)?;
    vcpu.bind()?;
    hart.mark(3)?;
    vcpu.unbind()?;
    vcpu.bind()?;
    taken(hart, 0x61)?;
    taken(hart, 0x60)?;
    hart.mark(4)
}

fn unanswered<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.sti();
        g.li(RSI, DEVICE);
        g.mov(R12D, mem(RSI));
        g.pass();
        g.report(R12);
        g.in_imm(AL, 0x71);
        g.movzx(R12D, AL);
        g.pass();
        g.report(R12);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    for vector in [0x70, 0x71] {
        let exit = hart.run()?;
        ensure!(exit.asks(), "expected a device's or a port's read, found {exit:x?}");
        vcpu.inject_interrupt(vector)?;
        ensure_eq!(vcpu.run(), Err(AxError::Unanswered), "running without the answer");
        vcpu.set_return_value(vector as u64)?;
        // Behind the instruction, and not before it.
        taken(hart, vector)?;
        hart.mark(vector as u64)?;
    }
    hart.end()
}

fn in_program<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.go_user(rflags::FIXED | rflags::IF);
        let again = g.here_label();
        g.inc(at(DATA).of(Width::Qword));
        g.li(RSI, DEVICE);
        g.mov(ECX, mem(RSI));
        g.pass();
        g.jmp(again);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    for round in 1..50 {
        let exit = hart.run()?;
        ensure!(matches!(exit, Exit::MmioRead { .. }), "{exit:x?}");
        vcpu.inject_interrupt(31 + round)?;
        vcpu.set_return_value(0)?;
        let trap = hart.trap_for(31 + round as u64)?;
        ensure_eq!((trap.cs, trap.flags & rflags::IF), (USER_CODE.into(), rflags::IF), "CS and IF");
        ensure_eq!(bench.space.read(DATA)?, round as u64, "what the program counted");
    }
    Ok(())
}

fn refused<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.sti();
        g.report_for_ever(DATA);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.mark(0)?;
    for vector in [256, 257, 300, 1023] {
        vcpu.inject_interrupt(vector)?;
        let refused = hart.try_run();
        ensure!(
            matches!(refused, Err(Some(AxError::InvalidInput | AxError::InterruptFailed { .. }))),
            "vector {vector}: {refused:x?}"
        );
        ensure_eq!(vcpu.state(), VCpuState::Ready, "after the refusal");
        // It is gone.
        hart.mark(0)?;
    }
    let beyond = vcpu.inject_interrupt(axvcpu::MAX_VECTORS);
    ensure!(matches!(beyond, Err(AxError::InterruptFailed { .. })), "{beyond:?}");
    hart.mark(0)
}

fn lines<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.sti();
        g.report_for_ever(DATA);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.mark(0)?;
    if !subject.lines() {
        vcpu.set_interrupt_line(40, true)?;
        let refused = hart.try_run();
        ensure!(matches!(refused, Err(Some(AxError::Unsupported))), "a line: {refused:x?}");
        vcpu.set_interrupt_line(40, false)?;
        let refused = hart.try_run();
        ensure!(matches!(refused, Err(Some(AxError::Unsupported))), "a line: {refused:x?}");
        hart.mark(0)?;
        return Err(Stop::Skipped("needs lines; without, they are refused"));
    }
    vcpu.set_interrupt_line(40, true)?;
    for _ in 0..3 {
        taken(hart, 40)?;
    }
    vcpu.set_interrupt_line(40, false)?;
    hart.mark(0)?;
    hart.mark(0)
}

fn nmi<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.mark(1);
        g.mark(2);
        g.sti();
        g.pass();
        g.mark(3);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.mark(1)?;
    vcpu.inject_interrupt(0x50)?;
    vcpu.inject_interrupt(2)?;
    let trap = hart.trap_for(vector::NMI)?;
    ensure_eq!(trap.flags & rflags::IF, 0, "RFLAGS.IF");
    hart.mark(2)?;
    taken(hart, 0x50)?;
    hart.mark(3)
}

fn nmi_blocked<S: Subject>(subject: &S) -> Verdict {
    let mut place = 0;
    let bench = Bench::boot(subject, |g| {
        g.mark(1);
        place = g.here();
        g.pass();
        g.mark(2);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.mark(1)?;
    vcpu.inject_interrupt(2)?;
    let first = hart.trap_for(vector::NMI)?;
    ensure_eq!(first.rip, place, "where the first NMI came");
    // Within its handler: the second comes when that has returned, where the first came.
    vcpu.inject_interrupt(2)?;
    let second = hart.trap_for(vector::NMI)?;
    let later = subject.emulates() && (place..place + 16).contains(&second.rip);
    ensure!(second.rip == place || later, "where the second NMI came: {second:x?}");
    hart.mark(2)
}

fn halt_off<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        for number in 1..5 {
            g.hlt();
            g.mark(number);
        }
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.halt()?;
    vcpu.kick();
    ensure_eq!(vcpu.run(), Ok(Exit::Nothing), "kicked while halted");
    hart.mark(1)?;
    hart.halt()?;
    vcpu.inject_interrupt(2)?;
    ensure_eq!(vcpu.state(), VCpuState::Ready, "an NMI came");
    hart.trap_for(vector::NMI)?;
    hart.mark(2)?;
    hart.halt()?;
    vcpu.wake();
    hart.mark(3)?;
    // An interrupt that is not let in may wake it or not; it is not taken.
    hart.halt()?;
    vcpu.inject_interrupt(0x44)?;
    let exit = hart.run()?;
    match hart.call(&exit)? {
        Some((REPORT, [4, ..])) => Ok(()),
        _ if matches!(exit, Exit::Halt { .. }) => {
            vcpu.wake();
            hart.mark(4)
        }
        _ => crate::fail!("{exit:x?}"),
    }
}

fn halt_on<S: Subject>(subject: &S) -> Verdict {
    let mut behind = 0;
    let bench = Bench::boot(subject, |g| {
        for number in 1..3 {
            g.sti();
            g.hlt();
            behind = g.here();
            g.mark(number);
            g.cli();
        }
        // What is pending does not let it wait.
        g.mark(3);
        g.sti();
        g.hlt();
        g.mark(4);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.halt()?;
    vcpu.inject_interrupt(0x45)?;
    taken(hart, 0x45)?;
    hart.mark(1)?;
    hart.halt()?;
    vcpu.inject_interrupt(0x46)?;
    ensure_eq!(taken(hart, 0x46)?, behind, "RIP: behind hlt");
    hart.mark(2)?;
    hart.mark(3)?;
    vcpu.inject_interrupt(0x47)?;
    loop {
        // A backend that cannot look into the guest tells that it waits.
        match hart.run()? {
            Exit::Halt { .. } => {}
            exit => {
                let trap = hart.trap_of(exit)?;
                ensure!(trap.is_some_and(|trap| trap.vector == 0x47), "{exit:x?}");
                break;
            }
        }
        ensure_eq!(vcpu.state(), VCpuState::Ready, "halted with an interrupt pending");
    }
    hart.mark(4)
}

fn halt_race<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.count_interrupts(&[0x50], DATA + 8);
        // Waits only if there is nothing to do, as operating systems do.
        let (again, work) = (g.label(), g.label());
        g.bind(again);
        g.cli();
        g.mov(RAX, at(DATA + 8));
        g.cmp(RAX, at(DATA + 16));
        g.jcc(Cond::Ne, work);
        g.sti();
        g.hlt();
        g.jmp(again);
        g.bind(work);
        g.mov(at(DATA + 16), RAX);
        g.sti();
        g.pass();
        g.jmp(again);
    })?;
    let (vcpu, space) = (bench.vcpu(), &bench.space);
    run_while(
        subject,
        vcpu,
        |exit| match exit {
            Exit::Halt { .. } => {
                wait_for::<S>("an interrupt", || Ok(vcpu.state() != VCpuState::Blocked))
            }
            exit => crate::fail!("{exit:x?}"),
        },
        || {
            for round in 1..=5 * ROUNDS {
                vcpu.inject_interrupt(0x50)?;
                wait_for::<S>("the guest to notice", || Ok(space.read(DATA + 16)? >= round))?;
            }
            Ok(())
        },
    )?;
    ensure_eq!(space.read(DATA + 8)?, 5 * ROUNDS, "interrupts taken");
    Ok(())
}
