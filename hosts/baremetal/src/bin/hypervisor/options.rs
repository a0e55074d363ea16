//! The hypervisor's command line.

use alloc::format;
use alloc::string::String;

use axvcpu_baremetal::mark;

/// As many CPUs as a guest can have.
const MAX_CPUS: u8 = 8;

/// A guest has at least this much memory: the kernel goes 2 MiB into it, and something must fit behind that.
const MIN_MEMORY: u64 = 4 << 20;

/// What the command line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// How many CPUs the guest has.
    pub(crate) cpus: u8,
    /// The bytes of the guest's RAM, whole pages.
    pub(crate) memory: u64,
    /// How to report the run at its end.
    pub(crate) summary: Form,
}

/// The form of the summary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A table.
    Text,
    /// One JSON object on one line.
    Json,
    /// Nothing.
    None,
}

impl Default for Options {
    fn default() -> Self {
        Self { cpus: 1, memory: 512 << 20, summary: Form::Text }
    }
}

impl Options {
    /// Reads `name=value` words. Says in an error what is wrong with the first that is.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut options = Self::default();
        for word in text.split_ascii_whitespace() {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            let wrong = |advice: &str| format!("'{value}' for {name}=: {advice}");
            match name {
                "cpus" => {
                    options.cpus = match value.parse() {
                        Ok(cpus @ 1..=MAX_CPUS) => cpus,
                        _ => return Err(wrong(&format!("give a number from 1 to {MAX_CPUS}"))),
                    }
                }
                "memory" => {
                    options.memory = parse_size(value).ok_or_else(|| {
                        wrong("give whole pages of 4K, at least 4M, with K, M or G for the unit, such as 512M")
                    })?;
                }
                "summary" => {
                    options.summary = match value {
                        "text" => Form::Text,
                        "json" => Form::Json,
                        "none" => Form::None,
                        _ => return Err(wrong("give text, json or none")),
                    }
                }
                "mark" if mark::is_mark(value) => {}
                "mark" => {
                    return Err(wrong(&format!("give up to {} letters and digits", mark::LONGEST)));
                }
                // The platform has seen to it, where there is a choice.
                "vhe" if ["on", "off"].contains(&value) => {}
                "vhe" => return Err(wrong("give on or off")),
                _ => {
                    return Err(format!(
                        "there is no option '{word}'; there are cpus=N, memory=SIZE, summary=text|json|none, \
                         mark=WORD and vhe=on|off"
                    ));
                }
            }
        }
        Ok(options)
    }
}

/// Reads a number of bytes: digits, and an optional unit.
fn parse_size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(['K', 'k', 'M', 'm', 'G', 'g']);
    let unit = match &text[digits.len()..] {
        "" => 1,
        "K" | "k" => 1 << 10,
        "M" | "m" => 1 << 20,
        "G" | "g" => 1 << 30,
        _ => return None,
    };
    // The number's own parser would take a sign.
    let number: u64 =
        digits.starts_with(|c: char| c.is_ascii_digit()).then(|| digits.parse().ok())??;
    number.checked_mul(unit).filter(|size| size % 4096 == 0 && *size >= MIN_MEMORY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults() {
        assert_eq!(Options::parse(""), Ok(Options::default()));
        assert_eq!(Options::parse(" \t"), Ok(Options::default()));
    }

    #[test]
    fn everything_at_once() {
        let line = "cpus=4 memory=1G summary=json mark=00ff vhe=off";
        let expected = Options { cpus: 4, memory: 1 << 30, summary: Form::Json };
        assert_eq!(Options::parse(line), Ok(expected));
        assert_eq!(Options::parse("summary=none").unwrap().summary, Form::None);
        assert_eq!(Options::parse("memory=134217728").unwrap().memory, 128 << 20);
        assert_eq!(Options::parse("cpus=2 cpus=3").unwrap().cpus, 3, "the last word counts");
    }

    #[test]
    fn mistakes_are_told() {
        for (line, expected) in [
            ("cpus=0", "'0' for cpus=: give a number from 1 to 8"),
            ("cpus=9", "from 1 to 8"),
            ("cpus=", "from 1 to 8"),
            ("cpus", "from 1 to 8"),
            ("cpus=-1", "from 1 to 8"),
            ("memory=1T", "'1T' for memory=: give whole pages"),
            ("summary=yes", "'yes' for summary=: give text, json or none"),
            ("mark=a-b", "'a-b' for mark=: give up to 64 letters"),
            ("vhe=maybe", "'maybe' for vhe=: give on or off"),
            ("cpu=1", "no option 'cpu=1'; there are cpus=N"),
            ("quiet", "no option 'quiet'"),
            ("CPUS=1", "no option"),
            ("cpus=1 \u{1}", "no option"),
        ] {
            let error = Options::parse(line).unwrap_err();
            assert!(error.contains(expected), "{line}: {error}");
        }
        assert!(Options::parse(&format!("mark={}", "a".repeat(65))).is_err());
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("512M", 512 << 20),
            ("512m", 512 << 20),
            ("1G", 1 << 30),
            ("65536k", 64 << 20),
            ("134217728", 128 << 20),
            ("4M", MIN_MEMORY),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in [
            "",
            "M",
            "-4M",
            "+4M",
            "1.5G",
            "512MB",
            "8MM",
            "0x1000000",
            "4095K",
            "4194305",
            "1é",
            "99999999999999999999",
            "17179869184G",
        ] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }
}
