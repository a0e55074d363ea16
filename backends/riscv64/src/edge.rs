//! Interrupts of the guest that are not levels.
//!
//! Hardware knows levels only: a bit of `hvip` stays pending until the hypervisor clears it, except the software
//! interrupt's, which the guest clears itself. An injected timer or external interrupt is an edge that is over
//! once it is taken, and nothing tells the hypervisor when a guest takes one. So while an edge waits the guest's
//! trap vector leads to a place where it cannot fetch. Whatever trap it takes next, this is left for, the edge
//! taken back if it was the one, and the guest goes on at its own vector.
#![allow(unsafe_code)] // writes guest registers

use axvcpu::AxVCpuHal;
use axvcpu_riscv::csr::{CAUSE_INTERRUPT, cause, irq};

use crate::csr;
use crate::hext::{guest_level, num};
use crate::image::todo;
use crate::percpu::DELEGATED;
use crate::vcpu::RiscvVCpu;

/// The last page of every address space: canonical in all modes, never guest physical memory. A guest that maps
/// something there executes it as its own trap handler, and gets its edges late.
const HOOK: u64 = 0_u64.wrapping_sub(4096);

/// The exception of a fetch at [`HOOK`] when the guest translates. When it does not, stage 2 refuses.
const FETCHES: u64 = 1 << cause::FETCH_PAGE;

/// What is to be pending beyond what the guest's own timer makes so.
#[derive(Debug, Default)]
pub(crate) struct Edges {
    /// Edges not taken yet, as bits of `sip`.
    waiting: u64,
    /// A software interrupt was injected and is not yet in `hvip`.
    software: bool,
    /// The external interrupt's line.
    pub(crate) line: bool,
    /// The guest's own vector, while the hook is in its place.
    vector: Option<u64>,
    /// `scause` and `sepc` of the guest's last trap before the hook was put there.
    last_trap: (u64, u64),
}

impl Edges {
    /// Takes an interrupt to be delivered; `false` if there is no such.
    pub(crate) fn inject(&mut self, vector: usize) -> bool {
        match vector {
            irq::SOFTWARE => self.software = true,
            irq::TIMER | irq::EXTERNAL => self.waiting |= 1 << vector,
            _ => return false,
        }
        true
    }

    /// Whether an edge waits.
    pub(crate) fn any(&self) -> bool {
        self.waiting != 0
    }

    /// The guest's own vector, when `stvec` is what its hart holds.
    pub(crate) fn visible_vector(&self, stvec: u64) -> u64 {
        self.vector.filter(|_| stvec & !3 == HOOK).unwrap_or(stvec)
    }

    /// The guest has taken a trap with this `scause`.
    fn taken(&mut self, cause: u64) {
        if cause & CAUSE_INTERRUPT != 0 {
            self.waiting &= !(1 << (cause & 63));
        }
    }

    /// The timer and external bits of `hvip`.
    fn levels(&self, timer: bool) -> u64 {
        let sip =
            self.waiting | u64::from(self.line) << irq::EXTERNAL | u64::from(timer) << irq::TIMER;
        sip << 1
    }
}

impl<H: AxVCpuHal> RiscvVCpu<H> {
    /// Makes pending what is to be pending. The vCPU is resident.
    pub(crate) fn update_interrupts(&mut self) {
        self.notice_lost_hook();
        let timer = self.time_has_come();
        let edges = &mut self.edges;
        let levels = edges.levels(timer);
        let before = csr::read::<{ num::HVIP }>() & guest_level(irq::SOFTWARE);
        let software = if edges.software { guest_level(irq::SOFTWARE) } else { before };
        edges.software = false;
        // SAFETY: interrupts of the guest.
        unsafe { csr::write::<{ num::HVIP }>(levels | software) };
        self.set_hook();
        if self.edges.any() {
            // The switch would clear the timer's bit when the guest sets its timer.
            self.context.armed = u64::MAX;
            // The guest may write to its vector at any time, so look again.
            self.shared().ask(todo::INTERRUPTS);
        }
    }

    /// If the guest has put a vector of its own in the place of the hook: takes back the edge it has taken since.
    fn notice_lost_hook(&mut self) {
        if self.edges.vector.is_none() || csr::read::<{ num::VSTVEC }>() & !3 == HOOK {
            return;
        }
        self.edges.vector = None;
        let trap = last_trap();
        if trap != self.edges.last_trap {
            self.edges.taken(trap.0);
        }
    }

    /// Puts the hook in place if an edge waits.
    fn set_hook(&mut self) {
        if !self.edges.any() {
            self.remove_hook();
            return;
        }
        let vector = csr::read::<{ num::VSTVEC }>();
        if vector & !3 != HOOK {
            self.edges.vector = Some(vector);
            self.edges.last_trap = last_trap();
            // SAFETY: where the guest's traps go; and what comes of it is not the guest's.
            unsafe {
                csr::write::<{ num::VSTVEC }>(HOOK);
                csr::write::<{ num::HEDELEG }>(DELEGATED & !FETCHES);
            }
        }
    }

    fn remove_hook(&mut self) {
        let Some(vector) = self.edges.vector.take() else { return };
        if csr::read::<{ num::VSTVEC }>() & !3 == HOOK {
            // SAFETY: the guest's own value.
            unsafe { csr::write::<{ num::VSTVEC }>(vector) };
        }
        // SAFETY: what is the guest's again.
        unsafe { csr::write::<{ num::HEDELEG }>(DELEGATED) };
    }

    /// Restores `hedeleg`, which is not saved with the guest's registers, after they were loaded.
    pub(crate) fn load_delegation(&mut self) {
        let hooked = if self.edges.vector.is_some() { FETCHES } else { 0 };
        // SAFETY: the guest's, or what the hook needs.
        unsafe { csr::write::<{ num::HEDELEG }>(DELEGATED & !hooked) };
    }

    /// If the guest has just been led to the hook by a trap: takes back the edge that was the reason, and sends
    /// the guest to its own vector.
    pub(crate) fn took_hooked_trap(&mut self) -> bool {
        let Some(vector) = self.edges.vector.filter(|_| self.context.pc == HOOK) else {
            return false;
        };
        let code = csr::read::<{ num::VSCAUSE }>();
        self.edges.vector = None;
        if csr::read::<{ num::VSTVEC }>() & !3 == HOOK {
            // SAFETY: the guest's own value.
            unsafe { csr::write::<{ num::VSTVEC }>(vector) };
        }
        self.context.pc = vector_of(vector, code);
        self.edges.taken(code);
        self.load_delegation();
        self.update_interrupts();
        true
    }
}

/// `scause` and `sepc` of the guest's last trap.
fn last_trap() -> (u64, u64) {
    (csr::read::<{ num::VSCAUSE }>(), csr::read::<{ num::VSEPC }>())
}

/// Where a trap goes (`stvec`, privileged architecture 12.1.2).
pub(crate) fn vector_of(stvec: u64, code: u64) -> u64 {
    let base = stvec & !3;
    if stvec & 1 != 0 && code & CAUSE_INTERRUPT != 0 {
        base.wrapping_add(4 * (code & !CAUSE_INTERRUPT))
    } else {
        base
    }
}
