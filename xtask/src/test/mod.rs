//! `cargo xtask test`: every check of this repository, stage by stage.

mod differential;
mod e2e;
mod firmware;
mod fuzz;
mod hardware;
mod hygiene;
mod kvm;
mod suites;
pub(crate) mod table;

use std::fs;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::assets::store;
use crate::proc::{self, Finished};

/// What the tests can be told.
#[derive(Args)]
pub(crate) struct Options {
    /// Only what takes seconds once everything is built
    #[arg(long)]
    quick: bool,
    /// The stages to run; without one, all of them
    #[arg(value_name = "NAME")]
    stages: Vec<String>,
    /// List the stages and what they check
    #[arg(long)]
    list: bool,
}

/// One named part of the tests.
struct Stage {
    name: &'static str,
    about: &'static str,
    /// Whether `--quick` includes it.
    quick: bool,
    run: fn(&mut Report, quick: bool) -> Result<()>,
}

const STAGES: &[Stage] = &[
    Stage { name: "fmt", about: "the source is formatted", quick: true, run: hygiene::fmt },
    Stage { name: "clippy", about: "no warning in any crate", quick: true, run: hygiene::clippy },
    Stage { name: "doc", about: "the documentation builds", quick: false, run: hygiene::doc },
    Stage {
        name: "no_std",
        about: "the libraries build for bare metal",
        quick: false,
        run: hygiene::no_std,
    },
    Stage { name: "unit", about: "tests of every crate", quick: true, run: suites::unit },
    Stage {
        name: "loom",
        about: "every interleaving of the core's atomics",
        quick: false,
        run: suites::loom,
    },
    Stage {
        name: "fuzz",
        about: "random input to everything that takes any",
        quick: false,
        run: fuzz::run,
    },
    Stage {
        name: "conformance",
        about: "every backend keeps the contract",
        quick: true,
        run: suites::conformance,
    },
    Stage {
        name: "riscv64",
        about: "the RISC-V backend keeps it on QEMU's machine",
        quick: false,
        run: hardware::riscv64,
    },
    Stage {
        name: "aarch64",
        about: "the AArch64 backend keeps it on QEMU's machine",
        quick: false,
        run: hardware::aarch64,
    },
    Stage {
        name: "kvm",
        about: "the KVM backend, on this machine and in one where Debian boots on it",
        quick: false,
        run: kvm::run,
    },
    Stage {
        name: "table",
        about: "the book's chapter of these results has every case",
        quick: true,
        run: table::check,
    },
    Stage {
        name: "differential",
        about: "guests compute what QEMU computes",
        quick: false,
        run: differential::run,
    },
    Stage { name: "e2e", about: "`axvcpu run` from the outside", quick: true, run: e2e::run },
];

/// What one stage found.
#[derive(Default)]
pub(crate) struct Report {
    passed: u64,
    failed: u64,
    /// Each with its reason.
    skipped: Vec<String>,
}

impl Report {
    /// Counts one check, and says so if it failed.
    fn check(&mut self, name: &str, result: Result<()>) {
        match result {
            Ok(()) => {
                self.passed += 1;
                eprintln!("  ok    {name}");
            }
            Err(error) => {
                self.failed += 1;
                eprintln!("  FAIL  {name}: {error:#}");
            }
        }
    }

    /// Counts a check that could not run here.
    fn skip(&mut self, name: &str, reason: &str) {
        eprintln!("  SKIP  {name}: {reason}");
        self.skipped.push(format!("{name}: {reason}"));
    }

    /// `N passed, N failed`, and what was skipped if anything was.
    fn counts(&self) -> String {
        let mut text = format!("{} passed, {} failed", self.passed, self.failed);
        if !self.skipped.is_empty() {
            text += &format!(", {} skipped", self.skipped.len());
        }
        text
    }
}

