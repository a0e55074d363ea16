//! The platform-level interrupt controller, as far as one context of it is used (PLIC 1.0.0).
#![allow(unsafe_code)] // device registers

use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

use fdt::Fdt;
use fdt::node::FdtNode;

use crate::cpu::Cpu;
use crate::{console, machine, uart};

/// The claim register of CPU 0; 0 as long as nothing is routed there.
static CLAIM: AtomicUsize = AtomicUsize::new(0);

fn register(addr: usize) -> *mut u32 {
    addr as *mut u32
}

/// Lets the serial port's interrupt through to CPU 0, which calls this.
pub(crate) fn route_input(tree: &Fdt<'static>) {
    let hart = Cpu::this().hardware_id.load(Ordering::Relaxed);
    let Some(Route { base, context, uart }) = route(tree, hart) else { return };
    let claim = base + 0x20_0004 + 0x1000 * context;
    // SAFETY: the controller's registers, from the device tree.
    unsafe {
        register(base + 4 * uart as usize).write_volatile(1); // priority
        let enable = base + 0x2000 + 0x80 * context + 4 * (uart as usize / 32);
        register(enable).write_volatile(1 << (uart % 32));
        register(claim - 4).write_volatile(0); // threshold
    }
    CLAIM.store(claim, Ordering::Relaxed);
}

struct Route {
    base: usize,
    /// The number of the hart's supervisor context.
    context: usize,
    /// The serial port's interrupt.
    uart: u32,
}

fn route(tree: &Fdt<'_>, hart: usize) -> Option<Route> {
    /// The supervisor's external interrupt, as the hart's own controller numbers it.
    const SUPERVISOR_EXTERNAL: u32 = 9;
    let cells = |node: &FdtNode<'_, '_>, name: &str| Some(machine::cells(node, name)?.collect());
    let node = tree.find_compatible(&["sifive,plic-1.0.0", "riscv,plic0"])?;
    let cpu = tree
        .find_all_nodes("/cpus/cpu")
        .find(|cpu| machine::base(cpu).is_some_and(|number| number == hart))?;
    let controller =
        cpu.children().find(|child| child.property("interrupt-controller").is_some())?;
    let own = machine::cells(&controller, "phandle")?.next()?;
    let contexts: Vec<u32> = cells(&node, "interrupts-extended")?;
    let context = contexts.chunks_exact(2).position(|pair| pair == [own, SUPERVISOR_EXTERNAL])?;
    let uart = machine::cells(&uart::node(tree)?, "interrupts")?.next()?;
    Some(Route { base: machine::base(&node)?, context, uart })
}

/// Deals with what is pending for this hart.
pub(super) fn dispatch() {
    let claim = CLAIM.load(Ordering::Relaxed);
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
