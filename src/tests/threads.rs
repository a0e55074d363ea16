//! One vCPU, real threads. What is counted is exact, so a verdict does not depend on the schedule; only a lost
//! request makes a thread wait until its patience ends.
#![allow(unsafe_code)] // implements the platform, and promises stage-2 roots that nobody follows

use core::cell::Cell;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};
use std::vec::Vec;

use super::fake::{Exit, NoFrames};
use crate::*;

const ROUNDS: u32 = if cfg!(miri) { 20 } else { 2000 };
const VECTORS: usize = 3;

/// All threads that ever were a physical CPU, by number.
static CPUS: Mutex<Vec<Thread>> = Mutex::new(Vec::new());

std::thread_local! {
    static CPU: usize = {
        let mut cpus = CPUS.lock().unwrap();
        cpus.push(thread::current());
        cpus.len() - 1
    };
    static WORD: Cell<*mut ()> = const { Cell::new(core::ptr::null_mut()) };
}

struct ThreadHal;

// SAFETY: a thread is a physical CPU, with a number and a word of its own.
unsafe impl AxVCpuHal for ThreadHal {
    type MmHal = NoFrames;
    fn irq_hanlder() {}
    fn cpu_id() -> usize {
        CPU.with(|&cpu| cpu)
    }
    /// Like an interprocessor interrupt, an unpark stays pending until the thread parks.
    fn kick_cpu(cpu: usize) {
        CPUS.lock().unwrap()[cpu].unpark();
    }
    fn load_current() -> *mut () {
        WORD.get()
    }
    unsafe fn store_current(word: *mut ()) {
        WORD.set(word);
    }
}

/// How long a thread waits for what must come.
struct Patience(Instant);

impl Patience {
    fn new() -> Self {
        Self(Instant::now() + Duration::from_secs(60))
    }
    fn wait(&self, what: &str) {
        assert!(Instant::now() < self.0, "waited too long for {what}");
        thread::yield_now();
    }
}

/// What the guest does all day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Habit {
    /// Executes; the backend looks for requests itself.
    Spins,
    /// Executes in hardware, which only an interrupt of the physical CPU ends.
    Hardware,
    /// Waits for interrupts.
    Halts,
}

#[derive(Default)]
struct Machine {
    taken: [AtomicU32; VECTORS],
    /// A page: whether stage 2 maps it, and whether the host uses it for something else.
    mapped: AtomicBool,
    reused: AtomicBool,
    stop: AtomicBool,
}

struct Guest {
    habit: Habit,
    machine: Arc<Machine>,
    latched: [bool; VECTORS],
    /// A stale copy of `mapped`.
    tlb: bool,
    /// Not atomic: two threads in here would be seen.
    count: u64,
}

impl Guest {
    fn instruction(&mut self) {
        for (latched, taken) in self.latched.iter_mut().zip(&self.machine.taken) {
            if core::mem::take(latched) {
                taken.fetch_add(1, Ordering::Relaxed);
            }
        }
        // Acquire, for the page that is mapped anew: the walker sees what was written before the entry.
        self.tlb |= self.machine.mapped.load(Ordering::Acquire);
        if self.tlb {
            assert!(!self.machine.reused.load(Ordering::Relaxed), "ran with a stale translation");
        }
    }
}

