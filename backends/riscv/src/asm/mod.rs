//! A small assembler for the guests that tests and benchmarks run: RV64GC with Zba, Zbb and Zbs.
//!
//! [`Asm`] has one method for each instruction, named like it with `_` for `.` and with its operands in the
//! order they are written, plus labels, data and the usual pseudo-instructions. Registers are constants of
//! this module ([`A0`], [`FA0`], …). A mistake (an immediate out of range, a label never bound) is kept
//! until [`Asm::finish`] reports the first one, so that programs read straight down.
//!
//! ```
//! use axvcpu_riscv::asm::*;
//!
//! let mut a = Asm::new(0x8020_0000);
//! let (again, data) = (a.label(), a.label());
//! a.la(A1, data);
//! a.li(A0, 10);
//! a.bind(again);
//! a.addi(A0, A0, -1);
//! a.sd(A0, 0, A1);
//! a.bne(A0, ZERO, again);
//! a.wfi();
//! a.align(8);
//! a.bind(data);
//! a.quad(0);
//! assert_eq!(a.finish()?.len(), 40);
//! # Ok::<(), AsmError>(())
//! ```
//!
//! The table behind the methods is open too: [`instructions`] lists it with the operands' ranges, for programs
//! that generate programs, and [`disassemble`] reads it backwards.

mod compressed;
mod insn;
mod operand;
mod program;
mod reg;

#[cfg(test)]
mod tests;

pub use axvcpu_asm::{AsmError, Label};
pub use insn::{Disassembly, Instruction, disassemble, instructions, lookup};
pub use operand::{Operand, OperandKind};
pub use program::Asm;
pub use reg::*;
