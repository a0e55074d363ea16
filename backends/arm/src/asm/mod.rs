//! A small assembler for the guests that tests and benchmarks run: A64, the part of it that they need.
//!
//! [`Asm`] has one method for each instruction, named like it, plus labels, data and the usual pseudo-instructions.
//! Where a name alone does not tell, the form does: `_imm` for an immediate, `_w` for 32-bit registers, `_pre` and
//! `_post` for the addressing modes that write the base register back, `_reg` for a register offset. Registers are
//! constants of this module ([`X0`], [`SP`], [`V0`], …). A mistake (an immediate out of range, a label never bound) is
//! kept until [`Asm::finish`] reports the first one, so that programs read straight down.
//!
//! ```
//! use axvcpu_arm::asm::*;
//!
//! let mut a = Asm::new(0x4020_0000);
//! let (again, data) = (a.label(), a.label());
//! a.la(X1, data);
//! a.li(X0, 10);
//! a.bind(again);
//! a.sub_imm(X0, X0, 1);
//! a.str(X0, X1, 0);
//! a.cbnz(X0, again);
//! a.wfi();
//! a.align(8);
//! a.bind(data);
//! a.quad(0);
//! assert_eq!(a.finish()?.len(), 32);
//! # Ok::<(), AsmError>(())
//! ```

mod insn;
mod operand;
mod program;
mod reg;

#[cfg(test)]
mod tests;

pub use axvcpu_asm::{AsmError, Label};
pub use program::Asm;
pub use reg::*;
