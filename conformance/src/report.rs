//! Results: of one case, and of all.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use axvcpu::AxError;

use crate::subject::Subject;

/// What a backend did that the contract does not allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure(String);

impl Failure {
    /// A mistake in these words.
    pub fn new(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a case ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The backend keeps this part of the contract.
    Passed,
    /// It does not.
    Failed(Failure),
    /// The platform lacks what the case is about; the text says what.
    Skipped(&'static str),
}

/// The result of one case.
#[derive(Clone, Debug)]
pub struct Case {
    /// What the case is about.
    pub name: &'static str,
    /// How it ended.
    pub outcome: Outcome,
}

/// The results of all cases. Its [`Display`](fmt::Display) is a table with the counts in the last line.
#[derive(Clone, Debug)]
pub struct Report {
    subject: String,
    cases: Vec<Case>,
}

impl Report {
    pub(crate) fn new(subject: &str) -> Self {
        Self { subject: subject.into(), cases: Vec::new() }
    }

    pub(crate) fn add(&mut self, name: &'static str, verdict: Verdict) {
        let outcome = match verdict {
            Ok(()) => Outcome::Passed,
            Err(Stop::Failed(failure)) => Outcome::Failed(failure),
            Err(Stop::Skipped(reason)) => Outcome::Skipped(reason),
        };
        self.cases.push(Case { name, outcome });
    }

    /// The cases, in the order they ran.
    pub fn cases(&self) -> &[Case] {
        &self.cases
    }

    /// How many cases passed.
    pub fn passed(&self) -> usize {
        self.count(|outcome| *outcome == Outcome::Passed)
    }

    /// How many cases failed.
    pub fn failed(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Failed(_)))
    }

    /// How many cases the platform could not run.
    pub fn skipped(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Skipped(_)))
    }

    /// Whether cases ran and none failed.
    pub fn is_passed(&self) -> bool {
        self.failed() == 0 && self.passed() != 0
    }

    fn count(&self, f: impl Fn(&Outcome) -> bool) -> usize {
        self.cases.iter().filter(|case| f(&case.outcome)).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}:", self.subject)?;
        let width = self.cases.iter().map(|case| case.name.len()).max().unwrap_or(0);
        for Case { name, outcome } in &self.cases {
            match outcome {
                Outcome::Passed => writeln!(f, "  {name:width$}  ok")?,
                Outcome::Failed(failure) => writeln!(f, "  {name:width$}  FAILED: {failure}")?,
                Outcome::Skipped(reason) => writeln!(f, "  {name:width$}  skipped: {reason}")?,
            }
        }
        write!(f, "{} passed, {} failed", self.passed(), self.failed())?;
        match self.skipped() {
            0 => Ok(()),
            skipped => write!(f, ", {skipped} skipped"),
        }
    }
}

/// A case and what it is about.
pub type NamedCase<S> = (&'static str, fn(&S) -> Verdict);

/// Runs the cases whose names contain `filter`, one after the other, and calls `before` with the name of each before it
/// runs.
pub fn run_cases<S: Subject>(
    subject: &S,
    cases: impl IntoIterator<Item = NamedCase<S>>,
    filter: &str,
    mut before: impl FnMut(&'static str),
) -> Report {
    let mut report = Report::new(subject.name());
    for (name, case) in cases.into_iter().filter(|(name, _)| name.contains(filter)) {
        before(name);
        report.add(name, case(subject));
    }
    report
}

/// Why a case ended early.
#[derive(Debug)]
pub enum Stop {
    /// The backend, or a guest of the suite's, did what it must not.
    Failed(Failure),
    /// The platform lacks what the case is about.
    Skipped(&'static str),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// An error from a call that the contract says succeeds.
impl From<AxError> for Stop {
    #[track_caller]
    fn from(error: AxError) -> Self {
        let place = core::panic::Location::caller();
        Self::Failed(Failure(alloc::format!("{}: refused: {error}", Place(place))))
    }
}

/// A place in the suite, for whoever looks up what a case does.
pub(crate) struct Place(pub(crate) &'static core::panic::Location<'static>);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.0.file();
        let file = file.rsplit_once("src/").map_or(file, |(_, file)| file);
        write!(f, "{file}:{}", self.0.line())
    }
}

/// What a case comes to.
pub type Verdict<T = ()> = Result<T, Stop>;

/// Ends the case as failed.
macro_rules! fail {
    ($($text:tt)*) => {
        return Err($crate::Failure::new(alloc::format!($($text)*)).into())
    };
}

/// Ends the case as failed unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($text:tt)*) => {
        if !$condition {
            $crate::fail!($($text)*);
        }
    };
}

/// Ends the case as failed unless what was found is what was expected.
macro_rules! ensure_eq {
    ($found:expr, $expected:expr, $($text:tt)*) => {
        match (&$found, &$expected) {
            (found, expected) => {
                if *found != *expected {
                    let what = alloc::format!($($text)*);
                    $crate::fail!("{what}: expected {expected:x?}, found {found:x?}");
                }
            }
        }
    };
}

pub(crate) use {ensure, ensure_eq, fail};
