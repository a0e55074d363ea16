//! What the results ought to be, from the definitions alone.
//!
//! The exact result of an operation is a rational number or the square root of
//! one. The oracle can only ask how it compares with a given dyadic number. With
//! that it searches the patterns of the format, which are ordered as their
//! magnitudes are, for the largest one that is not above the result; it asks on
//! which side of the middle to the next pattern the result lies; the mode does
//! the rest. Slow, and hard to get wrong.

use std::cmp::Ordering;

use super::big::Big;
use super::{DZ, NV, NX, OF, Rounding, UF, std};

/// A binary interchange format by its two parameters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spec {
    pub(super) width: u32,
    pub(super) precision: u32,
}

/// A magnitude: numerator × 2^exponent ÷ denominator, or the square root.
struct Real {
    numerator: Big,
    denominator: Big,
    exponent: i32,
    root: bool,
}

impl Real {
    /// Compares with k × 2^e.
    fn compare(&self, k: u128, e: i32) -> Ordering {
        let (k, e) = match (Big::from(k), e) {
            (k, e) if self.root => (k.times(&k), 2 * e),
            plain => plain,
        };
        let (left, right) = (self.exponent - self.exponent.min(e), e - self.exponent.min(e));
        let dyadic = k.times(&self.denominator).shifted(right as u32);
        self.numerator.shifted(left as u32).cmp(&dyadic)
    }

    /// Where the number lies between k × 2^e and the next multiple of 2^e.
    fn place(&self, k: u128, e: i32) -> Place {
        assert!(self.compare(k, e).is_ge() && self.compare(k + 1, e).is_lt());
        match self.compare(2 * k + 1, e - 1) {
            _ if self.compare(k, e).is_eq() => Place::Exact,
            Ordering::Less => Place::Below,
            Ordering::Equal => Place::Middle,
            Ordering::Greater => Place::Above,
        }
    }
}

/// Position of a number between two neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It is the lower neighbour.
    Exact,
    /// In the lower half.
    Below,
    /// In the middle.
    Middle,
    /// In the upper half.
    Above,
}

/// The neighbour that a mode chooses: whether the one farther from zero.
fn away(place: Place, rm: Rounding, negative: bool, odd: bool) -> bool {
    use Place::*;
    match (place, rm) {
        (Exact, _) | (_, Rounding::Rtz) => false,
        (_, Rounding::Rdn) => negative,
        (_, Rounding::Rup) => !negative,
        (Middle, Rounding::Rne) => odd,
        (Middle, Rounding::Rmm) => true,
        (Below, _) => false,
        (Above, _) => true,
    }
}

/// The result of an operation before a rounding mode is applied.
#[derive(Clone, Copy, Debug)]
pub(super) enum Answer {
    /// A NaN, with the flags raised.
    Nan(u8),
    /// An infinity with this sign, with the flags raised.
    Infinite(bool, u8),
    /// A zero with this sign; without one, the sign of a cancellation.
    Zero(Option<bool>),
    /// A number that is not zero.
    Number {
        negative: bool,
        /// Largest pattern not above the magnitude; that of infinity stands for
        /// the power of two that would come after the largest finite number.
        floor: u64,
        place: Place,
        /// The same with unbounded exponent, of a magnitude below the smallest
        /// normal number: its place in the last interval before that number,
        /// or nothing if it is not even there.
        subnormal: Option<Option<Place>>,
    },
}

/// A datum of a format.
enum Datum {
    Nan {
        signalling: bool,
    },
    Infinite,
    /// k × 2^e
    Number(u64, i32),
}

impl Spec {
    fn sign(self) -> u64 {
        1 << (self.width - 1)
    }

    fn fraction_bits(self) -> u32 {
        self.precision - 1
    }

    fn infinity(self) -> u64 {
        self.sign() - (1 << self.fraction_bits())
    }

    /// Exponent of the smallest normal number: 1 − bias.
    fn minimum_exponent(self) -> i32 {
        2 - (1 << (self.width - self.precision - 1))
    }

