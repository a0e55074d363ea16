//! Operand values worth trying: the edges of integers and of floating-point formats.

use crate::rng::Rng;

/// A 64-bit integer: mostly an edge of some width, or near one.
pub(super) fn integer(rng: &mut Rng) -> u64 {
    match rng.below(8) {
        0 => rng.word(),
        1 => rng.word() >> rng.below(64),
        2 => (rng.word() as i64 >> rng.below(64)) as u64,
        3 => *rng.pick(&[0, 1, u64::MAX, 1 << 63, i64::MAX as u64]),
        4 => *rng.pick(&[
            0x7fff_ffff,
            0x8000_0000,
            0xffff_ffff,
            0x1_0000_0000,
            0xffff_ffff_8000_0000,
            0xffff_ffff_7fff_ffff,
        ]),
        5 => (1u64 << rng.below(64)).wrapping_add(rng.between(-2, 2) as u64),
        6 => rng.between(-64, 64) as u64,
        _ => rng.below(256) * 0x0101_0101_0101_0101,
    }
}

/// A double-precision number's bits.
fn double(rng: &mut Rng) -> u64 {
    let sign = rng.word() << 63;
    let fraction = fraction(rng, 52);
    let exponent = match rng.below(8) {
        0 => 0,                 // zero or subnormal
        1 => 0x7ff,             // infinity or NaN
        2 => 1 + rng.below(60), // results may underflow
        3 => 0x7fe - rng.below(60),
        4 => 1023 + rng.below(66),        // around the integers' limits
        5 => 1023 - 150 + rng.below(300), // around single precision's limits
        _ => 1023 - 4 + rng.below(8),
    };
    sign | exponent << 52 | fraction
}

/// A single-precision number's bits.
fn single(rng: &mut Rng) -> u64 {
    let sign = (rng.word() & 1) << 31;
    let fraction = fraction(rng, 23);
    let exponent = match rng.below(8) {
        0 => 0,
        1 => 0xff,
        2 => 1 + rng.below(30),
        3 => 0xfe - rng.below(30),
        4 => 127 + rng.below(66),
        _ => 127 - 4 + rng.below(8),
    };
    sign | exponent << 23 | fraction
}

fn fraction(rng: &mut Rng, bits: u32) -> u64 {
    let ones = (1 << bits) - 1;
    ones & match rng.below(6) {
        0 => 0,
        1 => ones,
        2 => 1 << rng.below(u64::from(bits)),
        3 => ones << rng.below(u64::from(bits)),
        4 => rng.word() >> rng.below(52), // few significant bits at the low end
        _ => rng.word(),
    }
}

/// What a floating-point register may hold: a double, a boxed single, or a single that is not boxed.
pub(super) fn float(rng: &mut Rng) -> u64 {
    match rng.below(16) {
        0..=6 => double(rng),
        7..=14 => 0xffff_ffff << 32 | single(rng),
        _ => (rng.word() << 32) | single(rng),
    }
}

/// Eight bytes of data.
pub(super) fn data(rng: &mut Rng) -> u64 {
    match rng.below(4) {
        0 => integer(rng),
        1 => double(rng),
        2 => single(rng) << 32 | single(rng),
        _ => float(rng),
    }
}
