//! The firmware below: the Supervisor Binary Interface as its caller.

/// The extension for timers (SBI 2.0, chapter 6), which the backend answers for its guests as well.
pub(crate) const TIME: u64 = 0x5449_4d45;
/// The legacy call for the same (SBI 2.0, 5.1).
pub(crate) const LEGACY_SET_TIMER: u64 = 0;

/// Makes this hart's timer interrupt pending when `time` reaches `deadline`.
#[cfg(target_arch = "riscv64")]
#[allow(unsafe_code)] // an environment call
pub(crate) fn set_timer(deadline: u64) {
    // SAFETY: the call changes when the host's timer fires, and its two result registers.
    unsafe {
        core::arch::asm!(
            "ecall",
            in("a7") TIME,
            in("a6") 0,
            inlateout("a0") deadline => _,
            lateout("a1") _,
            options(nostack),
        );
    }
}

/// There is no firmware here.
#[cfg(not(target_arch = "riscv64"))]
pub(crate) fn set_timer(_deadline: u64) {}