/// Runs the stages; succeeds if no check failed.
pub(crate) fn command(options: &Options) -> Result<ExitCode> {
    if options.list {
        for stage in STAGES {
            println!("{:14}{}", stage.name, stage.about);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let stages = select(options)?;
    let start = Instant::now();
    let mut rows = Vec::new();
    for stage in stages {
        eprintln!("== {}: {}", stage.name, stage.about);
        let start = Instant::now();
        let mut report = Report::default();
        if let Err(error) = (stage.run)(&mut report, options.quick) {
            report.check(stage.name, Err(error));
        }
        if report.passed == 0 && report.failed == 0 && report.skipped.is_empty() {
            report.check(stage.name, Err(anyhow::anyhow!("the stage checked nothing")));
        }
        eprintln!("  {}: {}", stage.name, report.counts());
        rows.push((stage.name, report, start.elapsed()));
    }
    let total = summary(&rows, start.elapsed());
    Ok(if total.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The stages that `options` ask for, in the order of [`STAGES`].
fn select(options: &Options) -> Result<Vec<&'static Stage>> {
    let known = |name: &String| STAGES.iter().any(|stage| stage.name == name);
    if let Some(name) = options.stages.iter().find(|name| !known(name)) {
        let names: Vec<_> = STAGES.iter().map(|stage| stage.name).collect();
        bail!("there is no stage `{name}`; there are: {}", names.join(", "));
    }
    let named = |stage: &Stage| options.stages.iter().any(|name| name == stage.name);
    let all = options.stages.is_empty();
    Ok(STAGES
        .iter()
        .filter(|stage| if all { stage.quick || !options.quick } else { named(stage) })
        .collect())
}

/// Prints the table and the closing line; returns the sums.
fn summary(rows: &[(&str, Report, Duration)], elapsed: Duration) -> Report {
    let mut total = Report::default();
    println!();
    println!("{:14}{:>8}{:>8}{:>9}{:>9}", "stage", "passed", "failed", "skipped", "seconds");
    for (name, report, time) in rows {
        let (passed, failed, skipped) = (report.passed, report.failed, report.skipped.len());
        let seconds = time.as_secs_f64();
        println!("{name:14}{passed:>8}{failed:>8}{skipped:>9}{seconds:>9.1}");
        total.passed += passed;
        total.failed += failed;
        total.skipped.extend(report.skipped.iter().map(|what| format!("{name}: {what}")));
    }
    println!("{:14}{:>34.1}", "all", elapsed.as_secs_f64());
    for what in &total.skipped {
        println!("SKIPPED {what}");
    }
    println!("{} passed, {} failed, {} skipped", total.passed, total.failed, total.skipped.len());
    total
}

/// Judges a finished tool by its exit code alone; when it failed, its whole
/// output goes to a file and the end of it into the error.
fn succeeded(stage: &str, done: &Finished) -> Result<()> {
    if done.status.success() {
        return Ok(());
    }
    let log = store().join("logs").join(format!("{stage}.log"));
    let text = format!("{}\n{}", done.stdout, done.stderr);
    crate::assets::write_whole(&log, text.as_bytes())?;
    let said = if done.stderr.trim().is_empty() { &done.stdout } else { &done.stderr };
    let said: Vec<_> = said.lines().filter(|line| !is_progress(line)).collect();
    let end = proc::tail(&said.join("\n"), 60);
    bail!("{}, all of it in {}:\n{end}", done.ended(), log.display());
}

/// Whether `line` is cargo telling what it is doing: a verb, right-aligned in
/// twelve columns.
fn is_progress(line: &str) -> bool {
    let verb = line.trim_start().split(' ').next().unwrap_or_default();
    let capital = verb.starts_with(|c: char| c.is_ascii_uppercase());
    capital
        && verb.chars().all(char::is_alphabetic)
        && line.find(verb) == Some(12 - verb.len().min(12))
}

/// Makes a folder below the store for what a stage generates.
fn work_folder(stage: &str) -> Result<std::path::PathBuf> {
    let folder = store().join("work").join(stage);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(quick: bool, stages: &[&str]) -> Options {
        let stages = stages.iter().map(|name| name.to_string()).collect();
        Options { quick, stages, list: false }
    }

    #[test]
    fn stages_are_chosen_by_name_or_all() {
        let names = |options: &Options| -> Vec<_> {
            select(options).unwrap().iter().map(|stage| stage.name).collect()
        };
        assert_eq!(names(&options(false, &[])).len(), STAGES.len());
        assert_eq!(names(&options(false, &["unit", "fmt"])), ["fmt", "unit"]);
        assert_eq!(names(&options(true, &["doc"])), ["doc"]);
        let quick = names(&options(true, &[]));
        assert!(quick.contains(&"unit") && !quick.contains(&"loom"));
        assert!(select(&options(false, &["units"])).is_err());
    }

    #[test]
    fn what_cargo_is_doing_is_no_error() {
        assert!(is_progress("    Checking axvcpu v0.1.0 (/somewhere)"));
        assert!(is_progress("   Compiling axvcpu v0.1.0"));
        assert!(is_progress(" Documenting axvcpu v0.1.0"));
        assert!(!is_progress("error: this is wrong"));
        assert!(!is_progress("  --> src/lib.rs:1:1"));
        assert!(!is_progress("            let x = 1;"));
        assert!(!is_progress(""));
    }

    #[test]
    fn sums_keep_every_kind_of_result() {
        let mut one = Report::default();
        one.check("a", Ok(()));
        one.check("b", Err(anyhow::anyhow!("why")));
        let mut two = Report::default();
        two.skip("c", "reason");
        assert_eq!(one.counts(), "1 passed, 1 failed");
        assert_eq!(two.counts(), "0 passed, 0 failed, 1 skipped");
        let rows = [("x", one, Duration::ZERO), ("y", two, Duration::ZERO)];
        let total = summary(&rows, Duration::ZERO);
        assert_eq!((total.passed, total.failed), (1, 1));
        assert_eq!(total.skipped, ["y: c: reason"]);
    }
}
