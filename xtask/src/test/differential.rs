//! The stage that compares guests with QEMU, and hardware virtualization with
//! the software hart: the same bytes run on both, and whatever they compute must
//! be the same.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};

use super::{Report, hardware, succeeded, work_folder};
use crate::arch::Arch;
use crate::assets::guest::{self, Guest};
use crate::assets::initrd;
use crate::assets::qemu::{self, Qemu};
use crate::cargo;
use crate::proc;
use crate::progress::Step;

/// The random programs: what is special about them, the arguments for it, and
/// how many there are. No seed is in two of them.
const PROGRAMS: &[(&str, &[&str], &str)] = &[
    ("random programs", &[], "0..10000"),
    ("random programs behind page tables", &["--paging"], "10000..16000"),
    ("long random programs", &["--length", "2000"], "16000..17000"),
    ("random cases for the supervisor", SUPERVISOR, "0..10"),
];

/// These need a whole machine to compare with.
const SUPERVISOR: &[&str] = &["--supervisor"];

/// Longer than anything here takes on a slow machine under load.
const LIMIT: Duration = Duration::from_secs(240);

/// The two machines that are compared.
struct Pair {
    cli: PathBuf,
    qemu: Qemu,
    /// QEMU's emulator of single programs.
    user: PathBuf,
    work: PathBuf,
}

pub(super) fn run(report: &mut Report, _quick: bool) -> Result<()> {
    let qemu = match qemu::fetch(Arch::Riscv64) {
        Ok(qemu) => qemu,
        Err(error) => {
            report.skip("all comparisons", &format!("{error:#}").replace('\n', " "));
            return Ok(());
        }
    };
    eprintln!("  compared with QEMU {}", qemu.version);
    let user = qemu.user.clone().context("QEMU came without its user-mode emulator")?;
    let pair = Pair { cli: cargo::build_cli()?, qemu, user, work: work_folder("differential")? };

    match cargo::build("axvcpu-differential", "axvcpu-differential") {
        Ok(programs) => pair.random_programs(report, &programs),
        Err(error) => report.check("random programs", Err(error)),
    }
    match guest::fetch(Arch::Riscv64) {
        Ok(guest) => {
            for (name, result) in pair.commands(&guest)? {
                report.check(&name, result);
            }
        }
        Err(error) => {
            report.skip("busybox commands", &format!("{error:#}").replace('\n', " "));
        }
    }
    hardware::compare(report)
}

impl Pair {
    fn random_programs(&self, report: &mut Report, programs: &Path) {
        for (about, arguments, seeds) in PROGRAMS {
            let name = format!("{about}, seeds {seeds}");
            let step = Step::new(name.as_str());
            let result = self.random_program(programs, arguments, seeds, &step);
            drop(step);
            report.check(&name, result);
        }
    }

    fn random_program(
        &self,
        programs: &Path,
        arguments: &[&str],
        seeds: &str,
        step: &Step,
    ) -> Result<()> {
        let qemu = if arguments == SUPERVISOR { &self.qemu.system } else { &self.user };
        let mut command = Command::new(programs);
        command.args(arguments).args(["--seeds", seeds, "--qemu"]);
        command.arg(qemu.file_name().unwrap_or_default()).env("PATH", self.path_with_qemu()?);
        let done = step.follow(&mut command)?;
        succeeded("differential", &done).with_context(|| proc::tail(&done.stdout, 60))
    }

    /// The search path with QEMU's folders in front: a program found by its name
    /// may be in a folder with spaces, one given by its path may not.
    fn path_with_qemu(&self) -> Result<OsString> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let own = [&self.qemu.system, &self.user].map(|file| file.parent());
        let own = own.into_iter().flatten().map(Path::to_owned);
        std::env::join_paths(own.chain(std::env::split_paths(&path)))
            .context("the folder of QEMU cannot be in a search path")
    }

    /// Runs every command of [`COMMANDS`] in a Debian guest and under QEMU's
    /// user-mode emulation of single programs.
    fn commands(&self, guest: &Guest) -> Result<Vec<(String, Result<()>)>> {
        let step = Step::new("busybox commands under QEMU");
        let busybox = format!("'{}' '{}'", self.user.display(), guest.busybox.display());
        let mut command = Command::new("sh");
        command.args(["-c", &script(&busybox)]).env("LC_ALL", "C").current_dir(&self.work);
        let expected = proc::run(&mut command, &[], Some(LIMIT))?;
        ensure!(expected.status.success(), "under QEMU: {}", expected.stderr);
        step.done(&expected.ended());

        let step = Step::new("busybox commands in the guest");
        let initrd = initrd::build(
            &guest.busybox,
            Arch::Riscv64,
            "commands",
            Some(&script("/bin/busybox")),
        )?;
        let mut command = Command::new(&self.cli);
        command.arg("run").arg("--kernel").arg(&guest.kernel).arg("--initrd").arg(initrd);
        command.args(["--append", "console=ttyS0 quiet"]);
        let found = proc::run(&mut command, &[], Some(LIMIT))?;
        step.done(&found.ended());

        let console = found.stdout.replace('\r', "");
        let output = console
            .split_once(&format!("{}\n", initrd::SCRIPT_BEGIN))
            .and_then(|(_, rest)| rest.split_once(initrd::SCRIPT_END))
            .map(|(output, _)| output)
            .with_context(|| {
                let words = proc::tail(&found.stderr, 8);
                format!("the guest did not run it all:\n{}\n{words}", proc::tail(&console, 12))
            })?;
        let (expected, found) = (sections(&expected.stdout), sections(output));
        Ok(COMMANDS
            .iter()
            .enumerate()
            .map(|(index, command)| {
                let get = |from: &[String]| from.get(index).cloned().unwrap_or_default();
                let (expected, found) = (get(&expected), get(&found));
                // A command that busybox does not have compares nothing.
                let result = match (expected == found, useless(&expected)) {
                    (true, false) => Ok(()),
                    (_, true) => Err(anyhow!("no result under QEMU: {}", expected.trim())),
                    (false, _) => Err(anyhow!("in the guest:\n{found}under QEMU:\n{expected}")),
                };
                (format!("busybox: {command}"), result)
            })
            .collect())
    }
}

