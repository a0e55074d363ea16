//! Which pages of the program's memory were ever touched: the others are zero, and need not be read to know
//! that.
#![allow(unsafe_code)] // asks for the page size

use std::fs::File;
use std::os::unix::fs::FileExt;

/// A page, here and in the guest.
pub(crate) const PAGE: u64 = 4096;

/// The process's own page map (proc_pid_pagemap(5)): eight bytes a page.
pub(crate) struct Touched(Option<File>);

impl Touched {
    /// Opens the page map. Where there is none, every page counts as touched.
    pub(crate) fn open() -> Self {
        // SAFETY: asks only.
        let page_size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        Self(File::open("/proc/self/pagemap").ok().filter(|_| page_size == PAGE as i64))
    }

    /// Calls `f` with the number of each touched page among the `count` pages from address `start` on.
    pub(crate) fn for_each(&self, start: u64, count: u64, mut f: impl FnMut(u64)) {
        const PRESENT_OR_SWAPPED: u64 = 0b11 << 62;
        let mut entries = [0; 8 * 512];
        let mut first = 0;
        while first < count {
            let pages = (count - first).min(512);
            let wanted = &mut entries[..8 * pages as usize];
            let known = self
                .0
                .as_ref()
                .is_some_and(|map| map.read_exact_at(wanted, (start / PAGE + first) * 8).is_ok());
            for (page, entry) in (first..).zip(wanted.chunks_exact(8)) {
                let entry = entry.try_into().map_or(u64::MAX, u64::from_ne_bytes);
                if !known || entry & PRESENT_OR_SWAPPED != 0 {
                    f(page);
                }
            }
            first += pages;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::GuestRam;

    #[test]
    fn finds_every_page_that_is_not_zero() {
        const PAGES: u64 = 2000;
        let ram = GuestRam::new((PAGES * PAGE) as usize).unwrap();
        for page in [3, 511, 512, 1999] {
            // SAFETY: inside memory of our own.
            unsafe { ram.base().as_ptr().add((page * PAGE) as usize + 5).write(1) };
        }
        let touched = |map: &Touched| {
            let mut pages = Vec::new();
            map.for_each(ram.host_address().as_u64(), PAGES, |page| pages.push(page));
            pages
        };
        let found = touched(&Touched::open());
        // Large pages of the host may add neighbours.
        for page in [3, 511, 512, 1999] {
            assert!(found.contains(&page), "{page} is not in {found:?}");
        }
        assert!(found.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(touched(&Touched(None)), (0..PAGES).collect::<Vec<_>>());
    }

    #[test]
    fn untouched_memory_is_skipped() {
        let ram = GuestRam::new(1 << 30).unwrap();
        let mut count = 0;
        let map = Touched::open();
        assert!(map.0.is_some());
        map.for_each(ram.host_address().as_u64(), (1 << 30) / PAGE, |_| count += 1);
        assert_eq!(count, 0);
    }
}
