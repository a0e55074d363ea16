//! Non-arithmetic operations: comparison, minimum and maximum, sign injection,
//! classification. None of them rounds.

use super::NV;
use super::format::{Format, Layout};

/// The bits that FCLASS writes, one of which is set in every result
/// (Unprivileged ISA, "F" extension, table "Format of result of FCLASS").
pub mod fclass {
    /// −∞.
    pub const NEGATIVE_INFINITY: u16 = 1 << 0;
    /// A negative normal number.
    pub const NEGATIVE_NORMAL: u16 = 1 << 1;
    /// A negative subnormal number.
    pub const NEGATIVE_SUBNORMAL: u16 = 1 << 2;
    /// −0.
    pub const NEGATIVE_ZERO: u16 = 1 << 3;
    /// +0.
    pub const POSITIVE_ZERO: u16 = 1 << 4;
    /// A positive subnormal number.
    pub const POSITIVE_SUBNORMAL: u16 = 1 << 5;
    /// A positive normal number.
    pub const POSITIVE_NORMAL: u16 = 1 << 6;
    /// +∞.
    pub const POSITIVE_INFINITY: u16 = 1 << 7;
    /// A signalling NaN.
    pub const SIGNALING_NAN: u16 = 1 << 8;
    /// A quiet NaN.
    pub const QUIET_NAN: u16 = 1 << 9;
}

/// The class of `a` as one of the bits of [`fclass`] (FCLASS). Raises nothing.
#[must_use]
pub fn classify<F: Format>(a: F::Bits) -> u16 {
    use fclass::*;
    let raw: u64 = a.into();
    if F::is_nan(raw) {
        return if F::is_signaling(raw) { SIGNALING_NAN } else { QUIET_NAN };
    }
    let (negative, positive) = match raw & F::MAGNITUDE {
        0 => (NEGATIVE_ZERO, POSITIVE_ZERO),
        m if m <= F::FRACTION => (NEGATIVE_SUBNORMAL, POSITIVE_SUBNORMAL),
        m if m < F::INFINITY => (NEGATIVE_NORMAL, POSITIVE_NORMAL),
        _ => (NEGATIVE_INFINITY, POSITIVE_INFINITY),
    };
    if raw & F::SIGN != 0 { negative } else { positive }
}

/// An integer that orders numbers as their values do, except that −0 comes
/// just below +0.
#[inline]
fn order<F: Format>(raw: u64) -> i64 {
    let magnitude = (raw & F::MAGNITUDE) as i64;
    if raw & F::SIGN != 0 { !magnitude } else { magnitude }
}

/// Raises NV if either operand is a signalling NaN; whether either is a NaN.
#[inline]
fn any_nan<F: Format>(a: u64, b: u64, flags: &mut u8) -> bool {
    if F::is_signaling(a) || F::is_signaling(b) {
        *flags |= NV;
    }
    F::is_nan(a) || F::is_nan(b)
}

/// `a == b` (FEQ), a quiet comparison: raises NV for signalling NaNs only.
#[inline]
pub fn feq<F: Format>(a: F::Bits, b: F::Bits, flags: &mut u8) -> bool {
    let (a, b) = (a.into(), b.into());
    !any_nan::<F>(a, b, flags) && (a == b || (a | b) & F::MAGNITUDE == 0)
}

/// `a < b` (FLT), a signalling comparison: raises NV for any NaN.
#[inline]
pub fn flt<F: Format>(a: F::Bits, b: F::Bits, flags: &mut u8) -> bool {
    let (a, b) = (a.into(), b.into());
    if F::is_nan(a) || F::is_nan(b) {
        *flags |= NV;
        return false;
    }
    order::<F>(a) < order::<F>(b) && (a | b) & F::MAGNITUDE != 0
}

/// `a <= b` (FLE), a signalling comparison: raises NV for any NaN.
#[inline]
pub fn fle<F: Format>(a: F::Bits, b: F::Bits, flags: &mut u8) -> bool {
    let (a, b) = (a.into(), b.into());
    if F::is_nan(a) || F::is_nan(b) {
        *flags |= NV;
        return false;
    }
    order::<F>(a) <= order::<F>(b) || (a | b) & F::MAGNITUDE == 0
}

/// The smaller number (FMIN): minimumNumber of IEEE 754-2019, with −0 < +0.
///
/// Of a number and a NaN it is the number. Raises NV for signalling NaNs.
#[inline]
pub fn min<F: Format>(a: F::Bits, b: F::Bits, flags: &mut u8) -> F::Bits {
    select::<F>(a, b, flags, |a, b| a < b)
}

/// The larger number (FMAX): maximumNumber of IEEE 754-2019, with −0 < +0.
///
/// Of a number and a NaN it is the number. Raises NV for signalling NaNs.
#[inline]
pub fn max<F: Format>(a: F::Bits, b: F::Bits, flags: &mut u8) -> F::Bits {
    select::<F>(a, b, flags, |a, b| a > b)
}

#[inline]
fn select<F: Format>(
    a: F::Bits,
    b: F::Bits,
    flags: &mut u8,
    prefer_first: impl Fn(i64, i64) -> bool,
) -> F::Bits {
    let (x, y) = (a.into(), b.into());
    if any_nan::<F>(x, y, flags) {
        return match (F::is_nan(x), F::is_nan(y)) {
            (true, true) => F::from_raw(F::CANONICAL_NAN),
            (true, false) => b,
            _ => a,
        };
    }
    if prefer_first(order::<F>(x), order::<F>(y)) { a } else { b }
}

/// The magnitude of `a` with the sign of `b` (FSGNJ). NaNs are left alone.
#[inline]
#[must_use]
pub fn sgnj<F: Format>(a: F::Bits, b: F::Bits) -> F::Bits {
    F::from_raw(a.into() & F::MAGNITUDE | b.into() & F::SIGN)
}

/// The magnitude of `a` with the inverted sign of `b` (FSGNJN).
#[inline]
#[must_use]
pub fn sgnjn<F: Format>(a: F::Bits, b: F::Bits) -> F::Bits {
    F::from_raw(a.into() & F::MAGNITUDE | !b.into() & F::SIGN)
}

/// `a` with its sign inverted if `b` is negative (FSGNJX).
#[inline]
#[must_use]
pub fn sgnjx<F: Format>(a: F::Bits, b: F::Bits) -> F::Bits {
    F::from_raw(a.into() ^ b.into() & F::SIGN)
}
