//! The guest: Debian's own kernel for each architecture, and a static busybox.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::apt::{self, Apt};
use super::{make_whole, store};
use crate::arch::Arch;
use crate::progress::Step;

/// One statically linked program with a shell and the usual tools.
const BUSYBOX: &str = "busybox-static";

/// The folder below the store.
fn folder(arch: Arch) -> &'static str {
    match arch {
        Arch::Riscv64 => "guest",
        Arch::Aarch64 => "guest-arm64",
    }
}

/// The package that depends on the current kernel package. The one for clouds has the drivers of virtual machines
/// and little else.
fn kernel_package(arch: Arch) -> &'static str {
    match arch {
        Arch::Riscv64 => "linux-image-riscv64",
        Arch::Aarch64 => "linux-image-cloud-arm64",
    }
}

/// Bytes 56..60 of a Linux `Image` (Documentation/arch/riscv/boot-image-header.rst,
/// Documentation/arch/arm64/booting.rst).
fn image_magic(arch: Arch) -> &'static [u8] {
    match arch {
        Arch::Riscv64 => b"RSC\x05",
        Arch::Aarch64 => b"ARM\x64",
    }
}

/// The files a Debian guest is made of.
pub(crate) struct Guest {
    /// The kernel, a flat `Image`.
    pub(crate) kernel: PathBuf,
    /// The busybox binary.
    pub(crate) busybox: PathBuf,
    /// Packages and versions the files come from.
    pub(crate) versions: String,
}

/// Fetches the files of a guest for `arch` unless they are already here.
///
/// # Errors
///
/// Fails when the Debian mirror cannot be used; the message says what to do.
pub(crate) fn fetch(arch: Arch) -> Result<Guest> {
    let folder = store().join(folder(arch));
    make_whole(&folder, |folder| download(folder, arch))
        .context("the Debian guest could not be fetched")?;
    let versions = folder.join("versions");
    Ok(Guest {
        kernel: folder.join("Image"),
        busybox: folder.join("busybox"),
        versions: fs::read_to_string(&versions)
            .with_context(|| format!("cannot read {}", versions.display()))?,
    })
}

fn download(folder: &Path, arch: Arch) -> Result<()> {
    let apt = Apt::open(&store().join("apt"), arch.debian())?;
    let kernel = kernel_package(arch);
    let image = apt
        .depends(kernel)?
        .into_iter()
        .find(|name| name.starts_with("linux-image-"))
        .with_context(|| format!("{kernel} names no kernel package"))?;
    let unpacked = folder.join("unpacked");
    let packages = apt.download(&[&image, BUSYBOX], false)?;
    let step = Step::new("unpack the guest");
    for package in packages {
        // The kernel package is mostly modules; the guests use none.
        let name = package.file_name().unwrap_or_default().to_string_lossy();
        let only = if name.starts_with(BUSYBOX) { None } else { Some("./boot") };
        apt::unpack(&package, &unpacked, only)?;
    }

    let kernel = fs::read_dir(unpacked.join("boot"))
        .context("the kernel package has no /boot")?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("vmlinux-") || name.starts_with("vmlinuz-")
        })
        .context("the kernel package has no kernel")?;
    let bytes = fs::read(&kernel).context("cannot read the kernel")?;
    if bytes.get(56..60) != Some(image_magic(arch)) {
        bail!("{} is not a flat kernel image for {arch}", kernel.display());
    }
    let busybox = ["usr/bin/busybox", "bin/busybox"]
        .iter()
        .map(|path| unpacked.join(path))
        .find(|path| path.is_file())
        .context("the busybox package has no busybox")?;
    fs::rename(kernel, folder.join("Image")).context("cannot place the kernel")?;
    fs::rename(busybox, folder.join("busybox")).context("cannot place busybox")?;
    fs::remove_dir_all(&unpacked).context("cannot remove what is not needed")?;
    step.done("a kernel and a busybox");

    let mut versions = String::new();
    for package in [image.as_str(), BUSYBOX] {
        versions += &format!("{package} {}\n", apt.version(package)?);
    }
    fs::write(folder.join("versions"), versions).context("cannot note the versions")?;
    apt.remove_archives()
}
