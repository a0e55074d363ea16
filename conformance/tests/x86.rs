//! The suite for x86-64, as far as a machine without such CPUs can try it: its guests assemble, and a backend that does
//! nothing right passes no case.
#![allow(unsafe_code)] // implements a backend

mod platform;

use axvcpu::{
    AxArchVCpu, AxResult, AxVCpuExitReason, Fence, GuestPhysAddr, HostPhysAddr, VCpuId, VmId,
};
use axvcpu_conformance::{Outcome, Subject, x86};
use axvcpu_x86::start::Start;
use platform::Threads;

/// A backend whose guests never get anywhere.
struct Idle;

impl AxArchVCpu for Idle {
    type Hal = Threads;
    type CreateConfig = ();
    type SetupConfig = Start;

    fn new(_: VmId, _: VCpuId, _: ()) -> AxResult<Self> {
        Ok(Self)
    }
    fn set_entry(&mut self, _: GuestPhysAddr) -> AxResult {
        Ok(())
    }
    unsafe fn set_ept_root(&mut self, _: HostPhysAddr) -> AxResult {
        Ok(())
    }
    fn setup(&mut self, _: Start) -> AxResult {
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
}

struct Nothing;

impl Subject for Nothing {
    type Arch = Idle;
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
    fn setup_config(&self) -> Start {
        Start::REAL
    }
    fn sleep(&self, _: u64) {}
    fn on_two_cpus(&self, _: &mut dyn FnMut(), _: &mut (dyn FnMut() + Send)) -> bool {
        false
    }
}

impl x86::Subject for Nothing {
    fn setup_for(&self, start: Start) -> Start {
        start
    }
    fn lines(&self) -> bool {
        true
    }
}

#[test]
fn the_guests_assemble_and_nothing_passes() {
    let report = x86::run(&Nothing);
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
