//! How a run ended that was ended from outside, and the exit status that says so.

use axvcpu_vmm::End;

use crate::machine::{Cause, Machine};
use crate::report::SIGNAL;

/// How the run of this machine ended.
pub(crate) fn of(machine: &Machine) -> End {
    End::new(machine.board.outcome(), machine.cause().map(by))
}

fn by(cause: &Cause) -> End {
    let (word, signal, sentence) = match cause {
        Cause::Left => ("left", libc::SIGINT, "left by the user".into()),
        Cause::Signal(signal) => ("signal", *signal, format!("ended by signal {signal}")),
        Cause::OutputGone => {
            ("output-gone", libc::SIGPIPE, "nobody reads the guest's output any more".into())
        }
        Cause::Failed(failure) => return End::Host(failure.to_string()),
    };
    End::Outside { word, status: SIGNAL.saturating_add(signal as u8), sentence }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Failure;

    #[test]
    fn every_cause_has_its_status() {
        for (cause, status, word, sentence) in [
            (Cause::Left, 130, "left", "left by the user"),
            (Cause::Signal(libc::SIGINT), 130, "signal", "ended by signal 2"),
            (Cause::Signal(libc::SIGTERM), 143, "signal", "ended by signal 15"),
            (Cause::Signal(libc::SIGHUP), 129, "signal", "ended by signal 1"),
            (Cause::OutputGone, 141, "output-gone", "nobody reads the guest's output any more"),
            (Cause::Failed(Failure::Host("x".into())), 5, "host-error", "the host failed: x"),
        ] {
            let end = by(&cause);
            assert_eq!((end.status(), end.word()), (status, word));
            assert_eq!(end.to_string(), sentence);
        }
    }
}
