//! This program as a platform for AxVCpu: frames from its heap, host physical addresses that are its own
//! virtual ones, and a thread for a physical CPU.
#![allow(unsafe_code)] // implements the unsafe traits, and takes memory from the allocator

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::cell::Cell;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicUsize, Ordering};

use axvcpu::{AxMmHal, AxVCpuHal, HostPhysAddr, HostVirtAddr};

/// `count` frames, aligned to their size together; `None` when there are no such.
fn frames(count: usize) -> Option<Layout> {
    let size = count.checked_mul(4096)?;
    Layout::from_size_align(size, size).ok()
}

/// The platform's memory.
pub(crate) struct Memory;

// SAFETY: the allocator's memory is the caller's alone, of the size, alignment and content asked for, and the
// conversions are the identity.
unsafe impl AxMmHal for Memory {
    fn alloc_frame() -> Option<HostPhysAddr> {
        Self::alloc_contiguous(1)
    }

    unsafe fn dealloc_frame(frame: HostPhysAddr) {
        // SAFETY: the caller's promise, and `alloc_frame` took it like this.
        unsafe { Self::dealloc_contiguous(frame, 1) };
    }

    fn alloc_contiguous(count: usize) -> Option<HostPhysAddr> {
        Pages::new(frames(count)?)
            .map(|pages| HostPhysAddr::new(pages.leak().expose_provenance() as u64))
    }

    unsafe fn dealloc_contiguous(start: HostPhysAddr, count: usize) {
        if let Some(layout) = frames(count) {
            // SAFETY: the caller gives back what `alloc_contiguous` took with the same layout.
            unsafe { dealloc(ptr::with_exposed_provenance_mut(start.as_usize()), layout) };
        }
    }

    fn phys_to_virt(addr: HostPhysAddr) -> HostVirtAddr {
        HostVirtAddr::new(addr.as_usize())
    }

    fn virt_to_phys(addr: HostVirtAddr) -> HostPhysAddr {
        HostPhysAddr::new(addr.as_u64())
    }
}

/// The platform.
pub(crate) struct Hal;

thread_local! {
    static CURRENT: Cell<*mut ()> = const { Cell::new(ptr::null_mut()) };
    static ID: usize = NEXT.fetch_add(1, Ordering::Relaxed);
}
static NEXT: AtomicUsize = AtomicUsize::new(0);

// SAFETY: word and number live in thread-local storage, and no two threads get the same number.
unsafe impl AxVCpuHal for Hal {
    type MmHal = Memory;

    /// Does nothing: interrupts of the machine never reach a program.
    fn irq_hanlder() {}

    fn cpu_id() -> usize {
        ID.with(|&id| id)
    }

    fn load_current() -> *mut () {
        CURRENT.get()
    }

    fn store_current(word: *mut ()) {
        CURRENT.set(word);
    }
}

/// Zeroed memory of its own, given back at the end.
pub(crate) struct Pages {
    start: NonNull<u8>,
    layout: Layout,
}

impl Pages {
    /// `None` when there is no memory left.
    pub(crate) fn new(layout: Layout) -> Option<Self> {
        if layout.size() == 0 {
            return None;
        }
        // SAFETY: the size is not 0.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        start.as_ptr().expose_provenance(); // stage-2 tables hold the address as a number
        Some(Self { start, layout })
    }

    /// The first byte.
    pub(crate) fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    fn leak(self) -> *mut u8 {
        let start = self.start();
        std::mem::forget(self);
        start
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: taken with this layout, and given back once.
        unsafe { dealloc(self.start(), self.layout) };
    }
}
