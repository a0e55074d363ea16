//! RISC-V: what its guests are made of, and what only they do.

mod timer;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;

use axvcpu_baremetal::{Hal, Machine};
pub(crate) use axvcpu_riscv::asm::Asm;
use axvcpu_riscv::asm::*;
use axvcpu_riscv::csr::{irq, num};
use axvcpu_riscv::paging::{Mode, SV39X4};
pub(crate) use axvcpu_riscv::stage2::{Perms, Stage2};
use axvcpu_riscv64::{Features, RiscvConfig, RiscvVCpu};
use axvcpu_vmm::riscv::{RiscvVm, RiscvVmConfig};
use axvcpu_vmm::{BuildError, RamBacking};

use crate::machine::{Silent, figure};
use crate::{Figures, Group, ROUNDS};

pub(crate) type Backend = RiscvVCpu<Hal>;
pub(crate) type Config = RiscvConfig;

pub(crate) const STAGE2: Mode = SV39X4;
/// Where guests start.
pub(crate) const CODE: u64 = 0x8000_0000;
/// Where a machine's kernel does.
pub(crate) const KERNEL: u64 = 0x8020_0000;
/// What is injected.
pub(crate) const INTERRUPT: usize = irq::SOFTWARE;

/// A call that nobody answers: in the extension space left to firmware.
const CALL: i64 = 0x0a00_0001;
/// No memory.
const DEVICE: i64 = 0x1000_0000;
const UART: i64 = 0x1000_0000;

pub(crate) const GROUPS: &[Group] =
    &[("axvcpu: AxVCpu::run", timer::figures), ("axvcpu-vmm: the run loop", machine_figures)];

pub(crate) fn features() -> Option<Features> {
    axvcpu_riscv64::features::<Hal>()
}

/// Instructions executed by this hart so far.
pub(crate) fn count() -> u64 {
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

/// What was counted is instructions.
pub(crate) fn instructions(counted: u64) -> u64 {
    counted
}

fn config(machine: &Machine) -> Config {
    RiscvConfig { timebase: machine.timebase(), ..RiscvConfig::new() }
}

pub(crate) fn call_forever(g: &mut Asm) {
    g.li(A7, CALL);
    let again = g.here_label();
    g.ecall();
    g.addi(S0, S0, 1);
    g.j(again);
}

pub(crate) fn write_forever(g: &mut Asm) {
    g.li(A0, DEVICE);
    let again = g.here_label();
    g.sw(S0, 0, A0);
    g.addi(S0, S0, 1);
    g.j(again);
}

pub(crate) fn read_forever(g: &mut Asm) {
    g.li(A0, DEVICE);
    let again = g.here_label();
    g.lw(S1, 0, A0);
    g.addi(S0, S0, 1);
    g.j(again);
}

/// Calls forever, and from its handler, with the counter as it was at its beginning.
pub(crate) fn take_interrupts(g: &mut Asm) {
    let handler = g.label();
    g.la(T0, handler);
    g.csrw(num::STVEC, T0);
    g.li(T0, 1 << irq::SOFTWARE);
    g.csrw(num::SIE, T0);
    g.csrrsi(ZERO, num::SSTATUS, 2);
    g.li(A7, CALL);
    let again = g.here_label();
    g.ecall();
    g.j(again);
    g.align(4);
    g.bind(handler);
    g.csrr(A0, num::INSTRET);
    g.csrrci(ZERO, num::SIP, 1 << irq::SOFTWARE);
    g.ecall();
    g.sret();
}

/// Does something [`ROUNDS`] times between two calls, with the counter in `a0`. Adds two instructions a round.
pub(crate) fn many(g: &mut Asm, body: impl FnOnce(&mut Asm)) {
    let rounds = g.label();
    g.mv(S3, A7);
    g.li(A7, CALL);
    g.ecall(); // warm
    g.li(S2, ROUNDS as i64);
    g.csrr(S4, num::INSTRET);
    g.mv(A7, S3);
    g.bind(rounds);
    body(g);
    g.addi(S2, S2, -1);
    g.bnez(S2, rounds);
    g.csrr(A0, num::INSTRET);
    g.sub(A0, A0, S4);
    g.li(A7, CALL);
    g.ecall();
}

/// A machine's kernel, which does something [`ROUNDS`] times and leaves at `result` what that took.
pub(crate) fn kernel(g: &mut Asm, result: u64, body: impl FnOnce(&mut Asm)) {
    g.li(S1, UART);
    g.li(S2, ROUNDS as i64);
    g.csrr(S3, num::INSTRET);
    let again = g.here_label();
    body(g);
    g.addi(S2, S2, -1);
    g.bnez(S2, again);
    g.csrr(S4, num::INSTRET);
    g.sub(S4, S4, S3);
    g.li(S5, result as i64);
    g.sd(S4, 0, S5);
    g.li(A7, 8); // the legacy call that switches the machine off
    g.ecall();
}

/// A machine with this kernel.
pub(crate) fn build(
    machine: &Machine,
    kernel: &[u8],
    ram: Box<dyn RamBacking>,
) -> Result<RiscvVm<Backend>, BuildError> {
    let timebase = machine.timebase();
    let all = RiscvVmConfig { kernel, timebase, ..RiscvVmConfig::default() };
    RiscvVm::new(&all, ram, Arc::new(Silent), |_| config(machine), |_| ())
}

fn machine_figures(machine: &Machine) -> Figures {
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
