//! The life cycle.

use axvcpu::AccessKind::Execute;
use axvcpu::AccessWidth::{Byte, Dword};
use axvcpu::{AxError, GuestPhysAddr, VCpuState};

use super::{Architecture, GuestsOf, Instructions, NamedCase, Program, Reg};
use crate::bench::Bench;
use crate::report::{Stop, Verdict, ensure, ensure_eq};
use crate::subject::Subject;
use crate::turns::take_turns;
use crate::{life, turns};

pub(super) fn cases<S: Subject, I: Architecture + GuestsOf<S>>() -> [NamedCase<S>; 15] {
    [
        ("life: every state, and what is refused in it", life::states::<S, I>),
        ("life: all registers can be written, and read if at all", registers::<S, I>),
        ("life: set_entry moves the guest", set_entry::<S, I>),
        ("life: set_entry ends what the last exit left open", set_entry_while_open::<S, I>),
        ("life: unbinding between exits changes nothing", rebinding::<S, I>),
        ("life: an unanswered exit survives unbinding", rebinding_unanswered::<S, I>),
        ("life: reset starts the guest afresh", reset::<S, I>),
        ("life: reset goes back to the entry of the setup", reset_entry::<S, I>),
        ("life: reset forgets interrupts and the open exit", reset_forgets::<S, I>),
        ("life: dropped while bound, in every state", dropped::<S, I>),
        ("life: the current vCPU is none between calls", life::current::<S, I>),
        ("isolation: two vCPUs on one CPU have registers of their own", two_vcpus::<S, I>),
        ("isolation: vCPUs of two machines come and go", turns::crowd::<S, I>),
        ("migration: registers move between two CPUs", moving_registers::<S, I>),
        ("migration: pages are exchanged between two CPUs", turns::pages::<S, I>),
    ]
}

fn registers<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let mut bench = Bench::<S, I>::empty(subject)?;
    bench.space.fill(I::CODE, &I::store_registers()?)?;
    bench.add_hart(subject, 0)?;
    life::registers(&bench, I::REGISTERS, I::BASE, I::ZERO)
}

fn set_entry<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let mut second = 0;
    let bench = Bench::<S, I>::boot(subject, |g| {
        g.mark(1);
        g.end();
        second = g.here();
        g.mark(2);
    })?;
    life::set_entry(&bench, second)
}

fn set_entry_while_open<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let mut second = 0;
    let bench = Bench::<S, I>::boot(subject, |g| {
        g.set(Reg::B, I::DEVICE);
        g.store(Reg::B, Dword, Reg::B, 0);
        g.end();
        second = g.here();
        g.mark(2);
        g.call(I::DEVICE);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    let go_on_at_second = || -> Verdict {
        vcpu.set_entry(GuestPhysAddr::new(second))?;
        // A backend need not have these two at all.
        for (call, refused) in [("retry", vcpu.retry()), ("fail_access", vcpu.fail_access())] {
            let nothing = matches!(refused, Err(AxError::NotAsked | AxError::Unsupported));
            ensure!(nothing, "{call} after set_entry: {refused:?}");
        }
        hart.mark(2)
    };
    hart.mmio_write(I::DEVICE, Dword, I::DEVICE)?;
    go_on_at_second()?;
    hart.nested_fault(I::DEVICE, Execute)?;
    go_on_at_second()
}

/// Adds up the numbers from 1 on, and reports each sum from both kinds of register.
fn sums<G: Instructions>(g: &mut G) {
    g.set(Reg::A, 0);
    for step in 1..=5 {
        g.add(Reg::A, step);
        g.write_system(Reg::A);
        g.report(Reg::A);
        g.read_system(Reg::B);
        g.report(Reg::B);
    }
}

fn rebinding<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    life::rebinding(&Bench::<S, I>::boot(subject, sums)?)
}

fn rebinding_unanswered<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let bench = Bench::<S, I>::boot(subject, |g| {
        g.set(Reg::B, I::DEVICE);
        g.load(Reg::A, Dword, Reg::B, 0);
        g.report(Reg::A);
    })?;
    life::rebinding_unanswered(&bench, 0x8765_4321)
}

/// Resets a vCPU; skips the case if the backend cannot.
fn restart<S: Subject, I: Architecture + GuestsOf<S>>(bench: &Bench<S, I>) -> Verdict {
    match bench.vcpu().reset() {
        Err(AxError::Unsupported) => Err(Stop::Skipped("the backend does not reset vCPUs")),
        result => Ok(result?),
    }
}

