//! Everything the guests need and this repository does not hold: a Debian
//! kernel, a busybox, an initial file system around it, and QEMU to compare
//! with. All of it lands below `target/xtask/` and stays there.

pub(crate) mod apt;
pub(crate) mod guest;
pub(crate) mod initrd;
mod lock;
mod modules;
mod program;
pub(crate) mod qemu;
pub(crate) mod toolchain;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::arch::Arch;

/// The root folder of the workspace.
pub(crate) fn workspace() -> PathBuf {
    // cargo sets the variable for `cargo run`; the folder known at build time
    // serves when the binary is started by itself.
    let package = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    package.parent().map_or_else(|| package.clone(), Path::to_owned)
}

/// Where downloaded and generated files are kept.
pub(crate) fn store() -> PathBuf {
    workspace().join("target/xtask")
}

/// `cargo xtask assets`: fetches everything and prints where it is.
pub(crate) fn command() -> Result<ExitCode> {
    for arch in Arch::ALL {
        let guest = guest::fetch(arch)?;
        let initrd = initrd::build(&guest.busybox, arch, "demo", None)?;
        let qemu = qemu::fetch(arch)?;
        println!("{arch}");
        println!("kernel    {}", guest.kernel.display());
        println!("busybox   {}", guest.busybox.display());
        println!("initrd    {}", initrd.display());
        println!("machine   {} (QEMU {})", qemu.system.display(), qemu.version);
        if let Some(user) = qemu.user {
            println!("user mode {}", user.display());
        }
        for line in guest.versions.lines() {
            println!("from      {line}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Debian's name for the architecture this tool runs on.
pub(crate) fn host_arch() -> Result<&'static str> {
    Ok(match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "riscv64" => "riscv64",
        other => bail!("no Debian packages are known for {other} machines"),
    })
}

/// Returns once `folder` exists, filled by `make` if it did not, all or nothing:
/// `make` works in a folder beside it that takes the final name only when it is
/// complete, so that an interrupted run leaves nothing that looks usable.
fn make_whole(folder: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let partial = folder.with_extension("partial");
    let _lock = lock::Lock::take(&folder.with_file_name("lock"))?;
    if folder.is_dir() {
        return Ok(());
    }
    // Left over by an interrupted run, if anything.
    let _ = fs::remove_dir_all(&partial);
    fs::create_dir_all(&partial).with_context(|| format!("cannot make {}", partial.display()))?;
    let made = make(&partial).and_then(|()| {
        fs::rename(&partial, folder)
            .with_context(|| format!("cannot move {} into place", folder.display()))
    });
    // Nothing is left to remove after a rename.
    let _ = fs::remove_dir_all(&partial);
    made
}

/// Writes `file` so that no reader ever sees half of it; a file that already
/// has these bytes is left alone.
pub(crate) fn write_whole(file: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(file).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let folder = file.parent().context("a file needs a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let partial = file.with_extension(format!("partial-{}", std::process::id()));
    fs::write(&partial, bytes)
        .and_then(|()| fs::rename(&partial, file))
        .with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("xtask-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn a_failed_attempt_leaves_nothing() {
        let root = scratch("whole");
        let folder = root.join("thing");
        let failed = make_whole(&folder, |partial| {
            fs::write(partial.join("half"), "x")?;
            bail!("interrupted")
        });
        assert_eq!(failed.unwrap_err().to_string(), "interrupted");
        assert_eq!(fs::read_dir(&root).unwrap().count(), 0);

        make_whole(&folder, |partial| Ok(fs::write(partial.join("all"), "y")?)).unwrap();
        assert_eq!(fs::read(folder.join("all")).unwrap(), b"y");
        assert_eq!(fs::read_dir(&root).unwrap().count(), 1);
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn a_file_is_replaced_as_a_whole() {
        let root = scratch("file");
        let file = root.join("sub/file.img");
        write_whole(&file, b"one").unwrap();
        write_whole(&file, b"two").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"two");
        assert_eq!(fs::read_dir(root.join("sub")).unwrap().count(), 1);
        fs::remove_dir_all(&root).unwrap();
    }
}
