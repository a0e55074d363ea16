//! Virtual harts on the RISC-V hypervisor extension.
#![no_std]

mod percpu;
mod vcpu;

pub use percpu::{Features, RiscvPerCpu, features};
pub use vcpu::{RiscvConfig, RiscvVCpu};
