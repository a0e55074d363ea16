//! A whole machine: what its run loop and devices add.

use alloc::boxed::Box;
use alloc::format;

use axvcpu_baremetal::{Host, Machine};
use axvcpu_vmm::{ConsoleSink, Outcome};

use crate::arch::{self, Asm, KERNEL};
use crate::guest::{Ram, assemble};
use crate::{Failure, Figure, ROUNDS};

/// Guest memory; a flat kernel is put 2 MiB into it.
const PAGES: usize = 2048;
/// Where the guest leaves its count.
const RESULT: u64 = KERNEL + (2 << 20);

/// A machine without a screen.
pub(crate) struct Silent;

impl ConsoleSink for Silent {
    fn write(&self, _bytes: &[u8]) {}
}

/// Runs a guest that does `body` many times, and reads what it counted.
pub(crate) fn figure(
    machine: &Machine,
    what: &'static str,
    guest: u64,
    body: impl FnOnce(&mut Asm),
) -> Result<Figure, Failure> {
    let kernel = assemble(KERNEL, |g| arch::kernel(g, RESULT, body))?;
    let vm = arch::build(machine, &kernel, Box::new(Ram::new(PAGES)?))
        .map_err(|error| format!("{error}"))?;
    match vm.run_vcpu(0, &Host::new(machine)) {
        Outcome::PowerOff => {}
        outcome => return Err(format!("{outcome}")),
    }
    let mut count = [0; 8];
    vm.memory().read(RESULT, &mut count).map_err(|error| format!("{error}"))?;
    Ok(Figure { what, each: arch::instructions(u64::from_le_bytes(count)) / ROUNDS, guest })
}
