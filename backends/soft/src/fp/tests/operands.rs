//! Random operands that come close to the corners.

use super::oracle::Spec;
use super::{Format, spec, std};

/// SplitMix64: small, seedable, good enough to choose test cases.
pub(super) struct Random {
    seed: u64,
    state: u64,
}

impl std::fmt::Display for Random {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FP_SEED={}", self.seed)
    }
}

/// An unsigned number from the environment.
fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

/// Random cases per operation.
pub(super) fn cases() -> u64 {
    setting("FP_CASES").unwrap_or(2_000)
}

impl Random {
    pub(super) fn new() -> Self {
        let seed = setting("FP_SEED").unwrap_or(0x5eed);
        Self { seed, state: seed }
    }

    pub(super) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// A number from −n to n.
    fn around(&mut self, n: u32) -> i64 {
        self.below(2 * u64::from(n) + 1) as i64 - i64::from(n)
    }

    /// Digits of which many are equal: runs of ones and zeros, single bits, or
    /// none of the kind.
    fn digits(&mut self, bits: u32) -> u64 {
        let mask = u64::MAX >> (64 - bits);
        let place = self.below(bits.into());
        mask & match self.below(8) {
            0 => 0,
            1 => mask,
            2 => 1 << place,
            3 => (1 << place) - 1,
            4 => mask << place,
            5 => !(1 << place),
            6 => self.next() << place,
            _ => self.next(),
        }
    }

    /// A number with an exponent field near `field`, of either sign.
    fn with_field(&mut self, spec: Spec, field: i64) -> u64 {
        let largest = (1 << (spec.width - spec.precision)) - 1;
        let field = field.clamp(0, largest) as u64;
        let fraction = self.digits(spec.precision - 1);
        self.below(2) << (spec.width - 1) | field << (spec.precision - 1) | fraction
    }

    /// An operand on its own.
    pub(super) fn operand<F: Format>(&mut self) -> u64 {
        let s = spec::<F>();
        let largest = (1i64 << (s.width - s.precision)) - 1;
        let field = match self.below(8) {
            0 => self.below(3) as i64,
            1 => largest - self.below(3) as i64,
            2..=4 => largest / 2 + self.around(s.precision + 2),
            // Around the width of the integer types.
            5 => largest / 2 + 32 + self.around(34),
            _ => self.below(largest as u64) as i64,
        };
        self.with_field(s, field)
    }

    /// An operand to go with `a`: the sum, product or quotient of the two shall
    /// cancel, align partly, or come near either end of the range.
    pub(super) fn partner<F: Format>(&mut self, a: u64) -> u64 {
        let s = spec::<F>();
        let largest = (1i64 << (s.width - s.precision)) - 1;
        let field = (a >> (s.precision - 1)) as i64 & largest;
        let slack = self.around(s.precision + 3);
        let field = match self.below(8) {
            0 | 1 => return self.operand::<F>(),
            2 | 3 => field + slack,
            4 => largest / 2 - field + slack,
            5 => largest / 2 * 3 - field + slack / 8,
            6 => field + largest / 2 + slack,
            _ => field - largest / 2 + slack / 8,
        };
        self.with_field(s, field)
    }

    /// An operand near `target` in value: within a few units in the last place,
    /// or within the reach of alignment. Of either sign.
    pub(super) fn near<F: Format>(&mut self, target: u64) -> u64 {
        let s = spec::<F>();
        let mask = u64::MAX >> (64 - s.width);
        match self.below(4) {
            0 | 1 => {
                let close = target.wrapping_add_signed(self.around(2));
                (close ^ self.below(2) << (s.width - 1)) & mask
            }
            2 => {
                let field = (target & mask >> 1) >> (s.precision - 1);
                let slack = self.around(2 * s.precision + 3);
                self.with_field(s, field as i64 + slack)
            }
            _ => self.partner::<F>(target),
        }
    }

    /// An integer with any number of significant bits, of either sign.
    pub(super) fn integer(&mut self) -> u64 {
        let bits = self.below(64) as u32 + 1;
        let x = self.digits(bits) | 1 << (bits - 1);
        if self.below(2) == 0 { x } else { x.wrapping_neg() }
    }
}
