//! The virtual machine: its parts, and how it ends.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering, fence};

use axvcpu::{AxArchVCpu, AxResult, AxVCpu, AxVCpuExitReason};
use spin::Mutex;

use crate::host::kick_bound;
use crate::{Bus, ConsoleSink, CpuStats, Cpus, GuestMemory, Outcome, VmHost};

/// A call of the guest to its firmware, as [`Hypercall`](axvcpu::AxVCpuExitReason::Hypercall) describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// The vCPU that calls.
    pub cpu: usize,
    /// The call number.
    pub nr: u64,
    /// The function within the call.
    pub function: u64,
    /// The arguments.
    pub args: [u64; 6],
}

/// What a vCPU does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Goes on.
    Run,
    /// Goes on, unless the machine has ended or another vCPU of the same physical CPU has to run first.
    Yield,
    /// Waits for an event, at most until this moment on the host's clock, if it is off or blocked.
    Wait {
        /// `None` waits for the event alone.
        deadline_ns: Option<u64>,
    },
}

/// The firmware of an architecture: what answers the guest's calls and starts its CPUs.
pub trait Firmware<A: AxArchVCpu>: Sized {
    /// Carries out `call`, and leaves its results in the vCPU's registers. Runs on the thread of the calling
    /// vCPU. An error ends the machine: what the guest does wrong is answered to the guest.
    fn call(&self, vm: &Vm<A, Self>, host: &impl VmHost, call: Call) -> AxResult<Next>;

    /// Does what concerns the architecture alone: interrupts between CPUs, system registers, I/O ports that no device
    /// has, exits the run loop does not know. An exit that asks for a value is answered here. `None`, the default, if it
    /// does not either. Runs like [`call`](Self::call).
    fn exit(
        &self,
        vm: &Vm<A, Self>,
        host: &impl VmHost,
        cpu: usize,
        exit: &AxVCpuExitReason,
    ) -> AxResult<Option<Next>> {
        let _ = (vm, host, cpu, exit);
        Ok(None)
    }

    /// Puts a vCPU that is in its reset state where it starts: at `entry` with `arg`.
    fn start(&self, vcpu: &AxVCpu<A>, entry: u64, arg: u64) -> AxResult;
}

/// A virtual machine with the firmware `F`.
pub struct Vm<A: AxArchVCpu, F> {
    pub(crate) cpus: Arc<Cpus<A>>,
    pub(crate) memory: Arc<GuestMemory>,
    pub(crate) bus: Bus,
    pub(crate) ports: Bus,
    pub(crate) firmware: F,
    pub(crate) console: Arc<dyn ConsoleSink>,
    ended: AtomicBool,
    outcome: Mutex<Option<Outcome>>,
}

impl<A: AxArchVCpu, F: Firmware<A>> Vm<A, F> {
    /// Puts a machine together. `cpus` are set up on stage-2 tables that map `memory`. Addresses on `ports` are the
    /// numbers of I/O ports; architectures without them leave it empty.
    pub(crate) fn assemble(
        cpus: Arc<Cpus<A>>,
        memory: Arc<GuestMemory>,
        bus: Bus,
        ports: Bus,
        firmware: F,
        console: Arc<dyn ConsoleSink>,
    ) -> Self {
        Self {
            cpus,
            memory,
            bus,
            ports,
            firmware,
            console,
            ended: AtomicBool::new(false),
            outcome: Mutex::new(None),
        }
    }

    /// The vCPUs.
    pub fn cpus(&self) -> &Cpus<A> {
        &self.cpus
    }

    /// The guest's memory.
    pub fn memory(&self) -> &GuestMemory {
        &self.memory
    }

    /// The devices.
    pub fn bus(&self) -> &Bus {
        &self.bus
    }

    /// The devices at I/O ports, where the architecture has such: addresses are the ports' numbers.
    pub fn ports(&self) -> &Bus {
        &self.ports
    }

    /// Ends the machine, from any thread: every vCPU leaves the guest and the run functions return. Only the
    /// first outcome counts; that one is returned.
    pub fn stop(&self, outcome: Outcome) -> Outcome {
        let outcome = *self.outcome.lock().get_or_insert(outcome);
        self.ended.store(true, Ordering::Release);
        // A vCPU's thread either binds after this and sees that the machine has ended, or is bound and kicked.
        fence(Ordering::SeqCst);
        for cpu in &*self.cpus {
            cpu.vcpu().kick();
            kick_bound(cpu.vcpu());
        }
        outcome
    }

    /// Whether the machine has ended.
    #[inline]
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// How the machine ended; `None` while it runs.
    pub fn outcome(&self) -> Option<Outcome> {
        *self.outcome.lock()
    }

    /// What all vCPUs did so far, together.
    pub fn total_stats(&self) -> CpuStats {
        self.stats().into_iter().sum()
    }

    /// What each vCPU did so far.
    pub fn stats(&self) -> Vec<CpuStats> {
        self.cpus.iter().map(|cpu| cpu.counters.snapshot()).collect()
    }
}
