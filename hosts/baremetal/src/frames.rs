//! The page frames of the machine, a bit each.
#![allow(unsafe_code)] // hands out memory

use axvcpu::{AxMmHal, HostPhysAddr, HostVirtAddr};
use spin::Mutex;

use crate::arch;

const PAGE: u64 = 4096;

/// Frames in use, by the bits of memory that is itself outside of them.
struct Frames {
    base: u64,
    count: usize,
    /// A bit is set for each frame in use.
    used: &'static mut [u64],
    /// Where to look first.
    next: usize,
}

static FRAMES: Mutex<Option<Frames>> = Mutex::new(None);

impl Frames {
    fn is_used(&self, frame: usize) -> bool {
        self.used[frame / 64] & 1 << (frame % 64) != 0
    }

    fn set(&mut self, first: usize, count: usize, used: bool) {
        for frame in first..(first + count).min(self.count) {
            let bit = 1 << (frame % 64);
            if used {
                self.used[frame / 64] |= bit;
            } else {
                self.used[frame / 64] &= !bit;
            }
        }
    }

    /// The first of `count` free frames whose address is a multiple of `align` frames.
    fn find(&self, from: usize, count: usize, align: usize) -> Option<usize> {
        let base = (self.base / PAGE) as usize;
        let mut at = (base + from).next_multiple_of(align) - base;
        while at + count <= self.count {
            match (at..at + count).rev().find(|&frame| self.is_used(frame)) {
                None => return Some(at),
                Some(taken) => at = (base + taken + 1).next_multiple_of(align) - base,
            }
        }
        None
    }

    fn take(&mut self, count: usize, align: usize) -> Option<u64> {
        let found = self.find(self.next, count, align).or_else(|| self.find(0, count, align))?;
        self.set(found, count, true);
        if count == 1 {
            self.next = found + 1;
        }
        Some(self.base + found as u64 * PAGE)
    }

    fn give_back(&mut self, addr: u64, count: usize) {
        let first = ((addr - self.base) / PAGE) as usize;
        self.set(first, count, false);
        self.next = self.next.min(first);
    }
}

/// Makes `size` bytes from `base` on the machine's memory, but for `taken` ranges (first byte and size).
///
/// # Safety
///
/// The memory exists at these addresses and nobody uses it outside of the `taken` ranges.
pub(crate) unsafe fn init(base: u64, size: u64, taken: &[(u64, u64)]) -> bool {
    let count = (size / PAGE) as usize;
    let words = count.div_ceil(64);
    let map_pages = (8 * words as u64).div_ceil(PAGE);
    let overlaps = |start: u64, end: u64| {
        taken.iter().find(|&&(at, size)| at < end && start < at + size).map(|&(at, size)| at + size)
    };
    // The map goes to the first place that is free.
    let mut map = base;
    while let Some(end) = overlaps(map, map + map_pages * PAGE) {
        map = end.next_multiple_of(PAGE);
    }
    if map + map_pages * PAGE > base + size {
        return false;
    }
    // SAFETY: free memory, by the caller's promise; from here on it is the map's.
    let used = unsafe {
        core::ptr::write_bytes(map as *mut u64, 0, words);
        core::slice::from_raw_parts_mut(map as *mut u64, words)
    };
    let mut frames = Frames { base, count, used, next: 0 };
    for &(at, size) in taken.iter().chain(&[(map, map_pages * PAGE)]) {
        let first = at.saturating_sub(base) / PAGE;
        let end = (at + size).saturating_sub(base).div_ceil(PAGE);
        frames.set(first as usize, (end - first) as usize, true);
    }
    *FRAMES.lock() = Some(frames);
    true
}

fn take(count: usize, align: usize) -> Option<HostPhysAddr> {
    if count == 0 {
        return None;
    }
    let at = FRAMES.lock().as_mut()?.take(count, align)?;
    // SAFETY: frames nobody has, identity-mapped.
    unsafe { arch::zero_pages(at as *mut u8, count * PAGE as usize) };
    Some(HostPhysAddr::new(at))
}

/// The machine's memory: frames by their numbers, every address the same physical and virtual.
pub struct Mem;

impl Mem {
    /// Takes `count` frames in a row, zeroed, for a guest's RAM: aligned so that stage 2 maps them with pages as
    /// large as can be. It is zero also for a guest that has no caches on.
    pub fn alloc_ram(count: usize) -> Option<HostPhysAddr> {
        const GIGABYTE: usize = 1 << 18;
        const MEGABYTES: usize = 1 << 9;
        let large = if count >= GIGABYTE { take(count, GIGABYTE) } else { None };
        let found = large.or_else(|| take(count, MEGABYTES)).or_else(|| take(count, 1))?;
        Self::clean(found.as_usize() as *const u8, count * PAGE as usize);
        Some(found)
    }

    /// The bytes of all frames that are in use, the heap's among them.
    pub fn in_use() -> usize {
        let frames = FRAMES.lock();
        let used = frames.iter().flat_map(|frames| frames.used.iter());
        used.map(|word| word.count_ones() as usize * PAGE as usize).sum()
    }

    /// Makes what was written to these bytes what a guest finds there that has no caches on.
    pub fn clean(start: *const u8, size: usize) {
        arch::clean(start, size);
    }
}

// SAFETY: each frame is one bit, set for as long as it is somebody's; zeroed when it is handed out; the
// hypervisor runs without translation.
unsafe impl AxMmHal for Mem {
    fn alloc_frame() -> Option<HostPhysAddr> {
        take(1, 1)
    }

    unsafe fn dealloc_frame(frame: HostPhysAddr) {
        // SAFETY: the caller's promise.
        unsafe { Self::dealloc_contiguous(frame, 1) };
    }

    fn alloc_contiguous(count: usize) -> Option<HostPhysAddr> {
        take(count, count.next_power_of_two())
    }

    unsafe fn dealloc_contiguous(frames: HostPhysAddr, count: usize) {
        if let Some(all) = FRAMES.lock().as_mut() {
            all.give_back(frames.as_u64(), count);
        }
    }

    fn phys_to_virt(addr: HostPhysAddr) -> HostVirtAddr {
        HostVirtAddr::new(addr.as_usize())
    }

    fn virt_to_phys(addr: HostVirtAddr) -> HostPhysAddr {
        HostPhysAddr::new(addr.as_u64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::boxed::Box;
    use alloc::vec;

    fn frames(count: usize) -> Frames {
        let used = Box::leak(vec![0; count.div_ceil(64)].into_boxed_slice());
        Frames { base: 0x8000_0000, count, used, next: 0 }
    }

    #[test]
    fn every_frame_once() {
        let mut frames = frames(100);
        for i in 0..100 {
            assert_eq!(frames.take(1, 1), Some(0x8000_0000 + i * PAGE));
        }
        assert_eq!(frames.take(1, 1), None);
        frames.give_back(0x8000_0000 + 7 * PAGE, 1);
        assert_eq!(frames.take(1, 1), Some(0x8000_0000 + 7 * PAGE));
    }

    #[test]
    fn runs_are_aligned_and_disjoint() {
        let mut frames = frames(256);
        frames.take(1, 1).unwrap();
        let first = frames.take(16, 16).unwrap();
        let second = frames.take(16, 16).unwrap();
        assert_eq!((first % (16 * PAGE), second - first), (0, 16 * PAGE));
        assert_eq!(frames.take(1, 1), Some(0x8000_1000), "the gap is used");
        assert_eq!(frames.take(1000, 1), None);
    }
}
