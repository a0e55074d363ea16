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
    /// The guest switched itself off or asked for a restart because it had failed.
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
            Self::Crashed { .. } => f.write_str("the guest reported a system failure"),
            Self::AllCpusStopped => f.write_str("all CPUs of the guest have stopped"),
            Self::CpuFailed { cpu, error } => write!(f, "CPU {cpu} failed: {error}"),
            Self::UnknownExit { cpu, exit } => {
                write!(f, "CPU {cpu} stopped for a reason this machine cannot handle: {exit:?}")
            }
            Self::Stopped => f.write_str("stopped by the host"),
        }
    }
}
