//! x86-64 as a hypervisor sees it: what every backend for x86 guests, and every machine made of them, shares.
//!
//! * [`reg`]: registers, the numbers that `set_gpr` takes, and model-specific registers.
//! * [`start`]: how CPUs start, from a reset or where a kernel wants to.
//! * [`paging`]: a guest's own tables. [`ept`]: the format of stage-2 tables, for `axvcpu_stage2::Stage2`.
//! * [`asm`]: an assembler for test guests.
//!
//! References are to the Intel 64 and IA-32 Architectures Software Developer's Manual ("SDM") and the AMD64
//! Architecture Programmer's Manual ("APM").
#![no_std]

extern crate alloc;

pub mod asm;
pub mod ept;
pub mod paging;
pub mod reg;
pub mod start;
