//! Rounding modes, and the one place where numbers are rounded to a format.

use super::format::{Format, Layout};
use super::value::{Finite, shift_right_sticky};
use super::{NX, OF, UF};

/// Rounding mode, as in the `rm` field of instructions and in `frm`
/// (Unprivileged ISA, "F" extension, table "Rounding mode encoding").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Rounding {
    /// To nearest, ties to even.
    Rne = 0,
    /// Towards zero.
    Rtz = 1,
    /// Down, towards −∞.
    Rdn = 2,
    /// Up, towards +∞.
    Rup = 3,
    /// To nearest, ties to the larger magnitude.
    Rmm = 4,
}

impl Rounding {
    /// The mode that `bits` encodes. `None` for the reserved encodings 5 and 6,
    /// for 7, which in an instruction selects `frm` and in `frm` is reserved,
    /// and for anything wider than three bits.
    #[inline]
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Rne,
            1 => Self::Rtz,
            2 => Self::Rdn,
            3 => Self::Rup,
            4 => Self::Rmm,
            _ => return None,
        })
    }

    /// Whether a magnitude is rounded to the larger of its two neighbours.
    /// `odd`: the smaller one is odd. `rest` is how far the number lies above
    /// the smaller one, in units of which `half` make half the distance.
    #[inline]
    pub(super) fn away_from_zero(self, negative: bool, odd: bool, rest: u64, half: u64) -> bool {
        match self {
            // `half` itself suffices to make an odd number even.
            Self::Rne => rest > half - u64::from(odd),
            Self::Rtz => false,
            Self::Rdn => negative && rest != 0,
            Self::Rup => !negative && rest != 0,
            Self::Rmm => rest >= half,
        }
    }
}

impl Finite {
    /// Rounds into a format and raises the flags that this entails.
    #[inline]
    pub(super) fn encode<F: Format>(self, rm: Rounding, flags: &mut u8) -> F::Bits {
        let sign = if self.negative { F::SIGN } else { 0 };
        F::from_raw(sign | self.round::<F>(rm, flags))
    }

    /// The magnitude of [`encode`](Self::encode).
    #[inline]
    fn round<F: Format>(self, rm: Rounding, flags: &mut u8) -> u64 {
        // The leading one to bit 63; what is below bit 0 becomes sticky.
        let up = self.significand.leading_zeros();
        let digits = shift_right_sticky(self.significand << up, 64) as u64;
        let field = self.exponent + 127 - up as i32 + F::BIAS;

        let spare = 64 - F::PRECISION;
        let half = 1 << (spare - 1);
        // Keeps the leading PRECISION digits; also says what was cut off.
        let cut = |digits: u64| {
            let (kept, rest) = (digits >> spare, digits & ((1 << spare) - 1));
            (kept + u64::from(rm.away_from_zero(self.negative, kept & 1 != 0, rest, half)), rest)
        };

        // The implicit one is part of `kept` and carries into the exponent
        // field, as does a significand rounded up to the next power of two:
        // hence the field less one.
        let (magnitude, rest) = if field >= F::EXPONENT_MAX {
            (F::INFINITY, 0)
        } else if field >= 1 {
            let (kept, rest) = cut(digits);
            ((((field - 1) as u64) << F::FRACTION_BITS) + kept, rest)
        } else {
            let (kept, rest) = cut(shift_right_sticky(digits.into(), (1 - field) as u32) as u64);
            // Tiny after rounding: with an unbounded exponent the result would
            // still be below the smallest normal number.
            let tiny = field < 0 || cut(digits).0 >> F::PRECISION == 0;
            if rest != 0 && tiny {
                *flags |= UF;
            }
            (kept, rest)
        };

        if magnitude >= F::INFINITY {
            *flags |= OF | NX;
            // Beyond the largest finite number counts as past its upper half.
            let infinite = rm.away_from_zero(self.negative, true, u64::MAX, half);
            return F::INFINITY - u64::from(!infinite);
        }
        if rest != 0 {
            *flags |= NX;
        }
        magnitude
    }
}
