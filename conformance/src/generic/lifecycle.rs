//! The life cycle.

use axvcpu::AccessKind::Execute;
use axvcpu::AccessWidth::{Byte, Dword};
use axvcpu::{AxArchVCpu, AxError, AxVCpu, Fence, GuestPhysAddr, VCpuState, current_ids};

use super::{Architecture, GuestsOf, Instructions, NamedCase, Perms, Program, Reg};
use crate::bench::{Bench, Hart, pattern};
use crate::report::{Stop, Verdict, ensure, ensure_eq};
use crate::subject::Subject;
use crate::turns::take_turns;

pub(super) fn cases<S: Subject, I: Architecture + GuestsOf<S>>() -> [NamedCase<S>; 15] {
    [
        ("life: every state, and what is refused in it", states::<S, I>),
        ("life: all registers can be written, and read if at all", registers::<S, I>),
        ("life: set_entry moves the guest", set_entry::<S, I>),
        ("life: set_entry ends what the last exit left open", set_entry_while_open::<S, I>),
        ("life: unbinding between exits changes nothing", rebinding::<S, I>),
        ("life: an unanswered exit survives unbinding", rebinding_unanswered::<S, I>),
        ("life: reset starts the guest afresh", reset::<S, I>),
        ("life: reset goes back to the entry of the setup", reset_entry::<S, I>),
        ("life: reset forgets interrupts and the open exit", reset_forgets::<S, I>),
        ("life: dropped while bound, in every state", dropped::<S, I>),
        ("life: the current vCPU is none between calls", current::<S, I>),
        ("isolation: two vCPUs on one CPU have registers of their own", two_vcpus::<S, I>),
        ("isolation: vCPUs of two machines come and go", crowd::<S, I>),
        ("migration: registers move between two CPUs", moving_registers::<S, I>),
        ("migration: pages are exchanged between two CPUs", pages::<S, I>),
    ]
}

/// Takes a vCPU through every state.
fn states<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let mut bench = Bench::<S, I>::empty(subject)?;
    bench.load(|g| {
        g.mark(1);
        g.wfi();
        g.mark(2);
    })?;
    let vcpu = AxVCpu::new(5, 6, 0, None, subject.create_config(&bench.machine)?)?;
    ensure_eq!((vcpu.vm_id(), vcpu.vcpu_id()), (5, 6), "ids");
    bench.harts.push(Hart::new(vcpu));
    let (hart, vcpu) = (bench.hart(), bench.vcpu());

    let bad = |found| AxError::BadState { found };
    let refused = |found: VCpuState| -> Verdict {
        let bad = bad(found);
        ensure_eq!(vcpu.state(), found, "state");
        if found != VCpuState::Created {
            ensure_eq!(bench.setup(subject, 0), Err(bad), "setup while {found}");
        }
        if found != VCpuState::Free {
            ensure_eq!(vcpu.bind(), Err(bad), "bind while {found}");
        }
        if found != VCpuState::Ready {
            ensure_eq!(vcpu.run(), Err(bad), "run while {found}");
            ensure_eq!(vcpu.unbind(), Err(bad), "unbind while {found}");
            ensure_eq!(vcpu.block(), Err(bad), "block while {found}");
        }
        if found == VCpuState::Created {
            ensure_eq!(vcpu.set_gpr(1, 1), Err(bad), "set_gpr while {found}");
            ensure_eq!(vcpu.reset(), Err(bad), "reset while {found}");
            ensure_eq!(vcpu.set_return_value(1), Err(bad), "an answer while {found}");
        } else {
            vcpu.set_gpr(1, 1)?;
            ensure_eq!(vcpu.set_return_value(1), Err(AxError::NotAsked), "an answer while {found}");
        }
        ensure_eq!(vcpu.state(), found, "state after refusals");
        Ok(())
    };

    refused(VCpuState::Created)?;
    ensure_eq!(vcpu.bound_cpu(), None, "bound");
    bench.setup(subject, 0)?;
    refused(VCpuState::Free)?;
    vcpu.bind()?;
    ensure!(vcpu.bound_cpu().is_some(), "bound, but on no CPU");
    refused(VCpuState::Ready)?;
    hart.mark(1)?;
    ensure_eq!(vcpu.state(), VCpuState::Ready, "after an exit");
    hart.halt()?;
    refused(VCpuState::Blocked)?;
    vcpu.wake();
    ensure_eq!(vcpu.state(), VCpuState::Ready, "woken");
    hart.mark(2)?;
    hart.end()?;
    vcpu.unbind()?;
    ensure_eq!(vcpu.state(), VCpuState::Free, "unbound");
    ensure_eq!(vcpu.bound_cpu(), None, "unbound");
    Ok(())
}

