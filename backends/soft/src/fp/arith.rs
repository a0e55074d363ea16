//! Computational operations: F\[N\]M\[ADD|SUB\], FADD, FSUB, FMUL, FDIV, FSQRT.
//!
//! All of them round once, by `rm`, and accrue exceptions into `flags`.

use super::Rounding;
use super::format::{Format, Layout};
use super::host;
use super::value::{Value, decode, decode_normal, encode};

/// `a + b` (FADD). Raises NV, OF, NX.
#[inline]
pub fn add<F: Format>(a: F::Bits, b: F::Bits, rm: Rounding, flags: &mut u8) -> F::Bits {
    if let Some(sum) = host::add::<F>(a, b, rm, *flags) {
        return sum;
    }
    // The common case goes straight, without `Value` to be stored and matched.
    if let (Some(x), Some(y)) = (decode_normal::<F>(a), decode_normal::<F>(b)) {
        if let Some(sum) = x.plus(y) {
            return sum.encode::<F>(rm, flags);
        }
    }
    encode::<F>(Value::sum(decode::<F>(a), decode::<F>(b), rm), rm, flags)
}

/// `a − b` (FSUB). Raises NV, OF, NX.
#[inline]
pub fn sub<F: Format>(a: F::Bits, b: F::Bits, rm: Rounding, flags: &mut u8) -> F::Bits {
    add::<F>(a, F::negate(b), rm, flags)
}

/// `a × b` (FMUL). Raises NV, OF, UF, NX.
#[inline]
pub fn mul<F: Format>(a: F::Bits, b: F::Bits, rm: Rounding, flags: &mut u8) -> F::Bits {
    if let Some(product) = host::mul::<F>(a, b, rm, *flags) {
        return product;
    }
    encode::<F>(Value::product(decode::<F>(a), decode::<F>(b)), rm, flags)
}

/// `a ÷ b` (FDIV). Raises NV, DZ, OF, UF, NX.
#[inline]
pub fn div<F: Format>(a: F::Bits, b: F::Bits, rm: Rounding, flags: &mut u8) -> F::Bits {
    if let Some(quotient) = host::div::<F>(a, b, rm, *flags) {
        return quotient;
    }
    encode::<F>(Value::quotient(decode::<F>(a), decode::<F>(b), flags), rm, flags)
}

/// `√a` (FSQRT). Raises NV, NX.
#[inline]
pub fn sqrt<F: Format>(a: F::Bits, rm: Rounding, flags: &mut u8) -> F::Bits {
    encode::<F>(decode::<F>(a).square_root(), rm, flags)
}

/// `a × b + c` with one rounding (FMADD). Raises NV, OF, UF, NX.
///
/// 0 × ∞ raises NV even if `c` is a quiet NaN.
#[inline]
pub fn fmadd<F: Format>(
    a: F::Bits,
    b: F::Bits,
    c: F::Bits,
    rm: Rounding,
    flags: &mut u8,
) -> F::Bits {
    // As in `add`, and here there is no host result to hope for.
    let normal = (decode_normal::<F>(a), decode_normal::<F>(b), decode_normal::<F>(c));
    if let (Some(x), Some(y), Some(z)) = normal {
        if let Some(sum) = x.times(y).plus(z) {
            return sum.encode::<F>(rm, flags);
        }
    }
    let product = Value::product(decode::<F>(a), decode::<F>(b));
    encode::<F>(Value::sum(product, decode::<F>(c), rm), rm, flags)
}

/// `a × b − c` with one rounding (FMSUB); exceptions as in [`fmadd`].
#[inline]
pub fn fmsub<F: Format>(
    a: F::Bits,
    b: F::Bits,
    c: F::Bits,
    rm: Rounding,
    flags: &mut u8,
) -> F::Bits {
    fmadd::<F>(a, b, F::negate(c), rm, flags)
}

/// `−(a × b) + c` with one rounding (FNMSUB); exceptions as in [`fmadd`].
#[inline]
pub fn fnmsub<F: Format>(
    a: F::Bits,
    b: F::Bits,
    c: F::Bits,
    rm: Rounding,
    flags: &mut u8,
) -> F::Bits {
    fmadd::<F>(F::negate(a), b, c, rm, flags)
}

/// `−(a × b) − c` with one rounding (FNMADD); exceptions as in [`fmadd`].
#[inline]
pub fn fnmadd<F: Format>(
    a: F::Bits,
    b: F::Bits,
    c: F::Bits,
    rm: Rounding,
    flags: &mut u8,
) -> F::Bits {
    fmadd::<F>(F::negate(a), b, F::negate(c), rm, flags)
}
