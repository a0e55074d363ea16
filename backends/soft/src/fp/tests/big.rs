//! Natural numbers of any size, just enough for the oracle.

use std::cmp::Ordering;
use std::vec::Vec;

use super::std;

/// Little-endian digits to base 2^32, the last of them not zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Big(Vec<u32>);

impl From<u128> for Big {
    fn from(x: u128) -> Self {
        Self((0..4).map(|i| (x >> (32 * i)) as u32).collect()).trimmed()
    }
}

impl Big {
    fn trimmed(mut self) -> Self {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
        self
    }

    fn digit(&self, i: usize) -> u64 {
        self.0.get(i).copied().unwrap_or(0).into()
    }

    pub(super) fn is_zero(&self) -> bool {
        self.0.is_empty()
    }

    /// `self × 2^places`.
    pub(super) fn shifted(&self, places: u32) -> Self {
        let (words, bits) = ((places / 32) as usize, places % 32);
        let mut digits = std::vec![0; words];
        digits.extend((0..=self.0.len()).map(|i| {
            let below = if i == 0 { 0 } else { self.digit(i - 1) };
            (((self.digit(i) << 32 | below) << bits) >> 32) as u32
        }));
        Self(digits).trimmed()
    }

    pub(super) fn plus(&self, other: &Self) -> Self {
        let mut carry = 0;
        let digits = (0..=self.0.len().max(other.0.len()))
            .map(|i| {
                carry += self.digit(i) + other.digit(i);
                let digit = carry as u32;
                carry >>= 32;
                digit
            })
            .collect();
        Self(digits).trimmed()
    }

    /// `self − other`, which must not be negative.
    pub(super) fn minus(&self, other: &Self) -> Self {
        assert!(*self >= *other);
        let mut borrow = 0;
        let digits = (0..self.0.len())
            .map(|i| {
                let taken = other.digit(i) + borrow;
                borrow = u64::from(self.digit(i) < taken);
                self.digit(i).wrapping_sub(taken) as u32
            })
            .collect();
        Self(digits).trimmed()
    }

    pub(super) fn times(&self, other: &Self) -> Self {
        let mut digits = std::vec![0u32; self.0.len() + other.0.len() + 1];
        for i in 0..self.0.len() {
            let mut carry = 0;
            for j in 0..=other.0.len() {
                carry += u64::from(digits[i + j]) + self.digit(i) * other.digit(j);
                digits[i + j] = carry as u32;
                carry >>= 32;
            }
        }
        Self(digits).trimmed()
    }
}

impl Ord for Big {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_length = self.0.len().cmp(&other.0.len());
        by_length.then_with(|| self.0.iter().rev().cmp(other.0.iter().rev()))
    }
}

impl PartialOrd for Big {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[test]
fn agrees_with_u128() {
    let samples =
        [0, 1, 2, 0xffff_ffff, 1 << 32, (1 << 32) + 1, (1 << 62) - 1, 0x1234_5678_9abc_def0];
    for x in samples {
        for y in samples {
            let (a, b) = (Big::from(x), Big::from(y));
            assert_eq!(a.plus(&b), Big::from(x + y));
            assert_eq!(a.times(&b), Big::from(x * y));
            assert_eq!(a.cmp(&b), x.cmp(&y));
            if x >= y {
                assert_eq!(a.minus(&b), Big::from(x - y));
            }
            assert_eq!(a.is_zero(), x == 0);
        }
        for places in [0, 1, 31, 32, 33, 63] {
            assert_eq!(Big::from(x).shifted(places), Big::from(x << places));
        }
    }
    // Across more digits than u128 has: (2^96 + 1)² = 2^192 + 2^97 + 1.
    let root = Big::from((1 << 96) + 1);
    let one = Big::from(1);
    assert_eq!(root.times(&root), one.shifted(192).plus(&one.shifted(97)).plus(&one));
    assert_eq!(one.shifted(200).minus(&one).plus(&one), one.shifted(200));
}
