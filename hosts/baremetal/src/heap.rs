//! Memory for `alloc`: a heap that is taken from the frames once, and frames for blocks too large for it.
#![allow(unsafe_code)] // a global allocator

use axvcpu::{AxMmHal, HostVirtAddr};
use linked_list_allocator::Heap;
use spin::Mutex;

use crate::Mem;

struct Locked(Mutex<Heap>);

#[global_allocator]
static HEAP: Locked = Locked(Mutex::new(Heap::empty()));

// SAFETY: the heap's own, behind a lock.
unsafe impl core::alloc::GlobalAlloc for Locked {
    unsafe fn alloc(&self, layout: core::alloc::Layout) -> *mut u8 {
        if let Some(frames) = large(layout) {
            let found = Mem::alloc_ram(frames);
            return found
                .map_or(core::ptr::null_mut(), |at| Mem::phys_to_virt(at).as_usize() as *mut u8);
        }
        let found = self.0.lock().allocate_first_fit(layout);
        found.map_or(core::ptr::null_mut(), |ptr| ptr.as_ptr())
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: core::alloc::Layout) {
        if let Some(frames) = large(layout) {
            let at = Mem::virt_to_phys(HostVirtAddr::new(ptr as usize));
            // SAFETY: the caller's promise: from `alloc` with this layout.
            unsafe { Mem::dealloc_contiguous(at, frames) };
            return;
        }
        if let Some(ptr) = core::ptr::NonNull::new(ptr) {
            // SAFETY: the caller's promise: from `alloc` with this layout.
            unsafe { self.0.lock().deallocate(ptr, layout) };
        }
    }
}

/// How many frames a block gets that is too large for the heap; `None` for what fits.
fn large(layout: core::alloc::Layout) -> Option<usize> {
    const LARGE: usize = 1 << 20;
    (layout.size() >= LARGE && layout.align() <= 4096).then(|| layout.size().div_ceil(4096))
}

/// Frames of the heap: 16 MiB.
const FRAMES: usize = 4096;

/// Gives the heap its memory; once. `false` if there is not enough.
pub(crate) fn init() -> bool {
    let Some(at) = Mem::alloc_contiguous(FRAMES) else { return false };
    let start = Mem::phys_to_virt(at).as_usize() as *mut u8;
    // SAFETY: frames of ours, for ever.
    unsafe { HEAP.0.lock().init(start, 4096 * FRAMES) };
    true
}

/// How many of its bytes are in use.
pub(crate) fn in_use() -> usize {
    HEAP.0.lock().used()
}
