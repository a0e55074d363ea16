//! A program while it is written: bytes, labels, and the places that wait for a label.
//!
//! Assemblers put their instructions on top of [`Program`]. What differs is how an instruction holds an operand or a
//! distance, which is a [`Reference`].
#![no_std]

extern crate alloc;

use alloc::vec::Vec;
use core::fmt;

/// Where an instruction, or a pair of them, holds a number.
pub trait Reference {
    /// The bits to set in the 8 bytes at the instruction, as a little-endian number, so that they hold `value`, which
    /// is the distance in bytes where a label is meant. `None` when they cannot.
    fn encode(&self, value: i64) -> Option<u64>;
}

/// A place in the program; made by [`Program::label`] and placed by [`Program::bind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label(usize);

/// An argument of an instruction.
#[derive(Clone, Copy, Debug)]
pub enum Argument {
    /// A number, of a register too.
    Value(i64),
    /// The distance to a label.
    Label(Label),
}

impl From<Label> for Argument {
    fn from(label: Label) -> Self {
        Self::Label(label)
    }
}

macro_rules! numbers {
    ($($type:ty)*) => {
        $(impl From<$type> for Argument {
            fn from(number: $type) -> Self {
                Self::Value(number.into())
            }
        })*
    };
}

numbers!(i32 u32 u16 u8);

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
    /// [`Program::align`] was asked for something that is not a power of two.
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

enum Target<R> {
    /// The distance from the instruction.
    Distance(R),
    /// The address, as 8 bytes of data.
    Address,
}

struct Fixup<R> {
    at: usize,
    label: Label,
    target: Target<R>,
}

/// A program under construction. The first mistake is kept until [`finish`](Self::finish) reports it.
pub struct Program<R> {
    base: u64,
    code: Vec<u8>,
    labels: Vec<Option<usize>>,
    fixups: Vec<Fixup<R>>,
    error: Option<AsmError>,
}

impl<R: Reference> Program<R> {
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

    fn resolve(&mut self, fixup: &Fixup<R>) {
        let at = fixup.at;
        let Some(Some(place)) = self.labels.get(fixup.label.0).copied() else {
            return self.fail(AsmError::Unbound { at });
        };
        let distance = place as i64 - at as i64;
        match &fixup.target {
            Target::Distance(reference) => match reference.encode(distance) {
                Some(bits) => self.patch(at, bits),
                None => self.fail(AsmError::Distance { at, distance }),
            },
            Target::Address => self.patch(at, self.base.wrapping_add(place as u64)),
        }
    }

    /// Sets bits of the 8 bytes at `at`, as far as there are.
    fn patch(&mut self, at: usize, bits: u64) {
        for (byte, bits) in self.code.iter_mut().skip(at).zip(bits.to_le_bytes()) {
            *byte |= bits;
        }
    }

    /// Keeps a mistake, unless there was one before.
    pub fn fail(&mut self, error: AsmError) {
        self.error.get_or_insert(error);
    }

    /// Keeps that the instruction called `name`, about to be appended, cannot take an operand.
    pub fn refuse(&mut self, name: &'static str) {
        self.fail(AsmError::Operand { at: self.code.len(), name });
    }

    /// Makes the instruction that is appended next refer to `label`.
    pub fn refer(&mut self, label: Label, reference: R) {
        self.fixups.push(Fixup { at: self.code.len(), label, target: Target::Distance(reference) });
    }

    /// Appends the instruction `opcode`, called `name`, with arguments in the places of its operands.
    pub fn instruction(
        &mut self,
        name: &'static str,
        opcode: &[u8],
        operands: impl IntoIterator<Item = impl Into<R>>,
        arguments: &[Argument],
    ) {
        let mut word = 0;
        for (operand, argument) in operands.into_iter().zip(arguments) {
            match *argument {
                Argument::Label(label) => self.refer(label, operand.into()),
                Argument::Value(value) => match operand.into().encode(value) {
                    Some(bits) => word |= bits,
                    None => self.refuse(name),
                },
            }
        }
        let at = self.code.len();
        self.bytes(opcode);
        self.patch(at, word);
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
        self.fixups.push(Fixup { at: self.code.len(), label, target: Target::Address });
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
}
