//! Physical CPUs: what the platform says of them, and that they are switched off and on again while vCPUs live on.

use core::sync::atomic::{AtomicUsize, Ordering};

use axvcpu::AccessWidth::Qword;
use axvcpu::{AxArchVCpu, AxVCpuHal, Fence, VCpuState, current_ids};

use super::{Architecture, GuestsOf, Instructions, NamedCase, Perms, Reg};
use crate::bench::{Bench, pattern};
use crate::report::{Stop, Verdict, ensure, ensure_eq};
use crate::requests::{two_cpus, wait_for};
use crate::subject::Subject;

pub(super) fn cases<S: Subject, I: Architecture + GuestsOf<S>>() -> [NamedCase<S>; 3] {
    [
        ("cpu: each has a number and a current vCPU of its own", own::<S, I>),
        ("unplug: vCPUs outlive a CPU that is switched off and on", here::<S, I>),
        ("unplug: a vCPU goes on elsewhere while its CPU is off", elsewhere::<S, I>),
    ]
}

/// What the platform answers for, and everything else relies on.
fn own<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    type Hal<S> = <<S as Subject>::Arch as AxArchVCpu>::Hal;
    let mut bench = Bench::<S, I>::empty(subject)?;
    for id in 0..2 {
        bench.add_hart(subject, id)?;
    }
    let harts = &bench.harts;
    let numbers = [const { AtomicUsize::new(usize::MAX) }; 2];
    let (inside, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let both = |count: &AtomicUsize| {
        count.fetch_add(1, Ordering::SeqCst);
        wait_for::<S>("the other CPU", || Ok(count.load(Ordering::SeqCst) == 2))
    };
    let look = |own: usize| -> Verdict {
        numbers[own].store(Hal::<S>::cpu_id(), Ordering::SeqCst);
        let seen = harts[own].vcpu.with_arch(|_| {
            both(&inside)?;
            let seen = current_ids::<Hal<S>>();
            both(&done)?;
            Ok::<_, Stop>(seen)
        })??;
        let seen = seen.map(|ids| ids.vcpu_id);
        ensure_eq!(seen, Some(own), "the current vCPU, with one on either CPU");
        let [own, other] = [own, 1 - own].map(|cpu| numbers[cpu].load(Ordering::SeqCst));
        ensure!(own != other, "both CPUs have the number {own}");
        ensure_eq!(Hal::<S>::cpu_id(), own, "the CPU's number, asked again");
        ensure!(Hal::<S>::is_cpu(own), "CPU {own} denies its number");
        ensure!(!Hal::<S>::is_cpu(other), "CPU {own} says that it is {other}");
        Ok(())
    };
    two_cpus(subject, || look(0), || look(1))
}

/// Switches virtualization off while `meanwhile` runs; skips the case if that cannot be done.
fn while_off<S: Subject>(subject: &S, mut meanwhile: impl FnMut() -> Verdict) -> Verdict {
    let mut verdict = Ok(());
    if subject.without_virtualization(&mut || verdict = meanwhile()) {
        verdict
    } else {
        Err(Stop::Skipped("virtualization cannot be switched off"))
    }
}

fn here<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let mut bench = Bench::<S, I>::empty(subject)?;
    bench.load(|g| {
        g.set(Reg::C, pattern(3));
        g.write_system(Reg::C);
        g.enable_interrupts();
        g.for_ever(|g| {
            g.set(Reg::B, I::WINDOW);
            g.load(Reg::A, Qword, Reg::B, 0);
            g.report(Reg::A);
            g.report(Reg::C);
            g.read_system(Reg::A);
            g.report(Reg::A);
        });
    })?;
    for (page, value) in [(I::FIRST, 1), (I::SECOND, 2)] {
        bench.space.add(page, 1, None)?;
        bench.space.write(page, value)?;
    }
    bench.space.map(I::WINDOW, I::FIRST, Perms::RW)?;
    bench.add_hart(subject, 0)?;
    bench.add_hart(subject, 1)?;
    bench.announce();

    let visit = |bench: &Bench<S, I>, index: usize, page: u64| -> Verdict {
        let hart = &bench.harts[index];
        ensure_eq!(hart.report()?, page, "what vCPU {index} found in the page");
        ensure_eq!(hart.report()?, pattern(3), "a general-purpose register of vCPU {index}");
        ensure_eq!(hart.report()?, pattern(3), "a system register of vCPU {index}");
        Ok(hart.vcpu.unbind()?)
    };
    for index in 0..2 {
        bench.harts[index].vcpu.bind()?;
        visit(&bench, index, 1)?;
    }
    while_off(subject, || {
        // Everything that needs no CPU goes on.
        bench.harts.truncate(1);
        bench.space.unmap(I::WINDOW)?;
        bench.space.map(I::WINDOW, I::SECOND, Perms::RW)?;
        bench.vcpu().request_fence(Fence::STAGE2_TLB);
        bench.vcpu().inject_interrupt(I::VECTORS[0])?;
        ensure_eq!(bench.vcpu().state(), VCpuState::Free, "while the CPU is off");
        Ok(())
    })?;
    bench.vcpu().bind()?;
    let trap = bench.hart().trap()?;
    ensure_eq!(I::interrupt(&trap), Some(I::VECTORS[0]), "the interrupt");
    visit(&bench, 0, 2)?;
    // One that was made when the CPU was on again.
    bench.add_hart(subject, 1)?;
    bench.announce();
    bench.harts[1].vcpu.bind()?;
    visit(&bench, 1, 2)
}

fn elsewhere<S: Subject, I: Architecture + GuestsOf<S>>(subject: &S) -> Verdict {
    let mut bench = Bench::<S, I>::empty(subject)?;
    bench.load(|g| {
        g.set(Reg::A, 0);
        g.set(Reg::B, I::DATA);
        g.for_ever(|g| {
            g.add(Reg::A, 1);
            g.write_system(Reg::A);
            g.store(Reg::A, Qword, Reg::B, 0);
            g.report(Reg::A);
            g.read_system(Reg::C);
            g.report(Reg::C);
            g.load(Reg::C, Qword, Reg::B, 0);
            g.report(Reg::C);
        });
    })?;
    bench.add_hart(subject, 0)?;
    let hart = bench.hart();
    let visit = |number: u64| -> Verdict {
        hart.vcpu.bind()?;
        for what in ["a general-purpose register", "a system register", "memory"] {
            ensure_eq!(hart.report()?, number, "{what} in visit {number}");
        }
        Ok(hart.vcpu.unbind()?)
    };
    visit(1)?;
    while_off(subject, || two_cpus(subject, || Ok(()), || visit(2)))?;
    visit(3)
}
