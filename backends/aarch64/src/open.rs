//! The access of an exit that can be answered, undone or failed, as long as something can be done about it.

use axvcpu::AccessWidth;
use axvcpu_arm::esr::{self, abort, class};

use crate::decode::{Access, Operand};
use crate::raise::Exception;

/// Where the guest is: its program counter and processor state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) pc: u64,
    pub(crate) pstate: u64,
}

/// The access of the last exit. Small, because every MMIO exit writes it: what it was is told by the bits of the syndrome's own
/// where it has them, and by bits above those.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Open {
    /// Its instruction.
    pub(crate) at: Place,
    /// The guest virtual address.
    pub(crate) va: u64,
    /// Size, extension, register and direction as in the syndrome of a data abort, and the bits below; 0: nothing is open.
    bits: u64,
}

/// Something is open.
const OPEN: u64 = 1 << 32;
/// It asks for a value.
const ASKS: u64 = 1 << 33;
/// The register is one of floating point.
const FLOAT: u64 = 1 << 34;
/// It has been carried out, as writes are.
const DONE: u64 = 1 << 35;
/// It was a fetch.
const FETCH: u64 = 1 << 36;
/// It was a walk of the guest's tables, at the level in the lowest two bits.
const WALK: u64 = 1 << 37;
/// It was no access to memory, and fails as an undefined instruction.
const SYSTEM: u64 = 1 << 38;
/// It changes its base register, bits 40 to 44, by the 9 bits from 45 on.
const WRITE_BACK: u64 = 1 << 39;
/// Nothing is open, and an answer would go nowhere: the exit is like that of a call and was none.
const NO_RESULT: u64 = 1 << 54;
const BASE_SHIFT: u32 = 40;
const DELTA_SHIFT: u32 = 45;

/// Where an answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dest {
    /// To a general-purpose register, 31 being none.
    Integer {
        register: u8,
        signed: bool,
        /// All 64 bits of it, else the upper half becomes zero.
        wide: bool,
    },
    /// To a floating-point register.
    Float { register: u8 },
}

impl Open {
    pub(crate) const NOTHING: Self = Self { at: Place { pc: 0, pstate: 0 }, va: 0, bits: 0 };

    /// A load or store that the syndrome describes.
    #[inline(always)]
    pub(crate) fn described(at: Place, va: u64, syndrome: u64) -> Self {
        let kind = if syndrome & abort::WRITE != 0 { OPEN | DONE } else { OPEN | ASKS };
        Self { at, va, bits: syndrome & 0xff_ffff | kind }
    }

    /// A load or store as its instruction has it.
    pub(crate) fn decoded(at: Place, va: u64, access: Access) -> Self {
        let Access { operand, width, write_back } = access;
        let register = |register: u8| u64::from(register & 31) << 16;
        let kind = match operand {
            Operand::Load { register: to, signed, wide } => {
                let signed = if signed { abort::SIGNED } else { 0 };
                OPEN | ASKS | register(to) | signed | if wide { abort::WIDE } else { 0 }
            }
            Operand::LoadFloat { register: to } => OPEN | ASKS | FLOAT | register(to),
            Operand::Store { register: from } => OPEN | DONE | abort::WRITE | register(from),
            Operand::StoreFloat { register: from } => {
                OPEN | DONE | FLOAT | abort::WRITE | register(from)
            }
        };
        let size = u64::from(width.bytes().trailing_zeros()) << 22;
        let write_back = write_back.map_or(0, |(base, delta)| {
            WRITE_BACK | u64::from(base & 31) << BASE_SHIFT | (delta & 0x1ff) << DELTA_SHIFT
        });
        Self { at, va, bits: kind | size | write_back }
    }

    /// An access that can only fail or be tried again: a fetch or another one, of the guest's own tables at `walk` or not.
    pub(crate) fn refused(at: Place, va: u64, write: bool, fetch: bool, walk: Option<u64>) -> Self {
        let bit = |on, bits| if on { bits } else { 0 };
        let walk = walk.map_or(0, |level| WALK | level & 3);
        Self { at, va, bits: OPEN | bit(write, abort::WRITE) | bit(fetch, FETCH) | walk }
    }

    /// `MRS` to a register, or `MSR`.
    pub(crate) fn system(at: Place, read: Option<u8>) -> Self {
        let kind = match read {
            Some(register) => ASKS | 3 << 22 | u64::from(register) << 16 | abort::WIDE,
            None => DONE,
        };
        Self { at, va: 0, bits: OPEN | SYSTEM | kind }
    }

    /// After an exit that may be answered like a call's, but has no register for that.
    pub(crate) fn without_result() -> Self {
        Self { bits: NO_RESULT, ..Self::NOTHING }
    }

