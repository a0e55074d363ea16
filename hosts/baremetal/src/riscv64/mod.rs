//! The platform on RISC-V: harts under an SBI firmware.

mod boot;
mod csr;
mod irq;
mod machine;
mod plic;
mod sbi;
mod timer;
mod zero;

pub(crate) use boot::start_cpu;
#[cfg(target_os = "none")]
pub(crate) use csr::this_cpu;
pub(crate) use csr::wait_for_interrupt;
pub(crate) use irq::{dispatch, init_cpu, kick_self, pending};
pub(crate) use machine::{NOT_VIRTUAL, init, power_off, timebase};
pub(crate) use plic::route_input;
pub(crate) use sbi::{send_ipi as kick, write_console};
pub(crate) use timer::{program_timer, time, virtualized};
pub(crate) use zero::{clean, zero_pages};

/// The hypervisor extension of a hart.
pub(crate) type PerCpu = axvcpu_riscv64::RiscvPerCpu<crate::Hal>;
