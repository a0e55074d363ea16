//! The core under every schedule and every memory order the model allows.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p axvcpu --release --lib` runs these. A lost request shows as a deadlock,
//! because the only thing that ends the wait for it is the request; two users of the backend at the same time
//! show as a concurrent access to its cell.
#![allow(unsafe_code)] // implements the platform, and promises stage-2 roots that nobody follows

use std::boxed::Box;
use std::cell::{Cell, RefCell};
use std::vec::Vec;

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use loom::thread::{self, Thread};

use crate::*;

loom::thread_local! {
    static CPU: Cell<usize> = Cell::new(usize::MAX);
    static WORD: Cell<*mut ()> = Cell::new(core::ptr::null_mut());
}

std::thread_local! {
    /// The modelled threads that are physical CPUs. Not part of the model: all of them share the checker's
    /// own thread, and each is entered here before a vCPU is bound to it.
    static CPUS: RefCell<Vec<Thread>> = const { RefCell::new(Vec::new()) };
}

struct Hal;
struct NoFrames;

// SAFETY: hands out no frame; the conversions are the identity.
unsafe impl AxMmHal for NoFrames {
    fn alloc_frame() -> Option<HostPhysAddr> {
        None
    }
    unsafe fn dealloc_frame(_: HostPhysAddr) {}
    fn phys_to_virt(addr: HostPhysAddr) -> HostVirtAddr {
        HostVirtAddr::new(addr.as_usize())
    }
    fn virt_to_phys(addr: HostVirtAddr) -> HostPhysAddr {
        HostPhysAddr::new(addr.as_u64())
    }
}

// SAFETY: a modelled thread is a physical CPU, with a number and a word of its own.
unsafe impl AxVCpuHal for Hal {
    type MmHal = NoFrames;
    fn irq_hanlder() {}
    fn cpu_id() -> usize {
        CPU.with(|cpu| {
            if cpu.get() == usize::MAX {
                CPUS.with_borrow_mut(|cpus| {
                    cpu.set(cpus.len());
                    cpus.push(thread::current());
                });
            }
            cpu.get()
        })
    }
    /// Like an interprocessor interrupt, an unpark stays pending until the thread parks.
    fn kick_cpu(cpu: usize) {
        CPUS.with_borrow(|cpus| cpus[cpu].clone()).unpark();
    }
    fn load_current() -> *mut () {
        WORD.with(Cell::get)
    }
    unsafe fn store_current(word: *mut ()) {
        WORD.with(|own| own.set(word));
    }
}

/// What the guest does after it took its interrupts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Habit {
    /// Executes in hardware, which only an interrupt of the physical CPU ends.
    Hardware,
    /// Executes; the backend looks for requests itself.
    Watches,
    /// Waits for interrupts.
    Halts,
    /// Reads a page of its memory as long as it is mapped, and then calls.
    Reads,
}

struct Memory {
    /// Whether stage 2 maps the page.
    mapped: AtomicBool,
    page: UnsafeCell<u32>,
}

// SAFETY: the model checks every access to the page.
unsafe impl Sync for Memory {}
// SAFETY: as above.
unsafe impl Send for Memory {}

struct Guest {
    habit: Habit,
    memory: Arc<Memory>,
    /// How many interrupts the backend has room for.
    room: u32,
    latched: u64,
    lines: u64,
    /// The lines the guest has looked at.
    seen: u64,
    tlb: bool,
    count: u32,
}

