//! RISC-V as a hypervisor sees it: CSRs, page-table formats, instruction decoding, stage-2 tables.
#![no_std]

extern crate alloc;

pub mod asm;
pub mod csr;
pub mod paging;
pub mod stage2;
