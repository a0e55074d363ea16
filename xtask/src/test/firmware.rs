//! Guests that call their firmware with everything (`guests/firmware`): what the package says of them, and how runs of them
//! are judged.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::arch::Arch;
use crate::assets::store;
use crate::{cargo, proc};

/// The package, and its program that writes the guests.
const PACKAGE: (&str, &str) = ("axvcpu-guest-firmware", "firmware-guests");

/// What guests print last that make a single call, which ends the machine.
const ENDS: &str = "AXVCPU-FIRMWARE ends";

/// A guest, and what is expected of it.
pub(super) struct Guest {
    /// Memory of its machine, in bytes, and its CPUs.
    pub(super) memory: u64,
    pub(super) cpus: u32,
    /// The kernel, whose name is the guest's.
    pub(super) file: PathBuf,
    status: i32,
    last: String,
}

/// Writes all guests for an architecture to files.
pub(super) fn guests(arch: Arch) -> Result<Vec<Guest>> {
    let maker = cargo::build(PACKAGE.0, PACKAGE.1)?;
    let folder = store().join("work/firmware").join(arch.name());
    let list = proc::output(Command::new(maker).arg(arch.name()).arg(folder))?;
    let guests: Result<Vec<_>> = list.lines().map(parse).collect();
    let guests = guests?;
    ensure!(!guests.is_empty(), "there are no guests for {arch}");
    Ok(guests)
}

/// Reads a line of the list: memory, CPUs, status, file and last line.
fn parse(line: &str) -> Result<Guest> {
    let parse = || {
        let mut words = line.split('\t');
        Some(Guest {
            memory: words.next()?.parse().ok()?,
            cpus: words.next()?.parse().ok()?,
            status: words.next()?.parse().ok()?,
            file: words.next()?.into(),
            last: words.next()?.to_owned(),
        })
    };
    parse().with_context(|| format!("the list of guests has a line that is not understood: {line}"))
}

impl Guest {
    /// Its name.
    pub(super) fn name(&self) -> String {
        self.file.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Whether it makes one call, which ends its machine.
    pub(super) fn ends(&self) -> bool {
        self.last == ENDS
    }

    /// Judges a run, of which this is the console and the status.
    pub(super) fn judge(&self, console: &str, status: Option<i32>) -> Result<()> {
        let line = console.trim_end_matches(['\n', '\r']);
        let line = line.rsplit('\n').next().unwrap_or_default().trim_end_matches('\r');
        let Self { status: expected, last, .. } = self;
        // What a call was can be asked: `firmware-guests ARCH FOLDER --explain GUEST LINE`.
        ensure!(
            line == last && status == Some(*expected),
            "{}: the last line is {line:?} and should be {last:?}; the status is {status:?} and should be {expected}",
            self.name()
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_read_and_the_last_line_counts() {
        let guest = parse("16777216\t4\t3\t/a/b/reset-4\tAXVCPU-FIRMWARE ends").unwrap();
        assert_eq!((guest.memory, guest.cpus, guest.name().as_str()), (16 << 20, 4, "reset-4"));
        assert!(guest.ends());
        guest.judge("\0\u{1b}c\r\nAXVCPU-FIRMWARE ends\r\n", Some(3)).unwrap();
        for (console, status) in [
            ("AXVCPU-FIRMWARE ends\n", Some(0)),
            ("AXVCPU-FIRMWARE ends\n", None),
            ("AXVCPU-FIRMWARE ends\n\nAXVCPU-FIRMWARE returned 0\n", Some(3)),
            ("", Some(3)),
        ] {
            assert!(guest.judge(console, status).is_err(), "{console:?}");
        }
        assert!(parse("16777216\t4\t3\t/a").is_err());
    }
}
