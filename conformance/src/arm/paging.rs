//! The guest's own translation tables, as the suite writes them into its memory.

use axvcpu_stage2::{PAGE_SIZE, Perms};

use super::Subject;
use super::bench::Bench;
use super::guest::*;
use crate::report::Verdict;

/// Where the tables are: the root, one below it, and the last.
pub(super) const TABLES: u64 = DATA + 0x40_0000;
/// The last one.
pub(super) const LAST: u64 = TABLES + 2 * PAGE_SIZE;
/// An address that exists in the tables only.
pub(super) const VIRTUAL: u64 = 0x30_0000_0000;

/// Bits of descriptors (Arm ARM, D8.3).
pub(super) mod bits {
    /// Leads somewhere.
    pub(crate) const VALID: u64 = 1;
    /// A table, or at the last level a page.
    pub(crate) const TABLE: u64 = 3;
    /// The access flag, inner shareable, normal memory (attribute 1).
    pub(crate) const NORMAL: u64 = 1 << 10 | 3 << 8 | 1 << 2;
    /// The access flag, device memory (attribute 0).
    pub(crate) const DEVICE: u64 = 1 << 10;
    /// Read-only.
    pub(crate) const READ_ONLY: u64 = 1 << 7;
    /// Not executable at EL1.
    pub(crate) const PRIVILEGED_NEVER: u64 = 1 << 53;
}

/// The entry of `table` for an address, in tables whose entries map pages of 4 KiB shifted left by 9 bits for each level.
pub(super) fn entry(table: u64, address: u64, level: u32) -> u64 {
    table + 8 * (address >> (12 + 9 * level) & 511)
}

/// Writes tables: the first four gigabytes as they are, the first of them device memory, and at [`VIRTUAL`] a page of
/// `physical` with these bits.
pub(super) fn write_tables<S: Subject>(bench: &mut Bench<S>, physical: u64, flags: u64) -> Verdict {
    bench.space.add(TABLES, 3, Some(Perms::RW))?;
    let (middle, space) = (TABLES + PAGE_SIZE, &bench.space);
    for gigabyte in 0..4 {
        let kind = if gigabyte == 0 { bits::DEVICE | bits::PRIVILEGED_NEVER } else { bits::NORMAL };
        let at = gigabyte << 30;
        space.write(entry(TABLES, at, 2), at | kind | bits::VALID)?;
    }
    space.write(entry(TABLES, VIRTUAL, 2), middle | bits::TABLE)?;
    space.write(entry(middle, VIRTUAL, 1), LAST | bits::TABLE)?;
    space.write(entry(LAST, VIRTUAL, 0), physical | flags | bits::TABLE)?;
    Ok(())
}

impl Guest {
    /// Switches translation on with the tables at an address, caches included. Uses `x9`.
    pub(super) fn mmu_on_with(&mut self, root: u64) {
        self.set_sys(sys::MAIR_EL1, 0xff04); // normal write-back, device-nGnRE
        self.set_sys(sys::TCR_EL1, TCR);
        self.set_sys(sys::TTBR0_EL1, root);
        self.tlbi_vmalle1();
        self.dsb_ish();
        self.isb();
        self.set_sys(sys::SCTLR_EL1, SCTLR | 1 << 12 | 1 << 2 | 1);
        self.isb();
    }

    /// The same with the tables of [`write_tables`].
    pub(super) fn mmu_on(&mut self) {
        self.mmu_on_with(TABLES);
    }
}

/// `TCR_EL1`: 39 bits, pages of 4 KiB, walks cacheable and inner shareable, no upper half, 40 bits of physical address.
pub(super) const TCR: u64 = 25 | 1 << 8 | 1 << 10 | 3 << 12 | 1 << 23 | 2 << 32;

/// `SCTLR_EL1` with everything off: bits that are 1 where they mean nothing, and what does not change with their
/// features (LSMAOE, nTLSMD, SPAN, EIS, TSCXT, EOS).
pub(super) const SCTLR: u64 = 0x30d0_0800;
