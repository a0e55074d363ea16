//! The report on standard error at the end of a run.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use axvcpu_vmm::CpuStats;

use crate::args::{Run, Summary};
use crate::end::End;
use crate::fingerprint::Fingerprint;
use crate::machine::Machine;
use crate::touched::{PAGE, Touched};
use crate::usage::Usage;

/// Everything there is to tell about a run.
pub(crate) struct Report<'a> {
    pub(crate) args: &'a Run,
    pub(crate) machine: &'a Machine,
    pub(crate) end: &'a End,
    pub(crate) wall: Duration,
}

/// The numbers of a report.
struct Numbers {
    usage: Usage,
    /// One for each vCPU.
    instructions: Vec<u64>,
    stats: CpuStats,
    /// Guest time in nanoseconds and the fingerprint of the final state, for repeatable runs.
    repeatable: Option<(u64, u64)>,
}

impl Report<'_> {
    /// Prints it in the form the user wants.
    pub(crate) fn print(&self) {
        let text = match self.args.summary {
            Summary::None => return,
            Summary::Text => self.text(&self.numbers()),
            Summary::Json => self.json(&self.numbers()),
        };
        let _ = std::io::stderr().write_all(text.as_bytes()); // nobody is left to tell if this fails
    }

    fn numbers(&self) -> Numbers {
        let usage = Usage::now(); // before the report itself costs time
        let cpus = self.machine.vm.cpus();
        let instructions = cpus
            .iter()
            .map(|cpu| cpu.vcpu().with_arch(|arch| arch.instructions()).unwrap_or_default())
            .collect();
        let stats = self.machine.vm.stats().into_iter().sum();
        let repeatable = self.machine.virtual_time().map(|time| (time, self.fingerprint()));
        Numbers { usage, instructions, stats, repeatable }
    }

    /// The final state: every vCPU's registers, and all memory.
    fn fingerprint(&self) -> u64 {
        let mut fingerprint = Fingerprint::new();
        for cpu in self.machine.vm.cpus() {
            // A vCPU that failed has no state any more, which is a state as well.
            let _ =
                cpu.vcpu().with_arch(|arch| arch.visit_state(|value| fingerprint.number(value)));
        }
        let memory = self.machine.vm.memory();
        let touched = Touched::open();
        let mut content = [0; PAGE as usize];
        for (range, host) in memory.mappings() {
            touched.for_each(host.as_u64(), range.size / PAGE, |page| {
                let addr = range.base + page * PAGE;
                if memory.read(addr, &mut content).is_ok() {
                    fingerprint.page(addr, &content);
                }
            });
        }
        fingerprint.value()
    }

    fn text(&self, numbers: &Numbers) -> String {
        let Numbers { usage, instructions, stats, repeatable } = numbers;
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = writeln!(text, "axvcpu: {}", self.end.sentence());
        let _ = writeln!(
            text,
            "  time          {:.3} s (user {:.3} s, system {:.3} s)",
            self.wall.as_secs_f64(),
            usage.user.as_secs_f64(),
            usage.system.as_secs_f64()
        );
        let total: u64 = instructions.iter().sum();
        let _ = writeln!(
            text,
            "  instructions  {total} ({:.0} MIPS while in the guest)",
            mips(total, stats.in_guest_ns)
        );
        if let Some((time, fingerprint)) = repeatable {
            let _ = writeln!(text, "  guest time    {:.9} s", *time as f64 / 1e9);
            let _ = writeln!(
                text,
                "  final state   {fingerprint:016x} (FNV-1a of registers and memory)"
            );
        }
        let _ = writeln!(
            text,
            "  in the guest  {:.3} s, in the monitor {:.3} s",
            seconds(stats.in_guest_ns),
            seconds(stats.outside_ns())
        );
        let _ = writeln!(
            text,
            "  {:<20} {:>12} {:>12} {:>12}",
            "exits by reason", "count", "time/ms", "each/us"
        );
        let mut line = |name: &str, count: u64, ns: u64| {
            let mean = if count == 0 { 0.0 } else { ns as f64 / count as f64 / 1e3 };
            let _ =
                writeln!(text, "  {name:<20} {count:>12} {:>12.3} {mean:>12.3}", ns as f64 / 1e6);
        };
        for (kind, count) in stats.iter() {
            line(kind.name(), count, stats.time_ns(kind));
        }
        line("all", stats.total(), stats.outside_ns());
        text
    }

    /// Numbers and words of this program's own only, so nothing needs escaping.
    fn json(&self, numbers: &Numbers) -> String {
        let Numbers { usage, instructions, stats, repeatable } = numbers;
        let list = |values: &[u64]| values.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
        let mut exits = String::new();
        for (kind, count) in stats.iter() {
            let comma = if exits.is_empty() { "" } else { "," };
            let _ = write!(
                exits,
                r#"{comma}"{}":{{"count":{count},"ns":{}}}"#,
                kind.name(),
                stats.time_ns(kind)
            );
        }
        let mut text = format!(
            concat!(
                r#"{{"end":"{}","status":{},"backend":"soft","cpus":{},"memory_bytes":{},"#,
                r#""wall_ns":{},"user_ns":{},"system_ns":{},"peak_memory_bytes":{},"#,
                r#""instructions":[{}],"in_guest_ns":{},"outside_ns":{},"exits":{{{}}}"#
            ),
            self.end.word(),
            self.end.status(),
            self.args.cpus,
            self.args.memory.0,
            self.wall.as_nanos(),
            usage.user.as_nanos(),
            usage.system.as_nanos(),
            usage.peak_memory,
            list(instructions),
            stats.in_guest_ns,
            stats.outside_ns(),
            exits,
        );
        if let Some((time, fingerprint)) = repeatable {
            let _ = write!(text, r#","guest_ns":{time},"state":"{fingerprint:016x}""#);
        }
        text.push_str("}\n");
        text
    }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// Millions of instructions in a second.
fn mips(instructions: u64, ns: u64) -> f64 {
    if ns == 0 { 0.0 } else { instructions as f64 * 1e3 / ns as f64 }
}
