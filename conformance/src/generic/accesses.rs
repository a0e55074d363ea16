//! Devices, and what may be done with an exit: answer it, undo it, fail it.

use axvcpu::AccessKind::{Execute, Write};
use axvcpu::AccessWidth::{self, Byte, Dword, Qword, Word};
use axvcpu::{AxError, Fence, GuestPhysAddr, VCpuState};

use super::{Architecture, Atomic, GuestsOf, Instructions, NamedCase, Perms, Program, Reg};
use crate::bench::{Bench, Hart, pattern};
use crate::report::{Stop, Verdict, ensure, ensure_eq};
use crate::subject::Subject;

pub(super) fn cases<S: Subject, I: Architecture + GuestsOf<S>>() -> [NamedCase<S>; 16] {
    [
        ("mmio: loads of every width into every register", loads::<S, I>),
        ("mmio: stores of every width from every register", stores::<S, I>),
        ("mmio: a load changes its register only", nothing_else_changes::<S, I>),
        ("answer: entering without it is refused", unanswered::<S, I>),
        ("answer: other registers can be written first", registers_before_the_answer::<S, I>),
        ("answer: nothing that did not ask takes one", not_asked::<S, I>),
        ("retry: a load from memory that was mapped meanwhile", retry_load::<S, I>),
        ("retry: a store to memory that was mapped meanwhile", retry_store::<S, I>),
        ("retry: without a change the exit comes again", retry_unchanged::<S, I>),
        ("retry: after a nested page fault it changes nothing", retry_fault::<S, I>),
        ("fail: loads and stores become traps, or find nobody", fail_mmio::<S, I>),
        ("fail: a fetch becomes a trap", fail_fetch::<S, I>),
        ("fail: nothing to fail or to retry", nothing_open::<S, I>),
        ("fault: an atomic repeats until memory is there", atomic_mapped::<S, I>),
        ("fault: memory that may only be read", read_only::<S, I>),
        ("fault: memory that may not be executed", not_executable::<S, I>),
    ]
}

const WIDTHS: [AccessWidth; 4] = [Byte, Word, Dword, Qword];

/// Answers: both signs, and garbage above the width that must not arrive.
fn answers(width: AccessWidth) -> [u64; 4] {
    let top = 1 << (8 * width.bytes() - 1);
    [pattern(1) | top, pattern(2) & !top, u64::MAX, !width.mask()]
}

fn loads<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    for width in WIDTHS {
        for base in [Reg::B, Reg::C] {
            let bench = Bench::<S, I>::boot(subject, |g| {
                for target in Reg::ALL {
                    for _ in answers(width) {
                        g.set(target, pattern(9));
                        g.set(base, I::DEVICE);
                        g.load(target, width, base, 8);
                        g.report(target);
                    }
                }
            })?;
            for target in Reg::ALL {
                for answer in answers(width) {
                    bench.hart().mmio_read(I::DEVICE + 8, width)?;
                    bench.vcpu().set_return_value(answer)?;
                    let found = bench.hart().report()?;
                    let what = "after the answer";
                    ensure_eq!(found, answer & width.mask(), "{target:?} {what} {answer:#x}");
                }
            }
            bench.hart().end()?;
        }
    }
    Ok(())
}

fn stores<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let bench = Bench::<S, I>::boot(subject, |g| {
        for width in WIDTHS {
            for source in Reg::ALL {
                let base = if source == Reg::B { Reg::C } else { Reg::B };
                g.set(source, pattern(source as u64));
                g.set(base, I::DEVICE);
                g.store(source, width, base, 16);
            }
        }
    })?;
    for width in WIDTHS {
        for source in Reg::ALL {
            let data = pattern(source as u64) & width.mask();
            bench.hart().mmio_write(I::DEVICE + 16, width, data)?;
        }
    }
    bench.hart().end()
}

fn nothing_else_changes<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let bench = Bench::<S, I>::boot(subject, |g| {
        g.set(Reg::A, pattern(1));
        g.set(Reg::B, I::DEVICE);
        g.set(Reg::C, pattern(3));
        g.write_system(Reg::C);
        g.load(Reg::A, Word, Reg::B, 0);
        g.store(Reg::C, Word, Reg::B, 2);
        for register in Reg::ALL {
            g.report(register);
        }
        g.read_system(Reg::A);
        g.report(Reg::A);
    })?;
    let hart = bench.hart();
    hart.mmio_read(I::DEVICE, Word)?;
    bench.vcpu().set_return_value(0xabcd)?;
    hart.mmio_write(I::DEVICE + 2, Word, pattern(3) & 0xffff)?;
    for (what, value) in [
        ("the target", 0xabcd),
        ("the base", I::DEVICE),
        ("the source", pattern(3)),
        ("a system register", pattern(3)),
    ] {
        ensure_eq!(hart.report()?, value, "{what}");
    }
    hart.end()
}