    /// Whether there is an access.
    #[inline(always)]
    pub(crate) fn is_open(&self) -> bool {
        self.bits & OPEN != 0
    }

    /// Whether an answer is the result of a call.
    #[inline(always)]
    pub(crate) fn is_call(&self) -> bool {
        self.bits == 0
    }

    /// Forgets it.
    #[inline(always)]
    pub(crate) fn close(&mut self) {
        self.bits = 0;
    }

    /// Whether it has been carried out.
    pub(crate) fn is_done(&self) -> bool {
        self.bits & DONE != 0
    }

    /// Whether its register is one of floating point.
    pub(crate) fn is_float(&self) -> bool {
        self.bits & FLOAT != 0
    }

    /// How much is accessed.
    #[inline(always)]
    pub(crate) fn width(&self) -> AccessWidth {
        match abort::size(self.bits) {
            0 => AccessWidth::Byte,
            1 => AccessWidth::Word,
            2 => AccessWidth::Dword,
            _ => AccessWidth::Qword,
        }
    }

    /// The register it is made with.
    #[inline(always)]
    pub(crate) fn register(&self) -> u8 {
        abort::register(self.bits)
    }

    /// Where its value goes; `None` if it asks for none.
    #[inline]
    pub(crate) fn dest(&self) -> Option<Dest> {
        let register = self.register();
        let (signed, wide) = (self.bits & abort::SIGNED != 0, self.bits & abort::WIDE != 0);
        match self.bits & (ASKS | FLOAT) {
            ASKS => Some(Dest::Integer { register, signed, wide }),
            0 | FLOAT => None,
            _ => Some(Dest::Float { register }),
        }
    }

    /// The base register that it changes, and by what.
    #[inline]
    pub(crate) fn write_back(&self) -> Option<(u8, u64)> {
        let delta = (self.bits << (55 - DELTA_SHIFT)) as i64 >> 55;
        let base = (self.bits >> BASE_SHIFT & 31) as u8;
        (self.bits & WRITE_BACK != 0).then_some((base, delta as u64))
    }

    /// What it is for the guest if nothing answers.
    pub(crate) fn fault(&self) -> Exception {
        if self.bits & SYSTEM != 0 {
            return Exception::UNDEFINED;
        }
        let class = if self.bits & FETCH != 0 { class::FETCH } else { class::DATA };
        let status = if self.bits & WALK != 0 {
            abort::EXTERNAL_ON_WALK | self.bits & 3
        } else {
            abort::EXTERNAL
        };
        let write = self.bits & abort::WRITE;
        Exception { syndrome: esr::of_class(class) | write | status, address: Some(self.va) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Place = Place { pc: 0x1000, pstate: 0x3c5 };

    #[test]
    fn what_is_put_in_comes_out() {
        for (operand, dest) in [
            (
                Operand::Load { register: 30, signed: true, wide: false },
                Some(Dest::Integer { register: 30, signed: true, wide: false }),
            ),
            (Operand::LoadFloat { register: 31 }, Some(Dest::Float { register: 31 })),
            (Operand::Store { register: 1 }, None),
            (Operand::StoreFloat { register: 2 }, None),
        ] {
            for width in
                [AccessWidth::Byte, AccessWidth::Word, AccessWidth::Dword, AccessWidth::Qword]
            {
                for write_back in [None, Some((31, 255)), Some((0, 256u64.wrapping_neg()))] {
                    let open = Open::decoded(AT, 2, Access { operand, width, write_back });
                    assert_eq!((open.dest(), open.width()), (dest, width));
                    assert_eq!((open.write_back(), open.is_done()), (write_back, dest.is_none()));
                    assert!(open.is_open());
                }
            }
        }
        assert!(!Open::NOTHING.is_open());
    }

    #[test]
    fn failures() {
        let syndrome = |open: Open| open.fault().syndrome;
        let class = |class: u64| class << 26 | 1 << 25;
        assert_eq!(syndrome(Open::described(AT, 0, 3 << 22 | 0x1_0007)), class(0x25) | 0x10);
        assert_eq!(syndrome(Open::described(AT, 0, 1 << 6 | 0x7)), class(0x25) | 1 << 6 | 0x10);
        assert_eq!(syndrome(Open::refused(AT, 0, false, true, None)), class(0x21) | 0x10);
        assert_eq!(
            syndrome(Open::refused(AT, 0, true, false, Some(2))),
            class(0x25) | 1 << 6 | 0x16
        );
        assert_eq!(Open::system(AT, None).fault(), Exception::UNDEFINED);
        let read = Open::system(AT, Some(4)).dest();
        assert_eq!(read, Some(Dest::Integer { register: 4, signed: false, wide: true }));
    }
}
