//! What the run has cost.
#![allow(unsafe_code)] // one system call

use std::fs;
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
        // The system call's figure is the larger one of this program's and of that of whoever started it, which was in
        // the same process before (getrusage(2), "ru_maxrss").
        peak_memory: own_peak().unwrap_or(usage.ru_maxrss as u64) * 1024,
    }
}

/// The most memory that this program has had, in KiB (proc_pid_status(5), "VmHWM"). `None` without `/proc`.
fn own_peak() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}
