//! vCPUs that share one physical CPU, whose clock moves by what its guests do.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use axvcpu::{AccessWidth, AxVCpuExitReason as Exit, GuestPhysAddr, VCpuState};
use sbi_spec::{hsm, spi, srst};

use super::*;
use crate::riscv::RiscvVm;
use crate::riscv::layout::{PLIC_BASE, RAM_BASE};
use crate::testing::{Fake, Program, Regs, ecall, machine, take_kick};
use crate::{ExitKind, Outcome};

const US: u64 = 1000;
const MS: u64 = 1000 * US;
/// What a guest does between two exits.
const STEP: u64 = 10 * US;

/// A physical CPU with a timer.
#[derive(Default)]
struct Sim {
    now: AtomicU64,
    /// When the timer interrupts; 0 for never.
    timer: AtomicU64,
    /// How often a slice was begun that does not end.
    open_ended: AtomicU64,
}

impl Sim {
    fn now(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    /// The guest executes for a step, and leaves for a device or because of an interrupt.
    fn step(&self) -> Exit {
        let now = self.now() + STEP;
        self.now.store(now, Ordering::Relaxed);
        self.unless_interrupted(Exit::MmioRead {
            addr: GuestPhysAddr::new(PLIC_BASE + 4),
            width: AccessWidth::Dword,
        })
    }

    fn unless_interrupted(&self, exit: Exit) -> Exit {
        let timer = self.timer.load(Ordering::Relaxed);
        let fired = timer != 0 && self.now() >= timer;
        if fired {
            self.timer.store(0, Ordering::Relaxed);
        }
        if take_kick() || fired { Exit::ExternalInterrupt { vector: 0 } } else { exit }
    }
}

impl VmHost for Arc<Sim> {
    fn now_ns(&self) -> u64 {
        self.now()
    }

    fn wait(&self, deadline_ns: Option<u64>) {
        if !take_kick() {
            let deadline = deadline_ns.expect("everybody waits forever");
            self.now.fetch_max(deadline, Ordering::Relaxed);
        }
    }

