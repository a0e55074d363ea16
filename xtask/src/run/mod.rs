//! `cargo xtask run`: one command that boots a guest on any backend, with its
//! console on this terminal and the exit status of `axvcpu run`.

mod in_vm;
mod options;
mod output;

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::{BuildHasher as _, Hasher as _};
use std::io::{ErrorKind, IsTerminal as _, Write as _, stderr, stdin, stdout};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};

use anyhow::{Context as _, Error, anyhow};

pub(crate) use self::options::Options;
use self::options::{Backend, Summary};
use self::output::Ended;
use crate::arch::Bare;
use crate::assets::{guest, initrd, qemu};
use crate::machine::{Guest, Machine};
use crate::{bare, cargo, proc, progress};

/// The exit statuses that do not come from the guest's end.
mod status {
    /// Wrong usage: nothing was started.
    pub(super) const USAGE: u8 = 2;
    /// The host failed.
    pub(super) const HOST: u8 = 5;
    /// The user left the guest.
    pub(super) const LEFT: u8 = 130;
    /// Nobody reads the guest's output any more.
    pub(super) const CLOSED: u8 = 141;
}

/// Why there is no guest that ended.
enum Failure {
    Usage(String),
    Host(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Host(error)
    }
}

/// Runs a guest as `options` say and answers with its exit status.
pub(crate) fn command(options: &Options) -> ExitCode {
    if options.quiet {
        progress::hide();
    }
    let result = match (options.backend.bare_metal(), options.in_vm) {
        (Some(arch), false) => bare_metal(options, arch),
        (None, false) => hosted(options),
        (_, true) if options.backend == Backend::Kvm => in_vm::run(options),
        (_, true) => Err(Failure::Usage("--in-vm is for `--backend kvm`".into())),
    };
    let (why, status) = match result {
        Ok(status) => return status.into(),
        Err(Failure::Usage(why)) => (why, status::USAGE),
        Err(Failure::Host(error)) => (format!("{error:#}"), status::HOST),
    };
    eprintln!("error: {why}");
    status.into()
}

/// What the guest is made of.
struct Files {
    kernel: PathBuf,
    initrd: Option<PathBuf>,
    append: String,
}

/// What the user named; the demonstration's if that is nothing.
fn files(options: &Options) -> Result<Files, Failure> {
    let own = |file: &PathBuf, role| check(file, role, options.memory.0).map(|()| file.clone());
    let initrd = options.initrd.as_ref().map(|file| own(file, "initrd")).transpose()?;
    if let Some(kernel) = &options.kernel {
        let append = options.append.clone().unwrap_or_default();
        return Ok(Files { kernel: own(kernel, "kernel")?, initrd, append });
    }
    let arch = options.backend.arch();
    let guest = guest::fetch(arch).context(
        "no Debian guest: pass files of your own with `--kernel K --initrd I`, \
         or make Debian's archive reachable",
    )?;
    let initrd = match initrd {
        Some(initrd) => initrd,
        None => initrd::build(&guest.busybox, arch, "demo", None)?,
    };
    let append = options.append.clone().unwrap_or_else(|| arch.console().into());
    Ok(Files { kernel: guest.kernel, initrd: Some(initrd), append })
}

/// Whether `file` can be loaded at all.
fn check(file: &Path, role: &str, memory: u64) -> Result<(), Failure> {
    let refused = |why: String| Err(Failure::Usage(format!("{role} {}{why}", file.display())));
    let metadata = match fs::File::open(file).and_then(|file| file.metadata()) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return refused(" does not exist".into());
        }
        Err(error) => return refused(format!(" cannot be read: {error}")),
    };
    match metadata.len() {
        _ if !metadata.is_file() => refused(" is no file with a size; give one".into()),
        0 => refused(" is empty".into()),
        size if size > memory => refused(format!(
            " ({size} bytes) does not fit into {} of memory: raise --memory",
            options::Size(memory)
        )),
        _ => Ok(()),
    }
}

/// Runs the guest on this operating system.
fn hosted(options: &Options) -> Result<u8, Failure> {
    if options.host_cpus.is_some() || options.qemu_cpu.is_some() {
        let why = "--host-cpus and --qemu-cpu describe the machine of `--backend riscv64`, \
                   `aarch64` or `kvm --in-vm`";
        return Err(Failure::Usage(why.into()));
    }
    let files = files(options)?;
    let cli = cargo::build_cli()?;
    let mut command = Command::new(cli);
    command.arg("run").arg("--kernel").arg(&files.kernel).args(["--append", &files.append]);
    if let Some(initrd) = &files.initrd {
        command.arg("--initrd").arg(initrd);
    }
    command.args(["--backend", options.backend.name(), "--cpus", &options.cpus.to_string()]);
    command.args(["--memory", &options.memory.0.to_string()]);
    match options.quiet {
        true => command.arg("--quiet"),
        false => command.args(["--summary", options.summary.name()]),
    };
    let status = proc::spawn(&mut command)?.wait().context("cannot wait for `axvcpu`")?;
    Ok(code(status))
}

