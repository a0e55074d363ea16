//! The assembly that is called as functions. The world switch, which is not, is in [`switch`](crate::switch).
#![allow(unsafe_code)] // binds assembly

/// `hlvx`: one 16-bit parcel of guest code; `None` if the guest's tables do not let it be fetched now.
///
/// # Safety
///
/// This hart's hypervisor CSRs are the guest's. `hstatus` is the guest's, with SPVP for the privilege to fetch
/// with.
pub(crate) unsafe fn fetch_parcel(addr: u64, hstatus: u64) -> Option<u16> {
    // SAFETY: the caller's promise; a trap on the way is caught by the function itself.
    let (parcel, failed) = unsafe { imp::fetch(addr, hstatus) };
    (failed == 0).then_some(parcel as u16)
}

/// Reads a CSR that this hart may not have.
pub(crate) fn probe<const NUM: u16>() -> Option<u64> {
    // SAFETY: reads a CSR of this crate's choice, which has no effect; if there is none, that traps, which the
    // function catches.
    let (value, missing) = unsafe { imp::probe::<NUM>() };
    (missing == 0).then_some(value)
}

pub(crate) use imp::{
    fence_gstage, fence_gstage_all, fence_instructions, fence_vsstage, fp_load, fp_save,
    vector_load, vector_save,
};

#[cfg(target_arch = "riscv64")]
mod imp {
    use core::arch::{asm, global_asm};

    use crate::hext::num;

    global_asm!(include_str!("probe.S"), CSR_HSTATUS = const num::HSTATUS);
    global_asm!(include_str!("fp.S"));
    global_asm!(include_str!("vector.S"));

    /// Two result registers, as the C calling convention returns them.
    #[repr(C)]
    struct Pair(u64, u64);

    unsafe extern "C" {
        fn axvcpu_riscv64_fetch(addr: u64, hstatus: u64) -> Pair;
        fn axvcpu_riscv64_probe(code: *const u32) -> Pair;
        fn axvcpu_riscv64_fp_save(registers: *mut u64);
        fn axvcpu_riscv64_fp_load(registers: *const u64);
        fn axvcpu_riscv64_vector_save(control: *mut u64, registers: *mut u8);
        fn axvcpu_riscv64_vector_load(control: *const u64, registers: *const u8);
    }

    pub(super) unsafe fn fetch(addr: u64, hstatus: u64) -> (u64, u64) {
        // SAFETY: the caller's promise.
        let Pair(parcel, failed) = unsafe { axvcpu_riscv64_fetch(addr, hstatus) };
        (parcel, failed)
    }

    pub(super) unsafe fn probe<const NUM: u16>() -> (u64, u64) {
        let code: *const u32;
        // SAFETY: takes the address of two instructions placed apart from the code around them, which read the
        // CSR into a0 and go back to the function that tries it.
        unsafe {
            asm!(
                ".pushsection .text.axvcpu_riscv64_probes, \"ax\"",
                ".balign 4",
                "2: csrr a0, {num}",
                "ret",
                ".popsection",
                "lla {code}, 2b",
                num = const NUM,
                code = out(reg) code,
                options(nomem, nostack, pure),
            );
            let Pair(value, missing) = axvcpu_riscv64_probe(code);
            (value, missing)
        }
    }

    /// # Safety
    ///
    /// `registers` has room for 33 words; `sstatus.FS` is on.
    pub(crate) unsafe fn fp_save(registers: *mut u64) {
        // SAFETY: the caller's promise.
        unsafe { axvcpu_riscv64_fp_save(registers) };
    }

    /// # Safety
    ///
    /// As for [`fp_save`].
    pub(crate) unsafe fn fp_load(registers: *const u64) {
        // SAFETY: the caller's promise.
        unsafe { axvcpu_riscv64_fp_load(registers) };
    }

    /// # Safety
    ///
    /// `control` has room for 5 words, `registers` for 32 vector registers; `sstatus.VS` is on.
    pub(crate) unsafe fn vector_save(control: *mut u64, registers: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe { axvcpu_riscv64_vector_save(control, registers) };
    }

    /// # Safety
    ///
    /// As for [`vector_save`].
    pub(crate) unsafe fn vector_load(control: *const u64, registers: *const u8) {
        // SAFETY: the caller's promise.
        unsafe { axvcpu_riscv64_vector_load(control, registers) };
    }

    /// `fence.i`.
    pub(crate) fn fence_instructions() {
        // SAFETY: drops copies, changes nothing.
        unsafe { asm!("fence.i", options(nostack)) };
    }

    /// `hfence.vvma`: the current VMID's translations by the guest's own tables. The hart has the hypervisor
    /// extension.
    pub(crate) fn fence_vsstage() {
        // SAFETY: drops copies, changes nothing.
        unsafe {
            asm!(
                ".option push",
                ".option arch, +h",
                "hfence.vvma",
                ".option pop",
                options(nostack)
            );
        };
    }

    /// `hfence.gvma` for one VMID: its translations by stage 2. The hart has the hypervisor extension.
    pub(crate) fn fence_gstage(vmid: u64) {
        // SAFETY: drops copies, changes nothing.
        unsafe {
            asm!(
                ".option push", ".option arch, +h", "hfence.gvma zero, {}", ".option pop",
                in(reg) vmid,
                options(nostack),
            );
        }
    }

    /// `hfence.gvma`: everything stage 2 translated. The hart has the hypervisor extension.
    pub(crate) fn fence_gstage_all() {
        // SAFETY: drops copies, changes nothing.
        unsafe {
            asm!(
                ".option push",
                ".option arch, +h",
                "hfence.gvma",
                ".option pop",
                options(nostack)
            );
        };
    }
}

/// Elsewhere there is nothing to probe, to fence or to save; see [`csr`](crate::csr).
#[cfg(not(target_arch = "riscv64"))]
mod imp {
    pub(super) unsafe fn fetch(_addr: u64, _hstatus: u64) -> (u64, u64) {
        (0, 1)
    }

    pub(super) unsafe fn probe<const NUM: u16>() -> (u64, u64) {
        (0, 1)
    }

    pub(crate) unsafe fn fp_save(_registers: *mut u64) {}

    pub(crate) unsafe fn fp_load(_registers: *const u64) {}

    pub(crate) unsafe fn vector_save(_control: *mut u64, _registers: *mut u8) {}

    pub(crate) unsafe fn vector_load(_control: *const u64, _registers: *const u8) {}

    pub(crate) fn fence_instructions() {}

    pub(crate) fn fence_vsstage() {}

    pub(crate) fn fence_gstage(_vmid: u64) {}

    pub(crate) fn fence_gstage_all() {}
}
