//! Which of the vCPUs that share a physical CPU runs next, and for how long.
//!
//! Each gets a slice of time, and what it has not used of that when it waits or is interrupted it keeps. When
//! nobody who could run has anything left, everybody gets a new slice. So each that wants to run gets the same
//! share in the long run, and one that was woken can go first without robbing the others: it does so on its own
//! time.

use alloc::vec::Vec;

use axvcpu::AxArchVCpu;

use crate::{Cpu, VmHost};

/// The length of a slice. A CPU of the guest that waits for another one in a loop, because it wants a lock or
/// an answer, wastes up to this much; a switch costs some thousand instructions.
pub(crate) const SLICE_NS: u64 = 1_000_000;

/// The rest of a slice that is not worth a switch.
const CRUMB_NS: u64 = SLICE_NS / 16;

/// One vCPU and its share of the physical CPU.
pub(crate) struct Share<'a, A: AxArchVCpu> {
    pub(crate) cpu: usize,
    pub(crate) this: &'a Cpu<A>,
    /// When its wait ends by itself.
    pub(crate) deadline_ns: Option<u64>,
    /// What is left of its slice.
    left_ns: u64,
    wish: Wish,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wish {
    /// Waits, or is off.
    Nothing,
    /// Waited, and has not run since.
    Start,
    /// To run, or to go on.
    Run,
}

/// What may happen until somebody is chosen again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slice {
    /// A single run of the vCPU.
    OneRun,
    /// As many as there are until it waits or the host interrupts it.
    Open,
    /// As many as there are until it waits: there is nobody else.
    Endless,
}

/// The vCPUs that share a physical CPU.
pub(crate) struct Shares<'a, A: AxArchVCpu> {
    shares: Vec<Share<'a, A>>,
    /// Whose turn it is: the one that ran last as long as it has something left, then the one after it.
    first: usize,
    /// Who runs, and since when.
    running: Option<(usize, u64)>,
}

impl<'a, A: AxArchVCpu> Shares<'a, A> {
    /// Room for `count` vCPUs.
    pub(crate) fn with_capacity(count: usize) -> Self {
        Self { shares: Vec::with_capacity(count), first: 0, running: None }
    }

    pub(crate) fn add(&mut self, cpu: usize, this: &'a Cpu<A>) {
        let share = Share { cpu, this, deadline_ns: None, left_ns: SLICE_NS, wish: Wish::Run };
        self.shares.push(share);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Share<'a, A>> {
        self.shares.iter()
    }

    /// Chooses who runs next, and tells the host for how long. `None`: nobody can, until the time of
    /// [`deadline_ns`](Self::deadline_ns) or an event.
    pub(crate) fn next(
        &mut self,
        host: &impl VmHost,
        mut can_run: impl FnMut(&mut Share<'a, A>) -> bool,
    ) -> Option<(&mut Share<'a, A>, Slice)> {
        if self.shares.len() == 1 {
            // Needs no slices, and so no clock.
            let only = self.shares.first_mut()?;
            return can_run(only).then_some((only, Slice::Endless));
        }
        let now = host.now_ns();
        self.charge(now);
        for share in &mut self.shares {
            share.wish = match (can_run(share), share.wish) {
                (false, _) => Wish::Nothing,
                (true, Wish::Nothing) => Wish::Start,
                (true, wish) => wish,
            };
        }
        let index = self.choose().or_else(|| {
            self.shares.iter_mut().for_each(|share| share.left_ns = SLICE_NS);
            self.choose()
        })?;
        let alone = self.shares.iter().filter(|share| share.wish != Wish::Nothing).count() == 1;
        let chosen = self.shares.get(index)?;
        let end = (!alone).then_some(now.saturating_add(chosen.left_ns));
        let timed = host.begin_slice(end.into_iter().chain(self.deadline_ns()).min());
        self.running = Some((index, now));
        self.first = index;
        let share = self.shares.get_mut(index)?;
        share.wish = Wish::Run;
        if timed {
            Some((share, Slice::Open))
        } else {
            share.left_ns = 0;
            Some((share, Slice::OneRun))
        }
    }

    /// When the first of those that wait does so no more.
    pub(crate) fn deadline_ns(&self) -> Option<u64> {
        self.shares.iter().filter_map(|share| share.deadline_ns).min()
    }

    /// Takes the time since it began from the slice of the one that ran.
    fn charge(&mut self, now: u64) {
        let Some((index, since)) = self.running.take() else { return };
        let count = self.shares.len();
        let Some(share) = self.shares.get_mut(index) else { return };
        let left = share.left_ns.saturating_sub(now.saturating_sub(since));
        share.left_ns = if left < CRUMB_NS { 0 } else { left };
        if share.left_ns == 0 {
            self.first = if index + 1 < count { index + 1 } else { 0 };
        }
    }

    /// The next one, of those with time left: first who was woken, then whose turn it is.
    fn choose(&self) -> Option<usize> {
        let find = |wish| {
            let mut order = (self.first..self.shares.len()).chain(0..self.first);
            order.find(|&index| {
                self.shares.get(index).is_some_and(|s| s.wish == wish && s.left_ns != 0)
            })
        };
        find(Wish::Start).or_else(|| find(Wish::Run))
    }
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
