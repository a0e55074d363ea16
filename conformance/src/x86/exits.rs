//! What may be done with an exit: answer it, undo it, fail it.

use axvcpu::AccessKind::Execute;
use axvcpu::AccessWidth::Qword;
use axvcpu::AxError;
use axvcpu_x86::asm::*;

use super::NamedCase;
use super::Subject;
use super::bench::{Bench, Exit};
use super::guest::*;
use crate::report::{Stop, Verdict, ensure, ensure_eq};

pub(super) fn cases<S: Subject>() -> [NamedCase<S>; 5] {
    [
        ("answer: registers read and written behind it", registers_after_the_answer),
        ("answer: a write to a port takes none", port_written),
        ("fail: loads find ones, stores go nowhere", fail_mmio),
        ("fail: a fetch is a protection fault", fail_fetch),
        ("hypercall: number and arguments", hypercall),
    ]
}

fn registers_after_the_answer<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.li(RSI, DEVICE);
        for _ in 0..2 {
            g.li(R12, pattern(1));
            g.mov(R12.of(Width::Word), mem(RSI));
            g.report(R12);
        }
        g.mov(mem(RSI), RSI);
        g.report(R12);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    let expected = super::ports::merged(pattern(1), 0x4321, axvcpu::AccessWidth::Word);
    for write in [false, true] {
        hart.mmio_read(DEVICE, axvcpu::AccessWidth::Word)?;
        vcpu.set_return_value(0x4321)?;
        ensure_eq!(vcpu.get_gpr(12), Ok(expected), "R12, read behind the answer");
        if write {
            vcpu.set_gpr(12, 6)?;
        }
        hart.mark(if write { 6 } else { expected })?;
    }
    hart.mmio_write(DEVICE, Qword, DEVICE)?;
    vcpu.set_gpr(12, 8)?;
    ensure_eq!(vcpu.get_gpr(12), Ok(8), "R12, as it was written");
    hart.mark(8)
}

fn port_written<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.out_imm(0x71, AL);
        g.mark(1);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    let exit = hart.run()?;
    ensure!(matches!(exit, Exit::IoWrite { port: 0x71, .. }), "{exit:x?}");
    ensure_eq!(vcpu.set_return_value(1), Err(AxError::NotAsked), "after a write to a port");
    hart.mark(1)
}

/// As on a bus where nobody answers.
fn fail_mmio<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.li(RSI, DEVICE);
        g.li(R12, 0x55);
        g.mov(R12D, mem(RSI));
        g.mov(mem(RSI), R12);
        g.report(R12);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    for _ in 0..2 {
        hart.run()?;
        vcpu.fail_access()?;
        ensure_eq!(vcpu.set_return_value(1), Err(AxError::NotAsked), "an answer after failing it");
        ensure_eq!(vcpu.fail_access(), Err(AxError::NotAsked), "failing it a second time");
    }
    hart.mark(0xffff_ffff)
}

fn fail_fetch<S: Subject>(subject: &S) -> Verdict {
    let mut behind = 0;
    let bench = Bench::boot(subject, |g| {
        g.li(RSI, DEVICE);
        g.jmp_at(RSI);
        behind = g.here();
        g.mark(1);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.nested_fault(DEVICE, Execute)?;
    vcpu.fail_access()?;
    ensure_eq!(vcpu.fail_access(), Err(AxError::NotAsked), "failing it a second time");
    // What it finds is all ones, and that is no instruction.
    let trap = hart.trap_for(vector::UD)?;
    ensure_eq!(trap.rip, DEVICE, "RIP");
    hart.go_on_at(behind)?;
    hart.mark(1)
}

fn hypercall<S: Subject>(subject: &S) -> Verdict {
    if !subject.has_hypercalls() {
        return Err(Stop::Skipped("needs hypercalls that reach the backend"));
    }
    let bench = Bench::boot(subject, |g| {
        for (index, register) in (0..).zip([RBX, RCX, RDX, RSI, RDI, R8]) {
            g.li(register, pattern(index));
        }
        g.li(RAX, 0x4242);
        if subject.calls_with_vmmcall() {
            g.vmmcall();
        } else {
            g.vmcall();
        }
        g.report(RAX);
    })?;
    let args = core::array::from_fn(|index| pattern(index as u64));
    bench.hart().exit(Exit::Hypercall { nr: 0x4242, function: 0, args })?;
    bench.vcpu().set_return_value(pattern(9))?;
    ensure_eq!(bench.vcpu().set_return_value(1), Err(AxError::NotAsked), "a second answer");
    bench.hart().mark(pattern(9))?;
    bench.hart().end()
}
