//! Kicks, wake-ups and interrupts from elsewhere, before, during and after a run.

use super::NamedCase;
use super::Subject;
use super::bench::Bench;
use super::guest::*;
use crate::report::Verdict;
use crate::requests;

pub(super) fn cases<S: Subject>() -> [NamedCase<S>; 1] {
    [("kick: ends the run of a program", kick_program)]
}

fn kick_program<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.mark(1);
        g.go_user(axvcpu_x86::reg::rflags::FIXED);
        g.count_for_ever();
    })?;
    requests::kick_trapping(subject, &bench)
}
