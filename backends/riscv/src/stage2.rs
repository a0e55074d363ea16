//! Stage-2 tables in the G-stage format of the hypervisor extension (privileged manual, "Two-Stage Address
//! Translation"). The hardware backend hands them to `hgatp`, the software hart walks them itself.

use axvcpu::{AxError, AxResult};
use axvcpu_stage2::{Format, Stage2 as Tree};
pub use axvcpu_stage2::{Mapping, Perms};

use crate::paging::{GSTAGE_ROOT_PAGES, Mode, pte};

/// A stage-2 table of a RISC-V machine.
pub type Stage2<M> = Tree<M, Mode>;

/// Writable implies readable: the format has no write-only pages.
impl Format for Mode {
    fn levels(self) -> u32 {
        self.levels
    }

    fn guest_bits(self) -> u32 {
        self.bits
    }

    fn host_bits(self) -> u32 {
        56
    }

    /// None for the modes of stage 1.
    fn root_pages(self) -> usize {
        if self.gstage { GSTAGE_ROOT_PAGES } else { 0 }
    }

    /// U, because the G-stage treats every access as a user's; A and D, because nobody looks at them here, and
    /// without them hardware may fault.
    fn leaf(host: u64, _level: u32, perms: Perms) -> AxResult<u64> {
        let Perms { read, write, execute } = perms;
        if !read && (write || !execute) {
            return Err(AxError::InvalidInput);
        }
        let bit = |on, bit| if on { bit } else { 0 };
        let rwx = bit(read, pte::R) | bit(write, pte::W) | bit(execute, pte::X);
        Ok(pte::new(host, rwx | pte::V | pte::U | pte::A | pte::D))
    }

    fn table(at: u64) -> u64 {
        pte::new(at, pte::V)
    }

    fn is_valid(entry: u64) -> bool {
        entry & pte::V != 0
    }

    fn is_leaf(entry: u64) -> bool {
        pte::is_leaf(entry)
    }

    fn addr(entry: u64) -> u64 {
        pte::addr(entry)
    }

    fn perms(entry: u64) -> Perms {
        Perms {
            read: entry & pte::R != 0,
            write: entry & pte::W != 0,
            execute: entry & pte::X != 0,
        }
    }
}

#[cfg(test)]
#[path = "stage2_tests.rs"]
mod tests;
