//! Where guest time comes from.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

/// Nanoseconds in one tick of the guest's `time` counter: a time base of 10 MHz.
pub const NS_PER_TICK: u64 = 100;

/// What drives the guest's `time` counter.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The host: a function that answers monotonic nanoseconds. Every vCPU of a machine gets the same one.
    Host(fn() -> u64),
    /// The instructions the guest executes, one nanosecond each. Traps take one as well, and accesses that fail a tick
    /// more, or time would stand still where a vCPU does nothing else. A machine whose vCPUs share one
    /// [`VirtualClock`] and run in turn on one thread does the same thing every time, to the last instruction. So
    /// that each gets its turn, a run comes back with [`Nothing`](axvcpu::AxVCpuExitReason::Nothing) after
    /// [so many](crate::SoftConfig::turn) instructions at the latest.
    Instructions(Arc<VirtualClock>),
}

/// Time that passes only as guest instructions are executed, or when everybody waits.
#[derive(Debug, Default)]
pub struct VirtualClock(AtomicU64);

impl VirtualClock {
    /// A clock at zero.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Nanoseconds since the start.
    pub fn now_ns(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Lets time pass without instructions, because all vCPUs wait. A time in the past changes nothing.
    pub fn advance_to_ns(&self, ns: u64) {
        self.0.fetch_max(ns, Ordering::Relaxed);
    }

    pub(crate) fn advance_by_ns(&self, ns: u64) {
        self.0.fetch_add(ns, Ordering::Relaxed);
    }
}
