//! A whole machine: what its run loop and devices add.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::{format, vec};

use axvcpu_baremetal::{Hal, Host, Machine};
use axvcpu_riscv::asm::*;
use axvcpu_riscv::csr::num;
use axvcpu_riscv64::{RiscvConfig, RiscvVCpu};
use axvcpu_vmm::riscv::{RiscvVm, RiscvVmConfig};
use axvcpu_vmm::{ConsoleSink, Outcome};

use crate::guest::{Ram, assemble};
use crate::{Failure, Figure, Figures};

const ROUNDS: u64 = 10_000;
/// Guest memory; a flat kernel is put 2 MiB into it.
const PAGES: usize = 2048;
const KERNEL: u64 = 0x8020_0000;
/// Where the guest leaves its count.
const RESULT: u64 = 0x8040_0000;
const UART: i64 = 0x1000_0000;

/// A machine without a screen.
struct Silent;

impl ConsoleSink for Silent {
    fn write(&self, _bytes: &[u8]) {}
}

pub(crate) fn figures(machine: &Machine) -> Figures {
    Ok(vec![
        figure(machine, "MMIO write to a device and back (UART scratch register)", 3, |g| {
            g.sb(S0, 7, S1);
        })?,
        figure(machine, "MMIO read from a device and back (UART scratch register)", 3, |g| {
            g.lbu(S0, 7, S1);
        })?,
        figure(machine, "SBI call answered by the firmware (base: get_spec_version)", 6, |g| {
            g.li(A7, 0x10);
            g.li(A6, 0);
            g.mv(A0, ZERO);
            g.ecall();
        })?,
    ])
}

/// Runs a guest that does `body` many times, and reads what it counted.
fn figure(
    machine: &Machine,
    what: &'static str,
    guest: u64,
    body: impl FnOnce(&mut Asm),
) -> Result<Figure, Failure> {
    let kernel = assemble(KERNEL, |g| {
        g.li(S1, UART);
        g.li(S2, ROUNDS as i64);
        g.csrr(S3, num::INSTRET);
        let again = g.here_label();
        body(g);
        g.addi(S2, S2, -1);
        g.bnez(S2, again);
        g.csrr(S4, num::INSTRET);
        g.sub(S4, S4, S3);
        g.li(S5, RESULT as i64);
        g.sd(S4, 0, S5);
        g.li(A7, 8); // the legacy call that switches the machine off
        g.ecall();
    })?;
    let config =
        RiscvVmConfig { kernel: &kernel, timebase: machine.timebase(), ..RiscvVmConfig::default() };
    let vcpu = RiscvConfig { timebase: machine.timebase(), ..RiscvConfig::new() };
    let vm = RiscvVm::<RiscvVCpu<Hal>>::new(
        &config,
        Box::new(Ram::new(PAGES)?),
        Arc::new(Silent),
        |_| vcpu,
        |_| (),
    )
    .map_err(|error| format!("{error}"))?;
    match vm.run_vcpu(0, &Host::new(machine)) {
        Outcome::PowerOff => {}
        outcome => return Err(format!("{outcome}")),
    }
    let mut count = [0; 8];
    vm.memory().read(RESULT, &mut count).map_err(|error| format!("{error}"))?;
    Ok(Figure { what, each: u64::from_le_bytes(count) / ROUNDS, guest })
}
