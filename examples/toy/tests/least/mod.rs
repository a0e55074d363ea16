//! The least that a backend can be: the methods without a body and, because it executes guests itself and has caches, two
//! more. What it lacks is skipped, and the rest holds. With `RESETS` it can be reset as well.
#![allow(unsafe_code)] // implements `set_ept_root`, which is an unsafe function

use axvcpu::{
    AxArchVCpu, AxError, AxResult, AxVCpuExitReason, Fence, GuestPhysAddr, HostPhysAddr, Requests,
    VCpuId, VmId,
};
use axvcpu_conformance::{Subject, generic};
use axvcpu_riscv::paging::Mode;
use axvcpu_toy::{FORMAT, ToyVCpu};

use crate::guests::Toy;
use crate::platform::Threads;

pub(crate) struct Least<const RESETS: bool>(ToyVCpu<Threads>);

impl<const RESETS: bool> AxArchVCpu for Least<RESETS> {
    type Hal = Threads;
    type CreateConfig = ();
    type SetupConfig = ();

    fn new(vm: VmId, vcpu: VCpuId, (): ()) -> AxResult<Self> {
        ToyVCpu::new(vm, vcpu, ()).map(Self)
    }
    fn set_entry(&mut self, entry: GuestPhysAddr) -> AxResult {
        self.0.set_entry(entry)
    }
    unsafe fn set_ept_root(&mut self, root: HostPhysAddr) -> AxResult {
        // SAFETY: the caller's promise.
        unsafe { self.0.set_ept_root(root) }
    }
    fn setup(&mut self, (): ()) -> AxResult {
        self.0.setup(())
    }
    fn run(&mut self) -> AxResult<AxVCpuExitReason> {
        self.0.run()
    }
    fn run_watching(&mut self, requests: Requests<'_>) -> AxResult<AxVCpuExitReason> {
        self.0.run_watching(requests)
    }
    fn bind(&mut self) -> AxResult {
        self.0.bind()
    }
    fn unbind(&mut self) -> AxResult {
        self.0.unbind()
    }
    fn set_gpr(&mut self, reg: usize, val: u64) -> AxResult {
        self.0.set_gpr(reg, val)
    }
    fn inject_interrupt(&mut self, vector: usize) -> AxResult {
        self.0.inject_interrupt(vector)
    }
    fn set_return_value(&mut self, val: u64) {
        self.0.set_return_value(val);
    }
    fn fence(&mut self, fence: Fence) -> AxResult {
        self.0.fence(fence)
    }
    fn reset(&mut self) -> AxResult {
        if RESETS { self.0.reset() } else { Err(AxError::Unsupported) }
    }
}

/// As the subject says as little as it can, there is a single physical CPU.
pub(crate) struct Backend<const RESETS: bool>;

impl<const RESETS: bool> Subject for Backend<RESETS> {
    type Arch = Least<RESETS>;
    type Machine = ();

    fn name(&self) -> &str {
        "toy, the least of it"
    }
    fn machine(&self) -> AxResult {
        Ok(())
    }
    fn create_config(&self, (): &()) -> AxResult {
        Ok(())
    }
    fn setup_config(&self) {}
    fn sleep(&self, _: u64) {} // guests have no time
}

impl<const RESETS: bool> generic::Subject for Backend<RESETS> {
    type Guests = Toy;
}

impl<const RESETS: bool> generic::GuestsOf<Backend<RESETS>> for Toy {
    fn format(_: &Backend<RESETS>) -> Mode {
        FORMAT
    }
}
