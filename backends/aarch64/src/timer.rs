//! Interrupts on behalf of guests that arrive at the host.
#![allow(unsafe_code)] // follows the slot's pointer

use axvcpu::AxVCpuHal;
use axvcpu_arm::sysreg::ICH_HCR_EL2;

use crate::control::ich_hcr;
use crate::gic::timer_bit;
use crate::image::todo;
use crate::slot::Slot;
use crate::sys;

/// Passes the interrupt of a guest's timer on to the guest whose timer it is: the host's handler of INTIDs 27 and 30.
///
/// The host calls it on the CPU that took the interrupt, its own interrupts masked, after it has acknowledged it. Then it
/// drops the priority (`ICC_EOIR1_EL1` with `ICC_CTLR_EL1.EOImode` 1). If this answers `true` the host does not deactivate the
/// interrupt: it stays active until the guest has ended its own, or until the guest leaves the CPU. `false`: it is
/// no guest's, and the host deactivates it.
#[must_use]
pub fn guest_timer<H: AxVCpuHal>(intid: u32) -> bool {
    let bit = timer_bit(intid);
    let resident = Slot::enabled::<H>().map_or(core::ptr::null_mut(), |slot| slot.resident.get());
    // SAFETY: a vCPU in this CPU's slot is bound to it and alive, as unbinding removes it from there.
    match unsafe { resident.as_ref() } {
        Some(shared) if bit != 0 => {
            shared.ask(bit);
            true
        }
        _ => false,
    }
}

/// Ends the reason of a maintenance interrupt: the host's handler of INTID 25, which calls it before it ends the interrupt.
/// What the virtual CPU interface asks for is done before the next entry. Most of the time it has been done already.
pub fn maintenance<H: AxVCpuHal>() {
    let Some(slot) = Slot::enabled::<H>() else { return };
    // SAFETY: as above.
    if let Some(shared) = unsafe { slot.resident.get().as_ref() } {
        shared.ask(todo::INTERRUPTS);
    }
    let counted = sys::read::<ICH_HCR_EL2>() & ich_hcr::COUNT;
    // SAFETY: the interface is off until then, and no guest is in between.
    unsafe { sys::write::<ICH_HCR_EL2>(counted) };
    sys::synchronize();
}
