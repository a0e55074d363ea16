//! The machine itself, whichever backend runs it: what the rest of the program has to do with it.

#[cfg(target_arch = "x86_64")]
mod kvm;
mod soft;

use std::sync::Arc;

use axvcpu_vmm::riscv::BuildError;
use axvcpu_vmm::summary::Repeatable;
use axvcpu_vmm::{ConsoleSink, CpuStats, Outcome};

use crate::args::Run;
use crate::files::Kernel;
use crate::memory::GuestRam;
use crate::report::{Failure, quoted};

/// What executes a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    /// The RISC-V hart in software.
    Soft,
    /// Linux's KVM.
    Kvm,
}

/// A machine that has not started, runs or has ended.
pub(crate) trait Board: Send + Sync {
    /// The backend's name.
    fn backend(&self) -> &'static str;

    /// How many threads are needed to run it.
    fn threads(&self) -> usize;

    /// Runs the guest's CPUs of one of these threads until the machine ends. An error is the host's.
    fn run(&self, thread: usize) -> Result<(), String>;

    /// Ends the machine.
    fn stop(&self, outcome: Outcome);

    /// How it ended.
    fn outcome(&self) -> Option<Outcome>;

    /// Types on its console. Answers how much of it there was room for.
    fn push_console_input(&self, bytes: &[u8]) -> usize;

    /// What its CPUs did.
    fn stats(&self) -> Vec<CpuStats>;

    /// How many instructions its CPUs executed, if somebody has counted.
    fn instructions(&self) -> Option<Vec<u64>> {
        None
    }

    /// What is the same whenever the run is repeated, if anything is.
    fn repeatable(&self) -> Option<Repeatable> {
        None
    }
}

/// Builds the machine that the user wants, with everything loaded.
pub(crate) fn build(
    engine: Engine,
    args: &Run,
    kernel: &Kernel,
    initrd: Option<&[u8]>,
    console: Arc<dyn ConsoleSink>,
) -> Result<Box<dyn Board>, Failure> {
    let ram = GuestRam::new(args.memory.0 as usize).map_err(|error| {
        Failure::Usage(format!(
            "this machine does not give {} of memory to a guest ({error}); ask for less with --memory",
            args.memory
        ))
    })?;
    match engine {
        Engine::Soft => Ok(Box::new(soft::Soft::new(args, kernel, initrd, ram, console)?)),
        #[cfg(target_arch = "x86_64")]
        Engine::Kvm => Ok(Box::new(kvm::OnKvm::new(args, kernel, initrd, ram, console)?)),
        #[cfg(not(target_arch = "x86_64"))]
        Engine::Kvm => Err(Failure::Usage(crate::backends::NO_KVM.into())),
    }
}

/// Whose fault it is that a machine could not be built.
fn refused(args: &Run, error: BuildError) -> Failure {
    match error {
        BuildError::Kernel(error) => {
            Failure::Usage(format!("kernel {}: {error}", quoted(&args.kernel)))
        }
        BuildError::Initrd(error) => Failure::Usage(error.to_string()),
        error @ (BuildError::CommandLineNul | BuildError::CommandLineTooLong { .. }) => {
            Failure::Usage(format!("--append: {error}"))
        }
        error => Failure::host("the machine cannot be built", error),
    }
}
