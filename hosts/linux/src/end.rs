//! How a run ended, and the exit status that says so.

use axvcpu_vmm::Outcome;

use crate::machine::{Cause, Machine};
use crate::report::{CRASH, HOST, POWER_OFF, RESET, SIGNAL};

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The guest switched its machine off.
    PowerOff,
    /// The guest asked for a restart.
    Reset,
    /// The guest came to an end it did not want.
    Crash(String),
    /// The user left with the escape key.
    Left,
    /// A signal ended the program.
    Signal(i32),
    /// Nobody reads the console.
    OutputGone,
    /// The host failed.
    Host(String),
}

impl End {
    /// How the run of this machine ended.
    pub(crate) fn of(machine: &Machine) -> Self {
        Self::new(machine.vm.outcome(), machine.cause())
    }

    /// The guest's own end comes first: it was there before the cause could have an effect.
    fn new(outcome: Option<Outcome>, cause: Option<&Cause>) -> Self {
        match outcome {
            Some(Outcome::PowerOff) => Self::PowerOff,
            Some(Outcome::Reboot { .. }) => Self::Reset,
            Some(outcome @ (Outcome::Crashed { .. } | Outcome::AllCpusStopped)) => {
                Self::Crash(outcome.to_string())
            }
            Some(Outcome::Stopped) | None => match cause {
                Some(Cause::Left) => Self::Left,
                Some(Cause::Signal(signal)) => Self::Signal(*signal),
                Some(Cause::OutputGone) => Self::OutputGone,
                Some(Cause::Failed(failure)) => Self::Host(failure.to_string()),
                None => Self::Host("the machine stopped for no known reason".into()),
            },
            Some(outcome) => Self::Host(outcome.to_string()),
        }
    }

    /// The exit status.
    pub(crate) fn status(&self) -> u8 {
        match self {
            Self::PowerOff => POWER_OFF,
            Self::Reset => RESET,
            Self::Crash(_) => CRASH,
            Self::Host(_) => HOST,
            Self::Left => SIGNAL + libc::SIGINT as u8,
            Self::Signal(signal) => SIGNAL.saturating_add(*signal as u8),
            Self::OutputGone => SIGNAL + libc::SIGPIPE as u8,
        }
    }

    /// What the user must be told even if he wants no summary.
    pub(crate) fn failure(&self) -> Option<&str> {
        match self {
            Self::Host(failure) => Some(failure),
            _ => None,
        }
    }

    /// One word for programs.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::PowerOff => "power-off",
            Self::Reset => "reset",
            Self::Crash(_) => "crash",
            Self::Left => "left",
            Self::Signal(_) => "signal",
            Self::OutputGone => "output-gone",
            Self::Host(_) => "host-error",
        }
    }

    /// One sentence for people.
    pub(crate) fn sentence(&self) -> String {
        match self {
            Self::PowerOff => "the guest switched its machine off".into(),
            Self::Reset => "the guest asked for a restart".into(),
            Self::Crash(how) => format!("the guest crashed: {how}"),
            Self::Left => "left by the user".into(),
            Self::Signal(signal) => format!("ended by signal {signal}"),
            Self::OutputGone => "nobody reads the guest's output any more".into(),
            Self::Host(failure) => format!("the host failed: {failure}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Failure;
    use axvcpu::AxError;

    fn status(outcome: Option<Outcome>, cause: Option<Cause>) -> u8 {
        End::new(outcome, cause.as_ref()).status()
    }

    #[test]
    fn every_end_has_its_status() {
        let failed = Outcome::CpuFailed { cpu: 0, error: AxError::NoMemory };
        for (outcome, cause, expected) in [
            (Outcome::PowerOff, None, 0),
            (Outcome::Reboot { warm: false }, None, 3),
            (Outcome::Reboot { warm: true }, None, 3),
            (Outcome::Crashed { reboot: false }, None, 4),
            (Outcome::Crashed { reboot: true }, None, 4),
            (Outcome::AllCpusStopped, None, 4),
            (failed, None, 5),
            (Outcome::Stopped, None, 5),
            (Outcome::Stopped, Some(Cause::Left), 130),
            (Outcome::Stopped, Some(Cause::Signal(libc::SIGINT)), 130),
            (Outcome::Stopped, Some(Cause::Signal(libc::SIGTERM)), 143),
            (Outcome::Stopped, Some(Cause::Signal(libc::SIGHUP)), 129),
            (Outcome::Stopped, Some(Cause::OutputGone), 141),
            (Outcome::Stopped, Some(Cause::Failed(Failure::Host("x".into()))), 5),
            // The guest was faster.
            (Outcome::PowerOff, Some(Cause::Left), 0),
        ] {
            assert_eq!(status(Some(outcome), cause), expected, "{outcome}");
        }
        assert_eq!(status(None, None), 5);
    }
}
