//! Stages that run `cargo test` and count what it reports.

use anyhow::{Result, anyhow, bail};

use super::{Report, succeeded};
use crate::assets::store;
use crate::cargo::cargo;
use crate::progress::Step;

/// The crate with the contract as tests; it has a stage of its own.
const CONFORMANCE: &str = "axvcpu-conformance";

pub(super) fn unit(report: &mut Report, _quick: bool) -> Result<()> {
    let arguments = ["--workspace", "--exclude", CONFORMANCE, "--no-fail-fast"];
    cargo_test(report, "unit", &arguments, None)
}

pub(super) fn conformance(report: &mut Report, _quick: bool) -> Result<()> {
    cargo_test(report, "conformance", &["--package", CONFORMANCE, "--no-fail-fast"], None)
}

pub(super) fn loom(report: &mut Report, _quick: bool) -> Result<()> {
    // Exhaustive search wants optimization.
    let arguments = ["--package", "axvcpu", "--release", "--lib"];
    cargo_test(report, "loom", &arguments, Some("--cfg loom"))
}

/// Runs `cargo test` and counts its tests. `flags` for the compiler mean a
/// target folder of their own, so that the usual one is not rebuilt each time.
fn cargo_test(
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

    report.passed += found.passed;
    report.failed += found.failed;
    for name in &found.ignored {
        report.skip(name, "marked `ignore` in the source");
    }
    for name in &found.failures {
        eprintln!("  FAIL  {name}");
    }
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

/// What the test harness said, all binaries together.
#[derive(Debug, Default, PartialEq)]
struct Found {
    passed: u64,
    failed: u64,
    /// The names of tests that were not run.
    ignored: Vec<String>,
    /// The names of tests that failed.
    failures: Vec<String>,
}

fn parse(text: &str) -> Result<Found> {
    let mut found = Found::default();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("test result: ") {
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
    Ok(found)
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
        let expected =
            Found { passed: 21, failed: 1, ignored: vec!["c".into()], failures: vec!["b".into()] };
        assert_eq!(found, expected);
    }

    #[test]
    fn counts_that_are_not_understood_are_an_error() {
        assert!(parse("test result: ok. many passed").is_err());
        assert_eq!(parse("no tests").unwrap(), Found::default());
    }
}
