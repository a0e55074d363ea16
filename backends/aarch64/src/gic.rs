//! The virtual CPU interface: interrupts on their way through the list registers (IHI 0069, chapters 6 and 12.4).
//!
//! Of the interrupts that are pending and enabled the most important are in list registers, and those that are active. When they are
//! more than there is room, a maintenance interrupt tells that the pending ones in registers are used up, and active ones give
//! up their registers if need be. The guest acknowledges and ends them without leaving.
#![allow(unsafe_code)] // writes GIC registers

use alloc::sync::Arc;

use axvcpu::AxVCpuHal;
use axvcpu_arm::gic::{Forwarding, PHYSICAL_TIMER, VIRTUAL_TIMER};
use axvcpu_arm::sysreg::*;

use crate::control::{ich_hcr, lr, timer, vmcr};
use crate::image::todo;
use crate::interface::{read_lr, write_lr};
use crate::spilled::Spilled;
use crate::vcpu::ArmVCpu;
use crate::{el1, sys};

/// List registers are 16 at most.
pub(crate) const MAX_LIST_REGISTERS: usize = 16;

/// What is pending in the distributor's view, and not known to be in a list register.
pub(crate) struct Interrupts {
    /// Edges, a bit each.
    edges: [u64; 16],
    /// Which words of them have any.
    edge_words: u32,
    /// Lines as their devices have them.
    lines: u64,
    /// Timers whose physical interrupt is active: [`todo::VIRTUAL_TIMER`], [`todo::PHYSICAL_TIMER`].
    timers: u32,
    /// What is active and in no list register.
    spilled: Spilled,
    /// Timers among that whose physical interrupt ends with it.
    spilled_timers: u32,
    generation: u32,
    forwarding: Arc<dyn Forwarding>,
}

/// What may be shown to the guest, as a number: the smaller, the more important. Priority, then INTID, then [`Source`].
type Candidate = u32;

/// Why an interrupt is pending.
mod source {
    pub(super) const EDGE: u32 = 0;
    pub(super) const LINE: u32 = 1;
    pub(super) const TIMER: u32 = 2;
}

fn candidate(priority: u8, intid: u32, source: u32) -> Candidate {
    u32::from(priority) << 16 | intid << 2 | source
}

/// Priority, INTID and source of a candidate.
fn parts(candidate: Candidate) -> (u64, u32, u32) {
    (u64::from(candidate >> 16), candidate >> 2 & 0x3ff, candidate & 3)
}

impl Interrupts {
    pub(crate) fn new(forwarding: Arc<dyn Forwarding>) -> Self {
        Self {
            edges: [0; 16],
            edge_words: 0,
            lines: 0,
            timers: 0,
            spilled: Spilled::default(),
            spilled_timers: 0,
            generation: forwarding.generation(),
            forwarding,
        }
    }

    /// Forgets what was pending.
    pub(crate) fn reset(&mut self) {
        (self.edges, self.edge_words, self.lines) = ([0; 16], 0, 0);
        (self.timers, self.spilled, self.spilled_timers) = (0, Spilled::default(), 0);
    }

    pub(crate) fn inject(&mut self, intid: u32) {
        let word = (intid / 64) as usize % 16;
        self.edges[word] |= 1 << (intid % 64);
        self.edge_words |= 1 << word;
    }

    /// Takes an edge, if it is pending.
    fn take_edge(&mut self, intid: u32) -> bool {
        let (word, bit) = ((intid / 64) as usize % 16, 1 << (intid % 64));
        let found = self.edges[word] & bit != 0;
        self.edges[word] &= !bit;
        if self.edges[word] == 0 {
            self.edge_words &= !(1 << word);
        }
        found
    }

    pub(crate) fn set_line(&mut self, line: u32, asserted: bool) {
        let bit = 1 << (line % 64);
        self.lines = if asserted { self.lines | bit } else { self.lines & !bit };
    }

    fn has_line(&self, intid: u32) -> bool {
        intid < 64 && self.lines & 1 << intid != 0
    }

    /// Whether the distributor has changed its mind about anything.
    fn is_outdated(&self) -> bool {
        self.generation != self.forwarding.generation()
    }

    /// Takes note of what the distributor has changed until now. Answers which interrupts were deactivated there; where none are
    /// active that is nobody's concern.
    fn renew(&mut self) -> u64 {
        let generation = self.forwarding.generation();
        if generation == self.generation {
            return 0;
        }
        self.generation = generation;
        self.forwarding.take_ended()
    }

    /// Whether anything is not in a list register.
    fn waits(&self) -> bool {
        self.lines != 0 || self.timers != 0 || self.edge_words != 0 || !self.spilled.is_empty()
    }

