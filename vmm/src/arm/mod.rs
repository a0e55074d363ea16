//! AArch64 machines: [`ArmVm`] and its parts.
//!
//! The address map follows QEMU's `virt` board (see [`layout`]), so that what runs there at EL1 runs here. A guest
//! starts like under any boot loader for Linux: CPU 0 at EL1 with its MMU off and the address of the device tree in
//! `x0`.

mod fdt;
mod gic;
mod image;
pub mod layout;
mod machine;
mod psci;

pub use crate::loader::LOAD_OFFSET;
pub use crate::machine::BuildError;
pub use gic::{CpuInterfaces, DISTRIBUTOR_SIZE, Gic, REDISTRIBUTOR_SIZE, SPIS, State as GicState};
pub use image::load_kernel;
pub use machine::{ArmVm, ArmVmConfig, MAX_CPUS};
pub use psci::Psci;
