//! Results worked out by hand, by rule of the manual.
//!
//! A line gives the result in each mode, in the order RNE, RTZ, RDN, RUP, RMM,
//! and the flags.

use super::{
    DZ, F32, F64, Integer, MODES, NV, NX, OF, Op, Rounding, UF, classify, convert, fclass, feq,
    fle, flt, from_int, max, min, nan_box, nan_unbox, sgnj, sgnjn, sgnjx, to_int,
};

const NEG: u64 = 1 << 63;
const ONE: u64 = 1f64.to_bits();
const TWO: u64 = 2f64.to_bits();
const THREE: u64 = 3f64.to_bits();
const HALF: u64 = 0.5f64.to_bits();
const INF: u64 = f64::INFINITY.to_bits();
const MAX: u64 = f64::MAX.to_bits();
/// Smallest normal number; one less is the largest subnormal number.
const TINY: u64 = f64::MIN_POSITIVE.to_bits();
const NAN: u64 = 0x7ff8_0000_0000_0000;
/// A quiet NaN with sign and payload, which must not survive.
const PAYLOAD: u64 = 0xfff8_0000_0000_beef;
/// A signalling NaN.
const SNAN: u64 = 0x7ff0_0000_0000_0001;

/// 2^n as a double.
const fn power(n: i64) -> u64 {
    ((n + 1023) as u64) << 52
}

/// Checks one operation on doubles in every mode.
#[track_caller]
fn each(op: Op, operands: [u64; 3], results: [u64; 5], flags: [u8; 5]) {
    for (i, rm) in MODES.into_iter().enumerate() {
        for before in [0, NX, NV | DZ] {
            let mut accrued = before;
            let got = op.run::<F64>(operands, rm, &mut accrued);
            assert_eq!(
                (got, accrued),
                (results[i], flags[i] | before),
                "{op:?} {operands:#x?} {rm:?}, flags {before:#x}: {got:#x}"
            );
        }
    }
}

/// The same where the mode makes no difference.
#[track_caller]
fn same(op: Op, operands: [u64; 3], result: u64, flags: u8) {
    each(op, operands, [result; 5], [flags; 5]);
}

#[test]
fn modes_have_their_encodings() {
    for (i, rm) in MODES.into_iter().enumerate() {
        assert_eq!(Rounding::from_bits(i as u8), Some(rm));
        assert_eq!(rm as usize, i);
    }
    for reserved in 5..=u8::MAX {
        assert_eq!(Rounding::from_bits(reserved), None);
    }
    assert_eq!([NX, UF, OF, DZ, NV], [1, 2, 4, 8, 16]);
}

#[test]
fn addition() {
    use Op::{Add, Sub};
    let up = ONE + 1;
    // A tie above an even and above an odd number, of both signs.
    each(Add, [ONE, power(-53), 0], [ONE, ONE, ONE, up, up], [NX; 5]);
    each(Add, [up, power(-53), 0], [up + 1, up, up, up + 1, up + 1], [NX; 5]);
    let (one, more) = (ONE | NEG, up | NEG);
    each(Sub, [ONE | NEG, power(-53), 0], [one, one, more, one, more], [NX; 5]);
    // A tie below a power of two.
    let below = ONE - 1;
    each(Sub, [ONE, power(-54), 0], [ONE, below, below, ONE, ONE], [NX; 5]);
    // Far below the last digit.
    each(Add, [ONE, 1, 0], [ONE, ONE, ONE, up, ONE], [NX; 5]);
    each(Sub, [ONE, 1, 0], [ONE, below, below, ONE, ONE], [NX; 5]);
    // Exact.
    same(Add, [ONE, TWO, 0], THREE, 0);
    same(Sub, [up, ONE, 0], power(-52), 0);
    same(Add, [1, 1, 0], 2, 0);
    same(Add, [TINY - 1, 1, 0], TINY, 0);
    same(Sub, [TINY, 1, 0], TINY - 1, 0);
}

#[test]
fn zero_sums() {
    use Op::{Add, Sub};
    each(Sub, [ONE, ONE, 0], [0, 0, NEG, 0, 0], [0; 5]);
    each(Add, [0, NEG, 0], [0, 0, NEG, 0, 0], [0; 5]);
    each(Sub, [NEG, NEG, 0], [0, 0, NEG, 0, 0], [0; 5]);
    same(Add, [0, 0, 0], 0, 0);
    same(Add, [NEG, NEG, 0], NEG, 0);
    same(Sub, [NEG, 0, 0], NEG, 0);
    same(Add, [NEG, ONE, 0], ONE, 0);
    same(Sub, [0, ONE, 0], ONE | NEG, 0);
}

