//! The machine's clock.

use core::sync::atomic::{AtomicU64, Ordering};

/// Ticks a second, from the device tree.
static TIMEBASE: AtomicU64 = AtomicU64::new(10_000_000);

pub(crate) fn set_timebase(hertz: u64) {
    TIMEBASE.store(hertz.max(1), Ordering::Relaxed);
}

/// Ticks a second.
pub fn timebase() -> u64 {
    TIMEBASE.load(Ordering::Relaxed)
}

/// The time counter of this CPU; all CPUs' are the same.
pub fn now_ticks() -> u64 {
    crate::arch::time()
}

/// Nanoseconds since the counter was 0.
pub fn now_ns() -> u64 {
    to_ns(now_ticks(), timebase())
}

/// The counter's value at a time in nanoseconds, rounded up; `u64::MAX` if that is too far away.
pub(crate) fn ticks_at(ns: u64) -> u64 {
    to_ticks(ns, timebase())
}

fn to_ns(ticks: u64, timebase: u64) -> u64 {
    let ns = u128::from(ticks) * 1_000_000_000 / u128::from(timebase);
    u64::try_from(ns).unwrap_or(u64::MAX)
}

fn to_ticks(ns: u64, timebase: u64) -> u64 {
    let ticks = (u128::from(ns) * u128::from(timebase)).div_ceil(1_000_000_000);
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversions() {
        assert_eq!(to_ns(10_000_000, 10_000_000), 1_000_000_000);
        assert_eq!(to_ticks(1, 10_000_000), 1, "never too early");
        assert_eq!(to_ticks(100, 10_000_000), 1);
        assert_eq!(to_ticks(u64::MAX, u64::MAX), u64::MAX);
        assert_eq!(to_ns(u64::MAX, 1), u64::MAX);
    }
}
