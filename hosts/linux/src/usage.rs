//! What the run has cost.
#![allow(unsafe_code)] // one system call

use std::mem::MaybeUninit;

use axvcpu_vmm::summary::Process;

/// What the whole process has used so far.
pub(crate) fn now() -> Process {
    let mut usage = MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: the kernel fills in the structure, completely when it answers 0.
    let usage = unsafe {
        if libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) != 0 {
            return Process::default(); // cannot happen for the process itself
        }
        usage.assume_init()
    };
    let ns = |time: libc::timeval| time.tv_sec as u64 * 1_000_000_000 + time.tv_usec as u64 * 1000;
    Process {
        user_ns: ns(usage.ru_utime),
        system_ns: ns(usage.ru_stime),
        peak_memory: usage.ru_maxrss as u64 * 1024,
    }
}
