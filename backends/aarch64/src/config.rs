//! What a vCPU is made with.

use alloc::sync::Arc;
use core::fmt;

use axvcpu_arm::gic::Forwarding;
use axvcpu_arm::stage2::{IPA39, Ipa};

/// How to make an [`ArmVCpu`](crate::ArmVCpu).
#[derive(Clone)]
pub struct ArmConfig {
    /// The shape of the stage-2 tables.
    pub stage2: Ipa,
    /// What the guest's virtual counter is behind the physical one, in ticks and modulo 2^64 (`CNTVOFF_EL2`). The same for
    /// all vCPUs of a machine.
    pub time_offset: u64,
    /// Whether and how important interrupts are. Without it all are enabled.
    pub forwarding: Option<Arc<dyn Forwarding>>,
    /// Whether `WFE` ends a run ([`Nothing`](axvcpu::AxVCpuExitReason::Nothing)), for vCPUs that share a physical CPU: what the guest
    /// waits for may be another of them to do.
    pub trap_wfe: bool,
    /// Whether the guest gets SVE, if the hardware has it.
    pub sve: bool,
    /// Fetch an instruction that faulted from the guest's memory even where the syndrome describes the access. For tests.
    pub fetch_always: bool,
}

impl ArmConfig {
    /// Stage 2 with 39 bits, the host's time, all interrupts enabled, everything the hardware has.
    pub fn new() -> Self {
        Self {
            stage2: IPA39,
            time_offset: 0,
            forwarding: None,
            trap_wfe: false,
            sve: true,
            fetch_always: false,
        }
    }
}

impl Default for ArmConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ArmConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArmConfig")
            .field("stage2", &self.stage2)
            .field("time_offset", &self.time_offset)
            .field("forwarding", &self.forwarding.is_some())
            .field("trap_wfe", &self.trap_wfe)
            .field("sve", &self.sve)
            .field("fetch_always", &self.fetch_always)
            .finish()
    }
}
