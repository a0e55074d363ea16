//! Stage-2 tables: what the guest sees as physical memory.
//!
//! Every architecture has the same tree of 4 KiB tables with 512 entries of 8 bytes, walked 9 address bits at a time;
//! they differ in the entries and in the size of the root. [`Stage2`] is the tree, a [`Format`] the entries.
#![cfg_attr(not(test), no_std)]
#![allow(unsafe_code)] // reads and writes tables in frames of its own

use core::fmt::Debug;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicU64, Ordering};

use axvcpu::{AxError, AxMmHal, AxResult, GuestPhysAddr, HostPhysAddr};

/// The size of the smallest page in bytes, and of a table.
pub const PAGE_SIZE: u64 = 1 << PAGE_SHIFT;
const PAGE_SHIFT: u32 = 12;
/// The entries of a table that is not the root.
const ENTRIES: usize = 512;

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

/// The entries of an architecture's stage-2 tables, and how large a tree of them is.
///
/// Levels are counted from the bottom: base pages are mapped at level 0.
pub trait Format: Copy + Eq + Debug + 'static {
    /// How many levels there are: the root is at level `levels - 1`, base pages are mapped at level 0. A table without entries is
    /// all zeros.
    fn levels(self) -> u32;

    /// The bits of a guest physical address.
    fn guest_bits(self) -> u32;

    /// The bits of a host physical address that entries have room for.
    fn host_bits(self) -> u32;

    /// The pages of the root table, a power of two: where the architecture joins several tables to one. Its alignment
    /// is its size.
    fn root_pages(self) -> usize;

    /// The leaf that maps `host`, aligned to a page of `level`.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](AxError::InvalidInput) when the format cannot express the permissions.
    fn leaf(host: u64, level: u32, perms: Perms) -> AxResult<u64>;

    /// The entry for the table at `at`.
    fn table(at: u64) -> u64;

    /// Whether an entry leads anywhere. Zero does not.
    fn is_valid(entry: u64) -> bool;

    /// Whether a valid entry of a table above level 0 is a leaf. Not asked of one at level 0: there every valid entry is.
    fn is_leaf(entry: u64) -> bool;

    /// The physical address of the page or table an entry leads to.
    fn addr(entry: u64) -> u64;

    /// What a leaf permits.
    fn perms(entry: u64) -> Perms;

    /// Whether a large page must be unmapped, and forgotten by every CPU, before a table takes its place.
    const BREAK_BEFORE_MAKE: bool = false;

    /// Makes every CPU forget what it knows of stage-2 translations; called for [`BREAK_BEFORE_MAKE`](Self::BREAK_BEFORE_MAKE).
    fn forget() {}

    /// Called after entries were written: makes them visible to walks, where that takes more than a store.
    fn publish() {}
}

/// What the guest may do with a mapping. Not every format can express every combination.
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
pub struct Stage2<M: AxMmHal, F: Format> {
    root: HostPhysAddr,
    format: F,
    mm: PhantomData<fn() -> M>,
}

/// What to do with the leaves of a range.
#[derive(Clone, Copy)]
enum Change {
    Map { host: u64, perms: Perms },
    Protect { perms: Perms },
    Unmap,
}

impl<M: AxMmHal, F: Format> Stage2<M, F> {
    /// An empty table.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](AxError::InvalidInput) when `format` is not one of stage 2; [`NoMemory`](AxError::NoMemory).
    pub fn new(format: F) -> AxResult<Self> {
        if format.root_pages() == 0 {
            return Err(AxError::InvalidInput);
        }
        let root = M::alloc_contiguous(format.root_pages()).ok_or(AxError::NoMemory)?;
        Ok(Self { root, format, mm: PhantomData })
    }

    /// The root table, for [`AxVCpu::setup`](axvcpu::AxVCpu::setup). Aligned to its size.
    pub fn root(&self) -> HostPhysAddr {
        self.root
    }

    /// The format of the table.
    pub fn format(&self) -> F {
        self.format
    }

