//! A RISC-V hart in software, as an [`AxVCpu`](axvcpu::AxVCpu) backend that runs on any host.
//!
//! [`SoftVCpu`] executes a guest's instructions one after another, without any help from the hardware. It sees
//! the guest as a RISC-V hypervisor extension does: a supervisor in VS-mode above G-stage page tables, whose
//! environment calls, device accesses and waits are exits. It is the backend that always works, and the one that
//! others are compared with.
//!
//! How it gets its speed: instructions are decoded once into blocks (module `exec`), whose handlers jump from one to
//! the next; loads and stores find host memory through a cache of translations (module `mmu`) in a few instructions;
//! time, interrupts and other threads' requests are looked at between slices of about a thousand instructions.
//!
//! With [`Clock::Instructions`] a run is exactly repeatable.

#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod clock;
mod exec;
pub mod fp;
mod hart;
mod mmu;
mod ram;
mod vcpu;

pub use clock::{Clock, NS_PER_TICK, VirtualClock};
pub use vcpu::{SoftConfig, SoftPerCpu, SoftVCpu};

/// The extensions of the hart, as a device tree's `riscv,isa` has them.
pub const ISA: &str = "rv64imafdc_zicntr_zicsr_zifencei_zba_zbb_zbs_svade_sstc";

/// The widest address translation of the hart, as a device tree's `mmu-type` has it.
pub const MMU_TYPE: &str = "riscv,sv57";
