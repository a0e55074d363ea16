//! Instructions that are no accesses to registers: maintenance, address translation, and the assembly that is called as
//! functions. On other architectures they do nothing.
#![allow(unsafe_code)] // binds assembly

macro_rules! instructions {
    ($($(#[$doc:meta])* $name:ident: $($line:literal),+;)*) => {
        $($(#[$doc])* pub(crate) fn $name() {
            #[cfg(target_arch = "aarch64")]
            // SAFETY: what is remembered of translations or of code is looked up again.
            unsafe {
                core::arch::asm!($($line),+, options(nostack));
            }
        })*
    };
}

instructions! {
    /// Forgets what this CPU knows of the guest's own translations, of the current VMID, and of its code.
    forget_here: "dsb nshst", "tlbi vmalle1", "ic iallu", "dsb nsh", "isb";
    /// Forgets what any CPU knows of the guest's own translations, of the current VMID: the vCPU may have been on others.
    forget_guest: "dsb ishst", "tlbi vmalle1is", "dsb ish", "isb";
    /// Forgets what any CPU knows of both stages, of the current VMID.
    forget_stage2: "dsb ishst", "tlbi vmalls12e1is", "dsb ish", "isb";
    /// Forgets what this CPU knows of all guests' translations.
    forget_all: "dsb nshst", "tlbi alle1", "dsb nsh", "isb";
    /// Forgets what any CPU knows of any guest's translations and of fetched instructions.
    forget_everywhere: "dsb ishst", "tlbi alle1is", "ic ialluis", "dsb ish", "isb";
    /// Forgets instructions that any CPU has fetched.
    forget_code: "dsb ish", "ic ialluis", "dsb ish", "isb";
    /// Waits for the maintenance that the guest has begun on this CPU, before it goes on elsewhere: its own barrier would wait
    /// for that of the other CPU.
    complete: "dsb ish";
}

/// Translates an address of the guest to what `PAR_EL1` then has (Arm ARM, D24.2.139), as a read by EL1: that leads to the same
/// address as what EL0 does, and more is permitted.
pub(crate) fn translate(address: u64, stages: Stages) -> u64 {
    #[cfg(target_arch = "aarch64")]
    {
        use crate::sys;
        use axvcpu_arm::sysreg::PAR_EL1;

        let guests = sys::read::<PAR_EL1>();
        // SAFETY: looks up translations only; PAR_EL1 is put back.
        unsafe {
            match stages {
                Stages::Both => {
                    core::arch::asm!("at s12e1r, {}", "isb", in(reg) address, options(nostack))
                }
                Stages::Guests => {
                    core::arch::asm!("at s1e1r, {}", "isb", in(reg) address, options(nostack))
                }
            }
            let result = sys::read::<PAR_EL1>();
            sys::write::<PAR_EL1>(guests);
            result
        }
    }
    #[cfg(not(target_arch = "aarch64"))]
    {
        let _ = (address, stages);
        1
    }
}

/// Which stages an address is translated by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stages {
    Both,
    Guests,
}

pub(crate) use imp::{fp_load, fp_save, sve_load, sve_save, sve_size};

#[cfg(target_arch = "aarch64")]
mod imp {
    use core::arch::global_asm;

    global_asm!(include_str!("fp.S"));
    global_asm!(include_str!("sve.S"));

    unsafe extern "C" {
        fn axvcpu_aarch64_fp_save(registers: *mut u128);
        fn axvcpu_aarch64_fp_load(registers: *const u128);
        fn axvcpu_aarch64_sve_save(registers: *mut u8, control: *mut u64);
        fn axvcpu_aarch64_sve_load(registers: *const u8, control: *const u64);
        fn axvcpu_aarch64_sve_size() -> usize;
    }

    /// # Safety
    ///
    /// `registers` has room for 33 registers; floating point is on.
    pub(crate) unsafe fn fp_save(registers: *mut u128) {
        // SAFETY: the caller's promise.
        unsafe { axvcpu_aarch64_fp_save(registers) }
    }

    /// # Safety
    ///
    /// As for [`fp_save`].
    pub(crate) unsafe fn fp_load(registers: *const u128) {
        // SAFETY: the caller's promise.
        unsafe { axvcpu_aarch64_fp_load(registers) }
    }

    /// # Safety
    ///
    /// `registers` has room for 32 vectors, 16 predicates and FFR of this CPU's sizes, `control` for two words; SVE is
    /// on.
    pub(crate) unsafe fn sve_save(registers: *mut u8, control: *mut u64) {
        // SAFETY: the caller's promise.
        unsafe { axvcpu_aarch64_sve_save(registers, control) }
    }

    /// # Safety
    ///
    /// As for [`sve_save`].
    pub(crate) unsafe fn sve_load(registers: *const u8, control: *const u64) {
        // SAFETY: the caller's promise.
        unsafe { axvcpu_aarch64_sve_load(registers, control) }
    }

    /// # Safety
    ///
    /// SVE is on.
    pub(crate) unsafe fn sve_size() -> usize {
        // SAFETY: the caller's promise.
        unsafe { axvcpu_aarch64_sve_size() }
    }
}

#[cfg(not(target_arch = "aarch64"))]
mod imp {
    pub(crate) unsafe fn fp_save(_: *mut u128) {}
    pub(crate) unsafe fn fp_load(_: *const u128) {}
    pub(crate) unsafe fn sve_save(_: *mut u8, _: *mut u64) {}
    pub(crate) unsafe fn sve_load(_: *const u8, _: *const u64) {}
    pub(crate) unsafe fn sve_size() -> usize {
        0
    }
}
