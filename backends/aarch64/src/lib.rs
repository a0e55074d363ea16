//! Virtual CPUs on AArch64 EL2: the hardware backend of AxVCpu for AArch64.
#![cfg_attr(not(test), no_std)]

extern crate alloc;