    /// Makes `size` bytes from `guest` on lead to `host`.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](AxError::InvalidInput) when an address or the size is not a multiple of 4 KiB, the
    /// range is empty or exceeds the format, the permissions cannot be expressed, or something is mapped
    /// there already; [`NoMemory`](AxError::NoMemory). Nothing is mapped then that was not before.
    pub fn map(
        &mut self,
        guest: GuestPhysAddr,
        host: HostPhysAddr,
        size: u64,
        perms: Perms,
    ) -> AxResult {
        let (start, end) = self.range(guest, size)?;
        let host = host.as_u64();
        F::leaf(0, 0, perms)?;
        let host_end = host.checked_add(size).ok_or(AxError::InvalidInput)?;
        let fits = host_end <= 1 << self.format.host_bits();
        if host % PAGE_SIZE != 0 || !fits || !self.is_free(start, end) {
            return Err(AxError::InvalidInput);
        }
        let mut at = start;
        while at < end {
            let change = Change::Map { host: host + (at - start), perms };
            match self.change_at(at, end, change) {
                Ok(next) => at = next,
                Err(error) => {
                    let _ = self.change(start, at, Change::Unmap); // whole pages of ours: cannot fail
                    return Err(error);
                }
            }
        }
        F::publish();
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
        F::leaf(0, 0, perms)?;
        self.change(start, end, Change::Protect { perms })
    }

    /// Where `guest` leads, by the same walk that hardware does; `None` where nothing is mapped.
    pub fn query(&self, guest: GuestPhysAddr) -> Option<Mapping> {
        let guest = guest.as_u64();
        if guest >> self.format.guest_bits() != 0 {
            return None;
        }
        let (entry, level) = self.leaf(guest);
        if !F::is_valid(entry) {
            return None;
        }
        let offset = guest & (page_size(level) - 1);
        Some(Mapping {
            host: HostPhysAddr::new(F::addr(entry) + offset),
            perms: F::perms(entry),
            page_size: page_size(level),
        })
    }

    /// The range as addresses, if it is one.
    fn range(&self, guest: GuestPhysAddr, size: u64) -> AxResult<(u64, u64)> {
        let start = guest.as_u64();
        let end = start.checked_add(size).ok_or(AxError::InvalidInput)?;
        let fits = size != 0 && end <= 1 << self.format.guest_bits();
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
            if F::is_valid(entry) {
                return false;
            }
            at = next_page(at, level);
        }
        true
    }

    /// The entry at which the walk for `guest` ends, and its level: a leaf, or an invalid one.
    fn leaf(&self, guest: u64) -> (u64, u32) {
        let (mut table, mut level) = (self.root.as_u64(), self.format.levels() - 1);
        loop {
            let entry = Self::entry(table, self.index(guest, level)).load(Ordering::Relaxed);
            if level == 0 || !F::is_valid(entry) || F::is_leaf(entry) {
                return (entry, level);
            }
            table = F::addr(entry);
            level -= 1;
        }
    }

    fn change(&mut self, start: u64, end: u64, change: Change) -> AxResult {
        let mut at = start;
        while at < end {
            at = self.change_at(at, end, change)?;
        }
        F::publish();
        Ok(())
    }

    /// The position of an address's entry in its table at `level`.
    fn index(&self, addr: u64, level: u32) -> usize {
        let root = level + 1 == self.format.levels();
        let entries = if root { ENTRIES * self.format.root_pages() } else { ENTRIES };
        (addr >> page_shift(level)) as usize & (entries - 1)
    }

    /// Changes the page at `at`, and answers where the next one begins.
    fn change_at(&mut self, at: u64, end: u64, change: Change) -> AxResult<u64> {
        let (mut table, mut level) = (self.root.as_u64(), self.format.levels() - 1);
        loop {
            let entry = Self::entry(table, self.index(at, level));
            let old = entry.load(Ordering::Relaxed);
            let next = next_page(at, level);
            let whole = at % page_size(level) == 0 && next <= end;
            let valid = F::is_valid(old);
            let is_table = valid && !F::is_leaf(old) && level > 0;
            if !is_table {
                match change {
                    // Level 3 and up map nothing in one piece: 512 GiB pages gain nothing, and not every
                    // CPU has them.
                    Change::Map { host, perms }
                        if whole && level <= 2 && host % page_size(level) == 0 =>
                    {
                        entry.store(F::leaf(host, level, perms)?, Ordering::Release);
                        return Ok(next);
                    }
                    Change::Map { .. } => {}
                    _ if !valid => return Ok(next.min(end)),
                    Change::Protect { perms } if whole => {
                        let leaf = F::leaf(F::addr(old), level, perms)?;
                        entry.store(leaf, Ordering::Release);
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
                    let perms = F::perms(old);
                    for i in 0..ENTRIES {
                        let piece = F::addr(old) + ((i as u64) << page_shift(level - 1));
                        Self::entry(below.as_u64(), i)
                            .store(F::leaf(piece, level - 1, perms)?, Ordering::Relaxed);
                    }
                    if F::BREAK_BEFORE_MAKE {
                        entry.store(0, Ordering::Relaxed);
                        F::forget();
                    }
                }
                // Before the entry that leads there, or a walker could see the frame's zeros.
                F::publish();
                entry.store(F::table(below.as_u64()), Ordering::Release);
            }
            table = F::addr(entry.load(Ordering::Relaxed));
            level -= 1;
        }
    }

    /// An entry of a table. Atomic, because hardware and other CPUs walk the table at any time.
    fn entry<'a>(table: u64, index: usize) -> &'a AtomicU64 {
        let virt = M::phys_to_virt(HostPhysAddr::new(table + 8 * index as u64));
        // SAFETY: `table` is the root or one of the frames below it, all of them ours until drop, which no
        // caller's borrow outlives (the function is private), or somebody's who promised the same to
        // `for_each_page`; `index` came from `Self::index` or is below the number of entries, so it lies within.
        // Nobody accesses entries other than atomically.
        unsafe { AtomicU64::from_ptr(virt.as_usize() as *mut u64) }
    }

    /// Gives the tables below this one back. Recursion ends at level 0, at most five deep.
    fn free_below(&self, table: u64, level: u32, entries: usize) {
        if level == 0 {
            return;
        }
        for index in 0..entries {
            let entry = Self::entry(table, index).load(Ordering::Relaxed);
            if F::is_valid(entry) && !F::is_leaf(entry) {
                self.free_below(F::addr(entry), level - 1, ENTRIES);
                // SAFETY: `change_at` took it with `alloc_frame`; the table that led to it is going away.
                unsafe { M::dealloc_frame(HostPhysAddr::new(F::addr(entry))) };
            }
        }
    }
}

