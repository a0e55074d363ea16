//! Into the guest and back.
#![allow(unsafe_code)] // leaves the compiler's world

use core::mem::offset_of;

/// What the world switch reads and writes: the guest's registers as the hart does not keep them itself while the
/// host runs, and the host's as it does not while the guest runs.
///
/// Only the switch and the vCPU it belongs to touch it. Fields are grouped by when they change.
#[repr(C, align(64))]
#[derive(Debug)]
pub(crate) struct Context {
    /// The guest's integer registers, at every exit; `x[0]` stays 0.
    pub(crate) x: [u64; 32],
    /// Where the guest goes on, at every exit.
    pub(crate) pc: u64,
    /// The host's `sstatus` while the guest runs: the privilege the guest is entered with and left from (SPP),
    /// and whether floating point and vectors are on (FS, VS). At every exit.
    pub(crate) sstatus: u64,

    // When the timer is set.
    /// Without [`own_timer`](Self::own_timer): when the guest wants its timer interrupt, in its own time.
    pub(crate) deadline: u64,
    /// Without [`own_timer`](Self::own_timer): a moment, in the guest's time, by which the host's timer will
    /// have interrupted the guest. `u64::MAX` if it will not.
    pub(crate) armed: u64,

    // When the vCPU is made or bound.
    /// Whether the guest's timer is the hardware's (not 0), else the host's stands in for it.
    pub(crate) own_timer: u64,
    /// `hstatus` while the guest runs.
    pub(crate) hstatus: u64,
    /// What the host had in `stvec`, `sscratch` and `hstatus` when virtualization was enabled.
    pub(crate) host_vector: u64,
    pub(crate) host_scratch: u64,
    pub(crate) host_hstatus: u64,
    /// The host's global pointer, a constant of its image.
    pub(crate) host_gp: u64,

    // At every entry.
    host_sp: u64,
    host_tp: u64,
    host_s0: u64,
    host_s1: u64,
}

impl Context {
    /// All zeros.
    pub(crate) const fn new() -> Self {
        Self {
            x: [0; 32],
            pc: 0,
            sstatus: 0,
            deadline: u64::MAX,
            armed: u64::MAX,
            own_timer: 0,
            hstatus: 0,
            host_vector: 0,
            host_scratch: 0,
            host_hstatus: 0,
            host_gp: 0,
            host_sp: 0,
            host_tp: 0,
            host_s0: 0,
            host_s1: 0,
        }
    }
}

// The switch reaches every field with the 12-bit offset of one instruction.
const _: () = assert!(offset_of!(Context, host_s1) < 2048);

/// Why the guest was left, and what of it is still in the host's registers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trap {
    /// `scause`.
    pub(crate) cause: u64,
    /// `sepc`; not yet in [`Context::pc`].
    pub(crate) pc: u64,
    /// The guest's `a0` to `a7`.
    pub(crate) a: [u64; 8],
}

/// Enters the guest, and comes back when it has trapped.
///
/// # Safety
///
/// The host's interrupts are masked, this hart's hypervisor CSRs are the guest's (stage 2 included), and
/// `context` is its context, set up on this hart.
#[inline(always)]
#[cfg(target_arch = "riscv64")]
pub(crate) unsafe fn enter(context: &mut Context) -> Trap {
    use crate::hext::{cause, guest_level, num};

    macro_rules! switch {
        ($($name:ident = $index:literal,)*) => {{
            let (cause, pc, a0, a1, a2, a3, a4, a5, a6, a7);
            // SAFETY: the caller's promise is what the guest needs to be kept to its own memory. The host's
            // registers are restored or declared lost; its stack is not used.
            unsafe {
                core::arch::asm!(
                    include_str!("switch.S"),
                    $($name = const offset_of!(Context, x) + 8 * $index,)*
                    PC = const offset_of!(Context, pc),
                    SSTATUS = const offset_of!(Context, sstatus),
                    HSTATUS = const offset_of!(Context, hstatus),
                    DEADLINE = const offset_of!(Context, deadline),
                    ARMED = const offset_of!(Context, armed),
                    OWN_TIMER = const offset_of!(Context, own_timer),
                    HOST_VECTOR = const offset_of!(Context, host_vector),
                    HOST_SCRATCH = const offset_of!(Context, host_scratch),
                    HOST_HSTATUS = const offset_of!(Context, host_hstatus),
                    HOST_GP = const offset_of!(Context, host_gp),
                    HOST_SP = const offset_of!(Context, host_sp),
                    HOST_TP = const offset_of!(Context, host_tp),
                    HOST_S0 = const offset_of!(Context, host_s0),
                    HOST_S1 = const offset_of!(Context, host_s1),
                    CSR_HSTATUS = const num::HSTATUS,
                    CSR_HVIP = const num::HVIP,
                    CSR_VSTIMECMP = const num::VSTIMECMP,
                    VSTIP = const guest_level(axvcpu_riscv::csr::irq::TIMER),
                    GUEST_ECALL = const cause::GUEST_ECALL,
                    SBI_TIME = const crate::sbi::TIME,
                    inlateout("a0") core::ptr::from_mut(context) => _,
                    lateout("t0") cause, lateout("t1") a0, lateout("t2") pc,
                    lateout("a1") a1, lateout("a2") a2, lateout("a3") a3, lateout("a4") a4,
                    lateout("a5") a5, lateout("a6") a6, lateout("a7") a7,
                    lateout("ra") _, lateout("t3") _, lateout("t4") _, lateout("t5") _, lateout("t6") _,
                    lateout("s2") _, lateout("s3") _, lateout("s4") _, lateout("s5") _, lateout("s6") _,
                    lateout("s7") _, lateout("s8") _, lateout("s9") _, lateout("s10") _, lateout("s11") _,
                );
            }
            Trap { cause, pc, a: [a0, a1, a2, a3, a4, a5, a6, a7] }
        }};
    }
    switch! {
        X1 = 1, X2 = 2, X3 = 3, X4 = 4, X5 = 5, X6 = 6, X7 = 7, X8 = 8, X9 = 9, X10 = 10, X11 = 11,
        X12 = 12, X13 = 13, X14 = 14, X15 = 15, X16 = 16, X17 = 17, X18 = 18, X19 = 19, X20 = 20,
        X21 = 21, X22 = 22, X23 = 23, X24 = 24, X25 = 25, X26 = 26, X27 = 27, X28 = 28, X29 = 29,
        X30 = 30, X31 = 31,
    }
}

/// There is no guest to enter here; virtualization cannot be enabled, and so nothing be bound, to come to this.
#[cfg(not(target_arch = "riscv64"))]
pub(crate) unsafe fn enter(context: &mut Context) -> Trap {
    Trap { cause: axvcpu_riscv::csr::cause::ILLEGAL, pc: context.pc, a: [0; 8] }
}

/// The host's global pointer.
pub(crate) fn global_pointer() -> u64 {
    #[cfg(target_arch = "riscv64")]
    {
        let gp;
        // SAFETY: copies a register.
        unsafe { core::arch::asm!("mv {}, gp", out(reg) gp, options(nomem, nostack, pure)) };
        gp
    }
    #[cfg(not(target_arch = "riscv64"))]
    0
}
