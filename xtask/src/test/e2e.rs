//! The stage that runs `axvcpu` as its users do: guests that end well, guests
//! that do not, wrong options, and the terminal afterwards.

mod hardware;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::{Report, firmware, work_folder};
use crate::arch::Arch;
use crate::assets::{guest, initrd};
use crate::proc::{self, Finished};
use crate::progress::Step;
use crate::{cargo, demo};

/// Longer than any guest here needs on a slow machine under load.
const LIMIT: Duration = Duration::from_secs(240);

/// How long a guest that may run forever is watched.
const WATCH: Duration = Duration::from_secs(4);

/// Exit codes of `axvcpu run`.
mod code {
    /// The guest powered off.
    pub(super) const POWER_OFF: i32 = 0;
    /// The options or the files they name cannot be used; nothing was started.
    pub(super) const USAGE: i32 = 2;
    /// The guest asked for a restart.
    pub(super) const RESET: i32 = 3;
    /// The guest reported a failure, or stopped for good.
    pub(super) const CRASH: i32 = 4;
    /// Nobody reads the guest's output any more: 128 and SIGPIPE.
    pub(super) const CLOSED: i32 = 141;
    /// 128 and SIGTERM.
    pub(super) const TERMINATED: i32 = 143;
}

/// The pieces every case is made of.
struct Setup {
    cli: PathBuf,
    guest: guest::Guest,
    initrd: PathBuf,
    work: PathBuf,
}

pub(super) fn run(report: &mut Report, quick: bool) -> Result<()> {
    let guest = match guest::fetch(Arch::Riscv64) {
        Ok(guest) => guest,
        Err(error) => {
            report.skip("all of e2e", &format!("{error:#}").replace('\n', " "));
            return Ok(());
        }
    };
    let initrd = initrd::build(&guest.busybox, Arch::Riscv64, "demo", None)?;
    let setup = Setup { cli: cargo::build_cli()?, guest, initrd, work: work_folder("e2e")? };

    setup.case(report, "wrong options are refused with code 2", Setup::wrong_options);
    setup.case(report, "the backends are listed", Setup::backends);
    setup.case(report, "Debian boots and powers off", |setup| setup.powers_off(1));
    if quick {
        return Ok(());
    }
    setup.case(report, "Debian boots with 4 processors", |setup| setup.powers_off(4));
    setup.case(report, "a reset of the guest has a code of its own", Setup::reboots);
    setup.case(report, "a guest that panics is told from one that powers off", Setup::panics);
    setup.case(report, "a shell takes piped input", Setup::shell);
    setup.case(report, "damaged kernels hurt only themselves", Setup::damaged);
    setup.case(report, "random bytes hurt only themselves", Setup::random);
    setup.case(report, "the firmware bears every call of every guest", Setup::firmware);
    setup.case(report, "two runs by instruction count are identical", Setup::deterministic);
    setup.case(report, "a closed output ends the run", Setup::output_closes);
    match proc::find("script") {
        Some(_) => setup.case(report, "the terminal is left as it was", Setup::terminal),
        None => report.skip("the terminal is left as it was", "the tool `script` is missing"),
    }
    hardware::run(&setup, report)
}

impl Setup {
    fn case(&self, report: &mut Report, name: &str, case: impl FnOnce(&Self) -> Result<()>) {
        let step = Step::new(name);
        let result = case(self);
        drop(step);
        report.check(name, result);
    }

    /// `axvcpu run` with a kernel and the initial file system.
    fn command(&self, kernel: &Path, append: &str) -> Command {
        let mut command = Command::new(&self.cli);
        command.arg("run").arg("--kernel").arg(kernel).arg("--initrd").arg(&self.initrd);
        command.args(["--append", &format!("console=ttyS0 {append}")]);
        command
    }

    /// Runs a guest that is expected to end by itself.
    fn ends(&self, command: &mut Command) -> Result<Finished> {
        let done = proc::run(command, &[], Some(LIMIT))?;
        unharmed(&done)?;
        ensure!(!done.timed_out, "it did not end within {} s{}", LIMIT.as_secs(), said(&done));
        Ok(done)
    }

    fn powers_off(&self, cpus: u32) -> Result<()> {
        let mut command = self.command(&self.guest.kernel, "");
        let done = self.ends(command.arg("--cpus").arg(cpus.to_string()))?;
        ensure!(done.status.code() == Some(code::POWER_OFF), "{}{}", done.ended(), said(&done));
        demo::check(&done.stdout, cpus).with_context(|| said(&done))
    }

