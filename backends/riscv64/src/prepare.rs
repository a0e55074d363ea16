//! What is done before an entry, when there is something to do; and the guest's timer.
#![allow(unsafe_code)] // writes guest registers

use axvcpu::AxVCpuHal;
use axvcpu_riscv::csr::{irq, num as snum, sstatus as sbits};

use crate::edge::vector_of;
use crate::hext::{num, sstatus};
use crate::image::todo;
use crate::vcpu::{Exception, RiscvVCpu};
use crate::{asm, csr, sbi};

impl<H: AxVCpuHal> RiscvVCpu<H> {
    /// Carries out what has been asked for since the last entry.
    #[cold]
    #[inline(never)]
    pub(crate) fn prepare(&mut self) {
        let mut asked = self.shared().take_todo();
        if asked & todo::LOAD != 0 {
            self.on_cpu().load();
        }
        if asked & todo::RESET != 0 {
            self.on_cpu().reset();
        }
        if asked & (todo::LOAD | todo::RESET) != 0 {
            self.load_delegation();
            self.switch_units();
            asked |= todo::INTERRUPTS | todo::TIMER;
        }
        if asked & todo::FENCE_STAGE2 != 0 {
            self.on_cpu().fence_stage2();
        } else if asked & todo::FENCE_GUEST != 0 {
            asm::fence_vsstage();
        }
        if asked & todo::FENCE_INSTRUCTIONS != 0 {
            asm::fence_instructions();
        }
        if asked & todo::FP_VALUE != 0 {
            self.write_fp_value();
        }
        if asked & todo::EXCEPTION != 0 {
            if let Some(exception) = self.exception.take() {
                self.raise(exception);
            }
        }
        if asked & todo::TIMER != 0 {
            self.renew_timer();
        }
        if asked & todo::INTERRUPTS != 0 {
            self.update_interrupts();
        }
    }

    /// Switches the guest's units on: their registers have just been loaded.
    fn switch_units(&mut self) {
        let units = self.on_cpu().units();
        let others = self.context.sstatus & !(sbits::FS | sstatus::VS);
        self.context.sstatus = others | units;
    }

    fn write_fp_value(&mut self) {
        let Some((register, value)) = self.fp_value.take() else { return };
        let mut on_cpu = self.on_cpu();
        let image = on_cpu.image();
        image.save_fp();
        image.fp[usize::from(register & 31)] = value;
        image.load_fp();
        self.context.sstatus |= sbits::FS;
        // As the load would have: a guest saves what is dirty.
        // SAFETY: the guest's own status.
        unsafe { csr::set::<{ num::VSSTATUS }>(sbits::FS) };
    }

    /// Makes the guest take an exception at its program counter, as its hart would (privileged architecture,
    /// 12.1.1 and 12.1.6 to 12.1.10). The vCPU is resident.
    pub(crate) fn raise(&mut self, Exception { code, value }: Exception) {
        let context = &mut self.context;
        let before = csr::read::<{ num::VSSTATUS }>();
        let mut status = before & !(sbits::SPP | sbits::SPIE | sbits::SIE);
        status |= context.sstatus & sbits::SPP;
        if before & sbits::SIE != 0 {
            status |= sbits::SPIE;
        }
        // SAFETY: the guest's own registers.
        unsafe {
            csr::write::<{ num::VSSTATUS }>(status);
            csr::write::<{ num::VSEPC }>(context.pc);
            csr::write::<{ num::VSCAUSE }>(code);
            csr::write::<{ num::VSTVAL }>(value);
        }
        context.sstatus |= sbits::SPP;
        // If that is the hook it is left for again, and goes on at its own vector then.
        context.pc = vector_of(csr::read::<{ num::VSTVEC }>(), code);
    }

    /// The guest's time now.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        csr::read::<{ snum::TIME }>().wrapping_add(self.time_offset)
    }

    /// When the guest's timer fires.
    fn deadline(&self) -> u64 {
        if self.context.own_timer != 0 {
            csr::read::<{ num::VSTIMECMP }>()
        } else {
            self.context.deadline
        }
    }

    /// Nanoseconds until the guest's timer ends a wait; `None` if it is not set, or its interrupt is not enabled.
    pub(crate) fn ns_to_timer(&self) -> Option<u64> {
        let ticks = self.deadline();
        if ticks == u64::MAX || csr::read::<{ num::VSIE }>() & 1 << irq::TIMER == 0 {
            return None;
        }
        let ns = u128::from(ticks.saturating_sub(self.now())) * 1_000_000_000;
        // Up: waking too early is waking twice.
        let ns = ns.div_ceil(u128::from(self.timebase()));
        Some(u64::try_from(ns).unwrap_or(u64::MAX))
    }

    /// Makes the guest's timer interrupt pending if its time has come: without a timer in hardware that is
    /// otherwise noticed only when the host's timer fires.
    pub(crate) fn catch_up_with_time(&mut self) {
        if self.time_has_come() {
            self.renew_timer();
        }
    }

    /// Whether the host's timer, which stands in for the guest's, is due.
    pub(crate) fn time_has_come(&self) -> bool {
        self.context.own_timer == 0 && self.context.deadline <= self.now()
    }

    /// The guest calls to set its timer, and the switch has left it to us.
    #[inline(never)]
    pub(crate) fn timer_call(&mut self, is_extension: bool, deadline: u64) {
        if self.context.own_timer != 0 {
            // SAFETY: the guest's own timer.
            unsafe { csr::write::<{ num::VSTIMECMP }>(deadline) };
        } else {
            self.context.deadline = deadline;
            self.renew_timer();
        }
        self.context.x[10] = 0;
        if is_extension {
            self.context.x[11] = 0;
        }
    }

    /// Without a guest timer in hardware: makes the guest's interrupt pending if its time has come, else sees to it
    /// that the host's timer ends its run then. The vCPU is resident.
    fn renew_timer(&mut self) {
        if self.context.own_timer != 0 {
            return;
        }
        // Before the interrupt is made pending: time goes on, and what had not come then has its timer armed.
        let armed = if self.time_has_come() { u64::MAX } else { self.context.deadline };
        self.update_interrupts();
        // By the distance: the guest's time may be set to anything, and so may its timer.
        let distance = armed.saturating_sub(self.now());
        let host = match armed {
            u64::MAX => u64::MAX,
            _ => csr::read::<{ snum::TIME }>().saturating_add(distance),
        };
        if !H::arm_timer(host) {
            arm(host, self.slot().features().sstc);
        }
        if !self.edges.any() {
            self.context.armed = armed;
        }
    }
}

/// Sets this hart's own timer.
fn arm(deadline: u64, sstc: bool) {
    if sstc {
        // SAFETY: when the host's timer fires, which is this crate's to say if the platform does not.
        unsafe { csr::write::<{ snum::STIMECMP }>(deadline) };
    } else {
        sbi::set_timer(deadline);
    }
}
