//! IPI and RFENCE: what a hart wants from other harts.

use axvcpu::{AxArchVCpu, Fence};
use axvcpu_riscv::csr::irq;
use sbi_spec::{rfnc, spi};

use super::{Answer, Context, Error, OK, function};
use crate::{Cpu, PowerState, VmHost};

/// The hart mask base that selects all harts, whatever the mask.
const ALL_HARTS: u64 = u64::MAX;

impl<A: AxArchVCpu, H: VmHost> Context<'_, A, H> {
    pub(super) fn ipi(&self) -> Answer {
        let [mask, base, ..] = self.call.args;
        if function(&self.call) != spi::SEND_IPI {
            return Err(Error::NotSupported);
        }
        self.for_each_hart(mask, base, |cpu| {
            // A hart that is off starts without anything pending.
            if matches!(cpu.power(), PowerState::Off) {
                return;
            }
            // Fails only for a vCPU that is invalid, which ends the machine by itself.
            let _ = cpu.vcpu().inject_interrupt(irq::SOFTWARE);
        })?;
        OK
    }

    pub(super) fn remote_fence(&self) -> Answer {
        let [mask, base, start, size, ..] = self.call.args;
        // Backends flush as a whole, so that the range and the ASID only have to be legal.
        let fence = match function(&self.call) {
            rfnc::REMOTE_FENCE_I => Fence::INSTRUCTION,
            rfnc::REMOTE_SFENCE_VMA | rfnc::REMOTE_SFENCE_VMA_ASID => {
                let everything = size == u64::MAX || (start == 0 && size == 0);
                if !everything && start.checked_add(size).is_none() {
                    return Err(Error::InvalidAddress);
                }
                Fence::GUEST_TLB
            }
            // The guest has no hypervisor extension, and so no hfence.
            _ => return Err(Error::NotSupported),
        };
        self.for_each_hart(mask, base, |cpu| cpu.vcpu().request_fence(fence))?;
        // All of them first, then the wait: they leave their guests at the same time.
        self.for_each_hart(mask, base, |cpu| {
            let mut turns = 0;
            while cpu.vcpu().fence_outstanding(fence) {
                self.host.relax(turns);
                turns = turns.saturating_add(1);
            }
        })?;
        OK
    }

    /// Calls `f` for the harts that a mask selects; for none if one of them does not exist.
    fn for_each_hart(&self, mask: u64, base: u64, f: impl Fn(&Cpu<A>)) -> Result<(), Error> {
        let cpus = &self.vm.cpus;
        if base == ALL_HARTS {
            cpus.iter().for_each(f);
            return Ok(());
        }
        let count = cpus.len() as u64;
        if mask != 0 {
            let highest = 63 - u64::from(mask.leading_zeros());
            if base.checked_add(highest).is_none_or(|hart| hart >= count) {
                return Err(Error::InvalidParam);
            }
        }
        let mut rest = mask;
        while rest != 0 {
            let hart = base + u64::from(rest.trailing_zeros());
            rest &= rest - 1;
            if let Some(cpu) = cpus.get(hart) {
                f(cpu);
            }
        }
        Ok(())
    }
}
