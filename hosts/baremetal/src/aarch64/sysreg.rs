//! System registers of the hypervisor's own CPU.

/// Reads a system register by its name; 0 on other architectures, where only unit tests come. Those used here have
/// no effect when they are read, but for `ICC_IAR1_EL1`.
macro_rules! read {
    ($name:literal) => {{
        #[cfg(target_arch = "aarch64")]
        {
            let value: u64;
            // SAFETY: see above; to take an interrupt changes no memory of ours.
            unsafe {
                core::arch::asm!(concat!("mrs {}, ", $name), out(reg) value, options(nostack));
            }
            value
        }
        #[cfg(not(target_arch = "aarch64"))]
        crate::aarch64::sysreg::no_value()
    }};
}

/// Writes a system register by its name, in an `unsafe` block: what the value means to the CPU keeps everything
/// sound that runs on it. Takes effect with an `isb` at the latest.
macro_rules! write {
    ($name:literal, $value:expr) => {{
        let value: u64 = $value;
        #[cfg(target_arch = "aarch64")]
        core::arch::asm!(concat!("msr ", $name, ", {}"), in(reg) value, options(nostack));
        #[cfg(not(target_arch = "aarch64"))]
        crate::aarch64::sysreg::no_register(value);
    }};
}

/// Does an instruction that has no operands and no effect that Rust knows of.
macro_rules! barrier {
    ($($instruction:literal),+) => {
        #[cfg(target_arch = "aarch64")]
        // SAFETY: orders, or waits.
        unsafe {
            core::arch::asm!($($instruction),+, options(nostack));
        }
    };
}

pub(super) use {barrier, read, write};

/// What `read!` answers where there is nothing to read.
#[cfg(not(target_arch = "aarch64"))]
pub(super) fn no_value() -> u64 {
    0
}

/// Where `write!` is an unsafe operation as well, but there is nothing to write to.
///
/// # Safety
///
/// None is needed.
#[cfg(not(target_arch = "aarch64"))]
pub(super) const unsafe fn no_register(_: u64) {}
