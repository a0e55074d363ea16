//! Values for guests that try everything.

/// A sequence without a pattern (xorshift64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
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
}