    /// Ends a spilled interrupt. Answers whether it was one.
    fn end_spilled(&mut self, intid: u32) -> bool {
        let found = self.spilled.remove(intid);
        if found && self.spilled_timers & timer_bit(intid) != 0 {
            self.spilled_timers &= !timer_bit(intid);
            deactivate(intid);
        }
        found
    }

    /// Ends as many as the hardware has counted: the most important first, as guests do.
    fn end_counted(&mut self, count: u64) {
        for _ in 0..count {
            let Some(first) = self.spilled.first(&*self.forwarding) else { return };
            self.end_spilled(first);
        }
    }

    /// Makes room in list registers that are all active: takes the least important, which is ended last.
    fn spill(&mut self, lrs: &mut [u64]) {
        let Some(register) =
            lrs.iter_mut().max_by_key(|value| **value >> lr::PRIORITY_SHIFT & 0xff)
        else {
            return;
        };
        let value = core::mem::take(register);
        let intid = lr::intid(value);
        self.spilled.insert(intid);
        if value & lr::HW != 0 {
            self.spilled_timers |= timer_bit(intid);
        }
        if value & lr::PENDING != 0 {
            self.inject(intid);
        }
    }

    /// The list register of the most important spilled interrupt, which is spilled no more.
    fn unspill(&mut self) -> Option<u64> {
        let intid = self.spilled.first(&*self.forwarding)?;
        self.spilled.remove(intid);
        let hardware = if self.spilled_timers & timer_bit(intid) != 0 {
            self.spilled_timers &= !timer_bit(intid);
            lr::HW | physical(intid)
        } else {
            0
        };
        let line = if hardware == 0 && self.has_line(intid) { lr::EOI } else { 0 };
        let priority = self.forwarding.priority(intid).unwrap_or(u8::MAX).into();
        let shown = pending_register(priority, intid) & !lr::PENDING;
        Some(shown | lr::ACTIVE | hardware | line)
    }

    /// The list register of the only interrupt that is pending, a timer's not among them; `None` if there are more, or it is
    /// disabled.
    fn take_only(&mut self) -> Option<u64> {
        let (intid, kind) = if self.edge_words.is_power_of_two() && self.lines == 0 {
            let index = self.edge_words.trailing_zeros();
            let word = self.edges[index as usize % 16];
            (word.is_power_of_two().then(|| 64 * index + word.trailing_zeros())?, 0)
        } else if self.edge_words == 0 && self.lines.is_power_of_two() {
            (self.lines.trailing_zeros(), lr::EOI)
        } else {
            return None;
        };
        self.renew();
        let priority = self.forwarding.priority(intid)?;
        self.take_edge(intid);
        Some(pending_register(priority.into(), intid) | kind)
    }

    /// Calls `f` with everything that is pending. One that is for two reasons is one interrupt, the edge's as well.
    fn pending(&self, mut f: impl FnMut(u32, u32)) {
        let timers = fired_lines(self.timers);
        let lines = self.lines & !timers;
        let mut words = self.edge_words;
        while words != 0 {
            let index = words.trailing_zeros();
            words &= words - 1;
            let levels = if index == 0 { lines | timers } else { 0 };
            each_bit(self.edges[index as usize % 16] & !levels, |bit| {
                f(64 * index + bit, source::EDGE);
            });
        }
        each_bit(lines, |line| f(line, source::LINE));
        each_bit(timers, |timer| f(timer, source::TIMER));
    }

