//! The machine's serial port.
#![allow(unsafe_code)] // promises what the device tree says

mod ns16550;
mod pl011;

use core::sync::atomic::{AtomicU8, Ordering};

use fdt::Fdt;
use fdt::node::FdtNode;

use crate::machine;

/// Which kind there is.
static KIND: AtomicU8 = AtomicU8::new(NONE);

/// None is known yet: output goes to the firmware's console.
const NONE: u8 = 0;
const NS16550: u8 = 1;
const PL011: u8 = 2;

/// Which kind a node is.
fn kind(node: &FdtNode<'_, '_>) -> u8 {
    let names = node.compatible().into_iter().flat_map(|names| names.all());
    let kinds = names.map(|name| match name {
        "ns16550a" | "ns16550" => NS16550,
        "arm,pl011" => PL011,
        _ => NONE,
    });
    kinds.max().unwrap_or(NONE)
}

/// The port's node: the one that the device tree says output goes to, else any.
pub(crate) fn node<'b, 'a>(tree: &'b Fdt<'a>) -> Option<FdtNode<'b, 'a>> {
    let chosen = tree.find_node("/chosen").and_then(|chosen| chosen.property("stdout-path"));
    let path = chosen.and_then(|path| path.as_str()).and_then(|path| path.split(':').next());
    path.and_then(|path| tree.find_node(path))
        .into_iter()
        .chain(tree.all_nodes())
        .find(|node| kind(node) != NONE)
}

/// Uses the port that the device tree tells of.
pub(crate) fn find(tree: &Fdt<'_>) {
    let Some(port) = node(tree) else { return };
    let Some(base) = machine::base(&port) else { return };
    let kind = kind(&port);
    // SAFETY: the device tree's word.
    unsafe {
        if kind == NS16550 {
            let shift = port.property("reg-shift").and_then(|shift| shift.as_usize());
            ns16550::init(base, shift.unwrap_or(0));
        } else {
            pl011::init(base);
        }
    }
    KIND.store(kind, Ordering::Relaxed);
}

/// Sends bytes, waiting for room. Without a port they go to the firmware's console.
pub(crate) fn send(bytes: &[u8]) {
    match KIND.load(Ordering::Relaxed) {
        NS16550 => ns16550::send(bytes),
        PL011 => pl011::send(bytes),
        _ => crate::arch::write_console(bytes),
    }
}

/// Takes over what was received.
pub(crate) fn receive() {
    match KIND.load(Ordering::Relaxed) {
        NS16550 => ns16550::receive(),
        PL011 => pl011::receive(),
        _ => {}
    }
}
