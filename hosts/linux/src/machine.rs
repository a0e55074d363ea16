//! The machine that runs, and what its threads share.
#![allow(unsafe_code)] // promises what `GuestRam` keeps

use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, OnceLock};
use std::thread;

use axvcpu::HostPhysAddr;
use axvcpu_vmm::{ConsoleSink, Outcome, RamBacking};

use crate::args::Run;
use crate::board::{self, Board, Engine};
use crate::files::Kernel;
use crate::memory::GuestRam;
use crate::report::{Failure, say};
use crate::term::escape;
use crate::term::input::{Typed, Waker};
use crate::term::output::Output;

/// A vCPU's thread needs less than this for the backend and the devices.
const STACK: usize = 1 << 20;

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
    pub(crate) board: Box<dyn Board>,
    pub(crate) output: Output,
    cause: OnceLock<Cause>,
}

impl Machine {
    /// Builds the machine `args` describes. Nothing runs yet.
    pub(crate) fn new(
        engine: Engine,
        args: &Run,
        kernel: &Kernel,
        initrd: Option<&[u8]>,
        input: Waker,
    ) -> Result<Self, Failure> {
        let output = Output::default();
        let console = Arc::new(Console { output: output.clone(), input });
        let board = board::build(engine, args, kernel, initrd, console)?;
        Ok(Self { board, output, cause: OnceLock::new() })
    }

    /// Ends the run from outside. The first cause counts.
    pub(crate) fn end(&self, cause: Cause) {
        let _ = self.cause.set(cause); // an earlier one stays
        self.board.stop(Outcome::Stopped);
        self.output.discard(); // a vCPU may be waiting for the reader
    }

    /// Why the run was ended from outside, if it was.
    pub(crate) fn cause(&self) -> Option<&Cause> {
        self.cause.get()
    }

    /// Runs the guest until the end, with all its threads.
    pub(crate) fn execute(&self) {
        thread::scope(|scope| {
            for cpu in 0..self.board.threads() {
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
        let run = contain(&format!("vCPU {cpu}"), || self.board.run(cpu));
        if let Err(failure) = run {
            self.end(Cause::Failed(failure));
        }
    }
}

/// Makes a failure of what goes wrong in `run`, a panic included.
fn contain(name: &str, run: impl FnOnce() -> Result<(), String>) -> Result<(), Failure> {
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
        if self.0.output.is_stuck() { 0 } else { self.0.board.push_console_input(bytes) }
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
        let told = |run: fn() -> Result<(), String>| match contain("vCPU 1", run) {
            Err(Failure::Host(text)) => text,
            other => panic!("{other:?}"),
        };
        assert_eq!(told(|| panic!("plain")), "vCPU 1 panicked: plain");
        assert_eq!(told(|| panic!("with {}", 1)), "vCPU 1 panicked: with 1");
        assert_eq!(told(|| std::panic::panic_any(7)), "vCPU 1 panicked: no message");
        assert_eq!(
            told(|| Err("this thread is a physical CPU already".into())),
            "vCPU 1: this thread is a physical CPU already"
        );
        assert!(contain("vCPU 1", || Ok(())).is_ok());
    }
}
