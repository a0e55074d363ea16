//! The contract for a backend of any architecture: the cases that need no more of its instructions than every instruction
//! set has.
//!
//! [`riscv`](crate::riscv), [`arm`](crate::arm) and [`x86`](crate::x86) know their architectures: they run these cases, and
//! far more. For an architecture that the suite does not know, its author says once how guests for it are written:
//!
//! 1. an assembler: [`Program`], what every guest does, and [`Instructions`], the few instructions that cases are made of;
//! 2. a type that stands for the architecture: [`Isa`], where guests live and how they call the suite;
//!    [`Architecture`], its registers, vectors and traps;
//! 3. for each backend a [`Subject`], whose [`Guests`](Subject::Guests) is that type, with [`GuestsOf`]: which shape of
//!    stage-2 tables the backend takes. The entries of these tables are a [`Format`].
//!
//! [`run`] does the rest. The toy architecture in `examples/toy` of the repository has all of it in one place, backend
//! included.
//!
//! ```
//! use axvcpu_conformance::generic;
//!
//! fn check(backend: &impl generic::Subject) {
//!     let report = generic::run(backend);
//!     assert!(report.is_passed(), "{report}");
//! }
//! ```
//!
//! A backend need not reset, undo or fail anything: [`Unsupported`](axvcpu::AxError::Unsupported) skips the cases about it.
//! Fences it has to carry out, and one that has nothing to forget says that it has.
//!
//! What it cannot check, because it differs from one architecture to the next, is left to cases of the author's own: the
//! state after a reset in every register, exceptions, the guest's own page tables, interrupt lines, timers, floating
//! point and vectors, and system registers. They are functions that take the subject and come to a [`Verdict`], and
//! [`run_cases`] runs them. A [`Bench`] has what one needs: a machine whose guest is about to start, and vCPUs of which
//! something is expected. Errors of calls that succeed if the backend keeps the contract end the case by `?`, and a
//! [`Failure`](crate::Failure) says what was found instead.

mod accesses;
mod adapter;
mod cpus;
mod fences;
mod interrupts;
mod lifecycle;
mod program;
mod requests;

use alloc::vec::Vec;

pub use axvcpu_stage2::{Format, Perms};
pub use program::{Architecture, Atomic, Instructions, Reg};

pub use crate::bench::{Bench, Call, GuestsOf, Hart, Isa, Mm, Program, SetupConfig, pattern};
pub use crate::memory::Space;
use crate::report::Report;
pub use crate::report::{NamedCase, Stop, Verdict, run_cases};

/// What the suite for any architecture needs besides from a backend's author.
pub trait Subject: crate::Subject + Sized {
    /// The backend's architecture, as far as the suite has to know it.
    type Guests: Architecture + GuestsOf<Self>;
}

/// Runs every case on `subject`. Call it on a physical CPU on which virtualization is on. If what the guests'
/// [`Architecture`] is said to be cannot be right (places that overlap, entries of stage-2 tables that lead elsewhere than they
/// should), the report has that and no case.
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
    let adapter = adapter::check::<S::Guests>(S::Guests::format(subject));
    if adapter.is_err() {
        // No case would say anything about the backend.
        let mut report = Report::new(subject.name());
        report.add("the guests' addresses, registers and stage-2 format", adapter);
        return report;
    }
    run_cases(subject, cases::<S, S::Guests>(), filter, before)
}

/// The cases for any architecture.
pub(crate) fn cases<S: crate::Subject, I: Architecture + GuestsOf<S>>() -> Vec<NamedCase<S>> {
    let groups: [&[NamedCase<S>]; 6] = [
        &lifecycle::cases::<S, I>(),
        &accesses::cases::<S, I>(),
        &fences::cases::<S, I>(),
        &interrupts::cases::<S, I>(),
        &requests::cases::<S, I>(),
        &cpus::cases::<S, I>(),
    ];
    groups.into_iter().flatten().copied().collect()
}
