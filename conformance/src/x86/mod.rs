//! The contract for x86-64 backends.
//!
//! What it adds to the text of [`axvcpu`]: general-purpose registers have the numbers of
//! [`axvcpu_x86::reg::gpr`], 0 to 15; a vCPU starts in the mode it was set up for; `IN` and `OUT` are exits, and each
//! element of a string instruction is one; loads and stores that stage 2 refuses are MMIO, whatever instruction makes them,
//! and atomic ones are a read and then a write; an instruction fetch that it refuses is a nested page fault; `HLT` with
//! nothing pending is a halt; interrupt vectors are those of the IDT, from 32 to 255 at least, the highest is taken
//! first, and 2 is the NMI; an access that is failed finds ones, as on a bus where nobody answers, and what is written goes nowhere; ones
//! that were fetched are an undefined instruction; a triple fault is a crash of the system; exceptions of the guest are the guest's.
//!
//! Guests report through a port of the suite's own, because a hypervisor below the backend may keep hypercalls for itself.

mod architecture;
mod bench;
mod device;
mod exceptions;
mod exits;
mod faults;
mod fences;
mod guest;
mod hostile;
mod interrupts;
mod isolation;
mod lifecycle;
mod mmio;
mod msrs;
mod ports;
mod requests;

use axvcpu::AxArchVCpu;
use axvcpu_x86::start::Start;

pub use bench::{Trap, X86};

use crate::generic;
use crate::report::{NamedCase, Report, run_cases};

/// What the suite for x86-64 needs besides from a backend's author.
///
/// The stage-2 tables the backend is given are [EPT](axvcpu_x86::ept)'s. vCPUs have no local APIC that would stand between
/// them and [`inject_interrupt`](axvcpu::AxVCpu::inject_interrupt). [`setup_config`](crate::Subject::setup_config) makes a vCPU
/// that starts in real mode.
pub trait Subject: crate::Subject {
    /// What a vCPU is set up with that starts like this.
    fn setup_for(&self, start: Start) -> <Self::Arch as AxArchVCpu>::SetupConfig;

    /// Whether memory that stage 2 maps without permission to execute cannot be executed.
    fn enforces_execute(&self) -> bool {
        true
    }

    /// Whether a walk of the guest's page tables that leads to where stage 2 maps nothing is a nested page fault. If not
    /// the guest has a fault of its own.
    fn reports_walks(&self) -> bool {
        true
    }

    /// Whether a guest's `VMCALL` or `VMMCALL` is a hypercall.
    fn has_hypercalls(&self) -> bool {
        true
    }

    /// Whether the CPU's hypercall is AMD's `VMMCALL`, and not Intel's `VMCALL`.
    fn calls_with_vmmcall(&self) -> bool {
        false
    }

    /// Whether accesses to model-specific registers that there are not are exits.
    fn reports_msrs(&self) -> bool {
        true
    }

    /// Whether an instruction that few guests have may be an internal error, because what is below the backend emulates the
    /// guest and does not know them all.
    fn emulates(&self) -> bool {
        false
    }

    /// Whether [`set_interrupt_line`](axvcpu::AxVCpu::set_interrupt_line) is supported, for the vectors from 32 on.
    fn lines(&self) -> bool {
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
    let own: [&[NamedCase<S>]; 13] = [
        &lifecycle::cases(),
        &ports::cases(),
        &mmio::cases(),
        &device::cases(),
        &exits::cases(),
        &faults::cases(),
        &fences::cases(),
        &exceptions::cases(),
        &msrs::cases(),
        &interrupts::cases(),
        &requests::cases(),
        &isolation::cases(),
        &hostile::cases(),
    ];
    let any = generic::cases::<S, X86>();
    run_cases(subject, any.into_iter().chain(own.into_iter().flatten().copied()), filter, before)
}