    pub(super) fn canonical_nan(self) -> u64 {
        self.infinity() + (1 << (self.fraction_bits() - 1))
    }

    /// The magnitude of a pattern as k × 2^e; also of the infinite one, taken as
    /// if the exponents went on.
    fn magnitude(self, pattern: u64) -> (u64, i32) {
        let hidden = 1 << self.fraction_bits();
        let least = self.minimum_exponent() - self.fraction_bits() as i32;
        match (pattern / hidden, pattern % hidden) {
            (0, fraction) => (fraction, least),
            (field, fraction) => (hidden + fraction, least + field as i32 - 1),
        }
    }

    fn datum(self, bits: u64) -> (bool, Datum) {
        let pattern = bits % self.sign();
        let datum = match pattern.cmp(&self.infinity()) {
            Ordering::Greater => Datum::Nan { signalling: pattern < self.canonical_nan() },
            Ordering::Equal => Datum::Infinite,
            Ordering::Less => {
                let (k, e) = self.magnitude(pattern);
                Datum::Number(k, e)
            }
        };
        (bits >= self.sign(), datum)
    }

    pub(super) fn is_signalling(self, bits: u64) -> bool {
        matches!(self.datum(bits).1, Datum::Nan { signalling: true })
    }

    /// The number as an `f64`, which must be wide enough.
    pub(super) fn to_host(self, bits: u64) -> f64 {
        let (negative, datum) = self.datum(bits);
        let magnitude = match datum {
            Datum::Nan { .. } => f64::NAN,
            Datum::Infinite => f64::INFINITY,
            // In two steps: 2^e alone may be below the normal numbers.
            Datum::Number(k, e) => k as f64 * 2f64.powi(e / 2) * 2f64.powi(e - e / 2),
        };
        if negative { -magnitude } else { magnitude }
    }

    /// Locates a magnitude among the patterns.
    fn number(self, negative: bool, real: &Real) -> Answer {
        let above = |pattern| {
            let (k, e) = self.magnitude(pattern);
            real.compare(k.into(), e).is_ge()
        };
        assert!(!real.numerator.is_zero() && above(0));
        let (mut floor, mut end) = (0, self.infinity() + 1);
        while end - floor > 1 {
            let middle = floor + (end - floor) / 2;
            if above(middle) {
                floor = middle;
            } else {
                end = middle;
            }
        }
        let place = if floor == self.infinity() {
            Place::Above
        } else {
            let (k, e) = self.magnitude(floor);
            real.place(k.into(), e)
        };
        let normal = 1 << self.fraction_bits();
        let subnormal = (floor < normal).then(|| {
            // With unbounded exponent the last significand is all ones.
            let last = (1 << self.precision) - 1;
            let exponent = self.minimum_exponent() - self.precision as i32;
            real.compare(last, exponent).is_ge().then(|| real.place(last, exponent))
        });
        Answer::Number { negative, floor, place, subnormal }
    }

    /// Result and flags of an answer in a mode.
    pub(super) fn deliver(self, answer: &Answer, rm: Rounding) -> (u64, u8) {
        let sign = |negative| if negative { self.sign() } else { 0 };
        match *answer {
            Answer::Nan(flags) => (self.canonical_nan(), flags),
            Answer::Infinite(negative, flags) => (sign(negative) + self.infinity(), flags),
            Answer::Zero(negative) => (sign(negative.unwrap_or(rm == Rounding::Rdn)), 0),
            Answer::Number { negative, floor, place, subnormal } => {
                let away_here = away(place, rm, negative, floor % 2 == 1);
                let mut pattern = floor + u64::from(away_here);
                let mut flags = if place == Place::Exact { 0 } else { NX };
                if pattern >= self.infinity() {
                    let infinite = match rm {
                        Rounding::Rne | Rounding::Rmm => true,
                        Rounding::Rtz => false,
                        Rounding::Rdn => negative,
                        Rounding::Rup => !negative,
                    };
                    pattern = self.infinity() - u64::from(!infinite);
                    flags = OF | NX;
                }
                let tiny = match subnormal {
                    None => false,
                    Some(None) => true,
                    Some(Some(place)) => !away(place, rm, negative, true),
                };
                if tiny && flags & NX != 0 {
                    flags |= UF;
                }
                (sign(negative) + pattern, flags)
            }
        }
    }

