//! `axvcpu`: runs guests on Linux, on any AxVCpu backend that works there.
//!
//! Two parts are of use to other programs as well: [`hal`], which makes a Linux program a platform for
//! AxVCpu, and [`memory`], which gives a guest its RAM. The rest is the command, whose `main` function is
//! [`main`].

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
compile_error!(
    "this crate is for 64-bit Linux: guest memory does not fit into smaller address spaces"
);

mod args;
mod backends;
mod board;
mod end;
mod files;
mod fingerprint;
pub mod hal;
mod host;
mod machine;
pub mod memory;
mod report;
mod run;
mod size;
mod summary;
mod term;
mod touched;
mod usage;

use std::process::ExitCode;

use axvcpu_vmm::summary::status::POWER_OFF;
use clap::Parser;

use args::{Arguments, Command};
use report::Failure;

/// The program: reads the command line, does what it says, and answers the exit status.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        // What the user asked to see goes to standard output; if nobody reads it there is nothing to do.
        Err(shown) if !shown.use_stderr() => {
            let _ = shown.print();
            return ExitCode::SUCCESS;
        }
        Err(error) => return report::fail(&Failure::Usage(args::describe(&error))),
    };
    let result = match arguments.command {
        Command::Run(run) => run::run(&run),
        Command::Backends => backends::print().map(|()| POWER_OFF),
    };
    match result {
        Ok(status) => ExitCode::from(status),
        Err(failure) => report::fail(&failure),
    }
}
