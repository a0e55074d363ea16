//! The hypervisor: one virtual machine, with the files that the machine's loader brought, on all physical CPUs.
//!
//! The guest's console is the serial port. Its output stands between two lines of the hypervisor: the record
//! separator (0x1e) and the `mark` from the hypervisor's command line, which no guest knows. Behind the second is
//! the summary, or what went wrong. Where a machine cannot end with a status, a last line tells it: the record
//! separator, the mark, `=` and the number.
#![cfg_attr(target_os = "none", no_std)]
#![cfg_attr(target_os = "none", no_main)]

extern crate alloc;

#[cfg(target_arch = "aarch64")]
mod arm;
mod options;
mod ram;
#[cfg(not(target_arch = "aarch64"))]
mod riscv;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use axvcpu_baremetal::{Host, Machine, mark, print, println, read_input, status, time};
use axvcpu_vmm::{BuildError, End, Summary};

#[cfg(target_arch = "aarch64")]
use arm as arch;
#[cfg(not(target_arch = "aarch64"))]
use riscv as arch;

use arch::{BACKEND, COMMAND_LINE, Vm};
use options::{Form, Options};
use ram::GuestRam;

axvcpu_baremetal::main!(hypervisor);

/// Why no guest was started.
enum Failure {
    /// The user can do something about it: says what is wrong and what to do.
    Usage(String),
    /// The host could not do its part.
    Host(String),
}

fn hypervisor(machine: &'static Machine) -> u8 {
    let mark = mark::find(machine.bootargs());
    separate(mark);
    let (text, status) = match prepare(machine) {
        Ok((options, vm)) => return run(machine, &options, mark, &vm),
        Err(Failure::Usage(text)) => (text, status::USAGE),
        Err(Failure::Host(text)) => (text, status::HOST),
    };
    separate(mark);
    println!("axvcpu: {}", one_line(&text));
    status
}

fn prepare(machine: &Machine) -> Result<(Options, Arc<Vm>), Failure> {
    let options = Options::parse(machine.bootargs()).map_err(Failure::Usage)?;
    let vm = build(machine, &options)?;
    Ok((options, vm))
}

/// Builds the machine that the options and the files describe. Nothing runs yet.
fn build(machine: &Machine, options: &Options) -> Result<Arc<Vm>, Failure> {
    let usage = |text: &str| Failure::Usage(text.into());
    let files = machine.guest().ok_or_else(|| {
        usage("no kernel was loaded; give one with -device guest-loader,addr=ADDRESS,kernel=FILE")
    })?;
    if files.bootargs.len() > COMMAND_LINE {
        return Err(Failure::Usage(format!(
            "the kernel's command line has {} bytes, but Linux reads no more than {COMMAND_LINE}; shorten it",
            files.bootargs.len()
        )));
    }
    let ram = GuestRam::new(options.memory).ok_or_else(|| {
        Failure::Usage(format!(
            "this machine does not have {} MiB of memory in one piece for a guest; ask for less with memory=, or give \
             it more",
            options.memory >> 20
        ))
    })?;
    let vm = arch::build(machine, options, &files, ram);
    vm.map(Arc::new).map_err(|error| match error {
        BuildError::Kernel(_) | BuildError::Initrd(_) => Failure::Usage(error.to_string()),
        error => Failure::Host(format!("the machine cannot be built: {error}")),
    })
}

/// Runs the machine to its end on all physical CPUs, and reports. Answers the exit status.
fn run(machine: &Machine, options: &Options, mark: &str, vm: &Arc<Vm>) -> u8 {
    let target = Arc::clone(vm);
    read_input(Some(Box::new(move |bytes| target.push_console_input(bytes))));
    let start = time::now_ns();
    machine.on_all_cpus(&|cpu| {
        let own: Vec<_> = (cpu..options.cpus.into()).step_by(machine.cpus()).collect();
        if !own.is_empty() {
            vm.run_vcpus(&own, &Host::new(machine));
        }
    });
    let wall_ns = time::now_ns() - start;
    read_input(None);

    let end = End::new(vm.outcome(), None);
    separate(mark);
    let summary = Summary {
        end: &end,
        backend: BACKEND,
        memory: options.memory,
        wall_ns,
        process: None,
        instructions: None,
        stats: &vm.stats(),
        measured: false,
        repeatable: None,
    };
    // The summary as text begins with how the run ended, failures included.
    if let Some(failure) = end.failure().filter(|_| options.summary != Form::Text) {
        println!("axvcpu: {}", one_line(failure));
    }
    match options.summary {
        Form::None => {}
        Form::Text => print!("{}", summary.text()),
        Form::Json => print!("{}", summary.json()),
    }
    end.status()
}

/// Begins or ends the guest's output.
fn separate(mark: &str) {
    println!("\u{1e}{mark}");
}

/// A text that fits on one line and cannot steer the terminal, wherever parts of it come from.
fn one_line(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut line, c| {
        if c.is_control() {
            line.extend(c.escape_debug());
        } else {
            line.push(c);
        }
        line
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_not_sent() {
        assert_eq!(one_line("a\nb\x1b[2J"), r"a\nb\u{1b}[2J");
    }
}
