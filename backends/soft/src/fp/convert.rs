//! Conversions: to and from integers, between formats, and NaN boxing.

use super::format::{Format, Layout};
use super::value::{Finite, Value, decode, encode, shift_right_sticky};
use super::{NV, NX, Rounding};

/// The integer types of FCVT: `i32` (W), `u32` (WU), `i64` (L), `u64` (LU).
///
/// Sealed. On RV64 a 32-bit result, signed or not, reaches its `x` register
/// sign-extended from bit 31; that is left to the caller.
pub trait Integer: Copy + sealed::Sealed {
    /// Smallest value.
    const MIN: i128;
    /// Largest value.
    const MAX: i128;

    /// The value.
    fn to_wide(self) -> i128;

    /// The value, which must lie within [`MIN`](Self::MIN) and
    /// [`MAX`](Self::MAX); otherwise it is taken modulo the type's range.
    fn from_wide(value: i128) -> Self;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! integer {
    ($($t:ty)*) => {$(
        impl sealed::Sealed for $t {}

        impl Integer for $t {
            const MIN: i128 = <$t>::MIN as i128;
            const MAX: i128 = <$t>::MAX as i128;

            #[inline]
            fn to_wide(self) -> i128 {
                self.into()
            }

            #[inline]
            fn from_wide(value: i128) -> Self {
                value as Self
            }
        }
    )*};
}

integer!(i32 u32 i64 u64);

/// `a` rounded to an integer (FCVT.W, .WU, .L, .LU from a format).
///
/// What does not fit once rounded raises NV alone and gives the nearest end of
/// the range; a NaN counts as too large (Unprivileged ISA, "F" extension, table
/// "Domains of float-to-integer conversions"). Otherwise raises NX.
pub fn to_int<F: Format, I: Integer>(a: F::Bits, rm: Rounding, flags: &mut u8) -> I {
    let (rounded, raised) = match decode::<F>(a) {
        Value::Nan { .. } | Value::Infinite { negative: false } => (i128::MAX, 0),
        Value::Infinite { negative: true } => (i128::MIN, 0),
        Value::Zero { .. } => (0, 0),
        Value::Finite(x) => x.to_integer(rm),
    };
    let clamped = rounded.clamp(I::MIN, I::MAX);
    *flags |= if clamped == rounded { raised } else { NV };
    I::from_wide(clamped)
}

impl Finite {
    /// A decoded number rounded to an integer, and NX if that changed it. From
    /// 2^64 on, where every [`Integer`] is exceeded, any value that large.
    fn to_integer(self, rm: Rounding) -> (i128, u8) {
        // As fixed point with 64 places: at most 53 + 64 bits if not scaled up.
        let (magnitude, places) = if self.exponent > 64 {
            (1 << 64, 0)
        } else if self.exponent >= 0 {
            (self.significand << self.exponent, 0)
        } else {
            let fixed = shift_right_sticky(self.significand << 64, self.exponent.unsigned_abs());
            (fixed >> 64, fixed as u64)
        };
        let odd = magnitude & 1 != 0;
        let away = rm.away_from_zero(self.negative, odd, places, 1 << 63);
        // At most 53 + 64 bits, so the sign has room.
        let magnitude = (magnitude + u128::from(away)) as i128;
        (if self.negative { -magnitude } else { magnitude }, if places != 0 { NX } else { 0 })
    }
}

/// `a` rounded to a format (FCVT to a format from .W, .WU, .L, .LU). Raises NX.
///
/// Zero gives +0 in every mode.
pub fn from_int<F: Format, I: Integer>(a: I, rm: Rounding, flags: &mut u8) -> F::Bits {
    let wide = a.to_wide();
    let negative = wide < 0;
    let value = match wide.unsigned_abs() {
        0 => Value::Zero { negative },
        significand => Value::Finite(Finite { negative, exponent: 0, significand }),
    };
    encode::<F>(value, rm, flags)
}

/// `a` converted to another format (FCVT.S.D, FCVT.D.S).
///
/// Raises NV for a signalling NaN; to the narrower format also OF, UF, NX.
#[inline]
pub fn convert<From: Format, To: Format>(a: From::Bits, rm: Rounding, flags: &mut u8) -> To::Bits {
    encode::<To>(decode::<From>(a), rm, flags)
}

/// The bits above a format in a 64-bit `f` register.
#[inline]
fn box_bits<F: Format>() -> u64 {
    !(F::SIGN | F::MAGNITUDE)
}

/// The contents of a 64-bit `f` register that holds `a`: bits above the format
/// are all ones (Unprivileged ISA, "D" extension, "NaN Boxing of Narrower
/// Values"). A number of full width is its own box.
#[inline]
#[must_use]
pub fn nan_box<F: Format>(a: F::Bits) -> u64 {
    a.into() | box_bits::<F>()
}

/// The operand that an operation on `F` finds in a 64-bit `f` register: the
/// canonical NaN unless the register holds a properly boxed number.
///
/// Stores and moves to `x` registers transfer the low bits whatever is above,
/// and so do not use this.
#[inline]
#[must_use]
pub fn nan_unbox<F: Format>(register: u64) -> F::Bits {
    let boxed = register & box_bits::<F>() == box_bits::<F>();
    F::from_raw(if boxed { register } else { F::CANONICAL_NAN })
}
