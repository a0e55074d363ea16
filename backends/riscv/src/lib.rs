//! RISC-V as a hypervisor sees it: what its backends, their guests' machine and the test guests share.
//!
//! * [`csr`]: control and status registers, their bits, and the numbers of interrupts and exceptions.
//! * [`paging`]: Sv39 to Sv57, of a guest's own and of stage 2.
//! * [`stage2`]: the format of stage-2 tables, for `axvcpu_stage2::Stage2`.
//! * [`asm`]: an assembler for test guests, which can be read backwards too.
#![no_std]

extern crate alloc;

pub mod asm;
pub mod csr;
pub mod paging;
pub mod stage2;
