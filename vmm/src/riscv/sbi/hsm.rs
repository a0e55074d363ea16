//! HSM: starting, stopping and suspending harts.

use axvcpu::AxArchVCpu;
use sbi_spec::hsm::{
    HART_GET_STATUS, HART_START, HART_STOP, HART_SUSPEND, hart_state, suspend_type,
};

use super::{Answer, Context, Error, OK, Reply, function};
use crate::{Outcome, PowerState, VmHost};

/// How long a suspended hart sleeps at most.
///
/// The suspended hart's timer is the backend's secret, so that the machine does not know when it fires. A
/// suspend may end for any event of the platform; ours has one at this interval.
const SUSPEND_NS: u64 = 1_000_000;

impl<A: AxArchVCpu, H: VmHost> Context<'_, A, H> {
    pub(super) fn hart_state(&self) -> Answer {
        let [first, second, third, ..] = self.call.args;
        match function(&self.call) {
            HART_START => self.hart_start(first, second, third),
            HART_STOP => self.hart_stop(),
            HART_GET_STATUS => {
                let cpu = self.vm.cpus.get(first).ok_or(Error::InvalidParam)?;
                let state = match cpu.power() {
                    PowerState::On => hart_state::STARTED,
                    PowerState::Off => hart_state::STOPPED,
                    PowerState::Starting => hart_state::START_PENDING,
                    PowerState::Suspended => hart_state::SUSPENDED,
                };
                Ok(Reply::Value(state as u64))
            }
            HART_SUSPEND => self.hart_suspend(first),
            _ => Err(Error::NotSupported),
        }
    }

    fn hart_start(&self, hart: u64, entry: u64, opaque: u64) -> Answer {
        let cpu = self.vm.cpus.get(hart).ok_or(Error::InvalidParam)?;
        // The first instruction: two bytes, which the compressed extension aligns to two.
        if entry % 2 != 0 || !self.vm.memory.contains(entry, 2) {
            return Err(Error::InvalidAddress);
        }
        cpu.start(entry, opaque).map_err(|_| Error::AlreadyAvailable)?;
        OK
    }

    fn hart_stop(&self) -> Answer {
        // Now, on the hart's own thread: the next start finds it in its reset state.
        self.this.vcpu().reset().map_err(|_| Error::Failed)?;
        self.this.set_power(PowerState::Off);
        if self.vm.cpus.iter().all(|cpu| cpu.power() == PowerState::Off) {
            self.vm.stop(Outcome::AllCpusStopped);
        }
        Ok(Reply::Never)
    }

    /// Only the default retentive suspend exists, which is a wait for an interrupt. The non-retentive one
    /// would lose the timer with the rest of the hart's state.
    fn hart_suspend(&self, kind: u64) -> Answer {
        // 32 bits wide, and sign-extended in the register.
        match kind as u32 {
            suspend_type::RETENTIVE => {
                self.this.set_power(PowerState::Suspended);
                Ok(Reply::Wait(self.host.now_ns().saturating_add(SUSPEND_NS)))
            }
            suspend_type::NON_RETENTIVE => Err(Error::NotSupported),
            // Reserved, or a platform's own of which there are none here.
            _ => Err(Error::InvalidParam),
        }
    }
}
