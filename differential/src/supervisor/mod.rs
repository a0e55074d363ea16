//! Cases for the supervisor's side of the architecture: translations and their faults, instructions that do
//! not exist, CSRs, privilege. A kernel (`driver`) carries them out one after another and logs how each
//! ended; a machine that QEMU emulates must write the same log as the software hart.

mod case;
mod driver;
mod layout;

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;

use axvcpu_riscv::paging::{Mode, SV39, SV48, SV57};

use crate::layout::BASE;
use crate::rng::Rng;
use case::Case;
use driver::NAMES;
use layout::{CASES, LOG, PAGES, RECORD, WORDS};

/// Where the image belongs in memory and is entered, in S-mode with nothing ready.
pub const ENTRY: u64 = layout::ENTRY;
/// How much memory, from [`BASE`] on, has the image and the log in it.
pub const LOGGED: usize = (PAGES - BASE) as usize;
/// The memory that the cases use, from [`BASE`] on.
pub const MEMORY: usize = LOGGED + (1 << 20);

/// Cases that one seed stands for.
const COUNT: usize = 1000;

/// The cause of a case that the timer has ended.
const TIMER: u64 = 1 << 63 | 5;

const _: () = assert!(CASES + (COUNT as u64 + 1) * RECORD <= LOG);

/// The cases that a seed stands for.
pub struct Prepared {
    cases: Vec<Case>,
    /// What carries them out, and then asks its firmware for a reset.
    pub image: Vec<u8>,
}

/// The cases that `seed` stands for, and the image that carries them out. Of the register `sie` they write the
/// bits in `sie` only: all, for whom that is safe.
///
/// # Errors
///
/// When the image cannot be assembled: a mistake in the driver.
pub fn prepare(seed: u64, sie: u64) -> Result<Prepared, String> {
    let rng = &mut Rng::new(seed);
    let mode: Mode = *rng.pick(&[SV39, SV48, SV57]);
    let cases: Vec<_> = (0..COUNT).map(|_| case::random(rng, mode, sie)).collect();
    let mut words: Vec<_> = cases.iter().map(Case::words).collect();
    words.push([0; WORDS]);
    let image = driver::image(rng, mode, &words).map_err(|error| error.to_string())?;
    Ok(Prepared { cases, image })
}

/// Looks for the first case that ended differently in the memory `expected` and `found`, which begin at
/// `layout::BASE`, and tells how.
///
/// # Errors
///
/// When what was expected is no account of the cases: they were not carried out, or prove little.
pub fn compare(
    prepared: &Prepared,
    expected: &[u8],
    found: &[u8],
    also: impl Fn(&Record, &Record) -> bool,
) -> Result<Option<String>, String> {
    let (expected, found) = (log(expected)?, log(found)?);
    if expected.last().is_none_or(|record| record.iter().all(|&word| word == 0)) {
        return Err("the cases end early where they were to prove something".to_owned());
    }
    let endless = expected.iter().filter(|record| record[0] == TIMER).count();
    if endless > COUNT / 20 {
        return Err(format!("the timer has ended {endless} cases: what is left proves little"));
    }
    for (index, (case, (expected, found))) in
        prepared.cases.iter().zip(expected.iter().zip(&found)).enumerate()
    {
        // How far a case gets before the timer ends it is not the same twice, nor is it on a busy machine
        // whether a short case ends by itself.
        if expected[0] == TIMER || agree(expected, found) || also(expected, found) {
            continue;
        }
        let mut text = format!("case {index} ends differently:\n{}", case.text());
        for (name, (expected, found)) in NAMES.iter().zip(expected.iter().zip(found)) {
            if expected != found {
                // A string takes whatever is written to it.
                let _ = writeln!(text, "  {name:>12}: expected {expected:#x}, found {found:#x}");
            }
        }
        if found.iter().all(|&word| word == 0) {
            text.push_str("  it was never carried out\n");
        }
        return Ok(Some(text));
    }
    Ok(None)
}

/// How a case ended: the words of `NAMES`, and zeroes.
pub type Record = [u64; WORDS];

/// The log in the guest's memory.
fn log(memory: &[u8]) -> Result<Vec<Record>, String> {
    let start = (LOG - BASE) as usize;
    let bytes = memory.get(start..start + COUNT * RECORD as usize).ok_or("the log is too long")?;
    let word =
        |bytes: &[u8]| bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte));
    let record =
        |bytes: &[u8]| core::array::from_fn(|index| word(&bytes[8 * index..8 * index + 8]));
    Ok(bytes.chunks_exact(RECORD as usize).map(record).collect())
}

/// Whether two records say the same. A hart may call floating-point state dirty that is not; QEMU does not
/// when a conversion to an integer has changed nothing but the flags.
pub fn agree(expected: &Record, found: &Record) -> bool {
    const SSTATUS: usize = 3;
    const FS: u64 = 3 << 13;
    const SD: u64 = 1 << 63;

    expected.iter().zip(found).enumerate().all(|(index, (&expected, &found))| {
        let more_dirty = index == SSTATUS && expected & FS != 0 && found & FS == FS;
        expected == found || more_dirty && (expected ^ found) & !(FS | SD) == 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_are_always_the_same_and_can_be_read() {
        for seed in 0..3 {
            let (first, again) = (prepare(seed, !0).unwrap(), prepare(seed, !0).unwrap());
            assert!(first.image == again.image, "seed {seed}");
            assert!(first.cases.iter().all(|case| case.text().lines().count() > 2));
        }
    }
}
