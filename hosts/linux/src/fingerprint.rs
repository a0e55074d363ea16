//! A short name for a machine's state, to see whether two runs ended the same.
//!
//! FNV-1a with 64 bits: it needs to tell runs apart that went differently by accident, not by design.

/// The state seen so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint(u64);

impl Fingerprint {
    /// Nothing seen.
    pub(crate) const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    /// Takes a register.
    pub(crate) fn number(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }

    /// Takes a piece of memory. Zeroes, which most of a guest's memory is, leave no trace.
    pub(crate) fn page(&mut self, addr: u64, content: &[u8]) {
        if content.iter().any(|&byte| byte != 0) {
            self.number(addr);
            self.bytes(content);
        }
    }

    /// The name.
    pub(crate) const fn value(self) -> u64 {
        self.0
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_fnv_1a() {
        for (text, value) in [
            ("", 0xcbf2_9ce4_8422_2325),
            ("a", 0xaf63_dc4c_8601_ec8c),
            ("foobar", 0x8594_4171_f739_67e8),
        ] {
            let mut print = Fingerprint::new();
            print.bytes(text.as_bytes());
            assert_eq!(print.value(), value);
        }
    }

    #[test]
    fn tells_contents_and_places_apart() {
        let of = |place: usize, byte: u8| {
            let mut memory = vec![0; 5 * 4096];
            memory[place] = byte;
            let mut print = Fingerprint::new();
            for (number, page) in memory.chunks(4096).enumerate() {
                print.page(4096 * number as u64, page);
            }
            print.value()
        };
        let mut all: Vec<_> = [(0, 1), (1, 1), (4096, 1), (4096, 2), (20479, 1), (0, 0)]
            .map(|(place, byte)| of(place, byte))
            .to_vec();
        assert_eq!(all[5], Fingerprint::new().value(), "zero pages leave no trace");
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 6);
    }
}
