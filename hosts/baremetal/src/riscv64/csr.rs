//! Control and status registers of the hypervisor's own hart.
#![allow(unsafe_code)] // CSR instructions

/// Reads a CSR; 0 on other architectures, where only unit tests come.
#[inline(always)]
pub(crate) fn read<const NUM: u16>() -> u64 {
    #[cfg(target_arch = "riscv64")]
    {
        let value;
        // SAFETY: reading the CSRs used here has no effect.
        unsafe {
            core::arch::asm!("csrr {}, {}", out(reg) value, const NUM, options(nomem, nostack));
        }
        value
    }
    #[cfg(not(target_arch = "riscv64"))]
    0
}

/// Writes a CSR.
///
/// # Safety
///
/// What the value means to the hart keeps everything sound that runs on it.
#[inline(always)]
pub(crate) unsafe fn write<const NUM: u16>(value: u64) {
    #[cfg(target_arch = "riscv64")]
    // SAFETY: the caller's promise.
    unsafe {
        core::arch::asm!("csrw {}, {}", const NUM, in(reg) value, options(nostack));
    }
    let _ = value;
}

/// Sets bits of a CSR.
///
/// # Safety
///
/// As for [`write()`].
#[inline(always)]
pub(crate) unsafe fn set<const NUM: u16>(bits: u64) {
    #[cfg(target_arch = "riscv64")]
    // SAFETY: the caller's promise.
    unsafe {
        core::arch::asm!("csrs {}, {}", const NUM, in(reg) bits, options(nostack));
    }
    let _ = bits;
}

/// Clears bits of a CSR.
///
/// # Safety
///
/// As for [`write()`].
#[inline(always)]
pub(crate) unsafe fn clear<const NUM: u16>(bits: u64) {
    #[cfg(target_arch = "riscv64")]
    // SAFETY: the caller's promise.
    unsafe {
        core::arch::asm!("csrc {}, {}", const NUM, in(reg) bits, options(nostack));
    }
    let _ = bits;
}

/// What `tp` points to.
#[cfg(target_os = "none")]
#[inline(always)]
pub(crate) fn this_cpu() -> *const crate::cpu::Cpu {
    let this;
    // SAFETY: reads a register, which never changes.
    unsafe {
        core::arch::asm!("mv {}, tp", out(reg) this, options(nomem, nostack, pure));
    }
    this
}

/// Waits until an interrupt is pending that `sie` enables; whether it may be taken makes no difference. Also comes
/// back for no reason.
pub(crate) fn wait_for_interrupt() {
    #[cfg(target_arch = "riscv64")]
    // SAFETY: waits.
    unsafe {
        core::arch::asm!("wfi", options(nostack));
    }
}
