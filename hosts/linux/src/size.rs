//! Memory sizes on the command line.

use std::fmt;

/// A guest has at least this much: the kernel goes 2 MiB into RAM, and something must fit behind it.
pub(crate) const MIN: u64 = 4 << 20;
/// And at most this much, which the page-table formats and the host's address space have room for.
pub(crate) const MAX: u64 = 256 << 30;

/// A valid amount of guest memory in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

/// For people: in the largest unit that divides it.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            n if n % (1 << 30) == 0 => write!(f, "{}G", n >> 30),
            n if n % (1 << 20) == 0 => write!(f, "{}M", n >> 20),
            n if n % (1 << 10) == 0 => write!(f, "{}K", n >> 10),
            n => write!(f, "{n}"),
        }
    }
}

/// Reads a size: digits, and an optional unit of K, M or G (powers of 1024) in either case.
pub(crate) fn parse(text: &str) -> Result<Size, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let shift = match &text[digits.len()..] {
        "" => 0,
        "K" | "k" => 10,
        "M" | "m" => 20,
        "G" | "g" => 30,
        _ => return Err("give a number with K, M or G behind it, such as 512M".into()),
    };
    if digits.is_empty() || !digits.bytes().all(|c| c.is_ascii_digit()) {
        return Err("give a number with K, M or G behind it, such as 512M".into());
    }
    let bytes = digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .unwrap_or(u64::MAX); // any number too large for the type is too large for a guest
    if bytes < MIN {
        let unit = if shift == 0 { "; sizes without K, M or G are bytes" } else { "" };
        return Err(format!("a guest needs at least {}{unit}", Size(MIN)));
    }
    if bytes > MAX {
        return Err(format!("a guest has at most {}", Size(MAX)));
    }
    if bytes % 4096 != 0 {
        return Err("give a multiple of 4K, the page size".into());
    }
    Ok(Size(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("512M", 512 << 20),
            ("512m", 512 << 20),
            ("1G", 1 << 30),
            ("2g", 2 << 30),
            ("65536K", 64 << 20),
            ("65536k", 64 << 20),
            ("134217728", 128 << 20),
            ("4M", MIN),
            ("256G", MAX),
            ("4100K", 4100 << 10),
            ("0000512M", 512 << 20),
        ] {
            assert_eq!(parse(text), Ok(Size(bytes)), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_size() {
        for text in [
            "",
            "M",
            "-1M",
            "+1M",
            "1.5G",
            "1T",
            "512MB",
            "512 M",
            " 512M",
            "0x20000000",
            "five",
            "1M1",
            "٣M",
            "1é",
            "G1",
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains("such as 512M"), "{text}: {error}");
        }
    }

    #[test]
    fn limits() {
        for (text, expected) in [
            ("0", "at least 4M; sizes without"),
            ("512", "at least 4M; sizes without"),
            ("0M", "at least 4M"),
            ("4095K", "at least 4M"),
            ("257G", "at most 256G"),
            ("18446744073709551616", "at most 256G"),
            ("99999999999999999999G", "at most 256G"),
            ("5001K", "multiple of 4K"),
            ("5242881", "multiple of 4K"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn shown_as_given() {
        for text in ["512M", "1G", "4100K"] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Size(4097).to_string(), "4097");
    }
}
