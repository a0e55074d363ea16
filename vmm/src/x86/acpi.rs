//! ACPI tables: which CPUs and interrupt controllers there are, and how to switch the machine off (ACPI Specification
//! 6.5; sections are given at each table).

use alloc::vec::Vec;

use super::layout::{
    ACPI, IO_APIC, LOCAL_APIC, PIT_GSI, PM1_CONTROL, PM1_EVENT, RESET, SCI, UART_GSI, UART_PORT,
    UART_PORTS,
};

/// What is written to the sleep type of the control register to switch the machine off.
pub(super) const SOFT_OFF: u8 = 5;
/// What is written to the reset register to reset the machine.
pub(super) const RESET_VALUE: u8 = 6;

const OEM_ID: &[u8; 6] = b"AXVCPU";
const OEM_TABLE: &[u8; 8] = b"AXVCPUVM";
const HEADER: usize = 36;
/// Where the checksum is in a table's header.
const CHECKSUM: usize = 9;
/// What tables are aligned to: FACS demands it (5.2.10).
const ALIGN: usize = 64;

/// The tables of a machine with so many CPUs, for the address [`ACPI`]; the RSDP is the first.
pub(super) fn build(cpus: u8) -> Vec<u8> {
    let mut out = Vec::from([0; HEADER]); // for the RSDP, which is as large as a header
    let mut add = |table: &[u8]| {
        out.resize(out.len().next_multiple_of(ALIGN), 0);
        let at = ACPI + out.len() as u64;
        out.extend(table);
        at
    };
    let facs = add(&facs());
    let dsdt = add(&table(b"DSDT", 2, &dsdt()));
    let fadt = add(&table(b"FACP", 6, &fadt(facs, dsdt)));
    let madt = add(&table(b"APIC", 5, &madt(cpus)));
    let pointers: Vec<u8> = [fadt, madt].into_iter().flat_map(u64::to_le_bytes).collect();
    let xsdt = add(&table(b"XSDT", 1, &pointers));
    out[..HEADER].copy_from_slice(&rsdp(xsdt));
    out
}

/// What, added to the bytes, makes their sum zero.
fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |sum, &byte| sum.wrapping_add(byte)).wrapping_neg()
}

/// A table with its header (5.2.6).
fn table(signature: &[u8; 4], revision: u8, body: &[u8]) -> Vec<u8> {
    let mut table = Vec::from(*signature);
    table.extend(((HEADER + body.len()) as u32).to_le_bytes());
    table.extend([revision, 0]);
    table.extend(OEM_ID);
    table.extend(OEM_TABLE);
    table.extend(1u32.to_le_bytes()); // the revision of this table
    table.extend(*b"AXVC"); // who made it
    table.extend(1u32.to_le_bytes());
    table.extend(body);
    table[CHECKSUM] = checksum(&table);
    table
}

/// The root pointer (5.2.5.3), without the older table of 32-bit pointers.
fn rsdp(xsdt: u64) -> [u8; HEADER] {
    const OLD: usize = 20;
    const OLD_CHECKSUM: usize = 8;
    const NEW_CHECKSUM: usize = 32;
    let mut rsdp = [0; HEADER];
    rsdp[..8].copy_from_slice(b"RSD PTR ");
    rsdp[9..15].copy_from_slice(OEM_ID);
    rsdp[15] = 2; // the revision of this structure
    rsdp[20..24].copy_from_slice(&(HEADER as u32).to_le_bytes());
    rsdp[24..32].copy_from_slice(&xsdt.to_le_bytes());
    rsdp[OLD_CHECKSUM] = checksum(&rsdp[..OLD]);
    rsdp[NEW_CHECKSUM] = checksum(&rsdp);
    rsdp
}

/// What firmware and operating system share (5.2.10). Nothing here ever sleeps with its memory kept, so that all of it
/// stays zero. It has no checksum.
fn facs() -> [u8; 64] {
    let mut facs = [0; 64];
    facs[..4].copy_from_slice(b"FACS");
    facs[4] = 64; // its length
    facs[32] = 2; // its version
    facs
}

/// The address of a register at an I/O port (5.2.3.2).
fn register(port: u16, bits: u8) -> [u8; 12] {
    const SYSTEM_IO: u8 = 1;
    const BYTE_ACCESS: u8 = 1;
    const WORD_ACCESS: u8 = 2;
    let access = if bits == 8 { BYTE_ACCESS } else { WORD_ACCESS };
    let [low, high] = port.to_le_bytes();
    [SYSTEM_IO, bits, 0, access, low, high, 0, 0, 0, 0, 0, 0]
}

