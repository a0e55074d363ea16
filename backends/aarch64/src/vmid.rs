//! VMIDs: numbers by which TLBs tell guests apart (Arm ARM, D8.17.4 "VMID usage").
//!
//! The guest's own TLB maintenance reaches other CPUs under the VMID of the CPU it runs on. So one guest has one VMID on
//! all CPUs, and what has one is a [`Space`]: whatever shares a stage-2 table. There are few numbers: when they are used
//! up a generation ends. Whoever is on a CPU at that moment keeps his number into the next one; all others are forgotten
//! by every TLB at once and get new numbers when they run again.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use axvcpu::{AxError, AxResult};
use spin::Mutex;

use crate::asm;
use crate::slot::MAX_CPUS;

/// The bits that VMIDs have at most.
const MAX_BITS: u32 = 16;

/// What shares a stage-2 table.
#[derive(Debug)]
pub(crate) struct Space {
    /// The table's address.
    root: u64,
    /// Whether it can be found by that.
    known: AtomicBool,
    /// Generation and VMID as [`Tag`] has them; 0 before the first.
    tag: AtomicU64,
    /// By CPU: which vCPU of this space was there last, 0 for none.
    last: [AtomicU32; MAX_CPUS],
}

/// A VMID in its generation: the number in the lower 16 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag(u64);

impl Tag {
    /// The VMID.
    pub(crate) fn vmid(self) -> u64 {
        self.0 & (GENERATION - 1)
    }
}

/// The spaces there are, so that vCPUs with the same table find the same one.
static SPACES: Mutex<Vec<Weak<Space>>> = Mutex::new(Vec::new());

impl Space {
    /// That of the table at `root`.
    ///
    /// A table that is freed is not known by its address any more: its space is gone with the last vCPU that had it, and the
    /// next table there gets another one, with another VMID.
    pub(crate) fn of(root: u64) -> AxResult<Arc<Self>> {
        let mut spaces = SPACES.lock();
        spaces.retain(|space| space.strong_count() != 0);
        let known = spaces
            .iter()
            .filter_map(Weak::upgrade)
            .find(|space| space.root == root && space.known.load(Ordering::Relaxed));
        if let Some(known) = known {
            return Ok(known);
        }
        spaces.try_reserve(1).map_err(|_| AxError::NoMemory)?;
        let space = Arc::new(Self {
            root,
            known: AtomicBool::new(true),
            tag: AtomicU64::new(0),
            last: [const { AtomicU32::new(0) }; MAX_CPUS],
        });
        spaces.push(Arc::downgrade(&space));
        Ok(space)
    }

    /// The table's address.
    pub(crate) fn root(&self) -> u64 {
        self.root
    }

    /// Makes the next one who asks for this table's space get another one.
    pub(crate) fn retire(&self) {
        self.known.store(false, Ordering::Relaxed);
    }

    /// Takes note that `vcpu` is on `cpu` now, and answers whether another one of this space was there in between: then
    /// what the CPU knows of the guest's own translations is not this vCPU's, as a guest may use the same ASID for
    /// different tables on different CPUs.
    pub(crate) fn changes_on(&self, cpu: usize, vcpu: u32) -> bool {
        self.last.get(cpu).is_none_or(|last| last.swap(vcpu, Ordering::Relaxed) != vcpu)
    }
}

/// The numbers of all CPUs.
pub(crate) struct Vmids {
    generation: AtomicU64,
    /// By CPU: the tag in its `VTTBR_EL2`, [`IDLE`] for none, 0 if that has not changed since a generation ended.
    active: [AtomicU64; MAX_CPUS],
    numbers: Mutex<Numbers>,
}

struct Numbers {
    used: [u64; 1 << (MAX_BITS - 6)],
    next: u64,
    /// By CPU: the tag that was there when the generation ended, or what has become of it since; 0 for none.
    kept: [u64; MAX_CPUS],
}

/// The ones that guests get.
pub(crate) static VMIDS: Vmids = Vmids::new();

/// No guest is on the CPU.
const IDLE: u64 = 1 << 63;

/// The first generation, in the bits above the number.
const GENERATION: u64 = 1 << MAX_BITS;

impl Vmids {
    pub(crate) const fn new() -> Self {
        Self {
            generation: AtomicU64::new(GENERATION),
            active: [const { AtomicU64::new(IDLE) }; MAX_CPUS],
            numbers: Mutex::new(Numbers {
                used: [0; 1 << (MAX_BITS - 6)],
                next: 1,
                kept: [0; MAX_CPUS],
            }),
        }
    }

    /// The VMID of a space that is about to be loaded on `cpu`, where no other is any more. It stays valid there until
    /// [`leave`](Self::leave) or until this is called there again. `bits` is how many VMIDs have on all CPUs.
    pub(crate) fn enter(&self, space: &Space, cpu: usize, bits: u32) -> Tag {
        let Some(active) = self.active.get(cpu) else { return Tag(0) };
        // Whoever ends the generation first says so and then looks who is active: one of the two sees the other.
        let tag = space.tag.load(Ordering::Relaxed);
        active.store(tag, Ordering::SeqCst);
        if tag != 0 && (tag ^ self.generation.load(Ordering::SeqCst)) < GENERATION {
            return Tag(tag);
        }
        let mut numbers = self.numbers.lock();
        let mut tag = space.tag.load(Ordering::Relaxed);
        if tag == 0 || (tag ^ self.generation.load(Ordering::Relaxed)) >= GENERATION {
            // Or a number would be kept for nobody if the generation ends now.
            active.store(IDLE, Ordering::Relaxed);
            tag = self.assign(&mut numbers, tag, bits);
            space.tag.store(tag, Ordering::Relaxed);
        }
        active.store(tag, Ordering::SeqCst);
        Tag(tag)
    }

