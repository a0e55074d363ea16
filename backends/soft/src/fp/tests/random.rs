//! binary32 and binary64 against the oracle.

use super::operands::{Random, cases};
use super::{
    F32, F64, Format, NX, Op, Rounding, check_comparisons, check_convert, check_from_int,
    check_to_int, mul,
};

fn arithmetic<F: Format>() {
    let mut random = Random::new();
    for _ in 0..cases() {
        let a = random.operand::<F>();
        let b = random.partner::<F>(a);
        let accrued = random.next() as u8 & 0x1f;
        for op in Op::UNARY {
            op.check::<F>([a, 0, 0], accrued, &random);
        }
        for op in Op::BINARY {
            op.check::<F>([a, b, 0], accrued, &random);
        }
        check_comparisons::<F>(a, b, &random);
        let neighbour = random.near::<F>(a);
        check_comparisons::<F>(a, neighbour, &random);
        Op::Sub.check::<F>([a, neighbour, 0], accrued, &random);
    }
}

fn fused<F: Format>() {
    let mut random = Random::new();
    for _ in 0..cases() {
        let a = random.operand::<F>();
        let b = random.partner::<F>(a);
        // Close to the product, so that much of it cancels.
        let product = mul::<F>(F::from_raw(a), F::from_raw(b), Rounding::Rne, &mut 0).into();
        let c = random.near::<F>(product);
        for op in Op::TERNARY {
            op.check::<F>([a, b, c], NX, &random);
        }
    }
}

fn integers<F: Format>() {
    let mut random = Random::new();
    for _ in 0..cases() {
        let a = random.operand::<F>();
        check_to_int::<F, i32>(a, &random);
        check_to_int::<F, u32>(a, &random);
        check_to_int::<F, i64>(a, &random);
        check_to_int::<F, u64>(a, &random);
        let n = random.integer();
        check_from_int::<F, i32>(n as i32, &random);
        check_from_int::<F, u32>(n as u32, &random);
        check_from_int::<F, i64>(n as i64, &random);
        check_from_int::<F, u64>(n, &random);
    }
}

#[test]
fn arithmetic_f32() {
    arithmetic::<F32>();
}

#[test]
fn arithmetic_f64() {
    arithmetic::<F64>();
}

#[test]
fn fused_f32() {
    fused::<F32>();
}

#[test]
fn fused_f64() {
    fused::<F64>();
}

#[test]
fn integers_f32() {
    integers::<F32>();
}

#[test]
fn integers_f64() {
    integers::<F64>();
}

#[test]
fn between_formats() {
    let mut random = Random::new();
    for _ in 0..cases() {
        let single = random.operand::<F32>();
        check_convert::<F32, F64>(single, &random);
        let double = random.operand::<F64>();
        check_convert::<F64, F32>(double, &random);
        // Doubles within the range of singles, and close to their ties.
        let widened = f64::from(f32::from_bits(single as u32)).to_bits();
        let spread = random.next() & (1 << 29 | 1 << 28 | 1);
        check_convert::<F64, F32>(widened ^ spread, &random);
    }
}
