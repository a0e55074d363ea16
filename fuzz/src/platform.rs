//! The machine around a machine: memory, a platform with one physical CPU per thread, time that passes by itself, and
//! vCPUs that leave for whatever reason the input has next.
#![allow(unsafe_code)] // implements the platform traits

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::cell::{Cell, RefCell};
use std::ptr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axvcpu::{
    AxArchVCpu, AxError, AxResult, AxVCpuExitReason, AxVCpuHal, Fence, GuestPhysAddr, HostPhysAddr,
    Requests, VCpuId, VmId,
};
use axvcpu_vmm::{ConsoleSink, Outcome, RamBacking, VmHost};

#[path = "../../vmm/tests/platform/memory.rs"]
mod memory;

pub(crate) use memory::Mm;

const PAGE: usize = 4096;

/// Memory that is all zeros. What was written to it is counted, and zeroed again when it is dropped: so the next machine
/// can have it, and big ones are as quick to make as small ones.
pub(crate) struct Ram {
    block: Option<Block>,
    written: Arc<Mutex<Vec<(u64, u64)>>>,
}

/// An allocation. The memory begins at its first page.
struct Block {
    at: usize,
    size: usize,
}

thread_local! {
    static POOL: RefCell<Vec<Block>> = const { RefCell::new(Vec::new()) };
}

impl Block {
    fn layout(size: usize) -> Layout {
        // Not aligned: the system has zeros without writing them only for such.
        Layout::from_size_align(size + PAGE, 1).expect("a size that memory can have")
    }

    fn new(size: usize) -> Self {
        // SAFETY: the layout has a size.
        let at = unsafe { alloc_zeroed(Self::layout(size)) } as usize;
        assert_ne!(at, 0, "out of memory");
        Self { at, size }
    }

    fn base(&self) -> usize {
        self.at.next_multiple_of(PAGE)
    }

    fn clear(&self, offset: usize, len: usize) {
        assert!(offset + len <= self.size, "written beyond the end");
        // SAFETY: inside the allocation, which no machine has any more.
        unsafe { ptr::write_bytes((self.base() + offset) as *mut u8, 0, len) };
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with the same layout.
        unsafe { dealloc(self.at as *mut u8, Self::layout(self.size)) };
    }
}

impl Ram {
    pub(crate) fn new(size: usize) -> Self {
        let pooled = POOL.with_borrow_mut(|pool| {
            let at = pool.iter().position(|block| block.size == size)?;
            Some(pool.swap_remove(at))
        });
        Self {
            block: Some(pooled.unwrap_or_else(|| Block::new(size))),
            written: Arc::new(Mutex::new(Vec::with_capacity(1024))),
        }
    }

    /// The ranges that the monitor has written, which may be asked for after the memory was given away.
    pub(crate) fn written(&self) -> Arc<Mutex<Vec<(u64, u64)>>> {
        self.written.clone()
    }

    fn block(&self) -> &Block {
        self.block.as_ref().expect("there until it is dropped")
    }
}

impl Drop for Ram {
    fn drop(&mut self) {
        if let (Some(block), Ok(written)) = (self.block.take(), self.written.lock()) {
            for &(offset, len) in &*written {
                block.clear(offset as usize, len as usize);
            }
            // The thread may be about to end.
            let _ = POOL.try_with(|pool| pool.borrow_mut().push(block));
        }
    }
}

// SAFETY: an allocation of its own; the machines on it run no code that could reach it otherwise.
unsafe impl RamBacking for Ram {
    fn host_phys(&self) -> HostPhysAddr {
        HostPhysAddr::new(self.block().base() as u64)
    }

    fn size(&self) -> u64 {
        self.block().size as u64
    }

    fn written(&self, offset: u64, len: u64) {
        let mut written = self.written.lock().expect("nobody panics with it");
        match written.last_mut() {
            // Console calls write to one place again and again.
            Some(last) if last.0 <= offset && offset + len <= last.0 + last.1 => {}
            _ => written.push((offset, len)),
        }
    }
}

/// A platform whose physical CPUs are threads.
pub(crate) struct Hal;

thread_local! {
    static CURRENT: Cell<*mut ()> = const { Cell::new(ptr::null_mut()) };
    static CPU: usize = {
        static CPUS: AtomicUsize = AtomicUsize::new(0);
        CPUS.fetch_add(1, Ordering::Relaxed)
    };
}

// SAFETY: every thread has its own word, and its own number for life.
unsafe impl AxVCpuHal for Hal {
    type MmHal = Mm;

    fn irq_hanlder() {}

    fn cpu_id() -> usize {
        CPU.with(|cpu| *cpu)
    }

