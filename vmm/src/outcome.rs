//! How a virtual machine can end.

use core::fmt;

use axvcpu::{AxError, AxVCpuExitReason};

/// How a virtual machine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The guest switched itself off.
    PowerOff,
    /// The guest asked for a restart.
    Reboot {
        /// Whether memory may be kept.
        warm: bool,
    },
    /// The guest switched itself off or asked for a restart because it had failed, or met a fault that it could not
    /// handle.
    Crashed {
        /// Whether it asked for a restart.
        reboot: bool,
    },
    /// Every CPU stopped itself, so that none is left to start another.
    AllCpusStopped,
    /// A vCPU cannot go on.
    CpuFailed {
        /// The vCPU's number.
        cpu: usize,
        /// What it answered.
        error: AxError,
    },
    /// A vCPU stopped for a reason this machine has no answer to.
    UnknownExit {
        /// The vCPU's number.
        cpu: usize,
        /// The reason.
        exit: AxVCpuExitReason,
    },
    /// The host ended the machine.
    Stopped,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PowerOff => f.write_str("the guest powered off"),
            Self::Reboot { warm: false } => f.write_str("the guest asked for a reboot"),
            Self::Reboot { warm: true } => f.write_str("the guest asked for a warm reboot"),
            Self::Crashed { .. } => {
                f.write_str("the guest reported a failure, or met a fault that it could not handle")
            }
            Self::AllCpusStopped => f.write_str("all CPUs of the guest have stopped"),
            Self::CpuFailed { cpu, error } => write!(f, "CPU {cpu} failed: {error}"),
            Self::UnknownExit { cpu, exit: AxVCpuExitReason::FailEntry { reason } } => {
                write!(
                    f,
                    "the hardware refused to enter the guest on CPU {cpu}: reason {reason:#x}"
                )
            }
            Self::UnknownExit { cpu, exit: AxVCpuExitReason::InternalError { code, data } } => {
                write!(
                    f,
                    "the hypervisor below cannot go on with CPU {cpu}: code {code:#x}, data"
                )?;
                data.iter().try_for_each(|word| write!(f, " {word:#x}"))
            }
            Self::UnknownExit { cpu, exit } => {
                write!(f, "CPU {cpu} stopped for a reason this machine cannot handle: {exit:?}")
            }
            Self::Stopped => f.write_str("stopped by the host"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn ends_below_the_guest_are_told_in_hexadecimal() {
        let unknown = |exit| Outcome::UnknownExit { cpu: 3, exit }.to_string();
        assert_eq!(
            unknown(AxVCpuExitReason::FailEntry { reason: 0x8000_0021 }),
            "the hardware refused to enter the guest on CPU 3: reason 0x80000021"
        );
        let (code, data) = (0x11 << 32 | 1, [0, 15, 0xfee0_0000, 0, 0, u64::MAX]);
        assert_eq!(
            unknown(AxVCpuExitReason::InternalError { code, data }),
            "the hypervisor below cannot go on with CPU 3: code 0x1100000001, data 0x0 0xf 0xfee00000 0x0 0x0 \
             0xffffffffffffffff"
        );
        assert!(unknown(AxVCpuExitReason::CpuDown { state: 7 }).ends_with("CpuDown { state: 7 }"));
    }
}
