//! What is done before an entry, when there is something to do.
#![allow(unsafe_code)] // writes guest registers

use axvcpu::AxVCpuHal;
use axvcpu_arm::sysreg::{SP_EL0, SP_EL1};

use crate::image::todo;
use crate::vcpu::ArmVCpu;
use crate::{asm, sys};

impl<H: AxVCpuHal> ArmVCpu<H> {
    /// Carries out what has been asked for since the last entry. `false`: the vCPU is not bound, and cannot be entered.
    #[cold]
    #[inline(never)]
    pub(crate) fn prepare(&mut self) -> bool {
        if !self.is_bound() {
            return false; // something is asked for as long as it is not loaded
        }
        let mut asked = self.shared().take_todo();
        if asked & todo::RESET != 0 {
            self.on_cpu().reset();
        }
        if asked & (todo::LOAD | todo::RESET) != 0 {
            self.on_cpu().load();
            asked |= self.shared().take_todo() & !todo::LOAD | todo::INTERRUPTS;
        }
        if asked & todo::FENCE_STAGE2 != 0 {
            asm::forget_stage2();
        } else if asked & todo::FENCE_GUEST != 0 {
            asm::forget_guest();
        }
        if asked & todo::FENCE_INSTRUCTIONS != 0 {
            asm::forget_code();
        }
        if asked & todo::FP_VALUE != 0 {
            if let Some((register, value)) = self.fp_value.take() {
                self.on_cpu().image_with_fp().set_fp_register(register, value);
            }
        }
        if asked & todo::STACK_POINTER != 0 {
            self.move_stack_pointer();
        }
        if asked & todo::EXCEPTION != 0 {
            if let Some(exception) = self.exception.take() {
                self.raise(exception);
            }
        }
        if asked & (todo::INTERRUPTS | todo::TIMERS) != 0 {
            self.update_interrupts(asked & todo::TIMERS);
        } else if asked & todo::WATCH != 0 {
            self.watch_interrupts();
        }
        true
    }

    /// The stack pointer that the guest's current state has selected.
    pub(crate) fn stack_pointer(&self) -> u64 {
        if self.context.pstate & 1 != 0 { sys::read::<SP_EL1>() } else { sys::read::<SP_EL0>() }
    }

    fn move_stack_pointer(&mut self) {
        let moved = self.stack_pointer().wrapping_add(core::mem::take(&mut self.stack_delta));
        // SAFETY: the guest's own registers.
        unsafe {
            if self.context.pstate & 1 != 0 {
                sys::write::<SP_EL1>(moved);
            } else {
                sys::write::<SP_EL0>(moved);
            }
        }
    }
}
