//! Interrupts of the hypervisor.
#![allow(unsafe_code)] // CSRs

use core::sync::atomic::Ordering;

use axvcpu_riscv::csr::{irq, num};

use super::{csr, plic};
use crate::cpu::Cpu;
use crate::{console, timer};

/// Lets the interrupts that this CPU deals with end waits and runs.
pub(crate) fn init_cpu() {
    const ALL: u64 = 1 << irq::SOFTWARE | 1 << irq::TIMER | 1 << irq::EXTERNAL;
    // SAFETY: they are pending only: `sstatus.SIE` is never set.
    unsafe { csr::write::<{ num::SIE }>(ALL) };
}

/// Makes this CPU's software interrupt pending, without the firmware.
pub(crate) fn kick_self() {
    // SAFETY: an interrupt that is dealt with whenever it comes.
    unsafe { csr::set::<{ num::SIP }>(1 << irq::SOFTWARE) };
}

/// The number of the interrupt that is pending: its code in `scause`.
#[inline]
pub(crate) fn pending() -> usize {
    let pending = csr::read::<{ num::SIP }>() & csr::read::<{ num::SIE }>();
    [irq::SOFTWARE, irq::TIMER, irq::EXTERNAL]
        .into_iter()
        .find(|code| pending & 1 << code != 0)
        .unwrap_or(0)
}

/// Deals with everything that is pending on this CPU.
pub(crate) fn dispatch() {
    let pending = csr::read::<{ num::SIP }>() & csr::read::<{ num::SIE }>();
    if pending == 0 {
        return;
    }
    let cpu = Cpu::this();
    cpu.was_interrupted();
    if pending & 1 << irq::SOFTWARE != 0 {
        // A kick: that it came is all it says.
        // SAFETY: this CPU's own interrupt.
        unsafe { csr::clear::<{ num::SIP }>(1 << irq::SOFTWARE) };
        if cpu.id.load(Ordering::Relaxed) == 0 {
            console::pass_on_input(); // there may be room for it now
        }
    }
    if pending & 1 << irq::TIMER != 0 {
        timer::fired();
    }
    if pending & 1 << irq::EXTERNAL != 0 {
        plic::dispatch();
    }
}
