//! What the guest is told of its memory: the map that a PC's firmware gives (ACPI 6.5, 15, which also has the numbers
//! of the types; the boot protocols of Linux and PVH take them over).

use alloc::vec::Vec;

use super::layout::{HIGH, HOLE, HOLE_END, LOW_END};
use crate::RamRange;

/// Where RAM makes room for devices, for a machine of any size.
pub(super) const DEVICES: RamRange = RamRange { base: HOLE, size: HOLE_END - HOLE };

/// What a range of memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Kind {
    /// The guest's to use.
    Usable = 1,
    /// Firmware and what it has left.
    Reserved = 2,
}

/// A line of the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) base: u64,
    pub(super) size: u64,
    pub(super) kind: Kind,
}

/// The map of a machine with these ranges of RAM, the first of which begins at 0 and ends above 1 MiB.
pub(super) fn memory_map(ram: impl Iterator<Item = RamRange>) -> Vec<Entry> {
    let mut map = Vec::new();
    map.push(Entry { base: 0, size: LOW_END, kind: Kind::Usable });
    map.push(Entry { base: LOW_END, size: HIGH - LOW_END, kind: Kind::Reserved });
    for RamRange { base, size } in ram {
        let end = base + size;
        let base = base.max(HIGH);
        if end > base {
            map.push(Entry { base, size: end - base, kind: Kind::Usable });
        }
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usable(ram: &[(u64, u64)]) -> Vec<(u64, u64)> {
        let map = memory_map(ram.iter().map(|&(base, size)| RamRange { base, size }));
        for pair in map.windows(2) {
            assert!(pair[0].base + pair[0].size <= pair[1].base);
        }
        let firmware = Entry { base: 0x9_fc00, size: 0x6_0400, kind: Kind::Reserved };
        let (reserved, usable): (Vec<_>, Vec<_>) =
            map.into_iter().partition(|entry| entry.kind == Kind::Reserved);
        assert_eq!(reserved, [firmware]);
        usable.into_iter().map(|entry| (entry.base, entry.base + entry.size)).collect()
    }

    #[test]
    fn maps_have_what_there_is() {
        let (mib, gib) = (1 << 20, 1 << 30);
        let low = (0, 0x9_fc00);
        assert_eq!(usable(&[(0, 64 * mib)]), [low, (mib, 64 * mib)]);
        assert_eq!(usable(&[(0, 3 * gib)]), [low, (mib, 3 * gib)]);
        assert_eq!(
            usable(&[(0, 3 * gib), (4 * gib, 4096)]),
            [low, (mib, 3 * gib), (4 * gib, 4 * gib + 4096)]
        );
        assert_eq!(
            usable(&[(0, 3 * gib), (4 * gib, 1021 * gib)]),
            [low, (mib, 3 * gib), (4 * gib, 1025 * gib)]
        );
    }
}
