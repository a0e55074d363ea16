//! From the firmware to Rust.
#![allow(unsafe_code)] // called by assembly

use super::sbi;
use crate::boot;
use crate::cpu::Cpu;

#[cfg(target_os = "none")]
mod entry {
    use core::arch::global_asm;

    use crate::cpu::{CPUS, Cpu, STACK_SIZE, STACKS};

    global_asm!(
        include_str!("boot.S"),
        CPUS = sym CPUS,
        CPU_SIZE = const size_of::<Cpu>(),
        STACKS = sym STACKS,
        STACK_SIZE = const STACK_SIZE,
        EMERGENCY_STACK = const core::mem::offset_of!(Cpu, emergency_stack),
        TRAP = sym axvcpu_host_trap,
        TRAPPED = sym super::trapped,
        MAIN = sym super::main,
        SECONDARY = sym super::secondary,
    );

    unsafe extern "C" {
        pub(super) fn axvcpu_boot_secondary();
        fn axvcpu_host_trap();
    }
}

fn secondary_entry() -> usize {
    #[cfg(target_os = "none")]
    return entry::axvcpu_boot_secondary as *const () as usize;
    #[cfg(not(target_os = "none"))]
    0
}

/// Starts a hart, which then has this number.
pub(crate) fn start_cpu(hart: usize, id: usize) -> Result<(), sbi::Refused> {
    sbi::start_hart(hart, secondary_entry(), id)
}

/// The first hart's way into Rust.
#[cfg_attr(not(target_os = "none"), expect(dead_code))]
extern "C" fn main(hart: usize, device_tree: *const u8) -> ! {
    Cpu::init(0, hart);
    crate::machine::boot(device_tree)
}

/// Another hart's.
#[cfg_attr(not(target_os = "none"), expect(dead_code))]
extern "C" fn secondary(_hart: usize, id: usize) -> ! {
    boot::secondary(id)
}

/// The hypervisor itself trapped.
#[cfg_attr(not(target_os = "none"), expect(dead_code))]
extern "C" fn trapped(cause: u64, pc: u64, value: u64, sp: u64, ra: u64) -> ! {
    panic!(
        "the hypervisor trapped on CPU {}: scause {cause:#x}, sepc {pc:#x}, stval {value:#x}, sp {sp:#x}, ra {ra:#x}",
        Cpu::this().id.load(core::sync::atomic::Ordering::Relaxed)
    )
}
