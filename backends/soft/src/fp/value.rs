//! Numbers taken apart: the format-free form that operations compute in.

use super::format::{Format, Layout};
use super::round::Rounding;
use super::{DZ, NV};

/// A floating-point datum, independent of any format.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value {
    /// Not a number. `invalid` if making it is an invalid operation, be it for
    /// a signalling operand or for an undefined result such as 0 × ∞.
    Nan { invalid: bool },
    /// An exact infinity.
    Infinite { negative: bool },
    /// An exact zero.
    Zero { negative: bool },
    /// Any other number.
    Finite(Finite),
}

/// The number ± `significand` × 2^`exponent`, with `significand` not zero.
///
/// A decoded operand is exact and has at most 53 significant bits. A result may
/// have a *sticky* last bit: if so it has at least 60 significant bits, the last
/// is one, and the number it stands for lies within one unit of it, on neither
/// even neighbour. Rounding to 53 or fewer digits cannot tell the difference.
#[derive(Clone, Copy, Debug)]
pub(super) struct Finite {
    pub(super) negative: bool,
    pub(super) exponent: i32,
    pub(super) significand: u128,
}

/// Takes an encoded number apart.
#[inline]
pub(super) fn decode<F: Format>(bits: F::Bits) -> Value {
    let raw: u64 = bits.into();
    let negative = raw & F::SIGN != 0;
    let field = ((raw & F::INFINITY) >> F::FRACTION_BITS) as i32;
    let fraction = raw & F::FRACTION;
    // Subnormal numbers have the scale of exponent field 1, without the
    // implicit one.
    let one = 1 - F::BIAS - F::FRACTION_BITS as i32;
    if field == F::EXPONENT_MAX {
        if fraction == 0 {
            Value::Infinite { negative }
        } else {
            Value::Nan { invalid: F::is_signaling(raw) }
        }
    } else if field != 0 {
        let significand = u128::from(fraction | 1 << F::FRACTION_BITS);
        Value::Finite(Finite { negative, exponent: one + field - 1, significand })
    } else if fraction != 0 {
        Value::Finite(Finite { negative, exponent: one, significand: u128::from(fraction) })
    } else {
        Value::Zero { negative }
    }
}

/// Rounds a value into a format and raises the flags that this entails.
#[inline]
pub(super) fn encode<F: Format>(value: Value, rm: Rounding, flags: &mut u8) -> F::Bits {
    let sign = |negative| if negative { F::SIGN } else { 0 };
    F::from_raw(match value {
        Value::Nan { invalid } => {
            if invalid {
                *flags |= NV;
            }
            F::CANONICAL_NAN
        }
        Value::Infinite { negative } => sign(negative) | F::INFINITY,
        Value::Zero { negative } => sign(negative),
        Value::Finite(x) => sign(x.negative) | x.round::<F>(rm, flags),
    })
}

impl Value {
    const INVALID: Self = Self::Nan { invalid: true };

    /// The result of an operation with at least one NaN operand.
    fn nan_of(a: Self, b: Self) -> Self {
        let invalid = |v| matches!(v, Self::Nan { invalid: true });
        Self::Nan { invalid: invalid(a) || invalid(b) }
    }

    /// `a + b`. The rounding mode decides the sign of an exact zero sum
    /// (IEEE 754-2019 section 6.3).
    #[inline]
    pub(super) fn sum(a: Self, b: Self, rm: Rounding) -> Self {
        use Value::*;
        let cancelled = Zero { negative: rm == Rounding::Rdn };
        match (a, b) {
            (Finite(x), Finite(y)) => x.plus(y).map_or(cancelled, Finite),
            (Nan { .. }, _) | (_, Nan { .. }) => Self::nan_of(a, b),
            (Infinite { negative: x }, Infinite { negative: y }) if x != y => Self::INVALID,
            (Zero { negative: x }, Zero { negative: y }) if x != y => cancelled,
            (Infinite { .. }, _) | (Finite(_), Zero { .. }) => a,
            _ => b,
        }
    }

    /// `a × b`.
    #[inline]
    pub(super) fn product(a: Self, b: Self) -> Self {
        use Value::*;
        let negative = a.is_negative() != b.is_negative();
        match (a, b) {
            (Finite(x), Finite(y)) => Finite(x.times(y)),
            (Nan { .. }, _) | (_, Nan { .. }) => Self::nan_of(a, b),
            (Infinite { .. }, Zero { .. }) | (Zero { .. }, Infinite { .. }) => Self::INVALID,
            (Infinite { .. }, _) | (_, Infinite { .. }) => Infinite { negative },
            (Zero { .. }, _) | (_, Zero { .. }) => Zero { negative },
        }
    }

