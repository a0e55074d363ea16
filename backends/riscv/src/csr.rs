//! Supervisor-level control and status registers: numbers and fields.
//!
//! Privileged architecture, chapters "Control and Status Registers" and "Supervisor-Level ISA"; unprivileged
//! ISA, chapters "F" (floating-point CSRs) and "Zicntr".

/// CSR numbers.
pub mod num {
    /// Accrued floating-point exceptions.
    pub const FFLAGS: u16 = 0x001;
    /// Floating-point dynamic rounding mode.
    pub const FRM: u16 = 0x002;
    /// `frm` and `fflags` together.
    pub const FCSR: u16 = 0x003;
    /// Supervisor status.
    pub const SSTATUS: u16 = 0x100;
    /// Supervisor interrupt enables.
    pub const SIE: u16 = 0x104;
    /// Supervisor trap vector.
    pub const STVEC: u16 = 0x105;
    /// Counters visible to U-mode.
    pub const SCOUNTEREN: u16 = 0x106;
    /// Supervisor environment configuration.
    pub const SENVCFG: u16 = 0x10a;
    /// Scratch register for trap handlers.
    pub const SSCRATCH: u16 = 0x140;
    /// Program counter at the last trap.
    pub const SEPC: u16 = 0x141;
    /// Cause of the last trap.
    pub const SCAUSE: u16 = 0x142;
    /// Value that belongs to the last trap.
    pub const STVAL: u16 = 0x143;
    /// Supervisor interrupts pending.
    pub const SIP: u16 = 0x144;
    /// Supervisor timer compare (Sstc).
    pub const STIMECMP: u16 = 0x14d;
    /// Address translation.
    pub const SATP: u16 = 0x180;
    /// Cycle counter.
    pub const CYCLE: u16 = 0xc00;
    /// Real-time counter.
    pub const TIME: u16 = 0xc01;
    /// Instructions retired.
    pub const INSTRET: u16 = 0xc02;
}

/// Fields of `sstatus`.
pub mod sstatus {
    /// Interrupts enabled in S-mode.
    pub const SIE: u64 = 1 << 1;
    /// `SIE` before the trap.
    pub const SPIE: u64 = 1 << 5;
    /// Privilege before the trap: set for S-mode.
    pub const SPP: u64 = 1 << 8;
    /// Floating-point state: 0 off, 1 initial, 2 clean, 3 dirty.
    pub const FS: u64 = 3 << 13;
    /// S-mode may access user pages.
    pub const SUM: u64 = 1 << 18;
    /// Loads may read executable pages.
    pub const MXR: u64 = 1 << 19;
    /// Width of U-mode registers: 64 bits.
    pub const UXL_64: u64 = 2 << 32;
    /// Some state is dirty.
    pub const SD: u64 = 1 << 63;
}

/// Interrupt numbers: the low bits of `scause`, and the bit positions in `sip` and `sie`.
pub mod irq {
    /// Supervisor software interrupt.
    pub const SOFTWARE: usize = 1;
    /// Supervisor timer interrupt.
    pub const TIMER: usize = 5;
    /// Supervisor external interrupt.
    pub const EXTERNAL: usize = 9;
}

/// `scause` of an interrupt has this bit set.
pub const CAUSE_INTERRUPT: u64 = 1 << 63;

/// Exception codes of `scause`.
pub mod cause {
    /// Instruction access fault.
    pub const FETCH_ACCESS: u64 = 1;
    /// Illegal instruction.
    pub const ILLEGAL: u64 = 2;
    /// Breakpoint.
    pub const BREAKPOINT: u64 = 3;
    /// Load address misaligned.
    pub const LOAD_MISALIGNED: u64 = 4;
    /// Load access fault.
    pub const LOAD_ACCESS: u64 = 5;
    /// Store/AMO address misaligned.
    pub const STORE_MISALIGNED: u64 = 6;
    /// Store/AMO access fault.
    pub const STORE_ACCESS: u64 = 7;
    /// Environment call from U-mode.
    pub const USER_ECALL: u64 = 8;
    /// Instruction page fault.
    pub const FETCH_PAGE: u64 = 12;
    /// Load page fault.
    pub const LOAD_PAGE: u64 = 13;
    /// Store/AMO page fault.
    pub const STORE_PAGE: u64 = 15;
}
