//! What there is to tell at the end of a run: how it ended, and what it took.

use alloc::string::{String, ToString};
use core::fmt::{self, Display, Write};

use crate::{CpuStats, Outcome};

/// The exit statuses of the ends that do not depend on the host.
pub mod status {
    /// The guest switched its machine off.
    pub const POWER_OFF: u8 = 0;
    /// The guest asked for a restart.
    pub const RESET: u8 = 3;
    /// The guest crashed.
    pub const CRASH: u8 = 4;
    /// The host failed.
    pub const HOST: u8 = 5;
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The guest switched its machine off.
    PowerOff,
    /// The guest asked for a restart.
    Reset,
    /// The guest came to an end it did not want.
    Crash(Outcome),
    /// Something outside of the machine ended the run.
    Outside {
        /// One word for programs.
        word: &'static str,
        /// The exit status.
        status: u8,
        /// One sentence for people.
        sentence: String,
    },
    /// The host failed.
    Host(String),
}

impl End {
    /// The end of a machine with this outcome; `cause` is what the host knows of it if it stopped the machine.
    ///
    /// The guest's own end comes first: it was there before the cause could have an effect.
    pub fn new(outcome: Option<Outcome>, cause: Option<Self>) -> Self {
        match outcome {
            Some(Outcome::PowerOff) => Self::PowerOff,
            Some(Outcome::Reboot { .. }) => Self::Reset,
            Some(outcome @ (Outcome::Crashed { .. } | Outcome::AllCpusStopped)) => {
                Self::Crash(outcome)
            }
            Some(Outcome::Stopped) | None => cause
                .unwrap_or_else(|| Self::Host("the machine stopped for no known reason".into())),
            Some(outcome) => Self::Host(outcome.to_string()),
        }
    }

    /// The exit status.
    pub fn status(&self) -> u8 {
        match self {
            Self::PowerOff => status::POWER_OFF,
            Self::Reset => status::RESET,
            Self::Crash(_) => status::CRASH,
            Self::Outside { status, .. } => *status,
            Self::Host(_) => status::HOST,
        }
    }

    /// What the user must be told even if he wants no summary.
    pub fn failure(&self) -> Option<&str> {
        match self {
            Self::Host(failure) => Some(failure),
            _ => None,
        }
    }

    /// One word for programs.
    pub fn word(&self) -> &'static str {
        match self {
            Self::PowerOff => "power-off",
            Self::Reset => "reset",
            Self::Crash(_) => "crash",
            Self::Outside { word, .. } => word,
            Self::Host(_) => "host-error",
        }
    }
}

impl Display for End {
    /// One sentence for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PowerOff => f.write_str("the guest switched its machine off"),
            Self::Reset => f.write_str("the guest asked for a restart"),
            Self::Crash(how) => write!(f, "the guest crashed: {how}"),
            Self::Outside { sentence, .. } => f.write_str(sentence),
            Self::Host(failure) => write!(f, "the host failed: {failure}"),
        }
    }
}

/// What a run has cost the host's operating system, where there is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Processor time in the program itself.
    pub user_ns: u64,
    /// Processor time the host's kernel spent for it.
    pub system_ns: u64,
    /// The most memory it ever occupied, in bytes.
    pub peak_memory: u64,
}

/// The numbers of a run that repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeatable {
    /// Guest time at the end.
    pub guest_ns: u64,
    /// A fingerprint of the final state (FNV-1a of registers and memory).
    pub state: u64,
}

/// Everything there is to tell about a run; the same on every host, without what a host cannot know.
#[derive(Clone, Copy, Debug)]
pub struct Summary<'a> {
    /// How it ended.
    pub end: &'a End,
    /// What ran the guest.
    pub backend: &'static str,
    /// The guest's RAM in bytes.
    pub memory: u64,
    /// How long it took.
    pub wall_ns: u64,
    /// What it has cost.
    pub process: Option<Process>,
    /// The instructions each vCPU executed, if they are counted.
    pub instructions: Option<&'a [u64]>,
    /// The statistics of each vCPU.
    pub stats: &'a [CpuStats],
    /// Whether the statistics have times, as the host [measures](crate::VmHost::exit_clock_ns) them or not.
    pub measured: bool,
    /// What a repetition can be compared with.
    pub repeatable: Option<Repeatable>,
}

impl<'a> Summary<'a> {
    /// As a table for people.
    pub fn text(&self) -> impl Display + use<'a> {
        Text(*self)
    }

    /// As one line of JSON for programs.
    pub fn json(&self) -> impl Display + use<'a> {
        Json(*self)
    }

    fn total(&self) -> CpuStats {
        self.stats.iter().copied().sum()
    }
}

