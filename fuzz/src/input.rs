//! Reading what a fuzzer wrote.

/// Bytes, from the first to the last. Behind the last there are zeros.
#[derive(Clone)]
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Everything that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        core::mem::take(&mut self.0)
    }

    /// The next `count` bytes, or what is left of them.
    pub(crate) fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        let taken = self.take(N);
        bytes[..taken.len()].copy_from_slice(taken);
        bytes
    }

    pub(crate) fn u8(&mut self) -> u8 {
        u8::from_le_bytes(self.array())
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// A number for a register or an argument: often small, or one that is nearly something, in few bytes.
    pub(crate) fn number(&mut self) -> u64 {
        let kind = self.u8();
        match kind {
            0..=0x7f => kind.into(),
            0x80..=0x9f => u64::MAX - u64::from(kind & 0x1f),
            0xa0..=0xbf => 1 << (2 * (kind & 0x1f)),
            0xc0..=0xcf => u64::from(self.u16()) << (kind & 0xf),
            0xd0..=0xdf => u64::from(self.u32()),
            0xe0..=0xe7 => i64::from(self.u16() as i16) as u64,
            _ => self.u64(),
        }
    }
}
