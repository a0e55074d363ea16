//! The bench with AArch64's guests on it.

use axvcpu_arm::stage2::Ipa;

use super::Subject;
use super::guest::*;
use crate::bench;
pub(super) use crate::bench::Exit;
use crate::report::{Verdict, ensure_eq};

/// AArch64's guests. As [`generic::Subject::Guests`](crate::generic::Subject::Guests) they try the cases for any architecture
/// on a backend for this one.
pub struct Arm;

/// A machine.
pub(super) type Bench<S> = bench::Bench<S, Arm>;
/// A vCPU and what is expected of it.
pub(super) type Hart<S> = bench::Hart<S, Arm>;

/// What the guest's vectors reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trap {
    /// The number of the vector: its offset from `VBAR_EL1`, divided by 0x80.
    pub vector: u64,
    /// `ESR_EL1`.
    pub esr: u64,
    /// `ELR_EL1`.
    pub elr: u64,
    /// `FAR_EL1`.
    pub far: u64,
    /// `SPSR_EL1`.
    pub spsr: u64,
    /// What the CPU interface answered, if it was asked.
    pub intid: u64,
}

impl Trap {
    /// The exception class of a synchronous exception.
    pub(super) fn class(&self) -> u64 {
        self.esr >> 26 & 0x3f
    }
}

impl bench::Isa for Arm {
    type Format = Ipa;
    type Guest = Guest;
    type Trap = Trap;

    const CODE: u64 = CODE;
    const CODE_PAGES: u64 = CODE_PAGES;
    const DATA: u64 = DATA;
    const DATA_PAGES: u64 = DATA_PAGES;
    const DEVICE: u64 = DEVICE;
    const NUMBER: usize = 0;
    const REPORT: u64 = REPORT;
    const TRAP: u64 = TRAP;
    const END: u64 = END;

    fn trap([vector, esr, elr, far, spsr, intid]: [u64; 6]) -> Trap {
        Trap { vector, esr, elr, far, spsr, intid }
    }
}

impl<S: Subject> bench::GuestsOf<S> for Arm {
    fn format(subject: &S) -> Ipa {
        subject.stage2()
    }
}

impl<S: Subject> Hart<S> {
    /// Runs until the guest takes a synchronous exception of this class, from EL1 itself.
    #[track_caller]
    pub(super) fn exception(&self, class: u64) -> Verdict<Trap> {
        let trap = self.trap()?;
        if trap.vector != vector::SYNC || trap.class() != class {
            return Err(
                self.unexpected(&alloc::format!("expected class {class:#x}, found {trap:x?}"))
            );
        }
        Ok(trap)
    }

    /// Runs until the instruction at `elr` is undefined, and steps over it.
    #[track_caller]
    pub(super) fn undefined(&self, elr: u64) -> Verdict {
        let trap = self.exception(class::UNKNOWN)?;
        if trap.elr != elr {
            return Err(
                self.unexpected(&alloc::format!("expected it at {elr:#x}, found {trap:x?}"))
            );
        }
        Ok(self.vcpu.set_return_value(elr + 4)?)
    }

    /// Runs until the guest takes this interrupt.
    #[track_caller]
    pub(super) fn interrupt(&self, intid: u64) -> Verdict<Trap> {
        let trap = self.trap()?;
        if trap.vector != vector::IRQ || trap.intid != intid {
            return Err(
                self.unexpected(&alloc::format!("expected interrupt {intid}, found {trap:x?}"))
            );
        }
        Ok(trap)
    }

    /// Fails the access of the last exit and expects what the guest is told: an external abort of this class at `elr`,
    /// with this virtual address, and whether it was a write.
    pub(super) fn failed(
        &self,
        what: &str,
        class: u64,
        elr: u64,
        far: u64,
        write: bool,
    ) -> Verdict<Trap> {
        self.vcpu.fail_access()?;
        let refused = Err(axvcpu::AxError::NotAsked);
        ensure_eq!(self.vcpu.set_return_value(1), refused, "{what}: an answer after failing it");
        let trap = self.trap()?;
        let found = (trap.vector, trap.class(), trap.elr, trap.far);
        ensure_eq!(found, (vector::SYNC, class, elr, far), "{what}: vector, class, ELR, FAR");
        // On a walk of the guest's tables the fault status tells the level.
        let status = trap.esr & 0x3f;
        let external = status == 0x10 || (0x14..0x18).contains(&status);
        crate::report::ensure!(external, "{what}: fault status {status:#x}");
        ensure_eq!(trap.esr >> 25 & 1, 1, "{what}: the length of its instruction (IL)");
        if class == class::DATA {
            ensure_eq!(trap.esr >> 6 & 1, u64::from(write), "{what}: whether it was a write (WnR)");
        }
        Ok(trap)
    }
}
