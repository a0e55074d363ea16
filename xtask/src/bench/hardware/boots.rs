//! Debian's boot in the hypervisor, and the same kernel's without one.

use std::ops::Range;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::kind::Kind;
use super::{LIMIT, MARK, MEMORY};
use crate::bench::count;
use crate::bench::summary::{self, number};
use crate::machine::{Guest, Machine};
use crate::progress::Step;
use crate::{demo, proc};

/// What the kernel's command line has behind the console: without and with all
/// its messages, each of which is an exit per letter.
pub(super) const MESSAGES: &[(&str, &str)] = &[("quiet", " quiet"), ("with all messages", "")];

/// What random numbers come from in each of the boots that are counted.
const SEEDS: Range<u32> = 1..4;

/// Booting Debian may take at most this many times the instructions it takes
/// without a hypervisor.
const TARGET: f64 = 1.10;

/// A boot of Debian to its power-off, counted from the machine's start, firmware included.
pub(super) struct Boot {
    about: &'static str,
    /// Instructions in the hypervisor and its guest.
    here: u64,
    /// Instructions of the same kernel without a hypervisor.
    alone: u64,
    /// Those of the first one.
    exits: Vec<(String, u64)>,
}

/// Counts a boot without a hypervisor.
fn alone(kind: &Kind, qemu: &Path, files: &Guest<'_>, seed: u32, console: &Path) -> Result<u64> {
    let mut command = Command::new(qemu);
    command.args(kind.alone).args(["-cpu", kind.boots_on, "-display", "none", "-no-reboot"]);
    command.args(["-smp", "1", "-m", &format!("{}M", MEMORY >> 20)]);
    command.args(["-append", files.append, "-kernel"]).arg(files.kernel);
    command.arg("-initrd").args(files.initrd);
    let counted = count::run(&mut command, seed, console, LIMIT)?;
    demo::check(&counted.console, 1).context("without a hypervisor")?;
    Ok(counted.instructions)
}

/// Counts a boot in the hypervisor, and answers its exits as well.
fn here(
    kind: &Kind,
    qemu: &Path,
    hypervisor: &Path,
    files: &Guest<'_>,
    seed: u32,
    console: &Path,
) -> Result<(u64, Vec<(String, u64)>)> {
    let mut command = Machine {
        arch: kind.arch,
        qemu,
        cpu: kind.boots_on,
        harts: 1,
        image: hypervisor,
        append: &format!("cpus=1 memory={MEMORY} summary=json mark={MARK}"),
        memory: MEMORY,
        guest: Some(Guest { ..*files }),
    }
    .command()?;
    let counted = count::run(&mut command, seed, console, LIMIT)?;
    demo::check(&counted.console, 1).with_context(|| proc::tail(&counted.console, 8))?;
    let summary = counted.console.rsplit_once(&format!("\x1e{MARK}\r\n"));
    let (_, summary) = summary.context("the hypervisor gives no summary")?;
    let end = number(summary, "status");
    ensure!(end == Some(0), "the hypervisor's guest did not power off: {summary}");
    let exits = summary::exits(summary);
    ensure!(!exits.is_empty(), "the summary names no exits: {summary}");
    Ok((counted.instructions, exits))
}

impl Boot {
    /// The mean of boots with different random numbers, which make one take some
    /// percent more or less than another.
    pub(super) fn measure(
        about: &'static str,
        kind: &Kind,
        qemu: &Path,
        hypervisor: &Path,
        files: &Guest<'_>,
        folder: &Path,
    ) -> Result<Self> {
        let step = Step::new(format!("boot Debian on both, {about}"));
        let console = folder.join("console");
        let mut sum = Self { about, here: 0, alone: 0, exits: Vec::new() };
        for seed in SEEDS {
            sum.alone += alone(kind, qemu, files, seed, &console)?;
            let (here, exits) = here(kind, qemu, hypervisor, files, seed, &console)?;
            sum.here += here;
            if sum.exits.is_empty() {
                sum.exits = exits;
            }
        }
        step.done("counted");
        let boots = u64::from(SEEDS.end - SEEDS.start);
        Ok(Self { here: sum.here / boots, alone: sum.alone / boots, ..sum })
    }

    fn ratio(&self) -> f64 {
        self.here as f64 / self.alone as f64
    }

    pub(super) fn is_met(&self) -> bool {
        self.ratio() <= TARGET
    }

    pub(super) fn json(&self) -> String {
        let Self { about, here, alone, .. } = self;
        let exits: Vec<_> =
            self.exits.iter().map(|(name, count)| format!("\"{name}\": {count}")).collect();
        format!(
            "{{ \"boot\": \"{about}\", \"instructions\": {here}, \"alone\": {alone}, \
             \"ratio\": {:.4}, \"exits\": {{ {} }} }}",
            self.ratio(),
            exits.join(", ")
        )
    }
}

pub(super) fn show(kind: &Kind, boots: &[Boot]) {
    println!(
        "\n| Debian's boot to power-off, 1 CPU, `-cpu {}` | in the hypervisor | alone | ratio | target |",
        kind.boots_on
    );
    println!("|---|---:|---:|---:|---:|");
    for boot in boots {
        let Boot { about, here, alone, .. } = boot;
        let met = if boot.is_met() { "met" } else { "MISSED" };
        println!("| {about} | {here} | {alone} | {:.4} | <= {TARGET:.2} {met} |", boot.ratio());
    }
    println!(
        "\n| exits in that boot |{}",
        boots.iter().map(|boot| format!(" {} |", boot.about)).collect::<String>()
    );
    println!("|---|{}", "---:|".repeat(boots.len()));
    for name in summary::reasons(boots.iter().map(|boot| boot.exits.as_slice())) {
        let counts = boots.iter().map(|boot| summary::count(&boot.exits, name));
        println!("| {name} |{}", counts.map(|count| format!(" {count} |")).collect::<String>());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_may_take_a_little_more_than_without_a_hypervisor() {
        let boot = |here| Boot { about: "", here, alone: 10, exits: Vec::new() };
        assert!(boot(11).is_met() && !boot(12).is_met());
    }
}