#[test]
fn overflow() {
    let both = OF | NX;
    each(Op::Add, [MAX, MAX, 0], [INF, MAX, MAX, INF, INF], [both; 5]);
    let [inf, max] = [INF | NEG, MAX | NEG];
    each(Op::Sub, [max, MAX, 0], [inf, max, inf, max, inf], [both; 5]);
    each(Op::Mul, [MAX, MAX, 0], [INF, MAX, MAX, INF, INF], [both; 5]);
    each(Op::Div, [MAX, TINY | NEG, 0], [inf, max, inf, max, inf], [both; 5]);
    // Half a unit above the largest number is a tie with the next power of two;
    // rounded down, that is no overflow. Just less than half stays.
    let flags = [both, NX, NX, both, both];
    each(Op::Add, [MAX, power(970), 0], [INF, MAX, MAX, INF, INF], flags);
    let flags = [NX, NX, NX, both, NX];
    each(Op::Add, [MAX, power(970) - 1, 0], [MAX, MAX, MAX, INF, MAX], flags);
}

#[test]
fn underflow() {
    let both = UF | NX;
    // Exact and tiny: no underflow.
    same(Op::Mul, [TINY, HALF, 0], TINY / 2, 0);
    // A tie between zero and the smallest number.
    each(Op::Mul, [1, HALF, 0], [0, 0, 0, 1, 1], [both; 5]);
    each(Op::Mul, [1 | NEG, HALF, 0], [NEG, NEG, 1 | NEG, NEG, 1 | NEG], [both; 5]);
    each(Op::Mul, [1, 1, 0], [0, 0, 0, 1, 0], [both; 5]);
    each(Op::Div, [1, MAX, 0], [0, 0, 0, 1, 0], [both; 5]);
    // 2^-1022 (1 - 2^-53) has 53 digits: tiny although it may round to normal.
    let last = TINY - 1;
    each(Op::Mul, [TINY, ONE - 1, 0], [TINY, last, last, TINY, TINY], [both; 5]);
    // 2^-1022 (1 - 2^-104) is tiny after rounding only where rounded down.
    let flags = [NX, both, both, NX, NX];
    each(Op::Mul, [TINY + 1, ONE - 2, 0], [TINY, last, last, TINY, TINY], flags);
    each(Op::Fmadd, [TINY + 1, ONE - 2, NEG], [TINY, last, last, TINY, TINY], flags);
}

#[test]
fn multiplication() {
    same(Op::Mul, [TWO, HALF | NEG, 0], ONE | NEG, 0);
    // (1 + 2^-52)² = 1 + 2^-51 + 2^-104.
    each(Op::Mul, [ONE + 1, ONE + 1, 0], [2, 2, 2, 3, 2].map(|n| ONE + n), [NX; 5]);
    same(Op::Mul, [0, ONE | NEG, 0], NEG, 0);
    same(Op::Mul, [NEG, NEG, 0], 0, 0);
    same(Op::Mul, [INF, 1 | NEG, 0], INF | NEG, 0);
    same(Op::Mul, [INF, 0, 0], NAN, NV);
    same(Op::Mul, [NEG, INF, 0], NAN, NV);
}

#[test]
fn division() {
    let third = 0x3fd5_5555_5555_5555;
    each(Op::Div, [ONE, THREE, 0], [0, 0, 0, 1, 0].map(|n| third + n), [NX; 5]);
    let negative = third | NEG;
    each(Op::Div, [ONE, THREE | NEG, 0], [0, 0, 1, 0, 0].map(|n| negative + n), [NX; 5]);
    same(Op::Div, [3, 1, 0], THREE, 0);
    same(Op::Div, [ONE, 0, 0], INF, DZ);
    same(Op::Div, [ONE, NEG, 0], INF | NEG, DZ);
    same(Op::Div, [INF, 0, 0], INF, 0);
    same(Op::Div, [ONE, INF | NEG, 0], NEG, 0);
    same(Op::Div, [0, THREE, 0], 0, 0);
    same(Op::Div, [0, NEG, 0], NAN, NV);
    same(Op::Div, [INF, INF, 0], NAN, NV);
}

