//! What a round trip costs, in instructions.
//!
//! Meaningful on a machine that counts instructions exactly: QEMU with `-icount shift=0,sleep=off`, where one
//! instruction is one nanosecond of its clock, whatever the host machine is doing. Each figure includes the guest's own
//! instructions, which are told. One CPU at work; the others wait.
#![cfg_attr(target_os = "none", no_std)]
#![cfg_attr(target_os = "none", no_main)]

extern crate alloc;

#[cfg(target_arch = "aarch64")]
mod arm;
mod guest;
mod machine;
#[cfg(not(target_arch = "aarch64"))]
mod riscv;
mod vcpu;

use alloc::string::String;
use alloc::vec::Vec;

use axvcpu_baremetal::{Machine, println};

#[cfg(target_arch = "aarch64")]
use arm as arch;
#[cfg(not(target_arch = "aarch64"))]
use riscv as arch;

axvcpu_baremetal::main!(bench);

/// How often each thing is done.
const ROUNDS: u64 = 10_000;
/// And before that without being counted.
const WARM: u64 = 16;

/// A line of the table.
struct Figure {
    /// What was done.
    what: &'static str,
    /// Instructions for one time.
    each: u64,
    /// How many of them are the guest's.
    guest: u64,
}

/// Why there is no figure.
type Failure = String;
type Figures = Result<Vec<Figure>, Failure>;
/// Figures of one part, which has a name.
type Group = (&'static str, fn(&Machine) -> Figures);

fn bench(machine: &'static Machine) -> u8 {
    println!("features: {:?}", arch::features());
    let mut failed = 0;
    for (name, group) in arch::GROUPS {
        match group(machine) {
            Ok(figures) => figures.iter().for_each(|figure| show(name, figure)),
            Err(failure) => {
                println!("FAILED: {name}: {failure}");
                failed += 1;
            }
        }
    }
    u8::from(failed != 0)
}

fn show(group: &str, Figure { what, each, guest }: &Figure) {
    println!("| {group} | {what} | {each} | {guest} |");
}
