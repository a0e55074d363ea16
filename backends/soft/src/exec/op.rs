//! Decoded instructions, and the pointer that walks along them.
//!
//! An [`Op`] holds the function that executes it. Each such handler ends by calling the next op's, with the
//! same arguments in the same registers, so that the compiler makes it a jump: execution threads through the
//! handlers without returning in between. Where the compiler makes real calls instead (a debug build), the
//! stack stays bounded because a slice of execution is ([`SLICE`](crate::exec::SLICE)).
#![allow(unsafe_code)] // `Cursor` walks along the ops of a block

use core::cell::Cell;
use core::ptr::NonNull;

use crate::hart::Hart;

/// A register operand. Being an enum makes every value a valid index into a register file without a check.
/// Writes to `x0` are decoded as writes to [`R::Sink`], which nobody reads.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[rustfmt::skip]
pub(crate) enum R {
    X0, X1, X2, X3, X4, X5, X6, X7, X8, X9, X10, X11, X12, X13, X14, X15, X16, X17, X18, X19, X20, X21, X22,
    X23, X24, X25, X26, X27, X28, X29, X30, X31, Sink,
}

/// Entries of a register file: 32, and the sink.
pub(crate) const REGS: usize = 33;

impl R {
    #[rustfmt::skip]
    const ALL: [Self; 32] = {
        use R::*;
        [X0, X1, X2, X3, X4, X5, X6, X7, X8, X9, X10, X11, X12, X13, X14, X15, X16, X17, X18, X19, X20, X21,
         X22, X23, X24, X25, X26, X27, X28, X29, X30, X31]
    };

    /// The register of a 5-bit field, as a source or as a floating-point register.
    #[inline]
    pub(crate) const fn src(field: u32) -> Self {
        Self::ALL[(field & 31) as usize]
    }

    /// The integer register of a 5-bit field, as a destination.
    #[inline]
    pub(crate) const fn dst(field: u32) -> Self {
        if field & 31 == 0 { Self::Sink } else { Self::src(field) }
    }
}

/// Executes one op and everything after it, until something stops the slice.
///
/// Arguments beside the hart: the op, the virtual address of its block's first instruction, and how many
/// instructions the slice may still execute (as of the start of the block).
pub(crate) type Handler = fn(&mut Hart, Cursor, u64, i64) -> Stop;

/// An instruction's effect, and the way on from there. Implemented by types without values, so that handlers
/// can be put together from them.
pub(super) trait Execute {
    /// What a [`Handler`] does.
    fn execute(h: &mut Hart, c: Cursor, pc: u64, left: i64) -> Stop;
}

/// An instruction after which the next one in memory follows, as a rule.
pub(super) trait Plain {
    /// Performs it and answers `true`, or changes nothing and answers `false`: then
    /// [`execute_slowly`](Self::execute_slowly) has to be called.
    fn perform(h: &mut Hart, op: &Op, pc: u64) -> bool;

    /// Executes what [`perform`](Self::perform) could not, and everything after it.
    fn execute_slowly(_h: &mut Hart, _c: Cursor, _pc: u64, _left: i64) -> Stop {
        unreachable!("only instructions that can answer `false` get here, and they have their own")
    }
}

impl<T: Plain> Execute for T {
    #[inline(always)]
    fn execute(h: &mut Hart, c: Cursor, pc: u64, left: i64) -> Stop {
        if T::perform(h, c.op(), pc) {
            super::step(h, c, pc, left)
        } else {
            T::execute_slowly(h, c, pc, left)
        }
    }
}

/// The handler of `T`.
pub(super) fn execute<T: Execute>(h: &mut Hart, c: Cursor, pc: u64, left: i64) -> Stop {
    T::execute(h, c, pc, left)
}

/// Why the handlers returned. Whatever it is, `Hart::pc` says where to go on, and `Hart::left` what is left
/// of the slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Stop {
    /// Go on at `pc`, after a look at the interrupts.
    Next,
    /// Go on at `pc`, and remember in `Hart::patch` where that leads.
    Link,
    /// Leave the guest: `Hart::exit` says why.
    Exit,
}

/// One decoded instruction.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Op {
    /// What executes it.
    pub(crate) run: Handler,
    /// The immediate, sign-extended; or what else the handler needs.
    pub(crate) imm: i32,
    pub(crate) rd: R,
    pub(crate) rs1: R,
    pub(crate) rs2: R,
    /// Where the instruction is: halfwords from the start of the block.
    pub(crate) at: u8,
}

/// Where a block leads: lies behind the op that ends it.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Exits {
    /// Instructions in the block.
    pub(crate) count: u32,
    /// Bytes in the block: the offset of the instruction that follows it.
    pub(crate) len: u32,
    /// The target of the jump or of the taken branch.
    pub(crate) taken: Link,
    /// What follows in memory.
    pub(crate) fall: Link,
}

/// A remembered way to another block of the same page; good in the epoch it was made in.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Link(Cell<(u64, Cursor)>);

impl Link {
    /// Leads nowhere yet. `anything` only fills the place of the target.
    pub(crate) fn none(anything: Cursor) -> Self {
        Self(Cell::new((0, anything)))
    }

    /// Where it leads.
    #[inline]
    pub(crate) fn target(&self, epoch: u64) -> Option<Cursor> {
        let (made, target) = self.0.get();
        if made == epoch { Some(target) } else { None }
    }

    pub(crate) fn set(&self, epoch: u64, target: Cursor) {
        self.0.set((epoch, target));
    }
}

/// The place of an op in a block.
///
/// Only the block cache makes cursors, to the first op of a complete block. Blocks end with an op whose
/// handler does not go on to the next place, and the cache removes blocks only while no handler runs; so a
/// cursor that a handler holds points to an op. Handlers of ops that end a block may use
/// [`exits`](Self::exits), all others [`next`](Self::next).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Cursor(NonNull<Op>);

// SAFETY: a cursor points into the block cache of the hart that holds it; they change threads together, and the
// ops and links it leads to are used by the thread that has the hart alone.
unsafe impl Send for Cursor {}

impl Cursor {
    /// # Safety
    ///
    /// `op` is the first op of a complete block that stays in place while the cursor is used.
    pub(super) const unsafe fn new(op: NonNull<Op>) -> Self {
        Self(op)
    }

    #[inline]
    pub(crate) fn op(&self) -> &Op {
        // SAFETY: see the type.
        unsafe { self.0.as_ref() }
    }

    /// The op behind this one.
    #[inline]
    pub(crate) fn next(self) -> Self {
        // SAFETY: this op does not end its block (see the type), so there is a next one.
        Self(unsafe { self.0.add(1) })
    }

    /// The op before this one, unless this is the block's first.
    pub(crate) fn previous(self) -> Option<Self> {
        // SAFETY: an op that is not at the start of the block's code has one before it.
        (self.op().at != 0).then(|| Self(unsafe { self.0.sub(1) }))
    }

    /// Where the block leads that this op ends.
    #[inline]
    pub(crate) fn exits(&self) -> &Exits {
        // SAFETY: the cache puts an `Exits` behind the op that ends a block.
        unsafe { self.0.add(1).cast().as_ref() }
    }
}

/// Ops that an [`Exits`] takes the place of.
pub(crate) const EXITS_OPS: usize = size_of::<Exits>().div_ceil(size_of::<Op>());

const _: () = assert!(align_of::<Exits>() <= align_of::<Op>());
