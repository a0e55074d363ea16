//! The command line of `cargo xtask run`: names, meaning and defaults are those
//! of `axvcpu run`, where it has the option.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

pub(crate) use self::size::Size;
use crate::arch::{Arch, Bare};

/// Sizes are written as for `axvcpu run`.
#[path = "../../../hosts/linux/src/size.rs"]
mod size;

/// As many CPUs as a guest can have.
const MAX_CPUS: i64 = 8;

/// As many harts as the machine has at most, and how many it has at most if
/// nobody says how many.
const MAX_HARTS: i64 = 8;
const HARTS: u32 = 4;

/// What is run, and how.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// What executes the guest
    #[arg(long, short, value_name = "NAME", value_enum, default_value_t = Backend::Auto)]
    pub(super) backend: Backend,
    /// The kernel: a Linux Image or bzImage, an ELF file, or instructions to be put 2 MiB
    /// into RAM; without one, Debian's with the demonstration's initial RAM disk
    #[arg(long, short, value_name = "FILE")]
    pub(super) kernel: Option<PathBuf>,
    /// The initial RAM disk for a Linux kernel
    #[arg(long, short, value_name = "FILE")]
    pub(super) initrd: Option<PathBuf>,
    /// The kernel's command line; Debian's gets `console=ttyS0` without one, or
    /// `console=ttyAMA0` on AArch64
    #[arg(long, short, value_name = "ARGS", allow_hyphen_values = true)]
    pub(super) append: Option<String>,
    /// The guest's RAM, with K, M or G for the unit
    #[arg(long, short, value_name = "SIZE", default_value = "512M", value_parser = size::parse,
          allow_hyphen_values = true)]
    pub(super) memory: Size,
    /// How many CPUs the guest has
    #[arg(long, short, value_name = "N", default_value = "1",
          value_parser = clap::value_parser!(u32).range(1..=MAX_CPUS), allow_hyphen_values = true)]
    pub(super) cpus: u32,
    /// How many physical CPUs the machine of `--backend riscv64`, `aarch64` or
    /// `kvm --in-vm` has; as many as the guest, and 4 at most, if this is not given
    #[arg(long, value_name = "M",
          value_parser = clap::value_parser!(u32).range(1..=MAX_HARTS), allow_hyphen_values = true)]
    pub(super) host_cpus: Option<u32>,
    /// The processor of the machine of `--backend riscv64`, `aarch64` or `kvm --in-vm`, in
    /// QEMU's words; `rv64` or `max`, which have all there is, if this is not given
    #[arg(long, value_name = "CPU")]
    pub(super) qemu_cpu: Option<String>,
    /// Run `--backend kvm` not on this machine's KVM but in a virtual machine that QEMU
    /// emulates and that has a KVM: it works wherever QEMU does, and is slow
    #[arg(long)]
    pub(super) in_vm: bool,
    /// How to report the run on standard error at its end
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Summary::Text)]
    pub(super) summary: Summary,
    /// Say nothing but errors: no hint at the start, no summary at the end
    #[arg(long, short, visible_alias = "no-summary", conflicts_with = "summary")]
    pub(super) quiet: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Backend {
    /// What `axvcpu run` chooses on this machine
    Auto,
    /// A RISC-V hart in software
    Soft,
    /// RISC-V's hypervisor extension: a hypervisor of its own, on QEMU's machine
    Riscv64,
    /// AArch64's EL2: a hypervisor of its own, on QEMU's machine
    Aarch64,
    /// Linux's KVM, for x86-64: this machine's, or one in QEMU's machine with `--in-vm`
    Kvm,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Summary {
    /// A table
    Text,
    /// One JSON object on one line
    Json,
    /// Nothing
    None,
}

impl Options {
    /// How many harts the machine has.
    pub(super) fn harts(&self) -> u32 {
        self.host_cpus.unwrap_or(self.cpus.min(HARTS))
    }
}

impl Backend {
    /// Its name on `axvcpu`'s command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Soft => "soft",
            Self::Riscv64 => "riscv64",
            Self::Aarch64 => "aarch64",
            Self::Kvm => "kvm",
        }
    }

    /// What its guests are made for.
    pub(super) fn arch(self) -> Arch {
        match self {
            Self::Auto | Self::Soft | Self::Riscv64 => Arch::Riscv64,
            Self::Aarch64 => Arch::Aarch64,
            Self::Kvm => Arch::X86_64,
        }
    }

    /// The processor of the machine it has of its own in QEMU, if it has one.
    pub(super) fn bare_metal(self) -> Option<Bare> {
        match self {
            Self::Auto | Self::Soft | Self::Kvm => None,
            Self::Riscv64 => Some(Bare::Riscv64),
            Self::Aarch64 => Some(Bare::Aarch64),
        }
    }
}

impl Summary {
    /// Its name on the command lines of `axvcpu` and of the hypervisor.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::None => "none",
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        options: Options,
    }

    fn parse(arguments: &[&str]) -> Result<Options, clap::Error> {
        Program::try_parse_from([&["run"], arguments].concat()).map(|program| program.options)
    }

    #[test]
    fn defaults() {
        let options = parse(&[]).unwrap();
        assert_eq!((options.backend, options.summary), (Backend::Auto, Summary::Text));
        assert_eq!((options.cpus, options.harts(), options.memory), (1, 1, Size(512 << 20)));
        assert_eq!((options.kernel, options.initrd, options.append), (None, None, None));
    }

    #[test]
    fn harts_follow_the_guest_s_cpus() {
        let harts = |arguments: &[&str]| parse(arguments).unwrap().harts();
        assert_eq!(harts(&["-c", "3"]), 3);
        assert_eq!(harts(&["-c", "8"]), HARTS);
        assert_eq!(harts(&["-c", "4", "--host-cpus", "1"]), 1);
    }

    #[test]
    fn backends_know_their_guests() {
        for backend in Backend::value_variants() {
            let named = parse(&["--backend", backend.name()]).unwrap().backend;
            assert_eq!(named, *backend);
            if let Some(bare) = backend.bare_metal() {
                assert_eq!((backend.name(), backend.arch()), (bare.name(), bare.guests()));
            }
        }
    }

    #[test]
    fn mistakes_are_refused() {
        for arguments in [
            &["--cpus", "0"][..],
            &["--cpus", "9"],
            &["--host-cpus", "0"],
            &["--memory", "1T"],
            &["--backend", "riscv"],
            &["--summary", "json", "--quiet"],
            &["stray"],
        ] {
            assert!(parse(arguments).is_err(), "{arguments:?}");
        }
        assert_eq!(parse(&["-a", "-x"]).unwrap().append.as_deref(), Some("-x"));
    }
}
