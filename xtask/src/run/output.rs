//! What comes out of the machine's serial port: the guest's output first, then
//! the hypervisor's last words.

use std::io::{self, Read, Write};

/// The most that the last words may be; the hypervisor needs a hundredth of it.
const WORDS: usize = 1 << 20;

/// Tells the two apart by a line that the guest cannot know.
pub(crate) struct Splitter {
    separator: Vec<u8>,
    /// How many bytes of the separator the latest output ends with.
    matched: usize,
    /// The last words, once they have begun.
    words: Option<Vec<u8>>,
}

impl Splitter {
    /// `mark` is what follows the record separator in the line.
    pub(crate) fn new(mark: &str) -> Self {
        let separator = format!("\x1e{mark}\n").into_bytes();
        Self { separator, matched: 0, words: None }
    }

    /// Takes `bytes` and answers those that are known to be the guest's.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut guest = Vec::with_capacity(bytes.len() + self.matched);
        for &byte in bytes {
            if let Some(words) = &mut self.words {
                if words.len() < WORDS {
                    words.push(byte);
                }
                continue;
            }
            // The first byte of the separator is not in the rest of it, so a match
            // that fails can only begin anew at the byte where it failed.
            if byte != self.separator[self.matched] {
                guest.extend(&self.separator[..self.matched]);
                self.matched = 0;
            }
            if byte == self.separator[self.matched] {
                self.matched += 1;
            } else {
                guest.push(byte);
            }
            if self.matched == self.separator.len() {
                self.matched = 0;
                self.words = Some(Vec::new());
            }
        }
        guest
    }

    /// At the end of all output: what was held back for it might have become
    /// the separator, and the last words if there were any.
    pub(crate) fn finish(self) -> (Vec<u8>, Option<String>) {
        let words = self.words.map(|words| String::from_utf8_lossy(&words).replace("\r\n", "\n"));
        (self.separator[..self.matched].to_vec(), words)
    }
}

/// What a run left behind.
pub(crate) struct Ended {
    /// The hypervisor's last words; without them it did not come to its end.
    pub(crate) words: Option<String>,
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
    let (rest, words) = splitter.finish();
    put(&rest)?;
    Ok(Ended { words, within_a_line: last != b'\n' })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Splits `text` fed in pieces of `size` bytes.
    fn split(text: &[u8], size: usize) -> (Vec<u8>, Option<String>) {
        let mut splitter = Splitter::new("ab12");
        let mut guest = Vec::new();
        for piece in text.chunks(size) {
            guest.extend(splitter.push(piece));
        }
        let (rest, words) = splitter.finish();
        guest.extend(rest);
        (guest, words)
    }

    #[test]
    fn the_guest_s_output_ends_at_the_separator() {
        for size in 1..30 {
            let (guest, words) = split(b"one\r\n\xfftwo\x1eab12\nsum\r\nmary\n\x1eab12\n", size);
            assert_eq!(guest, b"one\r\n\xfftwo");
            assert_eq!(words.as_deref(), Some("sum\nmary\n\x1eab12\n"));
        }
    }

    #[test]
    fn what_only_looks_like_it_is_the_guest_s() {
        for text in [
            &b"\x1e\n"[..],
            b"\x1eab1",
            b"\x1eab1\x1eab1\x1e",
            b"\x1e\x1e\x1eab12 \n",
            b"ab12\n\x1eab13\n",
            b"",
        ] {
            for size in 1..12 {
                assert_eq!(split(text, size), (text.to_vec(), None));
            }
        }
        assert_eq!(split(b"\x1eab\x1eab12\nx", 3), (b"\x1eab".to_vec(), Some("x".into())));
    }

    #[test]
    fn every_byte_passes_at_once() {
        let mut splitter = Splitter::new("ab12");
        let all: Vec<u8> = (0..=255).filter(|byte| *byte != 0x1e).collect();
        assert_eq!(splitter.push(&all), all);
        assert_eq!(splitter.push(b"\x1e"), b"");
        assert_eq!(splitter.push(b"x"), b"\x1ex");
    }

    #[test]
    fn passing_ends_with_the_input() {
        let mut to = Vec::new();
        let ended = pass(&b"a\nb\x1em\nwords"[..], &mut to, "m").unwrap();
        assert_eq!((to.as_slice(), ended.words.as_deref()), (&b"a\nb"[..], Some("words")));
        assert!(ended.within_a_line);
        let ended = pass(&b"a\n"[..], Vec::new(), "m").unwrap();
        assert!(ended.words.is_none() && !ended.within_a_line);
    }
}
