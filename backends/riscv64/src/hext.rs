//! Registers, fields and causes of the hypervisor extension. Privileged architecture, chapter "Hypervisor
//! Extension"; Sstc; vector extension, chapter "Vector Extension Programmer's Model".

use axvcpu_riscv::csr::irq;

/// CSR numbers.
pub mod num {
    /// Status of the guest in its own supervisor mode.
    pub const VSSTATUS: u16 = 0x200;
    /// The guest's interrupt enables.
    pub const VSIE: u16 = 0x204;
    /// The guest's trap vector.
    pub const VSTVEC: u16 = 0x205;
    /// The guest's `sscratch`.
    pub const VSSCRATCH: u16 = 0x240;
    /// The guest's `sepc`.
    pub const VSEPC: u16 = 0x241;
    /// The guest's `scause`.
    pub const VSCAUSE: u16 = 0x242;
    /// The guest's `stval`.
    pub const VSTVAL: u16 = 0x243;
    /// The guest's interrupts pending.
    pub const VSIP: u16 = 0x244;
    /// The guest's timer compare (Sstc).
    pub const VSTIMECMP: u16 = 0x24d;
    /// The guest's address translation.
    pub const VSATP: u16 = 0x280;
    /// Hypervisor status.
    pub const HSTATUS: u16 = 0x600;
    /// Exceptions the guest takes itself.
    pub const HEDELEG: u16 = 0x602;
    /// Interrupts the guest takes itself.
    pub const HIDELEG: u16 = 0x603;
    /// Enables of the hypervisor's own guest-level interrupts.
    pub const HIE: u16 = 0x604;
    /// What is added to `time` for the guest.
    pub const HTIMEDELTA: u16 = 0x605;
    /// Counters the guest may read.
    pub const HCOUNTEREN: u16 = 0x606;
    /// Guest external interrupts enabled.
    pub const HGEIE: u16 = 0x607;
    /// Environment configuration of the guest.
    pub const HENVCFG: u16 = 0x60a;
    /// Guest physical address of the last guest page fault, shifted right by 2.
    pub const HTVAL: u16 = 0x643;
    /// Interrupts the hypervisor makes pending in the guest.
    pub const HVIP: u16 = 0x645;
    /// The instruction that trapped, in transformed shape.
    pub const HTINST: u16 = 0x64a;
    /// Translation of guest physical addresses.
    pub const HGATP: u16 = 0x680;
    /// Bytes of a vector register.
    pub const VLENB: u16 = 0xc22;
}

/// Fields of `hstatus`.
pub mod hstatus {
    /// The last trap wrote a guest virtual address to `stval`.
    pub const GVA: u64 = 1 << 6;
    /// The last trap came from the guest; `sret` goes there.
    pub const SPV: u64 = 1 << 7;
    /// The guest's privilege at the last trap, which `hlv` and `hlvx` act with: set for VS-mode.
    pub const SPVP: u64 = 1 << 8;
    /// `wfi` of the guest's supervisor mode traps.
    pub const VTW: u64 = 1 << 21;
    /// 64-bit registers in VS-mode.
    pub const VSXL_64: u64 = 2 << 32;
}

/// More fields of `sstatus`.
pub mod sstatus {
    /// Vector state: 0 off, 1 initial, 2 clean, 3 dirty.
    pub const VS: u64 = 3 << 9;
    /// [`VS`], when it is clean.
    pub const VS_CLEAN: u64 = 2 << 9;
    /// [`FS`](axvcpu_riscv::csr::sstatus::FS), when it is clean.
    pub const FS_CLEAN: u64 = 2 << 13;
}

/// Guests may use `stimecmp` (bit of `henvcfg`, Sstc).
pub const HENVCFG_STCE: u64 = 1 << 63;

/// A guest-level interrupt has the number of the supervisor's plus one.
pub const fn guest_level(interrupt: usize) -> u64 {
    1 << (interrupt + 1)
}

/// The three guest-level interrupts, as `hideleg`, `hvip` and `hie` hold them.
pub const GUEST_INTERRUPTS: u64 =
    guest_level(irq::SOFTWARE) | guest_level(irq::TIMER) | guest_level(irq::EXTERNAL);

/// Exception codes of `scause` that exist with this extension only.
pub mod cause {
    /// Environment call from VS-mode.
    pub const GUEST_ECALL: u64 = 10;
    /// Stage 2 refused an instruction fetch.
    pub const GUEST_FETCH_PAGE: u64 = 20;
    /// Stage 2 refused a load.
    pub const GUEST_LOAD_PAGE: u64 = 21;
    /// The guest's instruction is the hypervisor's to allow.
    pub const VIRTUAL_INSTRUCTION: u64 = 22;
    /// Stage 2 refused a store or atomic.
    pub const GUEST_STORE_PAGE: u64 = 23;
}
