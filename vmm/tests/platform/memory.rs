//! Host memory for tests; the crate's own and those beside it share this file.

use std::alloc::{Layout, alloc_zeroed, dealloc};

use axvcpu::{AxMmHal, HostPhysAddr, HostVirtAddr};

/// Identity-mapped memory from the heap.
pub(crate) struct Mm;

fn frames(count: usize) -> Layout {
    Layout::from_size_align(4096 * count, 4096 * count).unwrap()
}

// SAFETY: fresh allocations with size and alignment as asked for; the conversions are the identity.
unsafe impl AxMmHal for Mm {
    fn alloc_frame() -> Option<HostPhysAddr> {
        Self::alloc_contiguous(1)
    }

    unsafe fn dealloc_frame(frame: HostPhysAddr) {
        // SAFETY: the caller's promise.
        unsafe { Self::dealloc_contiguous(frame, 1) };
    }

    fn alloc_contiguous(count: usize) -> Option<HostPhysAddr> {
        // SAFETY: the layout has a size.
        let at = unsafe { alloc_zeroed(frames(count)) };
        (!at.is_null()).then(|| HostPhysAddr::new(at as u64))
    }

    unsafe fn dealloc_contiguous(at: HostPhysAddr, count: usize) {
        // SAFETY: allocated above with the same layout, as the caller promises.
        unsafe { dealloc(at.as_usize() as *mut u8, frames(count)) };
    }

    fn phys_to_virt(addr: HostPhysAddr) -> HostVirtAddr {
        HostVirtAddr::new(addr.as_usize())
    }

    fn virt_to_phys(addr: HostVirtAddr) -> HostPhysAddr {
        HostPhysAddr::new(addr.as_usize() as u64)
    }
}