#[test]
fn square_root() {
    // √2 = 1.6a09e667f3bcc908b2fb… in hexadecimal.
    let root = 0x3ff6_a09e_667f_3bcc;
    each(Op::Sqrt, [TWO, 0, 0], [1, 0, 0, 1, 1].map(|n| root + n), [NX; 5]);
    same(Op::Sqrt, [4f64.to_bits(), 0, 0], TWO, 0);
    same(Op::Sqrt, [1, 0, 0], power(-537), 0);
    same(Op::Sqrt, [0, 0, 0], 0, 0);
    same(Op::Sqrt, [NEG, 0, 0], NEG, 0);
    same(Op::Sqrt, [INF, 0, 0], INF, 0);
    same(Op::Sqrt, [1 | NEG, 0, 0], NAN, NV);
    same(Op::Sqrt, [INF | NEG, 0, 0], NAN, NV);
}

#[test]
fn fused_multiply_add() {
    use Op::{Fmadd, Fmsub, Fnmadd, Fnmsub};
    let minus = |x: f64| (-x).to_bits();
    same(Fmadd, [ONE, TWO, THREE], 5f64.to_bits(), 0);
    same(Fmsub, [ONE, TWO, THREE], minus(1.0), 0);
    same(Fnmsub, [ONE, TWO, THREE], ONE, 0);
    same(Fnmadd, [ONE, TWO, THREE], minus(5.0), 0);
    // The product is not rounded: (1 + 2^-52)² − (1 + 2^-51) = 2^-104.
    same(Fmsub, [ONE + 1, ONE + 1, ONE + 2], power(-104), 0);
    // Nor does it overflow.
    same(Fmadd, [MAX, TWO, MAX | NEG], MAX, 0);
    // Signs of zero: −(1 × 1) − (−1) is −1 + 1, not −(1 − 1).
    each(Fnmadd, [ONE, ONE, ONE | NEG], [0, 0, NEG, 0, 0], [0; 5]);
    each(Fmsub, [ONE, ONE, ONE], [0, 0, NEG, 0, 0], [0; 5]);
    each(Fmadd, [0, ONE, NEG], [0, 0, NEG, 0, 0], [0; 5]);
    same(Fmadd, [NEG, ONE, NEG], NEG, 0);
    // A product of zero adds nothing.
    same(Fmadd, [0, MAX, 1], 1, 0);
    // The addend far below the product, and the other way.
    each(Fmadd, [ONE, ONE, 1], [0, 0, 0, 1, 0].map(|n| ONE + n), [NX; 5]);
    each(Fmadd, [1, 1, ONE | NEG], [0, 1, 0, 1, 0].map(|n| (ONE | NEG) - n), [NX; 5]);
    // Infinities.
    same(Fmadd, [INF, ONE, MAX], INF, 0);
    same(Fmadd, [ONE, ONE, INF | NEG], INF | NEG, 0);
    same(Fmadd, [INF, ONE, INF | NEG], NAN, NV);
    same(Fmsub, [INF, ONE, INF], NAN, NV);
    same(Fnmadd, [INF, ONE, INF | NEG], NAN, NV);
    // 0 × ∞ is invalid even with a quiet NaN to add.
    same(Fmadd, [0, INF, PAYLOAD], NAN, NV);
    same(Fmadd, [INF, 0, ONE], NAN, NV);
    same(Fmadd, [PAYLOAD, INF, ONE], NAN, 0);
}

#[test]
fn nan_operands() {
    for op in [Op::UNARY, Op::BINARY, Op::TERNARY].concat() {
        same(op, [PAYLOAD; 3], NAN, 0);
        same(op, [SNAN; 3], NAN, NV);
        same(op, [SNAN | NEG; 3], NAN, NV);
        if op != Op::Sqrt {
            same(op, [ONE, PAYLOAD, ONE], NAN, 0);
            same(op, [PAYLOAD, SNAN, ONE], NAN, NV);
            same(op, [INF, SNAN, INF], NAN, NV);
        }
    }
    for op in Op::TERNARY {
        same(*op, [ONE, ONE, PAYLOAD], NAN, 0);
        same(*op, [ONE, PAYLOAD, SNAN], NAN, NV);
    }
}