/// Runs the guest in a hypervisor of its own on QEMU's machine.
fn bare_metal(options: &Options, arch: Bare) -> Result<u8, Failure> {
    let files = files(options)?;
    let qemu = qemu::fetch(arch.guests())?;
    let image = bare::image("hypervisor", arch)?;
    let mark = fresh_mark();
    let summary = if options.quiet { Summary::None } else { options.summary };
    let mut command = Machine {
        arch,
        qemu: &qemu.system,
        cpu: options.qemu_cpu.as_deref().unwrap_or(arch.cpu()),
        harts: options.harts(),
        image: &image,
        append: &format!(
            "cpus={} memory={} summary={} mark={mark}",
            options.cpus,
            options.memory.0,
            summary.name()
        ),
        memory: options.memory.0,
        guest: Some(Guest {
            kernel: &files.kernel,
            initrd: files.initrd.as_deref(),
            append: &files.append,
        }),
    }
    .command()?;
    // A machine that switches itself off with a status hands it on; where it cannot, the hypervisor prints it.
    let printed = match arch {
        Bare::Riscv64 => false,
        Bare::Aarch64 => true,
    };
    match console(&mut command, &mark, options.quiet)? {
        Some((ended, status)) => finish(printed, &ended, status),
        None => Ok(status::CLOSED),
    }
}

/// What separates the guest's output from the rest: nothing that a guest could know.
fn fresh_mark() -> String {
    format!("{:016x}", RandomState::new().build_hasher().finish())
}

/// Runs QEMU with this program's input and output as the next serial port of its machine. `None` if nobody reads the
/// output any more.
fn console(
    command: &mut Command,
    mark: &str,
    quiet: bool,
) -> Result<Option<(Ended, ExitStatus)>, Failure> {
    let terminal = stdin().is_terminal();
    match terminal {
        // A key combination leaves.
        true => command.args(["-serial", "mon:stdio"]),
        // Piped input goes to the guest as it is.
        false => command.args(["-serial", "stdio", "-monitor", "none"]),
    };
    if terminal && !quiet {
        eprintln!("  Ctrl-A x leaves, Ctrl-A h shows the keys");
    }
    let mut child = proc::spawn(command.stdout(Stdio::piped()))?;
    let pipe = child.stdout.take().context("no pipe from QEMU")?;
    let passed = output::pass(pipe, stdout(), mark);
    if passed.is_err() {
        // It may just have ended; then there is nothing to do.
        let _ = child.kill();
    }
    let status = child.wait().context("cannot wait for QEMU")?;
    match passed {
        Ok(ended) => Ok(Some((ended, status))),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(None),
        Err(error) => Err(Failure::Host(anyhow!(error).context("the guest's console"))),
    }
}

/// Shows the last words and finds the exit status; `printed` says that it is among the output, because QEMU's is not
/// the machine's.
fn finish(printed: bool, ended: &Ended, status: ExitStatus) -> Result<u8, Failure> {
    if ended.within_a_line && stdout().is_terminal() {
        eprintln!();
    }
    // The firmware's greeting is of no interest, but what stopped the hypervisor is.
    for line in ended.greeting.lines().filter(|line| line.starts_with("axvcpu")) {
        eprintln!("{line}");
    }
    if let Some(words) = &ended.words {
        // Nobody can be told if this fails.
        let _ = stderr().write_all(words.as_bytes());
    }
    exit_status(printed, ended, status, stdin().is_terminal())
        .ok_or_else(|| Failure::Host(anyhow!("QEMU ended before the guest did ({status})")))
}

/// The exit status of a run: the guest's, the hypervisor's own, or one of QEMU, which has said why. `None` if it was
/// cut short.
fn exit_status(printed: bool, ended: &Ended, status: ExitStatus, terminal: bool) -> Option<u8> {
    let own = match printed {
        false => status.code().map(|_| code(status)),
        true => ended.status,
    };
    match (&ended.words, own) {
        (Some(_), Some(own)) | (None, Some(own @ 2..)) => Some(own),
        (None, _) if terminal && status.success() => Some(status::LEFT),
        _ => None,
    }
}

/// The exit code of a shell that ran this.
fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(status::HOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run that left this: whether its status is one that is printed, whether there were last words, the status that
    /// was printed, and QEMU's own.
    fn ended(printed: bool, words: bool, status: Option<u8>, qemu: i32) -> Option<u8> {
        let words = words.then(String::new);
        let ended = Ended { greeting: String::new(), words, status, within_a_line: false };
        exit_status(printed, &ended, ExitStatus::from_raw(qemu << 8), false)
    }

    #[test]
    fn the_machine_s_status_is_that_of_the_run() {
        let ended = |words, qemu| ended(false, words, None, qemu);
        assert_eq!((ended(true, 0), ended(true, 3)), (Some(0), Some(3)));
        assert_eq!((ended(false, 2), ended(false, 5)), (Some(2), Some(5)));
        assert_eq!((ended(false, 0), ended(false, 1)), (None, None));
    }

    #[test]
    fn a_machine_without_a_status_has_it_printed() {
        let ended = |words, status, qemu| ended(true, words, status, qemu);
        assert_eq!((ended(true, Some(0), 0), ended(true, Some(3), 0)), (Some(0), Some(3)));
        assert_eq!((ended(false, Some(2), 0), ended(false, Some(5), 0)), (Some(2), Some(5)));
        // QEMU was ended by somebody, or by a mistake of its own.
        for (words, qemu) in [(false, 0), (false, 1), (true, 0), (true, 1)] {
            assert_eq!(ended(words, None, qemu), None);
        }
    }

    #[test]
    fn who_leaves_the_terminal_has_left() {
        for printed in [false, true] {
            let ended =
                Ended { greeting: String::new(), words: None, status: None, within_a_line: false };
            let status = |raw| exit_status(printed, &ended, ExitStatus::from_raw(raw), true);
            assert_eq!((status(0), status(1 << 8)), (Some(status::LEFT), None));
        }
    }
}
