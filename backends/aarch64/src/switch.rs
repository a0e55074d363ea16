//! Into the guest and back.
#![allow(unsafe_code)] // leaves the compiler's world

use core::mem::offset_of;
use core::sync::atomic::AtomicU64;

/// What the world switch reads and writes: the guest's registers as the CPU does not keep them itself while the host
/// runs, and the host's as it does not while the guest runs.
///
/// Only the switch and the vCPU it belongs to touch it.
#[repr(C, align(64))]
#[derive(Debug)]
pub(crate) struct Context {
    /// The guest's general-purpose registers, at every exit.
    pub(crate) x: [u64; 31],
    _even: u64,
    /// Where the guest goes on, at every exit; next to it what [`pstate`](Self::pstate) is.
    pub(crate) pc: u64,
    /// The guest's processor state, as `SPSR_EL2` has it, at every exit.
    pub(crate) pstate: u64,
    /// Where the host's exceptions go: what it had in `VBAR_EL2` when virtualization was enabled. When bound.
    pub(crate) host_vectors: u64,
    /// Where the guest's go.
    guest_vectors: u64,
}

impl Context {
    /// All zeros.
    pub(crate) fn new() -> Self {
        Self { x: [0; 31], _even: 0, pc: 0, pstate: 0, host_vectors: 0, guest_vectors: vectors() }
    }
}

// The assembly has the registers' places in its text, and takes pc and pstate as a pair.
const _: () = {
    assert!(offset_of!(Context, x) == 0 && size_of::<[u64; 31]>() == 248);
    assert!(offset_of!(Context, pstate) == offset_of!(Context, pc) + 8);
    assert!(offset_of!(Context, pc) <= 504); // the reach of a pair
};

/// Why the guest was left, and what of it is still in the host's registers. Where it was is in [`Context::pc`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trap {
    /// `ESR_EL2`, or [`INTERRUPT`] or [`SERROR`].
    pub(crate) cause: u64,
    /// The guest's `x0` to `x6`.
    pub(crate) x: [u64; 7],
}

/// A physical interrupt: a cause that is no syndrome, whose bits 63 to 56 are zeros.
pub(crate) const INTERRUPT: u64 = 1 << 63;
/// A physical SError, with its syndrome in `ESR_EL2`.
pub(crate) const SERROR: u64 = 1 << 62;

/// Where the host's exceptions go, for those that come while the table is still the guest's. The same on all CPUs.
pub(crate) static HOST_VBAR: AtomicU64 = AtomicU64::new(0);

#[cfg(target_arch = "aarch64")]
core::arch::global_asm!(
    include_str!("vectors.S"),
    PC = const offset_of!(Context, pc),
    HOST_VECTORS = const offset_of!(Context, host_vectors),
    HOST_VBAR = sym HOST_VBAR,
    INTERRUPT = const INTERRUPT >> 48,
    SERROR = const SERROR >> 48,
);

fn vectors() -> u64 {
    #[cfg(target_arch = "aarch64")]
    {
        unsafe extern "C" {
            static axvcpu_aarch64_vectors: u8;
        }
        &raw const axvcpu_aarch64_vectors as u64
    }
    #[cfg(not(target_arch = "aarch64"))]
    0
}

/// Enters the guest, and comes back when it has trapped.
///
/// # Safety
///
/// The host's interrupts are masked, this CPU's EL1 and its virtualization registers are the guest's (stage 2
/// included), and `context` is its context, set up on this CPU.
#[inline(always)]
#[cfg(target_arch = "aarch64")]
pub(crate) unsafe fn enter(context: &mut Context) -> Trap {
    let (cause, x0, x1, x2, x3, x4, x5, x6);
    // SAFETY: the caller's promise is what the guest needs to be kept to its own memory. The host's registers are
    // restored or declared lost; its stack is used as a stack.
    unsafe {
        core::arch::asm!(
            include_str!("switch.S"),
            PC = const offset_of!(Context, pc),
            GUEST_VECTORS = const offset_of!(Context, guest_vectors),
            inlateout("x0") core::ptr::from_mut(context) => _,
            lateout("x1") x1, lateout("x2") x2, lateout("x3") x3, lateout("x4") x4, lateout("x5") x5,
            lateout("x6") x6, lateout("x7") x0, lateout("x8") cause,
            lateout("x9") _, lateout("x10") _, lateout("x11") _, lateout("x12") _, lateout("x13") _,
            lateout("x14") _, lateout("x15") _, lateout("x16") _, lateout("x17") _, lateout("x18") _,
            lateout("x20") _, lateout("x21") _, lateout("x22") _, lateout("x23") _, lateout("x24") _,
            lateout("x25") _, lateout("x26") _, lateout("x27") _, lateout("x28") _, lateout("x30") _,
        );
    }
    Trap { cause, x: [x0, x1, x2, x3, x4, x5, x6] }
}

/// There is no guest to enter here; virtualization cannot be enabled, and so nothing be bound, to come to this.
#[cfg(not(target_arch = "aarch64"))]
pub(crate) unsafe fn enter(_context: &mut Context) -> Trap {
    Trap { cause: INTERRUPT, x: [0; 7] }
}
