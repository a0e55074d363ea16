//! System registers by their encoding, as instructions name them (Arm ARM, C5.1.2 "Principles of the System instruction
//! class encoding"; the registers: D24 "AArch64 System Register Descriptions"; the GIC's: IHI 0069, 12.2 and 12.4).

/// The number of a system register: op0, op1, CRn, CRm and op2 as they stand in bits 20 to 5 of `MRS` and `MSR`.
pub const fn reg(op0: u16, op1: u16, crn: u16, crm: u16, op2: u16) -> u16 {
    op0 << 14 | op1 << 11 | crn << 7 | crm << 3 | op2
}

/// op0 of a register.
pub const fn op0(reg: u16) -> u16 {
    reg >> 14
}

/// op1 of a register.
pub const fn op1(reg: u16) -> u16 {
    reg >> 11 & 7
}

/// CRn of a register.
pub const fn crn(reg: u16) -> u16 {
    reg >> 7 & 15
}

/// CRm of a register.
pub const fn crm(reg: u16) -> u16 {
    reg >> 3 & 15
}

/// op2 of a register.
pub const fn op2(reg: u16) -> u16 {
    reg & 7
}

/// The name by which EL2 reaches a register of EL1 or EL0 whose own name leads to EL2's while `HCR_EL2.E2H` is set: the
/// `_EL12` and `_EL02` aliases.
pub const fn alias(reg: u16) -> u16 {
    reg & !(7 << 11) | 5 << 11
}

