//! A platform, memory and a programmable vCPU for the unit tests.
#![allow(unsafe_code)] // implements the platform traits

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::Cell;
use core::ptr;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::sync::Mutex;
use std::thread::{self, Thread};
use std::time::Instant;

use axvcpu::{
    AxArchVCpu, AxError, AxResult, AxVCpuExitReason, AxVCpuHal, Fence, GuestPhysAddr, HostPhysAddr,
    Requests, VCpuId, VmId,
};

use crate::arm::{ArmVm, ArmVmConfig};
use crate::riscv::{RiscvVm, RiscvVmConfig};
use crate::{BuildError, ConsoleSink, RamBacking, VmHost};

pub(crate) mod files;
#[path = "../tests/platform/memory.rs"]
mod memory;
pub(crate) mod tree;

pub(crate) use memory::Mm;

const PAGE: usize = 4096;

/// Zeroed RAM from the heap.
pub(crate) struct Heap {
    /// Where the allocation begins; the RAM begins at its first page.
    at: usize,
    size: usize,
    /// What it was told was written.
    pub(crate) written: Arc<Mutex<Vec<(u64, u64)>>>,
}

impl Heap {
    pub(crate) fn new(size: usize) -> Self {
        // SAFETY: the layout has a size.
        let at = unsafe { alloc_zeroed(Self::layout(size)) } as usize;
        assert_ne!(at, 0);
        Self { at, size, written: Arc::default() }
    }

    /// Not aligned, because the system allocator writes zeros to what is, where it would otherwise get pages that are
    /// zero without anybody having touched them: machines can be as large here as anywhere.
    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size + PAGE, 1).unwrap()
    }
}

impl Drop for Heap {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with the same layout.
        unsafe { dealloc(self.at as *mut u8, Self::layout(self.size)) };
    }
}

// SAFETY: an allocation of its own.
unsafe impl RamBacking for Heap {
    fn host_phys(&self) -> HostPhysAddr {
        HostPhysAddr::new(self.at.next_multiple_of(PAGE) as u64)
    }

    fn size(&self) -> u64 {
        self.size as u64
    }

    fn written(&self, offset: u64, len: u64) {
        self.written.lock().unwrap().push((offset, len));
    }
}

/// A platform whose physical CPUs are threads.
pub(crate) struct Hal;

/// Each with a flag that it was kicked.
static THREADS: Mutex<Vec<(Thread, Arc<AtomicBool>)>> = Mutex::new(Vec::new());

std::thread_local! {
    static CPU: usize = {
        let mut threads = THREADS.lock().unwrap();
        threads.push((thread::current(), KICKED.with(Arc::clone)));
        threads.len() - 1
    };
    static CURRENT: Cell<*mut ()> = const { Cell::new(ptr::null_mut()) };
    static KICKED: Arc<AtomicBool> = Arc::default();
}

/// Whether the calling thread's CPU was kicked since the last call.
pub(crate) fn take_kick() -> bool {
    KICKED.with(|kicked| kicked.swap(false, Ordering::Relaxed))
}

// SAFETY: every thread has its own word, and its own number for life.
unsafe impl AxVCpuHal for Hal {
    type MmHal = Mm;

    fn irq_hanlder() {}

    fn cpu_id() -> usize {
        CPU.with(|cpu| *cpu)
    }

    fn kick_cpu(cpu: usize) {
        let (thread, kicked) = &THREADS.lock().unwrap()[cpu];
        kicked.store(true, Ordering::Relaxed);
        thread.unpark();
    }

    fn load_current() -> *mut () {
        CURRENT.get()
    }

    unsafe fn store_current(word: *mut ()) {
        CURRENT.set(word);
    }
}

/// What a [`Fake`] vCPU knows and was told.
#[derive(Default)]
pub(crate) struct Regs {
    pub(crate) pc: u64,
    pub(crate) gpr: [u64; 32],
    /// Answers to exits, in order.
    pub(crate) answers: Vec<u64>,
    /// Interrupts that were injected and that the program has not taken from here.
    pub(crate) interrupts: Vec<usize>,
    pub(crate) lines: u64,
    pub(crate) fences: Vec<Fence>,
    pub(crate) resets: usize,
    pub(crate) failed_accesses: usize,
    /// How often the program was entered since the last start.
    pub(crate) step: usize,
}

/// A guest program: called once for each entry, answers with the exit.
pub(crate) type Program = Box<dyn FnMut(&mut Regs) -> AxVCpuExitReason + Send>;

/// A vCPU that runs a Rust function. The register with this number has results of calls: RISC-V's `a0`, or `x0`.
pub(crate) struct Fake<const RESULT: usize = 10> {
    program: Program,
    regs: Regs,
}

impl<const RESULT: usize> AxArchVCpu for Fake<RESULT> {
    type Hal = Hal;
    type CreateConfig = Program;
    type SetupConfig = ();

    fn new(_: VmId, _: VCpuId, program: Program) -> AxResult<Self> {
        Ok(Self { program, regs: Regs::default() })
    }

    fn set_entry(&mut self, entry: GuestPhysAddr) -> AxResult {
        self.regs.pc = entry.as_u64();
        self.regs.step = 0;
        Ok(())
    }

    unsafe fn set_ept_root(&mut self, root: HostPhysAddr) -> AxResult {
        let align = if RESULT == 10 { 16384 } else { 4096 };
        if root.as_u64() % align == 0 { Ok(()) } else { Err(AxError::InvalidInput) }
    }