fn unanswered<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let bench = Bench::<S, I>::boot(subject, |g| {
        g.set(Reg::B, I::DEVICE);
        g.load(Reg::A, Dword, Reg::B, 0);
        g.report(Reg::A);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.mmio_read(I::DEVICE, Dword)?;
    for _ in 0..3 {
        ensure_eq!(vcpu.run(), Err(AxError::Unanswered), "entering without the answer");
        ensure_eq!(vcpu.state(), VCpuState::Ready, "after the refusal");
    }
    let entry = vcpu.set_entry(GuestPhysAddr::new(I::CODE));
    ensure_eq!(entry, Err(AxError::Unanswered), "another entry without the answer");
    vcpu.set_return_value(7)?;
    ensure_eq!(vcpu.set_return_value(8), Err(AxError::NotAsked), "a second answer");
    hart.mark(7)?;
    hart.end()
}

fn registers_before_the_answer<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let bench = Bench::<S, I>::boot(subject, |g| {
        g.set(Reg::B, I::DEVICE);
        g.load(Reg::A, Dword, Reg::B, 0);
        g.report(Reg::A);
        g.report(Reg::C);
        g.report(Reg::B);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.mmio_read(I::DEVICE, Dword)?;
    vcpu.set_gpr(I::gpr(Reg::A), 1)?; // the load overwrites it
    vcpu.set_gpr(I::gpr(Reg::C), 2)?;
    vcpu.set_gpr(I::gpr(Reg::B), 3)?; // the base is not used again
    vcpu.set_return_value(4)?;
    hart.mark(4)?;
    hart.mark(2)?;
    hart.mark(3)
}

/// Ends a case about permission to execute, when it has seen that memory without it is executed.
pub(super) const NEEDS_EXECUTE: Stop =
    Stop::Skipped("needs permission to execute, and not only to read");

/// Skips the case if the backend undoes no accesses. There is nothing to undo yet.
fn needs_retry<S: Subject, I: Architecture + GuestsOf<S>>(bench: &Bench<S, I>) -> Verdict {
    match bench.vcpu().retry() {
        Err(AxError::Unsupported) => Err(Stop::Skipped("the backend undoes no accesses")),
        _ => Ok(()),
    }
}

/// Skips the case if the backend fails no accesses. There is nothing to fail yet.
fn needs_fail<S: Subject, I: Architecture + GuestsOf<S>>(bench: &Bench<S, I>) -> Verdict {
    match bench.vcpu().fail_access() {
        Err(AxError::Unsupported) => Err(Stop::Skipped("the backend fails no accesses")),
        _ => Ok(()),
    }
}

/// Runs to the trap that `fail_access` has caused, and behind the instruction.
fn step_over<S: Subject, I: Architecture + GuestsOf<S>>(hart: &Hart<S, I>) -> Verdict {
    let trap = hart.trap()?;
    ensure_eq!(I::interrupt(&trap), None, "the interrupt in {trap:x?}");
    I::step_over(&hart.vcpu, &trap)
}

fn not_asked<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let bench = Bench::<S, I>::boot(subject, |g| {
        g.set(Reg::A, 1);
        g.set(Reg::B, I::DEVICE);
        g.store(Reg::B, Dword, Reg::B, 0);
        g.atomic_add(Reg::A, Reg::B);
        g.wfi();
        g.mark(1);
        g.call(I::DEVICE);
    })?;
    needs_fail(&bench)?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    let refused = Err(AxError::NotAsked);
    ensure_eq!(vcpu.set_return_value(1), refused, "before the first run");
    hart.mmio_write(I::DEVICE, Dword, I::DEVICE)?;
    ensure_eq!(vcpu.set_return_value(1), refused, "after a store");
    match I::ATOMIC {
        Atomic::Fault(access) => hart.nested_fault(I::DEVICE, access)?,
        // Of its two halves only the first asks.
        Atomic::Device => device_write_of_atomic(hart)?,
    }
    ensure_eq!(vcpu.set_return_value(1), refused, "after an atomic");
    vcpu.fail_access()?;
    if let Atomic::Fault(_) = I::ATOMIC {
        step_over(hart)?;
    }
    hart.halt()?;
    ensure_eq!(vcpu.set_return_value(1), refused, "after a halt");
    vcpu.wake();
    hart.mark(1)?;
    hart.nested_fault(I::DEVICE, Execute)?;
    ensure_eq!(vcpu.set_return_value(1), refused, "after a nested fault");
    Ok(())
}

/// Runs to the second half of a device's atomic addition of 1, of which the first half was answered.
fn device_write_of_atomic<S: Subject, I: Architecture + GuestsOf<S>>(hart: &Hart<S, I>) -> Verdict {
    hart.mmio_read(I::DEVICE, Qword)?;
    hart.vcpu.set_return_value(pattern(1))?;
    hart.mmio_write(I::DEVICE, Qword, pattern(1) + 1)
}

fn retry_load<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let mut bench = Bench::<S, I>::boot(subject, |g| {
        g.set(Reg::B, I::DEVICE);
        g.load(Reg::A, Qword, Reg::B, 8);
        g.report(Reg::A);
    })?;
    needs_retry(&bench)?;
    bench.hart().mmio_read(I::DEVICE + 8, Qword)?;
    bench.space.add(I::DEVICE, 1, Some(Perms::RW))?;
    bench.space.write(I::DEVICE + 8, pattern(1))?;
    bench.vcpu().request_fence(Fence::STAGE2_TLB);
    bench.vcpu().retry()?;
    ensure_eq!(bench.vcpu().set_return_value(1), Err(AxError::NotAsked), "an answer after all");
    ensure_eq!(bench.hart().report()?, pattern(1), "what the load found in memory");
    Ok(())
}

