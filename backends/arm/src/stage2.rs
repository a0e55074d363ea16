//! Stage-2 tables with 4 KiB granules (Arm ARM, D8.2 "Translation process", D8.3 "Translation table descriptor formats",
//! D8.4 "Memory access control").

use axvcpu::AxResult;
use axvcpu_stage2::{Format, Stage2 as Tree};
pub use axvcpu_stage2::{Mapping, Perms};

/// A stage-2 table of an AArch64 machine.
pub type Stage2<M> = Tree<M, Ipa>;

/// A size of the guest's physical address space (intermediate physical addresses), and with it the shape of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ipa {
    bits: u32,
}

/// 3 levels: 512 GiB, a root of one page.
pub const IPA39: Ipa = Ipa { bits: 39 };
/// 3 levels: 1 TiB, a root of two pages.
pub const IPA40: Ipa = Ipa { bits: 40 };
/// 4 levels: 16 TiB.
pub const IPA44: Ipa = Ipa { bits: 44 };
/// 4 levels: 256 TiB.
pub const IPA48: Ipa = Ipa { bits: 48 };

impl Ipa {
    /// The address space of so many bits, 32 to 48; `None` for others. Up to 40 bits take 3 levels, a root of two pages
    /// included, others 4.
    pub const fn new(bits: u32) -> Option<Self> {
        if bits >= 32 && bits <= 48 { Some(Self { bits }) } else { None }
    }

    /// The bits of an address.
    pub const fn bits(self) -> u32 {
        self.bits
    }
}

/// The bits of a descriptor.
pub mod descriptor {
    /// Leads to a page or a table.
    pub const VALID: u64 = 1 << 0;
    /// At level 0 a page; above, a table and not a block.
    pub const TABLE: u64 = 1 << 1;
    /// MemAttr\[3:0\]: normal memory, inner and outer write-back, as far as the guest's own attributes allow.
    pub const NORMAL: u64 = 0b1111 << 2;
    /// S2AP\[0\]: readable.
    pub const READ: u64 = 1 << 6;
    /// S2AP\[1\]: writable.
    pub const WRITE: u64 = 1 << 7;
    /// SH: inner shareable.
    pub const INNER_SHAREABLE: u64 = 0b11 << 8;
    /// The access flag. Without it, or hardware that sets it, every access faults.
    pub const ACCESSED: u64 = 1 << 10;
    /// XN\[1\]: not executable.
    pub const EXECUTE_NEVER: u64 = 1 << 54;
    /// The output address.
    pub const ADDRESS: u64 = 0x0000_ffff_ffff_f000;
}

use descriptor::*;

impl Format for Ipa {
    fn levels(self) -> u32 {
        if self.bits <= 40 { 3 } else { 4 }
    }

    fn guest_bits(self) -> u32 {
        self.bits
    }

    fn host_bits(self) -> u32 {
        48
    }

    /// Where the root level would have few entries, the level below is the root, of up to 16 tables in a row.
    fn root_pages(self) -> usize {
        if self.bits == 40 { 2 } else { 1 }
    }

    fn leaf(host: u64, level: u32, perms: Perms) -> AxResult<u64> {
        let Perms { read, write, execute } = perms;
        let bit = |on, bit| if on { bit } else { 0 };
        Ok(host & ADDRESS
            | VALID
            | NORMAL
            | INNER_SHAREABLE
            | ACCESSED
            | bit(level == 0, TABLE)
            | bit(read, READ)
            | bit(write, WRITE)
            | bit(!execute, EXECUTE_NEVER))
    }

    fn table(at: u64) -> u64 {
        at & ADDRESS | TABLE | VALID
    }

    fn is_valid(entry: u64) -> bool {
        entry & VALID != 0
    }

    fn is_leaf(entry: u64) -> bool {
        entry & TABLE == 0
    }

    fn addr(entry: u64) -> u64 {
        entry & ADDRESS
    }

    fn perms(entry: u64) -> Perms {
        Perms {
            read: entry & READ != 0,
            write: entry & WRITE != 0,
            execute: entry & EXECUTE_NEVER == 0,
        }
    }

    /// Arm ARM, D8.16.1 "Using break-before-make when updating translation table entries".
    const BREAK_BEFORE_MAKE: bool = true;

    fn forget() {
        barriers::forget();
    }

    fn publish() {
        barriers::publish();
    }
}

/// What makes table entries take effect.
#[allow(unsafe_code)] // barriers and TLB maintenance
mod barriers {
    /// On a hypervisor's own CPU; programs on an operating system have no TLB to speak of.
    pub(super) fn forget() {
        #[cfg(all(target_arch = "aarch64", target_os = "none"))]
        // SAFETY: translations are looked up anew; this is EL2, where hypervisors without an operating system are.
        unsafe {
            core::arch::asm!("dsb ishst", "tlbi alle1is", "dsb ish", "isb", options(nostack));
        }
    }

    pub(super) fn publish() {
        #[cfg(target_arch = "aarch64")]
        // SAFETY: a barrier.
        unsafe {
            core::arch::asm!("dsb ishst", "isb", options(nostack));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_say_what_they_were_made_of() {
        for level in 0..3 {
            for bits in 0..8 {
                let perms =
                    Perms { read: bits & 1 != 0, write: bits & 2 != 0, execute: bits & 4 != 0 };
                let leaf = Ipa::leaf(0x1234_4000_0000, level, perms).unwrap();
                assert!(Ipa::is_valid(leaf));
                assert_eq!(Ipa::is_leaf(leaf), level != 0, "pages look like tables");
                assert_eq!((Ipa::addr(leaf), Ipa::perms(leaf)), (0x1234_4000_0000, perms));
            }
        }
        // As the manual draws it: a 2 MiB block for everything.
        assert_eq!(Ipa::leaf(0x4020_0000, 1, Perms::RWX), Ok(0x4020_07fd));
        assert_eq!(Ipa::leaf(0x4020_1000, 0, Perms::R), Ok(0x0040_0000_4020_177f));
        let table = Ipa::table(0x4020_1000);
        assert_eq!((table, Ipa::is_leaf(table)), (0x4020_1003, false));
        assert!(!Ipa::is_valid(0));
    }

    #[test]
    fn shapes() {
        for (ipa, levels, pages) in [(IPA39, 3, 1), (IPA40, 3, 2), (IPA44, 4, 1), (IPA48, 4, 1)] {
            assert_eq!((ipa.levels(), ipa.root_pages()), (levels, pages), "{ipa:?}");
        }
        assert_eq!((Ipa::new(31), Ipa::new(49)), (None, None));
        assert_eq!(Ipa::new(36).map(Ipa::bits), Some(36));
    }
}
