//! Where things are: in the guest's physical memory, at its I/O ports, and at the inputs of its interrupt controllers.
//! As on a PC, as far as guests know without being told.

/// Where the descriptors are that the first CPU starts with.
pub const GDT: u64 = 0x5000;
/// What a PVH kernel is given: `hvm_start_info`, with its lists behind it.
pub const START_INFO: u64 = 0x6000;
/// What everything in long mode is given: Linux's `boot_params`, the "zero page".
pub const BOOT_PARAMS: u64 = 0x7000;
/// More for Linux to read: a list of `setup_data`.
pub const SETUP_DATA: u64 = 0x8000;
/// The root of the page tables that long mode starts with. The other tables follow, 20 KiB in all.
pub const PML4: u64 = 0x9000;
/// How much of memory those tables map, each address to itself.
pub const MAPPED: u64 = 4 << 30;
/// The kernel's command line.
pub const CMDLINE: u64 = 0x2_0000;
/// The most bytes that a command line has, its NUL included.
pub const CMDLINE_SIZE: u64 = 0x1_0000;
/// The end of the memory below 1 MiB that is the guest's to use. On PCs the firmware's data begins here.
pub const LOW_END: u64 = 0x9_fc00;
/// The ACPI tables, the first of them (RSDP) first. This is where it is searched for.
pub const ACPI: u64 = 0xe_0000;
/// The end of what PCs have for firmware, and the beginning of the memory that kernels and programs go to. Flat
/// binaries begin here.
pub const HIGH: u64 = 0x10_0000;
/// Where memory makes room for devices.
pub const HOLE: u64 = 3 << 30;
/// Where memory goes on.
pub const HOLE_END: u64 = 4 << 30;

/// The I/O APIC's first byte. The hypervisor has it.
pub const IO_APIC: u32 = 0xfec0_0000;
/// The local APICs' first byte. The hypervisor has them, too.
pub const LOCAL_APIC: u32 = 0xfee0_0000;

/// The serial port's first I/O port: what is COM1 on PCs.
pub const UART_PORT: u16 = 0x3f8;
/// How many ports it has.
pub const UART_PORTS: u16 = 8;
/// The input of the interrupt controllers that it is connected to.
pub const UART_GSI: u32 = 4;

/// The first port of ACPI's PM1 event registers: two of status, two that enable.
pub const PM1_EVENT: u16 = 0x600;
/// The first of the two ports of ACPI's PM1 control register.
pub const PM1_CONTROL: u16 = 0x604;
/// The reset control register of chip sets.
pub const RESET: u16 = 0xcf9;
/// The command and status register of the keyboard controller, which can reset a PC, and does nothing else here.
pub const KEYBOARD: u16 = 0x64;
/// Where firmware says how far it got, and where kernels write to let time pass.
pub const POST: u16 = 0x80;

/// The interrupt that ACPI's registers would raise.
pub const SCI: u32 = 9;
/// The input of the I/O APIC that the PIT is connected to, which is interrupt 0 of the PICs.
pub const PIT_GSI: u32 = 2;
