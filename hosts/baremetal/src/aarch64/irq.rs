//! Interrupts of the hypervisor.

use core::sync::atomic::{AtomicU32, Ordering};

use axvcpu_arm::gic::{HYPERVISOR_TIMER, MAINTENANCE, PHYSICAL_TIMER, SPURIOUS, VIRTUAL_TIMER};
use fdt::Fdt;

use super::gic;
use crate::cpu::Cpu;
use crate::{Hal, console, println, status, timer, uart};

/// The serial port's interrupt, once it is routed.
static INPUT: AtomicU32 = AtomicU32::new(SPURIOUS);

/// Lets the interrupts that this CPU deals with end waits and runs.
pub(crate) fn init_cpu() {
    if !gic::init_cpu() {
        println!(
            "axvcpu: there is no redistributor of interrupts for CPU {:#x}",
            super::affinity()
        );
        crate::exit(status::HOST);
    }
    super::program_timer(u64::MAX);
}

/// Lets the serial port's interrupt through to CPU 0, which calls this.
pub(crate) fn route_input(tree: &Fdt<'static>) {
    if let Some(intid) = uart::node(tree).as_ref().and_then(gic::shared) {
        INPUT.store(intid, Ordering::Relaxed);
        gic::enable_shared(intid);
    }
}

/// Makes this CPU's kick pending.
pub(crate) fn kick_self() {
    gic::kick(super::affinity() as u64);
}

/// Makes the kick of another CPU pending.
pub(crate) fn kick(affinity: usize) {
    gic::kick(affinity as u64);
}

/// The number of the interrupt that is pending: its INTID.
#[inline]
pub(crate) fn pending() -> usize {
    gic::pending() as usize
}

/// Deals with everything that is pending on this CPU.
pub(crate) fn dispatch() {
    let Some(mut intid) = gic::acknowledge() else { return };
    let cpu = Cpu::this();
    cpu.was_interrupted();
    loop {
        match intid {
            VIRTUAL_TIMER | PHYSICAL_TIMER => {
                let is_guests = axvcpu_aarch64::guest_timer::<Hal>(intid);
                gic::drop_priority(intid);
                // The guest deactivates its own, when it is done with what that becomes there.
                if !is_guests {
                    gic::deactivate(intid);
                }
            }
            _ => {
                deal_with(intid, cpu);
                gic::drop_priority(intid);
                gic::deactivate(intid);
            }
        }
        match gic::acknowledge() {
            Some(next) => intid = next,
            None => return,
        }
    }
}

fn deal_with(intid: u32, cpu: &Cpu) {
    match intid {
        // That it came is all it says; on CPU 0 there may be room for input now.
        gic::KICK if cpu.id.load(Ordering::Relaxed) == 0 => console::pass_on_input(),
        HYPERVISOR_TIMER => timer::fired(),
        intid if intid == INPUT.load(Ordering::Relaxed) => {
            uart::receive();
            console::pass_on_input();
        }
        MAINTENANCE => axvcpu_aarch64::maintenance::<Hal>(),
        _ => {}
    }
}