    /// Fills list registers anew: `lrs` as they were left by the guest, `count` of them. Answers `ICH_HCR_EL2`.
    ///
    /// Active interrupts keep their registers, but for one if nothing pending would have any. Pending ones give theirs up to the most
    /// important of all.
    fn fill(&mut self, lrs: &mut [u64; MAX_LIST_REGISTERS], count: usize) -> u64 {
        let count = count.clamp(1, MAX_LIST_REGISTERS);
        let lrs = &mut lrs[..count];
        let mut fired = core::mem::take(&mut self.timers);
        for register in lrs.iter_mut() {
            let (value, intid) = (*register, lr::intid(*register));
            let hardware = value & lr::HW != 0;
            if value & lr::PENDING != 0 {
                if hardware {
                    self.timers |= timer_bit(intid);
                } else if !self.has_line(intid) && value & lr::EOI == 0 {
                    self.inject(intid);
                }
            }
            *register = if value & lr::ACTIVE != 0 { value & !lr::PENDING } else { 0 };
            if *register == 0 {
                continue;
            }
            if fired & timer_bit(intid) != 0 {
                // The guest has not ended the last one: when it does, the physical one ends as well.
                fired &= !timer_bit(intid);
                *register = value & !(lr::PENDING | lr::PHYSICAL) | lr::HW | physical(intid);
            } else if !hardware {
                let line = if self.has_line(intid) { lr::EOI } else { 0 };
                *register = *register & !lr::EOI | line;
            }
        }
        for (bit, intid) in TIMERS {
            if fired & bit != 0 && self.spilled.contains(intid) {
                fired &= !bit;
                self.spilled_timers |= bit;
            }
        }
        self.timers |= fired;

        let mut best: [Candidate; MAX_LIST_REGISTERS] = [0; MAX_LIST_REGISTERS];
        let (mut found, mut all) = (0, 0);
        self.pending(|intid, source| {
            // An active one is shown when it has ended, or in the register that it has.
            if self.spilled.contains(intid) || lrs.iter().any(|&value| is_of(value, intid)) {
                return;
            }
            let Some(priority) = self.forwarding.priority(intid) else { return };
            let candidate = candidate(priority, intid, source);
            let place = best[..found].partition_point(|&known| known <= candidate);
            all += 1;
            if place < count {
                found = (found + 1).min(count);
                best[place..found].rotate_right(1);
                best[place] = candidate;
            }
        });
        if found != 0 && lrs.iter().all(|&value| value != 0) {
            self.spill(lrs);
        }
        // An edge that came while its interrupt was active, and which nothing else will show.
        for register in lrs.iter_mut().filter(|value| **value & lr::ACTIVE != 0) {
            let intid = lr::intid(*register);
            if *register & (lr::HW | lr::EOI) == 0
                && self.edge_words != 0
                && self.forwarding.priority(intid).is_some()
                && self.take_edge(intid)
            {
                *register |= lr::PENDING;
            }
        }
        let mut next = best[..found].iter();
        for register in lrs.iter_mut().filter(|value| **value == 0) {
            let Some((priority, intid, source)) = next.next().map(|&best| parts(best)) else {
                let Some(active) = self.unspill() else { break };
                *register = active;
                continue;
            };
            all -= 1;
            self.take_edge(intid);
            let kind = match source {
                source::LINE => lr::EOI,
                source::TIMER => {
                    self.timers &= !timer_bit(intid);
                    lr::HW | physical(intid)
                }
                _ => 0,
            };
            *register = pending_register(priority, intid) | kind;
        }
        // What is left over is shown when the guest has taken all that is.
        let left_over = if all != 0 { ich_hcr::NPIE } else { 0 };
        let spilled = if self.spilled.is_empty() { 0 } else { ich_hcr::LRENPIE | ich_hcr::TDIR };
        ich_hcr::EN | left_over | spilled
    }
}

const TIMERS: [(u32, u32); 2] =
    [(todo::VIRTUAL_TIMER, VIRTUAL_TIMER), (todo::PHYSICAL_TIMER, PHYSICAL_TIMER)];

/// Calls `f` with the position of each bit that is set.
pub(crate) fn each_bit(mut word: u64, mut f: impl FnMut(u32)) {
    while word != 0 {
        f(word.trailing_zeros());
        word &= word - 1;
    }
}

/// The bit of a timer's interrupt; 0 for others.
pub(crate) fn timer_bit(intid: u32) -> u32 {
    TIMERS.iter().find(|timer| timer.1 == intid).map_or(0, |timer| timer.0)
}

/// Whether a list register has this interrupt.
fn is_of(register: u64, intid: u32) -> bool {
    register != 0 && lr::intid(register) == intid
}

/// Timers as if they were lines.
fn fired_lines(timers: u32) -> u64 {
    let fired = TIMERS.iter().filter(|timer| timers & timer.0 != 0);
    fired.fold(0, |lines, timer| lines | 1 << timer.1)
}

fn physical(intid: u32) -> u64 {
    u64::from(intid) << lr::PHYSICAL_SHIFT
}

impl<H: AxVCpuHal> ArmVCpu<H> {
    /// Looks after interrupts before an entry, on behalf of [`todo::WATCH`].
    pub(crate) fn watch_interrupts(&mut self) {
        if self.interrupts.is_outdated() || self.shows_timer_in_vain() {
            self.update_interrupts(0);
        } else {
            let used = self.on_cpu().image().interface.used;
            if !is_empty(used) || self.interrupts.waits() {
                self.shared().ask(todo::WATCH);
            }
        }
    }

