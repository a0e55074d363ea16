//! The vCPUs of a machine: each with its power state and its counters.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering, fence};

use axvcpu::{AxArchVCpu, AxVCpu};

use crate::host::kick_bound;
use crate::stats::Counters;

/// Whether the guest's firmware has a CPU running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PowerState {
    /// Runs, or waits for an interrupt.
    On = 0,
    /// Does not run until it is started.
    Off = 1,
    /// Was told to start and has not yet.
    Starting = 2,
    /// Sleeps by its own request.
    Suspended = 3,
}

/// Claimed by a starter that has not yet said where. Shown as [`PowerState::Starting`].
const PREPARING: u8 = 4;

impl PowerState {
    fn from_raw(raw: u8) -> Self {
        match raw {
            0 => Self::On,
            1 => Self::Off,
            3 => Self::Suspended,
            _ => Self::Starting,
        }
    }
}

/// The CPU was not off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlreadyOn;

/// One vCPU of a machine.
pub struct Cpu<A: AxArchVCpu> {
    vcpu: AxVCpu<A>,
    power: AtomicU8,
    /// Where to start; written before `Starting`, read after.
    entry: AtomicU64,
    arg: AtomicU64,
    pub(crate) counters: Counters,
}

impl<A: AxArchVCpu> Cpu<A> {
    /// A CPU that is off.
    pub(crate) fn new(vcpu: AxVCpu<A>) -> Self {
        Self {
            vcpu,
            power: AtomicU8::new(PowerState::Off as u8),
            entry: AtomicU64::new(0),
            arg: AtomicU64::new(0),
            counters: Counters::default(),
        }
    }

    /// The vCPU itself.
    #[inline]
    pub fn vcpu(&self) -> &AxVCpu<A> {
        &self.vcpu
    }

    /// Whether it is on.
    #[inline]
    pub fn power(&self) -> PowerState {
        PowerState::from_raw(self.power.load(Ordering::Acquire))
    }

    /// Makes a CPU that is off start at `entry` with `arg` in its argument register. The thread that runs
    /// the vCPU does it.
    pub fn start(&self, entry: u64, arg: u64) -> Result<(), AlreadyOn> {
        let off = PowerState::Off as u8;
        if self
            .power
            .compare_exchange(off, PREPARING, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            return Err(AlreadyOn);
        }
        self.entry.store(entry, Ordering::Relaxed);
        self.arg.store(arg, Ordering::Relaxed);
        self.power.store(PowerState::Starting as u8, Ordering::Release);
        // Either its thread, which binds before it looks, sees `Starting`, or it is bound and is kicked.
        fence(Ordering::SeqCst);
        kick_bound(&self.vcpu);
        Ok(())
    }

    /// If the CPU was told to start: where, and with which argument. It is on from now. For the thread that
    /// runs the vCPU.
    pub(crate) fn take_start(&self) -> Option<(u64, u64)> {
        if self.power.load(Ordering::Acquire) != PowerState::Starting as u8 {
            return None;
        }
        let start = (self.entry.load(Ordering::Relaxed), self.arg.load(Ordering::Relaxed));
        self.set_power(PowerState::On);
        Some(start)
    }

    /// Changes the state of the CPU by its own request; for the thread that runs the vCPU.
    pub(crate) fn set_power(&self, power: PowerState) {
        self.power.store(power as u8, Ordering::Release);
    }
}

/// The vCPUs of a machine, and what must live as long as they do.
pub struct Cpus<A: AxArchVCpu> {
    cpus: Vec<Cpu<A>>,
    /// Stage-2 tables and guest memory. After the vCPUs, because fields are dropped in order.
    _below: Box<dyn Any + Send + Sync>,
}

impl<A: AxArchVCpu> Cpus<A> {
    /// `below` is dropped after the vCPUs.
    pub(crate) fn new(vcpus: Vec<AxVCpu<A>>, below: Box<dyn Any + Send + Sync>) -> Self {
        Self { cpus: vcpus.into_iter().map(Cpu::new).collect(), _below: below }
    }

    /// The CPU with this number in the guest.
    #[inline]
    pub fn get(&self, cpu: u64) -> Option<&Cpu<A>> {
        self.cpus.get(usize::try_from(cpu).ok()?)
    }

    /// All of them, by their numbers.
    pub fn iter(&self) -> core::slice::Iter<'_, Cpu<A>> {
        self.cpus.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.cpus.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.cpus.is_empty()
    }
}

impl<'a, A: AxArchVCpu> IntoIterator for &'a Cpus<A> {
    type Item = &'a Cpu<A>;
    type IntoIter = core::slice::Iter<'a, Cpu<A>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
