//! Against the arithmetic of the host: round to nearest, ties to even, and no
//! word on flags; but as fast as it is independent, so with many more cases.

use super::operands::{Random, cases};
use super::{F32, F64, NX, Op, Rounding, classify, convert, fclass, from_int, std, to_int};
use std::num::FpCategory;

/// How many cases for each one that the oracle gets.
const RATIO: u64 = 50;

macro_rules! against_host {
    ($name:ident, $format:ty, $float:ty, $bits:ty) => {
        #[test]
        fn $name() {
            let mut random = Random::new();
            for _ in 0..cases() * RATIO {
                let a = random.operand::<$format>();
                let b = random.partner::<$format>(a);
                let c = random.near::<$format>(b);
                let [x, y, z] = [a, b, c].map(|n| <$float>::from_bits(n as $bits));
                let wanted = [
                    (Op::Add, x + y),
                    (Op::Sub, x - y),
                    (Op::Mul, x * y),
                    (Op::Div, x / y),
                    (Op::Sqrt, x.sqrt()),
                    (Op::Fmadd, x.mul_add(y, z)),
                    (Op::Fmsub, x.mul_add(y, -z)),
                    (Op::Fnmsub, (-x).mul_add(y, z)),
                    (Op::Fnmadd, (-x).mul_add(y, -z)),
                ];
                for (op, host) in wanted {
                    for before in [0, NX] {
                        let got = op.run::<$format>([a, b, c], Rounding::Rne, &mut { before });
                        let got = <$float>::from_bits(got as $bits);
                        let same = got.to_bits() == host.to_bits() || got.is_nan() && host.is_nan();
                        assert!(
                            same,
                            "{op:?} {a:#x} {b:#x} {c:#x}: {got:?}, not {host:?} ({random})"
                        );
                    }
                }

                // The host's casts truncate and saturate as FCVT with RTZ does,
                // but for NaN.
                if !x.is_nan() {
                    let rtz = Rounding::Rtz;
                    let bits = a as $bits;
                    assert_eq!(to_int::<$format, i32>(bits, rtz, &mut 0), x as i32, "{random}");
                    assert_eq!(to_int::<$format, u32>(bits, rtz, &mut 0), x as u32, "{random}");
                    assert_eq!(to_int::<$format, i64>(bits, rtz, &mut 0), x as i64, "{random}");
                    assert_eq!(to_int::<$format, u64>(bits, rtz, &mut 0), x as u64, "{random}");
                }
                let n = random.integer();
                let rne = Rounding::Rne;
                let unsigned = from_int::<$format, u64>(n, rne, &mut 0);
                assert_eq!(unsigned, (n as $float).to_bits(), "{n} ({random})");
                let signed = from_int::<$format, i64>(n as i64, rne, &mut 0);
                assert_eq!(signed, (n as i64 as $float).to_bits(), "{} ({random})", n as i64);

                let (negative, positive) = match x.classify() {
                    FpCategory::Nan => {
                        let quiet = fclass::QUIET_NAN;
                        let signalling = fclass::SIGNALING_NAN;
                        let kind = if a >> (<$float>::MANTISSA_DIGITS - 2) & 1 == 1 {
                            quiet
                        } else {
                            signalling
                        };
                        (kind, kind)
                    }
                    FpCategory::Infinite => (fclass::NEGATIVE_INFINITY, fclass::POSITIVE_INFINITY),
                    FpCategory::Zero => (fclass::NEGATIVE_ZERO, fclass::POSITIVE_ZERO),
                    FpCategory::Subnormal => {
                        (fclass::NEGATIVE_SUBNORMAL, fclass::POSITIVE_SUBNORMAL)
                    }
                    FpCategory::Normal => (fclass::NEGATIVE_NORMAL, fclass::POSITIVE_NORMAL),
                };
                let class = if x.is_sign_negative() { negative } else { positive };
                assert_eq!(classify::<$format>(a as $bits), class, "{a:#x} ({random})");
            }
        }
    };
}

against_host!(single, F32, f32, u32);
against_host!(double, F64, f64, u64);

#[test]
fn between_formats() {
    let mut random = Random::new();
    for _ in 0..cases() * RATIO {
        let a = random.operand::<F64>();
        let x = f64::from_bits(a);
        let got = convert::<F64, F32>(a, Rounding::Rne, &mut 0);
        let host = x as f32;
        assert!(got == host.to_bits() || x.is_nan() && got == 0x7fc0_0000, "{a:#x} ({random})");

        let b = random.operand::<F32>() as u32;
        let y = f32::from_bits(b);
        let got = convert::<F32, F64>(b, Rounding::Rne, &mut 0);
        let host = f64::from(y);
        let nan = y.is_nan() && got == 0x7ff8_0000_0000_0000;
        assert!(got == host.to_bits() || nan, "{b:#x} ({random})");
    }
}
