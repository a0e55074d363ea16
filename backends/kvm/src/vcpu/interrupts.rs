//! Interrupts: through the local APIC in the kernel, or by the backend.
//!
//! Without interrupt controllers the kernel takes one vector at a time, when the guest can take it at once
//! (`KVM_INTERRUPT`). Others wait here, and an interrupt window ends the run when there is room for the next.

use axvcpu::{AxError, AxResult, AxVCpuExitReason as Exit, AxVCpuHal};
use kvm_bindings::kvm_interrupt;

use super::{KvmVCpu, Todo};
use crate::sys::request;

/// The vector of non-maskable interrupts (SDM volume 3, table 7-1).
const NMI: usize = 2;
/// Vectors below this no local APIC sends (SDM volume 3, 12.5.2). Without one any vector may come from an 8259, whose
/// first one a PC's firmware sets to 8.
const FIRST: usize = 16;

/// Vectors that wait for the guest to take them.
#[derive(Default)]
pub(super) struct Pending([u64; 4]);

impl Pending {
    fn add(&mut self, vector: u8) {
        self.0[usize::from(vector / 64)] |= 1 << (vector % 64);
    }

    fn remove(&mut self, vector: u8) {
        self.0[usize::from(vector / 64)] &= !(1 << (vector % 64));
    }

    pub(super) fn clear(&mut self) {
        self.0 = [0; 4];
    }

    fn is_empty(&self) -> bool {
        self.0 == [0; 4]
    }

    /// The highest one, which is the most important (SDM volume 3, 12.8.3.1).
    fn first(&self) -> Option<u8> {
        let (index, word) = self.0.iter().enumerate().rfind(|(_, word)| **word != 0)?;
        Some((64 * index as u32 + word.ilog2()) as u8)
    }
}

impl<H: AxVCpuHal> KvmVCpu<H> {
    pub(super) fn inject(&mut self, vector: usize) -> AxResult {
        let failed = AxError::InterruptFailed { vector };
        if vector == NMI {
            self.nmi = true;
            return request::NMI.call(self.fd(), 0).map(drop).map_err(|_| failed);
        }
        let number = u8::try_from(vector).map_err(|_| failed)?;
        if self.has_irqchip() {
            if vector < FIRST {
                return Err(failed);
            }
            return self.machine.send(self.apic, number).map_err(|_| failed);
        }
        self.pending.add(number);
        self.todo |= Todo::INTERRUPTS;
        Ok(())
    }

    /// Gives the kernel a vector if the guest can take one now, and asks for a window if there are more.
    pub(super) fn offer_interrupts(&mut self) -> AxResult {
        if !self.is_unfinished() && self.page.is_ready_for_interrupt() {
            if let Some(vector) = self.pending.first() {
                request::INTERRUPT.call(self.fd(), &kvm_interrupt { irq: vector.into() })?;
                self.pending.remove(vector);
                // There is room for one.
                self.page.set_not_ready_for_interrupt();
            }
        }
        let more = !self.pending.is_empty();
        self.page.set_interrupt_window(more);
        self.todo.set(Todo::INTERRUPTS, more);
        Ok(())
    }

    /// The guest waits; unless something is there that it can take.
    pub(super) fn halted(&mut self) -> AxResult<Option<Exit>> {
        let mut goes_on = !self.pending.is_empty() && self.page.interrupts_enabled();
        if self.nmi {
            // It may have come between STI and HLT, where it has to wait for an instruction as well.
            let nmi = request::GET_VCPU_EVENTS.call(self.fd())?.nmi;
            self.nmi = nmi.pending != 0 || nmi.injected != 0;
            goes_on |= self.nmi && nmi.masked == 0;
        }
        Ok((!goes_on).then_some(Exit::Halt { wake_after_ns: None }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_vector_comes_first() {
        let mut pending = Pending::default();
        assert!(pending.is_empty());
        for vector in [16, 63, 64, 130, 255, 32] {
            pending.add(vector);
        }
        let mut order = Vec::new();
        while let Some(vector) = pending.first() {
            order.push(vector);
            pending.remove(vector);
        }
        assert_eq!(order, [255, 130, 64, 63, 32, 16]);
        assert!(pending.is_empty());
    }
}
