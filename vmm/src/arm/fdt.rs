//! The device tree: what the guest learns about its machine (Devicetree Specification 0.4, and the bindings of Linux
//! for the Arm nodes).

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::vec::Vec;
use axvcpu_arm::affinity;

use vm_fdt::{Error, FdtWriter};

use super::gic::{DISTRIBUTOR_SIZE, REDISTRIBUTOR_SIZE};
use super::layout::{DISTRIBUTOR_BASE, REDISTRIBUTOR_BASE, UART_BASE, UART_INTID, UART_SIZE};
use crate::fdt::Boot;

/// What differs from machine to machine.
pub(super) struct Machine<'a> {
    pub(super) cpus: usize,
    pub(super) boot: Boot<'a>,
}

const GIC_PHANDLE: u32 = 1;
const CLOCK_PHANDLE: u32 = 2;
/// The input clock of the serial port, from which drivers compute divisors that nobody looks at.
const UART_CLOCK_HZ: u32 = 24_000_000;

/// The kinds of interrupts in a specifier, and its flags.
mod irq {
    pub(super) const SPI: u32 = 0;
    pub(super) const PPI: u32 = 1;
    pub(super) const LEVEL_HIGH: u32 = 4;
    pub(super) const LEVEL_LOW: u32 = 8;
}

/// The timers' private interrupts, less 16: secure and non-secure physical, virtual, hypervisor's (BSA, "PPI
/// assignments"). A guest has the second and the third; their order is the binding's.
const TIMERS: [u32; 4] = [13, 14, 11, 10];

/// The tree as a flattened blob.
pub(super) fn build(machine: &Machine<'_>) -> Result<Vec<u8>, Error> {
    let serial = format!("/serial@{UART_BASE:x}");
    let mut fdt = FdtWriter::new()?;
    let root = fdt.begin_node("")?;
    fdt.property_u32("#address-cells", 2)?;
    fdt.property_u32("#size-cells", 2)?;
    fdt.property_string("compatible", "linux,dummy-virt")?;
    fdt.property_string("model", "axvcpu,virt")?;
    fdt.property_u32("interrupt-parent", GIC_PHANDLE)?;
    let aliases = fdt.begin_node("aliases")?;
    fdt.property_string("serial0", &serial)?;
    fdt.end_node(aliases)?;
    machine.boot.write(&mut fdt, &serial)?;
    firmware(&mut fdt)?;
    cpus(&mut fdt, machine.cpus)?;
    timer(&mut fdt)?;
    interrupt_controller(&mut fdt, machine.cpus)?;
    serial_port(&mut fdt)?;
    fdt.end_node(root)?;
    fdt.finish()
}

fn strings(fdt: &mut FdtWriter, name: &str, values: &[&str]) -> Result<(), Error> {
    fdt.property_string_list(name, values.iter().map(|&value| value.to_owned()).collect())
}

fn firmware(fdt: &mut FdtWriter) -> Result<(), Error> {
    let psci = fdt.begin_node("psci")?;
    strings(fdt, "compatible", &["arm,psci-1.0", "arm,psci-0.2"])?;
    fdt.property_string("method", "hvc")?;
    fdt.end_node(psci)
}

fn cpus(fdt: &mut FdtWriter, count: usize) -> Result<(), Error> {
    let cpus = fdt.begin_node("cpus")?;
    fdt.property_u32("#address-cells", 1)?;
    fdt.property_u32("#size-cells", 0)?;
    for affinity in (0..count).map(affinity::of) {
        let cpu = fdt.begin_node(&format!("cpu@{affinity:x}"))?;
        fdt.property_string("device_type", "cpu")?;
        fdt.property_u32("reg", affinity as u32)?;
        fdt.property_string("compatible", "arm,armv8")?;
        fdt.property_string("enable-method", "psci")?;
        fdt.end_node(cpu)?;
    }
    fdt.end_node(cpus)
}

fn timer(fdt: &mut FdtWriter) -> Result<(), Error> {
    let timer = fdt.begin_node("timer")?;
    fdt.property_string("compatible", "arm,armv8-timer")?;
    let interrupts: Vec<u32> =
        TIMERS.into_iter().flat_map(|ppi| [irq::PPI, ppi, irq::LEVEL_LOW]).collect();
    fdt.property_array_u32("interrupts", &interrupts)?;
    // They go on while a CPU stands by.
    fdt.property_null("always-on")?;
    fdt.end_node(timer)
}

fn interrupt_controller(fdt: &mut FdtWriter, cpus: usize) -> Result<(), Error> {
    let gic = fdt.begin_node(&format!("interrupt-controller@{DISTRIBUTOR_BASE:x}"))?;
    fdt.property_string("compatible", "arm,gic-v3")?;
    let redistributors = REDISTRIBUTOR_SIZE * cpus as u64;
    let reg = [DISTRIBUTOR_BASE, DISTRIBUTOR_SIZE, REDISTRIBUTOR_BASE, redistributors];
    fdt.property_array_u64("reg", &reg)?;
    fdt.property_u32("#redistributor-regions", 1)?;
    fdt.property_u32("#interrupt-cells", 3)?;
    fdt.property_u32("#address-cells", 0)?;
    fdt.property_null("interrupt-controller")?;
    fdt.property_phandle(GIC_PHANDLE)?;
    fdt.end_node(gic)
}

fn serial_port(fdt: &mut FdtWriter) -> Result<(), Error> {
    let clock = fdt.begin_node("apb-pclk")?;
    fdt.property_string("compatible", "fixed-clock")?;
    fdt.property_u32("#clock-cells", 0)?;
    fdt.property_u32("clock-frequency", UART_CLOCK_HZ)?;
    fdt.property_string("clock-output-names", "clk24mhz")?;
    fdt.property_phandle(CLOCK_PHANDLE)?;
    fdt.end_node(clock)?;

    let serial = fdt.begin_node(&format!("serial@{UART_BASE:x}"))?;
    strings(fdt, "compatible", &["arm,pl011", "arm,primecell"])?;
    fdt.property_array_u64("reg", &[UART_BASE, UART_SIZE])?;
    let number = UART_INTID - axvcpu_arm::gic::PRIVATE;
    fdt.property_array_u32("interrupts", &[irq::SPI, number, irq::LEVEL_HIGH])?;
    fdt.property_array_u32("clocks", &[CLOCK_PHANDLE, CLOCK_PHANDLE])?;
    strings(fdt, "clock-names", &["uartclk", "apb_pclk"])?;
    fdt.end_node(serial)
}

#[cfg(test)]
#[path = "fdt_tests.rs"]
mod tests;
