//! Registers: numbers, and the bits in them.

/// General-purpose registers, by the numbers that instructions have for them (SDM volume 2, table 2-8). These are the
/// numbers that [`set_gpr`](axvcpu::AxVCpu::set_gpr) takes.
pub mod gpr {
    /// The accumulator.
    pub const RAX: usize = 0;
    /// The counter.
    pub const RCX: usize = 1;
    /// Data.
    pub const RDX: usize = 2;
    /// The base.
    pub const RBX: usize = 3;
    /// The stack pointer.
    pub const RSP: usize = 4;
    /// The frame's base.
    pub const RBP: usize = 5;
    /// The source of string instructions.
    pub const RSI: usize = 6;
    /// Their destination.
    pub const RDI: usize = 7;
    /// One more than the highest: `r15`.
    pub const COUNT: usize = 16;
}

/// RFLAGS (SDM volume 1, 3.4.3).
pub mod rflags {
    /// Bit 1 is always set.
    pub const FIXED: u64 = 1 << 1;
    /// Maskable interrupts are taken.
    pub const IF: u64 = 1 << 9;
}

/// CR0 (SDM volume 3, 2.5).
pub mod cr0 {
    /// Protected mode.
    pub const PE: u64 = 1 << 0;
    /// WAIT follows TS.
    pub const MP: u64 = 1 << 1;
    /// There is no x87 unit.
    pub const EM: u64 = 1 << 2;
    /// The FPU's state is another task's.
    pub const TS: u64 = 1 << 3;
    /// An x87 unit that is no 80287: always set.
    pub const ET: u64 = 1 << 4;
    /// x87 errors are exceptions.
    pub const NE: u64 = 1 << 5;
    /// Read-only pages are that for the supervisor too.
    pub const WP: u64 = 1 << 16;
    /// Not write-through.
    pub const NW: u64 = 1 << 29;
    /// Caches are off.
    pub const CD: u64 = 1 << 30;
    /// Paging.
    pub const PG: u64 = 1 << 31;
}

/// CR4 (SDM volume 3, 2.5).
pub mod cr4 {
    /// Entries of 64 bits in page tables.
    pub const PAE: u64 = 1 << 5;
    /// Machine checks are exceptions. SVM lets guests see that of the host.
    pub const MCE: u64 = 1 << 6;
    /// Global pages.
    pub const PGE: u64 = 1 << 7;
    /// The operating system saves SSE state.
    pub const OSFXSR: u64 = 1 << 9;
    /// The operating system handles SSE exceptions.
    pub const OSXMMEXCPT: u64 = 1 << 10;
    /// XSAVE, and XCR0.
    pub const OSXSAVE: u64 = 1 << 18;
}

/// IA32_EFER (SDM volume 3, 2.2.1).
pub mod efer {
    /// SYSCALL.
    pub const SCE: u64 = 1 << 0;
    /// Long mode is wanted.
    pub const LME: u64 = 1 << 8;
    /// Long mode is on.
    pub const LMA: u64 = 1 << 10;
    /// No-execute pages.
    pub const NXE: u64 = 1 << 11;
}

/// Model-specific registers (SDM volume 4, table 2-2; APM volume 2, appendix A).
pub mod msr {
    /// The time-stamp counter.
    pub const TSC: u32 = 0x10;
    /// Where the local APIC is.
    pub const APIC_BASE: u32 = 0x1b;
    /// What the CPU was told of its own features.
    pub const MISC_ENABLE: u32 = 0x1a0;
    /// Page attributes.
    pub const PAT: u32 = 0x277;
    /// The default memory type.
    pub const MTRR_DEF_TYPE: u32 = 0x2ff;
    /// When the local APIC's timer fires.
    pub const TSC_DEADLINE: u32 = 0x6e0;
    /// See [`efer`](super::efer).
    pub const EFER: u32 = 0xc000_0080;
    /// Selectors of SYSCALL and SYSRET.
    pub const STAR: u32 = 0xc000_0081;
    /// Where SYSCALL goes.
    pub const LSTAR: u32 = 0xc000_0082;
    /// Where SYSCALL goes from compatibility mode.
    pub const CSTAR: u32 = 0xc000_0083;
    /// What SYSCALL clears of RFLAGS.
    pub const SYSCALL_MASK: u32 = 0xc000_0084;
    /// The base of FS.
    pub const FS_BASE: u32 = 0xc000_0100;
    /// The base of GS.
    pub const GS_BASE: u32 = 0xc000_0101;
    /// The base that SWAPGS exchanges with that of GS.
    pub const KERNEL_GS_BASE: u32 = 0xc000_0102;
    /// What RDPID and RDTSCP answer.
    pub const TSC_AUX: u32 = 0xc000_0103;
}
