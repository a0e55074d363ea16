//! Control and status registers. Privileged architecture, "Supervisor-Level ISA".

use axvcpu_riscv::csr::{irq, num, sstatus};
use axvcpu_riscv::paging::{self, Mode};

use super::Hart;

/// The registers, each holding what a read gives unless its text says otherwise.
#[derive(Clone, Debug, Default)]
pub(crate) struct Csrs {
    /// Without SD, which is computed.
    pub(crate) sstatus: u64,
    pub(crate) sie: u64,
    /// What is pending. The timer bit is as of the last look at the clock.
    pub(crate) sip: u64,
    /// Interrupts injected as an edge: pending until taken.
    pub(crate) latched: u64,
    /// Lines that are asserted.
    pub(crate) lines: u64,
    pub(crate) stvec: u64,
    pub(crate) scounteren: u64,
    pub(crate) senvcfg: u64,
    pub(crate) sscratch: u64,
    pub(crate) sepc: u64,
    pub(crate) scause: u64,
    pub(crate) stval: u64,
    pub(crate) stimecmp: u64,
    pub(crate) satp: u64,
    pub(crate) fflags: u8,
    pub(crate) frm: u8,
}

/// There is no such register, or not at this privilege.
pub(crate) struct Illegal;

const SIE_WRITABLE: u64 = 1 << irq::SOFTWARE | 1 << irq::TIMER | 1 << irq::EXTERNAL;
const SSTATUS_WRITABLE: u64 =
    sstatus::SIE | sstatus::SPIE | sstatus::SPP | sstatus::FS | sstatus::SUM | sstatus::MXR;
/// FIOM has an effect only on devices; CBIE and the like belong to extensions the hart does not have.
const SENVCFG_WRITABLE: u64 = 1;
/// The three counters of Zicntr.
const SCOUNTEREN_WRITABLE: u64 = 0b111;
/// ASIDs have 16 bits, as many as the field.
const SATP_ASID: u64 = 0xffff << 44;

impl Csrs {
    pub(crate) fn reset() -> Self {
        Self {
            sstatus: sstatus::UXL_64,
            // The manual leaves it open. Firmware shows users the counters before it starts a kernel, and Linux
            // relies on that: it gives its users a clock that reads `time`.
            scounteren: SCOUNTEREN_WRITABLE,
            stimecmp: u64::MAX,
            ..Self::default()
        }
    }

    /// Makes one interrupt pending or not pending.
    pub(crate) fn set_pending(&mut self, interrupt: usize, pending: bool) {
        if pending {
            self.sip |= 1 << interrupt;
        } else if (self.latched | self.lines) & 1 << interrupt == 0 {
            self.sip &= !(1 << interrupt);
        }
    }

    /// The interrupt to take now in the given mode: external before software before timer.
    pub(crate) fn deliverable(&self, user: bool) -> Option<usize> {
        let ready = self.sip & self.sie;
        if ready == 0 || !user && self.sstatus & sstatus::SIE == 0 {
            return None;
        }
        [irq::EXTERNAL, irq::SOFTWARE, irq::TIMER]
            .into_iter()
            .find(|&number| ready & 1 << number != 0)
    }

    /// Whether floating-point instructions and registers are there.
    #[inline]
    pub(crate) fn fp_on(&self) -> bool {
        self.sstatus & sstatus::FS != 0
    }

    fn sstatus(&self) -> u64 {
        self.sstatus | if self.sstatus & sstatus::FS == sstatus::FS { sstatus::SD } else { 0 }
    }
}

impl Hart {
    /// Whether register `number` exists for the current privilege and may be written: bits 9:8 and 11:10 of
    /// the number say so.
    fn check_csr(&self, number: u16, write: bool) -> Result<(), Illegal> {
        let supervisor = number >> 8 & 3 != 0;
        let read_only = number >> 10 == 3;
        if supervisor && self.user || read_only && write { Err(Illegal) } else { Ok(()) }
    }

