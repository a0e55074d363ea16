//! The platform as the vCPU core and the machine's run loop need it.
#![allow(unsafe_code)] // implements an unsafe trait

use core::sync::atomic::Ordering;

use axvcpu::AxVCpuHal;
use axvcpu_vmm::VmHost;

use crate::cpu::Cpu;
use crate::{Machine, Mem, arch, time, timer};

/// The platform under the vCPUs.
pub struct Hal;

// SAFETY: a register points to a block of each CPU's own, which has its number and its word.
unsafe impl AxVCpuHal for Hal {
    type MmHal = Mem;

    fn irq_fetch() -> usize {
        arch::pending()
    }

    fn irq_hanlder() {
        arch::dispatch();
    }

    #[inline(always)]
    fn cpu_id() -> usize {
        Cpu::this().id.load(Ordering::Relaxed)
    }

    fn kick_cpu(cpu: usize) {
        if cpu == Self::cpu_id() {
            arch::kick_self();
        } else if let Some(cpu) = Cpu::get(cpu) {
            arch::kick(cpu.hardware_id.load(Ordering::Relaxed));
        }
    }

    fn arm_timer(deadline: u64) -> bool {
        timer::set_guest(deadline);
        true
    }

    #[inline(always)]
    fn load_current() -> *mut () {
        Cpu::this().current.load(Ordering::Relaxed)
    }

    #[inline(always)]
    unsafe fn store_current(word: *mut ()) {
        Cpu::this().current.store(word, Ordering::Relaxed);
    }
}

/// The platform around a virtual machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Host {
    /// Whether to measure where the time goes, at the price of three looks at the clock for each exit.
    measure: bool,
}

impl Host {
    /// The machine's clock and its interrupts. Times in the statistics are left out.
    pub fn new(_machine: &Machine) -> Self {
        Self { measure: false }
    }
}

impl VmHost for Host {
    fn now_ns(&self) -> u64 {
        time::now_ns()
    }

    fn wait(&self, deadline_ns: Option<u64>) {
        crate::console::flush();
        timer::set_slice(u64::MAX);
        timer::set_wait(deadline_ns.map_or(u64::MAX, time::ticks_at));
        // A kick that came before is pending still, and ends this at once.
        arch::wait_for_interrupt();
        arch::dispatch();
        timer::set_wait(u64::MAX);
    }

    fn begin_slice(&self, end_ns: Option<u64>) -> bool {
        timer::set_slice(end_ns.map_or(u64::MAX, time::ticks_at));
        true
    }

    fn exit_clock_ns(&self) -> Option<u64> {
        self.measure.then(time::now_ns)
    }
}
