//! The software backend keeps the contract.
#![allow(unsafe_code)] // implements the platform

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use axvcpu::{AxMmHal, AxResult, AxVCpuHal, HostPhysAddr, HostVirtAddr};
use axvcpu_conformance::{Subject, riscv, run_per_cpu};
use axvcpu_soft::{Clock, SoftConfig, SoftPerCpu, SoftVCpu, VirtualClock};

struct Heap;

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

struct Threads;

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

fn now_ns() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed().as_nanos() as u64
}

enum Soft {
    HostClock,
    InstructionClock(Arc<VirtualClock>),
}

impl riscv::Subject for Soft {}

impl Subject for Soft {
    type Arch = SoftVCpu<Threads>;

    fn name(&self) -> &str {
        match self {
            Self::HostClock => "soft, host clock",
            Self::InstructionClock(_) => "soft, instruction clock",
        }
    }
    fn create_config(&self) -> AxResult<SoftConfig> {
        Ok(SoftConfig::new(match self {
            Self::HostClock => Clock::Host(now_ns),
            Self::InstructionClock(clock) => Clock::Instructions(clock.clone()),
        }))
    }
    fn setup_config(&self) {}
    fn sleep(&self, ns: u64) {
        match self {
            Self::HostClock => thread::sleep(Duration::from_nanos(ns)),
            Self::InstructionClock(clock) => clock.advance_to_ns(clock.now_ns() + ns),
        }
    }
    fn look_again(looks: u64) -> bool {
        thread::yield_now();
        looks < 5_000_000
    }
    fn on_two_cpus(&self, here: &mut dyn FnMut(), there: &mut (dyn FnMut() + Send)) -> bool {
        thread::scope(|scope| {
            scope.spawn(there);
            here();
        });
        true
    }
}

/// Longer than any case takes, on any machine.
const PATIENCE: Duration = Duration::from_secs(100);

/// Ends the process when the case that is running does not end.
fn watch(case: Arc<Mutex<Option<(&'static str, Instant)>>>) {
    thread::spawn(move || {
        loop {
            thread::sleep(Duration::from_secs(1));
            match *case.lock().expect("nobody panics with the lock") {
                None => return,
                Some((name, since)) if since.elapsed() > PATIENCE => {
                    println!("\n  {name}  FAILED: does not end\n0 passed, 1 failed");
                    std::process::exit(1);
                }
                _ => {}
            }
        }
    });
}

fn check(subject: &Soft) {
    let case = Arc::new(Mutex::new(Some(("the first case", Instant::now()))));
    watch(case.clone());
    let started = |name| {
        *case.lock().expect("nobody panics with the lock") = Some((name, Instant::now()));
    };
    let report = riscv::run_matching(subject, "", started);
    *case.lock().expect("nobody panics with the lock") = None;
    println!("\n{report}");
    assert!(report.is_passed(), "{} of the cases above failed", report.failed());
    assert_eq!(report.skipped(), 0, "cases skipped");
}

#[test]
fn on_the_host_clock() {
    check(&Soft::HostClock);
}

#[test]
fn on_the_instruction_clock() {
    check(&Soft::InstructionClock(VirtualClock::new()));
}

#[test]
fn per_cpu() {
    let report = run_per_cpu::<SoftPerCpu>("soft, a physical CPU", 0);
    println!("\n{report}");
    assert!(report.is_passed(), "{} of the cases above failed", report.failed());
    assert_eq!(report.to_string().lines().last(), Some("3 passed, 0 failed"));
}
