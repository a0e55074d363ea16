//! What comes out of the machine's serial port: the firmware's greeting, the
//! guest's output, and the hypervisor's last words.

use std::io::{self, Read, Write};

/// The most that is kept of what is not the guest's.
const KEPT: usize = 1 << 20;

/// Tells the parts apart by a line between them that the guest cannot know.
pub(crate) struct Splitter {
    separator: Vec<u8>,
    /// How many bytes of the separator the latest output ends with.
    matched: usize,
    /// How many separators there were.
    part: usize,
    /// What came before the first one and after the second.
    kept: [Vec<u8>; 2],
}

impl Splitter {
    /// `mark` is what follows the record separator in the line.
    pub(crate) fn new(mark: &str) -> Self {
        let separator = format!("\x1e{mark}\r\n").into_bytes();
        Self { separator, matched: 0, part: 0, kept: [Vec::new(), Vec::new()] }
    }

    /// Takes `bytes` and answers those that are known to be the guest's.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut guest = Vec::with_capacity(bytes.len() + self.matched);
        for byte in bytes {
            // The first byte of the separator is not in the rest of it, so a match
            // that fails can only begin anew at the byte where it failed.
            if *byte != self.separator[self.matched] {
                self.pass(0..self.matched, &mut guest);
                self.matched = 0;
            }
            if *byte != self.separator[self.matched] || self.part == 2 {
                self.put(&[*byte], &mut guest);
                continue;
            }
            self.matched += 1;
            if self.matched == self.separator.len() {
                self.matched = 0;
                self.part += 1;
            }
        }
        guest
    }

    /// At the end of all output: what was held back because it might have become
    /// the separator.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        let mut guest = Vec::new();
        self.pass(0..self.matched, &mut guest);
        self.matched = 0;
        guest
    }

    /// Bytes of the separator turned out to be none.
    fn pass(&mut self, part: std::ops::Range<usize>, guest: &mut Vec<u8>) {
        let bytes = self.separator[part].to_vec();
        self.put(&bytes, guest);
    }

    fn put(&mut self, bytes: &[u8], guest: &mut Vec<u8>) {
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
    Ok(Ended { greeting, words, within_a_line: last != b'\n' })
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
    fn passing_ends_with_the_input() {
        let mut to = Vec::new();
        let text = b"boot\r\n\x1em\r\na\nb\x1em\r\nwords\r\n";
        let ended = pass(&text[..], &mut to, "m").unwrap();
        assert_eq!((to.as_slice(), ended.words.as_deref()), (&b"a\nb"[..], Some("words\n")));
        assert!(ended.within_a_line && ended.greeting == "boot\n");
        let ended = pass(&b"\x1em\r\na\n"[..], Vec::new(), "m").unwrap();
        assert!(ended.words.is_none() && !ended.within_a_line);
    }
}
