//! One physical CPU's hypervisor extension: found, switched on, switched off.
#![allow(unsafe_code)] // writes control registers

use core::marker::PhantomData;
use core::sync::atomic::Ordering;

use axvcpu::{AxArchPerCpu, AxError, AxResult, AxVCpuHal};
use axvcpu_riscv::csr::{cause, irq, num as snum, sstatus as sbits};
use axvcpu_riscv::paging::{MODE_SHIFT, Mode, SV39X4, SV48X4, SV57X4};

use crate::hext::{self, GUEST_INTERRUPTS, num, sstatus};
use crate::slot::Slot;
use crate::{asm, csr};

/// What a physical CPU's hypervisor extension can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Features {
    /// Guests have a timer of their own (Sstc).
    pub sstc: bool,
    /// Floating point (F and D).
    pub fp: bool,
    /// Access to the state of further extensions can be given to guests (Smstateen).
    pub stateen: bool,
    /// The bytes of a vector register; 0 without the vector extension.
    pub vlenb: usize,
    /// The bits of a VMID.
    pub vmid_bits: u32,
    /// A bit for the number of each stage-2 mode.
    pub stage2_modes: u16,
}

impl Features {
    /// Whether stage-2 tables of this format can be used.
    pub fn has_stage2(&self, mode: Mode) -> bool {
        mode.gstage && mode.number < 16 && self.stage2_modes & 1 << mode.number != 0
    }
}

/// What [`AxPerCpu::hardware_enable`](axvcpu::AxPerCpu::hardware_enable) found on the physical CPU this is called
/// on; `None` while virtualization is off there.
pub fn features<H: AxVCpuHal>() -> Option<Features> {
    Slot::enabled::<H>().map(Slot::features)
}

/// Exceptions a guest takes by itself: all that concern only what is its own.
///
/// Illegal instructions are among them, so that the first use of floating point cannot be made to trap. It would
/// not pay: firmware keeps these to itself first, so that one costs more than to move all the registers; and
/// what firmware then does to bring it here does not work everywhere (QEMU 10.0.13 keeps `mstatus.MPV` set).
pub(crate) const DELEGATED: u64 = 1 << 0 // fetch from a misaligned address
    | 1 << cause::FETCH_ACCESS
    | 1 << cause::ILLEGAL
    | 1 << cause::BREAKPOINT
    | 1 << cause::LOAD_MISALIGNED
    | 1 << cause::LOAD_ACCESS
    | 1 << cause::STORE_MISALIGNED
    | 1 << cause::STORE_ACCESS
    | 1 << cause::USER_ECALL
    | 1 << cause::FETCH_PAGE
    | 1 << cause::LOAD_PAGE
    | 1 << cause::STORE_PAGE;

/// `cycle`, `time` and `instret`. The other counters are the host's.
const COUNTERS: u64 = 0b111;

/// Bit of `hstateen0`: the guest's own use of `senvcfg`.
const STATEEN_SENVCFG: u64 = 1 << 62;
const HSTATEEN0: u16 = 0x60c;

/// A physical CPU with the hypervisor extension.
///
/// While it is enabled the host must leave `stvec` and `sscratch` as they are, and the hypervisor CSRs to this
/// crate.
#[derive(Debug)]
pub struct RiscvPerCpu<H> {
    cpu: usize,
    enabled: bool,
    /// `hedeleg`, `hideleg`, `hie`, `hcounteren` and `henvcfg` as they were before.
    before: [u64; 5],
    hal: PhantomData<fn() -> H>,
}

impl<H: AxVCpuHal> AxArchPerCpu for RiscvPerCpu<H> {
    fn new(cpu_id: usize) -> AxResult<Self> {
        Slot::of(cpu_id).ok_or(AxError::InvalidInput)?;
        Ok(Self { cpu: cpu_id, enabled: false, before: [0; 5], hal: PhantomData })
    }

    fn is_enabled(&self) -> bool {
        self.enabled
    }

