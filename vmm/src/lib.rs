//! A small virtual machine monitor on top of AxVCpu.
//!
//! A machine consists of vCPUs, [memory](GuestMemory), a [bus](Bus) with devices, and the
//! [firmware](Firmware) that the guest calls. [`riscv`] puts one together for RISC-V, [`arm`] for AArch64, [`x86`] for
//! x86-64. The host
//! supplies memory ([`RamBacking`]), a place for console output ([`ConsoleSink`]), a clock and a way to wait
//! ([`VmHost`]); threads are its own business: [`Vm::run_vcpu`] runs one vCPU on the calling thread or
//! physical CPU, [`Vm::run_vcpus`] several that share it, [`Vm::run_in_turn`] all of them.
//!
//! # What a guest can do
//!
//! Everything that comes from the guest or from an image file is checked before it is used. A guest that
//! misbehaves gets an error from its firmware or an access fault; nothing it does makes the monitor panic,
//! wait without end, or allocate.
//!
//! # Locks
//!
//! At most one lock is taken for an access to a device, the device's own. Memory, the interrupt controller,
//! interprocessor interrupts, remote fences and the statistics use none.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod arm;
mod bus;
mod cpus;
pub mod devices;
mod fdt;
mod host;
pub mod loader;
mod machine;
mod memory;
mod numbers;
mod outcome;
pub mod riscv;
mod run;
mod schedule;
mod stats;
pub mod summary;
#[cfg(test)]
mod testing;
mod updates;
mod vm;
pub mod x86;

pub use bus::{Bus, MmioDevice, NoDevice, RangeTaken};
pub use cpus::{AlreadyOn, Cpu, Cpus, PowerState};
pub use host::{ConsoleSink, VmHost};
pub use machine::BuildError;
pub use memory::{GuestMemory, OutsideRam, RamBacking, RamError, RamRange};
pub use outcome::Outcome;
pub use stats::{CpuStats, ExitKind};
pub use summary::{End, Summary};
pub use vm::{Call, Firmware, Next, Vm};
