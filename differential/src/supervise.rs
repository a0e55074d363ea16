//! The supervisor's cases on the software hart, and on a machine that QEMU emulates.

use std::thread;

use anyhow::{Context, anyhow};
use axvcpu_differential::supervisor::{self, ENTRY, LOGGED};

use crate::guest;
use crate::qemu::Qemu;

/// Carries out the cases of `seed` both ways, and tells how the first that differs does; `None`: none does.
///
/// # Errors
///
/// When one of the two cannot be run at all, or QEMU does not get to the end.
pub(crate) fn compare(qemu: &Qemu, seed: u64) -> anyhow::Result<Option<String>> {
    let prepared = supervisor::prepare(seed, !0).map_err(anyhow::Error::msg)?;
    let image = &prepared.image;
    let (expected, found) = thread::scope(|scope| {
        let expected = scope.spawn(|| qemu.run_kernel(image, LOGGED));
        (expected.join(), guest::run_kernel(image, ENTRY))
    });
    let expected = expected.map_err(|_| anyhow!("the thread that runs QEMU has panicked"))??;
    let (found, trouble) = found?;
    let difference = supervisor::compare(&prepared, &expected, &found, |_, _| false)
        .map_err(anyhow::Error::msg)
        .with_context(|| format!("QEMU, at seed {seed}"))?;
    Ok(match (difference, trouble) {
        (Some(difference), None) => Some(difference),
        (Some(difference), Some(trouble)) => Some(format!("{difference}  {trouble}\n")),
        (None, Some(trouble)) => Some(format!("all cases end the same, but then: {trouble}\n")),
        (None, None) => None,
    })
}
