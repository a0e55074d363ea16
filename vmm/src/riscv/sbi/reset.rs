//! SRST: switching the machine off, and on again.

use axvcpu::AxArchVCpu;
use sbi_spec::srst::{
    RESET_REASON_NO_REASON, RESET_REASON_SYSTEM_FAILURE, RESET_TYPE_COLD_REBOOT,
    RESET_TYPE_SHUTDOWN, RESET_TYPE_WARM_REBOOT, SYSTEM_RESET,
};

use super::{Answer, Context, Error, Reply, function};
use crate::{Outcome, VmHost};

impl<A: AxArchVCpu, H: VmHost> Context<'_, A, H> {
    pub(super) fn system_reset(&self) -> Answer {
        let [kind, reason, ..] = self.call.args;
        if function(&self.call) != SYSTEM_RESET {
            return Err(Error::NotSupported);
        }
        // Both are 32 bits wide, and a guest's registers may hold them sign-extended.
        let failed = match reason as u32 {
            RESET_REASON_NO_REASON => false,
            RESET_REASON_SYSTEM_FAILURE => true,
            _ => return Err(Error::InvalidParam),
        };
        let outcome = match kind as u32 {
            RESET_TYPE_SHUTDOWN if failed => Outcome::Crashed { reboot: false },
            RESET_TYPE_COLD_REBOOT | RESET_TYPE_WARM_REBOOT if failed => {
                Outcome::Crashed { reboot: true }
            }
            RESET_TYPE_SHUTDOWN => Outcome::PowerOff,
            RESET_TYPE_COLD_REBOOT => Outcome::Reboot { warm: false },
            RESET_TYPE_WARM_REBOOT => Outcome::Reboot { warm: true },
            _ => return Err(Error::InvalidParam),
        };
        self.vm.stop(outcome);
        Ok(Reply::Never)
    }
}