struct Text<'a>(Summary<'a>);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(summary) = self;
        let stats = summary.total();
        writeln!(f, "axvcpu: {}", summary.end)?;
        write!(f, "  time          {:.3} s", seconds(summary.wall_ns))?;
        if let Some(Process { user_ns, system_ns, .. }) = summary.process {
            write!(f, " (user {:.3} s, system {:.3} s)", seconds(user_ns), seconds(system_ns))?;
        }
        writeln!(f)?;
        let measured = summary.measured;
        if let Some(instructions) = summary.instructions {
            let total: u64 = instructions.iter().sum();
            let speed = mips(total, stats.in_guest_ns);
            writeln!(f, "  instructions  {total} ({speed:.0} MIPS while in the guest)")?;
        }
        if let Some(Repeatable { guest_ns, state }) = summary.repeatable {
            writeln!(f, "  guest time    {:.9} s", seconds(guest_ns))?;
            writeln!(f, "  final state   {state:016x} (FNV-1a of registers and memory)")?;
        }
        if measured {
            writeln!(
                f,
                "  in the guest  {:.3} s, in the monitor {:.3} s",
                seconds(stats.in_guest_ns),
                seconds(stats.outside_ns())
            )?;
        }
        write!(f, "  {:<20} {:>12}", "exits by reason", "count")?;
        if measured {
            write!(f, " {:>12} {:>12}", "time/ms", "each/us")?;
        }
        writeln!(f)?;
        let mut line = |name: &str, count: u64, ns: u64| {
            write!(f, "  {name:<20} {count:>12}")?;
            if measured {
                let mean = if count == 0 { 0.0 } else { ns as f64 / count as f64 / 1e3 };
                write!(f, " {:>12.3} {mean:>12.3}", ns as f64 / 1e6)?;
            }
            writeln!(f)
        };
        for (kind, count) in stats.iter() {
            line(kind.name(), count, stats.time_ns(kind))?;
        }
        line("all", stats.total(), stats.outside_ns())
    }
}

struct Json<'a>(Summary<'a>);

impl Display for Json<'_> {
    /// Numbers and words of this program's own only, so nothing needs escaping.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(summary) = self;
        let stats = summary.total();
        write!(
            f,
            r#"{{"end":"{}","status":{},"backend":"{}","cpus":{},"memory_bytes":{},"wall_ns":{}"#,
            summary.end.word(),
            summary.end.status(),
            summary.backend,
            summary.stats.len(),
            summary.memory,
            summary.wall_ns,
        )?;
        if let Some(Process { user_ns, system_ns, peak_memory }) = summary.process {
            write!(
                f,
                r#","user_ns":{user_ns},"system_ns":{system_ns},"peak_memory_bytes":{peak_memory}"#
            )?;
        }
        if let Some(instructions) = summary.instructions {
            f.write_str(r#","instructions":["#)?;
            separated(f, instructions.iter(), |f, count| write!(f, "{count}"))?;
            f.write_char(']')?;
        }
        write!(
            f,
            r#","in_guest_ns":{},"outside_ns":{},"exits":{{"#,
            stats.in_guest_ns,
            stats.outside_ns()
        )?;
        separated(f, stats.iter(), |f, (kind, count)| {
            write!(f, r#""{}":{{"count":{count},"ns":{}}}"#, kind.name(), stats.time_ns(kind))
        })?;
        f.write_char('}')?;
        if let Some(Repeatable { guest_ns, state }) = summary.repeatable {
            write!(f, r#","guest_ns":{guest_ns},"state":"{state:016x}""#)?;
        }
        f.write_str("}\n")
    }
}

/// Writes `items` with commas between them.
fn separated<T>(
    f: &mut fmt::Formatter<'_>,
    items: impl Iterator<Item = T>,
    mut write: impl FnMut(&mut fmt::Formatter<'_>, T) -> fmt::Result,
) -> fmt::Result {
    for (index, item) in items.enumerate() {
        if index != 0 {
            f.write_char(',')?;
        }
        write(f, item)?;
    }
    Ok(())
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// Millions of instructions in a second.
fn mips(instructions: u64, ns: u64) -> f64 {
    if ns == 0 { 0.0 } else { instructions as f64 * 1e3 / ns as f64 }
}

#[cfg(test)]
#[path = "summary_tests.rs"]
mod tests;
