//! The same guests through `cargo xtask run` on the hardware backends, and what
//! only their machines can do wrong.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{LIMIT, Setup, code, said, unharmed};
use crate::arch::Bare;
use crate::assets::{guest, initrd, qemu};
use crate::proc::{self, Finished};
use crate::test::{Report, firmware};
use crate::{bare, demo};

/// Wrong usage of the host: it cannot do what it is for.
const HOST: i32 = 5;

/// What differs between the backends.
struct Backend {
    arch: Bare,
    /// Virtual CPUs, physical CPUs and the processor for boots to power-off.
    boots: &'static [(u32, u32, &'static str)],
    /// A processor without virtualization, and what the hypervisor says is missing.
    without: Option<(&'static str, &'static str)>,
}

const BACKENDS: &[Backend] = &[
    Backend {
        arch: Bare::Riscv64,
        boots: &[(1, 1, "rv64"), (4, 4, "rv64"), (4, 1, "rv64"), (3, 2, "rv64,sstc=off,v=true")],
        without: Some(("rv64,h=false", "hypervisor extension")),
    },
    Backend {
        arch: Bare::Aarch64,
        boots: &[
            (1, 1, "max"),
            (4, 4, "max"),
            (1, 1, "neoverse-n1"),
            (4, 4, "neoverse-n1"),
            (1, 1, "cortex-a57"),
            (4, 4, "cortex-a57"),
            (4, 1, "max"),
        ],
        // The machine has EL2 with whatever processor.
        without: None,
    },
];

/// What is tried in this way.
struct Hardware<'a> {
    setup: &'a Setup,
    backend: &'static Backend,
    /// The guest's kernel.
    kernel: PathBuf,
    /// This program.
    xtask: PathBuf,
}

pub(super) fn run(setup: &Setup, report: &mut Report) -> Result<()> {
    for backend in BACKENDS {
        if let Err(error) = run_on(backend, setup, report) {
            report.check(&format!("{}: all of it", backend.arch), Err(error));
        }
    }
    Ok(())
}

fn run_on(backend: &'static Backend, setup: &Setup, report: &mut Report) -> Result<()> {
    // Here, so that the limits of the cases are not spent on it.
    qemu::fetch(backend.arch.guests())?;
    bare::image("hypervisor", backend.arch)?;
    let kernel = guest::fetch(backend.arch.guests())?.kernel;
    let xtask = std::env::current_exe().context("this program's own file")?;
    let on = Hardware { setup, backend, kernel, xtask };
    for (cpus, physical, cpu) in backend.boots {
        let name = format!("Debian, {cpus} CPUs on {physical} of {cpu}");
        on.case(report, &name, |on| on.powers_off(*cpus, *physical, cpu));
    }
    match backend.arch {
        Bare::Riscv64 => {
            let name = "the script prints what it prints on the software backend";
            on.case(report, name, Hardware::agrees);
        }
        // There is no other backend for its guests.
        Bare::Aarch64 => on.case(report, "the script prints all it should", Hardware::script),
    }
    on.case(report, "a reset has a code of its own", Hardware::reboots);
    on.case(report, "a panic is told from a power-off", Hardware::panics);
    on.case(report, "a shell takes piped input", Hardware::shell);
    if let Some((cpu, missing)) = backend.without {
        on.case(report, "a processor without virtualization is named", |on| {
            on.no_virtualization(cpu, missing)
        });
    }
    on.firmware(report)?;
    on.case(report, "wrong files and options are refused with code 2", Hardware::refused);
    on.case(report, "a closed output ends the run", Hardware::output_closes);
    Ok(())
}