    fn reboots(&self) -> Result<()> {
        let done = self.ends(&mut self.command(&self.guest.kernel, initrd::mode::REBOOT))?;
        ensure!(done.stdout.contains(initrd::END), "it did not get that far{}", said(&done));
        ensure!(done.status.code() == Some(code::RESET), "{}{}", done.ended(), said(&done));
        Ok(())
    }

    fn panics(&self) -> Result<()> {
        let append = format!("panic=-1 {}", initrd::mode::PANIC);
        let done = self.ends(&mut self.command(&self.guest.kernel, &append))?;
        ensure!(done.stdout.contains("Kernel panic"), "it did not panic{}", said(&done));
        ensure!(!done.stdout.contains(initrd::END), "it went on after the panic");
        // The kernel resets after a panic; whether it says why is up to it.
        let code = done.status.code();
        let told = code == Some(code::RESET) || code == Some(code::CRASH);
        ensure!(told, "{}{}", done.ended(), said(&done));
        Ok(())
    }

    fn shell(&self) -> Result<()> {
        let mut command =
            self.command(&self.guest.kernel, &format!("quiet {}", initrd::mode::SHELL));
        // The sum is not in what is typed, so the terminal's echo cannot show it.
        let input = b"echo sum=$((1234 + 4321))\nexit\n";
        let done = proc::converse(&mut command, initrd::SHELL, input, LIMIT)?;
        unharmed(&done)?;
        ensure!(done.stdout.contains("sum=5555"), "no answer from the shell{}", said(&done));
        ensure!(done.status.code() == Some(code::POWER_OFF), "{}{}", done.ended(), said(&done));
        Ok(())
    }

    fn damaged(&self) -> Result<()> {
        let kernel = fs::read(&self.guest.kernel).context("cannot read the kernel")?;
        // Offsets and fields: Documentation/arch/riscv/boot-image-header.rst.
        let field = |offset: usize, value: u64| {
            let mut bytes = kernel.clone();
            bytes[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
            bytes
        };
        let mut holes = kernel.clone();
        for hole in holes.chunks_mut(64 * 1024) {
            let length = hole.len().min(512);
            hole[..length].fill(0);
        }
        // The header stays, so that the loader has something to believe.
        holes[..64].copy_from_slice(&kernel[..64]);
        let cases = [
            ("empty", Vec::new()),
            ("one byte", vec![0x13]),
            ("cut in half", kernel[..kernel.len() / 2].to_vec()),
            ("cut in the header", kernel[..40].to_vec()),
            ("holes", holes),
            ("a load offset beyond everything", field(8, u64::MAX - 4095)),
            ("a size beyond everything", field(16, u64::MAX)),
        ];
        for (name, bytes) in cases {
            self.survives(&bytes).with_context(|| format!("kernel with {name}"))?;
        }
        Ok(())
    }

    fn random(&self) -> Result<()> {
        let mut state: u64 = 0x2545_f491_4f6c_dd1d;
        for round in 0..4 {
            let mut bytes = Vec::new();
            while bytes.len() < 256 * 1024 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                bytes.extend_from_slice(&state.to_le_bytes());
            }
            self.survives(&bytes).with_context(|| format!("round {round}"))?;
        }
        Ok(())
    }

    /// Runs `kernel`, which may do anything, including running forever.
    fn survives(&self, kernel: &[u8]) -> Result<()> {
        let file = self.work.join("kernel");
        fs::write(&file, kernel).context("cannot write a kernel")?;
        let done = proc::run(&mut self.command(&file, ""), &[], Some(WATCH))?;
        unharmed(&done)?;
        // Damage may miss what is used, so even a power-off is possible. What is
        // not: ending without a word of why.
        let explained = done.timed_out || !done.stderr.trim().is_empty();
        ensure!(explained, "{} without a word of why", done.ended());
        Ok(())
    }

    fn firmware(&self) -> Result<()> {
        for guest in &firmware::guests(Arch::Riscv64)? {
            let mut command = Command::new(&self.cli);
            command.arg("run").arg("--kernel").arg(&guest.file).arg("--quiet");
            let (memory, cpus) = (guest.memory.to_string(), guest.cpus.to_string());
            let done = self.ends(command.args(["--memory", &memory, "--cpus", &cpus]))?;
            guest.judge(&done.stdout, done.status.code()).with_context(|| said(&done))?;
        }
        Ok(())
    }

    fn deterministic(&self) -> Result<()> {
        let run = || {
            let mut command = self.command(&self.guest.kernel, "");
            self.ends(command.args(["--clock", "instructions"]))
        };
        let (one, two) = (run()?, run()?);
        demo::check(&one.stdout, 1).with_context(|| said(&one))?;
        for (a, b) in one.stdout.lines().zip(two.stdout.lines()) {
            ensure!(a == b, "the consoles differ:\n  {a}\n  {b}");
        }
        ensure!(one.stdout == two.stdout, "one console is longer than the other");
        Ok(())
    }

