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
//! * `tests/conformance.rs` holds the backend to the contract, and then again with one [`Mistake`] after the other in it: a
//!   suite that does not notice is worth nothing.
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

/// A mistake to make deliberately. The first and the last break what
/// [`set_ept_root`](axvcpu::AxArchVCpu::set_ept_root) relies on, so a host that asks for them keeps all memory that it has
/// ever mapped, and accesses it as if guests may do so at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// Keeps translations that a fence says are stale.
    ForgetsStage2Fence,
    /// Keeps instructions that a fence says are stale.
    ForgetsInstructionFence,
    /// A second interrupt takes the first one's place.
    LosesInterrupts,
    /// The guest gets an answer as it was given, with more bits than its instruction loads.
    IgnoresTheWidth,
    /// The guest goes on behind a load from a device without the answer.
    GoesOnWithoutTheAnswer,
    /// Halts although an interrupt is pending.
    SleepsThroughInterrupts,
    /// Stores that are to be done again are not.
    DoesNotRetryStores,
    /// A failed access leaves the guest where it was.
    FailsSilently,
    /// A reset leaves pending interrupts.
    ResetKeepsInterrupts,
    /// Stores to read-only memory.
    IgnoresPermissions,
}
