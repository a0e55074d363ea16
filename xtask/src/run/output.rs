//! What comes out of the machine's serial port: the firmware's greeting, the
//! guest's output, and the hypervisor's last words.

use std::io::{self, Read, Write};

/// The most that is kept of what is not the guest's.
const KEPT: usize = 1 << 20;

/// Tells the parts apart by a line between them that the guest cannot know, and
/// finds the line with the exit status of a machine that has none of its own.
pub(crate) struct Splitter {
    /// What both lines begin with.
    mark: Vec<u8>,
    /// The latest output, for as long as it may be the beginning of such a line.
    held: Vec<u8>,
    /// How many separators there were.
    part: usize,
    /// What came before the first one and after the second.
    kept: [Vec<u8>; 2],
    /// The latest status.
    status: Option<u8>,
}

/// What output turns out to be.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    /// Nothing of interest.
    Other,
    /// Perhaps the beginning of one of the others.
    Unfinished,
    Separator,
    Status(u8),
}

impl Splitter {
    /// `mark` is what follows the record separator in the line.
    pub(crate) fn new(mark: &str) -> Self {
        let mark = format!("\x1e{mark}").into_bytes();
        Self { mark, held: Vec::new(), part: 0, kept: [Vec::new(), Vec::new()], status: None }
    }

    /// Takes `bytes` and answers those that are known to be the guest's.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut guest = Vec::with_capacity(bytes.len() + self.held.len());
        for byte in bytes {
            self.held.push(*byte);
            match self.line() {
                Line::Unfinished => {}
                Line::Separator => {
                    self.held.clear();
                    self.part += 1;
                }
                Line::Status(status) => {
                    self.held.clear();
                    self.status = Some(status);
                }
                Line::Other => {
                    // The first byte of a line is not in the rest of it, so what
                    // is none can only begin anew at the byte that showed it.
                    self.held.pop();
                    self.release(&mut guest);
                    self.held.push(*byte);
                    if self.line() == Line::Other {
                        self.release(&mut guest);
                    }
                }
            }
        }
        guest
    }

    /// What was held back so far is.
    fn line(&self) -> Line {
        let Some(rest) = self.held.strip_prefix(self.mark.as_slice()) else {
            let begins = self.mark.starts_with(&self.held);
            return if begins { Line::Unfinished } else { Line::Other };
        };
        // Behind the second separator there is no third.
        if self.part < 2 && b"\r\n".starts_with(rest) {
            return if rest.len() == 2 { Line::Separator } else { Line::Unfinished };
        }
        let Some(number) = rest.strip_prefix(b"=") else {
            return if rest.is_empty() { Line::Unfinished } else { Line::Other };
        };
        let digits = number.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, end) = number.split_at(digits);
        match (std::str::from_utf8(digits).map(str::parse), end) {
            (Ok(Ok(status)), b"\r\n") => Line::Status(status),
            (Ok(Ok::<u8, _>(_)), b"" | b"\r") => Line::Unfinished,
            _ if number.is_empty() => Line::Unfinished,
            _ => Line::Other,
        }
    }

    /// At the end of all output: what was held back because it might have become
    /// one of the lines.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        let mut guest = Vec::new();
        self.release(&mut guest);
        guest
    }

    /// What was held back turned out to be nothing special.
    fn release(&mut self, guest: &mut Vec<u8>) {
        let bytes = std::mem::take(&mut self.held);
        let kept = match self.part {
            0 => &mut self.kept[0],
            1 => return guest.extend(bytes),
            _ => &mut self.kept[1],
        };
        if kept.len() < KEPT {
            kept.extend(bytes);
        }
    }
}

/// What a run left behind, besides the guest's output.
pub(crate) struct Ended {
    /// What was printed before the hypervisor took over.
    pub(crate) greeting: String,
    /// The hypervisor's last words; without them it did not come to its end.
    pub(crate) words: Option<String>,
    /// The exit status, if the hypervisor printed one: where the machine has none.
    pub(crate) status: Option<u8>,
    /// Whether the guest's output ends within a line.
    pub(crate) within_a_line: bool,
}

