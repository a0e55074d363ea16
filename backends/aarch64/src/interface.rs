//! The registers of the virtual CPU interface: what a vCPU has in them, and how they are reached (IHI 0069, 12.4).
#![allow(unsafe_code)] // writes GIC registers

use axvcpu_arm::sysreg::*;

use crate::control::{ich_hcr, lr};
use crate::gic::{MAX_LIST_REGISTERS, deactivate, deactivate_timers, each_bit};
use crate::sys;

/// A register of the guest's CPU interface, while it is not in the CPU.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Interface {
    vmcr: u64,
    /// Active priorities of groups 0 and 1.
    active: [[u64; 4]; 2],
    lr: [u64; MAX_LIST_REGISTERS],
    /// Which list registers were last written with something.
    pub(crate) used: u32,
    /// Timers whose physical interrupt is active and which are in no list register.
    pub(crate) timers: u32,
    /// The same of those that are active in the guest and have lost their list register.
    pub(crate) spilled_timers: u32,
    /// Ends of spilled interrupts that the hardware has counted.
    pub(crate) counted: u64,
}

impl Interface {
    /// Takes it from the CPU. What belonged to physical interrupts belongs to them no more: they are ended, and come again if
    /// their reason is still there when the guest is back.
    pub(crate) fn save(&mut self, priority_registers: u32) {
        self.vmcr = sys::read::<ICH_VMCR_EL2>();
        self.active = read_priorities(priority_registers);
        each_bit(self.used.into(), |index| {
            let value = read_lr(index as usize);
            write_lr(index as usize, 0);
            // A timer's that the guest has not seen comes again; one that it has not ended it ends for itself alone.
            let mut kept = if value >> 62 == 0 { 0 } else { value };
            if kept & lr::HW != 0 {
                deactivate(lr::intid(value));
                kept = if value & lr::ACTIVE == 0 { 0 } else { value & !(lr::HW | lr::PHYSICAL) };
            }
            if let Some(register) = self.lr.get_mut(index as usize) {
                *register = kept;
            }
            if kept == 0 {
                self.used &= !(1 << index);
            }
        });
        deactivate_timers(core::mem::take(&mut self.timers));
        deactivate_timers(core::mem::take(&mut self.spilled_timers));
        self.counted += ich_hcr::counted(sys::read::<ICH_HCR_EL2>());
        // SAFETY: nobody's CPU interface.
        unsafe { sys::write::<ICH_HCR_EL2>(0) };
    }

    /// Puts it into the CPU.
    ///
    /// # Safety
    ///
    /// No guest runs but the one it belongs to.
    pub(crate) unsafe fn load(&self, priority_registers: u32) {
        // SAFETY: the guest's CPU interface.
        unsafe { sys::write::<ICH_VMCR_EL2>(self.vmcr) };
        write_priorities(priority_registers, &self.active);
        each_bit(self.used.into(), |index| {
            if let Some(&register) = self.lr.get(index as usize) {
                write_lr(index as usize, register);
            }
        });
        // SAFETY: as above.
        unsafe { sys::write::<ICH_HCR_EL2>(ich_hcr::EN) };
    }
}

/// List registers and registers of active priorities of the CPU this runs on; `None` if there are too few to go by.
pub(crate) fn shape() -> Option<(u32, u32)> {
    let shape = sys::read::<ICH_VTR_EL2>();
    let priorities = match shape >> 26 & 7 {
        0..=4 => 1, // PREbits - 1: 32 preemption levels
        5 => 2,
        _ => 4,
    };
    // Fewer than two would leave no room for a maintenance interrupt's reason.
    let registers = (shape & 31) as u32 + 1;
    (registers >= 2).then_some((registers.min(MAX_LIST_REGISTERS as u32), priorities))
}

/// Lets guests use the system registers of the GIC, and no other interface of it.
pub(crate) fn enable() {
    // SAFETY: EL2's own use of system registers, which the host has; EL1's accesses to ICC_SRE_EL1 trap.
    unsafe {
        sys::write::<ICC_SRE_EL2>(sys::read::<ICC_SRE_EL2>() & !8 | 1);
        sys::synchronize();
        sys::write::<ICC_SRE_EL1>(0b111);
        sys::synchronize();
        sys::write::<ICH_HCR_EL2>(0);
    }
    for index in 0..shape().map_or(0, |(registers, _)| registers as usize) {
        write_lr(index, 0);
    }
}

/// Nothing virtual is pending any more.
pub(crate) fn disable() {
    for index in 0..shape().map_or(0, |(registers, _)| registers as usize) {
        write_lr(index, 0);
    }
}

macro_rules! by_index {
    ($index:expr, $first:ident, $f:ident $args:tt; $($n:literal)*) => {
        match $index {
            $($n => $f::<{ $first + $n }> $args,)*
            _ => 0, // there are no more
        }
    };
}

fn get<const REG: u16>() -> u64 {
    sys::read::<REG>()
}

fn put<const REG: u16>(value: u64) -> u64 {
    // SAFETY: the guest's CPU interface.
    unsafe { sys::write::<REG>(value) };
    0
}

pub(crate) fn read_lr(index: usize) -> u64 {
    by_index!(index, ICH_LR0_EL2, get(); 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
}

pub(crate) fn write_lr(index: usize, value: u64) {
    by_index!(index, ICH_LR0_EL2, put(value); 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
}

fn read_priorities(count: u32) -> [[u64; 4]; 2] {
    let mut all = [[0; 4]; 2];
    let [group0, group1] = &mut all;
    for (index, (zero, one)) in group0.iter_mut().zip(group1).enumerate().take(count as usize) {
        *zero = by_index!(index, ICH_AP0R0_EL2, get(); 0 1 2 3);
        *one = by_index!(index, ICH_AP1R0_EL2, get(); 0 1 2 3);
    }
    all
}

fn write_priorities(count: u32, all: &[[u64; 4]; 2]) {
    let [group0, group1] = all;
    for (index, (&zero, &one)) in group0.iter().zip(group1).enumerate().take(count as usize) {
        by_index!(index, ICH_AP0R0_EL2, put(zero); 0 1 2 3);
        by_index!(index, ICH_AP1R0_EL2, put(one); 0 1 2 3);
    }
}
