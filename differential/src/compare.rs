//! Both opinions on a batch of programs, and what they differ in.

use std::fmt::Write;
use std::thread;

use crate::guest::{self, Mode};
use crate::image;
use crate::layout;
use crate::program::Program;
use crate::qemu::Qemu;

/// A program on which the two do not agree.
pub(crate) struct Difference {
    /// Its place in the batch.
    pub(crate) index: usize,
    /// What differs.
    pub(crate) text: String,
}

/// Runs `programs` both ways. `None`: not a single byte differs. Only the first difference is told: after it,
/// one of the two may not have gone on.
///
/// # Errors
///
/// When one of the two cannot be run at all, or QEMU does not get to the end: the programs are wrong then.
pub(crate) fn compare(
    qemu: &Qemu,
    programs: &[Program],
    mode: Mode,
) -> anyhow::Result<Option<Difference>> {
    let image = image::build(programs)?;
    let (expected, found) = thread::scope(|scope| {
        let expected = scope.spawn(|| qemu.run(&image));
        let found = guest::run(&image, mode);
        (expected.join(), found)
    });
    let expected =
        expected.map_err(|_| anyhow::anyhow!("the thread that runs QEMU has panicked"))??;
    let found = found?;
    let size = layout::RESULT_SIZE as usize;
    if expected.len() != programs.len() * size {
        let seed = programs.get(expected.len() / size).map_or(0, |program| program.seed);
        anyhow::bail!("QEMU ends early: at seed {seed}");
    }
    for (index, expected) in expected.chunks_exact(size).enumerate() {
        let text = match found.output.get(index * size..(index + 1) * size) {
            Some(found) if found == expected => continue,
            Some(found) => differences(expected, found),
            None => format!("  {}\n", found.trouble.as_deref().unwrap_or("ends early")),
        };
        return Ok(Some(Difference { index, text }));
    }
    Ok(found.trouble.map(|text| Difference { index: programs.len().saturating_sub(1), text }))
}

/// What the eight bytes at offset `at` of a result are.
fn name(at: usize) -> String {
    let data = layout::DATA_SIZE as usize;
    match at.checked_sub(data).map(|offset| offset / 8) {
        None => format!("data {:+}", at as i64 - data as i64 / 2),
        Some(x @ 0..31) => format!("x{}", x + 1),
        Some(f @ 31..63) => format!("f{}", f - 31),
        Some(_) => "fcsr".to_owned(),
    }
}

fn differences(expected: &[u8], found: &[u8]) -> String {
    /// Enough to see what is wrong.
    const LINES: usize = 8;

    let mut text = String::new();
    let pairs = expected.chunks_exact(8).zip(found.chunks_exact(8)).enumerate();
    let mut wrong = pairs.filter(|(_, (expected, found))| expected != found);
    for (index, (expected, found)) in wrong.by_ref().take(LINES) {
        let value =
            |bytes: &[u8]| bytes.iter().rev().fold(0u64, |v, &byte| v << 8 | u64::from(byte));
        let (expected, found) = (value(expected), value(found));
        let name = name(8 * index);
        // A string takes whatever is written to it.
        let _ = writeln!(text, "  {name:>12}: expected {expected:#018x}, found {found:#018x}");
    }
    match wrong.count() {
        0 => {}
        more => text.push_str(&format!("  and {more} more\n")),
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_named() {
        let expected = vec![0; layout::RESULT_SIZE as usize];
        let mut found = expected.clone();
        let data = layout::DATA_SIZE as usize;
        found[data / 2 + 9] = 1;
        found[data + 8 * 9] = 2;
        found[data + 8 * 31] = 3;
        found[data + 8 * 63] = 4;
        let text = differences(&expected, &found);
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        assert_eq!(
            lines,
            [
                "data +8: expected 0x0000000000000000, found 0x0000000000000100",
                "x10: expected 0x0000000000000000, found 0x0000000000000002",
                "f0: expected 0x0000000000000000, found 0x0000000000000003",
                "fcsr: expected 0x0000000000000000, found 0x0000000000000004",
            ]
        );
    }

    #[test]
    fn many_differences_are_counted() {
        let (expected, found) =
            (vec![0; layout::RESULT_SIZE as usize], vec![1; layout::RESULT_SIZE as usize]);
        let text = differences(&expected, &found);
        assert!(text.ends_with(&format!("and {} more\n", layout::RESULT_SIZE / 8 - 8)), "{text}");
    }
}
