//! IEEE 754-2019 binary32 and binary64 arithmetic as the RISC-V F and D
//! extensions define it, on raw bit patterns.
//!
//! The host's own floating point cannot stand in for a guest's: it has one
//! rounding mode, no portable access to exception flags, and its own idea of
//! which NaN comes out. Here every operation takes the rounding mode and the
//! accrued flags explicitly and is exact in value, flags and NaN.
//!
//! # How it works
//!
//! [`Format`] describes a binary interchange format; [`F32`] and [`F64`] are
//! the two of RV64GC. An operation runs in three steps that know nothing of
//! each other:
//!
//! 1. `decode` turns bits into a format-free value: NaN, infinity, zero, or an
//!    integer significand of up to 128 bits times a power of two;
//! 2. the operation computes the mathematical result in that form. Where it
//!    does not fit, the last bit of the significand is made sticky: it says
//!    that something non-zero lies below, which is all that rounding asks;
//! 3. `encode` rounds once, to the destination format, and raises the flags.
//!
//! So a fused multiply-add is literally a product followed by a sum with one
//! `encode` at the end, and a conversion is a `decode` with an `encode` to
//! another format. The `host` submodule short-cuts the common case through the
//! host's arithmetic where that provably gives the same answer.
//!
//! # Conventions
//!
//! - `flags` is accrued like `fcsr.fflags`: operations set bits ([`NX`],
//!   [`UF`], [`OF`], [`DZ`], [`NV`]) and never clear one.
//! - Every NaN result is the canonical one (Unprivileged ISA, "F" extension,
//!   "NaN Generation and Propagation"); payloads are never propagated.
//! - Tininess is detected after rounding (same chapter, "Subnormal Arithmetic").
//! - Functions on `F32` take and return 32-bit patterns; [`nan_box`] and
//!   [`nan_unbox`] translate to and from 64-bit `f` registers.

mod arith;
mod compare;
mod convert;
mod format;
mod host;
mod round;
mod value;

#[cfg(test)]
mod tests;

pub use arith::{add, div, fmadd, fmsub, fnmadd, fnmsub, mul, sqrt, sub};
pub use compare::{classify, fclass, feq, fle, flt, max, min, sgnj, sgnjn, sgnjx};
pub use convert::{Integer, convert, from_int, nan_box, nan_unbox, to_int};
pub use format::{F32, F64, Format};
pub use round::Rounding;

/// Inexact: the result was rounded (`fcsr` bit 0).
pub const NX: u8 = 1 << 0;
/// Underflow: the result was tiny after rounding and inexact (`fcsr` bit 1).
pub const UF: u8 = 1 << 1;
/// Overflow: the rounded result exceeds the largest finite number (`fcsr` bit 2).
pub const OF: u8 = 1 << 2;
/// Divide by zero: an exact infinity from finite operands (`fcsr` bit 3).
pub const DZ: u8 = 1 << 3;
/// Invalid operation: no meaningful result (`fcsr` bit 4).
pub const NV: u8 = 1 << 4;
