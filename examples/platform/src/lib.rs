// ANCHOR: all
//! A platform for AxVCpu in a hundred lines: a program with memory of its own, whose threads are physical CPUs.
//!
//! It is the example of the porting guide's chapter on platforms (`docs/src/guide/platform.md`), which explains it step by
//! step. [`OneCpu`] is a port to a uniprocessor, [`Platform`] one to a multiprocessor; both have [`Memory`].
#![allow(unsafe_code)] // implements the unsafe traits

use std::cell::{Cell, UnsafeCell};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use axvcpu::{AxMmHal, AxVCpuHal, HostPhysAddr, HostVirtAddr};

// ANCHOR: memory
const FRAME: usize = 4096;
const FRAMES: usize = 4096;

/// The physical address of RAM. Any number will do that is a multiple of the largest page a table may have.
const RAM_BASE: u64 = 0x8000_0000;

#[repr(C, align(4096))]
struct Ram(UnsafeCell<[u8; FRAME * FRAMES]>);

// SAFETY: a frame has one owner at a time, who alone decides how it is accessed.
unsafe impl Sync for Ram {}

static RAM: Ram = Ram(UnsafeCell::new([0; FRAME * FRAMES]));
static TAKEN: [AtomicBool; FRAMES] = [const { AtomicBool::new(false) }; FRAMES];

/// The machine's memory: frames of one block, the lowest that is free first.
#[derive(Debug)]
pub enum Memory {}

// SAFETY: only one caller finds that a frame was not taken; frames are aligned as RAM is, and zeroed; the conversions
// add and subtract the same number, a multiple of the frame size.
unsafe impl AxMmHal for Memory {
    fn alloc_frame() -> Option<HostPhysAddr> {
        let index = TAKEN.iter().position(|taken| !taken.swap(true, Ordering::Acquire))?;
        let frame = HostPhysAddr::new(RAM_BASE + (FRAME * index) as u64);
        let start = ptr::with_exposed_provenance_mut::<u8>(Self::phys_to_virt(frame).as_usize());
        // SAFETY: a frame of RAM, and nobody else's.
        unsafe { start.write_bytes(0, FRAME) };
        Some(frame)
    }

    unsafe fn dealloc_frame(frame: HostPhysAddr) {
        TAKEN[(frame.as_u64() - RAM_BASE) as usize / FRAME].store(false, Ordering::Release);
    }

    fn phys_to_virt(addr: HostPhysAddr) -> HostVirtAddr {
        let offset = (addr.as_u64() - RAM_BASE) as usize;
        HostVirtAddr::new(RAM.0.get().expose_provenance() + offset)
    }

    fn virt_to_phys(addr: HostVirtAddr) -> HostPhysAddr {
        HostPhysAddr::new(RAM_BASE + (addr.as_usize() - RAM.0.get().addr()) as u64)
    }
}
// ANCHOR_END: memory

// ANCHOR: interrupts
/// The machine's interrupt controller: a bit for each interrupt that was raised and not dispatched yet.
static RAISED: AtomicU64 = AtomicU64::new(0);
/// The machine's handlers: each counts.
static HANDLED: [AtomicUsize; 64] = [const { AtomicUsize::new(0) }; 64];

/// What a device does to get the hypervisor's attention. `irq` is below 64.
pub fn raise(irq: usize) {
    RAISED.fetch_or(1 << irq, Ordering::AcqRel);
}

/// How often an interrupt was dispatched to its handler.
pub fn handled(irq: usize) -> usize {
    HANDLED[irq].load(Ordering::Acquire)
}

/// The most important interrupt there is; it stays pending.
fn pending() -> usize {
    match RAISED.load(Ordering::Acquire) {
        0 => 0,
        raised => raised.trailing_zeros() as usize,
    }
}

/// Takes every pending interrupt and calls its handler.
fn dispatch() {
    let mut raised = RAISED.swap(0, Ordering::AcqRel);
    while raised != 0 {
        HANDLED[raised.trailing_zeros() as usize].fetch_add(1, Ordering::AcqRel);
        raised &= raised - 1;
    }
}
// ANCHOR_END: interrupts

// ANCHOR: uniprocessor
/// The machine with one CPU: one thread of the program, ever, calls into AxVCpu.
#[derive(Debug)]
pub enum OneCpu {}

// SAFETY: with a single physical CPU the defaults are right.
unsafe impl AxVCpuHal for OneCpu {
    type MmHal = Memory;

    fn irq_fetch() -> usize {
        pending()
    }

    fn irq_hanlder() {
        dispatch();
    }
}
// ANCHOR_END: uniprocessor

// ANCHOR: cpus
/// The threads with numbers that others can kick. A number is never given twice.
static CPUS: [OnceLock<Thread>; 1024] = [const { OnceLock::new() }; 1024];
static NEXT_CPU: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// This CPU's number, which it gets the first time it is asked for.
    static CPU: usize = {
        let number = NEXT_CPU.fetch_add(1, Ordering::Relaxed);
        if let Some(slot) = CPUS.get(number) {
            let _ = slot.set(thread::current()); // empty: the number is new
        }
        number
    };
    /// This CPU's word.
    static WORD: Cell<*mut ()> = const { Cell::new(ptr::null_mut()) };
}

/// What a CPU does while its vCPUs wait: sleeps until it is kicked, or until `limit` is over. A kick since the last sleep
/// ends this one at once. It may also end for no reason: check what was waited for, and sleep again.
pub fn idle(limit: Option<Duration>) {
    Platform::cpu_id(); // from here on it can be kicked
    match limit {
        Some(limit) => thread::park_timeout(limit),
        None => thread::park(),
    }
}
// ANCHOR_END: cpus

// ANCHOR: multiprocessor
/// The machine whose CPUs are all threads of the program.
#[derive(Debug)]
pub enum Platform {}

// SAFETY: number and word are the thread's own, and no two threads get the same number.
unsafe impl AxVCpuHal for Platform {
    type MmHal = Memory;

    fn irq_fetch() -> usize {
        pending()
    }

    fn irq_hanlder() {
        dispatch();
    }

    fn cpu_id() -> usize {
        CPU.with(|&number| number)
    }

    fn load_current() -> *mut () {
        WORD.get()
    }

    unsafe fn store_current(word: *mut ()) {
        WORD.set(word);
    }

    fn kick_cpu(cpu: usize) {
        if let Some(thread) = CPUS.get(cpu).and_then(OnceLock::get) {
            thread.unpark();
        }
    }
}
// ANCHOR_END: multiprocessor
// ANCHOR_END: all
