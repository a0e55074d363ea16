//! What software set up, and what the CPU interfaces are answered about it.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

use axvcpu::AccessWidth;
use axvcpu_arm::affinity;
use axvcpu_arm::gic::{Forwarding, PRIVATE};

use super::{Register, SPIS};
use crate::updates::Updates;

/// `GICD_CTLR`: Group 0 is enabled.
const GROUP0: u32 = 1 << 0;
/// `GICD_CTLR`: Group 1 is enabled.
const GROUP1: u32 = 1 << 1;
/// Priorities have 32 levels.
const PRIORITY: u8 = 0xf8;
/// `GICD_IROUTER`: Aff2 to Aff0.
const AFFINITY: u32 = 0x00ff_ffff;

/// A device asserts its line.
pub(super) const LEVEL: u8 = 1 << 0;
/// A rising edge makes it pending, not a level.
pub(super) const EDGE: u8 = 1 << 1;

/// 32 interrupts: a bit of each word, and a byte.
#[derive(Default)]
pub(super) struct Bank {
    enabled: AtomicU32,
    /// In Group 1.
    group: AtomicU32,
    priority: [AtomicU8; 32],
}

/// One shared interrupt.
#[derive(Default)]
pub(super) struct Spi {
    pub(super) bits: AtomicU8,
    /// `GICD_IROUTER`, of which no more than this exists.
    route: AtomicU32,
    /// The CPU at which its level is asserted. Belongs to the thread that computes the output.
    pub(super) told: AtomicU32,
    pub(super) updates: Updates,
    /// The CPU that the last edge went to.
    pub(super) edge_at: AtomicU32,
}

/// What each CPU has for itself.
#[derive(Default)]
pub(super) struct Private {
    pub(super) bank: Bank,
    /// Software has cleared `GICR_WAKER`'s ProcessorSleep.
    pub(super) awake: AtomicBool,
    /// What was deactivated by registers and the CPU has not been told of.
    ended: AtomicU64,
    generation: AtomicU32,
}

/// What software set up in an interrupt controller. Exists before the vCPUs, whose CPU interfaces
/// [ask it](Self::forwarding).
pub struct State {
    control: AtomicU32,
    pub(super) bank: Bank,
    pub(super) spis: [Spi; SPIS as usize],
    pub(super) cpus: Box<[Private]>,
}

impl State {
    /// A controller for so many CPUs, after reset: nothing enabled.
    pub fn new(cpus: usize) -> Arc<Self> {
        let cpus = (0..cpus).map(|_| Private::default()).collect();
        let spis = core::array::from_fn(|_| Spi::default());
        Arc::new(Self { control: AtomicU32::new(0), bank: Bank::default(), spis, cpus })
    }

    /// What the CPU interface of `cpu` asks.
    pub fn forwarding(self: &Arc<Self>, cpu: usize) -> Arc<dyn Forwarding> {
        Arc::new(CpuForwarding { state: self.clone(), cpu })
    }

    /// The group enables of `GICD_CTLR`.
    pub(super) fn control(&self) -> u32 {
        self.control.load(Ordering::SeqCst)
    }

    /// Sets them. Answers whether they changed.
    pub(super) fn set_control(&self, control: u32) -> bool {
        let control = control & (GROUP0 | GROUP1);
        self.control.swap(control, Ordering::SeqCst) != control
    }

    /// Deactivates interrupts below 64 at a CPU. The next generation tells it.
    pub(super) fn end(&self, cpu: usize, intids: u64) {
        if let Some(private) = self.cpus.get(cpu) {
            private.ended.fetch_or(intids, Ordering::SeqCst);
        }
    }