impl AxArchVCpu for Guest {
    type Hal = Hal;
    type CreateConfig = (Habit, u32);
    type SetupConfig = ();
    fn new(_: VmId, _: VCpuId, (habit, room): (Habit, u32)) -> AxResult<Self> {
        let memory = Memory { mapped: AtomicBool::new(true), page: UnsafeCell::new(0) };
        let memory = Arc::new(memory);
        Ok(Self { habit, memory, room, latched: 0, lines: 0, seen: 0, tlb: false, count: 0 })
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
        unreachable!("the core calls `run_watching`")
    }
    fn run_watching(&mut self, requests: Requests<'_>) -> AxResult<AxVCpuExitReason> {
        self.count += 1;
        if self.latched != 0 || self.lines != self.seen {
            self.seen = self.lines;
            let args = [core::mem::take(&mut self.latched), self.lines, 0, 0, 0, 0];
            return Ok(AxVCpuExitReason::Hypercall { nr: 0, function: 0, args });
        }
        match self.habit {
            Habit::Halts => return Ok(HALT),
            Habit::Hardware => thread::park(),
            Habit::Watches => {
                while !requests.pending() {
                    thread::yield_now();
                }
            }
            Habit::Reads => {
                while !requests.pending() {
                    // Acquire, as the walk of a page table depends on what it has read before.
                    self.tlb |= self.memory.mapped.load(Ordering::Acquire);
                    if !self.tlb {
                        return Ok(AxVCpuExitReason::SystemDown);
                    }
                    // SAFETY: the model checks it.
                    self.memory.page.with(|page| unsafe { assert_eq!(*page, 0) });
                    thread::yield_now();
                }
            }
        }
        Ok(AxVCpuExitReason::Nothing)
    }
    fn bind(&mut self) -> AxResult {
        Ok(())
    }
    fn unbind(&mut self) -> AxResult {
        Ok(())
    }
    fn set_gpr(&mut self, _: usize, _: u64) -> AxResult {
        self.count += 1;
        Ok(())
    }
    fn inject_interrupt(&mut self, vector: usize) -> AxResult {
        if self.latched.count_ones() >= self.room {
            return Err(AxError::ResourceBusy);
        }
        assert_eq!(self.latched & (1 << vector), 0, "delivered twice");
        self.latched |= 1 << vector;
        Ok(())
    }
    fn set_return_value(&mut self, _: u64) {}
    fn set_interrupt_line(&mut self, vector: usize, asserted: bool) -> AxResult {
        assert_eq!(self.lines & (1 << vector) != 0, !asserted, "told what it knew");
        self.lines ^= 1 << vector;
        Ok(())
    }
    fn fence(&mut self, fence: Fence) -> AxResult {
        assert_eq!(fence, Fence::STAGE2_TLB);
        self.tlb = false;
        Ok(())
    }
    fn reset(&mut self) -> AxResult {
        self.latched = 0;
        self.lines = 0;
        Ok(())
    }
}

const HALT: AxVCpuExitReason = AxVCpuExitReason::Halt { wake_after_ns: None };

type VCpu = Arc<AxVCpu<Guest>>;

fn vcpu(habit: Habit) -> VCpu {
    with_room(habit, 64)
}

fn with_room(habit: Habit, room: u32) -> VCpu {
    let vcpu = AxVCpu::<Guest>::new(0, 0, 0, None, (habit, room)).unwrap();
    // SAFETY: this backend follows no root.
    unsafe { vcpu.setup(GuestPhysAddr::new(0), HostPhysAddr::new(0), ()) }.unwrap();
    Arc::new(vcpu)
}

/// Explores all schedules with at most `preemptions` involuntary switches of thread, each on a fresh vCPU.
fn model(preemptions: usize, f: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(move || {
        CPUS.with_borrow_mut(Vec::clear);
        f();
    });
}

/// Binds the vCPU to this thread and runs it, waiting where it waits, until `done` says so.
fn drive(vcpu: &AxVCpu<Guest>, mut done: impl FnMut(AxVCpuExitReason) -> bool) {
    vcpu.bind().unwrap();
    while !done(vcpu.run().unwrap()) {
        while vcpu.state() == VCpuState::Blocked {
            thread::park();
        }
    }
    vcpu.unbind().unwrap();
}

/// Runs until the guest took all of `vectors`.
fn drive_until_taken(vcpu: &AxVCpu<Guest>, vectors: u64) {
    let mut taken = 0;
    drive(vcpu, |exit| {
        if let AxVCpuExitReason::Hypercall { args, .. } = exit {
            assert_eq!(taken & args[0], 0, "an interrupt injected once came twice");
            taken |= args[0];
        }
        taken == vectors
    });
}

type Action = Box<dyn FnOnce(&AxVCpu<Guest>) + Send>;

/// Drives the vCPU as `driver` says on one thread and does each of `actions` on another, to the end of all.
///
/// The threads that are waited for this way are not physical CPUs, whose kicks would confuse the checker's
/// `join`.
fn beside(
    vcpu: &VCpu,
    actions: impl IntoIterator<Item = Action>,
    driver: impl FnOnce(&AxVCpu<Guest>) + Send + 'static,
) {
    let spawn = |action: Action| {
        let vcpu = vcpu.clone();
        thread::spawn(move || action(&vcpu))
    };
    let mut threads: Vec<_> = actions.into_iter().map(spawn).collect();
    threads.push(spawn(Box::new(driver)));
    for thread in threads {
        thread.join().unwrap();
    }
}

fn inject(vector: usize) -> Action {
    Box::new(move |vcpu| vcpu.inject_interrupt(vector).unwrap())
}

fn kick() -> Action {
    Box::new(AxVCpu::kick)
}

#[test]
fn a_kick_ends_a_run_in_hardware() {
    model(4, || {
        beside(&vcpu(Habit::Hardware), [kick()], |vcpu| {
            drive(vcpu, |exit| {
                assert_eq!(exit, AxVCpuExitReason::Nothing);
                true
            })
        });
    });
}