#[test]
fn single_precision() {
    let check = |op: Op, [x, y, z]: [f32; 3], rm, want: f32, flags| {
        let mut raised = 0;
        let operands = [x, y, z].map(|v| v.to_bits().into());
        let got = op.run::<F32>(operands, rm, &mut raised);
        assert_eq!((got as u32, raised), (want.to_bits(), flags), "{op:?} {x} {y} {z} {rm:?}");
    };
    use Rounding::*;
    check(Op::Add, [0.1, 0.2, 0.0], Rne, 0.3, NX);
    check(Op::Add, [f32::MAX, f32::MAX, 0.0], Rtz, f32::MAX, OF | NX);
    check(Op::Sub, [1.5, 1.5, 0.0], Rdn, -0.0, 0);
    check(Op::Mul, [f32::MIN_POSITIVE, 0.5, 0.0], Rne, f32::MIN_POSITIVE / 2.0, 0);
    check(Op::Mul, [f32::from_bits(1), 0.5, 0.0], Rmm, f32::from_bits(1), UF | NX);
    check(Op::Div, [1.0, 3.0, 0.0], Rne, f32::from_bits(0x3eaa_aaab), NX);
    check(Op::Div, [1.0, 3.0, 0.0], Rtz, f32::from_bits(0x3eaa_aaaa), NX);
    check(Op::Div, [1.0, -0.0, 0.0], Rne, f32::NEG_INFINITY, DZ);
    check(Op::Sqrt, [2.0, 0.0, 0.0], Rup, f32::from_bits(0x3fb5_04f4), NX);
    check(Op::Sqrt, [2.0, 0.0, 0.0], Rne, f32::from_bits(0x3fb5_04f3), NX);
    check(Op::Fnmsub, [2.0, 3.0, 7.0], Rne, 1.0, 0);
    let mut raised = 0;
    assert_eq!(Op::Add.run::<F32>([0x7f80_0001, 0, 0], Rne, &mut raised), 0x7fc0_0000);
    assert_eq!(raised, NV);
}

#[test]
fn minimum_and_maximum() {
    let check = |a: u64, b: u64, least: u64, most: u64, flags| {
        for (a, b) in [(a, b), (b, a)] {
            let (mut low, mut high) = (0, 0);
            assert_eq!((min::<F64>(a, b, &mut low), low), (least, flags), "min {a:#x} {b:#x}");
            assert_eq!((max::<F64>(a, b, &mut high), high), (most, flags), "max {a:#x} {b:#x}");
        }
    };
    check(ONE, TWO, ONE, TWO, 0);
    check(ONE | NEG, TWO | NEG, TWO | NEG, ONE | NEG, 0);
    check(0, NEG, NEG, 0, 0);
    check(INF, INF | NEG, INF | NEG, INF, 0);
    check(ONE, PAYLOAD, ONE, ONE, 0);
    check(NEG, SNAN, NEG, NEG, NV);
    check(PAYLOAD, PAYLOAD, NAN, NAN, 0);
    check(PAYLOAD, SNAN, NAN, NAN, NV);
}

#[test]
fn comparisons() {
    let check = |a, b, want: [bool; 3], quiet: u8, signalling: u8| {
        let mut flags = [0; 3];
        let got = [
            feq::<F64>(a, b, &mut flags[0]),
            flt::<F64>(a, b, &mut flags[1]),
            fle::<F64>(a, b, &mut flags[2]),
        ];
        assert_eq!(got, want, "{a:#x} {b:#x}");
        assert_eq!(flags, [quiet, signalling, signalling], "{a:#x} {b:#x}");
    };
    check(ONE, ONE, [true, false, true], 0, 0);
    check(ONE, TWO, [false, true, true], 0, 0);
    check(ONE | NEG, TWO | NEG, [false, false, false], 0, 0);
    check(TWO | NEG, ONE, [false, true, true], 0, 0);
    check(0, NEG, [true, false, true], 0, 0);
    check(NEG, 0, [true, false, true], 0, 0);
    check(NEG, 1, [false, true, true], 0, 0);
    check(INF | NEG, INF, [false, true, true], 0, 0);
    check(NAN, NAN, [false; 3], 0, NV);
    check(ONE, PAYLOAD, [false; 3], 0, NV);
    check(SNAN, ONE, [false; 3], NV, NV);
}

