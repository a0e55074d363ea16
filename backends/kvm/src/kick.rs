//! Taking a thread out of a guest, from any other thread.
//!
//! A platform for this backend implements [`AxVCpuHal::kick_cpu`](axvcpu::AxVCpuHal::kick_cpu) with
//! [`Thread::kick`]. The signal's handler sets `immediate_exit` in the run page of the vCPU that the thread ran last, which is
//! the one it is about to run: before another one, that is made the one. So a kick that comes just before the guest is
//! entered keeps it from being entered (Linux, Documentation/virt/kvm/api.rst, `immediate_exit`).
//!
//! As every signal with a handler, it ends some other waits of the thread early, with `EINTR`: those of `poll`, `epoll_wait`
//! and `nanosleep`, among others (signal(7)).
#![allow(unsafe_code)] // signals

use std::cell::{Cell, RefCell};
use std::ffi::c_int;
use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicU8, Ordering, compiler_fence};
use std::sync::{Arc, OnceLock};

use crate::sys::{Mapping, RunPage};

/// In `immediate_exit`: the thread was kicked.
pub(crate) const KICKED: u8 = 1 << 0;
/// In `immediate_exit`: the machine's memory is being changed, see [`slots`](crate::machine).
pub(crate) const HELD: u8 = 1 << 1;

thread_local! {
    /// The flag of the vCPU that this thread ran last.
    static LOADED: Cell<*const AtomicU8> = const { Cell::new(ptr::null()) };
    /// A kick came while there was none.
    static MISSED: Cell<bool> = const { Cell::new(false) };
    /// What keeps the flag's memory.
    static KEPT: Kept = const { Kept(RefCell::new(None)) };
}

/// Nobody kicks a thread's vCPU any more when the thread ends.
struct Kept(RefCell<Option<Arc<Mapping>>>);

impl Drop for Kept {
    fn drop(&mut self) {
        LOADED.set(ptr::null());
        compiler_fence(Ordering::SeqCst);
    }
}

/// Whether kicks of this thread reach the vCPU with this page, because it was the last one to run here.
#[inline(always)]
pub(crate) fn is_loaded(page: &RunPage) -> bool {
    ptr::eq(LOADED.get(), page.immediate_exit())
}

/// Makes kicks of this thread reach the vCPU with this page. Those that came before may have reached another one: whoever
/// calls this looks at the vCPU's requests after it. A kick without a request counts from when this returns, or while it
/// is at work.
pub(crate) fn load(page: &RunPage) {
    MISSED.set(false);
    compiler_fence(Ordering::SeqCst); // the handler runs on this very thread
    LOADED.set(ptr::null());
    compiler_fence(Ordering::SeqCst);
    let kept = KEPT.try_with(|kept| *kept.0.borrow_mut() = Some(page.mapping().clone()));
    if kept.is_err() {
        // The thread is ending, and runs no guest for long. It is as if its kicks came all the time.
        page.immediate_exit().fetch_or(KICKED, Ordering::SeqCst);
        return;
    }
    LOADED.set(page.immediate_exit());
    compiler_fence(Ordering::SeqCst);
    if MISSED.get() {
        page.immediate_exit().fetch_or(KICKED, Ordering::SeqCst);
    }
}

/// Lets go of this page, if it is the one that kicks of this thread reach. It keeps the vCPU, and with it the machine, for the
/// kernel.
pub(crate) fn unload(page: &RunPage) {
    if !is_loaded(page) {
        return;
    }
    LOADED.set(ptr::null());
    compiler_fence(Ordering::SeqCst);
    let _ = KEPT.try_with(|kept| *kept.0.borrow_mut() = None); // else the thread is ending, and lets go by itself
}

extern "C" fn on_signal(_: c_int) {
    // SAFETY: null, or a flag in memory that `KEPT` keeps for this thread.
    match unsafe { LOADED.get().as_ref() } {
        Some(flag) => {
            flag.fetch_or(KICKED, Ordering::Relaxed);
        }
        None => MISSED.set(true),
    }
}

/// The signal that kicks: the first of those the C library leaves to programs (signal(7), `SIGRTMIN`). A program that
/// uses the backend does not use it for anything else.
pub fn signal() -> c_int {
    libc::SIGRTMIN()
}

/// Installs the handler, once in a program.
fn install() -> io::Result<()> {
    static INSTALLED: OnceLock<Result<(), c_int>> = OnceLock::new();
    let install = || {
        // SAFETY: zeros are a `sigaction`: no flags, an empty mask.
        let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
        action.sa_sigaction = on_signal as extern "C" fn(c_int) as usize;
        // Other system calls of the thread go on. KVM_RUN does not, whatever the flags.
        action.sa_flags = libc::SA_RESTART;
        // SAFETY: the handler does nothing that a handler must not do: an atomic operation, and reading a thread-local
        // variable that takes no initialization.
        match unsafe { libc::sigaction(signal(), &action, ptr::null_mut()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error().raw_os_error().unwrap_or(0)),
        }
    };
    (*INSTALLED.get_or_init(install)).map_err(io::Error::from_raw_os_error)
}

/// A thread that can be kicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thread(libc::pid_t);

impl Thread {
    /// The calling thread, prepared for being kicked: the handler is there, and the signal is not blocked.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn current() -> io::Result<Self> {
        install()?;
        let mut set = MaybeUninit::uninit();
        // SAFETY: a set of this function's own, made before it is used; it names a signal that exists.
        let result = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            libc::sigaddset(set.as_mut_ptr(), signal());
            libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), ptr::null_mut())
        };
        match result {
            // SAFETY: takes nothing, and cannot fail.
            0 => Ok(Self(unsafe { libc::gettid() })),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }

    /// The thread's number, for a table of them. Never 0.
    pub fn id(self) -> i32 {
        self.0
    }

    /// A thread by its number, which [`id`](Self::id) gave: so there is a handler already.
    pub fn from_id(id: i32) -> Self {
        Self(id)
    }

    /// Takes the thread out of the guest it runs, or out of the next one at once if it is about to enter. Never waits.
    /// A thread that has ended, or is in no guest, is not harmed.
    #[inline]
    pub fn kick(self) {
        // SAFETY: a signal with a handler, for a thread of this process only. Failing means that it has ended.
        unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), self.0, signal()) };
    }
}
