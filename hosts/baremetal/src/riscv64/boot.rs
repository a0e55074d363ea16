//! From the firmware to the program.
#![allow(unsafe_code)] // called by assembly

use core::sync::atomic::{AtomicUsize, Ordering};

use super::cpu::{Cpu, MAX_CPUS};
use super::{csr, irq, sbi};

/// CPUs that are up.
static ONLINE: AtomicUsize = AtomicUsize::new(1);

/// How many CPUs there are.
pub(crate) fn online() -> usize {
    ONLINE.load(Ordering::Acquire)
}

/// Starts the harts of the machine that are not CPU 0, each of which then calls [`work`]. Those beyond the most
/// that are supported are left alone.
pub(crate) fn start_others(harts: impl Iterator<Item = usize>) {
    let own = Cpu::this().hart.load(Ordering::Relaxed);
    for hart in harts.filter(|&hart| hart != own).take(MAX_CPUS - 1) {
        let id = online();
        Cpu::init(id, hart);
        if let Err(error) = sbi::start_hart(hart, secondary_entry(), id) {
            crate::println!("hart {hart} does not start: {error:?}; going on without it");
            continue;
        }
        while online() == id {
            core::hint::spin_loop();
        }
    }
}

#[cfg(target_os = "none")]
mod entry {
    use core::arch::global_asm;

    use super::super::cpu::{CPUS, Cpu, STACK_SIZE, STACKS};

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

/// The first hart's way into Rust.
#[cfg_attr(not(target_os = "none"), expect(dead_code))]
extern "C" fn main(hart: usize, device_tree: *const u8) -> ! {
    Cpu::init(0, hart);
    irq::enable();
    crate::machine::boot(device_tree)
}

/// Another hart's.
#[cfg_attr(not(target_os = "none"), expect(dead_code))]
extern "C" fn secondary(_hart: usize, id: usize) -> ! {
    irq::enable();
    crate::machine::enable_virtualization(id);
    ONLINE.store(id + 1, Ordering::Release);
    loop {
        work();
        csr::wait_for_interrupt();
        irq::dispatch();
    }
}

/// Does the job that another CPU has left for this one, if there is one.
fn work() {
    let cpu = Cpu::this();
    let job = cpu.job.load(Ordering::Acquire) as *const &(dyn Fn(usize) + Sync);
    if !job.is_null() {
        // SAFETY: `Machine::on_all_cpus` stored it, and waits until it is taken back.
        unsafe { (*job)(cpu.id.load(Ordering::Relaxed)) };
        cpu.job.store(0, Ordering::Release);
    }
}

/// The hypervisor itself trapped.
#[cfg_attr(not(target_os = "none"), expect(dead_code))]
extern "C" fn trapped(cause: u64, pc: u64, value: u64, sp: u64, ra: u64) -> ! {
    panic!(
        "the hypervisor trapped on CPU {}: scause {cause:#x}, sepc {pc:#x}, stval {value:#x}, sp {sp:#x}, ra {ra:#x}",
        Cpu::this().id.load(Ordering::Relaxed)
    )
}
