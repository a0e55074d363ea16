//! The processors guests are made for, and what each is called by whom.

use std::fmt;

/// A processor that guests are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arch {
    /// RISC-V: in software, or with the hypervisor extension.
    Riscv64,
    /// AArch64 with EL2.
    Aarch64,
    /// x86-64, under Linux KVM.
    X86_64,
}

impl Arch {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Riscv64, Self::Aarch64, Self::X86_64];

    /// QEMU's and the compiler's name for the processor.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Riscv64 => "riscv64",
            Self::Aarch64 => "aarch64",
            Self::X86_64 => "x86_64",
        }
    }

    /// Debian's name.
    pub(crate) fn debian(self) -> &'static str {
        match self {
            Self::Riscv64 => "riscv64",
            Self::Aarch64 => "arm64",
            Self::X86_64 => "amd64",
        }
    }

    /// The kernel parameter that makes the guest's serial port its console.
    pub(crate) fn console(self) -> &'static str {
        match self {
            Self::Riscv64 | Self::X86_64 => "console=ttyS0",
            Self::Aarch64 => "console=ttyAMA0",
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A processor that there is a hypervisor without an operating system for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bare {
    /// RISC-V with the hypervisor extension.
    Riscv64,
    /// AArch64 with EL2.
    Aarch64,
}

impl Bare {
    /// All of them.
    pub(crate) const ALL: [Self; 2] = [Self::Riscv64, Self::Aarch64];

    /// What its guests are made for, which is the same processor.
    pub(crate) const fn guests(self) -> Arch {
        match self {
            Self::Riscv64 => Arch::Riscv64,
            Self::Aarch64 => Arch::Aarch64,
        }
    }

    /// The name of the backend, which is the processor's.
    pub(crate) fn name(self) -> &'static str {
        self.guests().name()
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
}

impl fmt::Display for Bare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