    /// Nothing is loaded on `cpu` any more.
    pub(crate) fn leave(&self, cpu: usize) {
        if let Some(active) = self.active.get(cpu) {
            active.store(IDLE, Ordering::SeqCst);
        }
    }

    /// A tag of this generation for a space whose last one was `old`.
    fn assign(&self, numbers: &mut Numbers, old: u64, bits: u32) -> u64 {
        let generation = self.generation.load(Ordering::Relaxed);
        let number = old & (GENERATION - 1);
        if old != 0 {
            let same = generation | number;
            if numbers.keep(old, same) {
                return same; // it runs elsewhere under this number
            }
            // Everything was forgotten since it was used: the same will do, if nobody else has it.
            if !numbers.take(number) {
                return same;
            }
        }
        let count = 1 << bits.clamp(1, MAX_BITS);
        if let Some(number) = numbers.find(count) {
            return generation | number;
        }
        let generation = generation + GENERATION;
        self.generation.store(generation, Ordering::SeqCst);
        numbers.used.fill(0);
        for (active, kept) in self.active.iter().zip(&mut numbers.kept) {
            match active.swap(0, Ordering::SeqCst) {
                0 => {} // what it had the last time
                IDLE => *kept = 0,
                tag => *kept = tag,
            }
            let number = *kept & (GENERATION - 1);
            if number != 0 {
                numbers.used[(number / 64) as usize] |= 1 << (number % 64);
            }
        }
        asm::forget_everywhere();
        // More numbers than CPUs: there is one. Sharing 0 would be wrong only together with whoever else gets it.
        generation | numbers.find(count).unwrap_or(0)
    }
}

impl Numbers {
    /// Marks a number, and answers whether somebody has it already.
    fn take(&mut self, number: u64) -> bool {
        let Some(word) = self.used.get_mut((number / 64) as usize) else { return true };
        let bit = 1 << (number % 64);
        core::mem::replace(word, *word | bit) & bit != 0
    }

    /// A free number below `count`, marked. 0 is nobody's.
    fn find(&mut self, count: u64) -> Option<u64> {
        let found = (self.next.min(count)..count)
            .chain(1..self.next.min(count))
            .find(|&number| self.used[(number / 64) as usize] & 1 << (number % 64) == 0)?;
        self.take(found);
        self.next = found + 1;
        Some(found)
    }

    /// If a CPU has kept `old`: it is `new` from now on.
    fn keep(&mut self, old: u64, new: u64) -> bool {
        let mut found = false;
        for kept in self.kept.iter_mut().filter(|kept| **kept == old) {
            *kept = new;
            found = true;
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn spaces(count: u64) -> Vec<Arc<Space>> {
        // Roots that no other test has.
        static NEXT: AtomicU64 = AtomicU64::new(1 << 40);
        let first = NEXT.fetch_add(count << 12, Ordering::Relaxed);
        (0..count).map(|i| Space::of(first + (i << 12)).unwrap()).collect()
    }

    #[test]
    fn tables_are_told_apart_and_found_again() {
        let all = spaces(2);
        assert!(Arc::ptr_eq(&Space::of(all[0].root).unwrap(), &all[0]));
        assert!(!Arc::ptr_eq(&all[0], &all[1]));
        let root = all[0].root;
        all[1].retire();
        assert!(!Arc::ptr_eq(&Space::of(all[1].root).unwrap(), &all[1]));
        VMIDS.enter(&all[0], 120, 8);
        let old = all[0].tag.load(Ordering::Relaxed);
        drop(all);
        assert_ne!(Space::of(root).unwrap().tag.load(Ordering::Relaxed), old, "another table");
    }

    #[test]
    fn numbers_are_unique_within_a_generation_and_the_same_on_all_cpus() {
        let (vmids, all) = (Vmids::new(), spaces(15));
        let tags: Vec<_> = all.iter().map(|space| vmids.enter(space, 3, 4)).collect();
        let numbers: BTreeSet<_> = tags.iter().map(|tag| tag.vmid()).collect();
        assert_eq!((numbers.len(), numbers.contains(&0)), (15, false));
        for (space, tag) in all.iter().zip(&tags) {
            assert_eq!(vmids.enter(space, 4, 4), *tag);
        }
    }

    #[test]
    fn who_runs_keeps_his_number_when_a_generation_ends() {
        let (vmids, all) = (Vmids::new(), spaces(40));
        let (first, second) = (vmids.enter(&all[0], 0, 4), vmids.enter(&all[1], 1, 4));
        for space in &all[2..] {
            let tag = vmids.enter(space, 2, 4);
            assert_ne!(tag.vmid(), first.vmid());
            assert_ne!(tag.vmid(), second.vmid());
        }
        assert_eq!(vmids.enter(&all[0], 0, 4).vmid(), first.vmid());
        assert_eq!(vmids.enter(&all[0], 5, 4).vmid(), first.vmid(), "on another CPU as well");
        // Others share no number with anybody who may be somewhere now.
        vmids.leave(1);
        let tag = vmids.enter(&all[20], 1, 4);
        assert_ne!(tag.vmid(), first.vmid());
    }

    #[test]
    fn another_vcpu_of_the_space_is_noticed() {
        let space = &spaces(1)[0];
        assert!(space.changes_on(0, 1) && !space.changes_on(0, 1));
        assert!(space.changes_on(1, 1) && space.changes_on(0, 2) && space.changes_on(0, 1));
        assert!(space.changes_on(MAX_CPUS, 1), "an unknown CPU is never trusted");
    }
}
