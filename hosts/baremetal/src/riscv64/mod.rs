//! The platform on RISC-V: harts under an SBI firmware.

mod boot;
mod cpu;
mod csr;
mod hal;
mod irq;
mod sbi;
mod timer;
mod zero;

pub(crate) use boot::{online, start_others};
pub(crate) use cpu::{Cpu, MAX_CPUS};
pub use hal::{Hal, Host};
pub(crate) use irq::Plic;
pub(crate) use sbi::{power_off, write_console};
pub(crate) use timer::{init as init_timer, set_flush as flush_at};
pub(crate) use zero::{use_blocks, zero_pages};

/// The time counter.
pub(crate) fn time() -> u64 {
    csr::read::<{ axvcpu_riscv::csr::num::TIME }>()
}

/// Ends the machine's life; the status is what its runner sees.
pub fn exit(status: u8) -> ! {
    crate::machine::finish(status)
}
