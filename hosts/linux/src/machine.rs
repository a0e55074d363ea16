//! The machine that runs, and what its threads share.
#![allow(unsafe_code)] // promises what `GuestRam` keeps

use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, OnceLock};
use std::thread;

use axvcpu::HostPhysAddr;
use axvcpu_soft::{Clock as SoftClock, SoftConfig, SoftVCpu, VirtualClock};
use axvcpu_vmm::riscv::{BuildError, RiscvVm, RiscvVmConfig};
use axvcpu_vmm::{ConsoleSink, Outcome, RamBacking};

use crate::args::{Clock, Run};
use crate::hal::{LinuxHal, RegisterError, monotonic_ns};
use crate::host::{Host, random};
use crate::memory::GuestRam;
use crate::report::{Failure, quoted, say};
use crate::term::escape;
use crate::term::input::{Typed, Waker};
use crate::term::output::Output;

/// The virtual machine of the soft backend.
pub(crate) type Vm = RiscvVm<SoftVCpu<LinuxHal>>;

/// A vCPU's thread needs less than this for the backend and the devices.
const STACK: usize = 1 << 20;

/// The seed of a run that is to be repeatable.
const FIXED_SEED: u64 = 0x4178_5643_7075_2121;

/// Why a run ends that the guest did not end itself.
#[derive(Debug)]
pub(crate) enum Cause {
    /// The user left with the escape key.
    Left,
    /// A signal asked for it.
    Signal(i32),
    /// Nobody reads the console any more.
    OutputGone,
    /// The host failed.
    Failed(Failure),
}

impl Cause {
    /// The console could not be written to.
    pub(crate) fn output(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::OutputGone,
            _ => Self::Failed(Failure::host("the guest's output cannot be written", error)),
        }
    }
}

/// A virtual machine with the user's side of it.
pub(crate) struct Machine {
    pub(crate) vm: Vm,
    pub(crate) output: Output,
    /// `None`: guest time is the host's.
    clock: Option<Arc<VirtualClock>>,
    cause: OnceLock<Cause>,
}

impl Machine {
    /// Builds the machine `args` describes. Nothing runs yet.
    pub(crate) fn new(
        args: &Run,
        kernel: &[u8],
        initrd: Option<&[u8]>,
        input: Waker,
    ) -> Result<Self, Failure> {
        let (clock, soft_clock, seed) = match args.clock {
            Clock::Host => (None, SoftClock::Host(monotonic_ns), random()),
            Clock::Instructions => {
                let clock = VirtualClock::new();
                (Some(Arc::clone(&clock)), SoftClock::Instructions(clock), Some(FIXED_SEED))
            }
        };
        let ram = GuestRam::new(args.memory.0 as usize).map_err(|error| {
            Failure::Usage(format!(
                "this machine does not give {} of memory to a guest ({error}); ask for less with --memory",
                args.memory
            ))
        })?;
        let output = Output::default();
        let console = Arc::new(Console { output: output.clone(), input });
        let config = RiscvVmConfig {
            cpus: args.cpus.into(),
            isa: axvcpu_soft::ISA,
            mmu_type: axvcpu_soft::MMU_TYPE,
            timebase: 1_000_000_000 / axvcpu_soft::NS_PER_TICK,
            kernel,
            initrd,
            bootargs: &args.append,
            seed,
            ..Default::default()
        };
        let vm = Vm::new(
            &config,
            Box::new(ram),
            console,
            |_| SoftConfig::new(soft_clock.clone()),
            |_| (),
        )
        .map_err(|error| refused(args, error))?;
        Ok(Self { vm, output, clock, cause: OnceLock::new() })
    }

    /// Ends the run from outside. The first cause counts.
    pub(crate) fn end(&self, cause: Cause) {
        let _ = self.cause.set(cause); // an earlier one stays
        self.vm.stop(Outcome::Stopped);
        self.output.discard(); // a vCPU may be waiting for the reader
    }

    /// Why the run was ended from outside, if it was.
    pub(crate) fn cause(&self) -> Option<&Cause> {
        self.cause.get()
    }

