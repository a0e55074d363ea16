//! `cargo xtask demo`: boots Debian in a virtual machine made of this
//! repository, with its console on the terminal.

use std::io::{Read, Write, stdout};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::arch::Arch;
use crate::assets::{guest, initrd};
use crate::{cargo, proc};

/// What the demonstration can be told.
#[derive(Args)]
pub(crate) struct Options {
    /// Virtual processors of the guest
    #[arg(long, default_value_t = 1)]
    cpus: u32,
    /// Memory of the guest
    #[arg(long, default_value = "512M")]
    memory: String,
    /// A kernel of your own instead of Debian's
    #[arg(long)]
    kernel: Option<PathBuf>,
    /// An initial file system of your own; then only the power-off is checked
    #[arg(long)]
    initrd: Option<PathBuf>,
    /// More kernel parameters
    #[arg(long, default_value = "")]
    append: String,
    /// Give a shell on the guest's console; `exit` powers off
    #[arg(long)]
    shell: bool,
    /// Seconds until a guest that has not powered off is killed (0: never)
    #[arg(long, default_value_t = 300)]
    timeout: u64,
}

/// What `axvcpu run` ends with when the user left the guest.
const LEFT: i32 = 130;

/// Runs the demonstration; succeeds if the guest did all it should.
pub(crate) fn command(options: &Options) -> Result<ExitCode> {
    let (kernel, initrd) = files(options)?;
    let cli = cargo::build_cli()?;

    let mut append = String::from("console=ttyS0");
    if options.shell {
        append += &format!(" quiet {}", initrd::mode::SHELL);
    }
    if !options.append.is_empty() {
        append += &format!(" {}", options.append);
    }
    let mut run = Command::new(&cli);
    run.arg("run").arg("--kernel").arg(&kernel).arg("--initrd").arg(&initrd);
    run.args(["--append", &append, "--memory", &options.memory]);
    run.arg("--cpus").arg(options.cpus.to_string());
    eprintln!("  {}", proc::line(&run));

    let limit = match options.timeout {
        0 => None,
        _ if options.shell => None,
        seconds => Some(Duration::from_secs(seconds)),
    };
    // A shell gets the terminal itself; otherwise the output passes through here
    // to be checked.
    let output = if options.shell { Stdio::inherit() } else { Stdio::piped() };
    let start = Instant::now();
    let mut child = proc::spawn(run.stdout(output))?;
    let console = tee(&mut child);
    let (status, timed_out) = proc::wait(&mut child, start, limit)?;
    let seconds = start.elapsed().as_secs_f64();
    let console = match console.map(thread::JoinHandle::join) {
        Some(Ok(console)) => Some(console),
        Some(Err(_)) => bail!("the guest's console could not be read"),
        None => None,
    };

    if timed_out {
        bail!("the guest did not power off within {} s and was stopped", options.timeout);
    }
    // Ctrl-A x is how the user leaves a shell.
    if options.shell && status.code() == Some(LEFT) {
        return Ok(ExitCode::SUCCESS);
    }
    if !status.success() {
        bail!("the guest did not power off: `axvcpu run` ended with {status}");
    }
    if let (Some(console), None) = (&console, &options.initrd) {
        check(console, options.cpus)?;
    }
    eprintln!("  the guest ran to its power-off in {seconds:.1} s");
    Ok(ExitCode::SUCCESS)
}

/// The kernel and the initial file system to boot.
fn files(options: &Options) -> Result<(PathBuf, PathBuf)> {
    if let (Some(kernel), Some(initrd)) = (&options.kernel, &options.initrd) {
        return Ok((kernel.clone(), initrd.clone()));
    }
    let guest = guest::fetch(Arch::Riscv64).context(
        "no Debian guest: pass files of your own with `--kernel K --initrd I`, \
         or make Debian's archive reachable",
    )?;
    let initrd = match &options.initrd {
        Some(initrd) => initrd.clone(),
        None => initrd::build(&guest.busybox, Arch::Riscv64, "demo", None)?,
    };
    Ok((options.kernel.clone().unwrap_or(guest.kernel), initrd))
}

/// Copies the child's standard output to ours and keeps it.
fn tee(child: &mut Child) -> Option<thread::JoinHandle<String>> {
    let mut pipe = child.stdout.take()?;
    Some(thread::spawn(move || {
        let mut text = Vec::new();
        let mut chunk = [0; 4096];
        while let Ok(count @ 1..) = pipe.read(&mut chunk) {
            text.extend_from_slice(&chunk[..count]);
            // With our output closed, the guest's is still checked.
            let _ = stdout().write_all(&chunk[..count]).and_then(|()| stdout().flush());
        }
        String::from_utf8_lossy(&text).into_owned()
    }))
}

/// Checks that `console` shows a guest that found `cpus` processors, computed
/// the right hash, and came to the end of its start script.
pub(crate) fn check(console: &str, cpus: u32) -> Result<()> {
    // The kernel's messages share the console and may end up in front.
    let has = |wanted: &str| console.lines().any(|line| line.trim_end().ends_with(wanted));
    for wanted in [
        initrd::BEGIN,
        &format!("{} {cpus}", initrd::CPUS),
        &format!("{} {}", initrd::SHA256, initrd::KNOWN_SHA256),
        initrd::END,
    ] {
        if !has(wanted) {
            bail!("the guest's console does not show `{wanted}`");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console(cpus: u32, hash: &str) -> String {
        format!(
            "[    0.1] boot\r\n{}\r\n{} {cpus}\r\n[ 1.0] x {} {hash}\r\n{}\r\n",
            initrd::BEGIN,
            initrd::CPUS,
            initrd::SHA256,
            initrd::END
        )
    }

    #[test]
    fn a_complete_console_passes() {
        check(&console(4, initrd::KNOWN_SHA256), 4).unwrap();
    }

    #[test]
    fn a_wrong_console_does_not() {
        assert!(check(&console(14, initrd::KNOWN_SHA256), 4).is_err());
        assert!(check(&console(4, "0000"), 4).is_err());
        assert!(check(&console(4, initrd::KNOWN_SHA256).replace("end", "e"), 4).is_err());
        assert!(check("", 1).is_err());
    }
}
