//! AArch64 as a hypervisor sees it: what its backends, their guests' machine and the test guests share.
//!
//! * [`sysreg`]: system registers, by their encodings.
//! * [`esr`]: what an exception's syndrome says.
//! * [`stage2`]: the format of stage-2 tables, for `axvcpu_stage2::Stage2`.
//! * [`gic`]: interrupt numbers, and how a distributor tells a CPU's interface what to present
//!   ([`Forwarding`](gic::Forwarding)).
//! * [`affinity`]: how CPUs are named.
//! * [`asm`]: an assembler for test guests.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod affinity;
pub mod asm;
pub mod esr;
pub mod gic;
pub mod stage2;
pub mod sysreg;
