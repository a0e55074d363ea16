//! Physical CPUs, which are threads here: who is which, and how to wake one that sleeps.
//!
//! Each registered thread owns one [`Event`] in a fixed table, so that a kick is one atomic exchange and, if
//! the thread sleeps, one system call: no lock, no allocation, nothing to wait for.
#![allow(unsafe_code)] // futex system calls

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicUsize, Ordering};

/// At most this many threads are registered at a time: as many as an affinity set has bits.
pub const MAX_CPUS: usize = 64;

const NOT_YET: usize = usize::MAX;

/// What a thread has as a physical CPU; in one place, because every run of a vCPU uses both.
struct Here {
    id: Cell<usize>,
    current: Cell<*mut ()>,
}

thread_local! {
    static HERE: Here = const { Here { id: Cell::new(NOT_YET), current: Cell::new(ptr::null_mut()) } };
}

struct Slot {
    taken: AtomicBool,
    event: Event,
    /// The thread that is to be interrupted as well, or 0.
    signalled: AtomicI32,
}

static SLOTS: [Slot; MAX_CPUS] = [const {
    Slot { taken: AtomicBool::new(false), event: Event::new(), signalled: AtomicI32::new(0) }
}; MAX_CPUS];

/// The ids of threads that are not registered: behind the table, each used once.
static NEXT_UNREGISTERED: AtomicUsize = AtomicUsize::new(MAX_CPUS);

#[inline]
pub(super) fn id() -> usize {
    match HERE.with(|here| here.id.get()) {
        NOT_YET => {
            let id = NEXT_UNREGISTERED.fetch_add(1, Ordering::Relaxed);
            HERE.with(|here| here.id.set(id));
            id
        }
        id => id,
    }
}

/// Whether the calling thread has this id, which some thread has: none has `NOT_YET`.
#[inline]
pub(super) fn is(cpu: usize) -> bool {
    HERE.with(|here| here.id.get()) == cpu
}

#[inline]
pub(super) fn load_current() -> *mut () {
    HERE.with(|here| here.current.get())
}

#[inline]
pub(super) fn store_current(word: *mut ()) {
    HERE.with(|here| here.current.set(word));
}

/// Wakes a registered thread, or lets its next sleep end at once. Other ids never sleep.
#[inline]
pub(super) fn kick(cpu: usize) {
    let Some(slot) = SLOTS.get(cpu) else { return };
    // One that slept is in no guest, and looks for itself what there is before it goes into one.
    if !slot.event.notify() {
        match slot.signalled.load(Ordering::Relaxed) {
            0 => {}
            thread => interrupt(thread),
        }
    }
}

/// Takes a thread out of the guest that KVM runs on it.
#[cfg(target_arch = "x86_64")]
fn interrupt(thread: i32) {
    axvcpu_kvm::kick::Thread::from_id(thread).kick();
}

#[cfg(not(target_arch = "x86_64"))]
fn interrupt(_: i32) {}

/// Why a thread could not be registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegisterError {
    /// The thread already is a physical CPU: registered, or because it has worked on a vCPU.
    AlreadyACpu,
    /// [`MAX_CPUS`] threads are registered.
    TooMany,
}

impl fmt::Display for RegisterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyACpu => f.write_str("this thread is a physical CPU already"),
            Self::TooMany => {
                write!(f, "no more than {MAX_CPUS} threads can be physical CPUs at a time")
            }
        }
    }
}

impl std::error::Error for RegisterError {}

/// The calling thread as a physical CPU, until dropped. Unbind every vCPU from it before that.
#[derive(Debug)]
pub struct Cpu {
    id: usize,
    /// Belongs to its thread.
    _not_send: PhantomData<*mut ()>,
}

impl Cpu {
    /// Makes the calling thread a physical CPU that can be kicked and can [sleep](Self::idle).
    ///
    /// # Errors
    ///
    /// See [`RegisterError`].
    pub fn register() -> Result<Self, RegisterError> {
        if HERE.with(|here| here.id.get()) != NOT_YET {
            return Err(RegisterError::AlreadyACpu);
        }
        for (id, slot) in SLOTS.iter().enumerate() {
            if !slot.taken.swap(true, Ordering::Acquire) {
                slot.event.forget(); // what was meant for the thread before
                HERE.with(|here| here.id.set(id));
                return Ok(Self { id, _not_send: PhantomData });
            }
        }
        Err(RegisterError::TooMany)
    }

