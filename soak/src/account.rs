//! What was counted.

use std::fmt;
use std::time::Duration;

/// The most that the program's memory may grow between the first tenth and the end, in KiB. What grows with each exit or
/// request would be far beyond it.
const GROWTH: u64 = 4096;

/// What a soak came to. Everything in it was checked.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// Runs of the leaver that came back, but not because of a kick.
    pub exits: u64,
    /// Edges that were injected, each of which the guest took once.
    pub edges: u64,
    /// How often the line was raised, and taken.
    pub lines: u64,
    /// Kicks, each of which ended a run.
    pub kicks: u64,
    /// Fences that were requested and done.
    pub fences: u64,
    /// The program's resident memory after the first tenth of the exits and in the end, in KiB.
    pub resident: (u64, u64),
    /// How long it took.
    pub time: Duration,
}

impl Account {
    /// Refuses an account in which a thread did not do its part, or memory grew.
    pub(crate) fn check(self, has_line: bool) -> Result<Self, String> {
        let idle = [("edge", self.edges), ("kick", self.kicks), ("fence", self.fences)];
        let line = has_line.then_some(("line", self.lines));
        if let Some((what, _)) = idle.into_iter().chain(line).find(|&(_, count)| count == 0) {
            return Err(format!("not one {what} in {} exits", self.exits));
        }
        let (early, late) = self.resident;
        if late > early + GROWTH {
            return Err(format!("resident memory grew from {early} KiB to {late} KiB"));
        }
        Ok(self)
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { exits, edges, lines, kicks, fences, resident: (early, late), time } = self;
        let seconds = time.as_secs_f64();
        write!(
            f,
            "{exits} exits in {seconds:.1} s ({:.0} per second), {edges} edges, {lines} lines, {kicks} kicks, \
             {fences} fences; resident {early} KiB, then {late} KiB",
            *exits as f64 / seconds.max(1e-9)
        )
    }
}

/// The program's resident memory in KiB (proc(5), `/proc/self/status`).
pub(crate) fn resident() -> Result<u64, String> {
    let text = std::fs::read_to_string("/proc/self/status").map_err(|error| error.to_string())?;
    text.lines()
        .find_map(|line| {
            line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB")?.trim().parse().ok()
        })
        .ok_or_else(|| "/proc/self/status does not tell of memory".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_nothing_is_named() {
        let all = Account { edges: 1, lines: 1, kicks: 1, fences: 1, ..Account::default() };
        assert!(all.clone().check(true).is_ok());
        let idle = |account: Account| account.check(true).unwrap_err();
        assert!(idle(Account { edges: 0, ..all.clone() }).contains("edge"));
        assert!(idle(Account { kicks: 0, ..all.clone() }).contains("kick"));
        assert!(idle(Account { fences: 0, ..all.clone() }).contains("fence"));
        assert!(idle(Account { lines: 0, ..all.clone() }).contains("line"));
        assert!(Account { lines: 0, ..all.clone() }.check(false).is_ok());
        let grown = Account { resident: (1000, 1001 + GROWTH), ..all };
        assert!(idle(grown).contains("grew"));
    }

    #[test]
    fn memory_is_told() {
        let before = resident().unwrap();
        assert!(before > 100);
        let block = std::hint::black_box(vec![1u8; 64 << 20]);
        assert!(resident().unwrap() >= before + (60 << 10));
        drop(block);
    }
}
