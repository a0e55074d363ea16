//! A backend that does nothing right, for suites whose CPUs a machine need not have.
#![allow(unsafe_code)] // implements a backend

use std::marker::PhantomData;

use axvcpu::{
    AxArchVCpu, AxResult, AxVCpuExitReason, Fence, GuestPhysAddr, HostPhysAddr, VCpuId, VmId,
};
use axvcpu_conformance::{Outcome, Report, Subject};

use crate::platform::Threads;

/// A backend whose guests never get anywhere, set up with a `C`.
pub(crate) struct Idle<C>(PhantomData<C>);

impl<C: 'static> AxArchVCpu for Idle<C> {
    type Hal = Threads;
    type CreateConfig = ();
    type SetupConfig = C;

    fn new(_: VmId, _: VCpuId, _: ()) -> AxResult<Self> {
        Ok(Self(PhantomData))
    }
    fn set_entry(&mut self, _: GuestPhysAddr) -> AxResult {
        Ok(())
    }
    unsafe fn set_ept_root(&mut self, _: HostPhysAddr) -> AxResult {
        Ok(())
    }
    fn setup(&mut self, _: C) -> AxResult {
        Ok(())
    }
    fn run(&mut self) -> AxResult<AxVCpuExitReason> {
        Ok(AxVCpuExitReason::FailEntry { reason: 0 })
    }
    fn bind(&mut self) -> AxResult {
        Ok(())
    }
    fn unbind(&mut self) -> AxResult {
        Ok(())
    }
    fn set_gpr(&mut self, _: usize, _: u64) -> AxResult {
        Ok(())
    }
    fn inject_interrupt(&mut self, _: usize) -> AxResult {
        Ok(())
    }
    fn set_return_value(&mut self, _: u64) {}
    fn fence(&mut self, _: Fence) -> AxResult {
        Ok(())
    }
    fn set_interrupt_line(&mut self, _: usize, _: bool) -> AxResult {
        Ok(())
    }
    // With these three refused, cases would be skipped.
    fn reset(&mut self) -> AxResult {
        Ok(())
    }
    fn retry(&mut self) -> AxResult {
        Ok(())
    }
    fn fail_access(&mut self) -> AxResult {
        Ok(())
    }
}

/// Machines of such vCPUs, and what they are set up with.
pub(crate) struct Nothing<C>(pub(crate) C);

impl<C: Copy + Send + Sync + 'static> Subject for Nothing<C> {
    type Arch = Idle<C>;
    type Machine = ();
    fn name(&self) -> &str {
        "nothing"
    }
    fn machine(&self) -> AxResult {
        Ok(())
    }
    fn create_config(&self, (): &()) -> AxResult {
        Ok(())
    }
    fn setup_config(&self) -> C {
        self.0
    }
    fn sleep(&self, _: u64) {}
    fn on_two_cpus(&self, _: &mut dyn FnMut(), _: &mut (dyn FnMut() + Send)) -> bool {
        false
    }
}

/// Guests are in order, names tell cases apart, and none passes.
pub(crate) fn nothing_passes(report: &Report) {
    assert!(!report.cases().is_empty(), "{report}");
    for case in report.cases() {
        match &case.outcome {
            Outcome::Failed(failure) => {
                let text = failure.to_string();
                assert!(!text.contains("the suite's own guest"), "{}: {text}", case.name);
            }
            Outcome::Skipped(reason) => {
                assert_eq!(*reason, "needs a second physical CPU", "{}", case.name);
            }
            Outcome::Passed => panic!("{} passed", case.name),
        }
    }
    let mut names: Vec<_> = report.cases().iter().map(|case| case.name).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "two cases have the same name");
}