    /// Lets kicks interrupt the thread as well, with a signal: what a thread needs on which KVM runs guests. Others look
    /// for themselves whether they are wanted.
    ///
    /// # Errors
    ///
    /// The operating system's.
    #[cfg(target_arch = "x86_64")]
    pub fn interruptible(self) -> std::io::Result<Self> {
        let thread = axvcpu_kvm::kick::Thread::current()?;
        SLOTS[self.id].signalled.store(thread.id(), Ordering::Relaxed);
        Ok(self)
    }

    /// The physical CPU's number, below [`MAX_CPUS`].
    pub fn id(&self) -> usize {
        self.id
    }

    /// Sleeps until somebody kicks this physical CPU, or until `deadline` in nanoseconds of
    /// [`monotonic_ns`](super::monotonic_ns). `true`: a kick ended it.
    ///
    /// A kick is never lost: one that came since the last sleep ends this one before it begins. So whoever
    /// waits for something checks for it, sleeps, and checks again.
    pub fn idle(&self, deadline: Option<u64>) -> bool {
        SLOTS[self.id].event.wait(deadline)
    }
}

impl Drop for Cpu {
    fn drop(&mut self) {
        HERE.with(|here| here.id.set(NOT_YET));
        SLOTS[self.id].signalled.store(0, Ordering::Relaxed);
        SLOTS[self.id].taken.store(false, Ordering::Release);
    }
}

/// A latch that one thread waits for and any thread sets.
struct Event(AtomicU32);

const EMPTY: u32 = 0;
const NOTIFIED: u32 = 1;
/// The owner sleeps, or is about to.
const ASLEEP: u32 = 2;

impl Event {
    const fn new() -> Self {
        Self(AtomicU32::new(EMPTY))
    }

    /// Answers whether the owner slept.
    #[inline]
    fn notify(&self) -> bool {
        // Release: what the notifier did before is seen by the thread it wakes.
        let asleep = self.0.swap(NOTIFIED, Ordering::Release) == ASLEEP;
        if asleep {
            self.wake();
        }
        asleep
    }

    /// Takes a notification that nobody waits for. Called by the owner only, which does not sleep.
    fn forget(&self) {
        self.0.store(EMPTY, Ordering::Relaxed);
    }

    #[cold]
    fn wake(&self) {
        // SAFETY: FUTEX_WAKE uses the address as a name only, and the word is alive.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                self.0.as_ptr(),
                libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
                1,
            )
        };
    }

    /// Waits for [`notify`](Self::notify) and takes the notification. Called by the owner only.
    fn wait(&self, deadline: Option<u64>) -> bool {
        let sleepy =
            self.0.compare_exchange(EMPTY, ASLEEP, Ordering::Acquire, Ordering::Acquire).is_ok();
        if sleepy {
            // The kernel compares the word itself, so a notification that comes before it does ends the call.
            while self.0.load(Ordering::Acquire) == ASLEEP && !self.sleep(deadline) {}
        }
        self.0.swap(EMPTY, Ordering::Acquire) == NOTIFIED
    }

    /// One system call's worth of sleep. `true`: the deadline has passed.
    fn sleep(&self, deadline: Option<u64>) -> bool {
        const SECOND: u64 = 1_000_000_000;
        let deadline = deadline.map(|ns| libc::timespec {
            tv_sec: (ns / SECOND) as libc::time_t,
            tv_nsec: (ns % SECOND) as libc::c_long,
        });
        // FUTEX_WAIT_BITSET, unlike FUTEX_WAIT, takes the end of the wait and not its length (futex(2)), so that
        // waking for nothing does not lengthen it.
        // SAFETY: the word is alive, and the timeout is null or points to a `timespec` that outlives the call.
        let result = unsafe {
            libc::syscall(
                libc::SYS_futex,
                self.0.as_ptr(),
                libc::FUTEX_WAIT_BITSET | libc::FUTEX_PRIVATE_FLAG,
                ASLEEP,
                deadline.as_ref().map_or(ptr::null(), ptr::from_ref),
                ptr::null::<u32>(),
                libc::FUTEX_BITSET_MATCH_ANY,
            )
        };
        result < 0 && std::io::Error::last_os_error().raw_os_error() == Some(libc::ETIMEDOUT)
    }
}

#[cfg(test)]
#[path = "cpu_tests.rs"]
mod tests;
