//! A program while it is written: bytes, labels, and the places that wait for a label.

use alloc::vec::Vec;
use core::fmt;

use super::insn::{Argument, Instruction};
use super::operand::Operand;
use super::{Cond, X, XZR};

/// A place in the program; made by [`Asm::label`] and placed by [`Asm::bind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label(usize);

/// What is wrong with a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AsmError {
    /// An instruction cannot take one of the operands it was given.
    Operand {
        /// Where, in bytes from the program's start.
        at: usize,
        /// The instruction.
        name: &'static str,
    },
    /// A branch, jump or address is too far from what it refers to.
    Distance {
        /// Where, in bytes from the program's start.
        at: usize,
        /// The distance in bytes.
        distance: i64,
    },
    /// A label is used and never bound.
    Unbound {
        /// Where it is used, in bytes from the program's start.
        at: usize,
    },
    /// A label is bound a second time.
    Rebound {
        /// Where, in bytes from the program's start.
        at: usize,
    },
    /// [`Asm::align`] was asked for something that is not a power of two.
    Alignment {
        /// Where, in bytes from the program's start.
        at: usize,
    },
}

impl fmt::Display for AsmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Operand { at, name } => write!(f, "+{at:#x}: {name} cannot take these operands"),
            Self::Distance { at, distance } => write!(f, "+{at:#x}: cannot reach {distance} bytes"),
            Self::Unbound { at } => write!(f, "+{at:#x}: the label used here is bound nowhere"),
            Self::Rebound { at } => write!(f, "+{at:#x}: the label was bound before"),
            Self::Alignment { at } => write!(f, "+{at:#x}: alignment is not a power of two"),
        }
    }
}

impl core::error::Error for AsmError {}

enum Target {
    /// The distance from the instruction, in one of its operands.
    Operand(&'static Operand),
    /// The address, as 8 bytes of data.
    Quad,
}

struct Fixup {
    at: usize,
    label: Label,
    target: Target,
}

/// A program under construction. See the [module](super) for an example.
pub struct Asm {
    base: u64,
    code: Vec<u8>,
    labels: Vec<Option<usize>>,
    fixups: Vec<Fixup>,
    error: Option<AsmError>,
}

impl Asm {
    /// An empty program that will be loaded at address `base`.
    pub const fn new(base: u64) -> Self {
        Self { base, code: Vec::new(), labels: Vec::new(), fixups: Vec::new(), error: None }
    }

    /// The address of the next byte.
    pub fn here(&self) -> u64 {
        self.base.wrapping_add(self.code.len() as u64)
    }

    /// A new label, not bound yet.
    pub fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// Places `label`, which must be this program's, at the next byte.
    pub fn bind(&mut self, label: Label) {
        let at = self.code.len();
        match self.labels.get_mut(label.0) {
            Some(place @ None) => *place = Some(at),
            _ => self.fail(AsmError::Rebound { at }),
        }
    }

    /// A new label at the next byte.
    pub fn here_label(&mut self) -> Label {
        let label = self.label();
        self.bind(label);
        label
    }

    /// The address of a label; `None` while it is not bound.
    pub fn address(&self, label: Label) -> Option<u64> {
        let offset = self.labels.get(label.0).copied().flatten()?;
        Some(self.base.wrapping_add(offset as u64))
    }

    /// The program's bytes, with every label filled in.
    ///
    /// # Errors
    ///
    /// The first mistake that was made.
    pub fn finish(mut self) -> Result<Vec<u8>, AsmError> {
        for fixup in core::mem::take(&mut self.fixups) {
            self.resolve(&fixup);
        }
        self.error.map_or(Ok(self.code), Err)
    }

    fn resolve(&mut self, fixup: &Fixup) {
        let at = fixup.at;
        let Some(Some(place)) = self.labels.get(fixup.label.0).copied() else {
            return self.fail(AsmError::Unbound { at });
        };
        let distance = place as i64 - at as i64;
        match fixup.target {
            Target::Operand(operand) => match operand.encode(distance) {
                Some(bits) => self.patch(at, bits),
                None => self.fail(AsmError::Distance { at, distance }),
            },
            Target::Quad => {
                let address = self.base.wrapping_add(place as u64);
                if let Some(bytes) = self.code.get_mut(at..at + 8) {
                    bytes.copy_from_slice(&address.to_le_bytes());
                }
            }
        }
    }

    /// Sets bits of the instruction at `at`.
    fn patch(&mut self, at: usize, bits: u32) {
        let bits = bits.to_le_bytes();
        for (byte, bits) in self.code.iter_mut().skip(at).zip(bits) {
            *byte |= bits;
        }
    }

    fn fail(&mut self, error: AsmError) {
        self.error.get_or_insert(error);
    }

    pub(super) fn put(&mut self, insn: &Instruction, arguments: &[Argument]) {
        let at = self.code.len();
        let mut word = insn.bits;
        for (operand, argument) in insn.operands.iter().zip(arguments) {
            match *argument {
                Argument::Value(value) => match operand.encode(value) {
                    Some(bits) => word |= bits,
                    None => self.fail(AsmError::Operand { at, name: insn.name }),
                },
                Argument::Label(label) => {
                    self.fixups.push(Fixup { at, label, target: Target::Operand(operand) });
                }
            }
        }
        self.word(word);
    }

    /// Appends a 32-bit word: an instruction that has no method, or data.
    pub fn word(&mut self, word: u32) {
        self.bytes(&word.to_le_bytes());
    }

    /// Appends a 64-bit doubleword.
    pub fn quad(&mut self, quad: u64) {
        self.bytes(&quad.to_le_bytes());
    }

    /// Appends the address of `label` as a 64-bit doubleword.
    pub fn quad_label(&mut self, label: Label) {
        self.fixups.push(Fixup { at: self.code.len(), label, target: Target::Quad });
        self.quad(0);
    }

    /// Appends bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.code.extend_from_slice(bytes);
    }

    /// Appends `count` zero bytes.
    pub fn zero(&mut self, count: usize) {
        self.code.resize(self.code.len() + count, 0);
    }

    /// Appends zero bytes until the program's length is a multiple of `alignment`, a power of two. The address
    /// is aligned too if the program's base is.
    pub fn align(&mut self, alignment: usize) {
        if alignment.is_power_of_two() {
            self.code.resize(self.code.len().next_multiple_of(alignment), 0);
        } else {
            self.fail(AsmError::Alignment { at: self.code.len() });
        }
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
            return self.fail(AsmError::Operand { at: self.code.len(), name: "lsl" });
        }
        self.ubfm(rd, rn, (64 - shamt) % 64, 63 - shamt);
    }

    /// 1 if the condition holds, else 0.
    pub fn cset(&mut self, rd: X, cond: Cond) {
        self.cset_inverted(rd, cond.inverted());
    }
}