    /// Shows the guest the most important of its interrupts, `fired` timers' among them. The vCPU is resident.
    pub(crate) fn update_interrupts(&mut self, fired: u32) {
        let mut on_cpu = self.on_cpu();
        let interface = &mut on_cpu.image().interface;
        if interface.used != 0 && is_empty(interface.used) {
            interface.used = 0;
        }
        let (used, timers) = (interface.used, interface.timers);
        self.interrupts.spilled_timers = interface.spilled_timers;
        if used == 0 && timers == 0 && self.interrupts.spilled.is_empty() {
            // Most of the time there is nothing to show, or one interrupt and nothing else.
            if fired == 0 && !self.interrupts.waits() || self.show_only(fired) {
                switch(ich_hcr::EN);
                return;
            }
        }
        let features = self.slot().features();
        let count = (features.list_registers as usize).min(MAX_LIST_REGISTERS);
        // Those whose reason is over, because the guest has set the timer anew, have nothing to tell.
        let fired = timers | fired;
        let over =
            TIMERS.iter().filter(|timer| fired & timer.0 != 0 && !is_due(timer.1, features.vhe));
        let over = over.fold(0, |all, timer| all | timer.0);
        deactivate_timers(over);
        self.interrupts.timers = fired & !over;
        let mut lrs = [0; MAX_LIST_REGISTERS];
        for (index, register) in lrs[..count].iter_mut().enumerate() {
            if used & 1 << index != 0 {
                *register = read_lr(index);
            }
        }
        self.retire_timers(&mut lrs[..count], features.vhe);
        let ended = self.interrupts.renew();
        end_active(ended, &mut lrs[..count]);
        if !self.interrupts.spilled.is_empty() {
            each_bit(ended, |intid| {
                self.interrupts.end_spilled(intid);
            });
            let counted = ich_hcr::counted(sys::read::<ICH_HCR_EL2>());
            let before = core::mem::take(&mut self.on_cpu().image().interface.counted);
            self.interrupts.end_counted(counted + before);
        }
        let hcr = self.interrupts.fill(&mut lrs, count);
        let mut now_used = 0;
        for (index, &register) in lrs[..count].iter().enumerate() {
            if register != 0 {
                now_used |= 1 << index;
            }
            if register != 0 || used & 1 << index != 0 {
                write_lr(index, register);
            }
        }
        let mut on_cpu = self.on_cpu();
        let interface = &mut on_cpu.image().interface;
        interface.used = now_used;
        interface.timers = self.interrupts.timers;
        interface.spilled_timers = self.interrupts.spilled_timers;
        switch(hcr);
        if now_used != 0 || self.interrupts.waits() {
            self.shared().ask(todo::WATCH);
        }
    }

    /// The guest deactivates an interrupt by `ICC_DIR_EL1`, which traps while anything is spilled.
    pub(crate) fn deactivated(&mut self, intid: u32) {
        if sys::read::<ICH_VMCR_EL2>() & vmcr::VEOIM == 0 {
            return; // it has been with the end
        }
        self.interrupts.spilled_timers = self.on_cpu().image().interface.spilled_timers;
        if !self.interrupts.end_spilled(intid) {
            let used = self.on_cpu().image().interface.used;
            each_bit(used.into(), |index| {
                let value = read_lr(index as usize);
                if value & lr::ACTIVE != 0 && is_of(value, intid) {
                    if value & lr::HW != 0 {
                        deactivate(intid);
                    }
                    let pending = value & lr::PENDING != 0;
                    write_lr(index as usize, if pending { value & !lr::ACTIVE } else { 0 });
                }
            });
        }
        self.on_cpu().image().interface.spilled_timers = self.interrupts.spilled_timers;
        self.shared().ask(todo::INTERRUPTS);
    }

    /// If a single interrupt is pending that is enabled: shows it, in the first list register. All are empty.
    fn show_only(&mut self, fired: u32) -> bool {
        let register = match fired {
            0 => self.interrupts.take_only(),
            _ if self.interrupts.waits() => None,
            _ => self.only_timer(fired),
        };
        let Some(register) = register else { return false };
        write_lr(0, register);
        self.on_cpu().image().interface.used = 1;
        self.shared().ask(todo::WATCH);
        true
    }

    /// The list register of a timer that has fired, and the other has not; `None` if that is over or disabled.
    fn only_timer(&mut self, fired: u32) -> Option<u64> {
        let (_, intid) = *TIMERS.iter().find(|timer| timer.0 == fired)?;
        if !is_due(intid, self.slot().features().vhe) {
            return None;
        }
        self.interrupts.renew();
        let priority = self.interrupts.forwarding.priority(intid)?;
        Some(pending_register(priority.into(), intid) | lr::HW | physical(intid))
    }

