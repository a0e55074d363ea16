//! A short cut through the host's arithmetic, for when it is sure to agree.
//!
//! Rust's `f32` and `f64` operations are the IEEE 754 ones, correctly rounded
//! to nearest, ties to even, with subnormal numbers, on every supported target
//! (x86 without SSE2 computes in a wider format and is left out below). What
//! they do not give is the exception flags and a defined NaN. So a host result
//! `r` is taken only if
//!
//! - the mode is RNE, so that `r` is the guest's value unless it is a NaN, and
//! - NX is already set, so that whether `r` is inexact need not be known, and
//! - `r` itself proves that no other exception occurred:
//!   - *Addition.* `r` finite. An infinite or NaN operand would have made `r`
//!     infinite or NaN, so NV is out; overflow rounds to infinity under RNE, so
//!     OF is out. A sum too small to be normal is exact (both operands are
//!     multiples of the smallest subnormal number), so UF is out.
//!   - *Multiplication.* `r` finite and above the smallest normal magnitude, or
//!     zero with a zero operand. NV and OF are out as above. Underflow needs a
//!     product that is below the smallest normal magnitude when rounded with
//!     unbounded exponent; `r`, larger than that magnitude by a unit in the
//!     last place, cannot come from one. With a zero operand the product is
//!     exact. Zero from other operands has underflowed and is not taken.
//!   - *Division.* The same, with the dividend as the one that may be zero:
//!     x ÷ 0 is infinite or NaN, so DZ and NV are out, and x ÷ ∞ is a zero
//!     whose dividend is not.
//!
//! Square root and fused multiply-add have no counterpart in `core`.

use super::format::{F32, F64, Format, Layout};
use super::{NX, Rounding};

/// The host's operations on a format, by bit patterns in the low bits of a
/// `u64`; `None` where the host lacks the format.
///
/// Its name cannot be used outside, which seals [`Format`].
pub trait Native {
    /// The host's sum.
    fn add(_a: u64, _b: u64) -> Option<u64> {
        None
    }

    /// The host's product.
    fn mul(_a: u64, _b: u64) -> Option<u64> {
        None
    }

    /// The host's quotient.
    fn div(_a: u64, _b: u64) -> Option<u64> {
        None
    }
}

macro_rules! native {
    ($format:ty, $float:ty, $bits:ty) => {
        #[cfg(any(not(target_arch = "x86"), target_feature = "sse2"))]
        impl Native for $format {
            #[inline]
            fn add(a: u64, b: u64) -> Option<u64> {
                let r = <$float>::from_bits(a as $bits) + <$float>::from_bits(b as $bits);
                Some(r.to_bits().into())
            }

            #[inline]
            fn mul(a: u64, b: u64) -> Option<u64> {
                let r = <$float>::from_bits(a as $bits) * <$float>::from_bits(b as $bits);
                Some(r.to_bits().into())
            }

            #[inline]
            fn div(a: u64, b: u64) -> Option<u64> {
                let r = <$float>::from_bits(a as $bits) / <$float>::from_bits(b as $bits);
                Some(r.to_bits().into())
            }
        }

        #[cfg(not(any(not(target_arch = "x86"), target_feature = "sse2")))]
        impl Native for $format {}
    };
}

native!(F32, f32, u32);
native!(F64, f64, u64);

/// Mode and accrued flags allow a host result to be considered.
#[inline]
fn applicable(rm: Rounding, flags: u8) -> bool {
    rm == Rounding::Rne && flags & NX != 0
}

/// The host's sum, if it is sure to be the guest's and to raise no new flag.
#[inline]
pub(super) fn add<F: Format>(a: F::Bits, b: F::Bits, rm: Rounding, flags: u8) -> Option<F::Bits> {
    if !applicable(rm, flags) {
        return None;
    }
    let r = F::add(a.into(), b.into())?;
    (r & F::MAGNITUDE < F::INFINITY).then(|| F::from_raw(r))
}

/// The host's product, under the same conditions.
#[inline]
pub(super) fn mul<F: Format>(a: F::Bits, b: F::Bits, rm: Rounding, flags: u8) -> Option<F::Bits> {
    if !applicable(rm, flags) {
        return None;
    }
    let r = F::mul(a.into(), b.into())?;
    let certain = safely_normal::<F>(r)
        || is_zero::<F>(r) && (is_zero::<F>(a.into()) || is_zero::<F>(b.into()));
    certain.then(|| F::from_raw(r))
}

/// The host's quotient, under the same conditions.
#[inline]
pub(super) fn div<F: Format>(a: F::Bits, b: F::Bits, rm: Rounding, flags: u8) -> Option<F::Bits> {
    if !applicable(rm, flags) {
        return None;
    }
    let r = F::div(a.into(), b.into())?;
    let certain = safely_normal::<F>(r) || is_zero::<F>(r) && is_zero::<F>(a.into());
    certain.then(|| F::from_raw(r))
}

/// Finite and larger than the smallest normal magnitude.
#[inline]
fn safely_normal<F: Format>(raw: u64) -> bool {
    let magnitude = raw & F::MAGNITUDE;
    magnitude > 1 << F::FRACTION_BITS && magnitude < F::INFINITY
}

#[inline]
fn is_zero<F: Format>(raw: u64) -> bool {
    raw & F::MAGNITUDE == 0
}
