//! From the first CPU to all of them, and what those do that no program runs on.
#![allow(unsafe_code)] // calls what another CPU left for this one

use core::sync::atomic::{AtomicUsize, Ordering};

use crate::cpu::{Cpu, MAX_CPUS};
use crate::{arch, machine};

/// CPUs that are up.
static ONLINE: AtomicUsize = AtomicUsize::new(1);

/// How many CPUs there are.
pub(crate) fn online() -> usize {
    ONLINE.load(Ordering::Acquire)
}

/// Starts the CPUs of the machine that are not CPU 0, by the firmware's names for them. Each of them then calls
/// [`work`]. Those beyond the most that are supported are left alone.
pub(crate) fn start_others(all: impl Iterator<Item = usize>) {
    let own = Cpu::this().hardware_id.load(Ordering::Relaxed);
    for other in all.filter(|&other| other != own).take(MAX_CPUS - 1) {
        let id = online();
        Cpu::init(id, other);
        if let Err(error) = arch::start_cpu(other, id) {
            crate::println!("CPU {other:#x} does not start: {error:?}; going on without it");
            continue;
        }
        while online() == id {
            core::hint::spin_loop();
        }
    }
}

/// The way of all CPUs but the first, which has left it this number.
#[cfg_attr(not(target_os = "none"), allow(dead_code))]
pub(crate) fn secondary(id: usize) -> ! {
    arch::init_cpu();
    machine::enable_virtualization(id);
    ONLINE.store(id + 1, Ordering::Release);
    loop {
        work();
        arch::wait_for_interrupt();
        arch::dispatch();
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
