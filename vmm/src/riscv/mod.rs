//! RISC-V machines: [`RiscvVm`] and its parts.
//!
//! The address map follows QEMU's `virt` board (see [`layout`]), so that what runs there in S mode runs
//! here. A guest starts like under any SBI firmware: hart 0 in S mode with translation off, its number in
//! `a0` and the address of the device tree in `a1`.

mod fdt;
mod image;
pub mod layout;
mod machine;
mod plic;
mod sbi;

pub use crate::loader::LOAD_OFFSET;
pub use crate::machine::BuildError;
pub use image::load_kernel;
pub use machine::{MAX_CPUS, RiscvVm, RiscvVmConfig};
pub use plic::{Harts, Plic, SIZE as PLIC_SIZE, SOURCES as PLIC_SOURCES};
pub use sbi::Sbi;
