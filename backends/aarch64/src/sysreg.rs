//! System registers that are not the guest's to use directly.

use axvcpu::AxVCpuHal;
use axvcpu_arm::affinity;
use axvcpu_arm::sysreg::{self, *};

use crate::exit::Left;
use crate::open::Open;
use crate::raise::Exception;
use crate::vcpu::ArmVCpu;
use crate::{idregs, sys};

/// What a guest has of the debug registers: the two that every kernel sets up. Breakpoints and watchpoints keep nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Debug {
    os_lock: bool,
}

impl Default for Debug {
    /// The OS lock is set at reset (Arm ARM, D24.3.21).
    fn default() -> Self {
        Self { os_lock: true }
    }
}

/// `MDSCR_EL1`: what works without breakpoints and without a debugger on the debug channel: single step (SS), and the enables
/// of debug exceptions (KDE, MDE).
const MDSCR_KEPT: u64 = 1 | 1 << 13 | 1 << 15;

/// op0 and op1 of the debug communication channel, which EL0 may look at.
const DEBUG_COMMUNICATION: (u16, u16) = (2, 3);

/// An answer to an access.
enum Answer {
    /// It is done, with this value if it was a read.
    Value(u64),
    Undefined,
    Exit(Left),
}

/// Read as zero, written to without effect.
const NOTHING: Answer = Answer::Value(0);

impl<H: AxVCpuHal> ArmVCpu<H> {
    /// `MRS`, `MSR` or a system instruction that traps.
    pub(crate) fn system_access(&mut self, cause: u64) -> Option<Left> {
        let field = |at: u32, size: u32| (cause >> at & ((1 << size) - 1)) as u16;
        let reg = sysreg::reg(field(20, 2), field(14, 3), field(10, 4), field(1, 4), field(17, 3));
        let (register, read) = (field(5, 5) as u8, cause & 1 != 0);
        let value = if read { None } else { Some(self.x(register)) };
        let answer = if self.in_user_mode() && (op0(reg), op1(reg)) != DEBUG_COMMUNICATION {
            Answer::Undefined // EL0 has nothing else of what traps
        } else {
            self.answer(reg, value)
        };
        match answer {
            Answer::Value(value) => {
                if read {
                    self.set_x(register, value);
                }
                self.advance();
                None
            }
            Answer::Undefined => {
                self.raise(Exception::UNDEFINED);
                None
            }
            Answer::Exit(left) => {
                if let Left::SendIpi { .. } = left {
                    self.open = Open::without_result(); // nor an access that could fail
                } else {
                    self.open = Open::system(self.place(), read.then_some(register));
                }
                if !read {
                    self.advance();
                }
                Some(left)
            }
        }
    }

    /// Answers a read, or a write of `value`.
    fn answer(&mut self, reg: u16, value: Option<u64>) -> Answer {
        match (op0(reg), op1(reg), crn(reg), crm(reg)) {
            (3, 0, 0, 1..=7) => match value {
                None => Answer::Value(idregs::value(reg, self.sve_bytes != 0)),
                Some(_) => Answer::Undefined,
            },
            // Implementation-defined: the machine may have such.
            (3, _, 11 | 15, _) => Answer::Exit(match value {
                None => Left::SysRegRead { addr: reg },
                Some(value) => Left::SysRegWrite { addr: reg, value },
            }),
            (2, 0 | 3, 0..=7, _) => self.debug_register(reg, value),
            _ => self.single_register(reg, value),
        }
    }

    fn single_register(&mut self, reg: u16, value: Option<u64>) -> Answer {
        match (reg, value) {
            (ICC_SGI1R_EL1, Some(value)) => Answer::Exit(self.software_interrupt(value)),
            (ICC_DIR_EL1, Some(value)) => {
                self.deactivated(value as u32 & 0xff_ffff);
                NOTHING
            }
            // Of the groups there are not.
            (ICC_ASGI1R_EL1 | ICC_SGI0R_EL1, Some(_)) => NOTHING,
            // System registers are on, and nothing else ever is.
            (ICC_SRE_EL1, _) => Answer::Value(0b111),
            (ACTLR_EL1, None) => Answer::Value(sys::read::<ACTLR_EL1>()),
            (ACTLR_EL1, Some(_)) => NOTHING,
            (REVIDR_EL1, None) => Answer::Value(sys::read::<REVIDR_EL1>()),
            (AIDR_EL1, None) => Answer::Value(sys::read::<AIDR_EL1>()),
            // Performance monitors, LORegions and whatever else the identification registers say there is not.
            _ => Answer::Undefined,
        }
    }

    /// `ICC_SGI1R_EL1` (IHI 0069, 12.2.20).
    fn software_interrupt(&mut self, value: u64) -> Left {
        let field = |at: u32, size: u32| value >> at & ((1 << size) - 1);
        let vector = field(24, 4) as u8;
        let me = self.on_cpu().image().mpidr;
        if field(40, 1) != 0 {
            // To all others. Machines of more than 64 CPUs are not what a mask can tell of.
            let own = affinity::cpu(me & 0xffff).unwrap_or(usize::MAX) as u32;
            let mask = !1u64.checked_shl(own).unwrap_or(0);
            return Left::SendIpi { base: 0, mask, vector };
        }
        let (aff1, range) = (field(16, 8), field(44, 4));
        let elsewhere = field(32, 8) | field(48, 8) | range;
        let targets = if elsewhere == 0 { field(0, 16) } else { 0 };
        let base = affinity::cpu(aff1 << 8).unwrap_or(0) as u16;
        Left::SendIpi { base, mask: targets, vector }
    }

    fn debug_register(&mut self, reg: u16, value: Option<u64>) -> Answer {
        match (reg, value) {
            (MDSCR_EL1, None) => Answer::Value(sys::read::<MDSCR_EL1>()),
            (MDSCR_EL1, Some(value)) => {
                crate::el1::set_mdscr(value & MDSCR_KEPT);
                NOTHING
            }
            (OSLAR_EL1, Some(value)) => {
                self.debug.os_lock = value & 1 != 0;
                NOTHING
            }
            // Implemented (OSLM), and locked or not.
            (OSLSR_EL1, None) => Answer::Value(0b1000 | u64::from(self.debug.os_lock) << 1),
            (OSLAR_EL1, None) | (OSLSR_EL1, Some(_)) => Answer::Undefined,
            _ => NOTHING,
        }
    }
}
