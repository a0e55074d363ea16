//! The guest's system registers, which the CPU keeps for as long as no other vCPU is run on it.
#![allow(unsafe_code)] // writes guest registers

use axvcpu_arm::sysreg::*;

use crate::sys;

macro_rules! el1_registers {
    (renamed { $($renamed:ident = $renamed_reg:ident,)* } plain { $($plain:ident = $plain_reg:ident,)* }) => {
        /// The registers of EL1 and EL0.
        #[derive(Clone, Copy, Debug, Default)]
        pub(crate) struct El1 { $(pub(crate) $renamed: u64,)* $(pub(crate) $plain: u64,)* }

        impl El1 {
            /// Takes them from the CPU.
            pub(crate) fn save(vhe: bool) -> Self {
                if vhe {
                    Self {
                        $($renamed: sys::read::<{ alias($renamed_reg) }>(),)*
                        $($plain: sys::read::<$plain_reg>(),)*
                    }
                } else {
                    Self {
                        $($renamed: sys::read::<$renamed_reg>(),)*
                        $($plain: sys::read::<$plain_reg>(),)*
                    }
                }
            }

            /// Puts them into the CPU.
            ///
            /// # Safety
            ///
            /// No guest runs but the one these belong to.
            pub(crate) unsafe fn load(&self, vhe: bool) {
                // SAFETY: registers of the guest, for the guest.
                unsafe {
                    if vhe {
                        $(sys::write::<{ alias($renamed_reg) }>(self.$renamed);)*
                    } else {
                        $(sys::write::<$renamed_reg>(self.$renamed);)*
                    }
                    $(sys::write::<$plain_reg>(self.$plain);)*
                }
            }
        }
    };
}

el1_registers! {
    // With E2H these names lead to EL2's own registers, and the guest's have other names.
    renamed {
    sctlr = SCTLR_EL1,
    cpacr = CPACR_EL1,
    ttbr0 = TTBR0_EL1,
    ttbr1 = TTBR1_EL1,
    tcr = TCR_EL1,
    spsr = SPSR_EL1,
    elr = ELR_EL1,
    afsr0 = AFSR0_EL1,
    afsr1 = AFSR1_EL1,
    esr = ESR_EL1,
    far = FAR_EL1,
    mair = MAIR_EL1,
    amair = AMAIR_EL1,
    vbar = VBAR_EL1,
    contextidr = CONTEXTIDR_EL1,
    cntkctl = CNTKCTL_EL1,
    }
    // And these do not.
    plain {
    sp_el0 = SP_EL0,
    sp_el1 = SP_EL1,
    tpidr_el0 = TPIDR_EL0,
    tpidrro_el0 = TPIDRRO_EL0,
    tpidr_el1 = TPIDR_EL1,
    par = PAR_EL1,
    csselr = CSSELR_EL1,
    mdscr = MDSCR_EL1,
    }
}

impl El1 {
    /// What a CPU starts with (Arm ARM, the reset values of `SCTLR_EL1`; RES1 bits and translation off).
    pub(crate) fn reset() -> Self {
        Self { sctlr: SCTLR_RESET, ..Self::default() }
    }
}

/// Bits that are RES1 where what they control is absent: LSMAOE, nTLSMD, SPAN, EOS, TSCXT, EIS.
const SCTLR_RESET: u64 = 1 << 29 | 1 << 28 | 1 << 23 | 1 << 22 | 1 << 20 | 1 << 11;

/// The keys of pointer authentication, where there is that.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Keys([u64; 10]);

impl Keys {
    /// Takes them from the CPU.
    pub(crate) fn save() -> Self {
        Self([
            sys::read::<APIAKEYLO_EL1>(),
            sys::read::<APIAKEYHI_EL1>(),
            sys::read::<APIBKEYLO_EL1>(),
            sys::read::<APIBKEYHI_EL1>(),
            sys::read::<APDAKEYLO_EL1>(),
            sys::read::<APDAKEYHI_EL1>(),
            sys::read::<APDBKEYLO_EL1>(),
            sys::read::<APDBKEYHI_EL1>(),
            sys::read::<APGAKEYLO_EL1>(),
            sys::read::<APGAKEYHI_EL1>(),
        ])
    }

    /// Puts them into the CPU.
    ///
    /// # Safety
    ///
    /// As for [`El1::load`]; and the host uses no pointer authentication.
    pub(crate) unsafe fn load(&self) {
        let [a, b, c, d, e, f, g, h, i, j] = self.0;
        // SAFETY: keys of the guest, for the guest.
        unsafe {
            sys::write::<APIAKEYLO_EL1>(a);
            sys::write::<APIAKEYHI_EL1>(b);
            sys::write::<APIBKEYLO_EL1>(c);
            sys::write::<APIBKEYHI_EL1>(d);
            sys::write::<APDAKEYLO_EL1>(e);
            sys::write::<APDAKEYHI_EL1>(f);
            sys::write::<APDBKEYLO_EL1>(g);
            sys::write::<APDBKEYHI_EL1>(h);
            sys::write::<APGAKEYLO_EL1>(i);
            sys::write::<APGAKEYHI_EL1>(j);
        }
    }
}

macro_rules! readers {
    ($($(#[$doc:meta])* $name:ident = $register:ident;)*) => {
        $($(#[$doc])* pub(crate) fn $name(vhe: bool) -> u64 {
            if vhe { sys::read::<{ alias($register) }>() } else { sys::read::<$register>() }
        })*
    };
}

macro_rules! writers {
    ($($(#[$doc:meta])* $name:ident = $register:ident;)*) => {
        $($(#[$doc])* pub(crate) fn $name(vhe: bool, value: u64) {
            // SAFETY: a register of the guest's, which has an effect on the guest alone.
            unsafe {
                if vhe {
                    sys::write::<{ alias($register) }>(value);
                } else {
                    sys::write::<$register>(value);
                }
            }
        })*
    };
}

// Of the guest that is loaded.
readers! {
    /// `SCTLR_EL1`.
    sctlr = SCTLR_EL1;
    /// `VBAR_EL1`.
    vbar = VBAR_EL1;
    /// The SVE vector length at EL1 and EL0, where there is SVE.
    zcr = ZCR_EL1;
    /// The virtual timer's control.
    cntv_ctl = CNTV_CTL_EL0;
    /// The virtual timer's compare value.
    cntv_cval = CNTV_CVAL_EL0;
    /// The physical timer's control.
    cntp_ctl = CNTP_CTL_EL0;
    /// The physical timer's compare value.
    cntp_cval = CNTP_CVAL_EL0;
}

writers! {
    /// `SPSR_EL1`.
    set_spsr = SPSR_EL1;
    /// `ELR_EL1`.
    set_elr = ELR_EL1;
    /// `ESR_EL1`.
    set_esr = ESR_EL1;
    /// `FAR_EL1`.
    set_far = FAR_EL1;
    /// The SVE vector length at EL1 and EL0, where there is SVE.
    set_zcr = ZCR_EL1;
    /// The virtual timer's control.
    set_cntv_ctl = CNTV_CTL_EL0;
    /// The virtual timer's compare value.
    set_cntv_cval = CNTV_CVAL_EL0;
    /// The physical timer's control.
    set_cntp_ctl = CNTP_CTL_EL0;
    /// The physical timer's compare value.
    set_cntp_cval = CNTP_CVAL_EL0;
}

/// Writes `MDSCR_EL1`.
pub(crate) fn set_mdscr(value: u64) {
    // SAFETY: debug exceptions of the guest's, which it takes itself.
    unsafe { sys::write::<MDSCR_EL1>(value) };
}
