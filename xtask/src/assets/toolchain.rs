//! A Rust toolchain of Debian's that can build its own standard library, for
//! machines whose own toolchain lacks a target and cannot get it.
//!
//! It is unpacked into a folder of its own and started through the dynamic
//! loader from that same folder, as QEMU is. Only what runs without an operating
//! system is built with it; the machine's own C compiler links its build scripts.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::apt::{self, Apt};
use super::program::Loader;
use super::{host_arch, make_whole, store};
use crate::proc;
use crate::progress::Step;

/// The compiler, what drives it, its library's source, and a linker for any target.
const PACKAGES: &[&str] = &["rustc", "cargo", "rust-src", "lld"];

/// Its programs.
pub(crate) struct Toolchain {
    pub(crate) cargo: PathBuf,
    pub(crate) rustc: PathBuf,
    pub(crate) linker: PathBuf,
}

/// Fetches the toolchain unless it is already here.
///
/// # Errors
///
/// Fails when the Debian mirror cannot be used; the message says why.
pub(crate) fn fetch() -> Result<Toolchain> {
    let folder = store().join("toolchain");
    make_whole(&folder, download)?;
    Ok(Toolchain {
        cargo: folder.join("cargo"),
        rustc: folder.join("rustc"),
        linker: folder.join("ld.lld"),
    })
}

fn download(folder: &Path) -> Result<()> {
    let root = folder.join("root");
    let apt = Apt::open(&store().join("apt"), host_arch()?)?;
    let packages = apt.download(PACKAGES, true)?;
    let step = Step::new("unpack a Rust toolchain");
    for package in packages {
        let name = package.file_name().unwrap_or_default().to_string_lossy().into_owned();
        step.detail(&name);
        // The C compiler and its library's headers: the machine has its own.
        if ["gcc-1", "cpp-1", "libc6-dev_"].iter().any(|other| name.starts_with(other)) {
            continue;
        }
        apt::unpack(&package, &root, None)?;
    }
    apt.remove_archives()?;

    let loader = Loader::find(&root)?;
    // The compiler would look for its library beside the loader.
    loader.script(folder, "rustc", "", "--sysroot \"$here/root/usr\"")?;
    loader.script(folder, "cargo", "", "")?;
    loader.script(folder, "ld.lld", "", "")?;
    for name in ["rustc", "cargo", "ld.lld"] {
        proc::output(Command::new(folder.join(name)).arg("--version"))
            .context("the unpacked toolchain does not start")?;
    }
    let source = root.join("usr/lib/rustlib/src/rust/library/Cargo.toml");
    ensure!(source.is_file(), "the source of the standard library is missing in it");
    step.done("it starts");
    Ok(())
}