    fn kick_cpu(_: usize) {} // a machine is one thread here, and not in a wait when it kicks

    fn load_current() -> *mut () {
        CURRENT.get()
    }

    unsafe fn store_current(word: *mut ()) {
        CURRENT.set(word);
    }
}

/// What the vCPUs of a machine do: called for each entry, answers with the exit.
pub(crate) type Script = Arc<Mutex<dyn FnMut() -> AxVCpuExitReason + Send>>;

/// A vCPU that leaves by a [`Script`]. The register `RESULT` has results of calls.
pub(crate) struct Fake<const RESULT: usize> {
    script: Script,
    /// The width of the read whose answer is awaited.
    mask: u64,
    gpr: [u64; 32],
}

impl<const RESULT: usize> AxArchVCpu for Fake<RESULT> {
    type Hal = Hal;
    type CreateConfig = Script;
    type SetupConfig = ();

    fn new(_: VmId, _: VCpuId, script: Script) -> AxResult<Self> {
        Ok(Self { script, mask: u64::MAX, gpr: [0; 32] })
    }

    fn set_entry(&mut self, _: GuestPhysAddr) -> AxResult {
        Ok(())
    }

    unsafe fn set_ept_root(&mut self, _: HostPhysAddr) -> AxResult {
        Ok(())
    }

    fn setup(&mut self, (): ()) -> AxResult {
        Ok(())
    }

    fn run(&mut self) -> AxResult<AxVCpuExitReason> {
        let exit = (self.script.lock().expect("nobody panics with it"))();
        self.mask = match exit {
            AxVCpuExitReason::MmioRead { width, .. } | AxVCpuExitReason::IoRead { width, .. } => {
                width.mask()
            }
            _ => u64::MAX,
        };
        Ok(exit)
    }

    fn run_watching(&mut self, requests: Requests<'_>) -> AxResult<AxVCpuExitReason> {
        if requests.pending() { Ok(AxVCpuExitReason::Nothing) } else { self.run() }
    }

    fn bind(&mut self) -> AxResult {
        Ok(())
    }

    fn unbind(&mut self) -> AxResult {
        Ok(())
    }

    fn set_gpr(&mut self, reg: usize, val: u64) -> AxResult {
        *self.gpr.get_mut(reg).ok_or(AxError::InvalidInput)? = val;
        Ok(())
    }

    fn inject_interrupt(&mut self, _: usize) -> AxResult {
        Ok(())
    }

    fn set_return_value(&mut self, val: u64) {
        assert_eq!(val & !self.mask, 0, "an answer with more bits than were asked for");
        self.gpr[RESULT] = val;
    }

    fn reset(&mut self) -> AxResult {
        self.gpr = [0; 32];
        Ok(())
    }

    fn set_interrupt_line(&mut self, _: usize, _: bool) -> AxResult {
        Ok(())
    }

    fn fence(&mut self, _: Fence) -> AxResult {
        Ok(())
    }

    fn fail_access(&mut self) -> AxResult {
        Ok(())
    }
}

/// A host that waits for nothing: time is where the machine wants it. Its user types when the script says so.
pub(crate) struct Host<'a> {
    pub(crate) now: Cell<u64>,
    /// Bytes of input that the script has asked for.
    pub(crate) typed: &'a AtomicU64,
    pub(crate) push: &'a dyn Fn(&[u8]) -> usize,
    pub(crate) stop: &'a dyn Fn(Outcome) -> Outcome,
}

impl VmHost for Host<'_> {
    fn now_ns(&self) -> u64 {
        self.now.set(self.now.get().saturating_add(100));
        self.now.get()
    }

    fn wait(&self, deadline_ns: Option<u64>) {
        match deadline_ns {
            Some(at) => self.now.set(self.now.get().max(at)),
            // Nobody is left who could wake anybody.
            None => drop((self.stop)(Outcome::Stopped)),
        }
    }

    fn relax(&self, turns: u32) {
        assert!(turns < 1000, "a wait for another CPU of this thread");
    }

    /// Called around each run, where no device is at work.
    fn exit_clock_ns(&self) -> Option<u64> {
        let mut bytes = [0; 64];
        let count = self.typed.swap(0, Ordering::Relaxed) as usize % (bytes.len() + 1);
        for (byte, value) in bytes.iter_mut().zip(b'a'..) {
            *byte = value;
        }
        if count != 0 {
            assert!((self.push)(&bytes[..count]) <= count);
        }
        None
    }
}

/// Throws away what the guest prints.
pub(crate) struct Silent;

impl ConsoleSink for Silent {
    fn write(&self, _: &[u8]) {}
}
