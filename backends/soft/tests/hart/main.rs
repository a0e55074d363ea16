//! The hart as a guest sees it, driven through the interface a hypervisor uses.
//!
//! Most tests hand small pieces of code to a guest that executes them at the privilege asked for and reports
//! the trap that ends them: see [`probe`].

#![allow(unreachable_pub)] // modules of a test have nobody outside

mod machine;
mod probe;
mod tables;

mod atomics;
mod basics;
mod code;
mod csr;
mod devices;
mod fences;
mod illegal;
mod interrupts;
mod memory;
mod nested;
mod pairs;
mod permissions;
mod races;
mod repeatable;
mod shootdown;
mod straddling;
mod time;
mod traps;
mod walks;
