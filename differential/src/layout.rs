//! Where everything is in the address space, which is the same for the Linux process and for the guest.
//!
//! A file holds many programs. Each is copied to the same place before it runs, so that what it computes
//! depends on the program alone and a seed can be repeated by itself.

/// The driver, and the beginning of the image.
pub const BASE: u64 = 0x8000_0000;
/// Where programs run.
pub const CODE: u64 = BASE + 0x1_0000;
/// Room for a program's code.
pub const CODE_SIZE: u64 = 0x1_0000;
/// What a program leaves behind: its data, then its registers. A page boundary is in the data's middle.
pub const RESULT: u64 = BASE + 0x2_1000 - DATA_SIZE / 2;
/// The data area's size in bytes.
pub const DATA_SIZE: u64 = 2048;
/// What `x30` holds.
pub const DATA_MIDDLE: u64 = RESULT + DATA_SIZE / 2;
/// Where the registers are stored at the end: `x1` to `x31`, `f0` to `f31`, `fcsr`.
pub const REGISTERS: u64 = RESULT + DATA_SIZE;
/// How many bytes a program leaves behind.
pub const RESULT_SIZE: u64 = DATA_SIZE + 8 * (31 + 32 + 1);
/// Page tables, for the guest that uses them.
pub const TABLES: u64 = BASE + 0x3_0000;
/// The programs.
pub const PROGRAMS: u64 = BASE + 0x4_0000;
/// The end of the address space the guest has: 16 MiB.
pub const END: u64 = BASE + 0x100_0000;
