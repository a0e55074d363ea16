//! Stages that run `cargo test` and count what it reports.

use std::path::PathBuf;

use anyhow::{Result, anyhow, bail};

use super::{Report, succeeded};
use crate::assets::{store, write_whole};
use crate::cargo::cargo;
use crate::progress::Step;

/// The crates with the contract as tests; they have a stage of their own.
const CONFORMANCE: &str = "axvcpu-conformance";
/// The example of an architecture of one's own.
const TOY: &str = "axvcpu-toy";

pub(super) fn unit(report: &mut Report, _quick: bool) -> Result<()> {
    let arguments = ["--workspace", "--exclude", CONFORMANCE, "--exclude", TOY, "--no-fail-fast"];
    cargo_test(report, "unit", &arguments, None)
}

pub(super) fn conformance(report: &mut Report, _quick: bool) -> Result<()> {
    // A test is one backend in one configuration; the cases are what it prints. KVM has a stage of its own.
    let arguments = [
        "--package",
        CONFORMANCE,
        "--package",
        TOY,
        "--no-fail-fast",
        "--",
        "--nocapture",
        "--test-threads=1",
        "--skip=kvm",
    ];
    cargo_test(report, "conformance", &arguments, None)
}

pub(super) fn loom(report: &mut Report, _quick: bool) -> Result<()> {
    // Exhaustive search wants optimization.
    let arguments = ["--package", "axvcpu", "--release", "--lib"];
    cargo_test(report, "loom", &arguments, Some("--cfg loom"))
}

/// Runs `cargo test` and counts its tests. `flags` for the compiler mean a
/// target folder of their own, so that the usual one is not rebuilt each time.
pub(super) fn cargo_test(
    report: &mut Report,
    stage: &str,
    arguments: &[&str],
    flags: Option<&str>,
) -> Result<()> {
    let step = Step::new(format!("cargo test {}", arguments.join(" ")));
    let mut command = cargo();
    command.arg("test").args(arguments);
    if let Some(flags) = flags {
        command.env("RUSTFLAGS", flags).env("CARGO_TARGET_DIR", store().join(stage));
    }
    let done = step.follow(&mut command)?;
    let found = parse(&done.stdout)?;
    step.done(&done.ended());
    if done.stdout.lines().any(|line| report_of_cases(line).is_some()) {
        write_whole(&cases_log(stage), done.stdout.as_bytes())?;
    }

    found.add_to(report, "");
    match (succeeded(stage, &done), found.failed) {
        (Ok(()), 0) => Ok(()),
        (Ok(()), _) => bail!("tests failed, yet cargo reported success"),
        // A suite that does not build or dies has no test to count: it counts as one.
        (Err(error), 0) => Err(error),
        (Err(error), _) => {
            eprintln!("{error:#}");
            Ok(())
        }
    }
}

/// Where the reports of the conformance suite are kept that a stage printed.
pub(super) fn cases_log(stage: &str) -> PathBuf {
    store().join("logs").join(format!("{stage}-cases.log"))
}

/// What the test harness said, all binaries together.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Found {
    pub(super) passed: u64,
    pub(super) failed: u64,
    /// The names of tests that were not run.
    ignored: Vec<String>,
    /// The names of tests that failed.
    failures: Vec<String>,
    /// Cases of the conformance suite that a backend could not run, and why.
    skipped: Vec<(String, String)>,
}

impl Found {
    /// Counts all of it, and names what did not pass, with `about` in front.
    pub(super) fn add_to(&self, report: &mut Report, about: &str) {
        report.passed += self.passed;
        report.failed += self.failed;
        for name in &self.ignored {
            report.skip(&format!("{about}{name}"), "marked `ignore` in the source");
        }
        for (name, reason) in &self.skipped {
            report.skip(&format!("{about}{name}"), reason);
        }
        for name in &self.failures {
            eprintln!("  FAIL  {about}{name}");
        }
    }
}

/// Reads what the tests printed.
pub(super) fn parse(text: &str) -> Result<Found> {
    let mut found = Found::default();
    let mut cases = (0, 0);
    for line in text.lines() {
        if let Some((passed, failed)) = report_of_cases(line) {
            cases = (cases.0 + passed, cases.1 + failed);
        } else if let Some((name, reason)) = line.split_once("  skipped: ") {
            found.skipped.push((name.trim().into(), reason.into()));
        } else if let Some((name, reason)) = line.split_once("  FAILED: ") {
            found.failures.push(format!("{}: {reason}", name.trim()));
        } else if let Some(rest) = line.strip_prefix("test result: ") {
            let count = |what: &str| {
                rest.split([';', '.'])
                    .find_map(|part| part.trim().strip_suffix(what)?.trim().parse::<u64>().ok())
                    .ok_or_else(|| anyhow!("cargo's counts are not understood: {line}"))
            };
            found.passed += count(" passed")?;
            found.failed += count(" failed")?;
        } else if let Some(test) = line.strip_prefix("test ") {
            if let Some(name) = test.strip_suffix(" ... FAILED") {
                found.failures.push(name.into());
            } else if let Some((name, _)) = test.split_once(" ... ignored") {
                found.ignored.push(name.into());
            }
        }
    }
    if cases != (0, 0) {
        // A test that stands for many cases counts as its cases.
        found.passed = cases.0;
        found.failed = found.failed.max(cases.1);
    }
    Ok(found)
}

/// The last line of a report of the conformance suite: `N passed, N failed`,
/// perhaps with what was skipped.
pub(super) fn report_of_cases(line: &str) -> Option<(u64, u64)> {
    let (passed, rest) = line.split_once(" passed, ")?;
    let (failed, _) = rest.split_once(" failed")?;
    Some((passed.parse().ok()?, failed.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_all_binaries_are_summed() {
        let text = "running 3 tests\ntest a ... ok\ntest b ... FAILED\ntest c ... ignored, slow\n\n\
                    test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; \
                    finished in 0.00s\n\
                    test result: ok. 20 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; \
                    finished in 0.00s\n";
        let found = parse(text).unwrap();
        assert_eq!((found.passed, found.failed), (21, 1));
        assert_eq!((found.ignored, found.failures), (vec!["c".into()], vec!["b".into()]));
    }

    #[test]
    fn cases_count_instead_of_the_test_that_runs_them() {
        let text = "running 1 test\ntest soft ... soft:\n  a  ok\n  bb  skipped: no such thing\n  c  FAILED: why\n\
                    1 passed, 0 failed, 1 skipped\n7 passed, 2 failed\nok\n\n\
                    test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; \
                    finished in 0.00s\n";
        let found = parse(text).unwrap();
        assert_eq!((found.passed, found.failed), (8, 2));
        assert_eq!(found.failures, ["c: why"]);
        assert_eq!(found.skipped, [("bb".into(), "no such thing".into())]);
    }

    #[test]
    fn counts_that_are_not_understood_are_an_error() {
        assert!(parse("test result: ok. many passed").is_err());
        assert_eq!(parse("no tests").unwrap(), Found::default());
    }
}
