//! What has happened in trials: to see that everything does.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// What has to have happened in a few hundred trials.
pub const EXPECTED: &[&str] = &[
    "answer: another value for a register",
    "answer: as a device",
    "answer: fail a fetch",
    "answer: fail a load",
    "answer: fail a store",
    "answer: fail an atomic",
    "answer: fail a walk",
    "answer: map for the handler",
    "answer: map with all that is needed",
    "answer: map with other permissions",
    "answer: retry, nothing changed",
    "change: execute permission taken away",
    "change: instructions",
    "change: page table by the guest",
    "change: page table by the host",
    "change: page taken away",
    "change: write permission taken away",
    "exit: call",
    "exit: halt",
    "exit: nothing may be executed there",
    "exit: nothing to read there",
    "exit: nothing to write there",
    "exit: atomic refused",
    "exit: walk refused",
    "exit: outside of memory",
    "interrupt: external edge",
    "interrupt: external line",
    "interrupt: software by the guest",
    "interrupt: software injected",
    "interrupt: timer edge",
    "interrupt: timer in the past",
    "mode: bare",
    "mode: Sv39",
    "mode: Sv48",
    "mode: Sv57",
    "mode: supervisor",
    "mode: supervisor may access user pages",
    "mode: loads from what may be executed",
    "mode: user",
    "mode: floating point off",
    "trap: breakpoint",
    "trap: call of a user",
    "trap: external interrupt",
    "trap: fetch access fault",
    "trap: fetch page fault",
    "trap: illegal instruction",
    "trap: load access fault",
    "trap: load misaligned",
    "trap: load page fault",
    "trap: software interrupt",
    "trap: store access fault",
    "trap: store misaligned",
    "trap: store page fault",
    "trap: timer interrupt",
    "trap: vectored",
    "trial",
];

/// The name of a trial that was given up, because the guest did not leave. Too many would prove little.
pub(super) const ENDLESS: &str = "trial given up: the guest does not leave";

/// Counts of everything that has happened.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    counts: BTreeMap<&'static str, u64>,
}

impl Coverage {
    pub(super) fn note(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// How often something has happened.
    pub fn count(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or(0)
    }

    /// Everything, a line each.
    pub fn text(&self) -> String {
        self.counts.iter().map(|(what, count)| format!("{count:>10}  {what}\n")).collect()
    }

    /// What is wrong with these counts, after a few hundred trials.
    ///
    /// # Errors
    ///
    /// What has never happened, and that too many guests did not leave.
    pub fn check(&self) -> Result<(), String> {
        let never: Vec<_> = EXPECTED.iter().filter(|&&what| self.count(what) == 0).collect();
        if !never.is_empty() {
            return Err(format!("never happened: {never:?}"));
        }
        if self.count(ENDLESS) * 20 > self.count("trial") {
            return Err("too many guests do not leave: what is left proves little".to_string());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_happened_is_told() {
        let mut coverage = Coverage::default();
        EXPECTED.iter().skip(1).for_each(|what| coverage.note(what));
        assert!(coverage.check().unwrap_err().contains(EXPECTED[0]));
        coverage.note(EXPECTED[0]);
        coverage.check().unwrap();
        coverage.note(ENDLESS);
        assert!(coverage.check().is_err());
        assert!(coverage.text().contains("  trap: vectored\n"));
    }
}