    /// The answer if an operand is a NaN.
    fn nan(self, operands: &[u64]) -> Option<Answer> {
        let nan = |x: &u64| matches!(self.datum(*x).1, Datum::Nan { .. });
        let signalling = operands.iter().any(|x| self.is_signalling(*x));
        operands.iter().any(nan).then_some(Answer::Nan(if signalling { NV } else { 0 }))
    }

    /// ± k × 2^e + ± l × 2^f, both factors of any size.
    fn exact_sum(self, a: (bool, Big, i32), b: (bool, Big, i32)) -> Answer {
        let exponent = a.2.min(b.2);
        let x = a.1.shifted((a.2 - exponent) as u32);
        let y = b.1.shifted((b.2 - exponent) as u32);
        let (negative, numerator) = if a.0 == b.0 {
            (a.0, x.plus(&y))
        } else if x >= y {
            (a.0, x.minus(&y))
        } else {
            (b.0, y.minus(&x))
        };
        if numerator.is_zero() {
            return Answer::Zero((a.0 == b.0).then_some(a.0));
        }
        let denominator = Big::from(1);
        self.number(negative, &Real { numerator, denominator, exponent, root: false })
    }

    pub(super) fn sum(self, a: u64, b: u64) -> Answer {
        if let Some(nan) = self.nan(&[a, b]) {
            return nan;
        }
        match (self.datum(a), self.datum(b)) {
            ((x, Datum::Infinite), (y, Datum::Infinite)) if x != y => Answer::Nan(NV),
            ((x, Datum::Infinite), _) | (_, (x, Datum::Infinite)) => Answer::Infinite(x, 0),
            ((x, Datum::Number(k, e)), (y, Datum::Number(l, f))) => {
                self.exact_sum((x, Big::from(u128::from(k)), e), (y, Big::from(u128::from(l)), f))
            }
            _ => unreachable!("NaNs are gone"),
        }
    }

    pub(super) fn product(self, a: u64, b: u64) -> Answer {
        if let Some(nan) = self.nan(&[a, b]) {
            return nan;
        }
        let ((x, a), (y, b)) = (self.datum(a), self.datum(b));
        let negative = x != y;
        match (a, b) {
            (Datum::Infinite, Datum::Number(0, _)) | (Datum::Number(0, _), Datum::Infinite) => {
                Answer::Nan(NV)
            }
            (Datum::Number(k, e), Datum::Number(l, f)) => {
                if k == 0 || l == 0 {
                    return Answer::Zero(Some(negative));
                }
                let numerator = Big::from(u128::from(k) * u128::from(l));
                let denominator = Big::from(1);
                let real = Real { numerator, denominator, exponent: e + f, root: false };
                self.number(negative, &real)
            }
            _ => Answer::Infinite(negative, 0),
        }
    }

    pub(super) fn quotient(self, a: u64, b: u64) -> Answer {
        if let Some(nan) = self.nan(&[a, b]) {
            return nan;
        }
        let ((x, a), (y, b)) = (self.datum(a), self.datum(b));
        let negative = x != y;
        match (a, b) {
            (Datum::Infinite, Datum::Infinite) | (Datum::Number(0, _), Datum::Number(0, _)) => {
                Answer::Nan(NV)
            }
            (Datum::Infinite, _) => Answer::Infinite(negative, 0),
            (_, Datum::Infinite) | (Datum::Number(0, _), _) => Answer::Zero(Some(negative)),
            (_, Datum::Number(0, _)) => Answer::Infinite(negative, DZ),
            (Datum::Number(k, e), Datum::Number(l, f)) => {
                let numerator = Big::from(u128::from(k));
                let denominator = Big::from(u128::from(l));
                let real = Real { numerator, denominator, exponent: e - f, root: false };
                self.number(negative, &real)
            }
            _ => unreachable!("NaNs are gone"),
        }
    }