macro_rules! registers {
    ($($(#[$doc:meta])* $name:ident = $op0:literal, $op1:literal, $crn:literal, $crm:literal, $op2:literal;)*) => {
        $($(#[$doc])* pub const $name: u16 = reg($op0, $op1, $crn, $crm, $op2);)*
    };
}

registers! {
    // Debug.
    /// Monitor debug system control.
    MDSCR_EL1 = 2, 0, 0, 2, 2;
    /// OS lock access.
    OSLAR_EL1 = 2, 0, 1, 0, 4;
    /// OS lock status.
    OSLSR_EL1 = 2, 0, 1, 1, 4;
    /// OS double lock.
    OSDLR_EL1 = 2, 0, 1, 3, 4;
    /// Breakpoint 0: value. 15 more follow in CRm.
    DBGBVR0_EL1 = 2, 0, 0, 0, 4;
    /// Breakpoint 0: control. 15 more follow in CRm.
    DBGBCR0_EL1 = 2, 0, 0, 0, 5;
    /// Watchpoint 0: control. 15 more follow in CRm.
    DBGWCR0_EL1 = 2, 0, 0, 0, 7;

    // Identification.
    /// The implementation.
    MIDR_EL1 = 3, 0, 0, 0, 0;
    /// The CPU's place in the machine.
    MPIDR_EL1 = 3, 0, 0, 0, 5;
    /// A minor revision of the implementation's own.
    REVIDR_EL1 = 3, 0, 0, 0, 6;
    /// Processor features 0.
    ID_AA64PFR0_EL1 = 3, 0, 0, 4, 0;
    /// Processor features 1.
    ID_AA64PFR1_EL1 = 3, 0, 0, 4, 1;
    /// Processor features 2.
    ID_AA64PFR2_EL1 = 3, 0, 0, 4, 2;
    /// SVE features.
    ID_AA64ZFR0_EL1 = 3, 0, 0, 4, 4;
    /// SME features.
    ID_AA64SMFR0_EL1 = 3, 0, 0, 4, 5;
    /// Debug features 0.
    ID_AA64DFR0_EL1 = 3, 0, 0, 5, 0;
    /// Debug features 1.
    ID_AA64DFR1_EL1 = 3, 0, 0, 5, 1;
    /// Instruction set attributes 0.
    ID_AA64ISAR0_EL1 = 3, 0, 0, 6, 0;
    /// Instruction set attributes 1.
    ID_AA64ISAR1_EL1 = 3, 0, 0, 6, 1;
    /// Instruction set attributes 2.
    ID_AA64ISAR2_EL1 = 3, 0, 0, 6, 2;
    /// Memory model features 0.
    ID_AA64MMFR0_EL1 = 3, 0, 0, 7, 0;
    /// Memory model features 1.
    ID_AA64MMFR1_EL1 = 3, 0, 0, 7, 1;
    /// Memory model features 2.
    ID_AA64MMFR2_EL1 = 3, 0, 0, 7, 2;
    /// The implementation's own identification.
    AIDR_EL1 = 3, 1, 0, 0, 7;
    /// Which cache `CCSIDR_EL1` tells of.
    CSSELR_EL1 = 3, 2, 0, 0, 0;
    /// Cache type.
    CTR_EL0 = 3, 3, 0, 0, 1;
    /// The block that `DC ZVA` zeroes.
    DCZID_EL0 = 3, 3, 0, 0, 7;

    // EL1 and EL0.
    /// System control.
    SCTLR_EL1 = 3, 0, 1, 0, 0;
    /// The implementation's own control.
    ACTLR_EL1 = 3, 0, 1, 0, 1;
    /// Access to floating point and SVE.
    CPACR_EL1 = 3, 0, 1, 0, 2;
    /// SVE vector length.
    ZCR_EL1 = 3, 0, 1, 2, 0;
    /// Translation table of the lower addresses.
    TTBR0_EL1 = 3, 0, 2, 0, 0;
    /// Translation table of the upper addresses.
    TTBR1_EL1 = 3, 0, 2, 0, 1;
    /// Translation control.
    TCR_EL1 = 3, 0, 2, 0, 2;
    /// Pointer authentication keys: instructions, A, low half.
    APIAKEYLO_EL1 = 3, 0, 2, 1, 0;
    /// High half.
    APIAKEYHI_EL1 = 3, 0, 2, 1, 1;
    /// Instructions, B, low half.
    APIBKEYLO_EL1 = 3, 0, 2, 1, 2;
    /// High half.
    APIBKEYHI_EL1 = 3, 0, 2, 1, 3;
    /// Data, A, low half.
    APDAKEYLO_EL1 = 3, 0, 2, 2, 0;
    /// High half.
    APDAKEYHI_EL1 = 3, 0, 2, 2, 1;
    /// Data, B, low half.
    APDBKEYLO_EL1 = 3, 0, 2, 2, 2;
    /// High half.
    APDBKEYHI_EL1 = 3, 0, 2, 2, 3;
    /// Generic, low half.
    APGAKEYLO_EL1 = 3, 0, 2, 3, 0;
    /// High half.
    APGAKEYHI_EL1 = 3, 0, 2, 3, 1;
    /// The state that `ERET` restores.
    SPSR_EL1 = 3, 0, 4, 0, 0;
    /// Where `ERET` goes.
    ELR_EL1 = 3, 0, 4, 0, 1;
    /// EL0's stack pointer.
    SP_EL0 = 3, 0, 4, 1, 0;
    /// Auxiliary fault status 0.
    AFSR0_EL1 = 3, 0, 5, 1, 0;
    /// Auxiliary fault status 1.
    AFSR1_EL1 = 3, 0, 5, 1, 1;
    /// The last exception's syndrome.
    ESR_EL1 = 3, 0, 5, 2, 0;
    /// The last exception's address.
    FAR_EL1 = 3, 0, 6, 0, 0;
    /// The result of an address translation instruction.
    PAR_EL1 = 3, 0, 7, 4, 0;
    /// Memory attributes.
    MAIR_EL1 = 3, 0, 10, 2, 0;
    /// Auxiliary memory attributes.
    AMAIR_EL1 = 3, 0, 10, 3, 0;
    /// Exception vectors.
    VBAR_EL1 = 3, 0, 12, 0, 0;
    /// Context number.
    CONTEXTIDR_EL1 = 3, 0, 13, 0, 1;
    /// EL1's thread pointer.
    TPIDR_EL1 = 3, 0, 13, 0, 4;
    /// EL0's thread pointer.
    TPIDR_EL0 = 3, 3, 13, 0, 2;
    /// EL0's thread pointer that it cannot write.
    TPIDRRO_EL0 = 3, 3, 13, 0, 3;
    /// EL1's stack pointer.
    SP_EL1 = 3, 4, 4, 1, 0;
    /// Interrupt masks.
    DAIF = 3, 3, 4, 2, 1;
    /// The exception level.
    CURRENT_EL = 3, 0, 4, 2, 2;
    /// Floating-point control.
    FPCR = 3, 3, 4, 4, 0;
    /// Floating-point status.
    FPSR = 3, 3, 4, 4, 1;
    /// Flags.
    NZCV = 3, 3, 4, 2, 0;
    /// Interrupts that are pending.
    ISR_EL1 = 3, 0, 12, 1, 0;

    // Performance monitors.
    /// Control.
    PMCR_EL0 = 3, 3, 9, 12, 0;
    /// Enables counters.
    PMCNTENSET_EL0 = 3, 3, 9, 12, 1;
    /// The cycle counter.
    PMCCNTR_EL0 = 3, 3, 9, 13, 0;
    /// EL0's access.
    PMUSERENR_EL0 = 3, 3, 9, 14, 0;
    /// Identification of statistical profiling.
    PMSIDR_EL1 = 3, 0, 9, 9, 7;

    // The generic timer.
    /// EL0's access to the timer.
    CNTKCTL_EL1 = 3, 0, 14, 1, 0;
    /// The counter's frequency.
    CNTFRQ_EL0 = 3, 3, 14, 0, 0;
    /// The physical counter.
    CNTPCT_EL0 = 3, 3, 14, 0, 1;
    /// The virtual counter.
    CNTVCT_EL0 = 3, 3, 14, 0, 2;
    /// EL1's physical timer: value, which counts down.
    CNTP_TVAL_EL0 = 3, 3, 14, 2, 0;
    /// EL1's physical timer: control.
    CNTP_CTL_EL0 = 3, 3, 14, 2, 1;
    /// EL1's physical timer: compare value.
    CNTP_CVAL_EL0 = 3, 3, 14, 2, 2;
    /// Virtual timer: value, which counts down.
    CNTV_TVAL_EL0 = 3, 3, 14, 3, 0;
    /// Virtual timer: control.
    CNTV_CTL_EL0 = 3, 3, 14, 3, 1;
    /// Virtual timer: compare value.
    CNTV_CVAL_EL0 = 3, 3, 14, 3, 2;
    /// What the virtual counter is behind the physical one.
    CNTVOFF_EL2 = 3, 4, 14, 0, 3;
    /// EL1's access to the physical timer.
    CNTHCTL_EL2 = 3, 4, 14, 1, 0;
    /// EL2's physical timer: control.
    CNTHP_CTL_EL2 = 3, 4, 14, 2, 1;
    /// EL2's physical timer: compare value.
    CNTHP_CVAL_EL2 = 3, 4, 14, 2, 2;

    // EL2.
    /// `MIDR_EL1` as the guest sees it.
    VPIDR_EL2 = 3, 4, 0, 0, 0;
    /// `MPIDR_EL1` as the guest sees it.
    VMPIDR_EL2 = 3, 4, 0, 0, 5;
    /// System control.
    SCTLR_EL2 = 3, 4, 1, 0, 0;
    /// Hypervisor configuration.
    HCR_EL2 = 3, 4, 1, 1, 0;
    /// Debug configuration.
    MDCR_EL2 = 3, 4, 1, 1, 1;
    /// Traps of floating point, SVE and trace.
    CPTR_EL2 = 3, 4, 1, 1, 2;
    /// Traps of AArch32 system registers.
    HSTR_EL2 = 3, 4, 1, 1, 3;
    /// Fine-grained traps of reads.
    HFGRTR_EL2 = 3, 4, 1, 1, 4;
    /// Fine-grained traps of writes.
    HFGWTR_EL2 = 3, 4, 1, 1, 5;
    /// Fine-grained traps of instructions.
    HFGITR_EL2 = 3, 4, 1, 1, 6;
    /// The implementation's own traps.
    HACR_EL2 = 3, 4, 1, 1, 7;
    /// SVE vector length.
    ZCR_EL2 = 3, 4, 1, 2, 0;
    /// More hypervisor configuration.
    HCRX_EL2 = 3, 4, 1, 2, 2;
    /// Translation table.
    TTBR0_EL2 = 3, 4, 2, 0, 0;
    /// Translation control.
    TCR_EL2 = 3, 4, 2, 0, 2;
    /// The stage-2 table, and the VMID.
    VTTBR_EL2 = 3, 4, 2, 1, 0;
    /// Stage-2 translation control.
    VTCR_EL2 = 3, 4, 2, 1, 2;
    /// Fine-grained traps of debug registers, reads.
    HDFGRTR_EL2 = 3, 4, 3, 1, 4;
    /// Fine-grained traps of debug registers, writes.
    HDFGWTR_EL2 = 3, 4, 3, 1, 5;
    /// Fine-grained traps of activity monitors.
    HAFGRTR_EL2 = 3, 4, 3, 1, 6;
    /// The state that `ERET` restores.
    SPSR_EL2 = 3, 4, 4, 0, 0;
    /// Where `ERET` goes.
    ELR_EL2 = 3, 4, 4, 0, 1;
    /// The last exception's syndrome.
    ESR_EL2 = 3, 4, 5, 2, 0;
    /// The last exception's virtual address.
    FAR_EL2 = 3, 4, 6, 0, 0;
    /// The last stage-2 fault's guest physical address.
    HPFAR_EL2 = 3, 4, 6, 0, 4;
    /// Memory attributes.
    MAIR_EL2 = 3, 4, 10, 2, 0;
    /// Exception vectors.
    VBAR_EL2 = 3, 4, 12, 0, 0;
    /// The SError that the guest has deferred (RAS).
    VDISR_EL2 = 3, 4, 12, 1, 1;
    /// Memory partitioning: identification traps (MPAM).
    MPAMHCR_EL2 = 3, 4, 10, 4, 0;
    /// Memory partitioning: EL2's partition, and traps of EL1's registers (MPAM).
    MPAM2_EL2 = 3, 4, 10, 5, 0;
    /// More fine-grained traps of reads (FEAT_FGT2).
    HFGRTR2_EL2 = 3, 4, 3, 1, 2;
    /// More fine-grained traps of writes.
    HFGWTR2_EL2 = 3, 4, 3, 1, 3;
    /// More fine-grained traps of instructions.
    HFGITR2_EL2 = 3, 4, 3, 1, 7;
    /// More fine-grained traps of debug registers, reads.
    HDFGRTR2_EL2 = 3, 4, 3, 1, 0;
    /// More fine-grained traps of debug registers, writes.
    HDFGWTR2_EL2 = 3, 4, 3, 1, 1;
    /// The thread pointer.
    TPIDR_EL2 = 3, 4, 13, 0, 2;

    // The GIC's CPU interface.
    /// Priority mask.
    ICC_PMR_EL1 = 3, 0, 4, 6, 0;
    /// Deactivates an interrupt.
    ICC_DIR_EL1 = 3, 0, 12, 11, 1;
    /// Running priority.
    ICC_RPR_EL1 = 3, 0, 12, 11, 3;
    /// Generates a software interrupt of group 1.
    ICC_SGI1R_EL1 = 3, 0, 12, 11, 5;
    /// The same, of the other security state.
    ICC_ASGI1R_EL1 = 3, 0, 12, 11, 6;
    /// The same, of group 0.
    ICC_SGI0R_EL1 = 3, 0, 12, 11, 7;
    /// Acknowledges an interrupt of group 1.
    ICC_IAR1_EL1 = 3, 0, 12, 12, 0;
    /// Ends an interrupt of group 1.
    ICC_EOIR1_EL1 = 3, 0, 12, 12, 1;
    /// The highest priority pending interrupt of group 1.
    ICC_HPPIR1_EL1 = 3, 0, 12, 12, 2;
    /// Binary point of group 1.
    ICC_BPR1_EL1 = 3, 0, 12, 12, 3;
    /// Control.
    ICC_CTLR_EL1 = 3, 0, 12, 12, 4;
    /// System register enable.
    ICC_SRE_EL1 = 3, 0, 12, 12, 5;
    /// Enables group 0.
    ICC_IGRPEN0_EL1 = 3, 0, 12, 12, 6;
    /// Enables group 1.
    ICC_IGRPEN1_EL1 = 3, 0, 12, 12, 7;
    /// System register enable of EL2.
    ICC_SRE_EL2 = 3, 4, 12, 9, 5;

    // The GIC's hypervisor interface.
    /// Active priorities of group 0; three more follow.
    ICH_AP0R0_EL2 = 3, 4, 12, 8, 0;
    /// Active priorities of group 1; three more follow.
    ICH_AP1R0_EL2 = 3, 4, 12, 9, 0;
    /// Hypervisor control.
    ICH_HCR_EL2 = 3, 4, 12, 11, 0;
    /// What the virtual CPU interface can do.
    ICH_VTR_EL2 = 3, 4, 12, 11, 1;
    /// Why there is a maintenance interrupt.
    ICH_MISR_EL2 = 3, 4, 12, 11, 2;
    /// Which list registers are empty.
    ICH_ELRSR_EL2 = 3, 4, 12, 11, 5;
    /// The guest's own view of its CPU interface.
    ICH_VMCR_EL2 = 3, 4, 12, 11, 7;
    /// List register 0; 15 more follow.
    ICH_LR0_EL2 = 3, 4, 12, 12, 0;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_taken_apart() {
        let parts = |r| (op0(r), op1(r), crn(r), crm(r), op2(r));
        assert_eq!(parts(ICC_SGI1R_EL1), (3, 0, 12, 11, 5));
        assert_eq!(parts(alias(SCTLR_EL1)), (3, 5, 1, 0, 0));
        assert_eq!(parts(alias(CNTV_CTL_EL0)), (3, 5, 14, 3, 1));
        // mrs x0, hcr_el2
        assert_eq!(0xd520_0000 | u32::from(HCR_EL2) << 5, 0xd53c_1100);
    }
}