    fn hardware_enable(&mut self) -> AxResult {
        let slot = self.slot()?;
        if slot.is_enabled() {
            return Err(AxError::ResourceBusy); // by another `AxPerCpu`
        }
        let features = detect().ok_or(AxError::Unsupported)?;
        let host = &slot.host;
        for (word, value) in [
            (&host.stvec, csr::read::<{ STVEC }>()),
            (&host.sscratch, csr::read::<{ snum::SSCRATCH }>()),
            (&host.sstatus, csr::read::<{ snum::SSTATUS }>()),
            (&host.hstatus, csr::read::<{ num::HSTATUS }>()),
            (&host.scounteren, csr::read::<{ snum::SCOUNTEREN }>()),
            (&host.senvcfg, csr::read::<{ snum::SENVCFG }>()),
        ] {
            word.store(value, Ordering::Relaxed);
        }
        self.before = [
            csr::read::<{ num::HEDELEG }>(),
            csr::read::<{ num::HIDELEG }>(),
            csr::read::<{ num::HIE }>(),
            csr::read::<{ num::HCOUNTEREN }>(),
            csr::read::<{ num::HENVCFG }>(),
        ];
        // SAFETY: no guest runs. These registers have an effect on guests only.
        unsafe {
            csr::write::<{ num::HGATP }>(0);
            csr::write::<{ num::HVIP }>(0);
            csr::write::<{ num::HIE }>(0);
            csr::write::<{ num::HGEIE }>(0);
            csr::write::<{ num::HEDELEG }>(DELEGATED);
            csr::write::<{ num::HIDELEG }>(GUEST_INTERRUPTS);
            csr::write::<{ num::HCOUNTEREN }>(COUNTERS);
            if features.stateen {
                csr::write::<HSTATEEN0>(STATEEN_SENVCFG);
            }
        }
        slot.set_enabled(Some(features));
        self.enabled = true;
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
        let [hedeleg, hideleg, hie, hcounteren, henvcfg] = self.before;
        // SAFETY: no guest is on this CPU; the values are those from before.
        unsafe {
            csr::write::<{ num::HGATP }>(0);
            csr::write::<{ num::HVIP }>(0);
            csr::write::<{ num::HIE }>(hie);
            csr::write::<{ num::HEDELEG }>(hedeleg);
            csr::write::<{ num::HIDELEG }>(hideleg);
            csr::write::<{ num::HCOUNTEREN }>(hcounteren);
            csr::write::<{ num::HENVCFG }>(henvcfg);
        }
        asm::fence_gstage_all();
        slot.set_enabled(None);
        self.enabled = false;
        Ok(())
    }
}

impl<H: AxVCpuHal> RiscvPerCpu<H> {
    fn slot(&self) -> AxResult<&'static Slot> {
        Slot::of(self.cpu)
            .filter(|_| H::cpu_id() == self.cpu)
            .ok_or(AxError::WrongCpu { bound: self.cpu, current: H::cpu_id() })
    }
}

const STVEC: u16 = snum::STVEC;

/// Looks at the hart this runs on; `None` without the hypervisor extension.
fn detect() -> Option<Features> {
    asm::probe::<{ num::HSTATUS }>()?;
    let vmid_bits;
    let mut stage2_modes = 0;
    // SAFETY: no guest runs, so that `hgatp` translates nothing but what `hlv` would ask for; it ends as 0.
    // FS and VS switch on units that this code does not use. STCE has an effect on guests only.
    unsafe {
        for mode in [SV39X4, SV48X4, SV57X4] {
            csr::write::<{ num::HGATP }>(mode.number << MODE_SHIFT);
            // An unsupported mode makes the write void.
            if csr::read::<{ num::HGATP }>() >> MODE_SHIFT == mode.number {
                stage2_modes |= 1 << mode.number;
            }
        }
        csr::write::<{ num::HGATP }>(SV39X4.number << MODE_SHIFT | VMID_MASK << VMID_SHIFT);
        vmid_bits = (csr::read::<{ num::HGATP }>() >> VMID_SHIFT & VMID_MASK).count_ones();
        csr::write::<{ num::HGATP }>(0);

        let before = csr::read::<{ snum::SSTATUS }>();
        csr::set::<{ snum::SSTATUS }>(sbits::FS | sstatus::VS);
        let units = csr::read::<{ snum::SSTATUS }>();
        let vlenb = match units & sstatus::VS {
            0 => 0,
            _ => asm::probe::<{ num::VLENB }>().unwrap_or(0) as usize,
        };
        csr::write::<{ snum::SSTATUS }>(before);

        let henvcfg = csr::read::<{ num::HENVCFG }>();
        csr::set::<{ num::HENVCFG }>(hext::HENVCFG_STCE);
        let sstc = csr::read::<{ num::HENVCFG }>() & hext::HENVCFG_STCE != 0
            && asm::probe::<{ num::VSTIMECMP }>().is_some();
        csr::write::<{ num::HENVCFG }>(henvcfg);

        Some(Features {
            sstc,
            fp: units & sbits::FS != 0,
            stateen: asm::probe::<HSTATEEN0>().is_some(),
            vlenb,
            vmid_bits,
            stage2_modes,
        })
    }
}

/// The VMID field of `hgatp`.
pub(crate) const VMID_SHIFT: u32 = 44;
const VMID_MASK: u64 = (1 << 14) - 1;

// The three interrupts are the guest's, one number up.
const _: () = assert!(GUEST_INTERRUPTS == 1 << (irq::SOFTWARE + 1) | 1 << 6 | 1 << 10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_looked_up_by_number() {
        let features = Features { stage2_modes: 1 << 8 | 1 << 9, ..Features::default() };
        assert!(features.has_stage2(SV39X4) && features.has_stage2(SV48X4));
        assert!(!features.has_stage2(SV57X4));
        assert!(!features.has_stage2(axvcpu_riscv::paging::SV39));
    }

    #[test]
    fn guests_never_take_what_concerns_the_host() {
        for cause in [9, 10, 20, 21, 22, 23] {
            assert_eq!(DELEGATED & 1 << cause, 0, "{cause}");
        }
    }
}
