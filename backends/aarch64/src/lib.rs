//! Virtual CPUs on AArch64 EL2: the hardware backend of AxVCpu for AArch64.
//!
//! [`ArmPerCpu`] takes EL2's virtualization over on a physical CPU and gives it back, [`features`] tells what it can do there, and
//! [`ArmVCpu`] runs a guest on it. What the host has to keep to is told with the first; its interrupts are masked from before a
//! run until after it. The guest's timers are the CPU's own, and their interrupts arrive at the host: it calls
//! [`guest_timer`], and [`maintenance`] for the GIC's.
#![cfg_attr(not(test), no_std)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod abort;
mod asm;
mod config;
mod control;
mod decode;
mod el1;
mod exit;
mod gic;

mod idregs;
mod image;
mod interface;
mod open;
mod percpu;
mod prepare;
mod raise;
mod slot;
mod spilled;
mod switch;
mod sys;
mod sysreg;
mod timer;
mod vcpu;
mod vmid;

pub use config::ArmConfig;
pub use percpu::{ArmPerCpu, Features, features};
pub use slot::MAX_CPUS;
pub use timer::{guest_timer, maintenance};
pub use vcpu::ArmVCpu;
