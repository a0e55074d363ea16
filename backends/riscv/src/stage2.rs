//! Stage-2 tables: what the guest sees as physical memory, in the G-stage format of the hypervisor
//! extension (privileged manual, "Two-Stage Address Translation"). The hardware backend hands them to
//! `hgatp`, the software hart walks them itself.
#![allow(unsafe_code)] // reads and writes tables in frames of its own

use core::marker::PhantomData;
use core::sync::atomic::{AtomicU64, Ordering};

use axvcpu::{AxError, AxMmHal, AxResult, GuestPhysAddr, HostPhysAddr};

use crate::paging::{
    self, ENTRIES, GSTAGE_ROOT_PAGES, Mode, PAGE_SHIFT, PAGE_SIZE, page_shift, page_size, pte,
};

/// What the guest may do with a mapping. Writable implies readable: the format has no write-only pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Perms {
    /// Loads, and the reads of page-table walks.
    pub read: bool,
    /// Stores and atomics.
    pub write: bool,
    /// Instruction fetches.
    pub execute: bool,
}

impl Perms {
    /// Everything: ordinary memory.
    pub const RWX: Self = Self { read: true, write: true, execute: true };
    /// Loads and fetches: ROM.
    pub const RX: Self = Self { read: true, write: false, execute: true };
    /// Loads and stores.
    pub const RW: Self = Self { read: true, write: true, execute: false };
    /// Loads.
    pub const R: Self = Self { read: true, write: false, execute: false };

    /// The bits of a leaf. U, because the G-stage treats every access as a user's; A and D, because nobody
    /// looks at them here, and without them hardware may fault.
    fn bits(self) -> AxResult<u64> {
        let bit = |on, bit| if on { bit } else { 0 };
        match self {
            Self { read: false, write: true, .. } => Err(AxError::InvalidInput),
            Self { read: false, write: false, execute: false } => Err(AxError::InvalidInput),
            Self { read, write, execute } => Ok(bit(read, pte::R)
                | bit(write, pte::W)
                | bit(execute, pte::X)
                | pte::V
                | pte::U
                | pte::A
                | pte::D),
        }
    }

    fn of(entry: u64) -> Self {
        Self { read: entry & pte::R != 0, write: entry & pte::W != 0, execute: entry & pte::X != 0 }
    }
}

/// Where a guest address leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The host address of the very byte asked for.
    pub host: HostPhysAddr,
    /// What the guest may do there.
    pub perms: Perms,
    /// The size of the page in bytes.
    pub page_size: u64,
}

/// A stage-2 table in frames of the platform `M`, given back when it is dropped.
///
/// Pages are as large as addresses and size allow. Changes take effect in the tables at once; a vCPU that
/// has used what was there before must carry out a
/// [`Fence::STAGE2_TLB`](axvcpu::Fence::STAGE2_TLB). Tables that became empty are kept until the end, so
/// that hardware in the midst of a walk never sees a frame with another use.
pub struct Stage2<M: AxMmHal> {
    root: HostPhysAddr,
    mode: Mode,
    mm: PhantomData<fn() -> M>,
}

/// What to do with the leaves of a range.
#[derive(Clone, Copy)]
enum Change {
    Map { host: u64, bits: u64 },
    Protect { bits: u64 },
    Unmap,
}

impl<M: AxMmHal> Stage2<M> {
    /// An empty table.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](AxError::InvalidInput) when `mode` is not a G-stage mode;
    /// [`NoMemory`](AxError::NoMemory).
    pub fn new(mode: Mode) -> AxResult<Self> {
        if !mode.gstage {
            return Err(AxError::InvalidInput);
        }
        let root = M::alloc_contiguous(GSTAGE_ROOT_PAGES).ok_or(AxError::NoMemory)?;
        Ok(Self { root, mode, mm: PhantomData })
    }

    /// The root table, for [`AxVCpu::setup`](axvcpu::AxVCpu::setup). 16 KiB aligned.
    pub fn root(&self) -> HostPhysAddr {
        self.root
    }

