//! `cargo xtask fuzz`: the targets of `axvcpu-fuzz` under libFuzzer.
//!
//! Coverage comes from the stable compiler: the pass is LLVM's own. libFuzzer is built from its source, which the crate
//! `libfuzzer-sys` has, by a C++ compiler.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;

use crate::assets::{store, workspace};
use crate::cargo::cargo;
use crate::proc::{self, Finished};
use crate::progress::Step;

/// Coverage as libFuzzer reads it, and every check that a build with optimization leaves out.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions=on \
    -Coverflow-checks=on";

/// No single input may take longer, in seconds.
const TIMEOUT: u64 = 10;
/// The most memory that a target may have, in MiB.
const MEMORY: u64 = 1024;
/// The longest input that is made.
const LONGEST: u64 = 2048;

/// What to fuzz, and for how long.
#[derive(Args)]
pub(crate) struct Options {
    /// The targets; without one, all of them
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// How long each target runs
    #[arg(long, default_value_t = 60, value_name = "N")]
    seconds: u64,
    /// With AddressSanitizer, for which the compiler's unstable options are allowed
    #[arg(long)]
    asan: bool,
    /// Then store what was found and covers something new, as little of it as will do
    #[arg(long)]
    store: bool,
}

/// A program with all targets in it.
pub(crate) struct Fuzzer(PathBuf);

/// How a target did.
pub(crate) struct Found {
    /// Executions, and how many of them in a second.
    executions: u64,
    per_second: u64,
    /// Places in the program that were reached: by the inputs that were there, and in the end.
    covered: (u64, u64),
}

impl Found {
    /// In words.
    pub(crate) fn text(&self) -> String {
        let Self { executions, per_second, covered: (before, after) } = self;
        format!("{executions} inputs, {per_second} per second; covered {before}, then {after}")
    }
}

/// Where the stored inputs are, a folder for each target.
fn corpora() -> PathBuf {
    workspace().join("fuzz/corpus")
}

/// Where inputs are put that a target fails on.
fn findings(target: &str) -> PathBuf {
    store().join("fuzz-findings").join(target)
}

