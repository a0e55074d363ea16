//! Virtual harts on the RISC-V hypervisor extension: the hardware backend of AxVCpu for riscv64.
//!
//! [`RiscvPerCpu`] switches the extension on and off on a physical CPU, [`features`] tells what it can do there, and
//! [`RiscvVCpu`] runs a guest on it. What the host has to keep to is told with the first and in
//! [`AxVCpuHal::kick_cpu`](axvcpu::AxVCpuHal::kick_cpu): its interrupts are masked from before a run until after it.
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
