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
    if let Some(x) = decode_normal::<F>(bits) {
        return Value::Finite(x);
    }
    let raw: u64 = bits.into();
    let negative = raw & F::SIGN != 0;
    match (raw & F::INFINITY, raw & F::FRACTION) {
        (0, 0) => Value::Zero { negative },
        (0, fraction) => {
            let significand = u128::from(fraction);
            Value::Finite(Finite { negative, exponent: F::LEAST_EXPONENT, significand })
        }
        (_, 0) => Value::Infinite { negative },
        _ => Value::Nan { invalid: F::is_signaling(raw) },
    }
}

/// Takes an encoded number apart if it is a normal one.
#[inline]
pub(super) fn decode_normal<F: Format>(bits: F::Bits) -> Option<Finite> {
    let raw: u64 = bits.into();
    let field = ((raw & F::INFINITY) >> F::FRACTION_BITS) as i32;
    let implicit = 1 << F::FRACTION_BITS;
    (field != 0 && field != F::EXPONENT_MAX).then_some(Finite {
        negative: raw & F::SIGN != 0,
        exponent: F::LEAST_EXPONENT + field - 1,
        significand: u128::from(raw & F::FRACTION | implicit),
    })
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
        Value::Finite(x) => return x.encode::<F>(rm, flags),
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
/// Distances above 127 count as 127, which for `x` below 2^127 is the same.
#[inline]
pub(super) fn shift_right_sticky(x: u128, distance: u32) -> u128 {
    // Without a branch: the distance of two operands is hard to predict.
    let distance = distance.min(127);
    let lost = x & ((1 << distance) - 1);
    x >> distance | u128::from(lost != 0)
}

impl Finite {
    /// The sum, or nothing if it is exactly zero. Each operand is a decoded
    /// number or the product of two.
    #[inline]
    pub(super) fn plus(self, other: Self) -> Option<Self> {
        let (high, low) =
            if self.exponent < other.exponent { (other, self) } else { (self, other) };
        // To a common exponent: `high` as far up as leaves room for a carry,
        // `low` down by what is missing. Operands have at most 106 bits, so if
        // anything falls off `low` then `high` reaches bit 126 and exceeds it
        // 2^20 times: the sum keeps more than 120 bits and may be sticky.
        let distance = high.exponent.abs_diff(low.exponent);
        let up = distance.min(high.significand.leading_zeros() - 1);
        let x = high.significand << up;
        let y = shift_right_sticky(low.significand, distance - up);
        let (negative, significand) = if high.negative == low.negative {
            (high.negative, x + y)
        } else {
            (high.negative != (x < y), x.abs_diff(y))
        };
        let exponent = high.exponent - up as i32;
        (significand != 0).then_some(Self { negative, exponent, significand })
    }

    /// The exact product of two decoded numbers.
    #[inline]
    pub(super) fn times(self, other: Self) -> Self {
        Self {
            negative: self.negative != other.negative,
            exponent: self.exponent + other.exponent,
            // At most 53 bits each.
            significand: self.significand * other.significand,
        }
    }

    /// The quotient of two decoded numbers.
    #[inline]
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
    #[inline]
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
