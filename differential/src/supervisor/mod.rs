//! Cases for the supervisor's side of the architecture: translations and their faults, instructions that do
//! not exist, CSRs, privilege. A kernel ([`driver`]) carries them out one after another and logs how each
//! ended; a machine that QEMU emulates must write the same log as the software hart.

mod case;
mod driver;
mod layout;

use std::fmt::Write;
use std::thread;

use anyhow::{Context, bail};
use axvcpu_riscv::paging::{Mode, SV39, SV48, SV57};

use crate::guest;
use crate::layout::BASE;
use crate::qemu::Qemu;
use crate::rng::Rng;
use case::Case;
use driver::NAMES;
use layout::{CASES, ENTRY, LOG, PAGES, RECORD, WORDS};

/// Cases that one seed stands for.
const COUNT: usize = 1000;

/// The cause of a case that the timer has ended.
const TIMER: u64 = 1 << 63 | 5;

const _: () = assert!(CASES + (COUNT as u64 + 1) * RECORD <= LOG);

/// The cases that `seed` stands for, and the image that carries them out.
fn prepare(seed: u64) -> anyhow::Result<(Vec<Case>, Vec<u8>)> {
    let rng = &mut Rng::new(seed);
    let mode: Mode = *rng.pick(&[SV39, SV48, SV57]);
    let cases: Vec<_> = (0..COUNT).map(|_| case::random(rng, mode)).collect();
    let mut words: Vec<_> = cases.iter().map(Case::words).collect();
    words.push([0; WORDS]);
    Ok((cases, driver::image(rng, mode, &words)?))
}

/// Carries out the cases of `seed` both ways, and tells how the first that differs does; `None`: none does.
///
/// # Errors
///
/// When one of the two cannot be run at all, or QEMU does not get to the end.
pub(crate) fn compare(qemu: &Qemu, seed: u64) -> anyhow::Result<Option<String>> {
    let (cases, image) = prepare(seed)?;
    let size = (PAGES - BASE) as usize;
    let (expected, found) = thread::scope(|scope| {
        let expected = scope.spawn(|| qemu.run_kernel(&image, size));
        (expected.join(), guest::run_kernel(&image, ENTRY))
    });
    let expected =
        expected.map_err(|_| anyhow::anyhow!("the thread that runs QEMU has panicked"))??;
    let (found, trouble) = found?;
    let log = |memory: &[u8]| -> anyhow::Result<Vec<Vec<u64>>> {
        let start = (LOG - BASE) as usize;
        let bytes =
            memory.get(start..start + COUNT * RECORD as usize).context("the log is too long")?;
        let word =
            |bytes: &[u8]| bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte));
        let words: Vec<u64> = bytes.chunks_exact(8).map(word).collect();
        Ok(words.chunks_exact(WORDS).map(<[u64]>::to_vec).collect())
    };
    let (expected, found) = (log(&expected)?, log(&found)?);
    if expected.last().is_none_or(|record| record.iter().all(|&word| word == 0)) {
        bail!("QEMU ends early, at seed {seed}");
    }
    let endless = expected.iter().filter(|record| record.first() == Some(&TIMER)).count();
    if endless > COUNT / 20 {
        bail!(
            "the timer has ended {endless} cases of seed {seed} on QEMU: what is left proves little"
        );
    }
    for (index, (case, (expected, found))) in
        cases.iter().zip(expected.iter().zip(&found)).enumerate()
    {
        // How far a case gets before the timer ends it is not the same twice, nor is it on a busy machine
        // whether a short case ends by itself.
        if expected.first() == Some(&TIMER) || agree(expected, found) {
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
            let _ =
                writeln!(text, "  {}", trouble.as_deref().unwrap_or("it was never carried out"));
        }
        return Ok(Some(text));
    }
    Ok(trouble.map(|trouble| format!("all cases end the same, but then: {trouble}\n")))
}

/// Whether two records say the same. A hart may call floating-point state dirty that is not; QEMU does not
/// when a conversion to an integer has changed nothing but the flags.
fn agree(expected: &[u64], found: &[u64]) -> bool {
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
            let ((cases, image), (_, again)) = (prepare(seed).unwrap(), prepare(seed).unwrap());
            assert!(image == again, "seed {seed}");
            assert!(cases.iter().all(|case| case.text().lines().count() > 2));
        }
    }
}
