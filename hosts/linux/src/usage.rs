//! What the run has cost.
#![allow(unsafe_code)] // one system call

use std::mem::MaybeUninit;
use std::time::Duration;

/// What the whole process has used so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// Processor time in the program itself.
    pub(crate) user: Duration,
    /// Processor time the host's kernel spent for it.
    pub(crate) system: Duration,
    /// The most memory it ever occupied, in bytes.
    pub(crate) peak_memory: u64,
}

impl Usage {
    pub(crate) fn now() -> Self {
        let mut usage = MaybeUninit::<libc::rusage>::uninit();
        // SAFETY: the kernel fills in the structure, completely when it answers 0.
        let usage = unsafe {
            if libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) != 0 {
                return Self::default(); // cannot happen for the process itself
            }
            usage.assume_init()
        };
        let duration = |time: libc::timeval| {
            Duration::new(time.tv_sec as u64, 0) + Duration::from_micros(time.tv_usec as u64)
        };
        Self {
            user: duration(usage.ru_utime),
            system: duration(usage.ru_stime),
            peak_memory: usage.ru_maxrss as u64 * 1024,
        }
    }
}