#[test]
fn a_kick_and_an_interrupt_arrive() {
    model(3, || {
        beside(&vcpu(Habit::Watches), [kick(), inject(1)], |vcpu| {
            let (mut kicked, mut taken) = (false, false);
            drive(vcpu, |exit| {
                // This guest is only ever stopped by requests, and only a kick ends the run.
                let arrived = match exit {
                    AxVCpuExitReason::Nothing => &mut kicked,
                    AxVCpuExitReason::Hypercall { .. } => &mut taken,
                    exit => panic!("{exit:?}"),
                };
                assert!(!core::mem::replace(arrived, true), "{exit:?} came twice");
                kicked && taken
            });
        });
    });
}

/// A guest halts once; whatever ends its wait must do so, whenever it comes.
fn wakes(waker: fn(&AxVCpu<Guest>)) {
    model(5, move || {
        beside(&vcpu(Habit::Halts), [Box::new(waker) as Action], |vcpu| {
            vcpu.bind().unwrap();
            if vcpu.run().unwrap() == HALT {
                while vcpu.state() == VCpuState::Blocked {
                    thread::park();
                }
            }
            assert_eq!(vcpu.state(), VCpuState::Ready);
        });
    });
}

#[test]
fn a_wake_ends_the_wait() {
    wakes(AxVCpu::wake);
}

#[test]
fn a_kick_ends_the_wait() {
    wakes(AxVCpu::kick);
}

#[test]
fn an_interrupt_ends_the_wait() {
    wakes(|vcpu| vcpu.inject_interrupt(3).unwrap());
}

#[test]
fn a_line_ends_the_wait() {
    wakes(|vcpu| vcpu.set_interrupt_line(3, true).unwrap());
}

#[test]
fn interrupts_from_two_threads_reach_hardware() {
    model(3, || {
        let vcpu = vcpu(Habit::Hardware);
        beside(&vcpu, [inject(1), inject(2)], |vcpu| drive_until_taken(vcpu, 0b110));
    });
}

#[test]
fn interrupts_from_two_threads_reach_a_halting_guest() {
    model(3, || {
        let vcpu = vcpu(Habit::Halts);
        beside(&vcpu, [inject(1), inject(2)], |vcpu| drive_until_taken(vcpu, 0b110));
    });
}

#[test]
fn interrupts_without_room_are_not_lost() {
    model(3, || {
        let vcpu = with_room(Habit::Halts, 1);
        beside(&vcpu, [inject(1), inject(2)], |vcpu| drive_until_taken(vcpu, 0b110));
    });
}

#[test]
fn an_interrupt_survives_the_move_to_another_cpu() {
    model(3, || {
        let vcpu = vcpu(Habit::Halts);
        let taken = Arc::new(AtomicBool::new(false));
        let at_once = taken.clone();
        // One run that may come too early, then the rest of the life on another physical CPU.
        let moved = vcpu.clone();
        beside(&vcpu, [inject(1)], move |vcpu| {
            vcpu.bind().unwrap();
            let exit = vcpu.run().unwrap();
            vcpu.wake();
            vcpu.unbind().unwrap();
            at_once.store(exit != HALT, Ordering::Relaxed);
        });
        if !taken.load(Ordering::Relaxed) {
            drive_until_taken(&moved, 0b10);
        }
    });
}

#[test]
fn lines_from_two_devices() {
    model(3, || {
        let raise =
            |line| -> Action { Box::new(move |vcpu| vcpu.set_interrupt_line(line, true).unwrap()) };
        beside(&vcpu(Habit::Halts), [raise(1), raise(2)], |vcpu| {
            drive(vcpu, |exit| match exit {
                AxVCpuExitReason::Hypercall { args, .. } => args[1] == 0b110,
                _ => false,
            })
        });
    });
}

#[test]
fn the_last_level_of_a_line_counts() {
    model(3, || {
        let vcpu = vcpu(Habit::Halts);
        let pulse: Action = Box::new(|vcpu| {
            vcpu.set_interrupt_line(1, true).unwrap();
            vcpu.set_interrupt_line(1, false).unwrap();
        });
        beside(&vcpu, [pulse], |vcpu| {
            vcpu.bind().unwrap();
            vcpu.run().unwrap();
            vcpu.wake();
            vcpu.unbind().unwrap();
        });
        vcpu.bind().unwrap();
        vcpu.run().unwrap();
        assert_eq!(vcpu.with_arch(|guest| guest.lines), Ok(0), "the guest sees the line low");
    });
}