    fn begin_slice(&self, end_ns: Option<u64>) -> bool {
        self.timer.store(end_ns.unwrap_or(0), Ordering::Relaxed);
        self.open_ended.fetch_add(end_ns.is_none().into(), Ordering::Relaxed);
        true
    }
}

/// Time, by vCPU, that was spent in its guest.
type Used = Arc<[AtomicU64; 4]>;

fn used(used: &Used) -> [u64; 4] {
    core::array::from_fn(|cpu| used[cpu].load(Ordering::Relaxed))
}

/// Starts the harts after the first, then does what `program` does.
fn boss(harts: u64, mut program: impl FnMut(&mut Regs) -> Exit + Send + 'static) -> Program {
    Box::new(move |regs| match regs.step as u64 + 1 {
        hart if hart < harts => ecall(hsm::EID_HSM, hsm::HART_START, [hart, RAM_BASE, 0]),
        _ => program(regs),
    })
}

/// A guest that computes without end, but ends the machine at `end`.
fn spins(
    sim: &Arc<Sim>,
    used: &Used,
    cpu: usize,
    end: u64,
) -> impl FnMut(&mut Regs) -> Exit + use<> {
    let (sim, used) = (sim.clone(), used.clone());
    move |_| {
        if sim.now() >= end {
            return ecall(srst::EID_SRST, 0, [0, 0, 0]);
        }
        used[cpu].fetch_add(STEP, Ordering::Relaxed);
        sim.step()
    }
}

/// A guest that computes for `work` and sleeps for `nap`, over and over. Answers in `late` how much later than
/// it wanted it was woken at worst.
fn naps(
    sim: &Arc<Sim>,
    used: &Used,
    cpu: usize,
    (work, nap): (u64, u64),
    late: &Arc<AtomicU64>,
) -> Program {
    let (sim, used, late) = (sim.clone(), used.clone(), late.clone());
    let mut worked = 0;
    let mut wanted = None;
    Box::new(move |_| {
        if let Some(wanted) = wanted.take() {
            late.fetch_max(sim.now() - wanted, Ordering::Relaxed);
        }
        if worked < work {
            worked += STEP;
            used[cpu].fetch_add(STEP, Ordering::Relaxed);
            return sim.step();
        }
        worked = 0;
        wanted = Some(sim.now() + nap);
        Exit::Halt { wake_after_ns: Some(nap) }
    })
}

fn run(programs: Vec<Program>, sim: &Arc<Sim>) -> RiscvVm<Fake> {
    let (vm, _) = machine(programs);
    let cpus: Vec<_> = (0..vm.cpus().len()).collect();
    assert_eq!(vm.run_vcpus(&cpus, sim), Outcome::PowerOff);
    for cpu in vm.cpus() {
        assert_eq!(cpu.vcpu().state(), VCpuState::Free);
    }
    vm
}

#[test]
fn guests_that_compute_get_the_same_time() {
    for harts in 2..=4 {
        let (sim, time) = (Arc::new(Sim::default()), Used::default());
        let mut programs = vec![boss(harts, spins(&sim, &time, 0, 200 * MS))];
        programs.extend(
            (1..harts as usize)
                .map(|cpu| -> Program { Box::new(spins(&sim, &time, cpu, u64::MAX)) }),
        );
        let vm = run(programs, &sim);
        let fair = 200 * MS / harts;
        for &time in &used(&time)[..harts as usize] {
            assert!(time.abs_diff(fair) <= 2 * SLICE_NS, "{time} of {harts}");
        }
        // One interrupt for each slice, and those that started the others.
        let interrupts = vm.total_stats().count(ExitKind::ExternalInterrupt);
        assert!(interrupts <= 200 * MS / SLICE_NS + harts, "{interrupts}");
    }
}

#[test]
fn who_waits_costs_nothing() {
    let (sim, time) = (Arc::new(Sim::default()), Used::default());
    let idle: Program = Box::new(|_| Exit::Halt { wake_after_ns: None });
    let off: Program = Box::new(|_| panic!("this hart is off"));
    let vm = run(vec![boss(2, spins(&sim, &time, 0, 50 * MS)), idle, off], &sim);
    assert_eq!(vm.stats()[1].total(), 1);
    // No slices either: the kick that announced the other hart is the only interrupt there is.
    assert!(vm.stats()[0].count(ExitKind::ExternalInterrupt) <= 2);
    assert!(sim.open_ended.load(Ordering::Relaxed) > 0);
}

#[test]
fn deadlines_are_met_while_others_run() {
    let (sim, time) = (Arc::new(Sim::default()), Used::default());
    let late = Arc::default();
    let programs = vec![
        boss(3, spins(&sim, &time, 0, 100 * MS)),
        naps(&sim, &time, 1, (STEP, 3 * MS + 70 * US), &late),
        Box::new(spins(&sim, &time, 2, u64::MAX)) as Program,
    ];
    let vm = run(programs, &sim);
    assert!(vm.stats()[1].count(ExitKind::Halt) >= 30);
    assert!(late.load(Ordering::Relaxed) <= STEP, "{late:?}");
}

#[test]
fn who_is_interrupted_runs_at_once() {
    let (sim, time) = (Arc::new(Sim::default()), Used::default());
    let latency = Arc::new(AtomicU64::new(0));
    let sent = Arc::new(AtomicU64::new(0));
    let mut spin = spins(&sim, &time, 0, 100 * MS);
    let (clock, when) = (sim.clone(), sent.clone());
    let first = boss(3, move |regs| {
        if regs.step % 50 == 0 {
            when.store(clock.now(), Ordering::Relaxed);
            return clock.unless_interrupted(ecall(spi::EID_SPI, spi::SEND_IPI, [0b10, 0, 0]));
        }
        spin(regs)
    });
    let (clock, worst) = (sim.clone(), latency.clone());
    let woken: Program = Box::new(move |regs| {
        if regs.interrupts.pop().is_some() {
            let waited = clock.now() - sent.load(Ordering::Relaxed);
            worst.fetch_max(waited, Ordering::Relaxed);
        }
        Exit::Halt { wake_after_ns: None }
    });
    let vm = run(vec![first, woken, Box::new(spins(&sim, &time, 2, u64::MAX))], &sim);
    assert!(vm.stats()[1].count(ExitKind::Halt) >= 50);
    assert!(latency.load(Ordering::Relaxed) <= STEP, "{latency:?}");
}

/// One that always wants to run after a short nap gets no more than one that never naps.
#[test]
fn who_is_woken_does_not_starve_others() {
    let (sim, time) = (Arc::new(Sim::default()), Used::default());
    let late = Arc::default();
    let programs = vec![
        boss(3, spins(&sim, &time, 0, 300 * MS)),
        naps(&sim, &time, 1, (SLICE_NS - STEP, STEP), &late),
        naps(&sim, &time, 2, (STEP, STEP), &late),
    ];
    run(programs, &sim);
    let [spinner, greedy, other, _] = used(&time);
    assert!(spinner + 4 * SLICE_NS >= 100 * MS, "{spinner} {greedy} {other}");
    assert!(greedy.abs_diff(100 * MS) <= 30 * MS, "{spinner} {greedy} {other}");
}

#[test]
fn all_wait_for_the_nearest_deadline() {
    let (sim, time) = (Arc::new(Sim::default()), Used::default());
    let late = Arc::default();
    let clock = sim.clone();
    let first = boss(3, move |_| {
        if clock.now() >= 100 * MS {
            return ecall(srst::EID_SRST, 0, [0, 0, 0]);
        }
        Exit::Halt { wake_after_ns: Some(40 * MS) }
    });
    let programs = vec![
        first,
        naps(&sim, &time, 1, (STEP, 3 * MS), &late),
        naps(&sim, &time, 2, (STEP, 5 * MS), &late),
    ];
    let vm = run(programs, &sim);
    assert!(sim.now() < 121 * MS);
    assert!(vm.stats()[1].count(ExitKind::Halt).abs_diff(40) <= 2);
    assert!(vm.stats()[2].count(ExitKind::Halt).abs_diff(24) <= 2);
    assert!(late.load(Ordering::Relaxed) <= 2 * STEP, "{late:?}");
}

#[test]
fn no_vcpus_are_refused() {
    let (vm, _) = machine(vec![Box::new(|_| panic!("never run"))]);
    let sim = Arc::new(Sim::default());
    let error = axvcpu::AxError::InvalidInput;
    assert_eq!(vm.run_vcpus(&[], &sim), Outcome::CpuFailed { cpu: 0, error });
    let (vm, _) = machine(vec![Box::new(|_| panic!("never run"))]);
    // The second time it is bound already.
    assert!(matches!(vm.run_vcpus(&[0, 0], &sim), Outcome::CpuFailed { cpu: 0, .. }));
    assert_eq!(vm.cpus().get(0).unwrap().vcpu().state(), VCpuState::Free);
}
