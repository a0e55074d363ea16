//! AxVCpu's hardware abstraction layer for a Linux program.
//!
//! * Host physical addresses are the program's own virtual addresses.
//! * A physical CPU is a thread. One that runs vCPUs of a multiprocessor guest is [registered](Cpu::register),
//!   which makes it reachable by kicks and lets it sleep until one comes; any other thread that touches a
//!   vCPU counts as a physical CPU of its own, which cannot sleep and needs no kick.
//! * Linux handles the machine's interrupts; there is none for this layer to dispatch.
#![allow(unsafe_code)] // implements the unsafe traits

mod clock;
mod cpu;
mod frames;

pub use clock::monotonic_ns;
pub use cpu::{Cpu, MAX_CPUS, RegisterError};
pub use frames::Frames;

use axvcpu::AxVCpuHal;

/// The platform: this program.
#[derive(Debug)]
pub enum LinuxHal {}

// SAFETY: the word and the id live in thread-local storage, and `cpu` gives different threads different ids.
unsafe impl AxVCpuHal for LinuxHal {
    type MmHal = Frames;

    /// Does nothing: interrupts of the machine never reach a program, and signals have handlers of their own.
    fn irq_hanlder() {}

    #[inline]
    fn cpu_id() -> usize {
        cpu::id()
    }

    #[inline]
    fn is_cpu(cpu: usize) -> bool {
        cpu::is(cpu)
    }

    #[inline]
    fn kick_cpu(cpu: usize) {
        cpu::kick(cpu);
    }

    #[inline]
    fn load_current() -> *mut () {
        cpu::load_current()
    }

    #[inline]
    unsafe fn store_current(word: *mut ()) {
        cpu::store_current(word);
    }
}