/// The names of the targets: each has a corpus.
pub(crate) fn targets() -> Result<Vec<String>> {
    let folder = corpora();
    let files = fs::read_dir(&folder).with_context(|| format!("no {}", folder.display()))?;
    let mut names = Vec::new();
    for file in files {
        names.push(file?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// `cargo xtask fuzz`.
pub(crate) fn command(options: &Options) -> Result<ExitCode> {
    let known = targets()?;
    if let Some(name) = options.targets.iter().find(|name| !known.contains(name)) {
        bail!("there is no target `{name}`; there are: {}", known.join(", "));
    }
    let chosen = if options.targets.is_empty() { &known } else { &options.targets };
    let fuzzer = Fuzzer::build(options.asan)?;
    let mut failed = 0;
    for target in chosen {
        let kept = store().join("work/fuzz").join(target);
        match fuzzer.run(target, options.seconds, &kept) {
            Ok(found) => println!("{target:16}{}", found.text()),
            Err(error) => {
                failed += 1;
                println!("{target:16}FAILED: {error:#}");
            }
        }
        if options.store {
            fuzzer.store(target, &kept)?;
        }
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Fuzzer {
    /// Builds it.
    ///
    /// # Errors
    ///
    /// Says what is missing, or what the compilers say.
    pub(crate) fn build(asan: bool) -> Result<Self> {
        if ["c++", "g++", "clang++"].iter().all(|name| proc::find(name).is_none()) {
            bail!("libFuzzer needs a C++ compiler, and there is none (Debian: apt install g++)");
        }
        let host = host()?;
        let step = Step::new("build the targets with libFuzzer");
        let folder = store().join(if asan { "fuzz-asan" } else { "fuzz" });
        let mut command = cargo();
        command
            .args(["build", "--release", "--package", "axvcpu-fuzz", "--features", "libfuzzer"])
            // With a target named, what runs while building is built without the flags.
            .args(["--bin", "fuzz", "--target", &host])
            .env("CARGO_TARGET_DIR", &folder)
            .env("RUSTFLAGS", FLAGS);
        if asan {
            let flags = format!("{FLAGS} -Zsanitizer=address");
            command.env("RUSTFLAGS", flags).env("RUSTC_BOOTSTRAP", "1");
        }
        let built = step.follow(&mut command)?;
        if !built.status.success() {
            bail!("the targets do not build with libFuzzer:\n{}", proc::tail(&built.stderr, 30));
        }
        step.done("ready");
        Ok(Self(folder.join(host).join("release/fuzz")))
    }

    fn command(&self, target: &str) -> Command {
        let mut command = Command::new(&self.0);
        command
            .current_dir(workspace())
            .env("AXVCPU_FUZZ_TARGET", target)
            .arg(format!("-max_len={LONGEST}"))
            .arg(format!("-timeout={TIMEOUT}"))
            .arg(format!("-rss_limit_mb={MEMORY}"));
        command
    }

    /// Runs `target` for this long, from its stored corpus and what is in the folder `kept`, where new inputs go.
    ///
    /// # Errors
    ///
    /// An input that the target fails on, with the file that has it and the command that repeats it.
    pub(crate) fn run(&self, target: &str, seconds: u64, kept: &Path) -> Result<Found> {
        let findings = findings(target);
        for folder in [kept, &findings] {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let step = Step::new(format!("fuzz {target} for {seconds} s"));
        let mut command = self.command(target);
        command
            .arg(format!("-max_total_time={seconds}"))
            .arg("-print_final_stats=1")
            .arg(format!("-artifact_prefix={}/", findings.display()))
            .args([kept, &corpora().join(target)]);
        let done = step.follow(&mut command)?;
        if done.status.success() {
            return understand(&done.stderr)
                .ok_or_else(|| anyhow!("libFuzzer's output: {}", proc::tail(&done.stderr, 12)));
        }
        Err(failure(target, &done))
    }

    /// Makes the stored corpus the fewest inputs that reach all that it and `kept` reach.
    fn store(&self, target: &str, kept: &Path) -> Result<()> {
        let stored = corpora().join(target);
        let merged = store().join("work/fuzz-merged").join(target);
        if merged.exists() {
            fs::remove_dir_all(&merged)
                .with_context(|| format!("cannot remove {}", merged.display()))?;
        }
        fs::create_dir_all(&merged)?;
        let mut command = self.command(target);
        // What is reached counts, not how often.
        command.args(["-set_cover_merge=1", "-use_counters=0"]).args([&merged, &stored]).arg(kept);
        let done = Step::new(format!("merge {target}")).follow(&mut command)?;
        if !done.status.success() {
            return Err(failure(target, &done));
        }
        // Failures that were fixed have names that say so, and stay.
        for file in fs::read_dir(&stored)? {
            let path = file?.path();
            let fixed = path.file_name().is_some_and(|name| name.to_string_lossy().contains('-'));
            if !fixed {
                fs::remove_file(path)?;
            }
        }
        for file in fs::read_dir(&merged)? {
            let file = file?;
            fs::copy(file.path(), stored.join(file.file_name()))?;
        }
        Ok(())
    }
}

/// What the compiler calls this machine.
fn host() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let text = proc::output(Command::new(rustc).arg("-vV").current_dir(workspace()))?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not name its host")?.to_owned())
}

/// Reads libFuzzer's account of a run without failures.
fn understand(text: &str) -> Option<Found> {
    let covered = |line: &str| {
        let (_, rest) = line.split_once("cov: ")?;
        rest.split(' ').next()?.parse::<u64>().ok()
    };
    let line = |mark: &str| text.lines().find(|line| line.contains(mark));
    let count = |name: &str| {
        let (_, rest) = line(name)?.rsplit_once(':')?;
        rest.trim().parse::<u64>().ok()
    };
    Some(Found {
        executions: count("stat::number_of_executed_units")?,
        per_second: count("stat::average_exec_per_sec")?,
        covered: (covered(line("INITED")?)?, covered(line("DONE ")?)?),
    })
}

/// What a target failed on, and how to see it again.
fn failure(target: &str, done: &Finished) -> anyhow::Error {
    let is_said = |line: &&str| {
        line.contains("panicked at") || line.contains("ERROR: ") || line.starts_with("SUMMARY: ")
    };
    let mut said = Vec::new();
    let mut lines = done.stderr.lines();
    while let Some(line) = lines.next() {
        if is_said(&line) {
            said.push(line);
            // A panic's message is the line behind.
            said.extend(lines.next().filter(|_| line.contains("panicked at")));
        }
    }
    let said = if said.is_empty() { proc::tail(&done.stderr, 12) } else { said.join("\n") };
    let file = done.stderr.lines().find_map(|line| line.split_once("Test unit written to "));
    match file {
        Some((_, file)) => anyhow!(
            "{said}\nthe input is in {file}\nagain:  cargo run --package axvcpu-fuzz --bin repeat -- \
             {target} {file}"
        ),
        None => anyhow!("{}:\n{said}", done.ended()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_of_a_run_is_understood() {
        let text = "#2\tINITED cov: 302 ft: 302 corp: 1/75b exec/s: 0 rss: 29Mb\n\
                    #4\tNEW    cov: 303 ft: 304 corp: 2/150b lim: 75 exec/s: 0 rss: 29Mb\n\
                    #381\tDONE   cov: 475 ft: 1000 corp: 55/2523b lim: 75 exec/s: 47 rss: 31Mb\n\
                    stat::number_of_executed_units: 381\n\
                    stat::average_exec_per_sec:     47\n";
        let text = understand(text).map(|found| found.text());
        assert_eq!(text.as_deref(), Some("381 inputs, 47 per second; covered 302, then 475"));
        assert!(understand("").is_none());
    }

    #[test]
    fn a_failure_says_how_to_see_it_again() {
        let script = "printf 'thread x panicked at here\\nwhy\\nmore\\n==1== ERROR: libFuzzer: deadly \
                      signal\\nartifact_prefix=y; Test unit written to /a/crash-1\\n' >&2; exit 77";
        let done = proc::run(Command::new("sh").args(["-c", script]), &[], None).unwrap();
        let text = failure("soft", &done).to_string();
        for part in ["panicked at here\nwhy\n==1== ERROR", "-- soft /a/crash-1"] {
            assert!(text.contains(part), "{text}");
        }
        let done = proc::run(Command::new("sh").args(["-c", "exit 3"]), &[], None).unwrap();
        assert!(failure("soft", &done).to_string().contains("exit code 3"));
    }
}
