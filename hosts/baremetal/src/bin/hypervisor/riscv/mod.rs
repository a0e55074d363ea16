//! A RISC-V machine for the guest.

mod isa;

use alloc::boxed::Box;
use alloc::sync::Arc;

use axvcpu_baremetal::{Console, GuestFiles, Hal, Machine, time};
use axvcpu_riscv64::{Features, RiscvConfig, RiscvVCpu, features};
use axvcpu_vmm::BuildError;
use axvcpu_vmm::riscv::{RiscvVm, RiscvVmConfig};

use crate::options::Options;
use crate::ram::GuestRam;

pub(crate) type Vm = RiscvVm<RiscvVCpu<Hal>>;

/// What runs the guest, as the summary calls it.
pub(crate) const BACKEND: &str = "riscv64";

/// Linux on RISC-V cuts longer command lines off (its `COMMAND_LINE_SIZE`, with a NUL at the end).
pub(crate) const COMMAND_LINE: usize = 1023;

/// Builds the machine. Nothing runs yet.
pub(crate) fn build(
    machine: &Machine,
    options: &Options,
    files: &GuestFiles,
    ram: GuestRam,
) -> Result<Vm, BuildError> {
    let features = features::<Hal>().unwrap_or_default();
    let isa = isa::of_guest(machine.isa(), |extension| has_state(&features, extension));
    let config = RiscvVmConfig {
        cpus: options.cpus.into(),
        isa: &isa,
        mmu_type: machine.mmu_type(),
        timebase: machine.timebase(),
        kernel: files.kernel,
        initrd: files.initrd,
        bootargs: files.bootargs,
        seed: Some(machine.random()),
        ..RiscvVmConfig::default()
    };
    // The guest's time begins now.
    let vcpu = RiscvConfig {
        time_offset: time::now_ticks().wrapping_neg(),
        timebase: machine.timebase(),
        ..RiscvConfig::new()
    };
    Vm::new(&config, Box::new(ram), Arc::new(Console), |_| vcpu, |_| ())
}

/// Whether the vCPUs have the state that an extension adds. Those that add none always work.
fn has_state(features: &Features, extension: &str) -> bool {
    match extension {
        "f" | "d" => features.fp,
        "v" => features.vlenb != 0,
        "sstc" => features.sstc,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_with_state_need_the_hardware() {
        // Made by changing, as other crates cannot name all its fields.
        let mut found = Features::default();
        for extension in ["f", "d", "v", "sstc"] {
            assert!(!has_state(&found, extension), "{extension}");
        }
        assert!(has_state(&found, "zba"));
        (found.fp, found.vlenb, found.sstc) = (true, 16, true);
        for extension in ["f", "d", "v", "sstc", "zba"] {
            assert!(has_state(&found, extension), "{extension}");
        }
    }
}
