//! Page-table entries and translation modes, for the guest's own tables (stage 1, `satp`) and for the
//! hypervisor's (G-stage, `hgatp`). Privileged manual, "Sv39", "Sv48", "Sv57" and "Two-Stage Address
//! Translation".
//!
//! Both stages use the same entries and the same walk. A G-stage mode ("x4") only takes two more address
//! bits, which make its root table four times as large, and checks every access as if it came from user
//! mode, so that its leaves need [`pte::U`].

/// log2 of the base page size.
pub const PAGE_SHIFT: u32 = 12;
/// The base page size in bytes.
pub const PAGE_SIZE: u64 = 1 << PAGE_SHIFT;
/// The entries of a table, except of a G-stage root, which has [`GSTAGE_ROOT_PAGES`] times as many.
pub const ENTRIES: usize = 512;
/// The pages of a G-stage root table. Its alignment is its size: 16 KiB.
pub const GSTAGE_ROOT_PAGES: usize = 4;

/// The bits of a page-table entry, and how to put one together and take it apart.
pub mod pte {
    use super::PAGE_SHIFT;

    /// Valid. An entry without it means nothing else.
    pub const V: u64 = 1 << 0;
    /// Readable.
    pub const R: u64 = 1 << 1;
    /// Writable. Reserved without [`R`].
    pub const W: u64 = 1 << 2;
    /// Executable.
    pub const X: u64 = 1 << 3;
    /// Accessible in user mode. G-stage leaves must have it.
    pub const U: u64 = 1 << 4;
    /// Global: in every address space. Without a meaning in the G-stage.
    pub const G: u64 = 1 << 5;
    /// Accessed.
    pub const A: u64 = 1 << 6;
    /// Dirty: written to.
    pub const D: u64 = 1 << 7;
    /// The bits left to software.
    pub const RSW: u64 = 0b11 << 8;
    /// Reserved; an entry with any of them faults.
    pub const RESERVED: u64 = 0x7f << 54;
    /// Memory type (Svpbmt); faults where that extension is missing.
    pub const PBMT: u64 = 0b11 << 61;
    /// Part of a naturally aligned power-of-two range (Svnapot); faults where that extension is missing.
    pub const N: u64 = 1 << 63;
    /// The permissions; an entry with none of them points to the next table.
    pub const RWX: u64 = R | W | X;

    const PPN_SHIFT: u32 = 10;
    const PPN_MASK: u64 = (1 << 44) - 1;

    /// The entry for the page or table at physical address `addr` (below 2^56; lower bits are dropped).
    #[inline]
    pub const fn new(addr: u64, flags: u64) -> u64 {
        (addr >> PAGE_SHIFT & PPN_MASK) << PPN_SHIFT | flags
    }

    /// The physical address the entry points to.
    #[inline]
    pub const fn addr(entry: u64) -> u64 {
        (entry >> PPN_SHIFT & PPN_MASK) << PAGE_SHIFT
    }

    /// Whether the entry maps memory (if it is valid), rather than pointing to a table.
    #[inline]
    pub const fn is_leaf(entry: u64) -> bool {
        entry & RWX != 0
    }

    /// Whether every walk that meets the entry faults, whatever the access: it is not valid, or writable
    /// but not readable, or uses reserved bits (with neither Svpbmt nor Svnapot).
    #[inline]
    pub const fn is_fault(entry: u64) -> bool {
        entry & V == 0 || entry & (R | W) == W || entry & (RESERVED | PBMT | N) != 0
    }

    /// Whether an entry that is not a leaf has bits that are reserved there.
    #[inline]
    pub const fn is_bad_table(entry: u64) -> bool {
        entry & (U | A | D) != 0
    }
}

/// One way to translate: how many levels, how many address bits, which number in `satp` or `hgatp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mode {
    /// The MODE field that selects it.
    pub number: u64,
    /// The levels of tables; the root is at level `levels - 1`, base pages are mapped at level 0.
    pub levels: u32,
    /// The bits of the address translated.
    pub bits: u32,
    /// Whether this is a G-stage mode (`hgatp`), else stage 1 (`satp`).
    pub gstage: bool,
}

/// Three levels, 39-bit virtual addresses.
pub const SV39: Mode = Mode { number: 8, levels: 3, bits: 39, gstage: false };
/// Four levels, 48-bit virtual addresses.
pub const SV48: Mode = Mode { number: 9, levels: 4, bits: 48, gstage: false };
/// Five levels, 57-bit virtual addresses.
pub const SV57: Mode = Mode { number: 10, levels: 5, bits: 57, gstage: false };
/// Three levels, 41-bit guest physical addresses.
pub const SV39X4: Mode = Mode { number: 8, levels: 3, bits: 41, gstage: true };
/// Four levels, 50-bit guest physical addresses.
pub const SV48X4: Mode = Mode { number: 9, levels: 4, bits: 50, gstage: true };
/// Five levels, 59-bit guest physical addresses.
pub const SV57X4: Mode = Mode { number: 10, levels: 5, bits: 59, gstage: true };

/// The shift of the MODE field of `satp` and `hgatp`.
pub const MODE_SHIFT: u32 = 60;
/// MODE for no translation.
pub const MODE_BARE: u64 = 0;
/// The PPN field of `satp` and `hgatp`.
pub const ROOT_PPN_MASK: u64 = (1 << 44) - 1;