    fn setup(&mut self, (): ()) -> AxResult {
        Ok(())
    }

    fn run(&mut self) -> AxResult<AxVCpuExitReason> {
        let exit = (self.program)(&mut self.regs);
        self.regs.step += 1;
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
        *self.regs.gpr.get_mut(reg).ok_or(AxError::InvalidInput)? = val;
        Ok(())
    }

    fn inject_interrupt(&mut self, vector: usize) -> AxResult {
        self.regs.interrupts.push(vector);
        Ok(())
    }

    fn set_return_value(&mut self, val: u64) {
        self.regs.gpr[RESULT] = val;
        self.regs.answers.push(val);
    }

    fn reset(&mut self) -> AxResult {
        self.regs.gpr = [0; 32];
        self.regs.interrupts.clear();
        self.regs.resets += 1;
        Ok(())
    }

    fn set_interrupt_line(&mut self, vector: usize, asserted: bool) -> AxResult {
        self.regs.lines = self.regs.lines & !(1 << vector) | u64::from(asserted) << vector;
        Ok(())
    }

    fn fence(&mut self, fence: Fence) -> AxResult {
        self.regs.fences.push(fence);
        Ok(())
    }

    fn fail_access(&mut self) -> AxResult {
        self.regs.failed_accesses += 1;
        Ok(())
    }
}

/// An AArch64 vCPU that runs a Rust function.
pub(crate) type ArmFake = Fake<0>;

/// A hypercall exit.
pub(crate) fn ecall(nr: usize, function: usize, args: [u64; 3]) -> AxVCpuExitReason {
    let [a, b, c] = args;
    let args = [a, b, c, 0, 0, 0];
    AxVCpuExitReason::Hypercall { nr: nr as u64, function: function as u64, args }
}

/// Keeps what the guest prints.
#[derive(Default)]
pub(crate) struct Console(pub(crate) Mutex<Vec<u8>>);

impl ConsoleSink for Console {
    fn write(&self, bytes: &[u8]) {
        self.0.lock().unwrap().extend(bytes);
    }
}

/// Time and waiting of a hosted platform.
pub(crate) struct Threads(Instant);

impl Threads {
    pub(crate) fn new() -> Self {
        Self(Instant::now())
    }
}

impl VmHost for Threads {
    fn now_ns(&self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }

    fn wait(&self, deadline_ns: Option<u64>) {
        match deadline_ns {
            None => thread::park(),
            Some(at) => {
                let left = at.saturating_sub(self.now_ns());
                thread::park_timeout(Duration::from_nanos(left));
            }
        }
    }

    fn relax(&self, _: u32) {
        thread::yield_now();
    }

    fn exit_clock_ns(&self) -> Option<u64> {
        Some(self.now_ns())
    }
}

/// A clock that moves only when everybody waits.
#[derive(Default)]
pub(crate) struct Virtual(pub(crate) Cell<u64>);

impl VmHost for Virtual {
    fn now_ns(&self) -> u64 {
        self.0.get()
    }

    fn wait(&self, deadline_ns: Option<u64>) {
        let at = deadline_ns.expect("everybody waits forever");
        assert!(at > self.0.get());
        self.0.set(at);
    }
}

/// A machine with 8 MiB of memory and a tiny kernel whose harts run `programs`.
pub(crate) fn machine(programs: Vec<Program>) -> (RiscvVm<Fake>, Arc<Console>) {
    let config = RiscvVmConfig { cpus: programs.len(), kernel: b"kernel", ..Default::default() };
    let console = Arc::new(Console::default());
    (build(&config, 8 << 20, programs, console.clone()).unwrap(), console)
}

/// A machine to the given plan.
pub(crate) fn build(
    config: &RiscvVmConfig<'_>,
    ram: usize,
    programs: Vec<Program>,
    console: Arc<Console>,
) -> Result<RiscvVm<Fake>, BuildError> {
    let mut programs = programs.into_iter();
    RiscvVm::new(
        config,
        Box::new(Heap::new(ram)),
        console,
        |_| programs.next().expect("a program for each hart"),
        |_| (),
    )
}

/// An AArch64 machine to the given plan.
pub(crate) fn build_arm(
    config: &ArmVmConfig<'_>,
    ram: usize,
    programs: Vec<Program>,
    console: Arc<Console>,
) -> Result<ArmVm<ArmFake>, BuildError> {
    let mut programs = programs.into_iter();
    ArmVm::new(
        config,
        Box::new(Heap::new(ram)),
        console,
        |_, _| programs.next().expect("a program for each CPU"),
        |_| (),
    )
}

/// An AArch64 machine with 8 MiB of memory and a tiny kernel whose CPUs run `programs`.
pub(crate) fn arm_machine(programs: Vec<Program>) -> (ArmVm<ArmFake>, Arc<Console>) {
    let config = ArmVmConfig { cpus: programs.len(), kernel: b"kernel", ..Default::default() };
    let console = Arc::new(Console::default());
    (build_arm(&config, 8 << 20, programs, console.clone()).unwrap(), console)
}

/// A call of the SMC calling convention.
pub(crate) fn hvc(function: u32, args: [u64; 3]) -> AxVCpuExitReason {
    let [a, b, c] = args;
    AxVCpuExitReason::Hypercall { nr: function.into(), function: 0, args: [a, b, c, 0, 0, 0] }
}
