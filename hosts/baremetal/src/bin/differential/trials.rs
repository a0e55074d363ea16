//! Trials on both: the software hart is the one that hardware is compared with.
#![allow(unsafe_code)] // gives vCPUs their memory

use alloc::format;
use alloc::string::String;

use axvcpu::{AxMmHal, AxResult, HostPhysAddr};
use axvcpu_baremetal::{Hal, Host, Mem, time};
use axvcpu_differential::trial::{Coverage, Difference, Machine, PAGES, State, Trial, follow};
use axvcpu_riscv::csr::cause;
use axvcpu_riscv64::{RiscvConfig, RiscvVCpu};
use axvcpu_soft::{Clock, SoftConfig, SoftVCpu, VirtualClock};
use axvcpu_vmm::VmHost;

/// A run that takes so long does not end: it takes microseconds.
const PATIENCE_NS: u64 = 1_000_000_000;

/// Memory for a machine.
struct Ram(HostPhysAddr);

impl Ram {
    fn new() -> Result<Self, String> {
        Mem::alloc_ram(PAGES).map(Self).ok_or_else(|| "no memory for a guest".into())
    }
}

impl Drop for Ram {
    fn drop(&mut self) {
        // SAFETY: taken in `new`; the machine that used it is gone, see `Trials`.
        unsafe { Mem::dealloc_contiguous(self.0, PAGES) };
    }
}

/// The two machines, which do one trial after the other. Fields are dropped in this order: the memory last.
pub(crate) struct Trials {
    soft: Machine<SoftVCpu<Hal>>,
    hard: [Machine<RiscvVCpu<Hal>>; 2],
    coverage: Coverage,
    _rams: [Ram; 3],
}

fn visit_soft(arch: &SoftVCpu<Hal>, f: &mut dyn FnMut(u64)) -> AxResult {
    arch.visit_state(f);
    Ok(())
}

fn visit_hard(arch: &RiscvVCpu<Hal>, f: &mut dyn FnMut(u64)) -> AxResult {
    arch.visit_state(f)
}

/// Whether a trap leads QEMU's harts elsewhere than to the guest's handler. Illegal instructions and misaligned accesses
/// are the firmware's first; OpenSBI, which passes them on, writes all of `vstvec` to `mepc`: with the mode in bit 0,
/// which is always 0 in `mepc` (privileged architecture, "Machine Exception Program Counter Register"), but not on
/// QEMU.
fn is_misled(state: &State) -> bool {
    const PASSED_ON: [u64; 3] = [cause::ILLEGAL, cause::LOAD_MISALIGNED, cause::STORE_MISALIGNED];
    state.stvec() & 1 != 0 && PASSED_ON.contains(&state.scause())
}

/// Has the timer end a run that does not end by itself.
fn watch() {
    Host::default().begin_slice(Some(time::now_ns() + PATIENCE_NS));
}

impl Trials {
    pub(crate) fn new(timebase: u64) -> Result<Self, String> {
        let rams = [Ram::new()?, Ram::new()?, Ram::new()?];
        let clock = Clock::Instructions(VirtualClock::new());
        let hard = |ram: &Ram, fetch_always| {
            let config = RiscvConfig { timebase, fetch_always, ..RiscvConfig::new() };
            // SAFETY: the memory is this machine's alone, and dropped after it.
            unsafe { Machine::new(config, ram.0, visit_hard, watch) }
        };
        // SAFETY: as above.
        let soft = unsafe { Machine::new(SoftConfig::new(clock), rams[0].0, visit_soft, || {}) }?;
        // One of them as on harts that do not tell which instruction it was.
        let hard = [hard(&rams[1], false)?, hard(&rams[2], true)?];
        Ok(Self { soft, hard, coverage: Coverage::default(), _rams: rams })
    }

    /// Does the trial of `seed`, and tells the first exit that is different.
    pub(crate) fn compare(&mut self, seed: u64, exits: usize) -> Result<Option<String>, String> {
        let trial = Trial::new(seed, exits)?;
        let mut coverage = core::mem::take(&mut self.coverage);
        let found = self.follow(&trial, &mut coverage);
        self.coverage = coverage;
        let Some(Difference { exit, text }) = found? else { return Ok(None) };
        let whole = format!("exit {exit} is different, after\n{text}");
        let mut short = trial;
        short.exits = exit + 1;
        let short = short.shrink(|trial| {
            self.follow(trial, &mut Coverage::default()).map(|found| found.is_some())
        })?;
        let again = self.follow(&short, &mut Coverage::default())?;
        Ok(Some(match again {
            Some(Difference { exit, text }) => {
                let steps = short.steps();
                format!(
                    "{whole}made short, {steps} steps are left, and exit {exit} differs after\n{text}"
                )
            }
            None => format!("{whole}it is not different again\n"),
        }))
    }

    pub(crate) fn coverage(&self) -> &Coverage {
        &self.coverage
    }

    fn follow(
        &mut self,
        trial: &Trial,
        coverage: &mut Coverage,
    ) -> Result<Option<Difference>, String> {
        // Two seeds of each kind of guest for either.
        let [first, second] = &mut self.hard;
        let hard = if trial.seed / 2 % 2 == 0 { first } else { second };
        follow(trial, &mut self.soft, hard, is_misled, coverage)
    }
}