    pub(super) fn next_generation(&self, cpu: usize) {
        if let Some(private) = self.cpus.get(cpu) {
            // Whoever reads this number finds everything that was changed before.
            private.generation.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// The CPU that a shared interrupt goes to; none if there is none with its affinity.
    pub(super) fn target(&self, index: usize) -> Option<usize> {
        let route = self.spis.get(index)?.route.load(Ordering::SeqCst);
        let cpu = affinity::cpu(route.into())?;
        (cpu < self.cpus.len()).then_some(cpu)
    }

    pub(super) fn route(&self, index: usize) -> u64 {
        self.spis.get(index).map_or(0, |spi| spi.route.load(Ordering::SeqCst).into())
    }

    /// Changes a route. Answers whether it is another one.
    pub(super) fn set_route(&self, index: usize, route: u32) -> bool {
        let route = route & AFFINITY;
        self.spis.get(index).is_some_and(|spi| spi.route.swap(route, Ordering::SeqCst) != route)
    }

    fn priority(&self, cpu: usize, intid: u32) -> Option<u8> {
        let (bank, bit) = match intid.checked_sub(PRIVATE) {
            None => (&self.cpus.get(cpu)?.bank, intid),
            Some(bit) => (&self.bank, bit),
        };
        let priority = bank.priority.get(bit as usize)?;
        let group = if bank.group.load(Ordering::SeqCst) >> bit & 1 != 0 { GROUP1 } else { GROUP0 };
        let enabled = bank.enabled.load(Ordering::SeqCst) >> bit & 1 != 0;
        (enabled && self.control() & group != 0).then(|| priority.load(Ordering::SeqCst))
    }
}

impl Bank {
    /// Reads a register that software alone determines; `None` for the others.
    pub(super) fn read(&self, register: Register, width: AccessWidth) -> Option<u32> {
        match register {
            Register::Group => Some(self.group.load(Ordering::SeqCst)),
            Register::SetEnable | Register::ClearEnable => {
                Some(self.enabled.load(Ordering::SeqCst))
            }
            Register::Priority(first) => {
                let bytes = self.priority.iter().skip(first).take(width.bytes()).enumerate();
                Some(bytes.fold(0, |word, (i, byte)| {
                    word | u32::from(byte.load(Ordering::SeqCst)) << (8 * i)
                }))
            }
            Register::SetPending
            | Register::ClearPending
            | Register::ClearActive
            | Register::Config(_) => None,
        }
    }

    /// Writes one. Answers which interrupts that changed; `None` for the others.
    pub(super) fn write(&self, register: Register, width: AccessWidth, data: u32) -> Option<u32> {
        match register {
            Register::Group => Some(self.group.swap(data, Ordering::SeqCst) ^ data),
            Register::SetEnable => Some(!self.enabled.fetch_or(data, Ordering::SeqCst) & data),
            Register::ClearEnable => Some(self.enabled.fetch_and(!data, Ordering::SeqCst) & data),
            Register::Priority(first) => {
                let bytes = self.priority.iter().enumerate().skip(first).take(width.bytes());
                Some(bytes.fold(0, |changed, (i, byte)| {
                    let new = (data >> (8 * (i - first))) as u8 & PRIORITY;
                    changed | u32::from(byte.swap(new, Ordering::SeqCst) != new) << i
                }))
            }
            Register::SetPending
            | Register::ClearPending
            | Register::ClearActive
            | Register::Config(_) => None,
        }
    }
}

/// A CPU, or none, as a number that can be changed at once.
pub(super) fn encode(cpu: Option<usize>) -> u32 {
    cpu.map_or(0, |cpu| cpu as u32 + 1)
}

pub(super) fn decode(word: u32) -> Option<usize> {
    word.checked_sub(1).map(|cpu| cpu as usize)
}

struct CpuForwarding {
    state: Arc<State>,
    cpu: usize,
}

impl Forwarding for CpuForwarding {
    fn generation(&self) -> u32 {
        self.state.cpus.get(self.cpu).map_or(0, |cpu| cpu.generation.load(Ordering::SeqCst))
    }

    fn take_ended(&self) -> u64 {
        self.state.cpus.get(self.cpu).map_or(0, |cpu| cpu.ended.swap(0, Ordering::SeqCst))
    }

    fn priority(&self, intid: u32) -> Option<u8> {
        self.state.priority(self.cpu, intid)
    }
}
