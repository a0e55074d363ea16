//! How the arithmetic is tested.
//!
//! - `vectors`: results worked out by hand, one per rule of the manual;
//! - `exhaustive`: every operand of two tiny formats, every mode, against the
//!   oracle. The algorithms do not depend on the width, so this meets each
//!   corner that exists;
//! - `random`: binary32 and binary64 against the oracle, operands chosen to
//!   come close to the corners;
//! - `hosted`: the same against the arithmetic of the host.
//!
//! The oracle works from the definitions, with integers of any size, and shares
//! nothing with the code under test.
//!
//! `FP_SEED` and `FP_CASES` in the environment select another seed and the
//! number of random cases per operation.

extern crate std;

mod big;
mod exhaustive;
mod hosted;
mod operands;
mod oracle;
mod random;
mod vectors;

use std::prelude::v1::*;

use super::format::{Format, Layout};
use super::*;
use oracle::{Answer, Spec};

/// All modes, in the order of their encodings.
const MODES: [Rounding; 5] =
    [Rounding::Rne, Rounding::Rtz, Rounding::Rdn, Rounding::Rup, Rounding::Rmm];

/// The format under test as the oracle knows it.
fn spec<F: Format>() -> Spec {
    Spec { width: F::WIDTH, precision: F::PRECISION }
}

/// The operations that round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Add,
    Sub,
    Mul,
    Div,
    Sqrt,
    Fmadd,
    Fmsub,
    Fnmsub,
    Fnmadd,
}

impl Op {
    const UNARY: &[Self] = &[Self::Sqrt];
    const BINARY: &[Self] = &[Self::Add, Self::Sub, Self::Mul, Self::Div];
    const TERNARY: &[Self] = &[Self::Fmadd, Self::Fmsub, Self::Fnmsub, Self::Fnmadd];

    /// The result of the code under test.
    fn run<F: Format>(self, [a, b, c]: [u64; 3], rm: Rounding, flags: &mut u8) -> u64 {
        let [a, b, c] = [a, b, c].map(F::from_raw);
        match self {
            Self::Add => add::<F>(a, b, rm, flags),
            Self::Sub => sub::<F>(a, b, rm, flags),
            Self::Mul => mul::<F>(a, b, rm, flags),
            Self::Div => div::<F>(a, b, rm, flags),
            Self::Sqrt => sqrt::<F>(a, rm, flags),
            Self::Fmadd => fmadd::<F>(a, b, c, rm, flags),
            Self::Fmsub => fmsub::<F>(a, b, c, rm, flags),
            Self::Fnmsub => fnmsub::<F>(a, b, c, rm, flags),
            Self::Fnmadd => fnmadd::<F>(a, b, c, rm, flags),
        }
        .into()
    }

    /// What the result should be.
    fn answer<F: Format>(self, [a, b, c]: [u64; 3]) -> Answer {
        let s = spec::<F>();
        let minus = |x| x ^ F::SIGN;
        match self {
            Self::Add => s.sum(a, b),
            Self::Sub => s.sum(a, minus(b)),
            Self::Mul => s.product(a, b),
            Self::Div => s.quotient(a, b),
            Self::Sqrt => s.square_root(a),
            Self::Fmadd => s.fused(a, b, c),
            Self::Fmsub => s.fused(a, b, minus(c)),
            Self::Fnmsub => s.fused(minus(a), b, c),
            Self::Fnmadd => s.fused(minus(a), b, minus(c)),
        }
    }

    /// Compares code and oracle in every mode, with no flag set before and with
    /// all those that `accrued` says.
    fn check<F: Format>(self, operands: [u64; 3], accrued: u8, note: &dyn std::fmt::Display) {
        let answer = self.answer::<F>(operands);
        for rm in MODES {
            let (bits, raised) = spec::<F>().deliver(&answer, rm);
            for before in [0, NX, accrued] {
                let mut flags = before;
                let got = self.run::<F>(operands, rm, &mut flags);
                assert!(
                    got == bits && flags == before | raised,
                    "{self:?} of {operands:#x?}, {} bits, {rm:?}, flags {before:#x}: \
                     {got:#x} and flags {flags:#x}, not {bits:#x} and {:#x} ({note})",
                    F::WIDTH,
                    before | raised,
                );
            }
        }
    }
}

