//! A backend for an architecture that nobody has built: a complete example of what it takes to bring AxVCpu a new one.
//!
//! The [instruction set](isa) has a dozen instructions, no page tables of its own and one privilege level. Everything the
//! contract speaks of is there all the same: memory behind stage-2 tables, devices whose answers the backend puts where they
//! belong, interrupts, a wait, calls to the host, and caches that only fences empty.
//!
//! * `hart` executes instructions: an interpreter takes the place of hardware.
//! * `vcpu` is the backend, [`ToyVCpu`] and [`ToyPerCpu`].
//! * `tests/guests` tells the conformance suite how guests for the architecture are written.
//! * `tests/cases` has the cases that only this architecture can have.
//! * `tests/conformance.rs` holds the backend to the contract, and then again with one mistake of `tests/mistakes` after the
//!   other in it: a suite that does not notice is worth nothing.
//!
//! Stage-2 tables are those of RISC-V's Sv39x4, because an architecture made up may as well take what is there. Which
//! format it is makes no difference to anything but [`FORMAT`].

#![no_std]

mod hart;
pub mod isa;
mod vcpu;

use axvcpu_riscv::paging::{Mode, SV39X4};

pub use vcpu::{ToyPerCpu, ToyVCpu};

/// The format of stage-2 tables.
pub const FORMAT: Mode = SV39X4;
