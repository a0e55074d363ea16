//! The device tree: what the guest learns about its machine (Devicetree Specification 0.4, and the
//! bindings of Linux for the RISC-V nodes).

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use axvcpu_riscv::csr::irq;
use vm_fdt::{Error, FdtWriter};

use super::layout::{PLIC_BASE, UART_BASE, UART_IRQ, UART_SIZE};
use super::plic;
use crate::fdt::Boot;

/// What differs from machine to machine.
pub(super) struct Machine<'a> {
    pub(super) cpus: usize,
    pub(super) isa: &'a str,
    pub(super) mmu_type: &'a str,
    pub(super) timebase: u32,
    pub(super) boot: Boot<'a>,
}

const PLIC_PHANDLE: u32 = 1;
/// The interrupt input of hart 0; the others follow.
const FIRST_CPU_PHANDLE: u32 = 2;
/// An interrupt input that is not connected.
const NOT_CONNECTED: u32 = u32::MAX;
/// The input clock of the serial port, from which drivers compute divisors that nobody looks at.
const UART_CLOCK_HZ: u32 = 3_686_400;

/// The tree as a flattened blob.
pub(super) fn build(machine: &Machine<'_>) -> Result<Vec<u8>, Error> {
    let mut fdt = FdtWriter::new()?;
    let root = fdt.begin_node("")?;
    fdt.property_u32("#address-cells", 2)?;
    fdt.property_u32("#size-cells", 2)?;
    fdt.property_string("compatible", "riscv-virtio")?;
    fdt.property_string("model", "axvcpu,virt")?;
    machine.boot.write(&mut fdt, &format!("/soc/serial@{UART_BASE:x}"))?;
    cpus(&mut fdt, machine)?;
    soc(&mut fdt, machine)?;
    fdt.end_node(root)?;
    fdt.finish()
}

fn cpus(fdt: &mut FdtWriter, machine: &Machine<'_>) -> Result<(), Error> {
    let extensions = extensions(machine.isa);
    let has = |name: &str| extensions.iter().any(|extension| extension == name);
    let cpus = fdt.begin_node("cpus")?;
    fdt.property_u32("#address-cells", 1)?;
    fdt.property_u32("#size-cells", 0)?;
    fdt.property_u32("timebase-frequency", machine.timebase)?;
    for hart in 0..machine.cpus as u32 {
        let cpu = fdt.begin_node(&format!("cpu@{hart:x}"))?;
        fdt.property_string("device_type", "cpu")?;
        fdt.property_u32("reg", hart)?;
        fdt.property_string("status", "okay")?;
        fdt.property_string("compatible", "riscv")?;
        fdt.property_string("riscv,isa", machine.isa)?;
        fdt.property_string("riscv,isa-base", "rv64i")?;
        fdt.property_string_list("riscv,isa-extensions", extensions.clone())?;
        fdt.property_string("mmu-type", machine.mmu_type)?;
        for (extension, property) in
            [("zicbom", "riscv,cbom-block-size"), ("zicboz", "riscv,cboz-block-size")]
        {
            if has(extension) {
                fdt.property_u32(property, 64)?;
            }
        }
        let intc = fdt.begin_node("interrupt-controller")?;
        fdt.property_u32("#interrupt-cells", 1)?;
        fdt.property_null("interrupt-controller")?;
        fdt.property_string("compatible", "riscv,cpu-intc")?;
        fdt.property_phandle(FIRST_CPU_PHANDLE + hart)?;
        fdt.end_node(intc)?;
        fdt.end_node(cpu)?;
    }
    fdt.end_node(cpus)
}

fn soc(fdt: &mut FdtWriter, machine: &Machine<'_>) -> Result<(), Error> {
    let soc = fdt.begin_node("soc")?;
    fdt.property_u32("#address-cells", 2)?;
    fdt.property_u32("#size-cells", 2)?;
    fdt.property_string("compatible", "simple-bus")?;
    fdt.property_null("ranges")?;

    let intc = fdt.begin_node(&format!("interrupt-controller@{PLIC_BASE:x}"))?;
    let compatible = ["sifive,plic-1.0.0", "riscv,plic0"].map(ToOwned::to_owned);
    fdt.property_string_list("compatible", compatible.into())?;
    fdt.property_array_u64("reg", &[PLIC_BASE, plic::SIZE])?;
    fdt.property_u32("#interrupt-cells", 1)?;
    fdt.property_u32("#address-cells", 0)?;
    fdt.property_null("interrupt-controller")?;
    // The position in the list is the context number.
    let contexts: Vec<u32> = (0..machine.cpus as u32)
        .map(|hart| FIRST_CPU_PHANDLE + hart)
        .flat_map(|cpu| [cpu, NOT_CONNECTED, cpu, irq::EXTERNAL as u32])
        .collect();
    fdt.property_array_u32("interrupts-extended", &contexts)?;
    fdt.property_u32("riscv,ndev", plic::SOURCES)?;
    fdt.property_phandle(PLIC_PHANDLE)?;
    fdt.end_node(intc)?;

    let serial = fdt.begin_node(&format!("serial@{UART_BASE:x}"))?;
    fdt.property_string("compatible", "ns16550a")?;
    fdt.property_array_u64("reg", &[UART_BASE, UART_SIZE])?;
    fdt.property_u32("clock-frequency", UART_CLOCK_HZ)?;
    fdt.property_u32("interrupt-parent", PLIC_PHANDLE)?;
    fdt.property_u32("interrupts", UART_IRQ)?;
    fdt.end_node(serial)?;
    fdt.end_node(soc)
}

/// The extensions of an ISA string (`rv64imafdc_zicntr_sstc`), one by one.
pub(super) fn extensions(isa: &str) -> Vec<String> {
    let isa = isa.strip_prefix("rv64").unwrap_or(isa);
    let mut parts = isa.split('_');
    let mut extensions: Vec<String> = Vec::new();
    let mut add = |name: &str| {
        if !name.is_empty() && !extensions.iter().any(|known| known == name) {
            extensions.push(name.to_owned());
        }
    };
    for letter in parts.next().unwrap_or("").chars() {
        match letter {
            // "General": a name for these, and none itself.
            'g' => ["i", "m", "a", "f", "d", "zicsr", "zifencei"].into_iter().for_each(&mut add),
            letter => add(letter.encode_utf8(&mut [0; 4])),
        }
    }
    parts.for_each(&mut add);
    extensions
}

#[cfg(test)]
#[path = "fdt_tests.rs"]
mod tests;
