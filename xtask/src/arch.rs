//! The processors guests are made for, and what each is called by whom.

use std::fmt;

/// A processor with hardware virtualization that there is a hypervisor for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arch {
    /// RISC-V with the hypervisor extension.
    Riscv64,
    /// AArch64 with EL2.
    Aarch64,
}

impl Arch {
    /// All of them.
    pub(crate) const ALL: [Self; 2] = [Self::Riscv64, Self::Aarch64];

    /// The name of the backend, which is QEMU's and the compiler's name for the processor as well.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Riscv64 => "riscv64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// Debian's name.
    pub(crate) fn debian(self) -> &'static str {
        match self {
            Self::Riscv64 => "riscv64",
            Self::Aarch64 => "arm64",
        }
    }

    /// The target of hypervisor images: no floating-point registers, which are the guest's.
    pub(crate) const fn target(self) -> &'static str {
        match self {
            Self::Riscv64 => "riscv64imac-unknown-none-elf",
            Self::Aarch64 => "aarch64-unknown-none-softfloat",
        }
    }

    /// The processor QEMU's machine has if nobody says otherwise: everything that QEMU knows and, for RISC-V, the
    /// profiles do not leave out, virtualization included.
    pub(crate) const fn cpu(self) -> &'static str {
        match self {
            Self::Riscv64 => "rv64",
            Self::Aarch64 => "max",
        }
    }

    /// The kernel parameter that makes the guest's serial port its console.
    pub(crate) fn console(self) -> &'static str {
        match self {
            Self::Riscv64 => "console=ttyS0",
            Self::Aarch64 => "console=ttyAMA0",
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
