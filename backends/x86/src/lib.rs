//! x86-64 as a hypervisor sees it: what every backend for x86 guests, and every machine made of them, shares.
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
