//! The least that a backend can be: the methods without a body and, because it executes guests itself and has caches, two
//! more. What it lacks is skipped, and the rest holds.
#![allow(unsafe_code)] // implements `set_ept_root`, which is an unsafe function

use axvcpu::{
    AxArchVCpu, AxResult, AxVCpuExitReason, Fence, GuestPhysAddr, HostPhysAddr, Requests, VCpuId,
    VmId,
};
use axvcpu_conformance::{Subject, generic};
use axvcpu_riscv::paging::Mode;
use axvcpu_toy::{FORMAT, ToyVCpu};

use crate::guests::Toy;
use crate::platform::Threads;

pub(crate) struct Least(ToyVCpu<Threads>);

impl AxArchVCpu for Least {
    type Hal = Threads;
    type CreateConfig = ();
    type SetupConfig = ();

    fn new(vm: VmId, vcpu: VCpuId, (): ()) -> AxResult<Self> {
        ToyVCpu::new(vm, vcpu, None).map(Self)
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
}

/// As the subject says as little as it can, there is a single physical CPU.
pub(crate) struct Backend;

impl Subject for Backend {
    type Arch = Least;
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

impl generic::Subject for Backend {
    type Guests = Toy;
}

impl generic::GuestsOf<Backend> for Toy {
    fn format(_: &Backend) -> Mode {
        FORMAT
    }
}
