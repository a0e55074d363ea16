//! Virtual harts on the RISC-V hypervisor extension: the hardware backend of AxVCpu for riscv64.
#![cfg_attr(not(test), no_std)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod asm;
mod csr;
mod decode;
mod edge;
mod exit;
pub mod hext;
mod image;
mod percpu;
mod prepare;
mod sbi;
mod slot;
mod switch;
mod vcpu;

pub use percpu::{Features, RiscvPerCpu, features};
pub use slot::MAX_CPUS;
pub use vcpu::{RiscvConfig, RiscvVCpu};
