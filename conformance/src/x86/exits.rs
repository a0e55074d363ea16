//! What may be done with an exit: answer it, undo it, fail it.

use axvcpu::AccessKind::Execute;
use axvcpu::AccessWidth::{Dword, Qword};
use axvcpu::{AxError, Fence};
use axvcpu_stage2::Perms;
use axvcpu_x86::asm::*;
use axvcpu_x86::reg::gpr;

use super::NamedCase;
use super::Subject;
use super::bench::{Bench, Exit};
use super::guest::*;
use crate::exits;
use crate::report::{Stop, Verdict, ensure, ensure_eq};

pub(super) fn cases<S: Subject>() -> [NamedCase<S>; 11] {
    [
        ("answer: entering without it is refused", unanswered),
        ("answer: other registers can be written first", registers_before_the_answer),
        ("answer: registers read and written behind it", registers_after_the_answer),
        ("answer: nothing that did not ask takes one", not_asked),
        ("retry: a load from memory that was mapped meanwhile", retry_load),
        ("retry: a store to memory that was mapped meanwhile", retry_store),
        ("retry: without a change the exit comes again", retry_unchanged),
        ("fail: loads find ones, stores go nowhere", fail_mmio),
        ("fail: a fetch is a protection fault", fail_fetch),
        ("fail: nothing to fail or to retry", nothing_open),
        ("hypercall: number and arguments", hypercall),
    ]
}

fn unanswered<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.li(RSI, DEVICE);
        g.mov(R12D, mem(RSI));
        g.report(R12);
    })?;
    exits::unanswered(&bench)
}

fn registers_before_the_answer<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.li(RSI, DEVICE);
        g.mov(R12D, mem(RSI));
        g.report(R12);
        g.report(R13);
        g.report(RSI);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.mmio_read(DEVICE, Dword)?;
    ensure_eq!(vcpu.get_gpr(gpr::RSI), Ok(DEVICE), "RSI before the answer");
    vcpu.set_gpr(13, 2)?;
    vcpu.set_gpr(gpr::RSI, 3)?; // the base is not used again
    vcpu.set_return_value(4)?;
    hart.mark(4)?;
    hart.mark(2)?;
    hart.mark(3)
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

fn not_asked<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.li(RSI, DEVICE);
        g.mov(mem(RSI), ESI);
        g.out_imm(0x71, AL);
        g.hlt();
        g.mark(1);
        g.jmp_at(RSI);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    let refused = Err(AxError::NotAsked);
    ensure_eq!(vcpu.set_return_value(1), refused, "before the first run");
    hart.mmio_write(DEVICE, Dword, DEVICE)?;
    ensure_eq!(vcpu.set_return_value(1), refused, "after a store");
    let exit = hart.run()?;
    ensure!(matches!(exit, Exit::IoWrite { port: 0x71, .. }), "{exit:x?}");
    ensure_eq!(vcpu.set_return_value(1), refused, "after a write to a port");
    hart.halt()?;
    ensure_eq!(vcpu.set_return_value(1), refused, "after a halt");
    vcpu.wake();
    hart.mark(1)?;
    hart.nested_fault(DEVICE, Execute)?;
    ensure_eq!(vcpu.set_return_value(1), refused, "after a nested fault");
    Ok(())
}

/// Skips a case about undoing exits where that cannot be. It is refused then, and the exit stays as it is.
fn needs_retry<S: Subject>(subject: &S) -> Verdict {
    if subject.can_retry() {
        return Ok(());
    }
    let bench = Bench::boot(subject, |g| {
        g.li(RSI, DEVICE);
        g.mov(R12D, mem(RSI));
        g.report(R12);
        g.mov(mem(RSI), R12D);
        g.mark(2);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    let refused = || -> Verdict {
        ensure_eq!(vcpu.retry(), Err(AxError::Unsupported), "retry");
        Ok(())
    };
    hart.mmio_read(DEVICE, Dword)?;
    refused()?;
    ensure_eq!(vcpu.run(), Err(AxError::Unanswered), "running without the answer");
    vcpu.set_return_value(5)?;
    hart.mark(5)?;
    hart.mmio_write(DEVICE, Dword, 5)?;
    refused()?;
    hart.mark(2)?;
    Err(Stop::Skipped("needs device accesses that can be undone; without, it is refused"))
}

fn retry_load<S: Subject>(subject: &S) -> Verdict {
    needs_retry(subject)?;
    let bench = Bench::boot(subject, |g| {
        g.li(RSI, DEVICE);
        g.mov(R12, mem(RSI) + 8);
        g.report(R12);
    })?;
    exits::retry_load(bench)
}

fn retry_store<S: Subject>(subject: &S) -> Verdict {
    needs_retry(subject)?;
    let bench = Bench::boot(subject, |g| {
        g.li(RSI, DEVICE);
        g.li(R12, pattern(2));
        g.mov(mem(RSI) + 8, R12);
        g.mark(1);
    })?;
    exits::retry_store(bench)
}

fn retry_unchanged<S: Subject>(subject: &S) -> Verdict {
    needs_retry(subject)?;
    let bench = Bench::boot(subject, |g| {
        g.li(RSI, DEVICE);
        g.movzx(ESI, byte(RSI) + 3);
        g.report(RSI);
        g.li(RSI, DEVICE);
        g.mov(mem(RSI) + 4, ESI);
        g.mark(1);
    })?;
    exits::retry_unchanged(&bench)
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

fn nothing_open<S: Subject>(subject: &S) -> Verdict {
    let mut bench = Bench::boot(subject, |g| {
        g.li(RSI, DEVICE);
        g.mov(R12D, mem(RSI));
        g.mark(1);
        g.hlt();
        g.jmp_at(RSI);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    let nothing = |when: &str| -> Verdict {
        let expected = |result| {
            result == Err(AxError::NotAsked)
                || !subject.can_retry() && result == Err(AxError::Unsupported)
        };
        ensure!(expected(vcpu.retry()), "retry {when}: {:?}", vcpu.retry());
        ensure!(expected(vcpu.fail_access()), "fail_access {when}: {:?}", vcpu.fail_access());
        Ok(())
    };
    nothing("before the first run")?;
    hart.mmio_read(DEVICE, Dword)?;
    vcpu.set_return_value(1)?;
    nothing("after the answer")?;
    hart.mark(1)?;
    nothing("after a write to a port")?;
    hart.halt()?;
    nothing("after a halt")?;
    vcpu.wake();
    hart.nested_fault(DEVICE, Execute)?;
    // The instruction is repeated by itself, with what is there now.
    bench.space.add(DEVICE, 1, Some(Perms::RWX))?;
    bench.space.fill(DEVICE, &[0xf4])?; // hlt
    bench.vcpu().request_fence(Fence::STAGE2_TLB);
    bench.hart().halt()?;
    Ok(())
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
