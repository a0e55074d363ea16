//! One physical CPU's hypervisor extension.

use core::marker::PhantomData;

use axvcpu::{AxArchPerCpu, AxError, AxResult, AxVCpuHal};

/// What a physical CPU's hypervisor extension can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Features {
    /// Guests have a timer of their own (Sstc).
    pub sstc: bool,
    /// Floating point (F and D).
    pub fp: bool,
    /// The bytes of a vector register; 0 without the vector extension.
    pub vlenb: usize,
    /// The bits of a VMID.
    pub vmid_bits: u32,
}

/// What [`AxPerCpu::hardware_enable`](axvcpu::AxPerCpu::hardware_enable) found on the CPU this is called on; `None` while
/// virtualization is off.
pub fn features<H: AxVCpuHal>() -> Option<Features> {
    None
}

/// A physical CPU with the hypervisor extension.
pub struct RiscvPerCpu<H> {
    enabled: bool,
    hal: PhantomData<fn() -> H>,
}

impl<H: AxVCpuHal> AxArchPerCpu for RiscvPerCpu<H> {
    fn new(_cpu_id: usize) -> AxResult<Self> {
        Ok(Self { enabled: false, hal: PhantomData })
    }

    fn is_enabled(&self) -> bool {
        self.enabled
    }

    fn hardware_enable(&mut self) -> AxResult {
        Err(AxError::Unsupported)
    }

    fn hardware_disable(&mut self) -> AxResult {
        self.enabled = false;
        Ok(())
    }
}
