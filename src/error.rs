//! The one error type. It is `Copy`, and making one never allocates or formats.

use core::fmt;

use crate::{PerCpuState, VCpuState};

/// What every fallible operation of this crate and of its backends returns.
pub type AxResult<T = ()> = Result<T, AxError>;

/// Why an operation was refused or failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AxError {
    /// The hardware or the backend lacks the feature. Nothing changed.
    Unsupported,
    /// An interrupt could not be queued, delivered or dispatched. It is not pending any more.
    InterruptFailed {
        /// The vector the caller asked for.
        vector: usize,
    },
    /// The vCPU was in a state in which the operation has no meaning. Nothing changed.
    BadState {
        /// The state the operation found.
        found: VCpuState,
    },
    /// The physical CPU was in a state in which the operation has no meaning. Nothing changed.
    BadCpuState {
        /// The state the operation found.
        found: PerCpuState,
    },
    /// The vCPU is bound to one physical CPU and the operation was called on another. Nothing changed.
    WrongCpu {
        /// The physical CPU the vCPU is bound to, or, when binding, the one nearest to the caller's
        /// wish that its affinity allows.
        bound: usize,
        /// The physical CPU the call was made on.
        current: usize,
    },
    /// The last exit asked for a value that was not given:
    /// [`set_return_value`](crate::AxVCpu::set_return_value) comes first. Nothing changed.
    Unanswered,
    /// An answer was given although the last exit did not ask for one. Nothing changed.
    NotAsked,
    /// An argument is outside what the operation accepts. Nothing changed.
    InvalidInput,
    /// The host is out of memory.
    NoMemory,
    /// Another thread is using the same object at this moment; the same call may succeed later.
    ResourceBusy,
    /// The host below the backend failed; the code is the host's own (an `errno` on Linux).
    Host {
        /// The host's error code.
        code: i32,
    },
}

impl fmt::Display for AxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Unsupported => f.write_str("not supported by this hardware or backend"),
            Self::InterruptFailed { vector } => {
                write!(f, "interrupt {vector} could not be delivered")
            }
            Self::BadState { found } => write!(f, "not possible while the vCPU is {found}"),
            Self::BadCpuState { found } => {
                write!(f, "not possible while the physical CPU is {found}")
            }
            Self::WrongCpu { bound, current } => {
                write!(f, "called on physical CPU {current}, but the vCPU belongs on {bound}")
            }
            Self::Unanswered => {
                f.write_str("the last exit still waits for its value (set_return_value)")
            }
            Self::NotAsked => f.write_str("the last exit did not ask for a value"),
            Self::InvalidInput => f.write_str("argument out of range"),
            Self::NoMemory => f.write_str("out of host memory"),
            Self::ResourceBusy => f.write_str("in use by another thread at this moment"),
            Self::Host { code } => write!(f, "the host reported error {code}"),
        }
    }
}

impl core::error::Error for AxError {}
