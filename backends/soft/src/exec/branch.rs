//! Jumps and branches: the ends of most blocks.

use super::op::{Cursor, Execute, Stop};
use super::{goto, jump};
use crate::hart::Hart;

/// Conditional branches; the immediate counts from the start of the block.
macro_rules! branches {
    ($($name:ident($a:ident, $b:ident) $taken:expr;)*) => {$(
        pub(super) enum $name {}
        impl Execute for $name {
            #[inline(always)]
            fn execute(h: &mut Hart, c: Cursor, pc: u64, left: i64) -> Stop {
                let op = c.op();
                let exits = c.exits();
                let ($a, $b) = (h.get(op.rs1), h.get(op.rs2));
                let left = left - i64::from(exits.count);
                if $taken {
                    goto::<true>(h, c, pc, pc.wrapping_add(op.imm as i64 as u64), left)
                } else {
                    goto::<false>(h, c, pc, pc.wrapping_add(exits.len.into()), left)
                }
            }
        }
    )*};
}

branches! {
    Beq(a, b) a == b;
    Bne(a, b) a != b;
    Blt(a, b) (a as i64) < b as i64;
    Bge(a, b) a as i64 >= b as i64;
    Bltu(a, b) a < b;
    Bgeu(a, b) a >= b;
}

/// `jal` within the page.
pub(super) enum Jal {}

impl Execute for Jal {
    #[inline(always)]
    fn execute(h: &mut Hart, c: Cursor, pc: u64, left: i64) -> Stop {
        let (op, exits) = (c.op(), c.exits());
        let left = left - i64::from(exits.count);
        h.set(op.rd, pc.wrapping_add(exits.len.into()));
        goto::<true>(h, c, pc, pc.wrapping_add(op.imm as i64 as u64), left)
    }
}

/// `jal` to another page.
pub(super) enum JalFar {}

impl Execute for JalFar {
    #[inline(always)]
    fn execute(h: &mut Hart, c: Cursor, pc: u64, left: i64) -> Stop {
        let (op, exits) = (c.op(), c.exits());
        let left = left - i64::from(exits.count);
        h.set(op.rd, pc.wrapping_add(exits.len.into()));
        jump(h, pc.wrapping_add(op.imm as i64 as u64), left)
    }
}

/// `jalr`.
pub(super) enum Jalr {}

impl Execute for Jalr {
    #[inline(always)]
    fn execute(h: &mut Hart, c: Cursor, pc: u64, left: i64) -> Stop {
        let (op, exits) = (c.op(), c.exits());
        let left = left - i64::from(exits.count);
        // The target first: `rd` may be `rs1`.
        let target = h.get(op.rs1).wrapping_add(op.imm as i64 as u64) & !1;
        h.set(op.rd, pc.wrapping_add(exits.len.into()));
        jump(h, target, left)
    }
}

/// Not an instruction: the block ends here, and the next one follows in memory.
pub(super) fn go_on(h: &mut Hart, c: Cursor, pc: u64, left: i64) -> Stop {
    let exits = c.exits();
    let left = left - i64::from(exits.count);
    let next = pc.wrapping_add(exits.len.into());
    if next & 0xfff == 0 { jump(h, next, left) } else { goto::<false>(h, c, pc, next, left) }
}
