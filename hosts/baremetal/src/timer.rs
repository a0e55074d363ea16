//! One timer for each CPU, and several who want to be told the time.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::arch;
use crate::cpu::Cpu;

const NEVER: u64 = u64::MAX;

/// When a CPU's timer has to fire, in ticks. Used by that CPU only.
pub(crate) struct Deadlines {
    /// The end of a time slice.
    slice: AtomicU64,
    /// The end of a wait.
    wait: AtomicU64,
    /// A guest's timer.
    guest: AtomicU64,
    /// When console output is no longer held back.
    flush: AtomicU64,
    /// What the timer is set to.
    set: AtomicU64,
}

impl Deadlines {
    pub(crate) const fn new() -> Self {
        Self {
            slice: AtomicU64::new(NEVER),
            wait: AtomicU64::new(NEVER),
            guest: AtomicU64::new(NEVER),
            flush: AtomicU64::new(NEVER),
            set: AtomicU64::new(NEVER),
        }
    }

    fn earliest(&self) -> u64 {
        let [slice, wait, guest, flush] = [&self.slice, &self.wait, &self.guest, &self.flush]
            .map(|deadline| deadline.load(Ordering::Relaxed));
        slice.min(wait).min(guest).min(flush)
    }

    /// Sets the timer if that has to change.
    fn set(&self) {
        let earliest = self.earliest();
        if self.set.swap(earliest, Ordering::Relaxed) != earliest {
            arch::program_timer(earliest);
        }
    }
}

/// A guest's timer; see [`AxVCpuHal::arm_timer`](axvcpu::AxVCpuHal::arm_timer).
pub(crate) fn set_guest(deadline: u64) {
    let timer = &Cpu::this().timer;
    timer.guest.store(deadline, Ordering::Relaxed);
    timer.set();
}

/// The end of a slice.
pub(crate) fn set_slice(deadline: u64) {
    let timer = &Cpu::this().timer;
    timer.slice.store(deadline, Ordering::Relaxed);
    timer.set();
}

/// The end of a wait.
pub(crate) fn set_wait(deadline: u64) {
    let timer = &Cpu::this().timer;
    timer.wait.store(deadline, Ordering::Relaxed);
    timer.set();
}

/// Console output is held back until then at the latest, unless an earlier time was set.
pub(crate) fn set_flush(deadline: u64) {
    let timer = &Cpu::this().timer;
    if deadline < timer.flush.load(Ordering::Relaxed) {
        timer.flush.store(deadline, Ordering::Relaxed);
        timer.set();
    }
}

/// The timer fired: whoever's time has come has been told with that, and asks again.
pub(crate) fn fired() {
    let timer = &Cpu::this().timer;
    let now = arch::time();
    for deadline in [&timer.slice, &timer.wait, &timer.guest] {
        if deadline.load(Ordering::Relaxed) <= now {
            deadline.store(NEVER, Ordering::Relaxed);
        }
    }
    if timer.flush.load(Ordering::Relaxed) <= now {
        timer.flush.store(NEVER, Ordering::Relaxed);
        crate::console::flush();
    }
    // Also if it came for nothing, or it would come again at once.
    let earliest = timer.earliest();
    timer.set.store(earliest, Ordering::Relaxed);
    arch::program_timer(earliest);
}