    fn wrong_options(&self) -> Result<()> {
        let kernel = self.guest.kernel.to_string_lossy();
        let cases: [&[&str]; 12] = [
            &["run"],
            &["run", "--kernel"],
            &["run", "--kernel", "/no/such/file"],
            &["run", "--kernel", "/"],
            &["run", "--kernel", &kernel, "--initrd", "/no/such/file"],
            &["run", "--kernel", &kernel, "--cpus", "0"],
            &["run", "--kernel", &kernel, "--cpus", "many"],
            &["run", "--kernel", &kernel, "--memory", "0"],
            &["run", "--kernel", &kernel, "--memory", "99999999T"],
            &["run", "--kernel", &kernel, "--memory", "1M"],
            &["run", "--kernel", &kernel, "--backend", "none-such"],
            &["no-such-command"],
        ];
        for arguments in cases {
            let mut command = Command::new(&self.cli);
            command.args(arguments);
            let done = proc::run(&mut command, &[], Some(Duration::from_secs(20)))?;
            let shown = arguments.join(" ").replace(&*kernel, "K");
            unharmed(&done).with_context(|| format!("`{shown}`"))?;
            let code = done.status.code();
            ensure!(code == Some(code::USAGE), "`{shown}`: {}{}", done.ended(), said(&done));
            ensure!(!done.stderr.trim().is_empty(), "`{shown}`: no word of what is wrong");
        }
        Ok(())
    }

    /// Runs a guest on a terminal of its own and compares the terminal's
    /// settings before and after: at its end, and when it is told to stop.
    fn terminal(&self) -> Result<()> {
        let line = proc::line(&self.command(&self.guest.kernel, "quiet"));
        self.settings_survive(&line, code::POWER_OFF)?;
        // In the foreground, or it could not use the terminal.
        let line = proc::line(&self.command(&self.guest.kernel, initrd::mode::SHELL));
        let line = format!("timeout --foreground --preserve-status 2 {line}");
        self.settings_survive(&line, code::TERMINATED)
    }

    /// Nobody reads on after the first line.
    fn output_closes(&self) -> Result<()> {
        let line = proc::line(&self.command(&self.guest.kernel, ""));
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{{ {line}; echo code=$? >&2; }} | head -n 1")]);
        let done = proc::run(&mut command, &[], Some(LIMIT))?;
        ensure!(!done.timed_out, "it went on without a reader{}", said(&done));
        let code = format!("code={}", code::CLOSED);
        ensure!(done.stderr.contains(&code), "no `{code}`{}", said(&done));
        Ok(())
    }

    fn backends(&self) -> Result<()> {
        let text = proc::output(Command::new(&self.cli).arg("backends"))?;
        ensure!(text.contains("soft"), "the software backend is not among them:\n{text}");
        Ok(())
    }

    fn settings_survive(&self, line: &str, expected: i32) -> Result<()> {
        let inner = format!("stty -g; {line} 2>/dev/null; echo code=$?; stty -g");
        let mut command = Command::new("script");
        // Quiet, with the command's exit code, its output to us and no log.
        command.args(["-q", "-e", "-c", &inner, "/dev/null"]);
        let done = proc::run(&mut command, &[], Some(LIMIT))?;
        ensure!(!done.timed_out, "it did not end{}", said(&done));
        let lines: Vec<&str> = done.stdout.lines().map(str::trim).collect();
        let (Some(before), Some(after)) = (lines.first(), lines.last()) else {
            bail!("nothing came out of the terminal{}", said(&done));
        };
        ensure!(before.contains(':'), "`stty` does not work here: {before}");
        ensure!(before == after, "the settings changed\n  from {before}\n  to   {after}");
        let code = format!("code={expected}");
        ensure!(lines.iter().any(|line| line.ends_with(&code)), "no `{code}`{}", said(&done));
        Ok(())
    }
}

/// The host program itself must not be what dies: no signal but the one a
/// timeout sends, no Rust panic.
fn unharmed(done: &Finished) -> Result<()> {
    let panicked = done.status.code() == Some(101) || done.stderr.contains("panicked at");
    ensure!(!panicked, "the host program panicked{}", said(done));
    ensure!(done.timed_out || done.status.code().is_some(), "{}{}", done.ended(), said(done));
    Ok(())
}

/// The end of what a run printed, for an error.
fn said(done: &Finished) -> String {
    let (console, words) = (proc::tail(&done.stdout, 12), proc::tail(&done.stderr, 8));
    format!("\n--- console\n{console}\n--- standard error\n{words}\n---")
}
