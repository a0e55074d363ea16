//! The hardware backend: how many instructions guests and the hypervisor take.
//!
//! Counts repeat whatever else the machine is doing, so nothing is measured twice.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Options;
use super::count::{self, number};
use crate::arch::Arch;
use crate::assets::{guest, initrd, qemu, store};
use crate::machine::{Guest, Machine};
use crate::progress::Step;
use crate::{bare, demo, proc};

/// The machines to measure round trips on: the usual one, and one whose guests
/// have no timer of their own.
const CPUS: &[&str] = &[Arch::Riscv64.cpu(), "rv64,sstc=off"];

/// Harts for the round trips: one at work, one to interrupt it.
const HARTS: u32 = 2;

/// The guest whose boot is counted: its memory, and the kernel's command line
/// without and with all its messages, each of which is an exit per letter.
const MEMORY: u64 = 512 << 20;
const APPENDS: &[(&str, &str)] =
    &[("quiet", "console=ttyS0 quiet"), ("with all messages", "console=ttyS0")];

/// Booting Debian may take at most this many times the instructions it takes
/// without a hypervisor.
const BOOT_TARGET: f64 = 1.10;

/// Ends the guest's output in a boot.
const MARK: &str = "axvcpubench";

/// Longer than any run takes on a slow machine.
const LIMIT: Duration = Duration::from_secs(300);