impl<M: AxMmHal, F: Format> Drop for Stage2<M, F> {
    fn drop(&mut self) {
        let entries = ENTRIES * self.format.root_pages();
        self.free_below(self.root.as_u64(), self.format.levels() - 1, entries);
        // SAFETY: taken in `new` with this count; whoever gave the root to a vCPU promised that it is gone.
        unsafe { M::dealloc_contiguous(self.root, self.format.root_pages()) };
    }
}

/// Calls `f` with every page that a table maps, in the order of guest addresses: for a backend whose hardware is not what
/// walks it.
///
/// # Safety
///
/// `root` is the root of a well-formed table in `format` while the call lasts. It may be changed meanwhile; what was
/// changed may be seen or not.
pub unsafe fn for_each_page<M: AxMmHal, F: Format>(
    format: F,
    root: HostPhysAddr,
    mut f: impl FnMut(GuestPhysAddr, Mapping),
) {
    let entries = ENTRIES * format.root_pages();
    // SAFETY: the caller's promise is about the root, which has so many entries.
    unsafe { visit::<M, F>(root.as_u64(), format.levels() - 1, entries, 0, &mut f) };
}

/// The part of [`for_each_page`] below one table. Recursion ends at level 0, at most five deep.
///
/// # Safety
///
/// `table` is one of a well-formed tree at this level, with so many entries.
unsafe fn visit<M: AxMmHal, F: Format>(
    table: u64,
    level: u32,
    entries: usize,
    base: u64,
    f: &mut impl FnMut(GuestPhysAddr, Mapping),
) {
    for index in 0..entries {
        let entry = Stage2::<M, F>::entry(table, index).load(Ordering::Acquire);
        let guest = base + ((index as u64) << page_shift(level));
        if !F::is_valid(entry) {
            continue;
        }
        if level > 0 && !F::is_leaf(entry) {
            // SAFETY: where an entry leads that is valid and no leaf there is a table of the level below.
            unsafe { visit::<M, F>(F::addr(entry), level - 1, ENTRIES, guest, f) };
            continue;
        }
        let host = HostPhysAddr::new(F::addr(entry));
        f(
            GuestPhysAddr::new(guest),
            Mapping { host, perms: F::perms(entry), page_size: page_size(level) },
        );
    }
}

/// Where the page that contains `at` at this level ends.
fn next_page(at: u64, level: u32) -> u64 {
    (at | (page_size(level) - 1)) + 1
}
