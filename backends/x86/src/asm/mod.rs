//! A small assembler for the guests that tests and benchmarks run: 64-bit code.
//!
//! [`Asm`] has one method for each instruction, named like it and with its operands in the order of the manuals, the
//! destination first. Registers are constants of this module ([`RAX`], [`R8D`], [`AL`], …), memory is written with
//! [`mem`] where a register tells the width, and with [`byte`], [`word`], [`dword`] or [`qword`] where none does. A
//! mistake (operands of two widths, a label never bound) is kept until [`Asm::finish`] reports the first one, so that
//! programs read straight down.
//!
//! ```
//! use axvcpu_x86::asm::*;
//!
//! let mut a = Asm::new(0x10_0000);
//! let (again, data) = (a.label(), a.label());
//! a.lea(RBX, rip(data));
//! a.li(RCX, 10);
//! a.bind(again);
//! a.add(mem(RBX) + 8, RCX);
//! a.dec(ECX);
//! a.jcc(Cond::Ne, again);
//! a.rep().stosb();
//! a.hlt();
//! a.align(8);
//! a.bind(data);
//! a.quad(0);
//! assert_eq!(a.finish()?.len(), 40);
//! # Ok::<(), AsmError>(())
//! ```

mod encode;
mod insn;
mod operand;
mod system;

#[cfg(test)]
mod tests;

pub use axvcpu_asm::{AsmError, Label};
pub use encode::{Asm, Place};
pub use operand::*;
