//! A small type-1 hypervisor: AxVCpu's virtual machines on bare metal.
//!
//! The library is the platform: it boots, reads the device tree, hands out memory, starts every CPU, drives the
//! serial port and the interrupt controller, and implements [`AxVCpuHal`](axvcpu::AxVCpuHal) ([`Hal`]) and
//! [`VmHost`](axvcpu_vmm::VmHost) ([`Host`]). The programs in `src/bin` are what runs on it: each names its
//! function with [`main!`] and finds every physical CPU up with virtualization enabled.
//!
//! Interrupts of the hypervisor stay masked for all its life. They are noticed when they end a guest's run, or a
//! wait, and dealt with then ([`AxVCpuHal::irq_hanlder`](axvcpu::AxVCpuHal::irq_hanlder)).
//!
//! What differs between the architectures is in a module for each, `riscv64` and `aarch64`, with functions of the same
//! names. The rest calls them `arch`.
//!
//! On a target with an operating system the crate compiles, for its unit tests, and its programs say that they
//! are not for there.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

#[cfg(any(target_arch = "aarch64", not(target_os = "none")))]
#[cfg_attr(not(all(target_arch = "aarch64", target_os = "none")), allow(dead_code, unused_imports))]
// compiled for its unit tests
mod aarch64;
mod boot;
mod console;
mod cpu;
mod frames;
mod guest;
mod hal;
#[cfg(target_os = "none")]
mod heap;
mod machine;
pub mod mark;
#[cfg(target_os = "none")]
mod panic;
#[cfg(not(target_arch = "aarch64"))]
mod riscv64;
pub mod time;
mod timer;
mod uart;

#[cfg(target_arch = "aarch64")]
use aarch64 as arch;
#[cfg(not(target_arch = "aarch64"))]
use riscv64 as arch;

pub use console::{Console, read_input};
pub use frames::Mem;
pub use guest::GuestFiles;
pub use hal::{Hal, Host};
pub use machine::{Machine, exit};

/// What [`main!`] expands to refers to this.
#[doc(hidden)]
pub use machine::Main;

/// Exit statuses, as those of `axvcpu run`.
pub mod status {
    /// All went well; for a guest: it switched its machine off.
    pub const OK: u8 = 0;
    /// Wrong options or files: nothing was started.
    pub const USAGE: u8 = 2;
    /// The host failed.
    pub const HOST: u8 = 5;
}

/// Names the program's function, `fn(&'static Machine) -> u8`: called on physical CPU 0, with every CPU up and
/// virtualization enabled on each. What it answers is the machine's exit status. It cannot be called `main`, which
/// on a target with an operating system is a function that says what this is.
#[macro_export]
macro_rules! main {
    ($main:path) => {
        #[cfg(target_os = "none")]
        #[unsafe(no_mangle)]
        #[allow(unsafe_code)] // the name the platform's start-up code calls
        static AXVCPU_MAIN: $crate::Main = $main;

        #[cfg(not(target_os = "none"))]
        fn main() -> std::process::ExitCode {
            let _: $crate::Main = $main; // so that all of it is compiled here as well
            eprintln!(
                "{}: a program for bare metal; `cargo xtask` builds and starts it",
                env!("CARGO_BIN_NAME")
            );
            std::process::ExitCode::from(2)
        }
    };
}