fn current<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let bench = Bench::<S, I>::boot(subject, |g| g.mark(1))?;
    type Hal<S> = <<S as Subject>::Arch as AxArchVCpu>::Hal;
    ensure_eq!(current_ids::<Hal<S>>(), None, "bound");
    let exit = bench.hart().run()?;
    ensure!(bench.hart().call(&exit)?.is_some(), "found {exit:?}");
    ensure_eq!(current_ids::<Hal<S>>(), None, "after a run");
    let inside = bench.vcpu().with_arch(|_| current_ids::<Hal<S>>())?;
    let inside = inside.map(|ids| (ids.vm_id, ids.vcpu_id));
    ensure_eq!(inside, Some((1, 0)), "inside of the backend");
    Ok(())
}

fn registers<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let mut bench = Bench::<S, I>::empty(subject)?;
    bench.space.fill(I::CODE, &I::store_registers()?)?;
    bench.add_hart(subject, 0)?;
    let (count, base, zero) = (I::REGISTERS, I::BASE, I::ZERO);
    let vcpu = bench.vcpu();
    for round in 0..2 {
        // Once before the first binding, once while bound.
        let value = |number: usize| match number {
            _ if number == base => I::DATA,
            _ if Some(number) == zero => 0,
            _ => pattern(number as u64 + round),
        };
        for number in 0..count {
            vcpu.set_gpr(number, if Some(number) == zero { 77 } else { value(number) })?;
        }
        for number in [count, count + 1, 63, 64, usize::MAX] {
            ensure_eq!(vcpu.set_gpr(number, 0), Err(AxError::InvalidInput), "set_gpr({number})");
        }
        for number in 0..count {
            match vcpu.get_gpr(number) {
                Err(AxError::Unsupported) => {}
                found => ensure_eq!(found, Ok(value(number)), "get_gpr({number})"),
            }
        }
        if round == 0 {
            vcpu.bind()?;
        } else {
            vcpu.set_entry(GuestPhysAddr::new(I::CODE))?;
        }
        bench.hart().end()?;
        for number in (0..count).filter(|&number| number != base && Some(number) != zero) {
            let found = bench.space.read(I::DATA + 8 * number as u64)?;
            ensure_eq!(found, value(number), "what the guest found in register {number}");
        }
    }
    Ok(())
}

