//! Time.
#![allow(unsafe_code)] // one system call

/// Nanoseconds of the clock that never jumps (`CLOCK_MONOTONIC`). It stands still while the machine sleeps, as
/// a guest's clock should.
pub fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one `timespec`, which is what it is given. The clock exists on every Linux, so the call
    // cannot fail; were it to, the zero above stays.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn advances_at_the_rate_of_real_time() {
        let (start, wall) = (monotonic_ns(), std::time::Instant::now());
        std::thread::sleep(Duration::from_millis(20));
        let (elapsed, outside) = (monotonic_ns() - start, wall.elapsed());
        assert!(elapsed >= 20_000_000);
        // The inner interval lies within nothing longer than the outer one plus its own two readings.
        assert!(Duration::from_nanos(elapsed) <= outside + Duration::from_millis(5));
    }
}
