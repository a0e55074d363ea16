//! The guest's page tables, written by the test.

use std::cell::Cell;

use axvcpu_riscv::paging::{Mode, page_shift, pte};

use crate::machine::Machine;

/// Everything a leaf can allow a supervisor, or a user with [`pte::U`].
pub const ALL: u64 = pte::V | pte::RWX | pte::A | pte::D;

/// Tables of one address space, in guest memory from a given address on.
pub struct Tables {
    pub mode: Mode,
    pub root: u64,
    next: Cell<u64>,
}

impl Tables {
    /// An empty address space. The memory from `at` on is zero.
    pub fn new(mode: Mode, at: u64) -> Self {
        Self { mode, root: at, next: Cell::new(at + 4096) }
    }

    /// A frame of zeros.
    pub fn frame(&self) -> u64 {
        self.next.replace(self.next.get() + 4096)
    }

    /// The guest physical address of the entry for `va` at `level`; tables above it are made.
    pub fn entry(&self, machine: &Machine, va: u64, level: u32) -> u64 {
        let mut table = self.root;
        for above in (level + 1..self.mode.levels).rev() {
            let at = table + 8 * self.mode.index(va, above) as u64;
            if machine.read_u64(at) & pte::V == 0 {
                machine.write_u64(at, pte::new(self.frame(), pte::V));
            }
            table = pte::addr(machine.read_u64(at));
        }
        table + 8 * self.mode.index(va, level) as u64
    }

    /// Maps the page of `va` at `level`, and answers where its entry is.
    pub fn map(&self, machine: &Machine, va: u64, level: u32, pa: u64, flags: u64) -> u64 {
        let at = self.entry(machine, va, level);
        machine.write_u64(at, pte::new(pa, flags));
        at
    }

    /// The value of `satp` for it.
    pub fn satp(&self) -> u64 {
        self.mode.root_register(self.root)
    }

    /// The lowest address of the half (0 or 1) of the address space, away from its ends, where a whole root
    /// entry is free.
    pub fn free(&self, half: usize) -> u64 {
        let bits = self.mode.bits;
        [1 << (bits - 3), u64::MAX << (bits - 2)][half]
    }

    /// The virtual address that leads to `pa` if its page is mapped at `level` in this half.
    pub fn address(&self, half: usize, level: u32, pa: u64) -> u64 {
        self.free(half) | pa & ((1 << page_shift(level)) - 1)
    }
}
