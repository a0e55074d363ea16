//! A guest on KVM in a virtual machine: `axvcpu run` as on this machine, but in the one that QEMU emulates.

use std::fs;
use std::io::{IsTerminal as _, stdin};

use anyhow::anyhow;

use super::{Failure, Options, Summary, console, files, finish, fresh_mark};
use crate::l1::{self, PORT, quoted};

/// Runs the guest there.
pub(super) fn run(options: &Options) -> Result<u8, Failure> {
    let files = files(options)?;
    let mut machine = l1::Machine::prepare()?;
    machine.make_room_for(options.memory.0);
    if let Some(cpu) = &options.qemu_cpu {
        machine.cpu.clone_from(cpu);
    }
    machine.add("kernel", files.kernel);
    if let Some(initrd) = files.initrd {
        machine.add("initrd", initrd);
    }
    let mark = fresh_mark();
    let script = script(options, &files.append, &mark, stdin().is_terminal());
    // Several may run at the same time.
    let name = format!("run-{}", std::process::id());
    let mut command = machine.command(&name, options.harts(), &script, Vec::new())?;
    let result = console(&mut command, &mark, options.quiet).and_then(|ended| match ended {
        Some((ended, status)) => finish(true, &ended, status),
        None => Ok(super::status::CLOSED),
    });
    // It may not have come as far as to have files.
    let _ = fs::remove_file(l1::initrd(&name));
    match result {
        Err(Failure::Host(error)) => Err(Failure::Host(anyhow!(
            "{error:#}; the messages of its kernel are in {}",
            l1::messages(&name).display()
        ))),
        other => {
            let _ = fs::remove_file(l1::messages(&name));
            other
        }
    }
}

/// What the machine does: the guest's output is between two marks, behind them is what there is to say, and the status.
fn script(options: &Options, append: &str, mark: &str, terminal: bool) -> String {
    let mut run = format!(
        "axvcpu run --backend {} --kernel /kernel --append {} --cpus {} --memory {}",
        options.backend.name(),
        quoted(append),
        options.cpus,
        options.memory.0
    );
    if options.kernel.is_none() || options.initrd.is_some() {
        run += " --initrd /initrd";
    }
    run += &match options.quiet {
        true => " --quiet".to_owned(),
        false => format!(" --summary {}", Summary::name(options.summary)),
    };
    // What is piped in must not look like a terminal there, where keys have a meaning. `cat` would hold the pipe's lock
    // in the kernel while it waits for input (sendfile(2)), and so keep its reader from closing it.
    let (before, input) = match terminal {
        true => (String::new(), ""),
        false => {
            (format!("mkfifo /tmp/in\ndd bs=4k <{PORT} >/tmp/in 2>/dev/null &\n"), " </tmp/in")
        }
    };
    format!(
        "stty raw -echo\n\
         {before}\
         printf '\\036{mark}\\r\\n'\n\
         {run}{input} 2>/tmp/words\n\
         code=$?\n\
         printf '\\036{mark}\\r\\n'\n\
         cat /tmp/words\n\
         printf '\\036{mark}=%s\\r\\n' $code\n"
    )
}
