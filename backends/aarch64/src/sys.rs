//! Access to system registers, on other architectures to a model of them for unit tests.
#![allow(unsafe_code)] // MRS and MSR

/// Reads a system register that exists on this CPU.
#[inline(always)]
pub(crate) fn read<const REG: u16>() -> u64 {
    imp::read::<REG>()
}

/// Writes a system register.
///
/// # Safety
///
/// The register exists on this CPU, and what the value means to the CPU (translation, traps, where exceptions go) keeps
/// everything sound that runs on it.
#[inline(always)]
pub(crate) unsafe fn write<const REG: u16>(value: u64) {
    // SAFETY: the caller's promise.
    unsafe { imp::write::<REG>(value) }
}

/// Makes writes to system registers take effect before what follows (`ISB`).
#[inline(always)]
pub(crate) fn synchronize() {
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a barrier.
    unsafe {
        core::arch::asm!("isb", options(nostack));
    }
}

#[cfg(target_arch = "aarch64")]
mod imp {
    use core::arch::asm;

    #[inline(always)]
    pub(super) fn read<const REG: u16>() -> u64 {
        let value;
        // SAFETY: reading the registers this crate names has no effect; one that does not exist traps, which is no
        // memory access either.
        unsafe {
            asm!(
                "mrs {value}, S{op0}_{op1}_C{crn}_C{crm}_{op2}",
                value = out(reg) value,
                op0 = const REG >> 14,
                op1 = const REG >> 11 & 7,
                crn = const REG >> 7 & 15,
                crm = const REG >> 3 & 15,
                op2 = const REG & 7,
                options(nomem, nostack),
            );
        }
        value
    }

    #[inline(always)]
    pub(super) unsafe fn write<const REG: u16>(value: u64) {
        // SAFETY: the caller's promise. Memory counts as changed: what is visible may depend on the register.
        unsafe {
            asm!(
                "msr S{op0}_{op1}_C{crn}_C{crm}_{op2}, {value}",
                value = in(reg) value,
                op0 = const REG >> 14,
                op1 = const REG >> 11 & 7,
                crn = const REG >> 7 & 15,
                crm = const REG >> 3 & 15,
                op2 = const REG & 7,
                options(nostack),
            );
        }
    }
}

/// Where there are no such registers nothing can be enabled, so nothing comes here; unit tests do, and find
/// registers that keep what is written, each thread its own.
#[cfg(not(target_arch = "aarch64"))]
mod imp {
    pub(super) fn read<const REG: u16>() -> u64 {
        #[cfg(test)]
        return super::model::get(REG);
        #[cfg(not(test))]
        0
    }

    pub(super) unsafe fn write<const REG: u16>(value: u64) {
        #[cfg(test)]
        super::model::put(REG, value);
        let _ = value;
    }
}

/// The model: a register for each number, of each thread.
#[cfg(all(test, not(target_arch = "aarch64")))]
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
