//! The architectures of guests, as the loaders see them.

/// The architecture of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// 64-bit RISC-V.
    Riscv64,
    /// AArch64.
    Arm64,
    /// x86-64.
    X86_64,
}

impl Target {
    /// `e_machine` of its ELF programs.
    pub(super) const fn elf_machine(self) -> u16 {
        match self {
            Self::Riscv64 => 243,
            Self::Arm64 => 183,
            Self::X86_64 => 62,
        }
    }

    /// What a program's first address is a multiple of. On RISC-V the compressed extension has instructions of
    /// two bytes, on x86 they have any length.
    pub(super) const fn instruction_align(self) -> u64 {
        match self {
            Self::Riscv64 => 2,
            Self::Arm64 => 4,
            Self::X86_64 => 1,
        }
    }

    /// What its guests are, for messages.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Riscv64 => "RISC-V (riscv64)",
            Self::Arm64 => "AArch64 (arm64)",
            Self::X86_64 => "x86-64",
        }
    }

    /// What to do about a kernel for something else.
    pub(super) const fn advice(self) -> &'static str {
        match self {
            Self::Riscv64 => "the guest is RISC-V, so it needs the Image of a riscv64 kernel",
            Self::Arm64 => "the guest is AArch64, so it needs the Image of an arm64 kernel",
            Self::X86_64 => "the guest is x86-64, so it needs the bzImage of an x86 kernel",
        }
    }
}