fn reset<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let bench = Bench::<S, I>::boot(subject, |g| {
        g.number(Reg::A);
        g.report(Reg::A);
        // Interrupts that are let in now must be off in the next life.
        g.mark(10);
        g.enable_interrupts();
        g.set(Reg::B, I::DEVICE);
        g.load(Reg::A, Byte, Reg::B, 0);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    for life in 0..3 {
        ensure_eq!(hart.report()?, life, "the number, as set before the start");
        if life > 0 {
            vcpu.inject_interrupt(I::VECTORS[0])?;
        }
        hart.mark(10)?;
        if life > 0 {
            ensure_eq!(I::interrupt(&hart.trap()?), Some(I::VECTORS[0]), "the interrupt");
        }
        hart.mmio_read(I::DEVICE, Byte)?;
        // As a CPU is started again: reset, entry, arguments.
        restart(&bench)?;
        ensure_eq!(vcpu.state(), VCpuState::Ready, "after the reset");
        vcpu.set_entry(GuestPhysAddr::new(I::CODE))?;
        vcpu.set_gpr(I::NUMBER, life + 1)?;
    }
    Ok(())
}

fn reset_entry<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let mut second = 0;
    let bench = Bench::<S, I>::boot(subject, |g| {
        g.mark(1);
        g.end();
        second = g.here();
        g.mark(2);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    for _ in 0..2 {
        hart.mark(1)?;
        vcpu.set_entry(GuestPhysAddr::new(second))?;
        hart.mark(2)?;
        restart(&bench)?;
    }
    vcpu.set_entry(GuestPhysAddr::new(second))?;
    restart(&bench)?;
    hart.mark(1)
}

fn reset_forgets<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let bench = Bench::<S, I>::boot(subject, |g| {
        g.mark(1);
        g.set(Reg::B, I::DEVICE);
        g.load(Reg::A, Byte, Reg::B, 0);
        g.mark(2);
        g.enable_interrupts();
        g.mark(3);
        g.mark(4);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.mark(1)?;
    // One that the backend has been told of, and others that it has not.
    vcpu.inject_interrupt(I::VECTORS[0])?;
    hart.mmio_read(I::DEVICE, Byte)?;
    for vector in I::VECTORS {
        vcpu.inject_interrupt(vector)?;
    }
    restart(&bench)?;
    ensure_eq!(vcpu.set_return_value(1), Err(AxError::NotAsked), "an answer after the reset");
    // A backend need not have these two at all.
    for (call, refused) in [("retry", vcpu.retry()), ("fail_access", vcpu.fail_access())] {
        ensure!(
            matches!(refused, Err(AxError::NotAsked | AxError::Unsupported)),
            "{call} after the reset: {refused:?}"
        );
    }
    vcpu.set_entry(GuestPhysAddr::new(I::CODE))?;
    hart.mark(1)?;
    hart.mmio_read(I::DEVICE, Byte)?;
    vcpu.set_return_value(0)?;
    hart.mark(2)?;
    hart.mark(3)?;
    // One that comes now does not wake those that were forgotten.
    vcpu.inject_interrupt(I::VECTORS[1])?;
    ensure_eq!(I::interrupt(&hart.trap()?), Some(I::VECTORS[1]), "the interrupt of this life");
    hart.mark(4)?;
    hart.end()
}

fn dropped<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    life::dropped(|| {
        Bench::<S, I>::boot(subject, |g| {
            g.mark(1);
            g.set(Reg::B, I::DEVICE);
            g.load(Reg::A, Dword, Reg::B, 0);
            g.wfi();
            g.mark(2);
        })
    })
}

fn two_vcpus<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let bench = Bench::<S, I>::boot_many(subject, 2, |g| {
        g.number(Reg::A);
        g.write_system(Reg::A);
        g.for_ever(|g| {
            g.report(Reg::A);
            g.add(Reg::A, 2);
            g.read_system(Reg::B);
            g.report(Reg::B);
            g.add(Reg::B, 2);
            g.write_system(Reg::B);
        });
    })?;
    for round in 0..10 {
        for (id, hart) in (0..).zip(&bench.harts) {
            ensure_eq!(hart.report()?, 2 * round + id, "a general-purpose register of vCPU {id}");
        }
        for (id, hart) in (0..).zip(&bench.harts) {
            ensure_eq!(hart.report()?, 2 * round + id, "a system register of vCPU {id}");
        }
    }
    Ok(())
}

fn moving_registers<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let mut bench = Bench::<S, I>::empty(subject)?;
    bench.load(sums)?;
    bench.add_hart(subject, 0)?;
    let hart = bench.hart();
    // Each sum comes twice, each time on the other CPU.
    take_turns(subject, 10, |turn| {
        hart.vcpu.bind()?;
        let step = turn as u64 / 2 + 1;
        ensure_eq!(hart.report()?, step * (step + 1) / 2, "the sum in turn {turn}");
        Ok(hart.vcpu.unbind()?)
    })
}
