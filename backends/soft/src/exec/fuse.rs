//! Two instructions, one handler.
//!
//! Where two instructions that often meet follow one another, the first one's op gets a handler that goes on with
//! the second's code instead of jumping to whatever the next op says: one indirect jump less. The second op
//! stays as it is, so that everything that looks at ops (traps in the middle, counting) sees no difference.

use core::ptr::fn_addr_eq;

use super::alu::{
    Add, Addi, Addiw, Addw, And, Andi, Auipc, Li, Mv, Or, Slli, Slliw, Sltu, Srli, Srliw, Sub, Xor,
};
use super::branch::{Beq, Bge, Bgeu, Blt, Bltu, Bne, Jal, JalFar, Jalr};
use super::memory::{Load, Store};
use super::op::{Cursor, Execute, Handler, Op, Plain, Stop, execute};
use crate::hart::Hart;

/// Executes the op at `c`, an `A`, and the one behind it, a `B`, and everything after.
fn both<A: Plain, B: Execute>(h: &mut Hart, c: Cursor, pc: u64, left: i64) -> Stop {
    if A::perform(h, c.op(), pc) {
        B::execute(h, c.next(), pc, left)
    } else {
        A::execute_slowly(h, c, pc, left)
    }
}

/// The handler for an `A` followed by what `second` is the handler of.
fn behind<A: Plain>(second: Handler) -> Option<Handler> {
    let pairs: [(Handler, Handler); SECONDS] = [
        (execute::<Addi>, both::<A, Addi>),
        (execute::<Load<u64, false>>, both::<A, Load<u64, false>>),
        (execute::<Store<u64>>, both::<A, Store<u64>>),
        (execute::<Add>, both::<A, Add>),
        (execute::<Bne>, both::<A, Bne>),
        (execute::<Beq>, both::<A, Beq>),
        (execute::<Mv>, both::<A, Mv>),
        (execute::<Li>, both::<A, Li>),
        (execute::<Slli>, both::<A, Slli>),
        (execute::<Srli>, both::<A, Srli>),
        (execute::<Load<u32, true>>, both::<A, Load<u32, true>>),
        (execute::<Load<u8, false>>, both::<A, Load<u8, false>>),
        (execute::<Store<u32>>, both::<A, Store<u32>>),
        (execute::<Addiw>, both::<A, Addiw>),
        (execute::<Addw>, both::<A, Addw>),
        (execute::<And>, both::<A, And>),
        (execute::<Andi>, both::<A, Andi>),
        (execute::<Or>, both::<A, Or>),
        (execute::<Xor>, both::<A, Xor>),
        (execute::<Sub>, both::<A, Sub>),
        (execute::<Sltu>, both::<A, Sltu>),
        (execute::<Jal>, both::<A, Jal>),
        (execute::<Jalr>, both::<A, Jalr>),
        (execute::<JalFar>, both::<A, JalFar>),
        (execute::<Blt>, both::<A, Blt>),
        (execute::<Bge>, both::<A, Bge>),
        (execute::<Bltu>, both::<A, Bltu>),
        (execute::<Bgeu>, both::<A, Bgeu>),
    ];
    find(&pairs, second)
}

const SECONDS: usize = 28;

/// The handler for two ops with these handlers.
fn pair(first: Handler, second: Handler) -> Option<Handler> {
    type Behind = fn(Handler) -> Option<Handler>;
    let firsts: [(Handler, Behind); 22] = [
        (execute::<Addi>, behind::<Addi>),
        (execute::<Load<u64, false>>, behind::<Load<u64, false>>),
        (execute::<Store<u64>>, behind::<Store<u64>>),
        (execute::<Add>, behind::<Add>),
        (execute::<Mv>, behind::<Mv>),
        (execute::<Li>, behind::<Li>),
        (execute::<Slli>, behind::<Slli>),
        (execute::<Srli>, behind::<Srli>),
        (execute::<Load<u32, true>>, behind::<Load<u32, true>>),
        (execute::<Load<u8, false>>, behind::<Load<u8, false>>),
        (execute::<Store<u32>>, behind::<Store<u32>>),
        (execute::<Addiw>, behind::<Addiw>),
        (execute::<Addw>, behind::<Addw>),
        (execute::<And>, behind::<And>),
        (execute::<Andi>, behind::<Andi>),
        (execute::<Or>, behind::<Or>),
        (execute::<Xor>, behind::<Xor>),
        (execute::<Sub>, behind::<Sub>),
        (execute::<Sltu>, behind::<Sltu>),
        (execute::<Auipc>, behind::<Auipc>),
        (execute::<Slliw>, behind::<Slliw>),
        (execute::<Srliw>, behind::<Srliw>),
    ];
    find(&firsts, first)?(second)
}

/// What stands beside `handler`. Functions are told apart by their addresses, which the compiler may merge or
/// split: then two handlers that do the same are taken for each other, or a pair is not recognized. Neither
/// changes what is executed.
fn find<T: Copy>(list: &[(Handler, T)], handler: Handler) -> Option<T> {
    list.iter().find(|(known, _)| fn_addr_eq(*known, handler)).map(|(_, value)| *value)
}

/// Gives pairs of ops the handlers for both.
pub(super) fn fuse(ops: &mut [Op]) {
    let mut rest = ops;
    while let [first, second, ..] = rest {
        let together = pair(first.run, second.run);
        if let Some(together) = together {
            first.run = together;
        }
        let taken = if together.is_some() { 2 } else { 1 };
        rest = &mut rest[taken..];
    }
}
