//! Values for guests that try everything.

/// What all sequences begin with. Another number makes other guests of all that are made at random.
const SEED: u64 = 0x0123_4567_89ab_cdef;

/// A sequence without a pattern (xorshift64).
pub(crate) struct Random(u64);

impl Random {
    /// A sequence for each number.
    pub(crate) fn new(number: u64) -> Self {
        let mut random = Self(SEED ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        // Seeds that have much in common shall not show it.
        for _ in 0..8 {
            random.next();
        }
        random
    }

    /// The next of it.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A value with many bits set, with few, or a small number.
    pub(crate) fn value(&mut self) -> u64 {
        match self.next() % 4 {
            0 => self.next(),
            1 => self.next() & self.next() & self.next(),
            2 => u64::MAX,
            _ => self.next() % 64,
        }
    }

    /// Whether something happens that does once in `times`.
    pub(crate) fn once_in(&mut self, times: u64) -> bool {
        self.next() % times == 0
    }

    /// One of several.
    pub(crate) fn of<T: Copy>(&mut self, several: &[T]) -> T {
        several[self.next() as usize % several.len()]
    }
}
