//! What a round trip costs, in instructions.
//!
//! Meaningful on a machine that counts instructions exactly: QEMU with `-icount shift=0,sleep=off`, where one
//! instruction is one count of `instret`, whatever the host machine is doing. Each figure includes the guest's own
//! instructions, which are told. One hart at work; the others wait.
#![cfg_attr(target_os = "none", no_std)]
#![cfg_attr(target_os = "none", no_main)]

extern crate alloc;

mod guest;
mod machine;
mod vcpu;

use alloc::string::String;
use alloc::vec::Vec;

use axvcpu_baremetal::{Machine, println, status};

axvcpu_baremetal::main!(bench);

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

fn bench(machine: &'static Machine) -> u8 {
    if machine.isa().is_empty() {
        println!("axvcpu: this measures harts, and the machine's CPUs are none");
        return status::USAGE;
    }
    let features = axvcpu_riscv64::features::<axvcpu_baremetal::Hal>();
    println!("features: {features:?}");
    let mut failed = 0;
    for (name, group) in [
        ("axvcpu: AxVCpu::run", vcpu::figures as fn(&Machine) -> Figures),
        ("axvcpu-vmm: the run loop", machine::figures),
    ] {
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

/// Instructions executed by this hart so far.
fn instructions() -> u64 {
    #[cfg(target_arch = "riscv64")]
    {
        let count;
        #[allow(unsafe_code)] // a CSR
        // SAFETY: reads a counter.
        unsafe {
            core::arch::asm!("rdinstret {}", out(reg) count, options(nomem, nostack));
        }
        count
    }
    #[cfg(not(target_arch = "riscv64"))]
    0
}
