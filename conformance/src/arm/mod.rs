//! The contract for AArch64 backends.
//!
//! What it adds to the text of [`axvcpu`]: general-purpose registers are `x0` to `x30`, and 31 is the zero register;
//! `HVC #0` and `SMC #0` are hypercalls with `x0` and `x1..x6`, and their `pc` is already behind the instruction; plain,
//! naturally aligned loads and stores of one register that stage 2 refuses are MMIO, write-back included, everything
//! else is a nested page fault; `fail_access` is a synchronous external abort; `WFI` with nothing pending is a halt;
//! interrupt vectors are INTIDs below 1020, of which 16 to 63 are also lines; a write to `ICC_SGI1R_EL1` is an
//! interrupt for others; the guest's timers are the CPU's own; implementation-defined system registers are the
//! hypervisor's, all others the guest's or undefined.

mod architecture;
mod bench;
mod calls;
mod exits;
mod faults;
mod fences;
mod float;
mod gic;
mod guest;
mod hostile;
mod interrupts;
mod isolation;
mod lifecycle;
mod migration;
mod mmio;
mod paging;
mod registers;
mod requests;
mod sve;
mod timers;

use alloc::sync::Arc;

use axvcpu::{AxArchVCpu, AxResult};
use axvcpu_arm::gic::Forwarding;
use axvcpu_arm::stage2::{IPA39, Ipa};

pub use bench::{Arm, Trap};

use crate::generic;
use crate::report::{NamedCase, Report, run_cases};

/// What the suite for AArch64 needs besides from a backend's author.
///
/// vCPUs made by [`create_config`](crate::Subject::create_config) have no distributor: all interrupts are enabled,
/// with one priority.
pub trait Subject: crate::Subject {
    /// What a new vCPU is made with whose interrupts `forwarding` knows. Otherwise as
    /// [`create_config`](crate::Subject::create_config).
    fn forwarding_config(
        &self,
        forwarding: Arc<dyn Forwarding>,
    ) -> AxResult<<Self::Arch as AxArchVCpu>::CreateConfig>;

    /// The shape of the stage-2 tables the backend is given.
    fn stage2(&self) -> Ipa {
        IPA39
    }

    /// The frequency of the guest's counters in hertz (`CNTFRQ_EL0`).
    fn time_base(&self) -> u64;

    /// Whether atomic read-modify-write instructions exist (FEAT_LSE).
    fn has_atomics(&self) -> bool {
        false
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
    let own: [&[NamedCase<S>]; 14] = [
        &lifecycle::cases(),
        &calls::cases(),
        &mmio::cases(),
        &exits::cases(),
        &faults::cases(),
        &fences::cases(),
        &interrupts::cases(),
        &gic::cases(),
        &requests::cases(),
        &timers::cases(),
        &isolation::cases(),
        &migration::cases(),
        &registers::cases(),
        &hostile::cases(),
    ];
    let any = generic::cases::<S, Arm>();
    run_cases(subject, any.into_iter().chain(own.into_iter().flatten().copied()), filter, before)
}