/// Commands that read no clock and no machine; `B` is busybox. Between them:
/// integer and floating-point arithmetic, hashing, sorting, compression, text.
const COMMANDS: &[&str] = &[
    "B seq 1 20000 | B sha256sum",
    "B seq 1 20000 | B md5sum",
    "B seq 1 3000 | B sha512sum",
    "B seq 1 3000 | B sha1sum",
    "B seq 1 3000 | B sha3sum",
    "B seq 1 2000 | B sort -r | B md5sum",
    "B seq 1 2000 | B gzip -9 | B gunzip | B md5sum",
    "B seq 1 2000 | B bzip2 | B bunzip2 | B md5sum",
    "B seq 1 500 | B xxd | B tail -n 3",
    "B seq 1 500 | B base64 | B md5sum",
    "B seq 1 500 | B uuencode x | B md5sum",
    "B factor 18446744073709551615 600851475143 1000000016000000063",
    "B awk 'BEGIN { for (i = 1; i < 99; i++) { x += 1 / i; printf \"%.17g \", x } }'",
    "B awk 'BEGIN { x = 1; for (i = 0; i < 999; i++) x = x * (4 - x) * 0.97; printf \"%.17g\", x }'",
    "B awk 'BEGIN { printf \"%e %g %f %x %o %c\\n\", 1e308 * 10, -1e-320, 1 / 3, 255, 8, 65 }'",
    "B awk 'BEGIN { printf \"%d %d %.9g %s\", -7 % 3, 1e15 / 7, 2 * -3.5e-5, 9007199254740993 }'",
    "B dc -e '60 k 2 v p 3 v p'",
    "B expr 123456789 '*' 987654321",
    "B sh -c 'i=0; s=0; while [ $i -lt 999 ]; do s=$(((s * 31 + i) % 1000003)); i=$((i + 1)); done; echo $s'",
    "B sh -c 'echo $((0x7fffffffffffffff + 1)) $((-7 / 2)) $((-7 % 3)) $((1 << 62)) $((~5 & 0xff))'",
    "B printf '%d %u %x %5.2f %e\\n' -5 5 255 3.14159 12345.678",
    "B seq 1 300 | B sed -n 's/\\([0-9]\\)\\([0-9]\\)/\\2\\1/p' | B md5sum",
    "B seq 1 300 | B grep -E '^(1|2[0-5]).*[37]$' | B wc -l",
    "B seq 1 300 | B tr 0-9 a-j | B rev | B paste -s -d, | B cut -c 1-60",
    "B seq 1 100 | B od -A x -t x8 | B tail -n 4",
    "B seq 1 3000 | B crc32",
    "B cal 9 1752",
];

/// A shell script that runs every command, each announced by a line.
fn script(busybox: &str) -> String {
    let mut text = format!("B() {{ {busybox} \"$@\"; }}\n");
    for command in COMMANDS {
        text += &format!("echo '{MARK}'\n{command} 2>&1\n");
    }
    text += "true\n";
    text
}

const MARK: &str = "AXVCPU-COMMAND";

fn useless(output: &str) -> bool {
    output.trim().is_empty() || output.contains("not found") || output.contains("not compiled in")
}

/// What each command printed.
fn sections(output: &str) -> Vec<String> {
    output.split(&format!("{MARK}\n")).skip(1).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_their_output_line_up() {
        let text = script("bb");
        assert_eq!(text.matches(MARK).count(), COMMANDS.len());
        assert_eq!(sections("x\nAXVCPU-COMMAND\n1\n2\nAXVCPU-COMMAND\n3\n"), ["1\n2\n", "3\n"]);
    }
}
