//! The binary interchange formats (IEEE 754-2019 section 3.4).

use super::host::Native;

/// A binary floating-point format: where sign, exponent and fraction lie.
///
/// Sealed: [`F32`] and [`F64`] are the formats of RV64GC.
pub trait Format: Native {
    /// An integer as wide as the format, holding one encoded number.
    type Bits: Copy + Eq + core::fmt::Debug + Into<u64>;

    /// Width of an encoded number in bits.
    const WIDTH: u32;

    /// Digits of the significand, the implicit leading one included.
    const PRECISION: u32;

    /// The low [`WIDTH`](Self::WIDTH) bits of `raw` as an encoded number.
    fn from_raw(raw: u64) -> Self::Bits;
}

/// binary32, the format of the F extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum F32 {}

/// binary64, the format of the D extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum F64 {}

impl Format for F32 {
    type Bits = u32;
    const WIDTH: u32 = 32;
    const PRECISION: u32 = 24;

    #[inline]
    fn from_raw(raw: u64) -> u32 {
        raw as u32
    }
}

impl Format for F64 {
    type Bits = u64;
    const WIDTH: u32 = 64;
    const PRECISION: u32 = 53;

    #[inline]
    fn from_raw(raw: u64) -> u64 {
        raw
    }
}

/// What follows from width and precision. Patterns are held in the low bits of
/// a `u64` whatever the format.
pub(super) trait Layout: Format {
    /// Bits of the trailing significand field.
    const FRACTION_BITS: u32 = Self::PRECISION - 1;
    /// Mask of the trailing significand field.
    const FRACTION: u64 = (1 << Self::FRACTION_BITS) - 1;
    /// The sign bit.
    const SIGN: u64 = 1 << (Self::WIDTH - 1);
    /// Everything but the sign; as a pattern the greatest magnitude.
    const MAGNITUDE: u64 = Self::SIGN - 1;
    /// Plus infinity; also the mask of the exponent field.
    const INFINITY: u64 = Self::MAGNITUDE & !Self::FRACTION;
    /// The most significant fraction bit, set in a quiet NaN.
    const QUIET: u64 = 1 << (Self::FRACTION_BITS - 1);
    /// The one NaN that operations return.
    const CANONICAL_NAN: u64 = Self::INFINITY | Self::QUIET;
    /// The all-ones exponent field of infinities and NaNs.
    const EXPONENT_MAX: i32 = (Self::INFINITY >> Self::FRACTION_BITS) as i32;
    /// Exponent field of 1.0.
    const BIAS: i32 = Self::EXPONENT_MAX / 2;

    /// Exponent of the last digit of the smallest numbers, the subnormal ones
    /// and those with exponent field 1.
    const LEAST_EXPONENT: i32 = 1 - Self::BIAS - Self::FRACTION_BITS as i32;

    /// `raw` is a NaN of either kind.
    #[inline]
    fn is_nan(raw: u64) -> bool {
        raw & Self::MAGNITUDE > Self::INFINITY
    }

    /// `raw` is a signalling NaN.
    #[inline]
    fn is_signaling(raw: u64) -> bool {
        Self::is_nan(raw) && raw & Self::QUIET == 0
    }

    /// The number with its sign inverted.
    #[inline]
    fn negate(bits: Self::Bits) -> Self::Bits {
        Self::from_raw(bits.into() ^ Self::SIGN)
    }
}

impl<F: Format> Layout for F {}
