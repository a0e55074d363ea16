//! What the guest was left for.

use axvcpu::{AccessKind, AccessWidth, AxVCpuExitReason as Exit, AxVCpuHal, GuestPhysAddr};
use axvcpu_arm::esr::{self, class};
use axvcpu_arm::gic::{PHYSICAL_TIMER, VIRTUAL_TIMER};
use axvcpu_arm::sysreg::*;

use crate::control::timer;
use crate::raise::Exception;
use crate::switch::{INTERRUPT, SERROR};
use crate::vcpu::ArmVCpu;
use crate::{el1, sys};

/// The exits that are not calls. Smaller than [`Exit`], which is to be made where it is returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    MmioRead { addr: u64, width: AccessWidth },
    MmioWrite { addr: u64, width: AccessWidth, data: u64 },
    NestedPageFault { addr: u64, access: AccessKind },
    ExternalInterrupt { vector: u64 },
    Halt { wake_after_ns: Option<u64> },
    SendIpi { base: u16, mask: u64, vector: u8 },
    SysRegRead { addr: u16 },
    SysRegWrite { addr: u16, value: u64 },
    FailEntry { reason: u64 },
    Nothing,
}

impl From<Left> for Exit {
    #[inline(always)]
    fn from(left: Left) -> Self {
        let at = GuestPhysAddr::new;
        match left {
            Left::MmioRead { addr, width } => Self::MmioRead { addr: at(addr), width },
            Left::MmioWrite { addr, width, data } => {
                Self::MmioWrite { addr: at(addr), width, data }
            }
            Left::NestedPageFault { addr, access } => {
                Self::NestedPageFault { addr: at(addr), access }
            }
            Left::ExternalInterrupt { vector } => Self::ExternalInterrupt { vector },
            Left::Halt { wake_after_ns } => Self::Halt { wake_after_ns },
            Left::SendIpi { base, mask, vector } => {
                Self::SendIpi { base: base.into(), mask, vector: vector.into() }
            }
            Left::SysRegRead { addr } => Self::SysRegRead { addr: addr.into() },
            Left::SysRegWrite { addr, value } => Self::SysRegWrite { addr: addr.into(), value },
            Left::FailEntry { reason } => Self::FailEntry { reason },
            Left::Nothing => Self::Nothing,
        }
    }
}

/// The guest is in AArch32 (M\[4\] of the processor state).
const AARCH32: u64 = 1 << 4;

/// `WFE` rather than `WFI` (TI).
const WFE: u64 = 1;

/// The part of a second to wait for a timer that is late: 50 us.
const LATE: u64 = 20_000;

impl<H: AxVCpuHal> ArmVCpu<H> {
    /// Deals with every trap but calls, which are the hot path's. `None`: the guest goes on.
    #[inline]
    pub(crate) fn trapped(&mut self, cause: u64) -> Option<Left> {
        if cause == INTERRUPT {
            return self.interrupted();
        }
        if self.context.pstate & AARCH32 != 0 {
            // The guest was not told that there is such a thing, and nothing here could go on with it.
            return Some(Left::FailEntry { reason: cause });
        }
        if cause == SERROR {
            return Some(Left::FailEntry { reason: sys::read::<ESR_EL2>() });
        }
        match esr::class(cause) {
            class::DATA_LOWER => self.data_abort(cause),
            class::SYSTEM => self.system_access(cause),
            class::WFX => self.wait(cause),
            class::FETCH_LOWER => self.fetch_abort(cause),
            class::FP | class::SVE => {
                self.unit_is_off(esr::class(cause));
                None
            }
            class::HVC => {
                // It has been executed.
                self.context.pc = self.context.pc.wrapping_sub(4);
                self.raise(Exception::UNDEFINED);
                None
            }
            // What guests are not told of: AArch32's coprocessors, SME, 64-byte and 128-bit accesses.
            0x00 | 0x03..=0x06 | 0x08 | 0x0a | 0x0c | 0x14 | class::SMC | class::SME => {
                self.raise(Exception::UNDEFINED);
                None
            }
            _ => Some(Left::FailEntry { reason: cause }),
        }
    }

    /// A physical interrupt. Those by which virtual ones ask to be looked after concern nobody else.
    fn interrupted(&mut self) -> Option<Left> {
        let nothing =
            || sys::read::<ICC_HPPIR1_EL1>() & 0xff_ffff == axvcpu_arm::gic::SPURIOUS.into();
        if self.notice_maintenance() && nothing() {
            return None;
        }
        Some(Left::ExternalInterrupt { vector: H::irq_fetch() as u64 })
    }

    /// Does what the virtual CPU interface asks for. `false`: nothing.
    fn notice_maintenance(&mut self) -> bool {
        let asked = self.on_cpu().image().interface.used != 0 && sys::read::<ICH_MISR_EL2>() != 0;
        if asked {
            self.update_interrupts(0);
        }
        asked
    }

    /// The first use of floating point or SVE since another vCPU has used it.
    fn unit_is_off(&mut self, class: u64) {
        if class == class::SVE && self.sve_bytes == 0 {
            self.raise(Exception::UNDEFINED);
        } else {
            self.on_cpu().take_fp();
        }
    }

    fn wait(&mut self, cause: u64) -> Option<Left> {
        self.advance();
        if cause & WFE != 0 {
            return Some(Left::Nothing);
        }
        self.notice_maintenance();
        if self.has_interrupt() {
            return None;
        }
        Some(Left::Halt { wake_after_ns: self.ns_to_timer() })
    }

    /// Nanoseconds until the first of the guest's timers fires; `None` if none will.
    ///
    /// A timer whose time has come says so (ISTATUS) and interrupts the guest at once, but an emulator's may take its time.
    /// To try again and again would take that from it.
    fn ns_to_timer(&self) -> Option<u64> {
        let vhe = self.slot().features().vhe;
        let frequency = sys::read::<CNTFRQ_EL0>().max(1);
        sys::synchronize(); // the counter may otherwise be read ahead of time
        let now = sys::read::<CNTPCT_EL0>();
        let virtual_now = now.wrapping_sub(self.time_offset);
        let left = |intid: u32, control: u64, compare: u64, now: u64| {
            let on = control & (timer::ENABLE | timer::IMASK) == timer::ENABLE
                && !(control & timer::ISTATUS != 0 && self.has_fired(intid));
            let left = compare.saturating_sub(now);
            let late = left == 0 && control & timer::ISTATUS == 0;
            on.then_some(if late { frequency / LATE } else { left })
        };
        let ticks = [
            left(VIRTUAL_TIMER, el1::cntv_ctl(vhe), el1::cntv_cval(vhe), virtual_now),
            left(PHYSICAL_TIMER, el1::cntp_ctl(vhe), el1::cntp_cval(vhe), now),
        ];
        let ticks = ticks.into_iter().flatten().min()?;
        // Up: waking too early is waking twice.
        let ns = (u128::from(ticks) * 1_000_000_000).div_ceil(u128::from(frequency));
        Some(u64::try_from(ns).unwrap_or(u64::MAX))
    }
}
