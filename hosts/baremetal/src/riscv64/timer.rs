//! The harts' timer.
#![allow(unsafe_code)] // writes `stimecmp`

use core::sync::atomic::{AtomicBool, Ordering};

use axvcpu_riscv::csr::num;

use super::{csr, sbi};
use crate::Hal;

/// The harts have `stimecmp` (Sstc), else the firmware is asked.
static HAS_STIMECMP: AtomicBool = AtomicBool::new(false);

/// Virtualization is on on this hart: what its timer can do is known.
pub(crate) fn virtualized() {
    let sstc = axvcpu_riscv64::features::<Hal>().is_some_and(|features| features.sstc);
    HAS_STIMECMP.store(sstc, Ordering::Relaxed);
}

/// Makes this hart's timer interrupt come at `deadline`, and not before.
pub(crate) fn program_timer(deadline: u64) {
    if HAS_STIMECMP.load(Ordering::Relaxed) {
        // SAFETY: when an interrupt comes that is dealt with whenever it does.
        unsafe { csr::write::<{ num::STIMECMP }>(deadline) };
    } else {
        sbi::set_timer(deadline);
    }
}

/// The time counter.
#[inline]
pub(crate) fn time() -> u64 {
    csr::read::<{ num::TIME }>()
}
