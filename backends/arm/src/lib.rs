//! AArch64 as a hypervisor sees it: what its backends, their guests' machine and the test guests share.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod affinity;
pub mod asm;
pub mod esr;
pub mod gic;
pub mod stage2;
pub mod sysreg;
