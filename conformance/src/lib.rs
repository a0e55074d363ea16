//! What every AxVCpu backend must do, as tests.
//!
//! A backend's author implements [`Subject`] for it and what its architecture's suite asks besides, calls
//! [`riscv::run`], [`arm::run`] or [`x86::run`] and reads the [`Report`]: one line for each case of the contract, and
//! `N passed, N failed` at the end. The backend is done when nothing failed. [`generic::run`] has cases for any
//! architecture, those that the suite does not know included.
//!
//! The cases run guests of their own making on real vCPUs: the life cycle and its refusals, every exit with
//! every width and register, answers, interrupts, kicks and wake-ups, faults in both stages of translation,
//! fences, timers, and the isolation of one vCPU's registers from another's. They need nothing but the backend
//! and its [`AxVCpuHal`](axvcpu::AxVCpuHal), take a second or two on an interpreter, and run hosted and on bare
//! metal.
//!
//! ```
//! use axvcpu_conformance::riscv;
//!
//! fn check(backend: &impl riscv::Subject) {
//!     let report = riscv::run(backend);
//!     assert!(report.is_passed(), "{report}");
//! }
//! ```
//!
//! Two things only the one who runs the suite can do: a guest that a broken backend never lets go keeps it
//! running, so give it a time limit ([`riscv::run_matching`] tells which case it is); and a backend that panics
//! takes the suite along.

#![no_std]

extern crate alloc;

pub mod arm;
mod bench;
pub mod generic;
mod hostile;
mod memory;
mod percpu;
mod random;
mod report;
mod requests;
pub mod riscv;
mod subject;
mod turns;
pub mod x86;

pub use percpu::run_per_cpu;
pub use report::{Case, Failure, Outcome, Report};
pub use subject::Subject;

pub(crate) use report::fail;
