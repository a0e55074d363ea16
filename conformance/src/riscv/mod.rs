//! The contract for RISC-V backends.
//!
//! What it adds to the text of [`axvcpu`]: general-purpose registers are `x0` to `x31`; interrupt vectors are
//! the interrupt codes of `scause`, 1, 5 and 9, of which 9 is also a line; environment calls from VS-mode are
//! hypercalls with `a7`, `a6` and `a0..a5`, and their `pc` is already behind the `ecall`; SBI's timer extension
//! (and the legacy call) is finished inside of the backend; plain, naturally aligned loads and stores that stage
//! 2 refuses are MMIO, everything else is a nested page fault; `wfi` with nothing pending is a halt.

mod architecture;
mod bench;
mod calls;
mod exits;
mod faults;
mod fences;
mod float;
mod guest;
mod hostile;
mod interrupts;
mod isolation;
mod lifecycle;
mod migration;
mod mmio;
mod timers;
mod vector;

use axvcpu_riscv::paging::{Mode, SV39X4};

pub use bench::{Riscv, Trap};

use crate::generic;
use crate::report::{NamedCase, Report, run_cases};

/// What the suite for RISC-V needs besides from a backend's author.
pub trait Subject: crate::Subject {
    /// The format of the stage-2 tables the backend is given.
    fn stage2_mode(&self) -> Mode {
        SV39X4
    }

    /// The frequency of the guest's `time` counter in hertz.
    fn time_base(&self) -> u64 {
        10_000_000
    }

    /// Whether guests have a timer register of their own, `stimecmp` (Sstc). If not, it is as illegal as any register
    /// there is not, and they set their timer with the SBI's call.
    fn has_stimecmp(&self) -> bool {
        true
    }

    /// Whether the hart takes the most important of several interrupts first, as the privileged architecture has it
    /// ("Supervisor Interrupt Registers"), whatever their numbers. QEMU's harts do not without Ssaia.
    fn orders_interrupts(&self) -> bool {
        true
    }
}

/// Runs every case on `subject`, those for any architecture first. Call it on a physical CPU on which virtualization is on.
pub fn run<S: Subject>(subject: &S) -> Report {
    run_matching(subject, "", |_| ())
}

/// Runs the cases whose names contain `filter`, and calls `before` with the name of each before it runs: for
/// whoever tells time, because a broken backend may not come back from a case.
pub fn run_matching<S: Subject>(
    subject: &S,
    filter: &str,
    before: impl FnMut(&'static str),
) -> Report {
    let own: [&[NamedCase<S>]; 11] = [
        &lifecycle::cases(),
        &calls::cases(),
        &mmio::cases(),
        &exits::cases(),
        &faults::cases(),
        &fences::cases(),
        &interrupts::cases(),
        &timers::cases(),
        &isolation::cases(),
        &migration::cases(),
        &hostile::cases(),
    ];
    let any = generic::cases::<S, Riscv>();
    run_cases(subject, any.into_iter().chain(own.into_iter().flatten().copied()), filter, before)
}
