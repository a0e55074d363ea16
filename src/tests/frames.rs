//! Runs of frames from platforms that only hand out single ones.
#![allow(unsafe_code)] // implements the platform; its frames are numbers, with no memory behind

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::vec::Vec;

use crate::*;

/// A pool of frame numbers, and the order in which they are handed out.
#[derive(Default)]
struct Pool {
    next: Vec<u64>,
    out: BTreeSet<u64>,
    /// The most that were out at the same time.
    most: usize,
}

std::thread_local! {
    static POOL: RefCell<Pool> = RefCell::default();
}

struct Frames;

// SAFETY: nobody accesses what these addresses lead to.
unsafe impl AxMmHal for Frames {
    fn alloc_frame() -> Option<HostPhysAddr> {
        POOL.with_borrow_mut(|pool| {
            let frame = pool.next.pop()?;
            assert!(pool.out.insert(frame));
            pool.most = pool.most.max(pool.out.len());
            Some(HostPhysAddr::new(frame * 4096))
        })
    }
    unsafe fn dealloc_frame(frame: HostPhysAddr) {
        POOL.with_borrow_mut(|pool| {
            assert!(pool.out.remove(&(frame.as_u64() / 4096)), "given back twice, or never taken");
        });
    }
    fn phys_to_virt(_: HostPhysAddr) -> HostVirtAddr {
        unreachable!("frames are not accessed")
    }
    fn virt_to_phys(_: HostVirtAddr) -> HostPhysAddr {
        unreachable!("frames are not accessed")
    }
}

/// Takes a run of `count` from a platform that hands out `frames` in this order. Answers the run's first frame
/// after making sure that exactly the run is out, and gives it back.
fn take(frames: impl IntoIterator<Item = u64>, count: usize) -> Option<u64> {
    let mut next: Vec<u64> = frames.into_iter().collect();
    next.reverse();
    POOL.set(Pool { next, ..Pool::default() });
    let run = Frames::alloc_contiguous(count).map(|run| run.as_u64() / 4096);
    let out: Vec<u64> = POOL.with_borrow(|pool| pool.out.iter().copied().collect());
    match run {
        Some(first) => {
            assert_eq!(first % count as u64, 0, "aligned to its size");
            assert_eq!(out, (first..first + count as u64).collect::<Vec<_>>());
            // SAFETY: taken above.
            unsafe { Frames::dealloc_contiguous(HostPhysAddr::new(first * 4096), count) };
        }
        None => assert_eq!(out, [], "a failure keeps nothing"),
    }
    POOL.with_borrow(|pool| assert!(pool.out.is_empty()));
    run
}

#[test]
fn found_in_an_orderly_allocator() {
    for count in [1, 2, 4, 8, 16] {
        for start in 0..if cfg!(miri) { 3 } else { 40 } {
            let run = take(start..100, count).expect("a run");
            assert!((start..start + 2 * count as u64).contains(&run));
            let run = take((0..100 - start).rev(), count).expect("a run, downwards");
            assert!(run + 2 * count as u64 >= 100 - start - 1);
        }
    }
}

#[test]
fn found_among_others() {
    let shuffled = [9, 30, 5, 7, 12, 4, 20, 6, 99];
    assert_eq!(take(shuffled, 4), Some(4));
    assert_eq!(take(shuffled, 1), Some(9));
    assert_eq!(take([3, 4, 5, 6], 4), None, "in a row, but not aligned");
}

#[test]
fn not_found_in_bounded_time() {
    assert_eq!(take((0..500).map(|n| 2 * n), 4), None);
    assert!(POOL.with_borrow(|pool| pool.most) < 100, "the host's memory is not emptied");
    assert_eq!(take([], 4), None);
    assert_eq!(take([8, 9, 10], 4), None, "out of memory one frame too early");
    for count in [0, 3, 6, 1 << 40] {
        assert_eq!(take(0..100, count), None, "no count of frames: {count}");
    }
}
