//! QEMU: the machines guests are compared with, and the user-mode emulator that
//! single programs are compared with.
//!
//! An installed QEMU is used when it is new enough. Otherwise Debian's is
//! unpacked into a folder of its own together with every library it needs, and
//! started through the dynamic loader from that same folder: no root, nothing
//! installed, and the same QEMU on every machine. Each architecture's is fetched
//! by itself, when it is needed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::apt::{self, Apt};
use super::program::{Loader, script};
use super::{host_arch, make_whole, store};
use crate::arch::Arch;
use crate::proc;
use crate::progress::Step;

/// The oldest installed QEMU that is taken: the first with the hypervisor
/// extension and Sstc on by default in its generic processor.
const OLDEST: u32 = 8;

/// What is fetched for an architecture, and what is in it.
struct Kit {
    /// The folder below the store.
    folder: &'static str,
    /// The emulator of whole machines, and the packages it comes in.
    system: &'static str,
    packages: &'static [&'static str],
    /// The emulator of single Linux programs, where programs are compared.
    user: Option<&'static str>,
}

fn kit(arch: Arch) -> Kit {
    match arch {
        Arch::Riscv64 => Kit {
            folder: "qemu",
            system: "qemu-system-riscv64",
            packages: &["qemu-system-riscv", "opensbi"],
            user: Some("qemu-riscv64"),
        },
        Arch::Aarch64 => Kit {
            folder: "qemu-arm",
            system: "qemu-system-aarch64",
            packages: &["qemu-system-arm"],
            user: None,
        },
        Arch::X86_64 => Kit {
            folder: "qemu-x86",
            system: "qemu-system-x86_64",
            packages: &["qemu-system-x86"],
            user: None,
        },
    }
}

/// The emulators of one architecture.
pub(crate) struct Qemu {
    /// `qemu-system-…`, a whole machine.
    pub(crate) system: PathBuf,
    /// `qemu-riscv64`, one Linux program; nothing is compared with other architectures' programs.
    pub(crate) user: Option<PathBuf>,
    /// The version, as the emulator tells it.
    pub(crate) version: String,
    /// Where its packages are unpacked, unless it is the machine's own.
    root: Option<PathBuf>,
}

impl Qemu {
    /// What it takes to run the emulator of whole machines where nothing is installed, by the names it has there in a
    /// folder of its own: the program, the dynamic loader and libraries, firmware. `None` for the machine's own.
    ///
    /// # Errors
    ///
    /// Fails when a folder cannot be read.
    pub(crate) fn portable(&self) -> Result<Option<Vec<(String, PathBuf)>>> {
        let Some(root) = &self.root else { return Ok(None) };
        let program = self.system.file_name().context("the emulator has a name")?;
        let mut files = vec![("qemu".to_owned(), root.join("usr/bin").join(program))];
        let loader = Loader::find(root)?;
        for (from, to) in [
            (loader.folder(root), "lib"),
            (root.join("usr/share/qemu"), "share"),
            (root.join("usr/share/seabios"), "share"),
        ] {
            let entries = std::fs::read_dir(&from)
                .with_context(|| format!("cannot list {}", from.display()))?;
            for entry in entries.flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let wanted = to == "share" || name.contains(".so");
                if wanted && entry.path().is_file() {
                    files.push((format!("{to}/{name}"), entry.path()));
                }
            }
        }
        files.push(("loader".into(), loader.file(root)));
        Ok(Some(files))
    }
}

/// Finds QEMU for `arch`, fetching it when the machine has none.
///
/// # Errors
///
/// Fails when there is none and none can be fetched; the message says what to do.
pub(crate) fn fetch(arch: Arch) -> Result<Qemu> {
    let kit = kit(arch);
    if let Some(installed) = installed(&kit) {
        return Ok(installed);
    }
    let folder = store().join(kit.folder);
    make_whole(&folder, |folder| download(folder, &kit)).with_context(|| {
        let programs: Vec<_> = kit.programs().map(|name| format!("`{name}`")).collect();
        format!(
            "QEMU could not be fetched; install {} (version {OLDEST} or newer) by hand",
            programs.join(" and ")
        )
    })?;
    let system = folder.join(kit.system);
    let (version, _) = version(&system)?;
    let (user, root) = (kit.user.map(|name| folder.join(name)), Some(folder.join("root")));
    Ok(Qemu { system, user, version, root })
}

impl Kit {
    fn programs(&self) -> impl Iterator<Item = &'static str> {
        [Some(self.system), self.user].into_iter().flatten()
    }
}

fn installed(kit: &Kit) -> Option<Qemu> {
    let system = proc::find(kit.system)?;
    let user = match kit.user {
        // All of them or none: they are of one version.
        Some(name) => Some(proc::find(name).or_else(|| proc::find(format!("{name}-static")))?),
        None => None,
    };
    let (version, major) = version(&system).ok()?;
    (major >= OLDEST).then_some(Qemu { system, user, version, root: None })
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

fn download(folder: &Path, kit: &Kit) -> Result<()> {
    let root = folder.join("root");
    let apt = Apt::open(&store().join("apt"), host_arch()?)?;
    let system = apt.download(kit.packages, true)?;
    let user = match kit.user {
        Some(_) => apt.download(&["qemu-user"], false)?,
        None => Vec::new(),
    };
    let step = Step::new("unpack QEMU");
    for package in system {
        apt::unpack(&package, &root, None)?;
    }
    // Statically linked, and its package has forty others: only this one.
    for (package, name) in user.iter().zip(kit.user) {
        apt::unpack(package, &root, Some(&format!("./usr/bin/{name}")))?;
    }
    apt.remove_archives()?;

    Loader::find(&root)?.script(
        folder,
        kit.system,
        "export QEMU_MODULE_DIR=\"$lib/qemu\"\n",
        // The BIOS is another package's, which has a folder of its own.
        "-L \"$here/root/usr/share/qemu\" -L \"$here/root/usr/share/seabios\"",
    )?;
    if let Some(name) = kit.user {
        script(&folder.join(name), &format!("exec \"$here/root/usr/bin/{name}\" \"$@\"\n"))?;
    }
    for program in kit.programs() {
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

    #[test]
    fn each_architecture_is_fetched_by_itself() {
        let [riscv, arm, x86] = Arch::ALL.map(kit);
        assert!(riscv.folder != arm.folder && arm.folder != x86.folder);
        assert_eq!(riscv.programs().collect::<Vec<_>>(), ["qemu-system-riscv64", "qemu-riscv64"]);
        assert_eq!(arm.programs().collect::<Vec<_>>(), ["qemu-system-aarch64"]);
        assert_eq!(x86.programs().collect::<Vec<_>>(), ["qemu-system-x86_64"]);
    }
}
