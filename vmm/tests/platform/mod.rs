//! The smallest hosted platform a machine runs on: memory from the heap, threads for physical CPUs.
#![allow(unsafe_code)] // implements the platform traits

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::cell::Cell;
use std::ptr;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use axvcpu::{AxVCpuHal, HostPhysAddr};
use axvcpu_soft::VirtualClock;
use axvcpu_vmm::{ConsoleSink, RamBacking, VmHost};

mod memory;

pub(crate) use memory::Mm;

/// Guest memory.
pub(crate) struct Ram(usize);

impl Ram {
    const LAYOUT: Layout = match Layout::from_size_align(4 << 20, 2 << 20) {
        Ok(layout) => layout,
        Err(_) => panic!(),
    };

    /// 4 MiB of zeros.
    pub(crate) fn new() -> Self {
        // SAFETY: the layout has a size.
        let at = unsafe { alloc_zeroed(Self::LAYOUT) } as usize;
        assert_ne!(at, 0);
        Self(at)
    }
}

impl Drop for Ram {
    fn drop(&mut self) {
        // SAFETY: allocated in `new`.
        unsafe { dealloc(self.0 as *mut u8, Self::LAYOUT) };
    }
}

// SAFETY: an allocation of its own, which nobody refers to.
unsafe impl RamBacking for Ram {
    fn host_phys(&self) -> HostPhysAddr {
        HostPhysAddr::new(self.0 as u64)
    }

    fn size(&self) -> u64 {
        Self::LAYOUT.size() as u64
    }
}

/// Physical CPUs are threads.
pub(crate) struct Hal;

static THREADS: Mutex<Vec<Thread>> = Mutex::new(Vec::new());

thread_local! {
    static CPU: usize = {
        let mut threads = THREADS.lock().unwrap();
        threads.push(thread::current());
        threads.len() - 1
    };
    static CURRENT: Cell<*mut ()> = const { Cell::new(ptr::null_mut()) };
}

// SAFETY: every thread has its own word, and its own number for life.
unsafe impl AxVCpuHal for Hal {
    type MmHal = Mm;

    fn irq_hanlder() {}

    fn cpu_id() -> usize {
        CPU.with(|cpu| *cpu)
    }

    fn kick_cpu(cpu: usize) {
        THREADS.lock().unwrap()[cpu].unpark();
    }

    fn load_current() -> *mut () {
        CURRENT.get()
    }

    unsafe fn store_current(word: *mut ()) {
        CURRENT.set(word);
    }
}

/// Nanoseconds since the first call.
pub(crate) fn monotonic_ns() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

/// The host's clock, or the guest's instructions.
#[derive(Clone)]
pub(crate) struct Host(pub(crate) Option<Arc<VirtualClock>>);

impl VmHost for Host {
    fn now_ns(&self) -> u64 {
        self.0.as_ref().map_or_else(monotonic_ns, |clock| clock.now_ns())
    }

    fn wait(&self, deadline_ns: Option<u64>) {
        match (&self.0, deadline_ns) {
            (Some(clock), Some(at)) => clock.advance_to_ns(at),
            (None, Some(at)) => {
                thread::park_timeout(Duration::from_nanos(at.saturating_sub(monotonic_ns())));
            }
            (_, None) => thread::park(),
        }
    }

    fn relax(&self, _: u32) {
        thread::yield_now();
    }
}

/// Keeps what the guest prints.
#[derive(Default)]
pub(crate) struct Console(Mutex<Vec<u8>>);

impl Console {
    /// What was printed so far.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl ConsoleSink for Console {
    fn write(&self, bytes: &[u8]) {
        self.0.lock().unwrap().extend(bytes);
    }
}