impl AxArchVCpu for Guest {
    type Hal = ThreadHal;
    type CreateConfig = (Habit, Arc<Machine>);
    type SetupConfig = ();
    fn new(_: VmId, _: VCpuId, (habit, machine): Self::CreateConfig) -> AxResult<Self> {
        Ok(Self { habit, machine, latched: [false; VECTORS], tlb: false, count: 0 })
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
    fn run(&mut self) -> AxResult<Exit> {
        unreachable!("the core calls `run_watching`")
    }
    fn run_watching(&mut self, requests: Requests<'_>) -> AxResult<Exit> {
        let patience = Patience::new();
        self.count += 1;
        self.instruction();
        match self.habit {
            Habit::Halts => return Ok(Exit::Halt { wake_after_ns: None }),
            Habit::Hardware => thread::park_timeout(Duration::from_secs(60)),
            Habit::Spins => {
                while !requests.pending() {
                    self.instruction();
                    patience.wait("a request");
                }
            }
        }
        patience.wait("an interprocessor interrupt");
        Ok(Exit::Nothing)
    }
    fn bind(&mut self) -> AxResult {
        Ok(())
    }
    fn unbind(&mut self) -> AxResult {
        Ok(())
    }
    /// Counts calls; two at once would lose one.
    fn set_gpr(&mut self, _: usize, _: u64) -> AxResult {
        self.count += 1 << 32;
        Ok(())
    }
    fn inject_interrupt(&mut self, vector: usize) -> AxResult {
        let latched = self.latched.get_mut(vector).ok_or(AxError::InvalidInput)?;
        assert!(!*latched, "delivered twice");
        *latched = true;
        Ok(())
    }
    fn set_return_value(&mut self, _: u64) {}
    fn fence(&mut self, _: Fence) -> AxResult {
        self.tlb = false;
        Ok(())
    }
}

/// Runs a guest on a thread of its own while `f` works on it from this and other threads.
fn with_guest(habit: Habit, f: impl FnOnce(&AxVCpu<Guest>, &Machine, &AtomicUsize)) -> u64 {
    let machine = Arc::new(Machine::default());
    let vcpu = AxVCpu::<Guest>::new(0, 0, 0, None, (habit, machine.clone())).unwrap();
    // SAFETY: this backend follows no root.
    unsafe { vcpu.setup(GuestPhysAddr::new(0), HostPhysAddr::new(0), ()) }.unwrap();
    let runs = AtomicUsize::new(0);
    thread::scope(|scope| {
        let runner = scope.spawn(|| {
            while vcpu.bind() == Err(AxError::ResourceBusy) {
                thread::yield_now();
            }
            while !machine.stop.load(Ordering::Relaxed) {
                match vcpu.run() {
                    Ok(_) => {}
                    Err(AxError::ResourceBusy) => thread::yield_now(),
                    Err(error) => panic!("{error:?}"),
                }
                runs.fetch_add(1, Ordering::Relaxed);
                let patience = Patience::new();
                while vcpu.state() == VCpuState::Blocked {
                    thread::park_timeout(Duration::from_secs(60));
                    patience.wait("a wake-up");
                }
            }
            while vcpu.unbind() == Err(AxError::ResourceBusy) {
                thread::yield_now();
            }
        });
        f(&vcpu, &machine, &runs);
        machine.stop.store(true, Ordering::Relaxed);
        vcpu.kick();
        runner.join().unwrap();
    });
    assert_eq!(vcpu.state(), VCpuState::Free);
    vcpu.with_arch(|guest| guest.count).unwrap()
}

#[test]
fn each_kick_ends_a_run() {
    for habit in [Habit::Spins, Habit::Hardware, Habit::Halts] {
        with_guest(habit, |vcpu, _, runs| {
            for _ in 0..ROUNDS {
                let before = runs.load(Ordering::Relaxed);
                vcpu.kick();
                let patience = Patience::new();
                while runs.load(Ordering::Relaxed) == before {
                    patience.wait("the run to end");
                }
            }
        });
    }
}

#[test]
fn each_wake_up_ends_a_wait() {
    with_guest(Habit::Halts, |vcpu, _, runs| {
        for _ in 0..ROUNDS {
            let before = runs.load(Ordering::Relaxed);
            vcpu.wake();
            let patience = Patience::new();
            while runs.load(Ordering::Relaxed) == before {
                patience.wait("the guest to go on");
            }
        }
    });
}

#[test]
fn each_interrupt_is_taken_once() {
    for habit in [Habit::Spins, Habit::Hardware, Habit::Halts] {
        with_guest(habit, |vcpu, machine, _| {
            thread::scope(|scope| {
                for vector in 0..VECTORS {
                    scope.spawn(move || {
                        for round in 1..=ROUNDS {
                            vcpu.inject_interrupt(vector).unwrap();
                            let patience = Patience::new();
                            while machine.taken[vector].load(Ordering::Relaxed) != round {
                                patience.wait("the interrupt");
                            }
                        }
                    });
                }
            });
            for taken in &machine.taken {
                assert_eq!(taken.load(Ordering::Relaxed), ROUNDS, "{habit:?}");
            }
        });
    }
}

#[test]
fn the_backend_is_used_by_one_at_a_time() {
    const THREADS: u64 = 3;
    let total = with_guest(Habit::Halts, |vcpu, _, runs| {
        let used = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    let patience = Patience::new();
                    for _ in 0..ROUNDS {
                        loop {
                            vcpu.wake();
                            match vcpu.set_gpr(0, 0) {
                                Ok(()) => break,
                                Err(AxError::ResourceBusy | AxError::BadState { .. }) => {}
                                Err(error) => panic!("{error:?}"),
                            }
                            patience.wait("a turn");
                        }
                        used.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(used.load(Ordering::Relaxed) as u64, THREADS * u64::from(ROUNDS));
        let patience = Patience::new();
        while runs.load(Ordering::Relaxed) == 0 {
            vcpu.wake();
            patience.wait("the first run");
        }
    });
    assert_eq!(total >> 32, THREADS * u64::from(ROUNDS));
    assert_ne!(total & 0xffff_ffff, 0, "it ran in between");
}

#[test]
fn a_page_is_not_used_after_its_fence() {
    with_guest(Habit::Spins, |vcpu, machine, _| {
        for _ in 0..ROUNDS {
            machine.mapped.store(true, Ordering::Release);
            thread::yield_now();
            machine.mapped.store(false, Ordering::Relaxed);
            vcpu.request_fence(Fence::STAGE2_TLB);
            let patience = Patience::new();
            while vcpu.fence_outstanding(Fence::STAGE2_TLB) {
                patience.wait("the fence");
            }
            machine.reused.store(true, Ordering::Relaxed);
            thread::yield_now();
            machine.reused.store(false, Ordering::Relaxed);
        }
    });
}

#[test]
fn vcpus_that_fence_each_other_do_not_deadlock() {
    let make = || {
        let machine = Arc::new(Machine::default());
        let vcpu = AxVCpu::<Guest>::new(0, 0, 0, None, (Habit::Halts, machine)).unwrap();
        // SAFETY: this backend follows no root.
        unsafe { vcpu.setup(GuestPhysAddr::new(0), HostPhysAddr::new(0), ()) }.unwrap();
        vcpu
    };
    let vcpus = [make(), make()];
    thread::scope(|scope| {
        for me in 0..2 {
            let (own, other) = (&vcpus[me], &vcpus[1 - me]);
            scope.spawn(move || {
                own.bind().unwrap();
                for _ in 0..ROUNDS {
                    own.wake();
                    own.run().unwrap();
                    // As a hypervisor does for a guest's remote fence: between two of its runs.
                    other.request_fence(Fence::GUEST_TLB);
                    let patience = Patience::new();
                    while other.fence_outstanding(Fence::GUEST_TLB) {
                        patience.wait("the other's fence");
                    }
                }
                own.unbind().unwrap();
            });
        }
    });
}

/// On the default per-CPU word, which a program with one physical CPU needs nothing more than.
#[test]
fn the_default_platform() {
    struct Uni;
    // SAFETY: only this test, on one thread, uses the word.
    unsafe impl AxVCpuHal for Uni {
        type MmHal = NoFrames;
    }
    assert_eq!((Uni::irq_fetch(), Uni::cpu_id()), (0, 0));
    assert!(Uni::load_current().is_null());
    let cell = AtomicPtr::new(core::ptr::null_mut::<()>());
    let word = core::ptr::from_ref(&cell).cast_mut().cast();
    // SAFETY: nothing follows the word before it is null again.
    unsafe { Uni::store_current(word) };
    assert_eq!(Uni::load_current(), word);
    // SAFETY: as it was before.
    unsafe { Uni::store_current(core::ptr::null_mut()) };
    Uni::kick_cpu(0);
    for dispatch in [Uni::irq_hanlder, Uni::irq_handler] {
        let panic = std::panic::catch_unwind(dispatch).unwrap_err();
        let message = super::places::message(&*panic);
        assert!(message.contains("irq_hanlder") && message.contains("implement"), "{message}");
    }
}
