//! The program under construction, and pseudo-instructions.

use alloc::vec::Vec;
use core::ops::{Deref, DerefMut};

use axvcpu_asm::{Argument, AsmError, Program, Reference};

use super::insn::Instruction;
use super::operand::Operand;
use super::{Cond, X, XZR};

impl Reference for &'static Operand {
    fn encode(&self, value: i64) -> Option<u64> {
        Operand::encode(self, value).map(u64::from)
    }
}

/// A program under construction. See the [module](super) for an example.
pub struct Asm(Program<&'static Operand>);

impl Deref for Asm {
    type Target = Program<&'static Operand>;
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Asm {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl Asm {
    /// An empty program that will be loaded at address `base`.
    pub const fn new(base: u64) -> Self {
        Self(Program::new(base))
    }

    /// The program's bytes, with every label filled in.
    ///
    /// # Errors
    ///
    /// The first mistake that was made.
    pub fn finish(self) -> Result<Vec<u8>, AsmError> {
        self.0.finish()
    }

    pub(super) fn put(&mut self, insn: &Instruction, arguments: &[Argument]) {
        let operands = insn.operands.iter().copied();
        self.instruction(insn.name, &insn.bits.to_le_bytes(), operands, arguments);
    }

    /// Loads any constant, in one to four instructions.
    pub fn li(&mut self, rd: X, value: u64) {
        let halves = [0, 16, 32, 48].map(|shift| (shift, (value >> shift) as u32 & 0xffff));
        // From all ones or from all zeros, whichever leaves fewer halves to be written.
        let count = |background| halves.iter().filter(|half| half.1 == background).count();
        let inverted = count(0xffff) > count(0);
        let background = if inverted { 0xffff } else { 0 };
        let mut rest = halves.into_iter().filter(|half| half.1 != background);
        let (shift, half) = rest.next().unwrap_or((0, background));
        match inverted {
            true => self.movn(rd, half ^ 0xffff, shift),
            false => self.movz(rd, half, shift),
        }
        for (shift, half) in rest {
            self.movk(rd, half, shift);
        }
    }

    /// Copies a register that is not the stack pointer.
    pub fn mov(&mut self, rd: X, rm: X) {
        self.orr(rd, XZR, rm);
    }

    /// Copies from the stack pointer, or to it.
    pub fn mov_sp(&mut self, rd: X, rn: X) {
        self.add_imm(rd, rn, 0);
    }

    /// Compares two registers.
    pub fn cmp(&mut self, rn: X, rm: X) {
        self.subs(XZR, rn, rm);
    }

    /// Compares a register with 0 to 4095.
    pub fn cmp_imm(&mut self, rn: X, imm: u32) {
        self.subs_imm(XZR, rn, imm);
    }

    /// Shifts left by 0 to 63.
    pub fn lsl(&mut self, rd: X, rn: X, shamt: u32) {
        if shamt > 63 {
            return self.refuse("lsl");
        }
        self.ubfm(rd, rn, (64 - shamt) % 64, 63 - shamt);
    }

    /// 1 if the condition holds, else 0.
    pub fn cset(&mut self, rd: X, cond: Cond) {
        self.cset_inverted(rd, cond.inverted());
    }
}
