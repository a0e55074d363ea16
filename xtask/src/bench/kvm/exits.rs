//! Instructions of user space from one exit to the next, of a guest that only writes to a port: by a loop around the
//! system call, by the library `kvm-ioctls`, and through `AxVCpu::run` and a bus of devices.
//!
//! A program runs each of them for as many exits as it is told, twice; what the longer run takes more is what its exits
//! take, and starting and stopping is not in it.

use std::fs::OpenOptions;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::progress::Step;
use crate::{cargo, proc};

/// The program: a package's example. It takes the name of a variant and a number of exits.
const PROGRAM: (&str, &str) = ("axvcpu-kvm", "exits");

/// The device it needs.
const DEVICE: &str = "/dev/kvm";

/// A way to get from one exit to the next.
struct Variant {
    argument: &'static str,
    about: &'static str,
    /// The most instructions it may take.
    target: Option<f64>,
}

const VARIANTS: [Variant; 4] = [
    Variant { argument: "raw", about: "a loop around `KVM_RUN`", target: None },
    Variant { argument: "ioctls", about: "`kvm-ioctls`", target: None },
    Variant { argument: "run", about: "`AxVCpu::run`", target: None },
    Variant { argument: "axvcpu", about: "`AxVCpu::run` and a bus", target: Some(45.0) },
];

/// Exits of the two runs.
const SHORT: u64 = 10_000;
const LONG: u64 = 60_000;

/// Longer than any run takes on a slow machine.
const LIMIT: Duration = Duration::from_secs(300);

/// What counts.
#[derive(Clone, Copy)]
enum Counter {
    /// The processor, where it does.
    Processor,
    /// A simulation of it, which is exact and the same everywhere.
    Valgrind,
}

/// What was counted: an exit's instructions, for each variant.
pub(super) struct Exits {
    counter: Counter,
    each: [f64; VARIANTS.len()],
}

/// Counts.
///
/// # Errors
///
/// Fails, and says what to do, when KVM cannot be used here or nothing can count.
pub(super) fn measure() -> Result<Exits> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(DEVICE)
        .with_context(|| format!("{DEVICE} of this machine cannot be used"))?;
    let counter = Counter::find()?;
    let (package, name) = PROGRAM;
    let program = cargo::build_example(package, name)?;
    let mut each = [0.0; VARIANTS.len()];
    for (variant, each) in VARIANTS.iter().zip(&mut each) {
        let step = Step::new(format!("exits by {}", variant.about));
        let short = counter.count(&program, variant.argument, SHORT)?;
        let long = counter.count(&program, variant.argument, LONG)?;
        let more = long.checked_sub(short).context("more exits took fewer instructions")?;
        *each = more as f64 / (LONG - SHORT) as f64;
        step.done("counted");
    }
    Ok(Exits { counter, each })
}

impl Exits {
    /// The table.
    pub(super) fn show(&self) {
        println!(
            "\n| instructions of user space per exit of a port write, counted by {} | each | target |",
            self.counter.name()
        );
        println!("|---|---:|---:|");
        for (variant, each) in VARIANTS.iter().zip(self.each) {
            let target = match variant.target {
                Some(target) if each <= target => format!("<= {target} met"),
                Some(target) => format!("<= {target} MISSED"),
                None => String::new(),
            };
            println!("| {} | {each:.1} | {target} |", variant.about);
        }
    }

    pub(super) fn is_met(&self) -> bool {
        let mut pairs = VARIANTS.iter().zip(self.each);
        pairs.all(|(variant, each)| variant.target.is_none_or(|target| each <= target))
    }

    pub(super) fn json(&self) -> String {
        let each = VARIANTS.iter().zip(self.each);
        let each: Vec<_> =
            each.map(|(variant, each)| format!("\"{}\": {each:.2}", variant.argument)).collect();
        format!("{{ \"counter\": \"{}\", {} }}", self.counter.name(), each.join(", "))
    }
}

impl Counter {
    /// The processor if it counts for programs here, which it often does not in virtual machines.
    fn find() -> Result<Self> {
        if proc::find("perf").is_some() && Self::Processor.count(Path::new("true"), "", 0).is_ok() {
            return Ok(Self::Processor);
        }
        ensure!(
            proc::find("valgrind").is_some(),
            "nothing counts instructions here: install `valgrind`, or `perf` on a machine whose processor counts"
        );
        Ok(Self::Valgrind)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Processor => "perf",
            Self::Valgrind => "callgrind",
        }
    }

    /// Instructions of user space that this run of `program` takes.
    fn count(self, program: &Path, variant: &str, exits: u64) -> Result<u64> {
        let mut command = match self {
            Self::Processor => Command::new("perf"),
            Self::Valgrind => Command::new("valgrind"),
        };
        match self {
            Self::Processor => command.args(["stat", "-x", ",", "-e", "instructions:u", "--"]),
            Self::Valgrind => command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]),
        };
        command.arg(program).args([variant, &exits.to_string()]).env("LC_ALL", "C");
        let done = proc::run(&mut command, &[], Some(LIMIT))?;
        if done.timed_out || !done.status.success() {
            let (said, words) = (proc::tail(&done.stdout, 4), proc::tail(&done.stderr, 8));
            bail!("`{}`: {}\n{said}\n{words}", proc::line(&command), done.ended());
        }
        self.read(&done.stderr).ok_or_else(|| {
            anyhow!("`{}` counted nothing:\n{}", proc::line(&command), proc::tail(&done.stderr, 8))
        })
    }

    /// The count among what the tool says: perf's is the first field of a line with the event's name, callgrind's
    /// the last word of a line.
    fn read(self, text: &str) -> Option<u64> {
        text.lines().find_map(|line| match self {
            Self::Processor => {
                let (count, rest) = line.split_once(',')?;
                rest.contains("instructions:u").then(|| count.parse().ok())?
            }
            Self::Valgrind => {
                let (_, count) = line.split_once("Collected : ")?;
                count.trim().parse().ok()
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read() {
        let perf = |text| Counter::Processor.read(text);
        assert_eq!(perf("x\n1234,,instructions:u,5,100.00,,\n"), Some(1234));
        assert_eq!(perf("<not supported>,,instructions:u,0,100.00,,\n"), None);
        assert_eq!(perf(""), None);
        let valgrind = |text| Counter::Valgrind.read(text);
        assert_eq!(valgrind("==1== Events    : Ir\n==1== Collected : 98765\n"), Some(98765));
        assert_eq!(valgrind("==1== Events    : Ir\n"), None);
    }

    #[test]
    fn only_a_variant_with_a_target_can_miss_it() {
        let met = |each| Exits { counter: Counter::Valgrind, each }.is_met();
        assert!(met([36.0, 76.0, 99.0, 45.0]));
        assert!(!met([36.0, 76.0, 10.0, 45.1]));
    }
}
