//! Round trips between a guest and what answers it, counted by a program for bare metal.

use std::path::Path;

use anyhow::{Result, ensure};

use super::kind::{Cpu, Kind};
use super::{LIMIT, MARK, MEMORY};
use crate::arch::Bare;
use crate::bench::count;
use crate::machine::Machine;
use crate::proc;
use crate::progress::Step;

/// CPUs of the machine: one at work, one to interrupt it.
const HARTS: u32 = 2;

/// A line of the benchmark program's table, and what it is compared with.
#[derive(Debug, PartialEq)]
pub(super) struct Trip {
    cpu: &'static str,
    part: String,
    what: String,
    /// Instructions for one, and how many of them are the guest's own.
    each: u64,
    guest: u64,
    target: Option<u64>,
    kvm: Option<u64>,
}

/// Runs the benchmark program on a machine with this processor.
pub(super) fn measure(
    arch: Bare,
    qemu: &Path,
    bench: &Path,
    cpu: &'static Cpu,
) -> Result<Vec<Trip>> {
    let step = Step::new(format!("round trips on {}", cpu.name));
    let mut command = Machine {
        arch,
        qemu,
        cpu: &format!("{}{}", cpu.name, cpu.properties),
        harts: HARTS,
        image: bench,
        append: &format!("mark={MARK}"),
        memory: MEMORY,
        guest: None,
    }
    .command()?;
    command.args(["-icount", count::METHOD, "-serial", "stdio", "-monitor", "none"]);
    let done = proc::run(&mut command, &[], Some(LIMIT))?;
    let good = done.status.success() && (arch == Bare::Riscv64 || says_good(&done.stdout));
    ensure!(
        good && !done.timed_out,
        "the benchmark program: {}\n{}\n{}",
        done.ended(),
        proc::tail(&done.stdout, 12),
        proc::tail(&done.stderr, 6)
    );
    let trips = parse(&done.stdout, cpu);
    ensure!(!trips.is_empty(), "the benchmark program prints no table:\n{}", done.stdout);
    step.done(&format!("{} figures", trips.len()));
    Ok(trips)
}

/// Whether the program's status, from a machine that has to print it, is that all went well.
fn says_good(text: &str) -> bool {
    text.lines().any(|line| line.trim_end() == format!("\x1e{MARK}=0"))
}

/// The lines `| part | what | each | guest |`, as the program prints them.
fn parse(text: &str, cpu: &'static Cpu) -> Vec<Trip> {
    let line = |line: &str| {
        let line = line.trim().strip_prefix('|')?.strip_suffix('|')?;
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let [part, what, each, guest] = cells[..] else { return None };
        let (each, guest) = (each.parse().ok()?, guest.parse().ok()?);
        let goal = |goal: &&_| -> bool {
            let super::kind::Goal { part: in_part, what: done, .. } = **goal;
            part.starts_with(in_part) && what.starts_with(done)
        };
        let goal = cpu.goals.iter().find(goal);
        let (target, kvm) = (goal.and_then(|goal| goal.target), goal.and_then(|goal| goal.kvm));
        Some(Trip { cpu: cpu.name, part: part.into(), what: what.into(), each, guest, target, kvm })
    };
    text.lines().filter_map(line).collect()
}

pub(super) fn show(kind: &Kind, trips: &[Trip]) {
    for Cpu { name, goals, .. } in kind.cpus {
        let compared = !goals.is_empty();
        let more = |text| if compared { text } else { "" };
        println!(
            "\n| round trips with `-cpu {name}` | | instructions | of them the guest's own |{}",
            more(" target | Linux KVM |")
        );
        println!("|---|---|---:|---:|{}", more("---:|---:|"));
        for trip in trips.iter().filter(|trip| trip.cpu == *name) {
            let Trip { part, what, each, guest, target, kvm, .. } = trip;
            print!("| {part} | {what} | {each} | {guest} |");
            if compared {
                let met = if trip.is_met() { "met" } else { "MISSED" };
                let target = target.map(|most| format!("<= {most} {met}")).unwrap_or_default();
                let kvm = kvm.map(|count| count.to_string()).unwrap_or_default();
                print!(" {target} | {kvm} |");
            }
            println!();
        }
    }
}

impl Trip {
    /// Whether it meets its target, if it has one.
    pub(super) fn is_met(&self) -> bool {
        self.target.is_none_or(|most| self.each <= most)
    }

    pub(super) fn json(&self) -> String {
        let Self { cpu, part, what, each, guest, target, kvm } = self;
        let [part, what] = [part, what].map(|text| text.replace(['"', '\\'], ""));
        let more = |name: &str, number: &Option<u64>| {
            number.map(|number| format!(", \"{name}\": {number}")).unwrap_or_default()
        };
        format!(
            "{{ \"cpu\": \"{cpu}\", \"part\": \"{part}\", \"what\": \"{what}\", \
             \"instructions\": {each}, \"of_the_guest\": {guest}{}{} }}",
            more("target", target),
            more("linux_kvm", kvm)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::kind::Goal;
    use super::*;

    static CPU: Cpu = Cpu {
        name: "c",
        properties: ",p=1",
        goals: &[Goal { part: "run", what: "null", target: Some(137), kvm: Some(900) }],
    };

    #[test]
    fn the_table_is_read() {
        let text = "features: x\r\n| run | null | call | 138 | 3 |\n| run | null call | 138 | 3 |\r\n\
                    | a | b | c | d |\n|---|---|---|---|\n| run | other | 200 | 3 |\nFAILED: x\n";
        let trip = |what: &str, each, target, kvm| Trip {
            cpu: "c",
            part: "run".into(),
            what: what.into(),
            each,
            guest: 3,
            target,
            kvm,
        };
        let expected =
            [trip("null call", 138, Some(137), Some(900)), trip("other", 200, None, None)];
        assert_eq!(parse(text, &CPU), expected);
        assert_eq!(expected.each_ref().map(Trip::is_met), [false, true]);
        assert_eq!(parse("", &CPU), []);
    }

    #[test]
    fn a_status_is_found_in_the_output() {
        assert!(says_good("| a |\r\n\x1eaxvcpubench=0\r\n"));
        assert!(!says_good("| a |\r\n\x1eaxvcpubench=1\r\n") && !says_good(""));
    }
}
