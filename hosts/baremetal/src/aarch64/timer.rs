//! The EL2 physical timer and its counter.
#![allow(unsafe_code)] // writes system registers

use fdt::Fdt;

use super::sysreg::{barrier, read, write};

/// Makes this CPU's timer interrupt come at `deadline`, and not before.
pub(crate) fn program_timer(deadline: u64) {
    // SAFETY: when an interrupt comes that is dealt with whenever it does.
    unsafe {
        write!("CNTHP_CVAL_EL2", deadline);
        write!("CNTHP_CTL_EL2", 1); // on, not masked
    }
    // It is no longer pending for the old time when this is done.
    barrier!("isb");
}

/// The time counter: the physical one.
#[inline]
pub(crate) fn time() -> u64 {
    barrier!("isb"); // or it may be read early
    read!("CNTPCT_EL0")
}

/// Ticks of the time counter in a second.
pub(crate) fn timebase(tree: &Fdt<'static>) -> u64 {
    // For firmware that has not told the CPU.
    let told = tree
        .find_compatible(&["arm,armv8-timer"])
        .and_then(|timer| timer.property("clock-frequency"))
        .and_then(|hertz| hertz.as_usize());
    told.map_or_else(|| read!("CNTFRQ_EL0"), |hertz| hertz as u64)
}