    /// `a ÷ b`; raises [`DZ`] where a finite number is divided by zero.
    #[inline]
    pub(super) fn quotient(a: Self, b: Self, flags: &mut u8) -> Self {
        use Value::*;
        let negative = a.is_negative() != b.is_negative();
        match (a, b) {
            (Finite(x), Finite(y)) => Finite(x.over(y)),
            (Nan { .. }, _) | (_, Nan { .. }) => Self::nan_of(a, b),
            (Infinite { .. }, Infinite { .. }) | (Zero { .. }, Zero { .. }) => Self::INVALID,
            (Infinite { .. }, _) => Infinite { negative },
            (Zero { .. }, _) | (_, Infinite { .. }) => Zero { negative },
            (Finite(_), Zero { .. }) => {
                *flags |= DZ;
                Infinite { negative }
            }
        }
    }

    /// `√self`; of −0 it is −0 (IEEE 754-2019 section 5.4.1).
    #[inline]
    pub(super) fn square_root(self) -> Self {
        match self {
            Self::Nan { .. } | Self::Zero { .. } => self,
            _ if self.is_negative() => Self::INVALID,
            Self::Infinite { .. } => self,
            Self::Finite(x) => Self::Finite(x.square_root()),
        }
    }

    /// The sign; of no meaning in a NaN.
    fn is_negative(self) -> bool {
        match self {
            Self::Nan { .. } => false,
            Self::Infinite { negative } | Self::Zero { negative } => negative,
            Self::Finite(x) => x.negative,
        }
    }
}

/// `x` shifted right, the last bit of the result set if any one bit fell off.
#[inline]
pub(super) fn shift_right_sticky(x: u128, distance: u32) -> u128 {
    match distance {
        0 => x,
        1..=127 => x >> distance | u128::from(x << (128 - distance) != 0),
        _ => u128::from(x != 0),
    }
}

impl Finite {
    /// The sum, or nothing if it is exactly zero. At most one operand may be a
    /// product, neither may be sticky.
    fn plus(self, other: Self) -> Option<Self> {
        // Leading ones to bit 126, so that a carry still fits. An operand has
        // at most 106 significant bits, so bits fall off the smaller one only
        // when it lies more than 20 places below: then the difference loses at
        // most one leading digit, and keeps far more than rounding needs.
        let [a, b] = [self, other].map(|x| {
            let up = x.significand.leading_zeros() - 1;
            Self { exponent: x.exponent - up as i32, significand: x.significand << up, ..x }
        });
        let (big, small) =
            if (a.exponent, a.significand) < (b.exponent, b.significand) { (b, a) } else { (a, b) };
        let aligned = shift_right_sticky(small.significand, big.exponent.abs_diff(small.exponent));
        let significand = if big.negative == small.negative {
            big.significand + aligned
        } else {
            big.significand - aligned
        };
        (significand != 0).then_some(Self { significand, ..big })
    }

    /// The exact product of two decoded numbers.
    fn times(self, other: Self) -> Self {
        Self {
            negative: self.negative != other.negative,
            exponent: self.exponent + other.exponent,
            // At most 53 bits each.
            significand: self.significand * other.significand,
        }
    }

    /// The quotient of two decoded numbers.
    fn over(self, other: Self) -> Self {
        // 128 bits divided by at most 53 leave at least 75.
        let up = self.significand.leading_zeros();
        let dividend = self.significand << up;
        let quotient = dividend / other.significand;
        let remainder = dividend - quotient * other.significand;
        Self {
            negative: self.negative != other.negative,
            exponent: self.exponent - up as i32 - other.exponent,
            significand: quotient | u128::from(remainder != 0),
        }
    }

    /// The square root of a positive decoded number.
    fn square_root(self) -> Self {
        // 127 or 128 bits, whichever makes the exponent even; 64 bits of root.
        let up = self.significand.leading_zeros();
        let up = up - (self.exponent - up as i32).rem_euclid(2) as u32;
        let radicand = self.significand << up;
        let root = radicand.isqrt();
        Self {
            negative: false,
            exponent: (self.exponent - up as i32) / 2,
            significand: root | u128::from(root * root != radicand),
        }
    }
}
