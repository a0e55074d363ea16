//! Programs for bare metal on QEMU's machines: the conformance suite on hardware
//! virtualization, which is a stage for each architecture, and the comparison of
//! random programs with the software hart.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};

use super::Report;
use crate::arch::{Arch, Bare};
use crate::assets::qemu;
use crate::assets::write_whole;
use crate::machine::Machine;
use crate::progress::Step;
use crate::trials::{self, NO_MORE_THAN_SOFT};
use crate::{assets, bare, proc};

/// The processors the suite runs on. For RISC-V: everything the backend can use; a
/// guest without a timer of its own and a host without the state of vectors. For
/// AArch64: everything, host extensions included; Armv8.2, with them as well; and
/// Armv8.0, without.
pub(super) fn cpus(arch: Bare) -> &'static [&'static str] {
    match arch {
        Bare::Riscv64 => &["rv64,v=true", "rv64,sstc=off"],
        Bare::Aarch64 => &["max", "neoverse-n1", "cortex-a57"],
    }
}

/// Some cases need a second physical CPU.
const HARTS: u32 = 2;

/// What the programs need for their guests.
const MEMORY: u64 = 256 << 20;

/// Longer than a run takes on a slow machine under load.
const LIMIT: Duration = Duration::from_secs(600);

pub(super) fn riscv64(report: &mut Report, _quick: bool) -> Result<()> {
    run(report, Bare::Riscv64)
}

pub(super) fn aarch64(report: &mut Report, _quick: bool) -> Result<()> {
    run(report, Bare::Aarch64)
}

fn run(report: &mut Report, arch: Bare) -> Result<()> {
    let qemu = qemu::fetch(arch.guests())?;
    let image = bare::image("conformance", arch)?;
    for cpu in cpus(arch) {
        let step = Step::new(format!("the conformance suite on {cpu}"));
        match program(arch, &qemu.system, &image, cpu, HARTS, "") {
            Ok(text) => {
                let found = parse(&text).with_context(|| proc::tail(&text, 12))?;
                step.done(&format!("{} passed, {} failed", found.passed, found.failures.len()));
                found.add_to(report, cpu);
            }
            Err(error) => {
                drop(step);
                report.check(&format!("the conformance suite on {cpu}"), Err(error));
            }
        }
    }
    Ok(())
}

/// The comparisons: what the program is told, with which processor, and with
/// how many of them.
const COMPARISONS: &[(&str, &str, u32)] = &[
    ("mode=bare seed=0 cases=1000", Bare::Riscv64.cpu(), 1),
    ("mode=paging seed=1000 cases=1000", Bare::Riscv64.cpu(), 1),
    ("mode=bare seed=2000 cases=50 length=2000", "rv64,sstc=off", 1),
    ("mode=exits seed=0 cases=400", Bare::Riscv64.cpu(), 1),
    ("mode=supervisor seed=0 cases=5", NO_MORE_THAN_SOFT, 1),
    ("mode=trials seed=0 cases=300 length=150", NO_MORE_THAN_SOFT, trials::HARTS),
];

/// Runs random programs on both harts; the part of the stage of comparisons
/// that is about hardware virtualization.
pub(super) fn compare(report: &mut Report) -> Result<()> {
    let qemu = qemu::fetch(Arch::Riscv64)?;
    let image = bare::image("differential", Bare::Riscv64)?;
    for &(append, cpu, harts) in COMPARISONS {
        let name = format!("riscv64 and soft: {append}");
        let step = Step::new(name.as_str());
        let result = program(Bare::Riscv64, &qemu.system, &image, cpu, harts, append);
        drop(step);
        report.check(
            &name,
            result.and_then(|text| agreed(&text).with_context(|| proc::tail(&text, 60))),
        );
    }
    Ok(())
}

/// Judges by the sums, which are the last line.
fn agreed(text: &str) -> Result<()> {
    let sums = text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
    let (passed, rest) = sums.split_once(" passed, ").context("the sums are missing")?;
    let passed: u64 = passed.parse().context("the sums are missing")?;
    ensure!(rest == "0 failed", "{sums}");
    ensure!(passed > 0, "nothing was compared");
    Ok(())
}

