//! Access to control and status registers, on other architectures to a model of them for unit tests.
#![allow(unsafe_code)] // CSR instructions

/// Reads a CSR that exists on this hart.
#[inline(always)]
pub(crate) fn read<const NUM: u16>() -> u64 {
    imp::read::<NUM>()
}

/// Writes a CSR.
///
/// # Safety
///
/// The CSR exists on this hart, and what the value means to the hart (translation, delegation, where traps go)
/// keeps everything sound that runs on it.
#[inline(always)]
pub(crate) unsafe fn write<const NUM: u16>(value: u64) {
    // SAFETY: the caller's promise.
    unsafe { imp::write::<NUM>(value) }
}

/// Sets bits of a CSR.
///
/// # Safety
///
/// As for [`write()`].
#[inline(always)]
pub(crate) unsafe fn set<const NUM: u16>(bits: u64) {
    // SAFETY: the caller's promise.
    unsafe { imp::set::<NUM>(bits) }
}

/// Clears bits of a CSR.
///
/// # Safety
///
/// As for [`write()`].
#[inline(always)]
pub(crate) unsafe fn clear<const NUM: u16>(bits: u64) {
    // SAFETY: the caller's promise.
    unsafe { imp::clear::<NUM>(bits) }
}

#[cfg(target_arch = "riscv64")]
mod imp {
    use core::arch::asm;

    #[inline(always)]
    pub(super) fn read<const NUM: u16>() -> u64 {
        let value;
        // SAFETY: reading the CSRs this crate names has no effect; one that does not exist traps, which is no
        // memory access either.
        unsafe { asm!("csrr {}, {}", out(reg) value, const NUM, options(nomem, nostack)) };
        value
    }

    #[inline(always)]
    pub(super) unsafe fn write<const NUM: u16>(value: u64) {
        // SAFETY: the caller's promise. Memory counts as changed: what is visible may depend on the CSR.
        unsafe { asm!("csrw {}, {}", const NUM, in(reg) value, options(nostack)) };
    }

    #[inline(always)]
    pub(super) unsafe fn set<const NUM: u16>(bits: u64) {
        // SAFETY: as above.
        unsafe { asm!("csrs {}, {}", const NUM, in(reg) bits, options(nostack)) };
    }

    #[inline(always)]
    pub(super) unsafe fn clear<const NUM: u16>(bits: u64) {
        // SAFETY: as above.
        unsafe { asm!("csrc {}, {}", const NUM, in(reg) bits, options(nostack)) };
    }
}

/// Where there are no such registers nothing can be enabled, so nothing comes here; unit tests do, and find
/// registers that keep what is written, each thread its own.
#[cfg(not(target_arch = "riscv64"))]
mod imp {
    pub(super) fn read<const NUM: u16>() -> u64 {
        #[cfg(test)]
        return super::model::get(NUM);
        #[cfg(not(test))]
        0
    }

    pub(super) unsafe fn write<const NUM: u16>(value: u64) {
        #[cfg(test)]
        super::model::put(NUM, value);
        let _ = value;
    }

    pub(super) unsafe fn set<const NUM: u16>(bits: u64) {
        // SAFETY: a model in memory.
        unsafe { write::<NUM>(read::<NUM>() | bits) };
    }

    pub(super) unsafe fn clear<const NUM: u16>(bits: u64) {
        // SAFETY: a model in memory.
        unsafe { write::<NUM>(read::<NUM>() & !bits) };
    }
}

/// The model: 4096 registers for each thread.
#[cfg(all(test, not(target_arch = "riscv64")))]
pub(crate) mod model {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    std::thread_local! {
        static REGISTERS: RefCell<BTreeMap<u16, u64>> = const { RefCell::new(BTreeMap::new()) };
    }

    pub(crate) fn get(number: u16) -> u64 {
        REGISTERS.with_borrow(|all| all.get(&number).copied().unwrap_or(0))
    }

    pub(crate) fn put(number: u16, value: u64) {
        REGISTERS.with_borrow_mut(|all| all.insert(number, value));
    }
}
