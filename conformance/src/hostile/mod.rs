//! Guests that try whatever they like: what is the same on every architecture.
//!
//! Nothing is expected of them but that every run comes back, with an exit that makes sense. What is checked is all else:
//! that the vCPU is one like any other after a reset, that another guest on the same CPU has noticed nothing and yet another
//! one starts, that host memory which is not the guest's holds what it did, and, where the platform can say, that no more
//! memory is in use than at the beginning.
//!
//! An architecture says how its guests are dealt with ([`Hostile`]) and makes the programs. There are two ways to try many
//! things: one [`Sandbox::start`] each, or [`slots`], which leads a guest from one instruction to the next.

mod cases;
mod sandbox;
mod slots;

use axvcpu::AxMmHal;

pub(crate) use cases::{Victim, fault_loop, interrupt_storm, jumps, random_pages, storm};
pub(crate) use sandbox::{Pressure, Sandbox, attack};
pub(crate) use slots::{Slots, slots};

use crate::bench::{Exit, GuestsOf, Hart, Mm};
use crate::memory::Space;
use crate::report::Verdict;
use crate::subject::Subject;

/// An architecture whose guests can be hostile.
pub(crate) trait Hostile<S: Subject>: GuestsOf<S> + Sized + 'static {
    /// The bytes for an instruction under test. A power of two.
    const SLOT: usize;
    /// What is behind it: instructions that trap, whatever follows, in little endian.
    const TRAPS: u64;
    /// In which ways programs can be run.
    const MODES: &'static [Mode];
    /// Interrupts that may come to a guest.
    const VECTORS: &'static [usize];
    /// One that is a line too.
    const LINE: Option<usize>;

    /// Sends a guest whose handler has just reported on its way at another address.
    fn go_on_at(hart: &Hart<S, Self>, address: u64) -> Verdict {
        Ok(hart.vcpu.set_return_value(address)?)
    }

    /// Gives values to the registers of a guest whose handler has just reported, as far as the handler lets it have them.
    fn set_registers(
        hart: &Hart<S, Self>,
        space: &Space<Mm<S>, Self::Format>,
        values: impl FnMut(usize) -> u64,
    ) -> Verdict;

    /// Writes anew what guests need besides their program.
    fn repair<M: AxMmHal>(space: &Space<M, Self::Format>) -> Verdict {
        let _ = space;
        Ok(())
    }

    /// Whether an exit may be the end of a guest that does what it likes: of no use to anybody before a reset.
    fn is_last(exit: &Exit) -> bool {
        let _ = exit;
        false
    }

    /// Whether what the handler reported came from a program, and not from the supervisor.
    fn is_user(trap: &Self::Trap) -> bool;

    /// Whether it was an interrupt.
    fn is_interrupt(trap: &Self::Trap) -> bool;
}

/// A way to run a program that is tried out. The guest's own program finds the registers set like this, and goes to the
/// window accordingly.
pub(crate) struct Mode {
    /// What it is called.
    pub(crate) name: &'static str,
    /// What to tell the guest's program.
    pub(crate) registers: &'static [(usize, u64)],
    /// Where the window is then.
    pub(crate) window: u64,
    /// Whether it is no supervisor.
    pub(crate) user: bool,
}
