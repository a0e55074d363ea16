//! What the program itself says: one line on standard error, and an exit status.

use std::fmt::{self, Write as _};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use axvcpu_vmm::summary::status::HOST;

/// Wrong usage: nothing was started.
pub(crate) const USAGE: u8 = 2;
/// Added to a signal's number; leaving by key counts as SIGINT.
pub(crate) const SIGNAL: u8 = 128;

/// Why the program ends without an end of the guest.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The user can do something about it: says what is wrong and what to do.
    Usage(String),
    /// The host could not do its part.
    Host(String),
}

impl Failure {
    /// The exit status it ends with.
    pub(crate) fn status(&self) -> u8 {
        match self {
            Self::Usage(_) => USAGE,
            Self::Host(_) => HOST,
        }
    }

    /// The host failed at something.
    pub(crate) fn host(what: &str, error: impl fmt::Display) -> Self {
        Self::Host(format!("{what}: {error}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) | Self::Host(text) => f.write_str(text),
        }
    }
}

/// Tells the user something.
pub(crate) fn say(text: &str) {
    // Nobody is left to tell if this fails.
    let _ = writeln!(std::io::stderr(), "axvcpu: {}", one_line(text));
}

/// Tells the user why it did not work.
pub(crate) fn fail(failure: &Failure) -> ExitCode {
    say(&failure.to_string());
    ExitCode::from(failure.status())
}

/// A text that fits on one line and cannot steer the terminal, wherever parts of it come from.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut line, c| {
        if c.is_control() {
            line.extend(c.escape_debug());
        } else {
            line.push(c);
        }
        line
    })
}

/// A file's name in quotes.
pub(crate) fn quoted(path: &Path) -> String {
    let mut text = String::new();
    let _ = write!(text, "'{}'", path.display()); // writing to a string does not fail
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_not_sent() {
        assert_eq!(one_line("a\nb\x1b[2J\x07\u{9b}"), r"a\nb\u{1b}[2J\u{7}\u{9b}");
        assert_eq!(one_line("Größe: 'ok' \"too\""), "Größe: 'ok' \"too\"");
    }
}
