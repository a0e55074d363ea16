//! One physical CPU's EL2: found, switched on, switched off.
#![allow(unsafe_code)] // writes control registers

use core::marker::PhantomData;
use core::sync::atomic::Ordering;

use axvcpu::{AxArchPerCpu, AxError, AxMmHal, AxResult, AxVCpuHal, HostPhysAddr};
use axvcpu_arm::stage2::Ipa;
use axvcpu_arm::sysreg::*;

use crate::control::{cnthctl, cptr, hcr, mdcr};
use crate::slot::Slot;
use crate::switch::HOST_VBAR;
use crate::{asm, el1, interface, sys};

/// What a physical CPU can do for guests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Features {
    /// The host runs with virtualization host extensions (`HCR_EL2.E2H`).
    pub vhe: bool,
    /// Pointer authentication.
    pub pauth: bool,
    /// Error records (FEAT_RAS).
    pub ras: bool,
    /// Fine-grained traps: 1 for FEAT_FGT, 2 for FEAT_FGT2 as well.
    pub fine_traps: u32,
    /// Memory partitioning (FEAT_MPAM).
    pub mpam: bool,
    /// `HCRX_EL2` exists (FEAT_HCX).
    pub hcrx: bool,
    /// The bits of a VMID: 8 or 16.
    pub vmid_bits: u32,
    /// The bits of a physical address, at most 48.
    pub pa_bits: u32,
    /// How many list registers the virtual CPU interface has.
    pub list_registers: u32,
    /// How many registers of active priorities each group has: 1, 2 or 4.
    pub priority_registers: u32,
    /// The bytes of an SVE vector register; 0 without SVE.
    pub sve_bytes: usize,
}

/// The bits of a physical address, by `ID_AA64MMFR0_EL1.PARange` and `VTCR_EL2.PS`. More than the last there is no room for in a
/// descriptor.
const PA_BITS: [u32; 6] = [32, 36, 40, 42, 44, 48];

impl Features {
    /// [`pa_bits`](Self::pa_bits) as `VTCR_EL2.PS` has it.
    pub(crate) fn pa_range(&self) -> u64 {
        PA_BITS.iter().rposition(|&bits| bits <= self.pa_bits).unwrap_or(0) as u64
    }

    /// Whether stage-2 tables of this shape can be used.
    pub fn has_stage2(&self, ipa: Ipa) -> bool {
        // A table that starts at the highest level needs addresses that reach there.
        ipa.bits() <= self.pa_bits && (ipa.bits() <= 40 || self.pa_bits >= 44)
    }

    pub(crate) fn pack(&self) -> u64 {
        let flags = [self.vhe, self.pauth, self.mpam, self.hcrx, self.ras];
        let flags = flags.iter().rev().fold(0, |all, &flag| all << 1 | u64::from(flag));
        flags
            | u64::from(self.vmid_bits) << 8
            | u64::from(self.pa_bits) << 16
            | u64::from(self.list_registers) << 24
            | u64::from(self.priority_registers) << 32
            | u64::from(self.fine_traps) << 40
    }

    pub(crate) fn unpack(word: u64, sve_bytes: usize) -> Self {
        let byte = |at: u32| (word >> at & 0xff) as u32;
        Self {
            vhe: word & 1 != 0,
            pauth: word & 2 != 0,
            mpam: word & 4 != 0,
            hcrx: word & 8 != 0,
            ras: word & 16 != 0,
            vmid_bits: byte(8),
            pa_bits: byte(16),
            list_registers: byte(24),
            priority_registers: byte(32),
            fine_traps: byte(40),
            sve_bytes,
        }
    }
}

/// What [`AxPerCpu::hardware_enable`](axvcpu::AxPerCpu::hardware_enable) found on the physical CPU this is called
/// on; `None` while virtualization is off there.
pub fn features<H: AxVCpuHal>() -> Option<Features> {
    Slot::enabled::<H>().map(Slot::features)
}

/// A physical CPU at EL2.
///
/// Enabling it needs EL2 with `HCR_EL2.TGE` clear and a GICv3 with its system registers; else it is
/// [`Unsupported`](AxError::Unsupported). While it is enabled the host must leave `VBAR_EL2` as it is, and the registers that
/// configure virtualization and those of EL1 to this crate.
#[derive(Debug)]
pub struct ArmPerCpu<H> {
    cpu: usize,
    enabled: bool,
    before: Before,
    hal: PhantomData<fn() -> H>,
}