fn retry_store<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let mut bench = Bench::<S, I>::boot(subject, |g| {
        g.set(Reg::B, I::DEVICE);
        g.set(Reg::A, pattern(2));
        g.store(Reg::A, Qword, Reg::B, 8);
        g.mark(1);
    })?;
    needs_retry(&bench)?;
    bench.hart().mmio_write(I::DEVICE + 8, Qword, pattern(2))?;
    bench.space.add(I::DEVICE, 1, Some(Perms::RW))?;
    bench.vcpu().request_fence(Fence::STAGE2_TLB);
    bench.vcpu().retry()?;
    bench.hart().mark(1)?;
    ensure_eq!(bench.space.read(I::DEVICE + 8)?, pattern(2), "what the store left in memory");
    Ok(())
}

fn retry_unchanged<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let bench = Bench::<S, I>::boot(subject, |g| {
        g.set(Reg::B, I::DEVICE);
        g.load(Reg::B, Byte, Reg::B, 3);
        g.report(Reg::B);
        g.set(Reg::B, I::DEVICE);
        g.store(Reg::B, Dword, Reg::B, 4);
        g.mark(1);
    })?;
    needs_retry(&bench)?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    for _ in 0..3 {
        hart.mmio_read(I::DEVICE + 3, Byte)?;
        vcpu.retry()?;
    }
    hart.mmio_read(I::DEVICE + 3, Byte)?;
    vcpu.set_return_value(0x1ff)?;
    hart.mark(0xff)?;
    for _ in 0..3 {
        hart.mmio_write(I::DEVICE + 4, Dword, I::DEVICE)?;
        vcpu.retry()?;
    }
    hart.mmio_write(I::DEVICE + 4, Dword, I::DEVICE)?;
    hart.mark(1)
}

fn retry_fault<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let mut bench = Bench::<S, I>::boot(subject, |g| {
        g.call(I::WINDOW);
        g.report(Reg::A);
    })?;
    needs_retry(&bench)?;
    for _ in 0..3 {
        bench.hart().nested_fault(I::WINDOW, Execute)?;
        bench.vcpu().retry()?;
    }
    bench.space.add(I::WINDOW, 1, Some(Perms::RX))?;
    bench.space.fill(I::WINDOW, &I::function(9)?)?;
    bench.vcpu().request_fence(Fence::all());
    bench.hart().mark(9)?;
    bench.hart().end()
}

fn fail_mmio<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let bench = Bench::<S, I>::boot(subject, |g| {
        g.set(Reg::A, 0x55);
        g.set(Reg::B, I::DEVICE);
        for width in WIDTHS {
            g.load(Reg::A, width, Reg::B, 16);
            g.store(Reg::A, width, Reg::B, 16);
        }
        g.report(Reg::A);
    })?;
    needs_fail(&bench)?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    let told = || if I::FAILURES_TRAP { step_over(hart) } else { Ok(()) };
    for width in WIDTHS {
        hart.mmio_read(I::DEVICE + 16, width)?;
        vcpu.fail_access()?;
        let refused = Err(AxError::NotAsked);
        ensure_eq!(vcpu.set_return_value(1), refused, "an answer after failing the load");
        ensure_eq!(vcpu.fail_access(), refused, "failing it a second time");
        told()?;
        let stored = if I::FAILURES_TRAP { 0x55 } else { width.mask() };
        hart.mmio_write(I::DEVICE + 16, width, stored)?;
        vcpu.fail_access()?;
        told()?;
    }
    let target = if I::FAILURES_TRAP { 0x55 } else { u64::MAX };
    ensure_eq!(hart.report()?, target, "the target of the failed loads");
    hart.end()
}