#[test]
fn the_backend_is_used_by_one_at_a_time() {
    model(2, || {
        let vcpu = vcpu(Habit::Halts);
        let uses = Arc::new(AtomicU32::new(0));
        let write = || -> Action {
            let uses = uses.clone();
            Box::new(move |vcpu| match vcpu.set_gpr(0, 0) {
                Ok(()) => drop(uses.fetch_add(1, Ordering::Relaxed)),
                Err(AxError::ResourceBusy) => {}
                Err(AxError::BadState { found: VCpuState::Running }) => {}
                Err(error) => panic!("{error:?}"),
            })
        };
        let others = [write(), write()];
        let own = uses.clone();
        beside(&vcpu, others, move |vcpu| match vcpu.bind().and_then(|()| vcpu.run()) {
            Ok(_) => drop(own.fetch_add(1, Ordering::Relaxed)),
            Err(error) => assert_eq!(error, AxError::ResourceBusy),
        });
        let uses = uses.load(Ordering::Relaxed);
        assert_ne!(uses, 0, "somebody's turn it was");
        assert_eq!(vcpu.with_arch(|guest| guest.count), Ok(uses));
    });
}

#[test]
fn a_wake_up_while_the_backend_is_in_use() {
    model(5, || {
        let vcpu = vcpu(Habit::Halts);
        beside(&vcpu, [Box::new(AxVCpu::wake) as Action], |vcpu| {
            vcpu.bind().unwrap();
            vcpu.block().unwrap();
            vcpu.set_gpr(0, 0).unwrap();
            while vcpu.state() == VCpuState::Blocked {
                thread::park();
            }
            // One wake-up ends one wait, no more.
            vcpu.block().unwrap();
            assert_eq!(vcpu.state(), VCpuState::Blocked);
        });
    });
}

#[test]
fn the_state_can_always_be_read() {
    model(3, || {
        let look: Action = Box::new(|vcpu| {
            let mut seen = Vec::from([vcpu.state(), vcpu.state(), vcpu.state()]);
            seen.dedup();
            let order = [VCpuState::Free, VCpuState::Ready, VCpuState::Running, VCpuState::Blocked];
            let mut life = order.iter();
            for state in seen {
                assert!(life.any(|&next| next == state), "never goes back");
            }
        });
        beside(&vcpu(Habit::Halts), [look], |vcpu| {
            vcpu.bind().unwrap();
            assert_eq!(vcpu.run(), Ok(HALT));
        });
    });
}

#[test]
fn a_reset_beside_an_interrupt() {
    model(4, || {
        let vcpu = vcpu(Habit::Halts);
        beside(&vcpu, [inject(1)], |vcpu| {
            vcpu.bind().unwrap();
            vcpu.reset().unwrap();
            vcpu.unbind().unwrap();
        });
        vcpu.bind().unwrap();
        vcpu.run().unwrap(); // with the interrupt or without
        vcpu.wake();
        // The next one must not suffer.
        vcpu.inject_interrupt(1).unwrap();
        let exit = vcpu.run().unwrap();
        assert!(matches!(exit, AxVCpuExitReason::Hypercall { args: [0b10, ..], .. }), "{exit:?}");
    });
}

#[test]
fn a_page_is_not_touched_after_its_fence() {
    model(4, || {
        let vcpu = vcpu(Habit::Reads);
        let memory = vcpu.with_arch(|guest| guest.memory.clone()).unwrap();
        let unmap: Action = Box::new(move |vcpu| {
            memory.mapped.store(false, Ordering::Relaxed);
            vcpu.request_fence(Fence::STAGE2_TLB);
            while vcpu.fence_outstanding(Fence::STAGE2_TLB) {
                thread::yield_now();
            }
            // SAFETY: the model checks it.
            memory.page.with_mut(|page| unsafe { *page = 1 });
        });
        beside(&vcpu, [unmap], |vcpu| drive(vcpu, |exit| exit == AxVCpuExitReason::SystemDown));
    });
}

#[test]
fn vcpus_that_fence_each_other_do_not_deadlock() {
    model(3, || {
        let vcpus = [vcpu(Habit::Halts), vcpu(Habit::Halts)];
        let fence = |own: &AxVCpu<Guest>, other: &AxVCpu<Guest>| {
            own.bind().unwrap();
            own.run().unwrap();
            other.request_fence(Fence::STAGE2_TLB);
            while other.fence_outstanding(Fence::STAGE2_TLB) {
                thread::yield_now();
            }
            own.wake();
            own.run().unwrap();
        };
        let [first, second] = vcpus.clone();
        let other: Action = Box::new(move |first| fence(&second, first));
        beside(&first, [other], move |first| fence(first, &vcpus[1]));
    });
}