#[test]
fn signs_and_classes() {
    assert_eq!(sgnj::<F64>(ONE, NEG), ONE | NEG);
    assert_eq!(sgnjn::<F64>(ONE | NEG, NEG), ONE);
    assert_eq!(sgnjx::<F64>(ONE | NEG, NEG), ONE);
    // NaNs are only bits here.
    assert_eq!(sgnj::<F64>(PAYLOAD, 0), PAYLOAD & !NEG);
    assert_eq!(sgnjn::<F64>(SNAN, ONE), SNAN | NEG);
    assert_eq!(sgnjx::<F32>(0x7fc0_0000, 0x8000_0000), 0xffc0_0000);

    let classes = [INF | NEG, MAX | NEG, (TINY - 1) | NEG, NEG, 0, 1, TINY, INF, SNAN, NAN];
    for (bit, a) in classes.into_iter().enumerate() {
        assert_eq!(classify::<F64>(a), 1 << bit, "{a:#x}");
    }
    assert_eq!(classify::<F32>(0x7f80_0001), fclass::SIGNALING_NAN);
    assert_eq!(classify::<F32>(0xffc0_0000), fclass::QUIET_NAN);
}

/// Checks a conversion to an integer type in every mode.
#[track_caller]
fn integers<I: Integer>(a: f64, results: [i128; 5], flags: [u8; 5]) {
    for (i, rm) in MODES.into_iter().enumerate() {
        let mut raised = 0;
        let got = to_int::<F64, I>(a.to_bits(), rm, &mut raised).to_wide();
        assert_eq!((got, raised), (results[i], flags[i]), "{a:e} {rm:?}");
    }
}

#[test]
fn to_integers() {
    integers::<i32>(2.5, [2, 2, 2, 3, 3], [NX; 5]);
    integers::<i32>(-2.5, [-2, -2, -3, -2, -3], [NX; 5]);
    integers::<i64>(3.5, [4, 3, 3, 4, 4], [NX; 5]);
    integers::<i64>(f64::from_bits(1), [0, 0, 0, 1, 0], [NX; 5]);
    integers::<i64>(-0.0, [0; 5], [0; 5]);
    integers::<u64>(-0.5, [0; 5], [NX, NX, NV, NX, NV]);
    integers::<u32>(-0.25, [0; 5], [NX, NX, NV, NX, NX]);
    integers::<u32>(-1.0, [0; 5], [NV; 5]);

    // The table of valid inputs and of results for the others.
    let (lo, hi) = (i128::from(i32::MIN), i128::from(i32::MAX));
    integers::<i32>(2_147_483_647.0, [hi; 5], [0; 5]);
    integers::<i32>(2_147_483_647.5, [hi; 5], [NV, NX, NX, NV, NV]);
    integers::<i32>(2_147_483_648.0, [hi; 5], [NV; 5]);
    integers::<i32>(-2_147_483_648.5, [lo; 5], [NX, NX, NV, NX, NV]);
    integers::<i32>(f64::NEG_INFINITY, [lo; 5], [NV; 5]);
    integers::<i32>(f64::NAN, [hi; 5], [NV; 5]);
    integers::<i32>(-f64::NAN, [hi; 5], [NV; 5]);
    integers::<u32>(4_294_967_295.0, [u32::MAX.into(); 5], [0; 5]);
    integers::<u32>(4_294_967_296.0, [u32::MAX.into(); 5], [NV; 5]);
    integers::<u32>(f64::NAN, [u32::MAX.into(); 5], [NV; 5]);
    let two_63 = f64::from_bits(power(63));
    integers::<i64>(-two_63, [i64::MIN.into(); 5], [0; 5]);
    integers::<i64>(two_63, [i64::MAX.into(); 5], [NV; 5]);
    integers::<i64>(f64::NAN, [i64::MAX.into(); 5], [NV; 5]);
    integers::<u64>(two_63, [1 << 63; 5], [0; 5]);
    integers::<u64>(f64::from_bits(power(64)), [u64::MAX.into(); 5], [NV; 5]);
    integers::<u64>(f64::from_bits(power(65)), [u64::MAX.into(); 5], [NV; 5]);
    integers::<u64>(-f64::MAX, [0; 5], [NV; 5]);
    integers::<i64>(f64::MAX, [i64::MAX.into(); 5], [NV; 5]);
    integers::<u64>(f64::INFINITY, [u64::MAX.into(); 5], [NV; 5]);
    integers::<u64>(f64::NEG_INFINITY, [0; 5], [NV; 5]);
}

