//! Extended page tables (SDM volume 3, 30.3.2 "EPT Translation Mechanism").
//!
//! Backends on VMX walk them in hardware. The KVM backend reads them too: they are how it is told of memory.

use axvcpu::{AxError, AxResult};
use axvcpu_stage2::{Format, Stage2 as Tree};
pub use axvcpu_stage2::{Mapping, Perms};

/// A stage-2 table of an x86 machine.
pub type Stage2<M> = Tree<M, Ept>;

/// Four levels, for guest physical addresses of 48 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ept;

/// The bits of an entry.
pub mod entry {
    /// Readable.
    pub const READ: u64 = 1 << 0;
    /// Writable.
    pub const WRITE: u64 = 1 << 1;
    /// Executable.
    pub const EXECUTE: u64 = 1 << 2;
    /// Memory type 6, write-back; the guest's own PAT says less.
    pub const WRITE_BACK: u64 = 6 << 3;
    /// At a level above 0: a page, and not a table.
    pub const PAGE: u64 = 1 << 7;
    /// The physical address.
    pub const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
}

use entry::*;

impl Format for Ept {
    fn levels(self) -> u32 {
        4
    }

    fn guest_bits(self) -> u32 {
        48
    }

    fn host_bits(self) -> u32 {
        52
    }

    fn root_pages(self) -> usize {
        1
    }

    /// Writable and not readable is a misconfiguration (SDM volume 3, 30.3.3.1); executable and not readable takes a
    /// capability that not every CPU has.
    fn leaf(host: u64, level: u32, perms: Perms) -> AxResult<u64> {
        let Perms { read, write, execute } = perms;
        if !read {
            return Err(AxError::InvalidInput);
        }
        let bit = |on, bit| if on { bit } else { 0 };
        let page = bit(level > 0, PAGE);
        Ok(host & ADDRESS | READ | bit(write, WRITE) | bit(execute, EXECUTE) | WRITE_BACK | page)
    }

    fn table(at: u64) -> u64 {
        at & ADDRESS | READ | WRITE | EXECUTE
    }

    fn is_valid(entry: u64) -> bool {
        entry & (READ | WRITE | EXECUTE) != 0
    }

    fn is_leaf(entry: u64) -> bool {
        entry & PAGE != 0
    }

    fn addr(entry: u64) -> u64 {
        entry & ADDRESS
    }

    fn perms(entry: u64) -> Perms {
        Perms { read: entry & READ != 0, write: entry & WRITE != 0, execute: entry & EXECUTE != 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_say_what_they_were_made_of() {
        for level in 0..3 {
            for perms in [Perms::R, Perms::RW, Perms::RX, Perms::RWX] {
                let leaf = Ept::leaf(0x1234_4000_0000, level, perms).unwrap();
                assert!(Ept::is_valid(leaf));
                assert_eq!(Ept::is_leaf(leaf), level != 0, "at level 0 nobody asks");
                assert_eq!((Ept::addr(leaf), Ept::perms(leaf)), (0x1234_4000_0000, perms));
            }
        }
        // As the manual draws it: a 2 MiB page for everything.
        assert_eq!(Ept::leaf(0x4020_0000, 1, Perms::RWX), Ok(0x4020_00b7));
        assert_eq!(Ept::leaf(0x4020_1000, 0, Perms::R), Ok(0x4020_1031));
        let table = Ept::table(0x4020_1000);
        assert_eq!((table, Ept::is_leaf(table)), (0x4020_1007, false));
        assert!(!Ept::is_valid(0));
    }

    #[test]
    fn what_every_cpu_refuses_is_refused() {
        let nothing = Perms { read: false, write: false, execute: false };
        for perms in [nothing, Perms { write: true, ..nothing }, Perms { execute: true, ..nothing }]
        {
            assert_eq!(Ept::leaf(0x1000, 0, perms), Err(AxError::InvalidInput));
        }
    }
}
