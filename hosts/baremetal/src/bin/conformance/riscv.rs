//! The RISC-V backend in every shape it has.

use alloc::string::String;
use alloc::vec::Vec;

use axvcpu::{AxResult, AxVCpuHal};
use axvcpu_baremetal::{Hal, Machine, time};
use axvcpu_conformance::{Report, Subject, riscv, run_per_cpu};
use axvcpu_riscv::paging::{Mode, SV48X4, SV57X4};
use axvcpu_riscv64::{Features, RiscvConfig, RiscvPerCpu, RiscvVCpu};

use crate::pair::on_two_cpus;

pub(crate) use axvcpu_conformance::riscv::run_matching;
pub(crate) use axvcpu_riscv64::features;

/// The backend in one of the shapes that guests can get.
pub(crate) struct Riscv64 {
    machine: &'static Machine,
    name: String,
    config: RiscvConfig,
    features: Features,
}

impl Subject for Riscv64 {
    type Arch = RiscvVCpu<Hal>;
    type Machine = ();

    fn name(&self) -> &str {
        &self.name
    }

    fn machine(&self) -> AxResult {
        Ok(())
    }

    fn create_config(&self, (): &()) -> AxResult<RiscvConfig> {
        Ok(self.config)
    }

    fn setup_config(&self) {}

    fn sleep(&self, ns: u64) {
        let end = time::now_ns() + ns;
        while time::now_ns() < end {
            core::hint::spin_loop();
        }
    }

    fn crowd(&self) -> usize {
        (1 << self.features.vmid_bits) + 100
    }

    fn without_virtualization(&self, f: &mut dyn FnMut()) -> bool {
        self.machine.without_virtualization(f).expect("a CPU that can be switched off and on");
        true
    }

    fn memory_in_use(&self) -> Option<usize> {
        Some(self.machine.memory_in_use())
    }

    fn on_two_cpus(&self, here: &mut dyn FnMut(), there: &mut (dyn FnMut() + Send)) -> bool {
        on_two_cpus(self.machine, here, there)
    }
}

impl riscv::Subject for Riscv64 {
    fn stage2_mode(&self) -> Mode {
        self.config.stage2
    }

    fn time_base(&self) -> u64 {
        self.machine.timebase()
    }

    fn has_stimecmp(&self) -> bool {
        self.config.sstc && self.features.sstc
    }

    fn orders_interrupts(&self) -> bool {
        self.machine.isa().split('_').any(|extension| extension == "ssaia")
    }
}

/// The shapes to try.
pub(crate) fn subjects(machine: &'static Machine, features: Features) -> Vec<Riscv64> {
    let plain = RiscvConfig { timebase: machine.timebase(), ..RiscvConfig::new() };
    let mut shapes = Vec::from([("riscv64, Sv39x4", plain)]);
    if features.sstc {
        shapes.push(("riscv64, no timer of the guest's own", RiscvConfig { sstc: false, ..plain }));
    }
    let offset = 0u64.wrapping_sub(time::now_ticks());
    shapes.push((
        "riscv64, instructions fetched to be decoded, time from 0",
        RiscvConfig { fetch_always: true, time_offset: offset, ..plain },
    ));
    for (name, mode) in [("riscv64, Sv48x4", SV48X4), ("riscv64, Sv57x4", SV57X4)] {
        if features.has_stage2(mode) {
            shapes.push((name, RiscvConfig { stage2: mode, ..plain }));
        }
    }
    let shape =
        |(name, config): (&str, _)| Riscv64 { machine, name: name.into(), config, features };
    shapes.into_iter().map(shape).collect()
}

/// The cases about the switch itself, on this CPU.
pub(crate) fn per_cpu(machine: &Machine) -> AxResult<Report> {
    machine.without_virtualization(|| {
        run_per_cpu::<RiscvPerCpu<Hal>>("riscv64, a physical CPU", Hal::cpu_id())
    })
}
