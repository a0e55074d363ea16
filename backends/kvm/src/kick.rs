//! Taking a thread out of a guest, from any other thread.
//!
//! A platform for this backend implements [`AxVCpuHal::kick_cpu`](axvcpu::AxVCpuHal::kick_cpu) with
//! [`Thread::kick`]. The signal's handler sets `immediate_exit` in the run page of the vCPU that the thread runs at that
//! moment, so a kick that comes just before the guest is entered keeps it from being entered (Linux,
//! Documentation/virt/kvm/api.rst, `immediate_exit`).
#![allow(unsafe_code)] // signals

use std::cell::Cell;
use std::ffi::c_int;
use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering, compiler_fence};

use crate::sys::RunPage;

/// In `immediate_exit`: the thread was kicked.
pub(crate) const KICKED: u8 = 1 << 0;
/// In `immediate_exit`: the machine's memory is being changed, see [`slots`](crate::machine).
pub(crate) const HELD: u8 = 1 << 1;

thread_local! {
    /// The flag of the vCPU that this thread runs now.
    static LOADED: Cell<*const AtomicU8> = const { Cell::new(ptr::null()) };
}

/// Makes kicks of this thread reach the vCPU with this page, until dropped.
pub(crate) struct Loaded<'a>(std::marker::PhantomData<&'a RunPage>);

impl<'a> Loaded<'a> {
    #[inline(always)]
    pub(crate) fn new(page: &'a RunPage) -> Self {
        LOADED.set(page.immediate_exit());
        compiler_fence(Ordering::SeqCst); // the handler runs on this very thread
        Self(std::marker::PhantomData)
    }
}

impl Drop for Loaded<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        compiler_fence(Ordering::SeqCst);
        LOADED.set(ptr::null());
    }
}

extern "C" fn on_signal(_: c_int) {
    // SAFETY: null, or what `Loaded` borrows as long as it is there: this thread is in the middle of that.
    if let Some(flag) = unsafe { LOADED.get().as_ref() } {
        flag.fetch_or(KICKED, Ordering::Relaxed);
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

    /// A thread by its number, which [`id`](Self::id) gave.
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
