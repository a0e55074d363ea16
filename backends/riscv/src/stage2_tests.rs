//! Stage-2 tables against a plain map of pages, with frames that are counted.
#![allow(unsafe_code)] // a frame allocator

extern crate std;

use core::cell::RefCell;
use std::alloc::{Layout, alloc_zeroed};
use std::collections::{BTreeMap, BTreeSet};
use std::vec::Vec;

use axvcpu::{AxError, AxMmHal, GuestPhysAddr, HostPhysAddr, HostVirtAddr};

use super::*;
use crate::paging::{SV39, SV39X4, SV48X4};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

#[derive(Default)]
struct Pool {
    free: Vec<u64>,
    used: BTreeSet<u64>,
    limit: Option<usize>,
}

std::thread_local! {
    static POOL: RefCell<Pool> = RefCell::default();
}

/// Identity-mapped frames from the heap, of which each thread has its own pool.
struct Mm;

const ARENA: Layout = match Layout::from_size_align(1 << 20, 1 << 14) {
    Ok(layout) => layout,
    Err(_) => panic!(),
};

// SAFETY: frames are cut from zeroed allocations that stay for the thread's life, and are in `used` or
// `free`, never in both; the conversions are the identity.
unsafe impl AxMmHal for Mm {
    fn alloc_frame() -> Option<HostPhysAddr> {
        POOL.with_borrow_mut(|pool| {
            if pool.limit == Some(pool.used.len()) {
                return None;
            }
            if pool.free.is_empty() {
                // SAFETY: the layout has a size.
                let arena = unsafe { alloc_zeroed(ARENA) } as u64;
                assert_ne!(arena, 0);
                // Off by one frame, so that the first ones are no aligned group.
                pool.free.extend((1..256).rev().map(|i| arena + 4096 * i));
            }
            let frame = pool.free.pop()?;
            // SAFETY: a free frame.
            unsafe { core::ptr::write_bytes(frame as *mut u8, 0, 4096) };
            pool.used.insert(frame);
            Some(HostPhysAddr::new(frame))
        })
    }

    unsafe fn dealloc_frame(frame: HostPhysAddr) {
        POOL.with_borrow_mut(|pool| {
            assert!(pool.used.remove(&frame.as_u64()), "{frame} is not in use");
            pool.free.push(frame.as_u64());
        });
    }

    fn phys_to_virt(addr: HostPhysAddr) -> HostVirtAddr {
        HostVirtAddr::new(addr.as_usize())
    }

    fn virt_to_phys(addr: HostVirtAddr) -> HostPhysAddr {
        HostPhysAddr::new(addr.as_usize() as u64)
    }
}

fn used() -> usize {
    POOL.with_borrow(|pool| pool.used.len())
}

fn limit(frames: Option<usize>) {
    POOL.with_borrow_mut(|pool| pool.limit = frames.map(|n| n + pool.used.len()));
}

fn gpa(addr: u64) -> GuestPhysAddr {
    GuestPhysAddr::new(addr)
}

fn hpa(addr: u64) -> HostPhysAddr {
    HostPhysAddr::new(addr)
}

#[test]
fn root_is_aligned_and_everything_comes_back() {
    for mode in [SV39X4, SV48X4] {
        let mut table = Stage2::<Mm>::new(mode).unwrap();
        assert_eq!(table.root().as_u64() % 16384, 0);
        assert_eq!(used(), 4);
        table.map(gpa(0x8000_0000), hpa(0x1_0000_1000), 4 * MIB, Perms::RWX).unwrap();
        assert!(used() > 6);
        drop(table);
        assert_eq!(used(), 0);
    }
    assert_eq!(Stage2::<Mm>::new(SV39).err(), Some(AxError::InvalidInput));
}

#[test]
fn pages_are_as_large_as_alignment_allows() {
    let mut table = Stage2::<Mm>::new(SV39X4).unwrap();
    table.map(gpa(2 * GIB), hpa(8 * GIB), GIB + 2 * MIB + 4096, Perms::RWX).unwrap();
    assert_eq!(used(), 4 + 2); // one table for the 2 MiB page, one for the 4 KiB page
    for (at, size) in [(2 * GIB, GIB), (3 * GIB, 2 * MIB), (3 * GIB + 2 * MIB, 4096)] {
        let mapping = table.query(gpa(at + 5)).unwrap();
        assert_eq!(mapping.page_size, size);
        assert_eq!(mapping.host, hpa(at + 5 + 6 * GIB));
        assert_eq!(mapping.perms, Perms::RWX);
    }
    assert_eq!(table.query(gpa(3 * GIB + 2 * MIB + 4096)), None);
    assert_eq!(table.query(gpa(2 * GIB - 1)), None);
    assert_eq!(table.query(gpa(1 << 41)), None);
    // A host address that is not congruent forces small pages.
    table.map(gpa(4 * GIB), hpa(8 * GIB + 4096), 2 * MIB, Perms::R).unwrap();
    assert_eq!(table.query(gpa(4 * GIB)).unwrap().page_size, 4096);
}