/// Measures, prints the tables, and says whether the targets are met.
pub(super) fn measure(options: &Options) -> Result<ExitCode> {
    let qemu = qemu::fetch(Arch::Riscv64)?;
    let (bench, hypervisor) =
        (bare::image("bench", Arch::Riscv64)?, bare::image("hypervisor", Arch::Riscv64)?);
    let guest = guest::fetch(Arch::Riscv64)?;
    let initrd = initrd::build(&guest.busybox, Arch::Riscv64, "demo", None)?;
    let folder = store().join("work/bench");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;

    let mut trips = Vec::new();
    for cpu in CPUS {
        trips.extend(round_trips(&qemu.system, &bench, cpu)?);
    }
    let mut boots = Vec::new();
    for (about, append) in APPENDS {
        let files = Guest { kernel: &guest.kernel, initrd: Some(&initrd), append };
        boots.push(Boot::measure(about, &qemu.system, &hypervisor, &files, &folder)?);
    }

    let version = qemu.version.replace(['"', '\\'], "");
    println!("Instructions, counted by QEMU {version} with `-icount {}`", count::METHOD);
    show_trips(&trips);
    show_boots(&boots);
    if let Some(file) = &options.json {
        let trips: Vec<_> = trips.iter().map(Trip::json).collect();
        let boots: Vec<_> = boots.iter().map(Boot::json).collect();
        let text = format!(
            "{{\n  \"qemu_version\": \"{version}\",\n  \"round_trips\": [\n    {}\n  ],\n  \
             \"boots\": [\n    {}\n  ]\n}}\n",
            trips.join(",\n    "),
            boots.join(",\n    "),
        );
        fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    let failed = options.strict && boots.iter().any(|boot| boot.ratio() > BOOT_TARGET);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// A line of the benchmark program's table.
#[derive(Debug, PartialEq)]
struct Trip {
    cpu: &'static str,
    part: String,
    what: String,
    /// Instructions for one, and how many of them are the guest's own.
    each: u64,
    guest: u64,
}

/// Runs the benchmark program on a machine with this processor.
fn round_trips(qemu: &Path, bench: &Path, cpu: &'static str) -> Result<Vec<Trip>> {
    let step = Step::new(format!("round trips on {cpu}"));
    let mut command = Machine {
        arch: Arch::Riscv64,
        qemu,
        cpu,
        harts: HARTS,
        image: bench,
        append: "",
        memory: MEMORY,
        guest: None,
    }
    .command()?;
    command.args(["-icount", count::METHOD, "-serial", "stdio", "-monitor", "none"]);
    let done = proc::run(&mut command, &[], Some(LIMIT))?;
    ensure!(
        done.status.success() && !done.timed_out,
        "the benchmark program: {}\n{}\n{}",
        done.ended(),
        proc::tail(&done.stdout, 12),
        proc::tail(&done.stderr, 6)
    );
    let trips = parse_trips(&done.stdout, cpu);
    ensure!(!trips.is_empty(), "the benchmark program prints no table:\n{}", done.stdout);
    step.done(&format!("{} figures", trips.len()));
    Ok(trips)
}

/// The lines `| part | what | each | guest |`, as the program prints them.
fn parse_trips(text: &str, cpu: &'static str) -> Vec<Trip> {
    let line = |line: &str| {
        let line = line.trim().strip_prefix('|')?.strip_suffix('|')?;
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let [part, what, each, guest] = cells[..] else { return None };
        let (each, guest) = (each.parse().ok()?, guest.parse().ok()?);
        Some(Trip { cpu, part: part.into(), what: what.into(), each, guest })
    };
    text.lines().filter_map(line).collect()
}

fn show_trips(trips: &[Trip]) {
    for cpu in CPUS {
        println!("\n| round trips with `-cpu {cpu}` | | instructions | of them the guest's own |");
        println!("|---|---|---:|---:|");
        for Trip { part, what, each, guest, .. } in trips.iter().filter(|trip| trip.cpu == *cpu) {
            println!("| {part} | {what} | {each} | {guest} |");
        }
    }
}

impl Trip {
    fn json(&self) -> String {
        let Self { cpu, part, what, each, guest } = self;
        let [part, what] = [part, what].map(|text| text.replace(['"', '\\'], ""));
        format!(
            "{{ \"cpu\": \"{cpu}\", \"part\": \"{part}\", \"what\": \"{what}\", \
             \"instructions\": {each}, \"of_the_guest\": {guest} }}"
        )
    }
}

/// A boot of Debian to its power-off, counted from the machine's start, firmware included.
struct Boot {
    about: &'static str,
    /// Instructions in the hypervisor and its guest.
    here: u64,
    /// Instructions of the same kernel without a hypervisor.
    alone: u64,
    exits: Vec<(String, u64)>,
}

impl Boot {
    fn measure(
        about: &'static str,
        qemu: &Path,
        hypervisor: &Path,
        files: &Guest<'_>,
        folder: &Path,
    ) -> Result<Self> {
        let step = Step::new(format!("boot Debian on both, {about}"));
        let console = folder.join("console");
        let mut alone = Command::new(qemu);
        alone.args(["-M", "virt", "-cpu", Arch::Riscv64.cpu(), "-display", "none", "-no-reboot"]);
        alone.args(["-smp", "1", "-m", &format!("{}M", MEMORY >> 20)]);
        alone.args(["-append", files.append, "-kernel"]).arg(files.kernel);
        alone.arg("-initrd").args(files.initrd);
        let alone = count::run(&mut alone, &console, LIMIT)?;
        demo::check(&alone.console, 1).context("without a hypervisor")?;

        let append = format!("cpus=1 memory={MEMORY} summary=json mark={MARK}");
        let mut here = Machine {
            arch: Arch::Riscv64,
            qemu,
            cpu: Arch::Riscv64.cpu(),
            harts: 1,
            image: hypervisor,
            append: &append,
            memory: MEMORY,
            guest: Some(Guest { ..*files }),
        }
        .command()?;
        let here = count::run(&mut here, &console, LIMIT)?;
        demo::check(&here.console, 1).with_context(|| proc::tail(&here.console, 8))?;
        let summary = here.console.rsplit_once(&format!("\x1e{MARK}\r\n"));
        let (_, summary) = summary.context("the hypervisor gives no summary")?;
        let end = number(summary, "status");
        ensure!(end == Some(0), "the hypervisor's guest did not power off: {summary}");
        let exits = exits(summary);
        ensure!(!exits.is_empty(), "the summary names no exits: {summary}");
        step.done("counted");
        Ok(Self { about, here: here.instructions, alone: alone.instructions, exits })
    }

    fn ratio(&self) -> f64 {
        self.here as f64 / self.alone as f64
    }

    fn json(&self) -> String {
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

/// The numbers of exits by reason in a summary as JSON.
fn exits(summary: &str) -> Vec<(String, u64)> {
    let all = summary.split_once("\"exits\":{").and_then(|(_, rest)| rest.split_once("}}"));
    let Some((all, _)) = all else { return Vec::new() };
    all.split('}')
        .filter_map(|exit| {
            let (name, numbers) = exit.trim_start_matches([',', '"']).split_once("\":{")?;
            Some((name.to_owned(), number(numbers, "count")?))
        })
        .collect()
}

fn show_boots(boots: &[Boot]) {
    println!(
        "\n| Debian's boot to power-off, 1 CPU | in the hypervisor | alone | ratio | target |"
    );
    println!("|---|---:|---:|---:|---:|");
    for boot in boots {
        let Boot { about, here, alone, .. } = boot;
        let ratio = boot.ratio();
        let met = if ratio <= BOOT_TARGET { "met" } else { "MISSED" };
        println!("| {about} | {here} | {alone} | {ratio:.4} | <= {BOOT_TARGET:.2} {met} |");
    }
    println!(
        "\n| exits in that boot |{}",
        boots.iter().map(|boot| format!(" {} |", boot.about)).collect::<String>()
    );
    println!("|---|{}", "---:|".repeat(boots.len()));
    let Some(first) = boots.first() else { return };
    for (index, (name, _)) in first.exits.iter().enumerate() {
        let counts = boots.iter().map(|boot| boot.exits.get(index).map_or(0, |exit| exit.1));
        println!("| {name} |{}", counts.map(|count| format!(" {count} |")).collect::<String>());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read() {
        let text = "features: x\r\n| run | null | call | 138 | 3 |\n| run | null call | 138 | 3 |\r\n\
                    | a | b | c | d |\n|---|---|---|---|\nFAILED: x\n";
        let trip =
            Trip { cpu: "c", part: "run".into(), what: "null call".into(), each: 138, guest: 3 };
        assert_eq!(parse_trips(text, "c"), [trip]);
        assert_eq!(parse_trips("", "c"), []);
    }

    #[test]
    fn exits_are_read() {
        let summary = r#"{"end":"power-off","status":0,"exits":{"mmio read":{"count":12,"ns":0},"of these, unclaimed":{"count":0,"ns":7}},"x":{"count":1}}"#;
        let expected = [("mmio read".to_owned(), 12), ("of these, unclaimed".to_owned(), 0)];
        assert_eq!(exits(summary), expected);
        assert_eq!(exits("{}"), []);
    }
}