fn set_entry<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let mut second = 0;
    let bench = Bench::<S, I>::boot(subject, |g| {
        g.mark(1);
        g.end();
        second = g.here();
        g.mark(2);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    vcpu.set_entry(GuestPhysAddr::new(second))?;
    hart.mark(2)?;
    vcpu.set_entry(GuestPhysAddr::new(I::CODE))?;
    hart.mark(1)?;
    vcpu.unbind()?;
    vcpu.set_entry(GuestPhysAddr::new(second))?;
    vcpu.bind()?;
    hart.mark(2)
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
    go_on_at_second()?;
    // Nor does the guest come to a failure that was on its way.
    hart.nested_fault(I::DEVICE, Execute)?;
    match vcpu.fail_access() {
        Err(AxError::Unsupported) => Ok(()),
        result => {
            result?;
            go_on_at_second()
        }
    }
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
    let bench = Bench::<S, I>::boot(subject, sums)?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    let mut sum = 0;
    for step in 1..=5 {
        sum += step;
        ensure_eq!(hart.report()?, sum, "a general-purpose register");
        vcpu.unbind()?;
        vcpu.bind()?;
        ensure_eq!(hart.report()?, sum, "a system register");
        vcpu.unbind()?;
        vcpu.bind()?;
    }
    hart.end()
}

fn rebinding_unanswered<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let bench = Bench::<S, I>::boot(subject, |g| {
        g.set(Reg::B, I::DEVICE);
        g.load(Reg::A, Dword, Reg::B, 0);
        g.report(Reg::A);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    for when in ["while unbound", "after binding"] {
        hart.mmio_read(I::DEVICE, Dword)?;
        vcpu.unbind()?;
        if when == "while unbound" {
            vcpu.set_return_value(0x8765_4321)?;
            vcpu.bind()?;
        } else {
            vcpu.bind()?;
            ensure_eq!(vcpu.run(), Err(AxError::Unanswered), "running without the answer");
            vcpu.set_return_value(0x8765_4321)?;
        }
        ensure_eq!(hart.report()?, 0x8765_4321, "answered {when}");
        vcpu.set_entry(GuestPhysAddr::new(I::CODE))?;
    }
    Ok(())
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
    let boot = || {
        Bench::<S, I>::boot(subject, |g| {
            g.mark(1);
            g.set(Reg::B, I::DEVICE);
            g.load(Reg::A, Dword, Reg::B, 0);
            g.wfi();
            g.mark(2);
        })
    };
    // However far the one before got, the next starts as if there had been none.
    for steps in 0..4 {
        let bench = boot()?;
        let (hart, vcpu) = (bench.hart(), bench.vcpu());
        if steps > 0 {
            hart.mark(1)?;
        }
        if steps > 1 {
            hart.mmio_read(I::DEVICE, Dword)?;
        }
        if steps > 2 {
            vcpu.set_return_value(0)?;
            hart.halt()?;
        }
    }
    Ok(())
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

/// vCPUs of two machines come and go, until whatever tells their translations apart has been used up; two stay all the
/// while.
fn crowd<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let machine = |value| -> Verdict<_> {
        let mut bench = Bench::<S, I>::boot(subject, |g| g.report_for_ever(I::WINDOW))?;
        bench.space.add(I::WINDOW, 1, Some(Perms::RW))?;
        bench.space.write(I::WINDOW, value)?;
        bench.announce();
        Ok((bench, value))
    };
    let mut machines = [machine(1)?, machine(2)?];
    for count in 0..subject.crowd() {
        let (bench, value) = &mut machines[count % 2];
        bench.add_hart(subject, 1)?;
        bench.announce();
        bench.harts[1].vcpu.bind()?;
        ensure_eq!(bench.harts[1].report()?, *value, "what vCPU {count} found");
        bench.harts.pop();
        if count % 100 == 0 {
            for (bench, value) in &machines {
                ensure_eq!(bench.hart().report()?, *value, "found by one who stays, after {count}");
            }
        }
    }
    Ok(())
}

/// Pages are exchanged while the guest reports what is in the window.
fn pages<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    const TURNS: usize = 30;
    let mut bench = Bench::<S, I>::empty(subject)?;
    bench.load(|g| g.report_for_ever(I::WINDOW))?;
    bench.space.add(I::FIRST, 1, None)?;
    bench.space.add(I::SECOND, 1, None)?;
    bench.space.write(I::FIRST, 0)?;
    bench.space.write(I::SECOND, 1)?;
    bench.add_hart(subject, 0)?;
    // Every three turns the other page, so that each CPU has seen either when it is exchanged.
    for part in 0..TURNS / 3 {
        let page = if part % 2 == 0 { I::FIRST } else { I::SECOND };
        if part > 0 {
            bench.space.unmap(I::WINDOW)?;
        }
        bench.space.map(I::WINDOW, page, Perms::RW)?;
        bench.vcpu().request_fence(Fence::STAGE2_TLB);
        let hart = bench.hart();
        // The first turn is another CPU's each time.
        take_turns(subject, 4, |turn| {
            if turn == 0 && part % 2 == 1 {
                return Ok(());
            }
            hart.vcpu.bind()?;
            for _ in 0..2 {
                let found = hart.report()?;
                ensure!(found == part as u64 % 2, "page {found} in part {part}, turn {turn}");
            }
            Ok(hart.vcpu.unbind()?)
        })?;
    }
    Ok(())
}
