//! What the guest is told of its CPU (Arm ARM, D24.2, the `ID_AA64*` registers).
//!
//! A field is passed on if the guest can use what it tells of as it is on the hardware, or else has the value for "not
//! implemented". Fields nobody here knows are not passed on.

use axvcpu_arm::sysreg::*;

use crate::sys;

/// Four bits each, at these positions.
const fn fields<const N: usize>(positions: [u32; N]) -> u64 {
    let mut mask = 0;
    let mut i = 0;
    while i < N {
        mask |= 15 << positions[i];
        i += 1;
    }
    mask
}

/// `FP`, `AdvSIMD`, GIC, DIT, CSV2, CSV3.
const PFR0: u64 = fields([16, 20, 24, 48, 56, 60]);
/// EL0 and EL1 in AArch64 only. There is no EL2 and no EL3.
const PFR0_LEVELS: u64 = 0x11;
const PFR0_SVE: u64 = fields([32]);
/// CSV2, of which more than version 1 comes with registers that are not the guest's.
const CSV2: u32 = 56;
/// BT, SSBS.
const PFR1: u64 = fields([0, 4]);
/// Breakpoints, watchpoints and context-aware breakpoints: the fewest there can be, two, two and one; Debug version 8.0.
const DFR0: u64 = 6 | 1 << 12 | 1 << 20;
/// All that instructions can do in registers and memory, but for TME.
const ISAR0: u64 = !fields([0, 24]);
/// DPB, pointer authentication in its two older kinds, JSCVT, FCMA, LRCPC, FRINTTS, SB, BF16, DGH, I8MM; XS and LS64 have controls of the
/// hypervisor's.
const ISAR1: u64 = fields([0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 44, 48, 52]);
/// RPRES, the newer pointer authentication, BC, CSSC; WFxT comes with new traps, MOPS with a control.
const ISAR2: u64 = fields([4, 8, 12, 20, 52]);
/// The size of physical addresses, ASIDs, granules of stage 1, ExS. Guests are little-endian: their accesses to devices are
/// taken for that.
const MMFR0: u64 = fields([0, 4, 20, 24, 28, 44]);
/// Granules with addresses of 52 bits are not told of.
const TGRAN16: u32 = 20;
const TGRAN4: u32 = 28;
/// Access and dirty flags, hierarchical permissions, PAN, execute-never by EL2 for EL0, ETS.
const MMFR1: u64 = fields([0, 12, 20, 28, 36]);
/// CnP, UAO, CCIDX, ST, AT, IDS, BBM, E0PD.
const MMFR2: u64 = fields([0, 4, 20, 28, 32, 36, 52, 60]);

/// The value of an identification register for guests.
pub(crate) fn value(reg: u16, sve: bool) -> u64 {
    match reg {
        ID_AA64PFR0_EL1 => pfr0(sys::read::<ID_AA64PFR0_EL1>(), sve),
        ID_AA64PFR1_EL1 => sys::read::<ID_AA64PFR1_EL1>() & PFR1,
        ID_AA64ZFR0_EL1 if sve => sys::read::<ID_AA64ZFR0_EL1>(),
        ID_AA64DFR0_EL1 => DFR0,
        ID_AA64ISAR0_EL1 => sys::read::<ID_AA64ISAR0_EL1>() & ISAR0,
        ID_AA64ISAR1_EL1 => sys::read::<ID_AA64ISAR1_EL1>() & ISAR1,
        ID_AA64ISAR2_EL1 => sys::read::<ID_AA64ISAR2_EL1>() & ISAR2,
        ID_AA64MMFR0_EL1 => mmfr0(sys::read::<ID_AA64MMFR0_EL1>()),
        ID_AA64MMFR1_EL1 => mmfr1(sys::read::<ID_AA64MMFR1_EL1>()),
        ID_AA64MMFR2_EL1 => sys::read::<ID_AA64MMFR2_EL1>() & MMFR2,
        // Of AArch32, which the guest does not have, and of what has no name yet.
        _ => 0,
    }
}

fn pfr0(real: u64, sve: bool) -> u64 {
    let csv2 = real >> CSV2 & 15;
    let sve = if sve { real & PFR0_SVE } else { 0 };
    real & PFR0 & !fields([CSV2, 24]) | csv2.min(1) << CSV2 | 1 << 24 | PFR0_LEVELS | sve
}

fn mmfr1(real: u64) -> u64 {
    // More than the two flags comes with controls that there are not.
    real & MMFR1 & !15 | (real & 15).min(2)
}

fn mmfr0(real: u64) -> u64 {
    // 52-bit addresses make no difference to stage 2, which has 48.
    let range = (real & 15).min(5);
    let tgran4 = if real >> TGRAN4 & 15 == 15 { 15 } else { 0 };
    let tgran16 = (real >> TGRAN16 & 15).min(1);
    real & MMFR0 & !fields([0, TGRAN4, TGRAN16]) | range | tgran4 << TGRAN4 | tgran16 << TGRAN16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_units() {
        let real = 0x1201_1111_2120_1222; // QEMU's `max` has EL2, EL3, AArch32, RAS and SVE
        let seen = pfr0(real, false);
        assert_eq!(seen & 0xffff, 0x11);
        assert_eq!((seen >> 24 & 15, seen >> 28 & 15, seen >> 32 & 15), (1, 0, 0));
        assert_eq!(seen >> 56 & 15, 1);
        assert_eq!(pfr0(real, true) >> 32 & 15, 1);
    }

    #[test]
    fn addresses_have_48_bits_at_most() {
        assert_eq!(mmfr0(0x6), 5);
        assert_eq!(mmfr0(0x4) & 15, 4);
        assert_eq!(mmfr0(1 << TGRAN4 | 2 << TGRAN16), 1 << TGRAN16);
        assert_eq!(mmfr0(15 << TGRAN4), 15 << TGRAN4);
    }

    #[test]
    fn what_is_not_known_is_not_told() {
        assert_eq!(value(ID_AA64SMFR0_EL1, true), 0);
        assert_eq!(value(reg(3, 0, 0, 1, 0), true), 0);
        assert_eq!(value(ID_AA64DFR0_EL1, true) >> 8 & 15, 0, "no performance monitors");
    }
}
