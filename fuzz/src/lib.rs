//! What AxVCpu does with input that nobody meant: fuzz targets, and what they share.
//!
//! A [`Target`] takes bytes and panics if something is wrong. libFuzzer drives the targets (`cargo xtask fuzz`, in the
//! program `fuzz`), plain `cargo test` runs each over its stored corpus, and the program `repeat` over files of your
//! choice.
//!
//! Besides panics of the code under test, a target looks for what it can tell is wrong: answers that do not fit, memory
//! written where nothing was to be, memory allocated on behalf of a guest, runs that are not repeatable.

extern crate alloc; // a file that is shared with the tests of the VMM names it

pub mod allocations;
mod input;
mod platform;
mod targets;

pub use targets::{TARGETS, Target, find};
