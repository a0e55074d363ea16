//! Both opinions on a batch of programs, and what they differ in.

use std::thread;

use axvcpu_differential::program::Program;
use axvcpu_differential::result::differences;
use axvcpu_differential::{image, layout};

use crate::guest::{self, Mode};
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
    let image = image::build(programs).map_err(anyhow::Error::msg)?;
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