fn fail_fetch<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let bench = Bench::<S, I>::boot(subject, |g| g.call(I::DEVICE))?;
    needs_fail(&bench)?;
    for _ in 0..3 {
        bench.hart().nested_fault(I::DEVICE, Execute)?;
    }
    bench.vcpu().fail_access()?;
    let trap = bench.hart().trap()?;
    ensure_eq!(I::interrupt(&trap), None, "the interrupt in {trap:x?}");
    // The guest goes on where it was.
    bench.hart().nested_fault(I::DEVICE, Execute)
}

fn nothing_open<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let bench = Bench::<S, I>::boot(subject, |g| {
        g.set(Reg::B, I::DEVICE);
        g.load(Reg::A, Dword, Reg::B, 0);
        g.store(Reg::A, Dword, Reg::B, 0);
        g.mark(1);
        g.wfi();
    })?;
    needs_retry(&bench)?;
    needs_fail(&bench)?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    let nothing = |when: &str| -> Verdict {
        ensure_eq!(vcpu.retry(), Err(AxError::NotAsked), "retry {when}");
        ensure_eq!(vcpu.fail_access(), Err(AxError::NotAsked), "fail_access {when}");
        Ok(())
    };
    nothing("before the first run")?;
    hart.mmio_read(I::DEVICE, Dword)?;
    vcpu.set_return_value(1)?;
    nothing("after the answer")?;
    hart.mmio_write(I::DEVICE, Dword, 1)?;
    hart.mark(1)?;
    nothing("after a report, with a store before it")?;
    hart.halt()?;
    nothing("after a halt")
}

fn atomic_mapped<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let mut bench = Bench::<S, I>::boot(subject, |g| {
        g.set(Reg::A, 5);
        g.set(Reg::B, I::DEVICE);
        g.atomic_add(Reg::A, Reg::B);
        g.report(Reg::A);
    })?;
    if I::ATOMIC == Atomic::Device {
        needs_retry(&bench)?;
    }
    bench.space.add(I::DEVICE, 1, None)?;
    bench.space.write(I::DEVICE, 100)?;
    for _ in 0..3 {
        match I::ATOMIC {
            Atomic::Fault(access) => bench.hart().nested_fault(I::DEVICE, access)?,
            Atomic::Device => {
                bench.hart().mmio_read(I::DEVICE, Qword)?;
                bench.vcpu().retry()?;
            }
        }
    }
    bench.space.map(I::DEVICE, I::DEVICE, Perms::R)?;
    bench.vcpu().request_fence(Fence::STAGE2_TLB);
    match I::ATOMIC {
        Atomic::Fault(_) => bench.hart().nested_fault(I::DEVICE, Write)?,
        Atomic::Device => {
            bench.hart().mmio_write(I::DEVICE, Qword, 105)?;
            bench.vcpu().retry()?;
        }
    }
    bench.space.protect(I::DEVICE, Perms::RW)?;
    bench.vcpu().request_fence(Fence::STAGE2_TLB);
    bench.hart().mark(5)?;
    ensure_eq!(bench.space.read(I::DEVICE)?, 105, "the sum");
    Ok(())
}

fn read_only<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let mut bench = Bench::<S, I>::boot(subject, |g| {
        g.set(Reg::A, 6);
        g.set(Reg::B, I::WINDOW);
        g.store(Reg::A, Dword, Reg::B, 0);
        g.load(Reg::A, Qword, Reg::B, 0);
        g.report(Reg::A);
    })?;
    bench.space.add(I::WINDOW, 1, Some(Perms::R))?;
    bench.space.write(I::WINDOW, pattern(5))?;
    bench.announce();
    bench.hart().mmio_write(I::WINDOW, Dword, 6)?;
    ensure_eq!(bench.hart().report()?, pattern(5), "what the guest read");
    ensure!(bench.space.read(I::WINDOW)? == pattern(5), "the guest has written it");
    Ok(())
}

fn not_executable<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let mut bench = Bench::<S, I>::boot(subject, |g| {
        g.call(I::WINDOW);
        g.report(Reg::A);
    })?;
    bench.space.add(I::WINDOW, 1, Some(Perms::RW))?;
    bench.space.fill(I::WINDOW, &I::function(7)?)?;
    bench.announce();
    if !I::enforces_execute(subject) {
        bench.vcpu().request_fence(Fence::INSTRUCTION);
        bench.hart().mark(7)?;
        return Err(NEEDS_EXECUTE);
    }
    bench.hart().nested_fault(I::WINDOW, Execute)?;
    bench.space.protect(I::WINDOW, Perms::RX)?;
    bench.vcpu().request_fence(Fence::STAGE2_TLB | Fence::INSTRUCTION);
    bench.hart().mark(7)
}