impl Mode {
    /// The mode a `satp` value selects; `None` for bare and for reserved numbers.
    #[inline]
    pub const fn of_satp(satp: u64) -> Option<Self> {
        match satp >> MODE_SHIFT {
            8 => Some(SV39),
            9 => Some(SV48),
            10 => Some(SV57),
            _ => None,
        }
    }

    /// The mode an `hgatp` value selects; `None` for bare and for reserved numbers.
    #[inline]
    pub const fn of_hgatp(hgatp: u64) -> Option<Self> {
        match hgatp >> MODE_SHIFT {
            8 => Some(SV39X4),
            9 => Some(SV48X4),
            10 => Some(SV57X4),
            _ => None,
        }
    }

    /// The `satp` or `hgatp` value for a root table at `root`, with ASID or VMID 0.
    #[inline]
    pub const fn root_register(self, root: u64) -> u64 {
        self.number << MODE_SHIFT | root >> PAGE_SHIFT & ROOT_PPN_MASK
    }

    /// The position of `addr`'s entry in its table at `level`.
    #[inline]
    pub const fn index(self, addr: u64, level: u32) -> usize {
        let entries = if self.gstage && level + 1 == self.levels {
            ENTRIES * GSTAGE_ROOT_PAGES
        } else {
            ENTRIES
        };
        (addr >> page_shift(level)) as usize & (entries - 1)
    }

    /// Whether `addr` can be translated at all: virtual addresses repeat their highest translated bit in
    /// all bits above, guest physical addresses have zeros there.
    #[inline]
    pub const fn covers(self, addr: u64) -> bool {
        if self.gstage {
            addr >> self.bits == 0
        } else {
            let unused = 64 - self.bits;
            ((addr << unused) as i64 >> unused) as u64 == addr
        }
    }

    /// The size of the root table in bytes, which is also its alignment.
    #[inline]
    pub const fn root_size(self) -> usize {
        PAGE_SIZE as usize * if self.gstage { GSTAGE_ROOT_PAGES } else { 1 }
    }
}

/// log2 of the size of a page that a leaf at `level` maps: 12, 21, 30, …
#[inline]
pub const fn page_shift(level: u32) -> u32 {
    PAGE_SHIFT + 9 * level
}

/// The size in bytes of a page that a leaf at `level` maps: 4 KiB, 2 MiB, 1 GiB, …
#[inline]
pub const fn page_size(level: u32) -> u64 {
    1 << page_shift(level)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_keep_address_and_flags_apart() {
        for addr in [0, 0x1000, 0x8020_0000, (1 << 56) - 4096] {
            let entry = pte::new(addr, pte::V | pte::RWX | pte::U | pte::A | pte::D);
            assert_eq!(pte::addr(entry), addr);
            assert_eq!(entry & 0x3ff, 0b1101_1111);
            assert!(pte::is_leaf(entry) && !pte::is_fault(entry));
        }
        assert!(pte::is_fault(pte::new(0x1000, pte::R)));
        assert!(pte::is_fault(pte::new(0x1000, pte::V | pte::W)));
        assert!(pte::is_fault(pte::new(0x1000, pte::V | pte::R) | pte::N));
        assert!(!pte::is_leaf(pte::new(0x1000, pte::V)));
        assert!(pte::is_bad_table(pte::new(0x1000, pte::V | pte::A)));
    }

    #[test]
    fn only_the_gstage_root_is_wider() {
        assert_eq!(SV39.index(u64::MAX, 2), 511);
        assert_eq!(SV39X4.index(u64::MAX, 2), 2047);
        assert_eq!(SV39X4.index(u64::MAX, 1), 511);
        assert_eq!(SV39X4.index(0x1_8020_3000, 2), 6);
        assert_eq!(SV39X4.index(0x1_8020_3000, 1), 1);
        assert_eq!(SV39X4.index(0x1_8020_3000, 0), 3);
        assert_eq!((SV48.root_size(), SV48X4.root_size()), (4096, 16384));
    }

    #[test]
    fn covered_addresses() {
        assert!(SV39.covers(0x3f_ffff_ffff) && !SV39.covers(0x40_0000_0000));
        assert!(SV39.covers(0xffff_ffc0_0000_0000) && !SV39.covers(0xffff_ffbf_ffff_ffff));
        assert!(SV39X4.covers((1 << 41) - 1) && !SV39X4.covers(1 << 41));
        assert!(!SV39X4.covers(u64::MAX));
    }

    #[test]
    fn registers_select_their_mode() {
        for mode in [SV39, SV48, SV57] {
            let satp = mode.root_register(0x8020_0000);
            assert_eq!(Mode::of_satp(satp), Some(mode));
            assert_eq!((satp & ROOT_PPN_MASK) << PAGE_SHIFT, 0x8020_0000);
        }
        for mode in [SV39X4, SV48X4, SV57X4] {
            assert_eq!(Mode::of_hgatp(mode.root_register(0x8020_0000)), Some(mode));
        }
        assert_eq!(Mode::of_satp(MODE_BARE << MODE_SHIFT), None);
        assert_eq!(Mode::of_hgatp(1 << MODE_SHIFT), None);
        assert_eq!(page_size(0), 4096);
        assert_eq!(page_size(1), 2 << 20);
        assert_eq!(page_size(2), 1 << 30);
    }
}