    /// Whether a timer's interrupt waits to be taken whose reason is over. Only an exit gives the opportunity to see that: until
    /// then the guest may take an interrupt that a real controller would have taken back.
    fn shows_timer_in_vain(&mut self) -> bool {
        let vhe = self.slot().features().vhe;
        let used = self.on_cpu().image().interface.used;
        let in_vain = |index: usize| {
            let value = read_lr(index);
            value >> 61 == lr::PENDING_HW && !is_due(lr::intid(value), vhe)
        };
        (0..MAX_LIST_REGISTERS).any(|index| used & 1 << index != 0 && in_vain(index))
    }

    /// Takes back timers' interrupts that the guest has not seen and whose reason is over, because it has set the timer
    /// anew.
    fn retire_timers(&mut self, lrs: &mut [u64], vhe: bool) {
        for register in lrs.iter_mut().filter(|value| **value >> 61 == lr::PENDING_HW) {
            let intid = lr::intid(*register);
            if timer_bit(intid) != 0 && !is_due(intid, vhe) {
                *register = 0;
                deactivate(intid);
            }
        }
    }

    /// Whether a timer's interrupt is on its way to the guest already, or kept from it: the timer has nothing more to tell.
    pub(crate) fn has_fired(&self, intid: u32) -> bool {
        let mut on_cpu = self.on_cpu();
        let interface = &on_cpu.image().interface;
        let mut found = interface.timers & timer_bit(intid) != 0;
        found |= self.interrupts.spilled.contains(intid);
        each_bit(interface.used.into(), |index| {
            let value = read_lr(index as usize);
            found |= value >> 62 != 0 && lr::intid(value) == intid;
        });
        found
    }

    /// Whether the guest has an interrupt that ends its waiting.
    pub(crate) fn has_interrupt(&mut self) -> bool {
        let used = self.on_cpu().image().interface.used;
        if used == 0 {
            return false;
        }
        let interface = sys::read::<ICH_VMCR_EL2>();
        let presented = |index: usize| {
            let value = read_lr(index);
            let priority = value >> lr::PRIORITY_SHIFT & 0xff;
            value & lr::PENDING != 0 && priority < vmcr::mask(interface)
        };
        interface & vmcr::VENG1 != 0
            && (0..MAX_LIST_REGISTERS).any(|index| used & 1 << index != 0 && presented(index))
    }
}

/// Ends these interrupts below 64 where they are active, on behalf of the distributor.
fn end_active(ended: u64, lrs: &mut [u64]) {
    for register in lrs.iter_mut().filter(|value| **value & lr::ACTIVE != 0) {
        let intid = lr::intid(*register);
        if intid >= 64 || ended & 1 << intid == 0 {
            continue;
        }
        if *register & lr::HW != 0 {
            deactivate(intid);
        }
        *register = if *register & lr::PENDING != 0 { *register & !lr::ACTIVE } else { 0 };
    }
}

/// Whether the timer's interrupt is asserted.
pub(crate) fn is_due(intid: u32, vhe: bool) -> bool {
    let control = if intid == VIRTUAL_TIMER { el1::cntv_ctl(vhe) } else { el1::cntp_ctl(vhe) };
    control & (timer::ENABLE | timer::IMASK | timer::ISTATUS) == timer::ENABLE | timer::ISTATUS
}

/// Switches the guest's CPU interface on, and the maintenance interrupts it is to have. It may have been switched off
/// ([`maintenance`](crate::maintenance)).
fn switch(hcr: u64) {
    // SAFETY: the guest's CPU interface.
    unsafe { sys::write::<ICH_HCR_EL2>(hcr) };
}

/// A list register that shows an interrupt.
fn pending_register(priority: u64, intid: u32) -> u64 {
    lr::PENDING | lr::GROUP1 | priority << lr::PRIORITY_SHIFT | u64::from(intid)
}

/// Whether nothing is left in these list registers.
fn is_empty(used: u32) -> bool {
    sys::read::<ICH_ELRSR_EL2>() as u32 & used == used
}

/// Ends the physical interrupts of these timers ([`todo::TIMERS`]).
pub(crate) fn deactivate_timers(timers: u32) {
    for (_, intid) in TIMERS.iter().filter(|timer| timers & timer.0 != 0) {
        deactivate(*intid);
    }
}

/// Ends a physical interrupt for good.
pub(crate) fn deactivate(intid: u32) {
    // SAFETY: a guest's timer, whose end is this crate's to say.
    unsafe { sys::write::<ICC_DIR_EL1>(intid.into()) };
}

#[cfg(test)]
#[path = "gic_tests.rs"]
mod tests;
