//! The bench with RISC-V's guests on it.

use axvcpu_riscv::paging::Mode;

use super::Subject;
use super::guest::*;
use crate::bench;
pub(super) use crate::bench::Exit;
use crate::report::Verdict;

/// RISC-V's guests. As [`generic::Subject::Guests`](crate::generic::Subject::Guests) they try the cases for any architecture
/// on a backend for this one.
pub struct Riscv;

/// A machine.
pub(super) type Bench<S> = bench::Bench<S, Riscv>;
/// A vCPU and what is expected of it.
pub(super) type Hart<S> = bench::Hart<S, Riscv>;

/// A trap that the guest's handler reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trap {
    /// `scause`.
    pub cause: u64,
    /// `sepc`.
    pub epc: u64,
    /// `stval`.
    pub value: u64,
    /// `sstatus`.
    pub status: u64,
    /// `sip`.
    pub pending: u64,
}

impl bench::Isa for Riscv {
    type Format = Mode;
    type Guest = Guest;
    type Trap = Trap;

    const CODE: u64 = CODE;
    const CODE_PAGES: u64 = CODE_PAGES;
    const DATA: u64 = DATA;
    const DATA_PAGES: u64 = DATA_PAGES;
    const DEVICE: u64 = DEVICE;
    const NUMBER: usize = 10; // a0
    const REPORT: u64 = REPORT;
    const TRAP: u64 = TRAP;
    const END: u64 = END;

    fn trap([_, cause, epc, value, status, pending]: [u64; 6]) -> Trap {
        Trap { cause, epc, value, status, pending }
    }
}

impl<S: Subject> bench::GuestsOf<S> for Riscv {
    fn format(subject: &S) -> Mode {
        subject.stage2_mode()
    }
}

impl<S: Subject> Hart<S> {
    /// Runs until the guest takes a trap for this cause.
    #[track_caller]
    pub(super) fn trap_for(&self, cause: u64) -> Verdict<Trap> {
        let trap = self.trap()?;
        if trap.cause != cause {
            return Err(
                self.unexpected(&alloc::format!("expected cause {cause:x}, found {trap:x?}"))
            );
        }
        Ok(trap)
    }
}
