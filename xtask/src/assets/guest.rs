//! The guest: Debian's own kernel for each architecture, and a static busybox; and where guests have guests of
//! their own, the kernel's modules for that.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::apt::{self, Apt};
use super::{make_whole, modules, store};
use crate::arch::Arch;
use crate::progress::Step;

/// One statically linked program with a shell and the usual tools.
const BUSYBOX: &str = "busybox-static";

/// The folder below the store.
fn folder(arch: Arch) -> &'static str {
    match arch {
        Arch::Riscv64 => "guest",
        Arch::Aarch64 => "guest-arm64",
        Arch::X86_64 => "guest-amd64",
    }
}

/// The package that depends on the current kernel package. The one for clouds has the drivers of virtual machines
/// and little else.
fn kernel_package(arch: Arch) -> &'static str {
    match arch {
        Arch::Riscv64 => "linux-image-riscv64",
        Arch::Aarch64 => "linux-image-cloud-arm64",
        Arch::X86_64 => "linux-image-cloud-amd64",
    }
}

/// Where a kernel says what it is, and how: Linux's `Image` (Documentation/arch/riscv/boot-image-header.rst,
/// Documentation/arch/arm64/booting.rst), and a `bzImage` (Documentation/arch/x86/boot.rst).
fn magic(arch: Arch) -> &'static [(usize, &'static [u8])] {
    match arch {
        Arch::Riscv64 => &[(56, b"RSC\x05")],
        Arch::Aarch64 => &[(56, b"ARM\x64")],
        Arch::X86_64 => &[(0x1fe, b"\x55\xaa"), (0x202, b"HdrS")],
    }
}

/// The module that lets guests have guests, on the processors of QEMU's emulation.
fn kvm_module(arch: Arch) -> Option<&'static str> {
    match arch {
        Arch::Riscv64 | Arch::Aarch64 => None,
        Arch::X86_64 => Some("kvm_amd"),
    }
}

/// Whether `kernel` is one for `arch`.
fn is_kernel(kernel: &[u8], arch: Arch) -> bool {
    magic(arch).iter().all(|(at, bytes)| kernel.get(*at..at + bytes.len()) == Some(bytes))
}

/// The files a Debian guest is made of.
pub(crate) struct Guest {
    /// The kernel: a flat `Image`, or a `bzImage`.
    pub(crate) kernel: PathBuf,
    /// The kernel's modules for guests of its own, in the order to load them in.
    pub(crate) modules: Vec<PathBuf>,
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
    let read = |name| {
        let file = folder.join(name);
        fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))
    };
    let modules = match kvm_module(arch) {
        Some(_) => read(MODULES)?.lines().map(|name| folder.join(name)).collect(),
        None => Vec::new(),
    };
    Ok(Guest {
        kernel: folder.join("Image"),
        modules,
        busybox: folder.join("busybox"),
        versions: read("versions")?,
    })
}

/// The list of modules, one a line, in the order to load them in.
const MODULES: &str = "modules";

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
        // The kernel package is mostly modules; most guests use none.
        let name = package.file_name().unwrap_or_default().to_string_lossy();
        let whole = name.starts_with(BUSYBOX) || kvm_module(arch).is_some();
        let only = if whole { None } else { Some("./boot") };
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
    ensure!(is_kernel(&bytes, arch), "{} is not a kernel image for {arch}", kernel.display());
    let busybox = ["usr/bin/busybox", "bin/busybox"]
        .iter()
        .map(|path| unpacked.join(path))
        .find(|path| path.is_file())
        .context("the busybox package has no busybox")?;
    if let Some(module) = kvm_module(arch) {
        let tree = unpacked.join("usr/lib/modules");
        let names = modules::extract(&tree, module, folder, &busybox)?;
        fs::write(folder.join(MODULES), names.join("\n")).context("cannot list the modules")?;
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_told_apart() {
        let mut kernel = vec![0; 0x206];
        assert!(Arch::ALL.iter().all(|arch| !is_kernel(&kernel, *arch)));
        kernel[0x1fe..0x200].copy_from_slice(b"\x55\xaa");
        kernel[0x202..].copy_from_slice(b"HdrS");
        assert_eq!(Arch::ALL.map(|arch| is_kernel(&kernel, arch)), [false, false, true]);
        kernel[56..60].copy_from_slice(b"RSC\x05");
        assert!(is_kernel(&kernel, Arch::Riscv64) && !is_kernel(&kernel[..59], Arch::Riscv64));
        assert!(!is_kernel(&kernel[..0x205], Arch::X86_64));
    }
}
