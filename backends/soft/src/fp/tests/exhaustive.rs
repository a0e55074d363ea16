//! Every operand of tiny formats: a machine-checked proof for those.

use super::super::host::Native;
use super::{Format, Layout, Op, check_comparisons, check_convert, check_from_int, check_to_int};

/// A format with 4 exponent bits and 4 digits.
enum Binary8 {}

/// A format with 3 exponent bits and 3 digits.
enum Binary6 {}

impl Native for Binary8 {}
impl Native for Binary6 {}

impl Format for Binary8 {
    type Bits = u8;
    const WIDTH: u32 = 8;
    const PRECISION: u32 = 4;

    fn from_raw(raw: u64) -> u8 {
        raw as u8
    }
}

impl Format for Binary6 {
    type Bits = u8;
    const WIDTH: u32 = 6;
    const PRECISION: u32 = 3;

    fn from_raw(raw: u64) -> u8 {
        raw as u8 & 0x3f
    }
}

fn all<F: Format>() -> impl Iterator<Item = u64> {
    0..F::SIGN << 1
}

const EVERY: &str = "every operand";

#[test]
fn one_and_two_operands() {
    for a in all::<Binary8>() {
        for op in Op::UNARY {
            op.check::<Binary8>([a, 0, 0], 0x1f, &EVERY);
        }
        for b in all::<Binary8>() {
            for op in Op::BINARY {
                op.check::<Binary8>([a, b, 0], 0x1f, &EVERY);
            }
            check_comparisons::<Binary8>(a, b, &EVERY);
        }
    }
}

#[test]
fn three_operands() {
    for a in all::<Binary6>() {
        for b in all::<Binary6>() {
            for c in all::<Binary6>() {
                // The others differ in the signs of operands, and those take
                // every value here.
                Op::Fmadd.check::<Binary6>([a, b, c], 0x1f, &EVERY);
            }
        }
    }
}

#[test]
fn conversions() {
    for a in all::<Binary8>() {
        check_convert::<Binary8, Binary6>(a, &EVERY);
        check_to_int::<Binary8, i32>(a, &EVERY);
        check_to_int::<Binary8, u64>(a, &EVERY);
    }
    for a in all::<Binary6>() {
        check_convert::<Binary6, Binary8>(a, &EVERY);
    }
    for a in -600..600 {
        check_from_int::<Binary8, i32>(a, &EVERY);
        check_from_int::<Binary6, i64>(a.into(), &EVERY);
    }
}
