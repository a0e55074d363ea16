//! The backend.
#![allow(unsafe_code)] // implements `set_ept_root`

use core::marker::PhantomData;

use axvcpu::{
    AxArchVCpu, AxError, AxResult, AxVCpuExitReason, AxVCpuHal, GuestPhysAddr, HostPhysAddr,
    VCpuId, VmId,
};
use axvcpu_riscv::paging::{Mode, SV39X4};

/// How to make a [`RiscvVCpu`].
#[derive(Clone, Copy, Debug)]
pub struct RiscvConfig {
    /// The format of the stage-2 tables.
    pub stage2: Mode,
    /// What is added to the host's time to get the guest's, in ticks and modulo 2^64 (`htimedelta`).
    pub time_offset: u64,
    /// Whether the guest gets a timer of its own (Sstc), if the hardware has it.
    pub sstc: bool,
    /// Whether the guest gets vectors, if the hardware has them.
    pub vector: bool,
}

impl RiscvConfig {
    /// Stage 2 in Sv39x4, the host's time, everything the hardware has.
    pub fn new() -> Self {
        Self { stage2: SV39X4, time_offset: 0, sstc: true, vector: true }
    }
}

impl Default for RiscvConfig {
    fn default() -> Self {
        Self::new()
    }
}

/// A hart on the hypervisor extension.
pub struct RiscvVCpu<H> {
    hal: PhantomData<fn() -> H>,
}

impl<H: AxVCpuHal> AxArchVCpu for RiscvVCpu<H> {
    type Hal = H;
    type CreateConfig = RiscvConfig;
    type SetupConfig = ();

    fn new(_vm_id: VmId, _vcpu_id: VCpuId, _config: RiscvConfig) -> AxResult<Self> {
        Err(AxError::Unsupported)
    }
    fn set_entry(&mut self, _entry: GuestPhysAddr) -> AxResult {
        Err(AxError::Unsupported)
    }
    unsafe fn set_ept_root(&mut self, _root: HostPhysAddr) -> AxResult {
        Err(AxError::Unsupported)
    }
    fn setup(&mut self, _config: ()) -> AxResult {
        Err(AxError::Unsupported)
    }
    fn run(&mut self) -> AxResult<AxVCpuExitReason> {
        Err(AxError::Unsupported)
    }
    fn bind(&mut self) -> AxResult {
        Err(AxError::Unsupported)
    }
    fn unbind(&mut self) -> AxResult {
        Err(AxError::Unsupported)
    }
    fn set_gpr(&mut self, _reg: usize, _val: u64) -> AxResult {
        Err(AxError::Unsupported)
    }
    fn inject_interrupt(&mut self, _vector: usize) -> AxResult {
        Err(AxError::Unsupported)
    }
    fn set_return_value(&mut self, _val: u64) {}
}
