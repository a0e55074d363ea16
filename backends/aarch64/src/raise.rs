//! Exceptions that the guest is made to take (Arm ARM, D1.3.5 "Exception entry", `AArch64.TakeException`).

use axvcpu::AxVCpuHal;
use axvcpu_arm::esr::{self, class};

use crate::el1;
use crate::vcpu::ArmVCpu;

/// An exception of the guest's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exception {
    /// `ESR_EL1`, for a guest at EL1: the classes for EL0 follow from where the guest is.
    pub(crate) syndrome: u64,
    /// `FAR_EL1`; `None` leaves it as it is.
    pub(crate) address: Option<u64>,
}

impl Exception {
    /// An instruction there is not.
    pub(crate) const UNDEFINED: Self =
        Self { syndrome: esr::of_class(class::UNKNOWN), address: None };
}

/// Fields of the processor state.
mod pstate {
    /// Negative, zero, carry and overflow.
    pub(super) const NZCV: u64 = 0xf << 28;
    /// Data-independent timing.
    pub(super) const DIT: u64 = 1 << 24;
    /// Software step: the next instruction is executed before the step is taken.
    pub(super) const SS: u64 = 1 << 21;
    /// How the last branch went, as long as it was the last instruction.
    pub(super) const BTYPE: u64 = 0b11 << 10;
    /// Privileged access never.
    pub(super) const PAN: u64 = 1 << 22;
    /// Speculative store bypass safe.
    pub(super) const SSBS: u64 = 1 << 12;
    /// The exception level and stack pointer.
    pub(super) const MODE: u64 = 0xf;
    pub(super) const EL0: u64 = 0;
    pub(super) const EL1T: u64 = 4;
}

/// `SCTLR_EL1`: PAN is left alone on an exception.
const SPAN: u64 = 1 << 23;
/// `SCTLR_EL1`: what SSBS becomes on an exception.
const DSSBS: u64 = 1 << 44;

impl<H: AxVCpuHal> ArmVCpu<H> {
    /// Whether the guest is at EL0.
    pub(crate) fn in_user_mode(&self) -> bool {
        self.context.pstate & pstate::MODE == pstate::EL0
    }

    /// Goes on behind the instruction at the program counter, which has been carried out for the guest.
    #[inline]
    pub(crate) fn advance(&mut self) {
        self.context.pc = self.context.pc.wrapping_add(4);
        self.context.pstate &= !(pstate::SS | pstate::BTYPE);
    }

    /// Makes the guest take an exception at its program counter. The vCPU is resident.
    pub(crate) fn raise(&mut self, Exception { syndrome, address }: Exception) {
        let features = self.slot().features();
        let vhe = features.vhe;
        let before = self.context.pstate;
        let (offset, user) = match before & pstate::MODE {
            pstate::EL0 => (0x400, true),
            pstate::EL1T => (0, false),
            _ => (0x200, false),
        };
        // The class tells where an abort came from.
        let lower = match esr::class(syndrome) {
            class::DATA | class::FETCH if user => 1 << 26,
            _ => 0,
        };
        el1::set_elr(vhe, self.context.pc);
        el1::set_spsr(vhe, before);
        el1::set_esr(vhe, syndrome & !lower);
        if let Some(address) = address {
            el1::set_far(vhe, address);
        }
        let control = el1::sctlr(vhe);
        let pan = if control & SPAN == 0 && has_pan() { pstate::PAN } else { 0 };
        let ssbs = if control & DSSBS != 0 { pstate::SSBS } else { 0 };
        let kept = before & (pstate::NZCV | pstate::DIT | pstate::PAN);
        self.context.pstate = crate::vcpu::EL1H_MASKED | kept | pan | ssbs;
        self.context.pc = el1::vbar(vhe).wrapping_add(offset);
    }
}

/// Whether there is PAN to be set.
fn has_pan() -> bool {
    crate::percpu::field(crate::sys::read::<{ axvcpu_arm::sysreg::ID_AA64MMFR1_EL1 }>(), 20) != 0
}
