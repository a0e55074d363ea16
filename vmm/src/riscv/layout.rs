//! Where things are in the guest's physical address space: as on QEMU's `virt` board, which every RISC-V
//! kernel and bootloader knows.

/// The interrupt controller's first byte.
pub const PLIC_BASE: u64 = 0x0c00_0000;
/// The serial port's first byte.
pub const UART_BASE: u64 = 0x1000_0000;
/// The bytes of address space the serial port has; eight of them are registers.
pub const UART_SIZE: u64 = 0x100;
/// The serial port's interrupt.
pub const UART_IRQ: u32 = 10;
/// Where memory begins.
pub const RAM_BASE: u64 = 0x8000_0000;