    pub(super) fn square_root(self, a: u64) -> Answer {
        if let Some(nan) = self.nan(&[a]) {
            return nan;
        }
        match self.datum(a) {
            (negative, Datum::Number(0, _)) => Answer::Zero(Some(negative)),
            (true, _) => Answer::Nan(NV),
            (false, Datum::Number(k, exponent)) => {
                let (numerator, denominator) = (Big::from(u128::from(k)), Big::from(1));
                self.number(false, &Real { numerator, denominator, exponent, root: true })
            }
            (false, _) => Answer::Infinite(false, 0),
        }
    }

    /// a × b + c.
    pub(super) fn fused(self, a: u64, b: u64, c: u64) -> Answer {
        let product = self.product(a, b);
        // Invalid whatever c is, unless a or b is a quiet NaN.
        if let Answer::Nan(NV) = product {
            return product;
        }
        if let Some(nan) = self.nan(&[a, b, c]) {
            return nan;
        }
        let ((x, a), (y, b), (z, c)) = (self.datum(a), self.datum(b), self.datum(c));
        match (product, a, b, c) {
            (Answer::Infinite(p, _), _, _, Datum::Infinite) if p != z => Answer::Nan(NV),
            (Answer::Infinite(p, _), ..) => Answer::Infinite(p, 0),
            (_, _, _, Datum::Infinite) => Answer::Infinite(z, 0),
            (_, Datum::Number(k, e), Datum::Number(l, f), Datum::Number(m, g)) => {
                let product = Big::from(u128::from(k) * u128::from(l));
                self.exact_sum((x != y, product, e + f), (z, Big::from(u128::from(m)), g))
            }
            _ => unreachable!("NaNs are gone"),
        }
    }

    /// A number of this format in another one.
    pub(super) fn converted(self, a: u64, to: Self) -> Answer {
        if let Some(nan) = self.nan(&[a]) {
            return nan;
        }
        match self.datum(a) {
            (negative, Datum::Number(0, _)) => Answer::Zero(Some(negative)),
            (negative, Datum::Number(k, exponent)) => {
                let (numerator, denominator) = (Big::from(u128::from(k)), Big::from(1));
                to.number(negative, &Real { numerator, denominator, exponent, root: false })
            }
            (negative, _) => Answer::Infinite(negative, 0),
        }
    }

    /// An integer in this format.
    pub(super) fn integer(self, a: i128) -> Answer {
        if a == 0 {
            return Answer::Zero(Some(false));
        }
        let (numerator, denominator) = (Big::from(a.unsigned_abs()), Big::from(1));
        self.number(a < 0, &Real { numerator, denominator, exponent: 0, root: false })
    }

    /// A number of this format as an integer within bounds, and the flags.
    pub(super) fn to_integer(self, a: u64, min: i128, max: i128, rm: Rounding) -> (i128, u8) {
        let (negative, datum) = self.datum(a);
        let (k, exponent) = match datum {
            Datum::Nan { .. } => return (max, NV),
            Datum::Infinite => return (if negative { min } else { max }, NV),
            Datum::Number(k, e) => (k, e),
        };
        let (numerator, denominator) = (Big::from(u128::from(k)), Big::from(1));
        let real = Real { numerator, denominator, exponent, root: false };
        // Far beyond all bounds, the largest integer not above |a| is moot.
        let limit = 1 << 66;
        if real.compare(limit, 0).is_ge() {
            return (if negative { min } else { max }, NV);
        }
        let (mut floor, mut end) = (0, limit);
        while end - floor > 1 {
            let middle = (floor + end) / 2;
            if real.compare(middle, 0).is_ge() {
                floor = middle;
            } else {
                end = middle;
            }
        }
        let place = real.place(floor, 0);
        let magnitude = floor as i128 + i128::from(away(place, rm, negative, floor % 2 == 1));
        let value = if negative { -magnitude } else { magnitude };
        if value < min {
            (min, NV)
        } else if value > max {
            (max, NV)
        } else {
            (value, if place == Place::Exact { 0 } else { NX })
        }
    }
}
