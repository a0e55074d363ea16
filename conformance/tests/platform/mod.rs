//! A program as the platform: its heap is the memory, its threads are the physical CPUs.
#![allow(unsafe_code)] // implements the platform

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

use axvcpu::{AxMmHal, AxVCpuHal, HostPhysAddr, HostVirtAddr};

pub(crate) struct Heap;

fn frames(count: usize) -> Layout {
    Layout::from_size_align(4096 * count, 4096 * count).expect("a size and alignment")
}

// SAFETY: frames are blocks of the program's heap, zeroed and aligned; addresses are their own.
unsafe impl AxMmHal for Heap {
    fn alloc_frame() -> Option<HostPhysAddr> {
        Self::alloc_contiguous(1)
    }
    unsafe fn dealloc_frame(frame: HostPhysAddr) {
        // SAFETY: the caller's promise.
        unsafe { Self::dealloc_contiguous(frame, 1) };
    }
    fn alloc_contiguous(count: usize) -> Option<HostPhysAddr> {
        // SAFETY: the size is not zero.
        let block = unsafe { alloc_zeroed(frames(count)) };
        (!block.is_null()).then(|| HostPhysAddr::new(block as u64))
    }
    unsafe fn dealloc_contiguous(frame: HostPhysAddr, count: usize) {
        // SAFETY: made by `alloc_contiguous` with the same count, and not used any more.
        unsafe { dealloc(frame.as_usize() as *mut u8, frames(count)) };
    }
    fn phys_to_virt(addr: HostPhysAddr) -> HostVirtAddr {
        HostVirtAddr::new(addr.as_usize())
    }
    fn virt_to_phys(addr: HostVirtAddr) -> HostPhysAddr {
        HostPhysAddr::new(addr.as_u64())
    }
}

static CPUS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static CPU: usize = CPUS.fetch_add(1, Ordering::Relaxed);
    static WORD: Cell<*mut ()> = const { Cell::new(std::ptr::null_mut()) };
}

pub(crate) struct Threads;

// SAFETY: a thread is a physical CPU, with a number and a word of its own.
unsafe impl AxVCpuHal for Threads {
    type MmHal = Heap;
    fn irq_hanlder() {}
    fn cpu_id() -> usize {
        CPU.with(|&cpu| cpu)
    }
    fn load_current() -> *mut () {
        WORD.get()
    }
    unsafe fn store_current(word: *mut ()) {
        WORD.set(word);
    }
}
