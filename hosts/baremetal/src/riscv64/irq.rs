//! Interrupts of the hypervisor.
#![allow(unsafe_code)] // device registers, CSRs

use core::sync::atomic::{AtomicUsize, Ordering};

use axvcpu_riscv::csr::{irq, num};

use super::cpu::Cpu;
use super::{csr, timer};
use crate::{console, uart};

/// The platform-level interrupt controller, as far as one context of it is used (PLIC 1.0.0).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plic {
    pub(crate) base: usize,
    /// The number of this CPU's supervisor context.
    pub(crate) context: usize,
    /// The serial port's interrupt.
    pub(crate) uart: u32,
}

static PLIC_CLAIM: AtomicUsize = AtomicUsize::new(0);

fn register(addr: usize) -> *mut u32 {
    addr as *mut u32
}

impl Plic {
    /// Lets the serial port's interrupt through to CPU 0, which calls this.
    pub(crate) fn init(self) {
        let claim = self.base + 0x20_0004 + 0x1000 * self.context;
        // SAFETY: the controller's registers, from the device tree.
        unsafe {
            register(self.base + 4 * self.uart as usize).write_volatile(1); // priority
            let enable = self.base + 0x2000 + 0x80 * self.context + 4 * (self.uart as usize / 32);
            register(enable).write_volatile(1 << (self.uart % 32));
            register(claim - 4).write_volatile(0); // threshold
        }
        PLIC_CLAIM.store(claim, Ordering::Relaxed);
    }
}

/// Lets the interrupts that this CPU deals with end waits and runs.
pub(crate) fn enable() {
    const ALL: u64 = 1 << irq::SOFTWARE | 1 << irq::TIMER | 1 << irq::EXTERNAL;
    // SAFETY: they are pending only: `sstatus.SIE` is never set.
    unsafe { csr::write::<{ num::SIE }>(ALL) };
}

/// Makes this CPU's software interrupt pending.
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
    cpu.interrupts.store(cpu.interrupts.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
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
        external();
    }
}

fn external() {
    let claim = PLIC_CLAIM.load(Ordering::Relaxed);
    if claim == 0 {
        return;
    }
    loop {
        // SAFETY: the claim register, from the device tree. Reading it takes the interrupt.
        let number = unsafe { register(claim).read_volatile() };
        if number == 0 {
            return;
        }
        // Only the serial port's is enabled.
        uart::receive();
        console::pass_on_input();
        // SAFETY: as above; writing it gives the interrupt back.
        unsafe { register(claim).write_volatile(number) };
    }
}
