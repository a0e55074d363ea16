//! Fields of the registers that configure virtualization (Arm ARM, D24.2 and D24.3; GIC: IHI 0069, 12.4).

/// `HCR_EL2`.
pub(crate) mod hcr {
    /// Stage 2 is on.
    const VM: u64 = 1 << 0;
    /// Invalidation by set and way also cleans.
    const SWIO: u64 = 1 << 1;
    /// A walk of the guest's tables that stage 2 leads to device memory faults.
    const PTW: u64 = 1 << 2;
    /// Physical FIQs, IRQs and SErrors go to EL2, and the guest has virtual ones.
    const FMO_IMO_AMO: u64 = 0b111 << 3;
    /// The guest's own TLB and instruction cache maintenance reaches all CPUs, so that a vCPU finds it done wherever it
    /// goes on; and so do its barriers.
    const FB_BSU: u64 = 1 << 9 | 1 << 10;
    /// `WFI` traps.
    const TWI: u64 = 1 << 13;
    /// `WFE` traps.
    pub(crate) const TWE: u64 = 1 << 14;
    /// Identification registers trap: those of the implementation (group 1), of features (group 3).
    const TID: u64 = 1 << 16 | 1 << 18;
    /// `SMC` traps.
    const TSC: u64 = 1 << 19;
    /// Registers of the implementation's own trap.
    const TIDCP: u64 = 1 << 20;
    /// `ACTLR_EL1` traps.
    const TACR: u64 = 1 << 21;
    /// EL1 is AArch64.
    const RW: u64 = 1 << 31;
    /// EL2 has the shape of EL1, for hosts with virtualization host extensions.
    pub(crate) const E2H: u64 = 1 << 34;
    /// LORegion registers trap.
    const TLOR: u64 = 1 << 35;
    /// EL0 is the host's.
    pub(crate) const TGE: u64 = 1 << 27;
    /// Error records trap, where there are any (RAS).
    pub(crate) const TERR: u64 = 1 << 36;
    /// Pointer authentication keys and instructions do not trap.
    pub(crate) const APK_API: u64 = 0b11 << 40;

    /// While a guest runs; and, as only E2H concerns EL2, while virtualization is on at all.
    pub(crate) const GUEST: u64 =
        VM | SWIO | PTW | FMO_IMO_AMO | FB_BSU | TWI | TID | TSC | TIDCP | TACR | RW | TLOR;
}

/// `MDCR_EL2`.
pub(crate) mod mdcr {
    /// The number of event counters the guest would have, were there any: left alone.
    pub(crate) const HPMN: u64 = 0x1f;
    /// The performance monitors trap (TPMCR, TPM), statistical profiling (TPMS), trace filters (TTRF) and debug registers (TDA,
    /// TDOSA, TDRA).
    pub(crate) const TRAPS: u64 = 1 << 5 | 1 << 6 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 14 | 1 << 19;
}

/// `CPTR_EL2`, which has two shapes.
pub(crate) mod cptr {
    /// Without E2H: reserved ones, and traps of SVE (TZ), SME (TSM), trace (TTA) and activity monitors (TAM).
    const CLASSIC: u64 = 0x33ff | 1 << 20 | 1 << 30;
    const CLASSIC_TFP: u64 = 1 << 10;
    const CLASSIC_TZ: u64 = 1 << 8;
    /// With E2H: traps of trace and activity monitors.
    const HOST_EXTENSIONS: u64 = 1 << 28 | 1 << 30;
    const FPEN: u64 = 0b11 << 20;
    const ZEN: u64 = 0b11 << 16;

    /// With floating point on or trapping, and SVE with it.
    pub(crate) const fn value(e2h: bool, fp: bool, sve: bool) -> u64 {
        match (e2h, fp) {
            (true, false) => HOST_EXTENSIONS,
            (true, true) => HOST_EXTENSIONS | FPEN | if sve { ZEN } else { 0 },
            (false, false) => CLASSIC | CLASSIC_TFP,
            (false, true) if sve => CLASSIC & !CLASSIC_TZ,
            (false, true) => CLASSIC,
        }
    }
}

/// `CNTHCTL_EL2`: EL1 and EL0 may use the physical counter and timer. Two shapes as well.
pub(crate) const fn cnthctl(e2h: bool) -> u64 {
    if e2h { 0b11 << 10 } else { 0b11 }
}

/// `VTCR_EL2` without what depends on the address space: 4 KiB granules, walks in write-back inner shareable memory.
pub(crate) const VTCR: u64 = 1 << 31 | 0b11 << 12 | 0b01 << 10 | 0b01 << 8;
/// VMIDs have 16 bits.
pub(crate) const VTCR_VS: u64 = 1 << 19;

/// `ICH_HCR_EL2`.
pub(crate) mod ich_hcr {
    /// The virtual CPU interface is on.
    pub(crate) const EN: u64 = 1 << 0;
    /// Maintenance interrupt when the guest has ended an interrupt that is in no list register.
    pub(crate) const LRENPIE: u64 = 1 << 2;
    /// Maintenance interrupt when no list register is pending.
    pub(crate) const NPIE: u64 = 1 << 3;
    /// Writes of `ICC_DIR_EL1` trap, where the CPU can do that.
    pub(crate) const TDIR: u64 = 1 << 14;
    /// EOIcount: how many interrupts the guest has ended that are in no list register.
    pub(crate) const COUNT: u64 = 31 << 27;

    /// The same as a number.
    pub(crate) const fn counted(hcr: u64) -> u64 {
        (hcr & COUNT) >> 27
    }
}

/// List registers.
pub(crate) mod lr {
    /// Bits 63 and 62: pending, active.
    pub(crate) const PENDING: u64 = 1 << 62;
    /// Active.
    pub(crate) const ACTIVE: u64 = 1 << 63;
    /// Belongs to a physical interrupt, whose number is the field's.
    pub(crate) const HW: u64 = 1 << 61;
    /// Bits 63 to 61 of a physical interrupt that is pending and not active.
    pub(crate) const PENDING_HW: u64 = 0b011;
    /// Group 1.
    pub(crate) const GROUP1: u64 = 1 << 60;
    /// The priority.
    pub(crate) const PRIORITY_SHIFT: u32 = 48;
    /// Without [`HW`]: a maintenance interrupt at the end of the interrupt.
    pub(crate) const EOI: u64 = 1 << 41;
    /// With [`HW`]: the physical interrupt.
    pub(crate) const PHYSICAL_SHIFT: u32 = 32;
    /// The physical interrupt's field, which has what [`EOI`] is in as well.
    pub(crate) const PHYSICAL: u64 = 0x1fff << PHYSICAL_SHIFT;

    /// The interrupt.
    pub(crate) const fn intid(lr: u64) -> u32 {
        lr as u32
    }
}

/// `ICH_VMCR_EL2`.
pub(crate) mod vmcr {
    /// Group 1 is enabled.
    pub(crate) const VENG1: u64 = 1 << 1;
    /// The end of an interrupt does not deactivate it.
    pub(crate) const VEOIM: u64 = 1 << 9;
    /// The guest's priority mask.
    pub(crate) const fn mask(vmcr: u64) -> u64 {
        vmcr >> 24
    }
}

/// Bits of `CNTV_CTL_EL0` and `CNTP_CTL_EL0`.
pub(crate) mod timer {
    /// On.
    pub(crate) const ENABLE: u64 = 1 << 0;
    /// Its interrupt is masked.
    pub(crate) const IMASK: u64 = 1 << 1;
    /// Its time has come.
    pub(crate) const ISTATUS: u64 = 1 << 2;
}