    /// The mode the table is for.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Makes `size` bytes from `guest` on lead to `host`.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](AxError::InvalidInput) when an address or the size is not a multiple of 4 KiB, the
    /// range is empty or exceeds the mode, the permissions cannot be expressed, or something is mapped
    /// there already; [`NoMemory`](AxError::NoMemory). Nothing is mapped then that was not before.
    pub fn map(
        &mut self,
        guest: GuestPhysAddr,
        host: HostPhysAddr,
        size: u64,
        perms: Perms,
    ) -> AxResult {
        let (start, end) = self.range(guest, size)?;
        let (host, bits) = (host.as_u64(), perms.bits()?);
        let host_end = host.checked_add(size).ok_or(AxError::InvalidInput)?;
        if host % PAGE_SIZE != 0 || host_end > 1 << 56 || !self.is_free(start, end) {
            return Err(AxError::InvalidInput);
        }
        let mut at = start;
        while at < end {
            let change = Change::Map { host: host + (at - start), bits };
            match self.change_at(at, end, change) {
                Ok(next) => at = next,
                Err(error) => {
                    let _ = self.change(start, at, Change::Unmap); // whole pages of ours: cannot fail
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Takes away what is mapped in the range; large pages are split where the range cuts them.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](AxError::InvalidInput) as for [`map`](Self::map), except that holes are allowed;
    /// [`NoMemory`](AxError::NoMemory) when there is no frame to split a page with: everything below the
    /// page is unmapped then.
    pub fn unmap(&mut self, guest: GuestPhysAddr, size: u64) -> AxResult {
        let (start, end) = self.range(guest, size)?;
        self.change(start, end, Change::Unmap)
    }

    /// Changes the permissions of what is mapped in the range. Errors as for [`unmap`](Self::unmap).
    pub fn protect(&mut self, guest: GuestPhysAddr, size: u64, perms: Perms) -> AxResult {
        let (start, end) = self.range(guest, size)?;
        self.change(start, end, Change::Protect { bits: perms.bits()? })
    }

    /// Where `guest` leads, by the same walk that hardware does; `None` where nothing is mapped.
    pub fn query(&self, guest: GuestPhysAddr) -> Option<Mapping> {
        let guest = guest.as_u64();
        if !self.mode.covers(guest) {
            return None;
        }
        let (entry, level) = self.leaf(guest);
        if entry & pte::V == 0 {
            return None;
        }
        let offset = guest & (page_size(level) - 1);
        Some(Mapping {
            host: HostPhysAddr::new(pte::addr(entry) + offset),
            perms: Perms::of(entry),
            page_size: page_size(level),
        })
    }

    /// The range as addresses, if it is one.
    fn range(&self, guest: GuestPhysAddr, size: u64) -> AxResult<(u64, u64)> {
        let start = guest.as_u64();
        let end = start.checked_add(size).ok_or(AxError::InvalidInput)?;
        let fits = size != 0 && end <= 1 << self.mode.bits;
        if fits && start % PAGE_SIZE == 0 && size % PAGE_SIZE == 0 {
            Ok((start, end))
        } else {
            Err(AxError::InvalidInput)
        }
    }

    fn is_free(&self, start: u64, end: u64) -> bool {
        let mut at = start;
        while at < end {
            let (entry, level) = self.leaf(at);
            if entry & pte::V != 0 {
                return false;
            }
            at = next_page(at, level);
        }
        true
    }

    /// The entry at which the walk for `guest` ends, and its level: a leaf, or an invalid one.
    fn leaf(&self, guest: u64) -> (u64, u32) {
        let (mut table, mut level) = (self.root.as_u64(), self.mode.levels - 1);
        loop {
            let entry = Self::entry(table, self.mode.index(guest, level)).load(Ordering::Relaxed);
            if level == 0 || entry & pte::V == 0 || pte::is_leaf(entry) {
                return (entry, level);
            }
            table = pte::addr(entry);
            level -= 1;
        }
    }

    fn change(&mut self, start: u64, end: u64, change: Change) -> AxResult {
        let mut at = start;
        while at < end {
            at = self.change_at(at, end, change)?;
        }
        Ok(())
    }

    /// Changes the page at `at`, and answers where the next one begins.
    fn change_at(&mut self, at: u64, end: u64, change: Change) -> AxResult<u64> {
        let (mut table, mut level) = (self.root.as_u64(), self.mode.levels - 1);
        loop {
            let entry = Self::entry(table, self.mode.index(at, level));
            let old = entry.load(Ordering::Relaxed);
            let next = next_page(at, level);
            let whole = at % page_size(level) == 0 && next <= end;
            let valid = old & pte::V != 0;
            let is_table = valid && !pte::is_leaf(old) && level > 0;
            if !is_table {
                match change {
                    // Level 3 and up map nothing in one piece: 512 GiB pages gain nothing, and not every
                    // hart has them.
                    Change::Map { host, bits }
                        if whole && level <= 2 && host % page_size(level) == 0 =>
                    {
                        entry.store(pte::new(host, bits), Ordering::Release);
                        return Ok(next);
                    }
                    Change::Map { .. } => {}
                    _ if !valid => return Ok(next.min(end)),
                    Change::Protect { bits } if whole => {
                        entry.store(pte::new(pte::addr(old), bits), Ordering::Release);
                        return Ok(next);
                    }
                    Change::Unmap if whole => {
                        entry.store(0, Ordering::Release);
                        return Ok(next);
                    }
                    _ => {}
                }
                // A part of the page only: its pieces get a table of their own.
                let below = M::alloc_frame().ok_or(AxError::NoMemory)?;
                if valid {
                    let flags = old & 0x3ff;
                    for i in 0..ENTRIES {
                        let piece = pte::addr(old) + ((i as u64) << page_shift(level - 1));
                        Self::entry(below.as_u64(), i)
                            .store(pte::new(piece, flags), Ordering::Relaxed);
                    }
                }
                // After its content, or a walker could see the frame's zeros.
                entry.store(pte::new(below.as_u64(), pte::V), Ordering::Release);
            }
            table = pte::addr(entry.load(Ordering::Relaxed));
            level -= 1;
        }
    }

    /// An entry of a table. Atomic, because hardware and other CPUs walk the table at any time.
    fn entry<'a>(table: u64, index: usize) -> &'a AtomicU64 {
        let virt = M::phys_to_virt(HostPhysAddr::new(table + 8 * index as u64));
        // SAFETY: `table` is the root or one of the frames below it, all of them ours until drop, which no
        // caller's borrow outlives (the function is private); `index` came from `Mode::index` or is below
        // ENTRIES, so it lies within. Nobody accesses entries other than atomically.
        unsafe { AtomicU64::from_ptr(virt.as_usize() as *mut u64) }
    }

    /// Gives the tables below this one back. Recursion ends at level 0, at most five deep.
    fn free_below(&self, table: u64, level: u32, entries: usize) {
        if level == 0 {
            return;
        }
        for index in 0..entries {
            let entry = Self::entry(table, index).load(Ordering::Relaxed);
            if entry & pte::V != 0 && !pte::is_leaf(entry) {
                self.free_below(pte::addr(entry), level - 1, ENTRIES);
                // SAFETY: `change_at` took it with `alloc_frame`; the table that led to it is going away.
                unsafe { M::dealloc_frame(HostPhysAddr::new(pte::addr(entry))) };
            }
        }
    }
}

impl<M: AxMmHal> Drop for Stage2<M> {
    fn drop(&mut self) {
        self.free_below(self.root.as_u64(), self.mode.levels - 1, self.mode.root_size() / 8);
        // SAFETY: taken in `new` with this count; whoever gave the root to a vCPU promised that it is gone.
        unsafe { M::dealloc_contiguous(self.root, GSTAGE_ROOT_PAGES) };
    }
}

/// Where the page that contains `at` at this level ends.
fn next_page(at: u64, level: u32) -> u64 {
    (at | (page_size(level) - 1)) + 1
}

// The root's entries are counted from its size.
const _: () = assert!(paging::SV39X4.root_size() == GSTAGE_ROOT_PAGES << PAGE_SHIFT);

#[cfg(test)]
#[path = "stage2_tests.rs"]
mod tests;
