//! What of the device tree is RISC-V's, and the end.
#![allow(unsafe_code)] // a device's register

use core::sync::atomic::{AtomicUsize, Ordering};

use fdt::Fdt;

use super::{sbi, zero};
use crate::{machine, time};

/// What a CPU without virtualization lacks.
pub(crate) const NOT_VIRTUAL: &str =
    "has no hypervisor extension; QEMU's has with `-cpu rv64,h=true`";

/// A register of QEMU's test device that ends the machine with a status; 0 if there is none.
static FINISHER: AtomicUsize = AtomicUsize::new(0);

/// What has to be known from the start on.
pub(crate) fn init(tree: &Fdt<'static>) {
    let test = tree.find_compatible(&["sifive,test0"]);
    if let Some(at) = test.as_ref().and_then(machine::base) {
        FINISHER.store(at, Ordering::Relaxed);
    }
    let Some(cpu) = tree.cpus().next() else { return };
    let isa = cpu.property("riscv,isa").and_then(|isa| isa.as_str()).unwrap_or("");
    if isa.split('_').any(|extension| extension == "zicboz") {
        let block = cpu.property("riscv,cboz-block-size").and_then(|size| size.as_usize());
        zero::use_blocks(block.unwrap_or(0));
    }
}

/// Ticks of the time counter in a second.
pub(crate) fn timebase(tree: &Fdt<'static>) -> u64 {
    tree.find_node("/cpus")
        .and_then(|cpus| cpus.property("timebase-frequency"))
        .and_then(|hertz| hertz.as_usize())
        .unwrap_or(10_000_000) as u64
}

/// So long does the test device get to end the machine.
const PATIENCE_NS: u64 = 5_000_000_000;

/// Ends the machine at once. Comes back if it cannot.
pub(crate) fn power_off(status: u8) {
    let finisher = FINISHER.load(Ordering::Relaxed);
    if finisher != 0 {
        let code = if status == 0 { 0x5555 } else { u32::from(status) << 16 | 0x3333 };
        // SAFETY: the device's register; the last thing this machine does.
        unsafe { (finisher as *mut u32).write_volatile(code) };
        // It takes its time, and the firmware would end the machine by the same device, with a status of its own.
        let start = time::now_ns();
        while time::now_ns() - start < PATIENCE_NS {
            core::hint::spin_loop();
        }
    }
    sbi::power_off(status != 0);
}
