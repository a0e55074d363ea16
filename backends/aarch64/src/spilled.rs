//! Active interrupts for which there is no list register (IHI 0069, 4.8.2 and `ICH_HCR_EL2.EOIcount`).
//!
//! A guest may have many more active interrupts at a time than there are list registers: one for each level of preemption, and any
//! number if it ends them in two steps. Those that are ended last are kept here, so that what is pending has a register. The hardware
//! counts the ends of interrupts it does not know; in one step they come in the order of their priorities. Ends in two steps
//! name their interrupt, and trap.

use axvcpu_arm::gic::Forwarding;

/// A set of interrupts.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spilled {
    words: [u64; 16],
    count: u32,
}

impl Spilled {
    /// Whether there are none.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn contains(&self, intid: u32) -> bool {
        self.count != 0 && self.words[place(intid)] & bit(intid) != 0
    }

    pub(crate) fn insert(&mut self, intid: u32) {
        if !self.contains(intid) {
            self.words[place(intid)] |= bit(intid);
            self.count += 1;
        }
    }

    /// Takes one out. Answers whether it was there.
    pub(crate) fn remove(&mut self, intid: u32) -> bool {
        let found = self.contains(intid);
        if found {
            self.words[place(intid)] &= !bit(intid);
            self.count -= 1;
        }
        found
    }

    /// The most important one: the first to be ended. One that was disabled meanwhile counts as the least.
    pub(crate) fn first(&self, forwarding: &dyn Forwarding) -> Option<u32> {
        let all = (0..).step_by(64).zip(&self.words).flat_map(|(first, &word)| {
            (0..64u32).filter(move |&i| word & 1 << i != 0).map(move |i| first + i)
        });
        all.min_by_key(|&intid| (forwarding.priority(intid).unwrap_or(u8::MAX), intid))
    }
}

fn place(intid: u32) -> usize {
    (intid / 64) as usize % 16
}

fn bit(intid: u32) -> u64 {
    1 << (intid % 64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axvcpu_arm::gic::ForwardAll;

    #[test]
    fn a_set() {
        let mut set = Spilled::default();
        assert!(set.is_empty() && set.first(&ForwardAll).is_none());
        for intid in [1019, 27, 64, 27] {
            set.insert(intid);
        }
        assert_eq!(set.count, 3);
        assert_eq!(set.first(&ForwardAll), Some(27));
        assert!(set.remove(27) && !set.remove(27) && !set.contains(27) && set.contains(1019));
        assert_eq!(set.first(&ForwardAll), Some(64));
    }
}