#[test]
fn leaves_have_the_bits_that_hardware_demands() {
    let entry = Mode::leaf(0x5000, 0, Perms::RX).unwrap();
    assert_eq!(entry, 5 << 10 | pte::V | pte::R | pte::X | pte::U | pte::A | pte::D);
}

#[test]
fn refusals_change_nothing() {
    let mut table = Stage2::<Mm>::new(SV39X4).unwrap();
    table.map(gpa(4 * MIB), hpa(4 * MIB), 2 * MIB, Perms::RW).unwrap();
    let write_only = Perms { read: false, write: true, execute: false };
    let nothing = Perms { read: false, write: false, execute: false };
    for (guest, host, size, perms) in [
        (1, 0, 4096, Perms::R),
        (0, 1, 4096, Perms::R),
        (0, 0, 1, Perms::R),
        (0, 0, 0, Perms::R),
        (u64::MAX - 4095, 0, 8192, Perms::R),
        ((1 << 41) - 4096, 0, 8192, Perms::R),
        (0, (1 << 56) - 4096, 8192, Perms::R),
        (0, u64::MAX - 4095, 4096, Perms::R),
        (0, 0, 4096, write_only),
        (0, 0, 4096, nothing),
        (0, 0, 4 * MIB + 4096, Perms::R), // runs into what is there
        (6 * MIB - 4096, 0, 4096, Perms::R),
    ] {
        assert_eq!(table.map(gpa(guest), hpa(host), size, perms), Err(AxError::InvalidInput));
    }
    assert_eq!(table.query(gpa(0)), None);
    assert_eq!(table.query(gpa(4 * MIB)).unwrap().perms, Perms::RW);
    assert_eq!(table.unmap(gpa(1), 4096), Err(AxError::InvalidInput));
    assert_eq!(table.protect(gpa(0), 4096, nothing), Err(AxError::InvalidInput));
}

#[test]
fn out_of_frames() {
    limit(Some(3));
    assert_eq!(Stage2::<Mm>::new(SV39X4).err(), Some(AxError::NoMemory));
    assert_eq!(used(), 0);
    limit(None);
    let mut table = Stage2::<Mm>::new(SV39X4).unwrap();
    limit(Some(2)); // enough for the first 2 MiB in small pages, not for the second
    let result = table.map(gpa(2 * GIB), hpa(0x1000), 4 * MIB, Perms::RWX);
    assert_eq!(result, Err(AxError::NoMemory));
    assert_eq!(table.query(gpa(2 * GIB)), None);
    limit(None);
    table.map(gpa(2 * GIB), hpa(0x1000), 4 * MIB, Perms::RWX).unwrap();
    drop(table);
    assert_eq!(used(), 0);
}

/// Random operations, each compared page by page with a map that knows nothing of tables.
#[test]
fn agrees_with_a_plain_map() {
    const PAGES: u64 = 3 * 512;
    const BASE: u64 = 2 * GIB - 2 * MIB; // across the border of two root entries
    let mut random = 0x1234_5678_9abc_def1u64;
    let mut next = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    let mut table = Stage2::<Mm>::new(SV39X4).unwrap();
    let mut model = BTreeMap::<u64, (u64, Perms)>::new();
    for _ in 0..400 {
        let first = if next(2) == 0 { next(3) * 512 } else { next(PAGES) };
        let count = 1 + next(PAGES - first);
        let pages = first..first + count;
        let (guest, size) = (gpa(BASE + 4096 * first), 4096 * count);
        let perms = [Perms::R, Perms::RW, Perms::RX, Perms::RWX][next(4) as usize];
        match next(4) {
            0 | 1 => {
                let host = 8 * GIB + 4096 * if next(2) == 0 { first } else { next(PAGES) };
                let free = model.range(pages.clone()).next().is_none();
                let result = table.map(guest, hpa(host), size, perms);
                assert_eq!(result, if free { Ok(()) } else { Err(AxError::InvalidInput) });
                if free {
                    model.extend(pages.map(|page| (page, (host + 4096 * (page - first), perms))));
                }
            }
            2 => {
                table.unmap(guest, size).unwrap();
                model.retain(|page, _| !pages.contains(page));
            }
            _ => {
                table.protect(guest, size, perms).unwrap();
                model.range_mut(pages).for_each(|(_, (_, old))| *old = perms);
            }
        }
        for page in 0..PAGES {
            let found = table.query(gpa(BASE + 4096 * page + 8)).map(|m| (m.host, m.perms));
            let expected = model.get(&page).map(|&(host, perms)| (hpa(host + 8), perms));
            assert_eq!(found, expected, "page {page}");
        }
    }
    drop(table);
    assert_eq!(used(), 0);
}
