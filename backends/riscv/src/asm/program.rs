//! A program while it is written: bytes, labels, and the places that wait for a label.

use alloc::vec::Vec;
use core::fmt;

use super::insn::{Argument, Instruction};
use super::operand::{IMM_I, Operand};
use super::{RA, X, ZERO};

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
    /// The distance, split over an `auipc` and the I-type instruction behind it.
    Pair,
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
            Target::Pair => {
                // The low part is sign-extended, so the high part is rounded to the nearest.
                let (high, low) = ((distance + 0x800) >> 12, (distance << 52) >> 52);
                match IMM_I.encode(low) {
                    Some(bits) if i32::try_from(distance + 0x800).is_ok() => {
                        self.patch(at, (high as u32) << 12);
                        self.patch(at + 4, bits);
                    }
                    _ => self.fail(AsmError::Distance { at, distance }),
                }
            }
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
        for (operand, argument) in insn.operands().iter().zip(arguments) {
            match *argument {
                Argument::Value(value) => match operand.encode(value) {
                    Some(bits) => word |= bits,
                    None => self.fail(AsmError::Operand { at, name: insn.name() }),
                },
                Argument::Label(label) => {
                    self.fixups.push(Fixup { at, label, target: Target::Operand(operand) });
                }
            }
        }
        self.code.extend_from_slice(word.to_le_bytes().get(..insn.len()).unwrap_or_default());
    }

    /// Appends a 32-bit word: an instruction that has no method, or data.
    pub fn word(&mut self, word: u32) {
        self.bytes(&word.to_le_bytes());
    }

    /// Appends a 16-bit halfword.
    pub fn half(&mut self, half: u16) {
        self.bytes(&half.to_le_bytes());
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
        self.fixups.push(Fixup { at: self.code.len(), label, target: Target::Pair });
        self.auipc(rd, 0);
        self.addi(rd, rd, 0);
    }

    /// Calls a function within 2 GiB, with the return address in `ra`.
    pub fn call(&mut self, label: Label) {
        self.fixups.push(Fixup { at: self.code.len(), label, target: Target::Pair });
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