impl Hardware<'_> {
    fn case(&self, report: &mut Report, name: &str, case: impl FnOnce(&Self) -> Result<()>) {
        self.setup.case(report, &format!("{}: {name}", self.backend.arch), |_| case(self));
    }

    /// A command line for the guest's kernel.
    fn append(&self, more: &str) -> String {
        format!("{} {more}", self.backend.arch.guests().console())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.xtask);
        command.args(["run", "--backend", self.backend.arch.name()]).args(arguments);
        command
    }

    /// Runs what is expected to end by itself.
    fn ends(&self, arguments: &[&str], expected: i32) -> Result<Finished> {
        let done = proc::run(&mut self.command(arguments), &[], Some(LIMIT))?;
        unharmed(&done)?;
        ensure!(!done.timed_out, "it did not end within {} s{}", LIMIT.as_secs(), said(&done));
        ensure!(done.status.code() == Some(expected), "{}{}", done.ended(), said(&done));
        Ok(done)
    }

    fn powers_off(&self, cpus: u32, physical: u32, cpu: &str) -> Result<()> {
        let (guest, host) = (cpus.to_string(), physical.to_string());
        let arguments =
            ["--cpus", &guest, "--host-cpus", &host, "--qemu-cpu", cpu, "--summary", "json"];
        let done = self.ends(&arguments, code::POWER_OFF)?;
        demo::check(&done.stdout, cpus).with_context(|| said(&done))?;
        let summary = done.stderr.lines().last().unwrap_or_default();
        let backend = format!(r#""backend":"{}""#, self.backend.arch);
        for wanted in [r#""end":"power-off""#, &backend, &format!(r#""cpus":{cpus},"#)] {
            ensure!(summary.contains(wanted), "the summary does not say {wanted}{}", said(&done));
        }
        Ok(())
    }

    fn agrees(&self) -> Result<()> {
        let here = self.ends(&["--append", &self.append("quiet")], code::POWER_OFF)?;
        let soft = self.setup.ends(&mut self.setup.command(&self.setup.guest.kernel, "quiet"))?;
        let (here, soft) = (script(&here.stdout)?, script(&soft.stdout)?);
        ensure!(
            here == soft,
            "here:\n{}\non the software backend:\n{}",
            here.join("\n"),
            soft.join("\n")
        );
        Ok(())
    }

    fn script(&self) -> Result<()> {
        let done = self.ends(&["--append", &self.append("quiet")], code::POWER_OFF)?;
        let lines = script(&done.stdout)?;
        // The kernel's name and its machine's; processors; the file's sum.
        let machine =
            lines.iter().any(|line| line.starts_with("Linux ") && line.contains("aarch64"));
        ensure!(machine, "not what `uname` says:\n{}", lines.join("\n"));
        demo::check(&done.stdout, 1).with_context(|| said(&done))
    }

    fn reboots(&self) -> Result<()> {
        let append = self.append(initrd::mode::REBOOT);
        let done = self.ends(&["--append", &append], code::RESET)?;
        ensure!(done.stdout.contains(initrd::END), "it did not get that far{}", said(&done));
        Ok(())
    }

    fn panics(&self) -> Result<()> {
        let append = self.append(&format!("panic=-1 {}", initrd::mode::PANIC));
        let done = proc::run(&mut self.command(&["--append", &append]), &[], Some(LIMIT))?;
        unharmed(&done)?;
        ensure!(done.stdout.contains("Kernel panic"), "it did not panic{}", said(&done));
        ensure!(!done.stdout.contains(initrd::END), "it went on after the panic");
        // The kernel resets after a panic; whether it says why is up to it.
        let told = matches!(done.status.code(), Some(code::RESET | code::CRASH));
        ensure!(told, "{}{}", done.ended(), said(&done));
        Ok(())
    }

    fn shell(&self) -> Result<()> {
        let append = self.append(&format!("quiet {}", initrd::mode::SHELL));
        // The sum is not in what is typed, so the terminal's echo cannot show it.
        // What would be a command of QEMU's on a terminal is the guest's here.
        let input = b"\x01x\x15echo sum=$((1234 + 4321))\nexit\n";
        let mut command = self.command(&["--append", &append]);
        let done = proc::converse(&mut command, initrd::SHELL, input, LIMIT)?;
        unharmed(&done)?;
        ensure!(done.stdout.contains("sum=5555"), "no answer from the shell{}", said(&done));
        ensure!(done.status.code() == Some(code::POWER_OFF), "{}{}", done.ended(), said(&done));
        Ok(())
    }

    /// Guests that call their firmware with everything, on as many physical CPUs as they have and on a single one.
    fn firmware(&self, report: &mut Report) -> Result<()> {
        let guests = firmware::guests(self.backend.arch.guests())?;
        let run = |guest: &firmware::Guest, physical: u32| {
            let (memory, cpus) = (guest.memory.to_string(), guest.cpus.to_string());
            let (physical, kernel) = (physical.to_string(), guest.file.to_string_lossy());
            let arguments = ["--kernel", &kernel, "--memory", &memory, "--cpus", &cpus, "--quiet"];
            let mut command = self.command(&arguments);
            let done = proc::run(command.args(["--host-cpus", &physical]), &[], Some(LIMIT))?;
            unharmed(&done)?;
            guest.judge(&done.stdout, done.status.code()).with_context(|| said(&done))
        };
        for guest in guests.iter().filter(|guest| !guest.ends()) {
            let shared = [1].into_iter().filter(|_| guest.cpus > 1);
            for physical in [guest.cpus].into_iter().chain(shared) {
                let name = format!("calls of the firmware: {} on {physical}", guest.name());
                self.case(report, &name, |_| run(guest, physical));
            }
        }
        self.case(report, "calls that end the machine, each in its own way", |_| {
            guests.iter().filter(|guest| guest.ends()).try_for_each(|guest| run(guest, guest.cpus))
        });
        Ok(())
    }

    fn no_virtualization(&self, cpu: &str, missing: &str) -> Result<()> {
        let done = self.ends(&["--qemu-cpu", cpu], HOST)?;
        let line = done.stderr.lines().find(|line| line.contains(missing));
        ensure!(line.is_some(), "no word of what is missing{}", said(&done));
        Ok(())
    }

    fn refused(&self) -> Result<()> {
        let write = |name: &str, bytes: &[u8]| {
            let file = self.setup.work.join(name);
            fs::write(&file, bytes).context("cannot write a kernel")?;
            Ok::<_, anyhow::Error>(file.to_string_lossy().into_owned())
        };
        let kernel = fs::read(&self.kernel).context("cannot read the kernel")?;
        // An ELF file for another processor, and a Linux header whose size is beyond everything.
        let mut elf = [0; 64];
        elf[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\0");
        (elf[16], elf[18], elf[20]) = (2, 62, 1);
        let mut endless = kernel[..4096].to_vec();
        endless[16..24].copy_from_slice(&u64::MAX.to_le_bytes());
        let (empty, elf, endless) =
            (write("empty", &[])?, write("elf", &elf)?, write("endless", &endless)?);
        let cases: [&[&str]; 8] = [
            &["--kernel", "/no/such/file"],
            &["--kernel", "/"],
            &["--kernel", &empty],
            &["--kernel", &elf],
            &["--kernel", &endless],
            &["--initrd", "/no/such/file"],
            &["--memory", "8M"],
            &["--cpus", "9"],
        ];
        for arguments in cases {
            let shown = arguments.join(" ");
            let done = self.ends(arguments, code::USAGE).with_context(|| format!("`{shown}`"))?;
            let word = done
                .stderr
                .lines()
                .any(|line| line.starts_with("axvcpu: ") || line.starts_with("error: "));
            ensure!(word, "`{shown}`: no word of what is wrong{}", said(&done));
        }
        Ok(())
    }

    fn output_closes(&self) -> Result<()> {
        let line = proc::line(&self.command(&[]));
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{{ {line}; echo code=$? >&2; }} | head -n 1")]);
        let done = proc::run(&mut command, &[], Some(LIMIT))?;
        ensure!(!done.timed_out, "it went on without a reader{}", said(&done));
        let code = format!("code={}", code::CLOSED);
        ensure!(done.stderr.contains(&code), "no `{code}`{}", said(&done));
        Ok(())
    }
}

/// The start script's lines, without the one that tells the time.
fn script(console: &str) -> Result<Vec<&str>> {
    let lines = console.lines().map(str::trim_end);
    let mut lines = lines.skip_while(|line| !line.ends_with(initrd::BEGIN)).peekable();
    lines.peek().context("the script did not begin")?;
    let mut found = Vec::new();
    for line in lines {
        if !line.contains("load average:") {
            found.push(line);
        }
        if line.ends_with(initrd::END) {
            return Ok(found);
        }
    }
    anyhow::bail!("the script did not end")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_is_between_its_ends() {
        let (begin, end) = (initrd::BEGIN, initrd::END);
        let console =
            format!("boot\r\n{begin}\r\na\r\n 00:01 up, load average: 0.0\r\n{end}\r\nx\r\n");
        assert_eq!(script(&console).unwrap(), [begin, "a", end]);
        assert!(script(begin).is_err());
        assert!(script(end).is_err());
    }
}
