//! An AArch64 machine for the guest.

use alloc::boxed::Box;
use alloc::sync::Arc;

use axvcpu_aarch64::{ArmConfig, ArmVCpu, features};
use axvcpu_arm::stage2::{IPA40, Ipa};
use axvcpu_baremetal::{Console, GuestFiles, Hal, Machine, time};
use axvcpu_vmm::BuildError;
use axvcpu_vmm::arm::{ArmVm, ArmVmConfig};

use crate::options::Options;
use crate::ram::GuestRam;

pub(crate) type Vm = ArmVm<ArmVCpu<Hal>>;

/// What runs the guest, as the summary calls it.
pub(crate) const BACKEND: &str = "aarch64";

/// Linux on AArch64 cuts longer command lines off (its `COMMAND_LINE_SIZE`, with a NUL at the end).
pub(crate) const COMMAND_LINE: usize = 2047;

/// Builds the machine. Nothing runs yet.
pub(crate) fn build(
    machine: &Machine,
    options: &Options,
    files: &GuestFiles,
    ram: GuestRam,
) -> Result<Vm, BuildError> {
    // As large as three levels of tables can be, or as the CPUs' own addresses are.
    let bits = features::<Hal>().map_or(0, |features| features.pa_bits);
    let stage2 = Ipa::new(bits.min(IPA40.bits())).unwrap_or(IPA40);
    let config = ArmVmConfig {
        cpus: options.cpus.into(),
        stage2,
        kernel: files.kernel,
        initrd: files.initrd,
        bootargs: files.bootargs,
        seed: Some(machine.random()),
        ..ArmVmConfig::default()
    };
    let vcpu = ArmConfig {
        stage2,
        // The guest's time begins now.
        time_offset: time::now_ticks(),
        trap_wfe: usize::from(options.cpus) > machine.cpus(),
        ..ArmConfig::new()
    };
    let create = |_, forwarding| ArmConfig { forwarding: Some(forwarding), ..vcpu.clone() };
    Vm::new(&config, Box::new(ram), Arc::new(Console), create, |_| ())
}