    /// The value of a CSR, when `left` instructions of the slice are left. `write` tells that the instruction
    /// goes on to write it.
    pub(crate) fn read_csr(&mut self, number: u16, write: bool, left: i64) -> Result<u64, Illegal> {
        self.check_csr(number, write)?;
        let csr = &self.csr;
        Ok(match number {
            num::FFLAGS | num::FRM | num::FCSR if !csr.fp_on() => return Err(Illegal),
            num::FFLAGS => csr.fflags.into(),
            num::FRM => csr.frm.into(),
            num::FCSR => u64::from(csr.frm) << 5 | u64::from(csr.fflags),
            num::SSTATUS => csr.sstatus(),
            num::SIE => csr.sie,
            num::STVEC => csr.stvec,
            num::SCOUNTEREN => csr.scounteren,
            num::SENVCFG => csr.senvcfg,
            num::SSCRATCH => csr.sscratch,
            num::SEPC => csr.sepc,
            num::SCAUSE => csr.scause,
            num::STVAL => csr.stval,
            num::SIP => {
                self.poll_timer(left);
                self.csr.sip
            }
            num::STIMECMP => csr.stimecmp,
            num::SATP => csr.satp,
            num::CYCLE | num::TIME | num::INSTRET => {
                if self.user && csr.scounteren & 1 << (number - num::CYCLE) == 0 {
                    return Err(Illegal);
                }
                // One instruction takes one cycle here. The one that reads is not retired yet.
                if number == num::TIME {
                    self.time(left)
                } else {
                    self.instret(left).wrapping_sub(1)
                }
            }
            _ => return Err(Illegal),
        })
    }

    /// Writes a CSR that [`read_csr`](Self::read_csr) has allowed to be written.
    pub(crate) fn write_csr(&mut self, number: u16, value: u64, left: i64) -> Result<(), Illegal> {
        self.check_csr(number, true)?;
        let csr = &mut self.csr;
        match number {
            num::FFLAGS | num::FRM | num::FCSR => {
                if !csr.fp_on() {
                    return Err(Illegal);
                }
                match number {
                    num::FFLAGS => csr.fflags = value as u8 & 0x1f,
                    num::FRM => csr.frm = value as u8 & 7,
                    _ => (csr.fflags, csr.frm) = (value as u8 & 0x1f, (value >> 5) as u8 & 7),
                }
                csr.sstatus |= sstatus::FS;
            }
            num::SSTATUS => {
                let old = csr.sstatus;
                csr.sstatus = old & !SSTATUS_WRITABLE | value & SSTATUS_WRITABLE;
                let changed = old ^ csr.sstatus;
                if changed & sstatus::MXR != 0 {
                    self.data.flush();
                }
                if changed & sstatus::SUM != 0 {
                    self.update_privilege();
                }
                self.attention |= changed & sstatus::SIE != 0;
            }
            num::SIE => {
                csr.sie = value & SIE_WRITABLE;
                self.poll_timer(left);
                self.attention = true;
            }
            // Mode 0 (direct) or 1 (vectored); the others are reserved and read as direct.
            num::STVEC => csr.stvec = value & !3 | u64::from(value & 3 == 1),
            num::SCOUNTEREN => csr.scounteren = value & SCOUNTEREN_WRITABLE,
            num::SENVCFG => csr.senvcfg = value & SENVCFG_WRITABLE,
            num::SSCRATCH => csr.sscratch = value,
            num::SEPC => csr.sepc = value & !1,
            num::SCAUSE => csr.scause = value,
            num::STVAL => csr.stval = value,
            num::SIP => {
                // Only the software interrupt is the guest's to change; the others are wires.
                csr.sip = csr.sip & !(1 << irq::SOFTWARE) | value & 1 << irq::SOFTWARE;
                self.attention = true;
            }
            num::STIMECMP => self.set_timer(value, left),
            num::SATP => {
                // A mode the hart does not have makes the whole write void.
                let known = value >> paging::MODE_SHIFT == paging::MODE_BARE
                    || Mode::of_satp(value).is_some();
                if known {
                    csr.satp =
                        value & (0xf << paging::MODE_SHIFT | SATP_ASID | paging::ROOT_PPN_MASK);
                    self.flush_guest_tlb();
                }
            }
            _ => return Err(Illegal),
        }
        Ok(())
    }

    /// Arms the timer for this value of `time`.
    pub(crate) fn set_timer(&mut self, ticks: u64, left: i64) {
        self.csr.stimecmp = ticks;
        self.csr.sip &= !(1 << irq::TIMER) | self.csr.latched;
        self.poll_timer(left);
    }
}
