//! The guest: Debian's own riscv64 kernel and a static busybox.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::apt::{self, Apt};
use super::{make_whole, store};
use crate::progress::Step;

/// The package that depends on the current kernel package.
const KERNEL: &str = "linux-image-riscv64";

/// One statically linked program with a shell and the usual tools.
const BUSYBOX: &str = "busybox-static";

/// Bytes 56..60 of a RISC-V Linux `Image` (Documentation/arch/riscv/boot-image-header.rst).
const IMAGE_MAGIC: &[u8] = b"RSC\x05";

/// The files a Debian guest is made of.
pub(crate) struct Guest {
    /// The kernel, a flat RISC-V `Image`.
    pub(crate) kernel: PathBuf,
    /// The busybox binary.
    pub(crate) busybox: PathBuf,
    /// Packages and versions the files come from.
    pub(crate) versions: String,
}

/// Fetches the guest's files unless they are already here.
///
/// # Errors
///
/// Fails when the Debian mirror cannot be used; the message says what to do.
pub(crate) fn fetch() -> Result<Guest> {
    let folder = store().join("guest");
    make_whole(&folder, download).context("the Debian guest could not be fetched")?;
    let versions = folder.join("versions");
    Ok(Guest {
        kernel: folder.join("Image"),
        busybox: folder.join("busybox"),
        versions: fs::read_to_string(&versions)
            .with_context(|| format!("cannot read {}", versions.display()))?,
    })
}

fn download(folder: &Path) -> Result<()> {
    let apt = Apt::open(&store().join("apt"), "riscv64")?;
    let image = apt
        .depends(KERNEL)?
        .into_iter()
        .find(|name| name.starts_with("linux-image-"))
        .with_context(|| format!("{KERNEL} names no kernel package"))?;
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
    let header = fs::read(&kernel).context("cannot read the kernel")?;
    if header.get(56..60) != Some(IMAGE_MAGIC) {
        bail!("{} is not a flat RISC-V kernel image", kernel.display());
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
