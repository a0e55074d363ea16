//! The guest's own page tables, with entries at random where its instructions look.

use alloc::vec::Vec;

use axvcpu_riscv::paging::{Mode, PAGE_SIZE, SV39, SV48, SV57, pte};

use super::layout::{
    ALIAS, BASE, BEYOND, BEYOND_PAGE, CODE, CODE_SIZE, DATA, DATA_PAGES, DEVICE, DEVICE_PAGES,
    HANDLER, HUGE, LARGE, LOST_TABLE, ODD_PAGE, SAVE, SUPERVISOR_CODE, TABLES, TEST, TEST_PAGES,
    USER_CODE, table,
};
use crate::rng::Rng;

const EXECUTE: u64 = pte::V | pte::R | pte::X | pte::A | pte::D;
const WRITE: u64 = pte::V | pte::R | pte::W | pte::A | pte::D;

/// The values of `satp` that guests use: no translation, and three modes by the same tables.
pub(super) fn satps() -> [u64; 4] {
    let of = |mode: Mode| mode.root_register(table(mode.levels - 1));
    [0, of(SV39), of(SV48), of(SV57)]
}

/// The address of the entry for `address` at `level`: the same in all modes, which differ in their root only.
fn slot(address: u64, level: u32) -> u64 {
    table(level) + 8 * SV57.index(address, level) as u64
}

/// Flags as they come: good ones more often than others.
fn flags(rng: &mut Rng) -> u64 {
    let mut flags = rng.below(1024); // the two for software included
    if rng.chance(85) {
        flags |= pte::V;
    }
    if rng.chance(70) {
        flags |= pte::A | pte::D;
    }
    if rng.chance(60) {
        flags |= pte::R;
    }
    if rng.chance(6) {
        flags |= 1 << rng.between(54, 63);
    }
    flags
}

fn user(rng: &mut Rng) -> u64 {
    if rng.chance(50) { pte::U } else { 0 }
}

/// A random entry that may change, and what is written there.
pub(super) fn entry(rng: &mut Rng) -> (u64, u64) {
    match rng.below(12) {
        0 => large(rng, LARGE, 1),
        1 => large(rng, HUGE, 2),
        2 => {
            // A pointer to the table of the test pages. Not as a leaf, which would let the guest write to tables.
            let extra = if rng.chance(60) { 0 } else { rng.below(1024) & !pte::RWX & !pte::V };
            (slot(ALIAS, 1), pte::new(table(0), pte::V | extra))
        }
        3 => {
            let flags = pte::V | pte::A | pte::D | pte::RWX | user(rng);
            let page = rng.below(2);
            (slot(DEVICE_PAGES + page * PAGE_SIZE, 0), pte::new(DEVICE + page * PAGE_SIZE, flags))
        }
        4 => {
            let flags = pte::V | pte::A | pte::D | pte::RWX | user(rng);
            (slot(BEYOND_PAGE, 0), pte::new(BEYOND, flags))
        }
        5 => {
            // Whatever it leads to, it is not memory that there is: of that the tables are a part.
            let odd = rng.word() | 1 << 50;
            (slot(ODD_PAGE, 0), odd)
        }
        _ => {
            let page = TEST + rng.below(TEST_PAGES) * PAGE_SIZE;
            (slot(page, 0), pte::new(DATA + rng.below(DATA_PAGES) * PAGE_SIZE, flags(rng)))
        }
    }
}

fn large(rng: &mut Rng, address: u64, level: u32) -> (u64, u64) {
    let mut value = pte::new(BASE, flags(rng));
    if !pte::is_leaf(value) {
        value &= !pte::V; // or the handler's instructions would be entries
    } else if rng.chance(15) {
        value ^= 1 << (10 + rng.below(9)); // misaligned
    }
    (slot(address, level), value)
}

/// Writes the tables, each at its place in guest memory.
pub(super) fn write(rng: &mut Rng, mut place: impl FnMut(u64, u64)) {
    for level in 1..5 {
        place(slot(BASE, level), pte::new(table(level - 1), pte::V));
    }
    let mut map = |from: u64, to: u64, pages: u64, flags: u64| {
        for page in 0..pages {
            let offset = page * PAGE_SIZE;
            place(slot(from + offset, 0), pte::new(to + offset, flags));
        }
    };
    map(HANDLER, HANDLER, 1, EXECUTE);
    map(SAVE, SAVE, 1, WRITE);
    map(TABLES, TABLES, 5, WRITE);
    map(SUPERVISOR_CODE, CODE, CODE_SIZE / PAGE_SIZE, EXECUTE);
    map(USER_CODE, CODE, CODE_SIZE / PAGE_SIZE, EXECUTE | pte::U);
    place(slot(LOST_TABLE, 1), pte::new(BEYOND, pte::V));
    let entries: Vec<_> = (0..150).map(|_| entry(rng)).collect();
    entries.into_iter().for_each(|(at, value)| place(at, value));
}
