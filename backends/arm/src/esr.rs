//! Exception syndromes (Arm ARM, D24.2.37 "`ESR_EL1`", D24.2.38 "`ESR_EL2`").

/// Exception classes, bits 31 to 26.
pub mod class {
    /// Unknown reason: an undefined instruction.
    pub const UNKNOWN: u64 = 0x00;
    /// `WFI`, `WFE` and their kin.
    pub const WFX: u64 = 0x01;
    /// Floating point, Advanced SIMD or SVE that is switched off.
    pub const FP: u64 = 0x07;
    /// `HVC` of AArch64.
    pub const HVC: u64 = 0x16;
    /// `SMC` of AArch64.
    pub const SMC: u64 = 0x17;
    /// A system register or instruction.
    pub const SYSTEM: u64 = 0x18;
    /// SVE that is switched off.
    pub const SVE: u64 = 0x19;
    /// SME that is switched off.
    pub const SME: u64 = 0x1d;
    /// A fetch that failed, from a lower exception level.
    pub const FETCH_LOWER: u64 = 0x20;
    /// The same, without a change of exception level.
    pub const FETCH: u64 = 0x21;
    /// A data access that failed, from a lower exception level.
    pub const DATA_LOWER: u64 = 0x24;
    /// The same, without a change of exception level.
    pub const DATA: u64 = 0x25;
    /// `SError`.
    pub const SERROR: u64 = 0x2f;
}

/// The exception class of a syndrome.
pub const fn class(esr: u64) -> u64 {
    esr >> 26 & 0x3f
}

/// The syndrome of a class, for an instruction of 32 bits.
pub const fn of_class(class: u64) -> u64 {
    class << 26 | LONG
}

/// The instruction has 32 bits (IL).
pub const LONG: u64 = 1 << 25;

/// The immediate of `HVC` and `SMC`.
pub const fn immediate(esr: u64) -> u64 {
    esr & 0xffff
}

/// Fields of aborts.
pub mod abort {
    /// The rest of the syndrome describes the access (ISV).
    pub const DESCRIBED: u64 = 1 << 24;
    /// The loaded value is sign-extended (SSE).
    pub const SIGNED: u64 = 1 << 21;
    /// The register is 64 bits wide (SF).
    pub const WIDE: u64 = 1 << 15;
    /// `FAR` is not valid (FnV).
    pub const NO_ADDRESS: u64 = 1 << 10;
    /// Cache maintenance or an address translation instruction (CM).
    pub const CACHE: u64 = 1 << 8;
    /// A walk of the guest's own tables (S1PTW).
    pub const WALK: u64 = 1 << 7;
    /// A write (WnR).
    pub const WRITE: u64 = 1 << 6;

    /// log2 of the bytes accessed (SAS).
    pub const fn size(esr: u64) -> u64 {
        esr >> 22 & 3
    }

    /// The register loaded or stored (SRT).
    pub const fn register(esr: u64) -> u8 {
        (esr >> 16 & 31) as u8
    }

    /// The fault status (DFSC, IFSC).
    pub const fn status(esr: u64) -> u64 {
        esr & 0x3f
    }

    /// Fault status: translation fault, without the level in the two lowest bits.
    pub const TRANSLATION: u64 = 0x04;
    /// Fault status: the entry's access flag is clear, without the level.
    pub const NOT_ACCESSED: u64 = 0x08;
    /// Fault status: permission fault, without the level.
    pub const PERMISSION: u64 = 0x0c;
    /// Fault status: synchronous external abort.
    pub const EXTERNAL: u64 = 0x10;
    /// Fault status: synchronous external abort on a walk, without the level.
    pub const EXTERNAL_ON_WALK: u64 = 0x14;
    /// Fault status: alignment fault.
    pub const ALIGNMENT: u64 = 0x21;
}
