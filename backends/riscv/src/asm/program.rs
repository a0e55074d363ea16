//! The program under construction, and pseudo-instructions.

use alloc::vec::Vec;
use core::ops::{Deref, DerefMut};

use axvcpu_asm::{Argument, AsmError, Label, Program, Reference};

use super::insn::Instruction;
use super::operand::{IMM_I, Operand};
use super::{RA, X, ZERO};

/// What holds a number.
pub enum Target {
    /// An operand of one instruction.
    Operand(&'static Operand),
    /// An `auipc` and the I-type instruction behind it.
    Pair,
}

impl From<&'static Operand> for Target {
    fn from(operand: &'static Operand) -> Self {
        Self::Operand(operand)
    }
}

impl Reference for Target {
    fn encode(&self, value: i64) -> Option<u64> {
        match self {
            Self::Operand(operand) => operand.encode(value).map(u64::from),
            Self::Pair => {
                // The low part is sign-extended, so the high part is rounded to the nearest.
                let high = i32::try_from(value + 0x800).ok()? as u32 & !0xfff;
                let low = IMM_I.encode((value << 52) >> 52)?;
                Some(u64::from(low) << 32 | u64::from(high))
            }
        }
    }
}

/// A program under construction. See the [module](super) for an example.
pub struct Asm(Program<Target>);

impl Deref for Asm {
    type Target = Program<Target>;
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
        let word = insn.bits.to_le_bytes();
        let opcode = word.get(..insn.len()).unwrap_or_default();
        self.instruction(insn.name(), opcode, insn.operands().iter().copied(), arguments);
    }

    /// Loads any constant, modulo 2^64 like the instructions it uses, in one to eight instructions.
    pub fn li(&mut self, rd: X, value: i64) {
        let low = value << 52 >> 52;
        if low == value {
            self.addi(rd, ZERO, low as i32);
        } else if i32::try_from(value).is_ok() {
            // `lui` sign-extends; if rounding carries into bit 31, `addiw` wraps back.
            let high = ((value + 0x800) >> 12) as u32 & 0xf_ffff;
            self.lui(rd, high);
            if low != 0 {
                self.addiw(rd, rd, low as i32);
            }
        } else {
            let rest = value.wrapping_sub(low) >> 12;
            let shift = rest.trailing_zeros();
            self.li(rd, rest >> shift);
            self.slli(rd, rd, shift + 12);
            if low != 0 {
                self.addi(rd, rd, low as i32);
            }
        }
    }

    /// Loads the address of a label within 2 GiB (`auipc` and `addi`).
    pub fn la(&mut self, rd: X, label: Label) {
        self.refer(label, Target::Pair);
        self.auipc(rd, 0);
        self.addi(rd, rd, 0);
    }

    /// Calls a function within 2 GiB, with the return address in `ra`.
    pub fn call(&mut self, label: Label) {
        self.refer(label, Target::Pair);
        self.auipc(RA, 0);
        self.jalr(RA, 0, RA);
    }

    /// Returns from a function.
    pub fn ret(&mut self) {
        self.jalr(ZERO, 0, RA);
    }

    /// Jumps within 1 MiB.
    pub fn j(&mut self, target: Label) {
        self.jal(ZERO, target);
    }

    /// Does nothing.
    pub fn nop(&mut self) {
        self.addi(ZERO, ZERO, 0);
    }

    /// Copies a register.
    pub fn mv(&mut self, rd: X, rs: X) {
        self.addi(rd, rs, 0);
    }

    /// Branches if the register is zero.
    pub fn beqz(&mut self, rs: X, target: Label) {
        self.beq(rs, ZERO, target);
    }

    /// Branches if the register is not zero.
    pub fn bnez(&mut self, rs: X, target: Label) {
        self.bne(rs, ZERO, target);
    }

    /// Reads a CSR.
    pub fn csrr(&mut self, rd: X, csr: u16) {
        self.csrrs(rd, csr, ZERO);
    }

    /// Writes a CSR.
    pub fn csrw(&mut self, csr: u16, rs: X) {
        self.csrrw(ZERO, csr, rs);
    }
}
