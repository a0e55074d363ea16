//! Where everything is in the guest's memory, and what its page tables lead to.

use axvcpu_riscv::paging::PAGE_SIZE;

/// Where guest memory begins.
pub(super) const BASE: u64 = 0x8000_0000;
/// How many pages it has: few, so that all of it can be compared at every exit.
pub const PAGES: usize = 20;
/// Bytes of it.
pub const SIZE: usize = PAGES * PAGE_SIZE as usize;

/// The guest's trap handler and what starts the guest. Here for the supervisor in every address space.
pub(super) const HANDLER: u64 = BASE;
/// What the handler saves, and what the hypervisor tells it.
pub(super) const SAVE: u64 = BASE + PAGE_SIZE;
/// The instructions.
pub(super) const CODE: u64 = BASE + 2 * PAGE_SIZE;
pub(super) const CODE_SIZE: u64 = 2 * PAGE_SIZE;
/// Page tables: one for each level, the lowest first. The pages before and behind them belong to nothing, so that
/// an address that is slightly off is not an entry.
pub(super) const TABLES: u64 = BASE + 5 * PAGE_SIZE;
/// What the instructions work on.
pub(super) const DATA: u64 = BASE + 11 * PAGE_SIZE;
pub(super) const DATA_PAGES: u64 = 8;

/// There are devices, or nothing: guest physical addresses that lead nowhere.
pub(super) const DEVICE: u64 = 0x1000_0000;
/// Nothing either, behind the memory.
pub(super) const BEYOND: u64 = BASE + 0x10_0000;

/// The instructions as the supervisor sees them when it translates …
pub(super) const SUPERVISOR_CODE: u64 = BASE + 32 * PAGE_SIZE;
/// … and as users do.
pub(super) const USER_CODE: u64 = BASE + 36 * PAGE_SIZE;
/// Pages with random entries.
pub(super) const TEST: u64 = BASE + 48 * PAGE_SIZE;
pub(super) const TEST_PAGES: u64 = 16;
/// Pages that lead to devices.
pub(super) const DEVICE_PAGES: u64 = TEST + TEST_PAGES * PAGE_SIZE;
/// A page that leads beyond the memory.
pub(super) const BEYOND_PAGE: u64 = DEVICE_PAGES + 2 * PAGE_SIZE;
/// A page whose entry is 64 random bits.
pub(super) const ODD_PAGE: u64 = BEYOND_PAGE + PAGE_SIZE;

/// 2 MiB with a random entry.
pub(super) const LARGE: u64 = BASE + (2 << 20);
/// The same entries as from [`BASE`] on, by a pointer to the table that may be malformed.
pub(super) const ALIAS: u64 = BASE + (4 << 20);
/// Its table is where nothing is.
pub(super) const LOST_TABLE: u64 = BASE + (6 << 20);
/// 1 GiB with a random entry.
pub(super) const HUGE: u64 = 0xc000_0000;

/// The table at `level`.
pub(super) const fn table(level: u32) -> u64 {
    TABLES + level as u64 * PAGE_SIZE
}

/// The page of guest memory that `at` is in.
pub(super) fn page_of(at: u64) -> Option<usize> {
    let page = at.checked_sub(BASE)? / PAGE_SIZE;
    usize::try_from(page).ok().filter(|&page| page < PAGES)
}

/// How far behind the first instruction `pc` is, by whichever address it is reached.
pub(super) fn offset_of(pc: u64) -> Option<u64> {
    [CODE, SUPERVISOR_CODE, USER_CODE]
        .into_iter()
        .find_map(|start| pc.checked_sub(start).filter(|&offset| offset < CODE_SIZE))
}