#[test]
fn from_integers() {
    for rm in MODES {
        let mut flags = 0;
        assert_eq!(from_int::<F64, i32>(0, rm, &mut flags), 0);
        assert_eq!(from_int::<F64, i32>(i32::MIN, rm, &mut flags), (-2_147_483_648f64).to_bits());
        assert_eq!(from_int::<F64, u32>(u32::MAX, rm, &mut flags), 4_294_967_295f64.to_bits());
        assert_eq!(from_int::<F64, i64>(i64::MIN, rm, &mut flags), power(63) | NEG);
        assert_eq!(flags, 0);
    }
    let check = |n: i64, results: [f32; 5]| {
        for (i, rm) in MODES.into_iter().enumerate() {
            let mut flags = 0;
            let got = from_int::<F32, i64>(n, rm, &mut flags);
            assert_eq!((got, flags), (results[i].to_bits(), NX), "{n} {rm:?}");
        }
    };
    let base = 16_777_216.0; // 2^24, where the distance becomes 2
    check(0x0100_0001, [base, base, base, base + 2.0, base + 2.0]);
    check(0x0100_0003, [4.0, 2.0, 2.0, 4.0, 4.0].map(|n| base + n));
    check(-0x0100_0001, [-base, -base, -base - 2.0, -base, -base - 2.0]);
    let mut flags = 0;
    assert_eq!(from_int::<F32, u64>(u64::MAX, Rounding::Rne, &mut flags), 0x5f80_0000);
    assert_eq!(from_int::<F32, u64>(u64::MAX, Rounding::Rtz, &mut flags), 0x5f7f_ffff);
    assert_eq!(flags, NX);
}

#[test]
fn between_formats() {
    let check = |a: u64, results: [u32; 5], flags: [u8; 5]| {
        for (i, rm) in MODES.into_iter().enumerate() {
            let mut raised = 0;
            let got = convert::<F64, F32>(a, rm, &mut raised);
            assert_eq!((got, raised), (results[i], flags[i]), "{a:#x} {rm:?}");
        }
    };
    check(ONE, [0x3f80_0000; 5], [0; 5]);
    check(NEG, [0x8000_0000; 5], [0; 5]);
    check(INF | NEG, [0xff80_0000; 5], [0; 5]);
    check(PAYLOAD, [0x7fc0_0000; 5], [0; 5]);
    check(SNAN, [0x7fc0_0000; 5], [NV; 5]);
    // 1 + 2^-24 is a tie.
    let one = 0x3f80_0000;
    check(ONE | 1 << 28, [one, one, one, one + 1, one + 1], [NX; 5]);
    let (inf, max) = (0x7f80_0000, 0x7f7f_ffff);
    check(MAX, [inf, max, max, inf, inf], [OF | NX; 5]);
    check(power(-149), [1; 5], [0; 5]);
    check(power(-150), [0, 0, 0, 1, 1], [UF | NX; 5]);
    check(1, [0, 0, 0, 1, 0], [UF | NX; 5]);
    // 2^-126 (1 - 2^-25) is a tie of 24 digits, so tiny only where rounded down;
    // 2^-126 (1 - 3 × 2^-26) is nearer to the digits below.
    let (least, below) = (0x0080_0000, 0x007f_ffff);
    let (normal, tiny) = (NX, UF | NX);
    let results = [least, below, below, least, least];
    check(power(-126) - (1 << 28), results, [normal, tiny, tiny, normal, normal]);
    check(power(-126) - (3 << 27), results, [tiny, tiny, tiny, normal, tiny]);

    let mut flags = 0;
    for rm in MODES {
        assert_eq!(convert::<F32, F64>(1, rm, &mut flags), power(-149));
        assert_eq!(convert::<F32, F64>(0xff80_0000, rm, &mut flags), INF | NEG);
        assert_eq!(convert::<F32, F64>(0xffc0_beef, rm, &mut flags), NAN);
    }
    assert_eq!(flags, 0);
    assert_eq!(convert::<F32, F64>(0x7f80_0001, Rounding::Rne, &mut flags), NAN);
    assert_eq!(flags, NV);
}

#[test]
fn nan_boxing() {
    assert_eq!(nan_box::<F32>(0x3f80_0000), 0xffff_ffff_3f80_0000);
    assert_eq!(nan_box::<F64>(ONE), ONE);
    assert_eq!(nan_unbox::<F32>(0xffff_ffff_3f80_0000), 0x3f80_0000);
    assert_eq!(nan_unbox::<F64>(ONE), ONE);
    for improper in [0x3f80_0000, ONE, 0x7fff_ffff_3f80_0000, 0xffff_fffe_3f80_0000] {
        assert_eq!(nan_unbox::<F32>(improper), 0x7fc0_0000);
    }
}
