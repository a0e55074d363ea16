//! What another physical CPU may do between two steps of an operation, made to happen there.
#![allow(unsafe_code)] // implements an unsafe trait

use std::boxed::Box;
use std::cell::Cell;

use crate::{
    AxArchVCpu, AxError, AxResult, AxVCpu, AxVCpuExitReason, AxVCpuHal, GuestPhysAddr,
    HostPhysAddr, VCpuId, VmId,
};

std::thread_local! {
    static CPU: Cell<usize> = const { Cell::new(0) };
    /// A vCPU that CPU 1 binds at the next look at this CPU's number.
    static TO_BIND: Cell<Option<&'static AxVCpu<Arch>>> = const { Cell::new(None) };
}

struct Hal;

// SAFETY: one thread, whose number is told as the test says; the current vCPU is not used.
unsafe impl AxVCpuHal for Hal {
    type MmHal = super::fake::NoFrames;

    fn irq_hanlder() {}

    fn cpu_id() -> usize {
        if let Some(vcpu) = TO_BIND.take() {
            CPU.set(1);
            assert_eq!(vcpu.bind(), Ok(()));
            CPU.set(0);
        }
        CPU.get()
    }
}

/// A backend that notices where it is run.
struct Arch {
    bound: usize,
}

impl AxArchVCpu for Arch {
    type Hal = Hal;
    type CreateConfig = ();
    type SetupConfig = ();

    fn new(_vm_id: VmId, _vcpu_id: VCpuId, _config: ()) -> AxResult<Self> {
        Ok(Self { bound: usize::MAX })
    }

    fn set_entry(&mut self, _entry: GuestPhysAddr) -> AxResult {
        Ok(())
    }

    unsafe fn set_ept_root(&mut self, _root: HostPhysAddr) -> AxResult {
        Ok(())
    }

    fn setup(&mut self, _config: ()) -> AxResult {
        Ok(())
    }

    fn run(&mut self) -> AxResult<AxVCpuExitReason> {
        assert_eq!(self.bound, CPU.get(), "run where it is not bound");
        Ok(AxVCpuExitReason::SystemDown)
    }

    fn bind(&mut self) -> AxResult {
        self.bound = CPU.get();
        Ok(())
    }

    fn unbind(&mut self) -> AxResult {
        Ok(())
    }

    fn set_gpr(&mut self, _reg: usize, _val: u64) -> AxResult {
        Ok(())
    }

    fn inject_interrupt(&mut self, _vector: usize) -> AxResult {
        Ok(())
    }

    fn set_return_value(&mut self, _val: u64) {}
}

#[test]
fn bound_elsewhere_while_a_run_begins() {
    let vcpu: &'static AxVCpu<Arch> = Box::leak(Box::new(AxVCpu::new(0, 0, 0, None, ()).unwrap()));
    // SAFETY: the backend follows no root.
    unsafe { vcpu.setup(GuestPhysAddr::new(0), HostPhysAddr::new(0), ()) }.unwrap();
    TO_BIND.set(Some(vcpu));
    // It was free when the run began, or was bound to CPU 1 by then: never is it run here.
    let refused = vcpu.run();
    assert!(matches!(
        refused,
        Err(AxError::WrongCpu { bound: 1, current: 0 } | AxError::BadState { .. })
    ));
    CPU.set(1);
    if let Some(vcpu) = TO_BIND.take() {
        vcpu.bind().unwrap();
    }
    assert_eq!(vcpu.run(), Ok(AxVCpuExitReason::SystemDown));
}
