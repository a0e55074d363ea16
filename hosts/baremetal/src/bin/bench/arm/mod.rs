//! AArch64: what its guests are made of, and what only they do.

mod bare;
mod own;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;

use axvcpu_aarch64::{ArmConfig, ArmVCpu, Features};
pub(crate) use axvcpu_arm::asm::Asm;
use axvcpu_arm::asm::*;
use axvcpu_arm::stage2::{IPA39, Ipa};
pub(crate) use axvcpu_arm::stage2::{Perms, Stage2};
use axvcpu_arm::sysreg::*;
use axvcpu_baremetal::{Hal, Machine, time};
use axvcpu_vmm::arm::{ArmVm, ArmVmConfig, layout};
use axvcpu_vmm::{BuildError, RamBacking};

use crate::machine::{Silent, figure};
use crate::{Figures, Group, ROUNDS};

pub(crate) type Backend = ArmVCpu<Hal>;
pub(crate) type Config = ArmConfig;

pub(crate) const STAGE2: Ipa = IPA39;
/// Where guests start.
pub(crate) const CODE: u64 = 0x4000_0000;
/// Where a machine's kernel does.
pub(crate) const KERNEL: u64 = 0x4020_0000;
/// What is injected: an SGI.
pub(crate) const INTERRUPT: usize = 5;

/// No memory.
const DEVICE: u64 = 0x1000_0000;
/// `UARTIBRD`, which has no effect.
const DIVISOR: u32 = 0x24;
const PSCI_VERSION: u64 = 0x8400_0000;
const SYSTEM_OFF: u64 = 0x8400_0008;

pub(crate) const GROUPS: &[Group] = &[
    ("axvcpu: AxVCpu::run", own::figures),
    ("axvcpu-aarch64: inside the backend", bare::figures),
    ("axvcpu-vmm: the run loop", machine_figures),
];

pub(crate) fn features() -> Option<Features> {
    axvcpu_aarch64::features::<Hal>()
}

/// The counter, which guests read as well. It may stand still for some instructions.
pub(crate) fn count() -> u64 {
    time::now_ticks()
}

/// Instructions in so many ticks of it: nanoseconds.
pub(crate) fn instructions(counted: u64) -> u64 {
    let instructions = u128::from(counted) * 1_000_000_000 / u128::from(time::timebase());
    u64::try_from(instructions).unwrap_or(u64::MAX)
}

pub(crate) fn call_forever(g: &mut Asm) {
    let again = g.here_label();
    g.hvc(0);
    g.add_imm(X19, X19, 1);
    g.b(again);
}

pub(crate) fn write_forever(g: &mut Asm) {
    access_forever(g, |g| g.str_w(X19, X20, 0));
}

pub(crate) fn read_forever(g: &mut Asm) {
    access_forever(g, |g| g.ldr_w(X21, X20, 0));
}

fn access_forever(g: &mut Asm, access: impl FnOnce(&mut Asm)) {
    g.li(X20, DEVICE);
    let again = g.here_label();
    access(g);
    g.add_imm(X19, X19, 1);
    g.b(again);
}

/// Calls forever, and from its handler, with the counter as it was at its beginning.
pub(crate) fn take_interrupts(g: &mut Asm) {
    let vectors = g.label();
    interrupts_on(g, vectors);
    let again = g.here_label();
    g.hvc(0);
    g.b(again);
    handler(g, vectors, |g| {
        g.mrs(X1, CNTPCT_EL0);
        g.mrs(X2, ICC_IAR1_EL1);
        g.msr(ICC_EOIR1_EL1, X2);
        g.hvc(0);
    });
}

/// Lets interrupts come.
fn interrupts_on(g: &mut Asm, vectors: Label) {
    g.la(X0, vectors);
    g.msr(VBAR_EL1, X0);
    g.li(X0, 0xff);
    g.msr(ICC_PMR_EL1, X0);
    g.li(X0, 1);
    g.msr(ICC_IGRPEN1_EL1, X0);
    g.isb();
    g.daifclr(2);
}

/// The vectors, of which the one for interrupts has this in it. Stands at the end of a program.
fn handler(g: &mut Asm, vectors: Label, body: impl FnOnce(&mut Asm)) {
    g.align(0x800);
    g.bind(vectors);
    g.zero(0x280); // from EL1 with its own stack pointer, the second
    body(g);
    g.eret();
}

/// Does something [`ROUNDS`] times between two calls, with the counter in `x1`. Adds two instructions a round.
fn many(g: &mut Asm, body: impl FnOnce(&mut Asm)) {
    g.hvc(0); // warm
    g.li(X20, ROUNDS);
    g.mrs(X21, CNTPCT_EL0);
    let rounds = g.here_label();
    body(g);
    g.sub_imm(X20, X20, 1);
    g.cbnz(X20, rounds);
    g.mrs(X1, CNTPCT_EL0);
    g.sub(X1, X1, X21);
    g.hvc(0);
}

/// A machine's kernel, which does something [`ROUNDS`] times and leaves at `result` what that took.
pub(crate) fn kernel(g: &mut Asm, result: u64, body: impl FnOnce(&mut Asm)) {
    g.li(X19, layout::UART_BASE);
    g.li(X20, ROUNDS);
    g.mrs(X21, CNTPCT_EL0);
    let again = g.here_label();
    body(g);
    g.sub_imm(X20, X20, 1);
    g.cbnz(X20, again);
    g.mrs(X22, CNTPCT_EL0);
    g.sub(X22, X22, X21);
    g.li(X23, result);
    g.str(X22, X23, 0);
    g.dc_civac(X23); // written without caches
    g.li(X0, SYSTEM_OFF);
    g.hvc(0);
}

/// A machine with this kernel.
pub(crate) fn build(
    _: &Machine,
    kernel: &[u8],
    ram: Box<dyn RamBacking>,
) -> Result<ArmVm<Backend>, BuildError> {
    let all = ArmVmConfig { kernel, stage2: STAGE2, ..ArmVmConfig::default() };
    let create = |_, forwarding| ArmConfig {
        stage2: STAGE2,
        forwarding: Some(forwarding),
        ..ArmConfig::new()
    };
    ArmVm::new(&all, ram, Arc::new(Silent), create, |_| ())
}

fn machine_figures(machine: &Machine) -> Figures {
    Ok(vec![
        figure(machine, "MMIO write to a device and back (UART divisor)", 3, |g| {
            g.str_w(X20, X19, DIVISOR);
        })?,
        figure(machine, "MMIO read from a device and back (UART divisor)", 3, |g| {
            g.ldr_w(X24, X19, DIVISOR);
        })?,
        figure(machine, "PSCI call answered by the firmware (PSCI_VERSION)", 4, |g| {
            g.li(X0, PSCI_VERSION);
            g.hvc(0);
        })?,
    ])
}