macro_rules! registers {
    ($($(#[$doc:meta])* $name:ident, $save:ident, $restore:ident, $count:ident = [$($register:ident),*];)*) => {
        $(
            const $count: usize = [$($register),*].len();

            $(#[$doc])*
            fn $save() -> [u64; $count] {
                [$(sys::read::<$register>()),*]
            }

            /// # Safety
            ///
            /// The registers exist; the values came from this CPU, or have no effect but on guests; no guest is on it.
            unsafe fn $restore(values: [u64; $count]) {
                let mut values = values.into_iter();
                // SAFETY: the caller's promise.
                $(unsafe { sys::write::<$register>(values.next().unwrap_or(0)) };)*
            }
        )*

        /// What the host had in the registers that are taken from it; zeros in those there are not.
        #[derive(Clone, Copy, Debug)]
        struct Before { $($name: [u64; $count],)* }

        impl Before {
            const NOTHING: Self = Self { $($name: [0; $count],)* };
        }
    };
}

registers! {
    /// What every CPU has.
    always, save, restore, ALWAYS = [
        MDCR_EL2, HCR_EL2, CPTR_EL2, HSTR_EL2, CNTHCTL_EL2, CNTVOFF_EL2, VTCR_EL2, VTTBR_EL2, VPIDR_EL2, VMPIDR_EL2,
        ICC_SRE_EL2, ICH_HCR_EL2
    ];
    /// `HCRX_EL2`.
    hcrx, save_hcrx, restore_hcrx, HCRX = [HCRX_EL2];
    /// Fine-grained traps.
    fine, save_fine, restore_fine, FINE =
        [HFGRTR_EL2, HFGWTR_EL2, HFGITR_EL2, HDFGRTR_EL2, HDFGWTR_EL2];
    /// The second set of them.
    finer, save_finer, restore_finer, FINER =
        [HFGRTR2_EL2, HFGWTR2_EL2, HFGITR2_EL2, HDFGRTR2_EL2, HDFGWTR2_EL2];
    /// Memory partitioning.
    mpam, save_mpam, restore_mpam, MPAM = [MPAMHCR_EL2, MPAM2_EL2];
}

/// Pages of the empty table: as many as the largest root that fewer than 48 bits may have here.
const NOTHING_PAGES: usize = 2;

impl<H: AxVCpuHal> AxArchPerCpu for ArmPerCpu<H> {
    fn new(cpu_id: usize) -> AxResult<Self> {
        Slot::of(cpu_id).ok_or(AxError::InvalidInput)?;
        Ok(Self { cpu: cpu_id, enabled: false, before: Before::NOTHING, hal: PhantomData })
    }

    fn is_enabled(&self) -> bool {
        self.enabled
    }

    fn hardware_enable(&mut self) -> AxResult {
        let slot = self.slot()?;
        if slot.is_enabled() {
            return Err(AxError::ResourceBusy); // by another `AxPerCpu`
        }
        let mut features = detect().ok_or(AxError::Unsupported)?;
        let nothing = H::MmHal::alloc_contiguous(NOTHING_PAGES).ok_or(AxError::NoMemory)?;
        slot.nothing.store(nothing.as_u64(), Ordering::Relaxed);
        let vectors = sys::read::<VBAR_EL2>();
        slot.host_vectors.store(vectors, Ordering::Relaxed);
        HOST_VBAR.store(vectors, Ordering::Relaxed);
        self.before.always = save();
        self.enabled = true; // from here on there is something to undo
        // SAFETY: no guest runs. These registers have an effect on guests only, apart from E2H, which stays as it is.
        unsafe {
            sys::write::<VTTBR_EL2>(nothing.as_u64());
            sys::write::<VTCR_EL2>(empty_vtcr());
            sys::write::<HCR_EL2>(guest_hcr(&features));
            sys::write::<MDCR_EL2>(self.before.always[0] & mdcr::HPMN | mdcr::TRAPS);
            sys::write::<HSTR_EL2>(0);
            sys::write::<CNTHCTL_EL2>(cnthctl(features.vhe));
            sys::write::<VPIDR_EL2>(sys::read::<MIDR_EL1>());
        }
        self.take_optional(&features);
        silence(&features);
        interface::enable();
        sys::synchronize();
        asm::forget_all();
        features.sve_bytes = sve_bytes(&features);
        // SAFETY: traps of guests.
        unsafe { sys::write::<CPTR_EL2>(cptr::value(features.vhe, false, false)) };
        sys::synchronize();
        slot.set_enabled(Some(features));
        Ok(())
    }

    fn hardware_disable(&mut self) -> AxResult {
        let slot = self.slot()?;
        if !self.enabled {
            return Ok(()); // nothing was done that could be half-done
        }
        if slot.is_used() {
            return Err(AxError::ResourceBusy);
        }
        interface::disable();
        // SAFETY: no guest is on this CPU; the values are those from before.
        unsafe { restore(self.before.always) };
        self.give_optional(&slot.features());
        sys::synchronize();
        asm::forget_all();
        let nothing = HostPhysAddr::new(slot.nothing.swap(0, Ordering::Relaxed));
        // SAFETY: taken when this was enabled; translation has forgotten it.
        unsafe { H::MmHal::dealloc_contiguous(nothing, NOTHING_PAGES) };
        slot.set_enabled(None);
        self.enabled = false;
        Ok(())
    }
}

impl<H: AxVCpuHal> ArmPerCpu<H> {
    /// Takes the registers that not every CPU has. None of them traps anything but what guests are not told of.
    fn take_optional(&mut self, features: &Features) {
        let before = &mut self.before;
        // SAFETY: registers that are there, and mean something for guests only.
        unsafe {
            if features.hcrx {
                before.hcrx = save_hcrx();
                restore_hcrx([0; HCRX]);
            }
            if features.fine_traps > 0 {
                before.fine = save_fine();
                restore_fine([0; FINE]);
            }
            if features.fine_traps > 1 {
                before.finer = save_finer();
                restore_finer([0; FINER]);
            }
            if features.mpam {
                before.mpam = save_mpam();
                restore_mpam([MPAM_IDENTIFICATION, before.mpam[1] | MPAM_TRAPS]);
            }
        }
    }

    /// Gives them back.
    fn give_optional(&mut self, features: &Features) {
        let before = &self.before;
        // SAFETY: as above.
        unsafe {
            if features.hcrx {
                restore_hcrx(before.hcrx);
            }
            if features.fine_traps > 0 {
                restore_fine(before.fine);
            }
            if features.fine_traps > 1 {
                restore_finer(before.finer);
            }
            if features.mpam {
                restore_mpam(before.mpam);
            }
        }
    }

    fn slot(&self) -> AxResult<&'static Slot> {
        Slot::of(self.cpu)
            .filter(|_| H::cpu_id() == self.cpu)
            .ok_or(AxError::WrongCpu { bound: self.cpu, current: H::cpu_id() })
    }
}

/// `MPAMHCR_EL2`: reads of `MPAMIDR_EL1` trap.
const MPAM_IDENTIFICATION: u64 = 1 << 31;
/// `MPAM2_EL2`: EL1's registers trap.
const MPAM_TRAPS: u64 = 0b11 << 48;

/// Switches off what firmware may have left on of the registers that guests get or that are kept from them: the timers, whose
/// interrupts would be nobody's; breakpoints and watchpoints; the locks that keep debug exceptions from guests.
fn silence(features: &Features) {
    el1::set_cntv_ctl(features.vhe, 0);
    el1::set_cntp_ctl(features.vhe, 0);
    let dfr0 = sys::read::<ID_AA64DFR0_EL1>();
    silence_breakpoints(field(dfr0, 12) + 1, field(dfr0, 20) + 1);
    // SAFETY: locks of the debugger's, and of debug exceptions that only guests take.
    unsafe {
        sys::write::<OSDLR_EL1>(0);
        sys::write::<OSLAR_EL1>(0);
        sys::write::<MDSCR_EL1>(0);
    }
    sys::synchronize();
}

fn silence_breakpoints(breakpoints: u64, watchpoints: u64) {
    macro_rules! silence {
        ($($n:literal)*) => {
            $(
                // SAFETY: registers that are there; the hypervisor uses none of them.
                unsafe {
                    if $n < breakpoints {
                        sys::write::<{ DBGBCR0_EL1 + 8 * $n }>(0);
                    }
                    if $n < watchpoints {
                        sys::write::<{ DBGWCR0_EL1 + 8 * $n }>(0);
                    }
                }
            )*
        };
    }
    silence!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
}

/// `VTCR_EL2` for the empty table.
pub(crate) fn empty_vtcr() -> u64 {
    crate::control::VTCR | 0b01 << 6 | 25 // 39 bits, from level 1
}

/// `HCR_EL2` for guests that use all that the CPU has.
pub(crate) fn guest_hcr(features: &Features) -> u64 {
    let bit = |on, bits| if on { bits } else { 0 };
    hcr::GUEST
        | bit(features.vhe, hcr::E2H)
        | bit(features.pauth, hcr::APK_API)
        | bit(features.ras, hcr::TERR)
}

/// A field of 4 bits of an identification register.
pub(crate) const fn field(register: u64, at: u32) -> u64 {
    register >> at & 15
}

/// Looks at the CPU this runs on; `None` if it cannot have guests.
fn detect() -> Option<Features> {
    if sys::read::<CURRENT_EL>() >> 2 & 3 != 2 {
        return None;
    }
    let pfr0 = sys::read::<ID_AA64PFR0_EL1>();
    let config = sys::read::<HCR_EL2>();
    // A GICv3 or later with system registers.
    if field(pfr0, 24) == 0 || config & hcr::TGE != 0 {
        return None;
    }
    let (mmfr0, mmfr1) = (sys::read::<ID_AA64MMFR0_EL1>(), sys::read::<ID_AA64MMFR1_EL1>());
    let (isar1, isar2) = (sys::read::<ID_AA64ISAR1_EL1>(), sys::read::<ID_AA64ISAR2_EL1>());
    let pauth = [4, 8, 24, 28].into_iter().any(|at| field(isar1, at) != 0)
        || [8, 12].into_iter().any(|at| field(isar2, at) != 0);
    let (list_registers, priority_registers) = interface::shape()?;
    Some(Features {
        vhe: config & hcr::E2H != 0,
        pauth,
        ras: field(pfr0, 28) != 0,
        fine_traps: field(mmfr0, 56) as u32,
        mpam: field(pfr0, 40) != 0 || field(sys::read::<ID_AA64PFR1_EL1>(), 16) != 0,
        hcrx: field(mmfr1, 40) != 0,
        vmid_bits: if field(mmfr1, 4) == 2 { 16 } else { 8 },
        pa_bits: PA_BITS[(field(mmfr0, 0) as usize).min(PA_BITS.len() - 1)],
        list_registers,
        priority_registers,
        sve_bytes: usize::from(field(pfr0, 32) != 0), // measured later
    })
}

/// The size of an SVE register if there is SVE. Leaves it switched on.
fn sve_bytes(features: &Features) -> usize {
    if features.sve_bytes == 0 {
        return 0;
    }
    // SAFETY: the host uses no vectors; guests get as much as there is.
    unsafe {
        sys::write::<CPTR_EL2>(cptr::value(features.vhe, true, true));
        sys::synchronize();
        sys::write::<ZCR_EL2>(0x1ff);
        sys::synchronize();
        asm::sve_size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axvcpu_arm::stage2::{IPA39, IPA44, IPA48};

    #[test]
    fn features_are_kept_as_found() {
        let features = Features {
            vhe: true,
            pauth: false,
            ras: true,
            fine_traps: 2,
            mpam: true,
            hcrx: false,
            vmid_bits: 16,
            pa_bits: 44,
            list_registers: 16,
            priority_registers: 4,
            sve_bytes: 256,
        };
        assert_eq!(Features::unpack(features.pack(), 256), features);
        let others = Features { pauth: true, hcrx: true, ..Features::default() };
        assert_eq!(Features::unpack(others.pack(), 0), others);
        assert_eq!((features.pa_range(), others.pa_range()), (4, 0));
        assert!(features.has_stage2(IPA39) && features.has_stage2(IPA44));
        assert!(!features.has_stage2(IPA48));
    }
}