/// Runs a program for bare metal to its end and returns what it prints; its
/// status, other than that of a crash where the machine can tell, is in there as
/// well.
pub(super) fn program(
    arch: Bare,
    qemu: &Path,
    image: &Path,
    cpu: &str,
    harts: u32,
    append: &str,
) -> Result<String> {
    let machine = Machine { arch, qemu, cpu, harts, image, append, memory: MEMORY, guest: None };
    let mut command = machine.command()?;
    command.args(["-serial", "stdio", "-monitor", "none"]);
    let done = proc::run(&mut command, &[], Some(LIMIT))?;
    let name = image.file_name().unwrap_or_default().to_string_lossy();
    let log = log(&name, arch, cpu, append);
    write_whole(&log, format!("{}\n{}", done.stdout, done.stderr).as_bytes())?;
    let ended = !done.timed_out && matches!(done.status.code(), Some(0 | 1));
    ensure!(
        ended,
        "{}, all of it in {}:\n{}\n{}",
        done.ended(),
        log.display(),
        proc::tail(&done.stdout, 20),
        proc::tail(&done.stderr, 4)
    );
    Ok(done.stdout)
}

/// Where everything is kept that such a program printed.
pub(super) fn log(name: &str, arch: Bare, cpu: &str, append: &str) -> PathBuf {
    let log =
        format!("{name} {arch} {cpu} {append}").replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    assets::store().join("logs").join(log)
}

/// What the suite found.
#[derive(Debug, Default, PartialEq)]
struct Found {
    passed: u64,
    /// Each with the reason.
    failures: Vec<(String, String)>,
    skipped: Vec<(String, String)>,
}

impl Found {
    fn add_to(self, report: &mut Report, cpu: &str) {
        report.passed += self.passed;
        for (name, reason) in self.failures {
            report.check(&format!("{cpu}: {name}"), Err(anyhow!(reason)));
        }
        for (name, reason) in self.skipped {
            report.skip(&format!("{cpu}: {name}"), &reason);
        }
    }
}

/// Reads the reports, each of which begins with the name of what it is about,
/// and checks them against the sums at the end: a program that died on the way
/// has none.
fn parse(text: &str) -> Result<Found> {
    let mut found = Found::default();
    let (reports, sums) = text.split_once("all together:").context("the sums are missing")?;
    let mut subject = "";
    for line in reports.lines().map(str::trim_end) {
        let case = |what: &str| {
            let (name, reason) = line.split_once(what)?;
            Some((format!("{subject}: {}", name.trim()), reason.to_owned()))
        };
        if !line.starts_with("  ") {
            subject = line.strip_suffix(':').unwrap_or(subject);
        } else if line.ends_with("  ok") {
            found.passed += 1;
        } else if let Some(failure) = case("  FAILED: ") {
            found.failures.push(failure);
        } else if let Some(skipped) = case("  skipped: ") {
            found.skipped.push(skipped);
        }
    }
    let (failed, skipped) = (found.failures.len(), found.skipped.len());
    let counted = format!("{} passed, {failed} failed, {skipped} skipped", found.passed);
    ensure!(sums.contains(&counted), "{counted} in the reports, but at the end: {}", sums.trim());
    ensure!(found.passed > 0, "nothing passed, so nothing was checked");
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "OpenSBI v1\r\nName  : x\r\n2 CPUs, Features\r\n\r\nriscv64, Sv39x4:\r\n  a: b  ok\r\n  c  \
                        FAILED: why\r\n1 passed, 1 failed\r\n\r\nriscv64, more:\r\n  a: b   ok\r\n  d  skipped: \
                        none\r\n1 passed, 0 failed, 1 skipped\r\n\r\nall together:\r\n2 passed, 1 failed, 1 \
                        skipped\r\n";

    #[test]
    fn all_reports_count() {
        let found = parse(TEXT).unwrap();
        assert_eq!(found.passed, 2);
        assert_eq!(found.failures, [("riscv64, Sv39x4: c".into(), "why".into())]);
        assert_eq!(found.skipped, [("riscv64, more: d".into(), "none".into())]);
    }

    #[test]
    fn comparisons_are_judged_by_their_sums() {
        agreed("bare: 3 passed, 0 failed\r\n3 passed, 0 failed\r\n").unwrap();
        for text in
            ["3 passed, 1 failed\n", "0 passed, 0 failed", "bare: 3 passed, 0 failed", "panic", ""]
        {
            assert!(agreed(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_report_that_is_not_whole_is_an_error() {
        assert!(parse(&TEXT[..TEXT.len() - 60]).is_err());
        assert!(parse(&TEXT.replace("  a: b  ok\r\n", "")).is_err());
        assert!(parse("all together:\n0 passed, 0 failed, 0 skipped").is_err());
    }
}
