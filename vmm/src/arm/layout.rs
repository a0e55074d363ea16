//! Where things are in the guest's physical address space: as on QEMU's `virt` board, which every AArch64 kernel and
//! bootloader knows.

/// The interrupt distributor's first byte.
pub const DISTRIBUTOR_BASE: u64 = 0x0800_0000;
/// The first redistributor's first byte; the others follow.
pub const REDISTRIBUTOR_BASE: u64 = 0x080a_0000;
/// The serial port's first byte.
pub const UART_BASE: u64 = 0x0900_0000;
/// The bytes of address space the serial port has.
pub const UART_SIZE: u64 = 0x1000;
/// The serial port's interrupt, the first shared one but one.
pub const UART_INTID: u32 = 33;
/// Where memory begins.
pub const RAM_BASE: u64 = 0x4000_0000;