/// Compares a conversion between formats with the oracle.
fn check_convert<From: Format, To: Format>(a: u64, note: &dyn std::fmt::Display) {
    let answer = spec::<From>().converted(a, spec::<To>());
    for rm in MODES {
        let (bits, raised) = spec::<To>().deliver(&answer, rm);
        let mut flags = 0;
        let got: u64 = convert::<From, To>(From::from_raw(a), rm, &mut flags).into();
        assert!(
            got == bits && flags == raised,
            "{a:#x} of {} to {} bits, {rm:?}: {got:#x} and flags {flags:#x}, \
             not {bits:#x} and {raised:#x} ({note})",
            From::WIDTH,
            To::WIDTH,
        );
    }
}

/// Compares a conversion to an integer type with the oracle.
fn check_to_int<F: Format, I: Integer>(a: u64, note: &dyn std::fmt::Display) {
    for rm in MODES {
        let (value, raised) = spec::<F>().to_integer(a, I::MIN, I::MAX, rm);
        let mut flags = 0;
        let got = to_int::<F, I>(F::from_raw(a), rm, &mut flags).to_wide();
        assert!(
            got == value && flags == raised,
            "{a:#x} of {} bits to {}, {rm:?}: {got} and flags {flags:#x}, \
             not {value} and {raised:#x} ({note})",
            F::WIDTH,
            std::any::type_name::<I>(),
        );
    }
}

/// Compares a conversion from an integer with the oracle.
fn check_from_int<F: Format, I: Integer>(a: I, note: &dyn std::fmt::Display) {
    let answer = spec::<F>().integer(a.to_wide());
    for rm in MODES {
        let (bits, raised) = spec::<F>().deliver(&answer, rm);
        let mut flags = 0;
        let got: u64 = from_int::<F, I>(a, rm, &mut flags).into();
        assert!(
            got == bits && flags == raised,
            "{} to {} bits, {rm:?}: {got:#x} and flags {flags:#x}, \
             not {bits:#x} and {raised:#x} ({note})",
            a.to_wide(),
            F::WIDTH,
        );
    }
}

/// Compares everything that does not round with the host's `f64`, which holds
/// every number of every format here.
fn check_comparisons<F: Format>(a: u64, b: u64, note: &dyn std::fmt::Display) {
    let s = spec::<F>();
    let (x, y) = (s.to_host(a), s.to_host(b));
    let (bits_a, bits_b) = (F::from_raw(a), F::from_raw(b));
    let nan = x.is_nan() || y.is_nan();
    let signalling = if s.is_signalling(a) || s.is_signalling(b) { NV } else { 0 };
    let ordered = if nan { NV } else { 0 };

    let with_flags = |f: &dyn Fn(&mut u8) -> u64| {
        let mut flags = 0;
        (f(&mut flags), flags)
    };
    let context = std::format!("{a:#x} and {b:#x} of {} bits ({note})", F::WIDTH);
    let feq = with_flags(&|f| feq::<F>(bits_a, bits_b, f).into());
    assert_eq!(feq, (u64::from(x == y), signalling), "feq of {context}");
    let flt = with_flags(&|f| flt::<F>(bits_a, bits_b, f).into());
    assert_eq!(flt, (u64::from(x < y), ordered), "flt of {context}");
    let fle = with_flags(&|f| fle::<F>(bits_a, bits_b, f).into());
    assert_eq!(fle, (u64::from(x <= y), ordered), "fle of {context}");

    let a_first = match (x.is_nan(), y.is_nan()) {
        (true, true) => None,
        (true, false) => Some(false),
        (false, true) => Some(true),
        _ if x == y => Some(x.is_sign_negative()),
        _ => Some(x < y),
    };
    let canonical = s.canonical_nan();
    let smaller = a_first.map_or(canonical, |first| if first { a } else { b });
    let larger = match a_first {
        None => canonical,
        Some(first) if nan => [b, a][usize::from(first)],
        Some(first) => [a, b][usize::from(first)],
    };
    let least = with_flags(&|f| min::<F>(bits_a, bits_b, f).into());
    assert_eq!(least, (smaller, signalling), "min of {context}");
    let most = with_flags(&|f| max::<F>(bits_a, bits_b, f).into());
    assert_eq!(most, (larger, signalling), "max of {context}");

    let sign = 1 << (F::WIDTH - 1);
    let negative = b & sign != 0;
    let signed = |minus: bool| if minus { a | sign } else { a & !sign };
    assert_eq!(sgnj::<F>(bits_a, bits_b).into(), signed(negative), "sgnj of {context}");
    assert_eq!(sgnjn::<F>(bits_a, bits_b).into(), signed(!negative), "sgnjn of {context}");
    let flipped = signed((a & sign != 0) != negative);
    assert_eq!(sgnjx::<F>(bits_a, bits_b).into(), flipped, "sgnjx of {context}");
}
