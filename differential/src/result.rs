//! What a program leaves behind, and what differs in two accounts of it.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use core::fmt::Write;

use crate::layout;

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

/// Names what differs, a line for each 64 bits.
pub fn differences(expected: &[u8], found: &[u8]) -> String {
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
    use std::vec;
    use std::vec::Vec;

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
