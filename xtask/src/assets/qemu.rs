//! QEMU: the machine guests are compared with, and the user-mode emulator that
//! single programs are compared with.
//!
//! An installed QEMU is used when it is new enough. Otherwise Debian's is
//! unpacked into a folder of its own together with every library it needs, and
//! started through the dynamic loader from that same folder: no root, nothing
//! installed, and the same QEMU on every machine.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::apt::{self, Apt};
use super::program::{Loader, script};
use super::{host_arch, make_whole, store};
use crate::proc;
use crate::progress::Step;

/// The oldest installed QEMU that is taken: the first with the hypervisor
/// extension and Sstc on by default in its generic processor.
const OLDEST: u32 = 8;

/// The two emulators.
pub(crate) struct Qemu {
    /// `qemu-system-riscv64`, a whole machine.
    pub(crate) system: PathBuf,
    /// `qemu-riscv64`, one Linux program.
    pub(crate) user: PathBuf,
    /// The version, as the emulator tells it.
    pub(crate) version: String,
}

/// Finds QEMU, fetching it when the machine has none.
///
/// # Errors
///
/// Fails when there is none and none can be fetched; the message says what to do.
pub(crate) fn fetch() -> Result<Qemu> {
    if let Some(installed) = installed() {
        return Ok(installed);
    }
    let folder = store().join("qemu");
    make_whole(&folder, download).context(
        "QEMU could not be fetched; install `qemu-system-riscv64` and `qemu-riscv64` \
         (version 8 or newer) by hand",
    )?;
    let (system, user) = (folder.join("qemu-system-riscv64"), folder.join("qemu-riscv64"));
    let (version, _) = version(&system)?;
    Ok(Qemu { system, user, version })
}

fn installed() -> Option<Qemu> {
    let system = proc::find("qemu-system-riscv64")?;
    let user = proc::find("qemu-riscv64").or_else(|| proc::find("qemu-riscv64-static"))?;
    let (version, major) = version(&system).ok()?;
    (major >= OLDEST).then_some(Qemu { system, user, version })
}

fn version(program: &Path) -> Result<(String, u32)> {
    let text = proc::output(Command::new(program).arg("--version"))?;
    parse_version(&text).with_context(|| format!("`{}` tells no version", program.display()))
}

/// `QEMU emulator version 10.0.2 (...)` as the version and its first number.
fn parse_version(text: &str) -> Option<(String, u32)> {
    let version = text.split_whitespace().skip_while(|word| *word != "version").nth(1)?;
    let major = version.split('.').next()?.parse().ok()?;
    Some((version.trim_end_matches(',').to_owned(), major))
}

fn download(folder: &Path) -> Result<()> {
    let root = folder.join("root");
    let apt = Apt::open(&store().join("apt"), host_arch()?)?;
    let system = apt.download(&["qemu-system-riscv", "opensbi"], true)?;
    let user = apt.download(&["qemu-user"], false)?;
    let step = Step::new("unpack QEMU");
    for package in system {
        apt::unpack(&package, &root, None)?;
    }
    // Statically linked, and its package has forty others: only this one.
    for package in user {
        apt::unpack(&package, &root, Some("./usr/bin/qemu-riscv64"))?;
    }
    apt.remove_archives()?;

    Loader::find(&root)?.script(
        folder,
        "qemu-system-riscv64",
        "export QEMU_MODULE_DIR=\"$lib/qemu\"\n",
        "-L \"$here/root/usr/share/qemu\"",
    )?;
    script(&folder.join("qemu-riscv64"), "exec \"$here/root/usr/bin/qemu-riscv64\" \"$@\"\n")?;
    for program in ["qemu-system-riscv64", "qemu-riscv64"] {
        version(&folder.join(program)).context("the unpacked QEMU does not start")?;
    }
    step.done("it starts");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_understood() {
        let parse = |text| parse_version(text);
        assert_eq!(
            parse("QEMU emulator version 10.0.2 (Debian 1:10)\nCopyright"),
            Some(("10.0.2".into(), 10))
        );
        assert_eq!(parse("qemu-riscv64 version 7.2.0, x"), Some(("7.2.0".into(), 7)));
        assert_eq!(parse("qemu"), None);
        assert_eq!(parse("version x.y"), None);
    }
}
