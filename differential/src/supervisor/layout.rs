//! Where everything is in guest memory, and what the tables lead to.

use alloc::vec::Vec;

use axvcpu_riscv::paging::{Mode, PAGE_SIZE, pte};

/// The image, where firmware starts a kernel.
pub(super) const ENTRY: u64 = 0x8020_0000;
/// The cases.
pub(super) const CASES: u64 = 0x8030_0000;
/// What came of them.
pub(super) const LOG: u64 = 0x8050_0000;
/// Page tables: the levels from the root down, in a page each.
pub(super) const TABLES: u64 = 0x8070_0000;
/// The pages that cases use, at the start of a large page of memory.
pub(super) const PAGES: u64 = 0x8080_0000;

/// The page of instructions.
pub(super) const CODE_PAGE: u64 = PAGES;
/// Two pages of data.
pub(super) const DATA_PAGES: [u64; 2] = [PAGES + PAGE_SIZE, PAGES + 2 * PAGE_SIZE];

/// The virtual address space, from here on: pages of 4 KiB.
pub(super) const SMALL: u64 = 0x4000_0000;
/// The instructions as U-mode sees them.
pub(super) const USER_CODE: u64 = SMALL;
/// The instructions as S-mode sees them.
pub(super) const SUPERVISOR_CODE: u64 = SMALL + PAGE_SIZE;
/// A page of U-mode data.
pub(super) const USER_DATA: u64 = SMALL + 2 * PAGE_SIZE;
/// The page whose entry cases change.
pub(super) const TEST: u64 = SMALL + 3 * PAGE_SIZE;
/// The page behind it.
pub(super) const BEHIND: u64 = SMALL + 4 * PAGE_SIZE;
/// A 2 MiB page whose entry cases change.
pub(super) const TEST_LARGE: u64 = SMALL + (2 << 20);
/// A 1 GiB page whose entry cases change.
pub(super) const TEST_HUGE: u64 = 0xc000_0000;

/// Everything a kernel does itself.
const KERNEL: u64 = pte::V | pte::RWX | pte::A | pte::D;
/// U-mode data.
pub(super) const USER: u64 = pte::V | pte::R | pte::W | pte::U | pte::A | pte::D;

/// The address of the table at `level`, 0 for the last.
pub(super) fn table(level: u32) -> u64 {
    TABLES + u64::from(level) * PAGE_SIZE
}

/// The address of the entry for virtual address `address` at `level`.
pub(super) fn slot(mode: Mode, address: u64, level: u32) -> u64 {
    table(level) + 8 * mode.index(address, level) as u64
}

/// The tables' entries: where they are, and what they hold.
pub(super) fn entries(mode: Mode) -> Vec<(u64, u64)> {
    let mut entries: Vec<_> = (1..mode.levels)
        .map(|level| (slot(mode, SMALL, level), pte::new(table(level - 1), pte::V)))
        .collect();
    // Memory as it is, for the kernel, in a page of 1 GiB.
    entries.push((slot(mode, 0x8000_0000, 2), pte::new(0x8000_0000, KERNEL)));
    let execute = pte::V | pte::R | pte::X | pte::A | pte::D;
    for (address, physical, flags) in [
        (USER_CODE, CODE_PAGE, execute | pte::U),
        (SUPERVISOR_CODE, CODE_PAGE, execute),
        (USER_DATA, DATA_PAGES[0], USER),
        (BEHIND, DATA_PAGES[0], USER),
    ] {
        entries.push((slot(mode, address, 0), pte::new(physical, flags)));
    }
    entries
}

/// Bytes of a case and of a record in the log, and the 64-bit words they have.
pub(super) const RECORD: u64 = 128;
pub(super) const WORDS: usize = 16;