/// What hardware there is for ACPI (5.2.9): the PM1 registers without timer, buttons or general-purpose events, and a
/// register for resets. ACPI mode is always on, as there is no `SMI_CMD`.
fn fadt(facs: u64, dsdt: u64) -> Vec<u8> {
    /// As long as revision 6 has it.
    const SIZE: usize = 276;
    /// `IAPC_BOOT_ARCH`: devices that nobody enumerates, no VGA, no CMOS clock; and no 8042, whose bit is clear.
    const BOOT_ARCH: u16 = 1 << 0 | 1 << 2 | 1 << 5;
    /// WBINVD works, C1 exists on all CPUs, power and sleep buttons are no fixed hardware, nor is a clock that wakes,
    /// and there is a reset register.
    const FLAGS: u32 = 1 << 0 | 1 << 2 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 10;
    /// Latencies that mean that there is no such state.
    const NO_C2: u16 = 101;
    const NO_C3: u16 = 1001;
    let mut body = [0; SIZE - HEADER];
    let mut put = |at: usize, bytes: &[u8]| {
        body[at - HEADER..][..bytes.len()].copy_from_slice(bytes);
    };
    put(36, &(facs as u32).to_le_bytes());
    put(40, &(dsdt as u32).to_le_bytes());
    put(46, &(SCI as u16).to_le_bytes());
    put(56, &u32::from(PM1_EVENT).to_le_bytes());
    put(64, &u32::from(PM1_CONTROL).to_le_bytes());
    put(88, &[4, 2]); // how many ports each has
    put(96, &NO_C2.to_le_bytes());
    put(98, &NO_C3.to_le_bytes());
    put(109, &BOOT_ARCH.to_le_bytes());
    put(112, &FLAGS.to_le_bytes());
    put(116, &register(RESET, 8));
    put(128, &[RESET_VALUE]);
    put(140, &dsdt.to_le_bytes());
    put(148, &register(PM1_EVENT, 32));
    put(172, &register(PM1_CONTROL, 16));
    body.into()
}

/// Interrupt controllers (5.2.12). CPUs have the number of their local APIC.
fn madt(cpus: u8) -> Vec<u8> {
    /// There are 8259s, too, which have to be masked.
    const PCAT_COMPAT: u32 = 1 << 0;
    const ENABLED: u32 = 1 << 0;
    const ISA: u8 = 0;
    /// Polarity and trigger mode as the bus has them, or active high and by level.
    const AS_THE_BUS: u16 = 0;
    const HIGH_LEVEL: u16 = 1 | 3 << 2;
    const ALL_CPUS: u8 = 0xff;
    let mut body = Vec::from(LOCAL_APIC.to_le_bytes());
    body.extend(PCAT_COMPAT.to_le_bytes());
    for cpu in 0..cpus {
        body.extend([0, 8, cpu, cpu]);
        body.extend(ENABLED.to_le_bytes());
    }
    body.extend([1, 12, 0, 0]); // number 0
    body.extend(IO_APIC.to_le_bytes());
    body.extend(0u32.to_le_bytes()); // its first input
    for (irq, gsi, flags) in [(0, PIT_GSI, AS_THE_BUS), (SCI as u8, SCI, HIGH_LEVEL)] {
        body.extend([2, 10, ISA, irq]);
        body.extend(gsi.to_le_bytes());
        body.extend(flags.to_le_bytes());
    }
    // NMIs come in at LINT1.
    body.extend([4, 6, ALL_CPUS]);
    body.extend(AS_THE_BUS.to_le_bytes());
    body.push(1);
    body
}

/// What the operating system interprets (20.2): how to switch off, and the serial port.
fn dsdt() -> Vec<u8> {
    const NAME: u8 = 0x08;
    const BYTE: u8 = 0x0a;
    const DWORD: u8 = 0x0c;
    const SCOPE: &[u8] = &[0x10];
    const BUFFER: &[u8] = &[0x11];
    const PACKAGE: &[u8] = &[0x12];
    const DEVICE: &[u8] = &[0x5b, 0x82];
    /// PNP0501, a 16550A, compressed (19.3.4).
    const PNP0501: [u8; 4] = [0x41, 0xd0, 0x05, 0x01];
    /// Small resource items (6.4.2): ports in 16 bits, an interrupt by edge, the end.
    const PORTS: u8 = 0x47;
    const INTERRUPT: u8 = 0x22;
    const END: [u8; 2] = [0x79, 0];

    // The type for both control registers, of which the second does not exist, and two words reserved.
    let mut aml = Vec::from([NAME]);
    aml.extend(*b"_S5_");
    aml.extend(block(PACKAGE, &[4, BYTE, SOFT_OFF, BYTE, SOFT_OFF, 0, 0]));

    let [low, high] = UART_PORT.to_le_bytes();
    let [irqs_low, irqs_high] = (1u16 << UART_GSI).to_le_bytes();
    let mut resources = Vec::from([PORTS, 1, low, high, low, high, 1, UART_PORTS as u8]);
    resources.extend([INTERRUPT, irqs_low, irqs_high]);
    resources.extend(END);
    let mut buffer = Vec::from([BYTE, resources.len() as u8]);
    buffer.extend(resources);
    let mut com1 = Vec::from(*b"COM1");
    com1.push(NAME);
    com1.extend(*b"_HID");
    com1.push(DWORD);
    com1.extend(PNP0501);
    com1.push(NAME);
    com1.extend(*b"_CRS");
    com1.extend(block(BUFFER, &buffer));
    let mut system_bus = Vec::from(*b"\\_SB_");
    system_bus.extend(block(DEVICE, &com1));
    aml.extend(block(SCOPE, &system_bus));
    aml
}

/// What begins with its length, which is one byte for all that is short (20.2.4).
fn block(op: &[u8], content: &[u8]) -> Vec<u8> {
    const SHORT: usize = 0x3f;
    let length = 1 + content.len();
    debug_assert!(length <= SHORT);
    let mut block = Vec::from(op);
    block.push(length as u8);
    block.extend(content);
    block
}

#[cfg(test)]
#[path = "acpi_tests.rs"]
mod tests;