    /// Guest time if it follows the instructions executed, in nanoseconds.
    pub(crate) fn virtual_time(&self) -> Option<u64> {
        self.clock.as_ref().map(|clock| clock.now_ns())
    }

    /// Runs the guest until the end, with all its threads.
    pub(crate) fn execute(&self) {
        let cpus = if self.clock.is_some() { 1 } else { self.vm.cpus().len() };
        thread::scope(|scope| {
            for cpu in 0..cpus {
                let thread = thread::Builder::new().name(format!("vcpu {cpu}")).stack_size(STACK);
                if let Err(error) = thread.spawn_scoped(scope, move || self.guarded(cpu)) {
                    let failure = Failure::host("a vCPU's thread cannot be started", error);
                    self.end(Cause::Failed(failure));
                    break;
                }
            }
        });
    }

    /// One vCPU's thread, or that of all vCPUs: whatever goes wrong there ends the run.
    fn guarded(&self, cpu: usize) {
        let run = contain(&format!("vCPU {cpu}"), || {
            let host = Host::new(self.clock.clone())?;
            match self.clock {
                None => self.vm.run_vcpu(cpu, &host),
                Some(_) => self.vm.run_in_turn(&host),
            };
            Ok(())
        });
        if let Err(failure) = run {
            self.end(Cause::Failed(failure));
        }
    }
}

/// Makes a failure of what goes wrong in `run`, a panic included.
fn contain(name: &str, run: impl FnOnce() -> Result<(), RegisterError>) -> Result<(), Failure> {
    // What a panic leaves half-changed is not used again: the run ends and the rest is only looked at.
    match panic::catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => result.map_err(|error| Failure::host(name, error)),
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().copied();
            let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
            Err(Failure::host(&format!("{name} panicked"), text.unwrap_or("no message")))
        }
    }
}

/// Whose fault it is that a machine could not be built.
fn refused(args: &Run, error: BuildError) -> Failure {
    match error {
        BuildError::Kernel(error) => {
            Failure::Usage(format!("kernel {}: {error}", quoted(&args.kernel)))
        }
        BuildError::Initrd(error) => Failure::Usage(error.to_string()),
        error => Failure::host("the machine cannot be built", error),
    }
}

/// The guest's side of the console.
struct Console {
    output: Output,
    input: Waker,
}

impl ConsoleSink for Console {
    fn write(&self, bytes: &[u8]) {
        self.output.write(bytes);
    }

    fn flush(&self) {
        self.output.flush();
    }

    fn input_wanted(&self) {
        self.input.wake();
    }
}

/// The user's side of the console.
pub(crate) struct Keyboard(pub(crate) Arc<Machine>);

impl Typed for Keyboard {
    fn offer(&self, bytes: &[u8]) -> usize {
        // The serial port is held by a vCPU that waits for the console's reader; waiting for the port in turn
        // would make this thread deaf.
        if self.0.output.is_stuck() { 0 } else { self.0.vm.push_console_input(bytes) }
    }

    fn leave(&self) {
        self.0.end(Cause::Left);
    }

    fn help(&self) {
        escape::HELP.lines().for_each(say);
    }
}

// SAFETY: see `GuestRam`: mapped, and nobody else's, until it is dropped.
unsafe impl RamBacking for GuestRam {
    fn host_phys(&self) -> HostPhysAddr {
        self.host_address()
    }

    fn size(&self) -> u64 {
        GuestRam::size(self) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_wrong_in_a_thread_is_a_failure_of_the_host() {
        let told = |run: fn() -> Result<(), RegisterError>| match contain("vCPU 1", run) {
            Err(Failure::Host(text)) => text,
            other => panic!("{other:?}"),
        };
        assert_eq!(told(|| panic!("plain")), "vCPU 1 panicked: plain");
        assert_eq!(told(|| panic!("with {}", 1)), "vCPU 1 panicked: with 1");
        assert_eq!(told(|| std::panic::panic_any(7)), "vCPU 1 panicked: no message");
        assert_eq!(
            told(|| Err(RegisterError::AlreadyACpu)),
            "vCPU 1: this thread is a physical CPU already"
        );
        assert!(contain("vCPU 1", || Ok(())).is_ok());
    }
}