/// Copies the guest's part of `from` to `to` as it comes, until `from` ends.
///
/// # Errors
///
/// Fails when `to` takes no more.
pub(crate) fn pass(mut from: impl Read, mut to: impl Write, mark: &str) -> io::Result<Ended> {
    let mut splitter = Splitter::new(mark);
    let mut chunk = [0; 4096];
    let mut last = b'\n';
    let mut put = |bytes: &[u8]| {
        last = *bytes.last().unwrap_or(&last);
        to.write_all(bytes).and_then(|()| to.flush())
    };
    loop {
        match from.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => put(&splitter.push(&chunk[..count]))?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    put(&splitter.finish())?;
    let [greeting, words] =
        splitter.kept.map(|bytes| String::from_utf8_lossy(&bytes).replace("\r\n", "\n"));
    let words = (splitter.part == 2).then_some(words);
    Ok(Ended { greeting, words, status: splitter.status, within_a_line: last != b'\n' })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is passed on, if the machine prints `text` in pieces of `size` bytes.
    fn split(text: &[u8], size: usize) -> (Vec<u8>, [Vec<u8>; 2]) {
        let mut splitter = Splitter::new("ab12");
        let mut guest = Vec::new();
        for piece in text.chunks(size) {
            guest.extend(splitter.push(piece));
        }
        guest.extend(splitter.finish());
        (guest, splitter.kept)
    }

    const MARK: &[u8] = b"\x1eab12\r\n";

    #[test]
    fn the_guest_s_output_is_between_the_separators() {
        let text = [b"hi\x1eab", MARK, b"one\r\n\xfftwo", MARK, b"sum\r\n", MARK, b"x"].concat();
        for size in 1..30 {
            let (guest, [greeting, words]) = split(&text, size);
            assert_eq!(
                (guest.as_slice(), greeting.as_slice()),
                (&b"one\r\n\xfftwo"[..], &b"hi\x1eab"[..])
            );
            assert_eq!(words, [b"sum\r\n", MARK, b"x"].concat());
        }
    }

    #[test]
    fn what_only_looks_like_a_separator_is_the_guest_s() {
        for text in [
            &b"\x1e\r\n"[..],
            b"\x1eab1",
            b"\x1eab1\x1eab1\x1e",
            b"\x1e\x1e\x1eab12 \n",
            b"ab12\n\x1eab13\r\n",
            b"",
        ] {
            for size in 1..12 {
                let (guest, kept) = split(&[MARK, text].concat(), size);
                assert_eq!((guest.as_slice(), kept), (text, [vec![], vec![]]));
            }
        }
    }

    #[test]
    fn every_byte_passes_at_once() {
        let mut splitter = Splitter::new("ab12");
        assert_eq!(splitter.push(MARK), b"");
        let all: Vec<u8> = (0..=255).filter(|byte| *byte != 0x1e).collect();
        assert_eq!(splitter.push(&all), all);
        assert_eq!(splitter.push(b"\x1e"), b"");
        assert_eq!(splitter.push(b"x"), b"\x1ex");
    }

    #[test]
    fn the_status_is_found_wherever_the_hypervisor_ends() {
        for (before, guest, kept) in [
            (&[b"boot", MARK, b"a\n", MARK, b"sum\r\n"][..], &b"a\n"[..], &b"sum\r\n"[..]),
            (
                &[b"boot", MARK, b"guest", b"\r\naxvcpu: host panic\r\n"],
                b"guest\r\naxvcpu: host panic\r\n",
                b"",
            ),
            (&[b"axvcpu: nothing was started\r\n"], b"", b""),
        ] {
            let text = [&before.concat(), &b"\x1eab12=141\r\n"[..]].concat();
            for size in 1..30 {
                let mut splitter = Splitter::new("ab12");
                let mut found = Vec::new();
                for piece in text.chunks(size) {
                    found.extend(splitter.push(piece));
                }
                found.extend(splitter.finish());
                assert_eq!((found.as_slice(), splitter.status), (guest, Some(141)));
                assert_eq!(splitter.kept[1], kept);
                assert!(!splitter.kept[0].contains(&b'='));
            }
        }
    }

    #[test]
    fn what_only_looks_like_a_status_is_none() {
        for text in [
            &b"\x1eab12=\r\n"[..],
            b"\x1eab12=256\r\n",
            b"\x1eab12=1 \r\n",
            b"\x1eab12=-1\r\n",
            b"\x1eab12=1\n",
            b"\x1eab12=1\r",
            b"\x1eab13=1\r\n",
            b"\x1eab12\r=1\r\n",
            b"\x1eab12=1\x1eab12",
        ] {
            for size in 1..12 {
                let mut splitter = Splitter::new("ab12");
                let mut found = splitter.push(MARK);
                for piece in text.chunks(size) {
                    found.extend(splitter.push(piece));
                }
                found.extend(splitter.finish());
                assert_eq!((found.as_slice(), splitter.status), (text, None));
            }
        }
    }

    #[test]
    fn passing_ends_with_the_input() {
        let mut to = Vec::new();
        let text = b"boot\r\n\x1em\r\na\nb\x1em\r\nwords\r\n";
        let ended = pass(&text[..], &mut to, "m").unwrap();
        assert_eq!((to.as_slice(), ended.words.as_deref()), (&b"a\nb"[..], Some("words\n")));
        assert!(ended.within_a_line && ended.greeting == "boot\n");
        assert_eq!(ended.status, None);
        let ended = pass(&b"\x1em\r\na\n"[..], Vec::new(), "m").unwrap();
        assert!(ended.words.is_none() && !ended.within_a_line);
        let ended = pass(&b"\x1em\r\n\x1em\r\nx\r\n\x1em=3\r\n"[..], Vec::new(), "m").unwrap();
        assert_eq!((ended.words.as_deref(), ended.status), (Some("x\n"), Some(3)));
    }
}
