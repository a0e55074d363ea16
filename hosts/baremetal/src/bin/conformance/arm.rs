//! The AArch64 backend in every shape it has.
#![allow(unsafe_code)] // reads an identification register

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use axvcpu::{AxResult, AxVCpuHal};
use axvcpu_aarch64::{ArmConfig, ArmPerCpu, ArmVCpu, Features};
use axvcpu_arm::gic::Forwarding;
use axvcpu_arm::stage2::{IPA40, IPA44, IPA48, Ipa};
use axvcpu_baremetal::{Hal, Machine, time};
use axvcpu_conformance::{Report, Subject, arm, run_per_cpu};

use crate::pair::on_two_cpus;

pub(crate) use axvcpu_aarch64::features;
pub(crate) use axvcpu_conformance::arm::run_matching;

/// The backend in one of the shapes that guests can get.
pub(crate) struct Aarch64 {
    machine: &'static Machine,
    name: String,
    config: ArmConfig,
    features: Features,
}

impl Subject for Aarch64 {
    type Arch = ArmVCpu<Hal>;
    type Machine = ();

    fn name(&self) -> &str {
        &self.name
    }

    fn machine(&self) -> AxResult {
        Ok(())
    }

    fn create_config(&self, (): &()) -> AxResult<ArmConfig> {
        Ok(self.config.clone())
    }

    fn setup_config(&self) {}

    fn sleep(&self, ns: u64) {
        let end = time::now_ns() + ns;
        while time::now_ns() < end {
            // QEMU's timers get their turn while nobody looks at the clock only.
            for _ in 0..1000 {
                core::hint::spin_loop();
            }
        }
    }

    fn crowd(&self) -> usize {
        // More than 8 bits of VMIDs; where there are 16 it would take too long, and is no different.
        (1 << self.features.vmid_bits.min(8)) + 100
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

impl arm::Subject for Aarch64 {
    fn forwarding_config(&self, forwarding: Arc<dyn Forwarding>) -> AxResult<ArmConfig> {
        Ok(ArmConfig { forwarding: Some(forwarding), ..self.config.clone() })
    }

    fn stage2(&self) -> Ipa {
        self.config.stage2
    }

    fn time_base(&self) -> u64 {
        self.machine.timebase()
    }

    fn has_atomics(&self) -> bool {
        has_atomics()
    }
}

/// FEAT_LSE (Arm ARM, `ID_AA64ISAR0_EL1`).
fn has_atomics() -> bool {
    let isar0: u64;
    // SAFETY: reads a register.
    unsafe {
        core::arch::asm!("mrs {}, ID_AA64ISAR0_EL1", out(reg) isar0, options(nomem, nostack));
    }
    isar0 >> 20 & 15 >= 2
}

/// The shapes to try.
pub(crate) fn subjects(machine: &'static Machine, features: Features) -> Vec<Aarch64> {
    let plain = ArmConfig::new();
    let offset = time::now_ticks();
    let mut shapes = Vec::from([
        ("aarch64, 39 bits", plain.clone()),
        (
            "aarch64, instructions fetched to be decoded, time from 0",
            ArmConfig { fetch_always: true, time_offset: offset, ..plain.clone() },
        ),
        ("aarch64, WFE trapped, no SVE", ArmConfig { trap_wfe: true, sve: false, ..plain.clone() }),
    ]);
    for (name, ipa) in
        [("aarch64, 40 bits", IPA40), ("aarch64, 44 bits", IPA44), ("aarch64, 48 bits", IPA48)]
    {
        if features.has_stage2(ipa) {
            shapes.push((name, ArmConfig { stage2: ipa, ..plain.clone() }));
        }
    }
    let shape =
        |(name, config): (&str, _)| Aarch64 { machine, name: name.into(), config, features };
    shapes.into_iter().map(shape).collect()
}

/// The cases about the switch itself, on this CPU.
pub(crate) fn per_cpu(machine: &Machine) -> AxResult<Report> {
    machine.without_virtualization(|| {
        run_per_cpu::<ArmPerCpu<Hal>>("aarch64, a physical CPU", Hal::cpu_id())
    })
}
