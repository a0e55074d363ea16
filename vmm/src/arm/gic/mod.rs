//! The distributor and the redistributors of a GICv3 (Arm IHI 0069, "Arm Generic Interrupt Controller Architecture
//! Specification"), without locks.
//!
//! The CPU interfaces are the backend's, and with them everything that happens to an interrupt from the moment it is
//! forwarded: what is pending is presented, acknowledged and deactivated there. So the controller consists of what
//! software set up ([`State`]), which the backend [asks for](axvcpu_arm::gic::Forwarding), and of the wiring ([`Gic`]),
//! which forwards whatever a device or the guest makes pending, enabled or not. What follows from that:
//!
//! * An edge that was forwarded cannot be taken back: `ICPENDR` has no effect, and a new route holds for the next edge. What software
//!   makes pending is an edge. `ISPENDR` reads as levels.
//! * The active states are not seen here: `ISACTIVER` and `ICACTIVER` read as zero. A write of `ICACTIVER` is passed on to the CPU
//!   interfaces, as a kernel does it that takes over from one in the midst of an interrupt; `ISACTIVER` ignores them.
//! * Affinity routing is always on, for a single security state; there are no LPIs. An interrupt for any CPU goes to
//!   the first one. Interrupts of both groups are presented alike.
//! * Registers take effect at once, so that nobody has to wait for them. That a CPU which is in the guest sees them
//!   takes as long as it takes to leave.

mod distributor;
mod redistributor;
mod state;

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use axvcpu::{AccessWidth, AxArchVCpu, Fence, VCpuState};
use axvcpu_arm::gic::PRIVATE;

use distributor::Distributor;
use redistributor::Redistributors;
use state::{EDGE, LEVEL};

use crate::devices::IrqLine;
use crate::{Cpus, MmioDevice, PowerState};

pub use state::State;

/// Interrupts that are shared by all CPUs: 32 to 63.
pub const SPIS: u32 = 32;
/// Bytes of address space of the distributor.
pub const DISTRIBUTOR_SIZE: u64 = 0x1_0000;
/// Bytes of address space of each CPU's redistributor.
pub const REDISTRIBUTOR_SIZE: u64 = 0x2_0000;

/// Where a frame says which architecture it has.
const PIDR2: u64 = 0xffe8;
/// GICv3.
const ARCHITECTURE: u64 = 3 << 4;

/// The CPU interfaces of the vCPUs.
pub trait CpuInterfaces: Send + Sync {
    /// Forwards an edge to a CPU. One that is off starts without anything pending.
    fn raise_edge(&self, cpu: usize, intid: u32);

    /// Raises or lowers a level at a CPU.
    fn set_level(&self, cpu: usize, intid: u32, asserted: bool);

    /// Makes a CPU look at [`generation`](axvcpu_arm::gic::Forwarding::generation) again before its next instruction,
    /// or soon if it is in the guest, and ends its wait. Comes after the change.
    fn refresh(&self, cpu: usize);
}

impl<A: AxArchVCpu + Send> CpuInterfaces for Cpus<A> {
    fn raise_edge(&self, cpu: usize, intid: u32) {
        let Some(cpu) = self.get(cpu as u64) else { return };
        if cpu.power() != PowerState::Off {
            // Fails only for a vCPU that is invalid and will never run again.
            let _ = cpu.vcpu().inject_interrupt(intid as usize);
        }
    }

    fn set_level(&self, cpu: usize, intid: u32, asserted: bool) {
        if let Some(cpu) = self.get(cpu as u64) {
            // As above.
            let _ = cpu.vcpu().set_interrupt_line(intid as usize, asserted);
        }
    }

    /// A kick would do, but whoever makes the change is outside of the guest itself and would be kicked for nothing.
    ///
    /// So the state decides, and it must not be an old one. Its word in the vCPU is written by each transition and by
    /// each request, also by one that asks for nothing, and an entry reads what was written before. If an entry follows
    /// this request, it sees the change made before. If it came first, its vCPU is seen running, or has left the guest
    /// since, and is seen waiting or on its way to the next entry, which follows.
    fn refresh(&self, cpu: usize) {
        let Some(cpu) = self.get(cpu as u64) else { return };
        let vcpu = cpu.vcpu();
        if vcpu.state() == VCpuState::Running {
            // A request as well: if it is not running any more, this costs its next entry.
            return vcpu.kick();
        }
        vcpu.request_fence(Fence::empty());
        if matches!(vcpu.state(), VCpuState::Running | VCpuState::Blocked) {
            vcpu.kick();
        }
    }
}

/// The interrupt controller of a machine.
pub struct Gic {
    state: Arc<State>,
    cpus: Arc<dyn CpuInterfaces>,
}

impl Gic {
    /// Connects a controller to the CPU interfaces that were made with [its answers](State::forwarding).
    pub fn new(state: Arc<State>, cpus: Arc<dyn CpuInterfaces>) -> Self {
        Self { state, cpus }
    }

    /// The line of a shared interrupt, to be given to its device. `None` unless `intid` is one.
    pub fn line(self: &Arc<Self>, intid: u32) -> Option<Arc<dyn IrqLine>> {
        let index = intid.checked_sub(PRIVATE).filter(|&index| index < SPIS)?;
        Some(Arc::new(SpiLine { gic: self.clone(), index: index as usize }))
    }

    /// The distributor's registers, [`DISTRIBUTOR_SIZE`] bytes.
    pub fn distributor(self: &Arc<Self>) -> Arc<dyn MmioDevice> {
        Arc::new(Distributor(self.clone()))
    }

    /// The redistributors' registers, [`REDISTRIBUTOR_SIZE`] bytes for each CPU.
    pub fn redistributors(self: &Arc<Self>) -> Arc<dyn MmioDevice> {
        Arc::new(Redistributors(self.clone()))
    }

    /// A device changed the level of its line.
    fn set_level(&self, index: usize, asserted: bool) {
        let Some(spi) = self.state.spis.get(index) else { return };
        let before = if asserted {
            spi.bits.fetch_or(LEVEL, Ordering::SeqCst)
        } else {
            spi.bits.fetch_and(!LEVEL, Ordering::SeqCst)
        };
        if before & EDGE == 0 {
            self.update(index);
        } else if asserted && before & LEVEL == 0 {
            self.raise_edge(index);
        }
    }

    /// Forwards an edge: of a device, or of software that makes an interrupt pending, which is over once it is taken, whatever
    /// the interrupt's kind (IHI 0069, 4.1.2).
    fn raise_edge(&self, index: usize) {
        let (Some(spi), Some(cpu)) = (self.state.spis.get(index), self.state.target(index)) else {
            return;
        };
        spi.edge_at.store(state::encode(Some(cpu)), Ordering::SeqCst);
        self.cpus.raise_edge(cpu, PRIVATE + index as u32);
    }

    /// Tells the CPUs at which of them a level is asserted.
    fn update(&self, index: usize) {
        let Some(spi) = self.state.spis.get(index) else { return };
        let intid = PRIVATE + index as u32;
        spi.updates.run(|| {
            let bits = spi.bits.load(Ordering::SeqCst);
            let asserted = bits & (EDGE | LEVEL) == LEVEL;
            let now = if asserted { self.state.target(index) } else { None };
            let before = state::decode(spi.told.swap(state::encode(now), Ordering::Relaxed));
            if before == now {
                return;
            }
            if let Some(cpu) = before {
                self.cpus.set_level(cpu, intid, false);
            }
            if let Some(cpu) = now {
                self.cpus.set_level(cpu, intid, true);
            }
        });
    }

    /// What a CPU was answered about its interrupts has changed.
    fn changed_for(&self, cpu: usize) {
        self.state.next_generation(cpu);
        self.cpus.refresh(cpu);
    }

    /// What was answered about a shared interrupt has changed: for the CPU it goes to, and for the one that the last
    /// edge went to and may still wait at. Who changes the route at this moment tells the new one himself.
    fn changed(&self, index: usize) {
        let Some(spi) = self.state.spis.get(index) else { return };
        let target = self.state.target(index);
        let edge_at = state::decode(spi.edge_at.load(Ordering::SeqCst));
        if let Some(cpu) = target {
            self.changed_for(cpu);
        }
        if let Some(cpu) = edge_at.filter(|_| edge_at != target) {
            self.changed_for(cpu);
        }
    }
}

/// Registers that a frame has for the 32 interrupts of a bank.
#[derive(Clone, Copy)]
enum Register {
    Group,
    SetEnable,
    ClearEnable,
    SetPending,
    ClearPending,
    ClearActive,
    /// The priority of this interrupt, and, a word at a time, of the next three.
    Priority(usize),
    /// The triggers of the first or the second 16.
    Config(u32),
}

impl Register {
    /// The register at `offset` of a frame, if it belongs to the interrupts from 32 × `bank` on.
    fn at(offset: u64, bank: u64) -> Option<Self> {
        let word = |register, base| ((offset - base) / 4 == bank).then_some(register);
        match offset {
            0x080..0x100 => word(Self::Group, 0x080),
            0x100..0x180 => word(Self::SetEnable, 0x100),
            0x180..0x200 => word(Self::ClearEnable, 0x180),
            0x200..0x280 => word(Self::SetPending, 0x200),
            0x280..0x300 => word(Self::ClearPending, 0x280),
            0x380..0x400 => word(Self::ClearActive, 0x380),
            0x400..0x800 => {
                let index = offset - 0x400;
                (index / 32 == bank).then_some(Self::Priority((index % 32) as usize))
            }
            0xc00..0xd00 => {
                let half = (offset - 0xc00) / 4;
                (half / 2 == bank).then_some(Self::Config((half % 2) as u32))
            }
            _ => None,
        }
    }
}

/// Registers are words, priorities bytes too.
fn is_word_or_priority(offset: u64, width: AccessWidth) -> bool {
    match width {
        AccessWidth::Dword => true,
        AccessWidth::Byte => (0x400..0x800).contains(&offset),
        _ => false,
    }
}

/// Of a register of 64 bits what an access to it or one half of it reads.
fn part(value: u64, offset: u64, width: AccessWidth) -> u64 {
    if width == AccessWidth::Qword { value } else { value >> (8 * (offset % 8)) & 0xffff_ffff }
}

/// The numbers of the bits that are set.
fn bits(mut word: u32) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        let bit = word.trailing_zeros();
        word &= word.wrapping_sub(1);
        (bit < 32).then_some(bit as usize)
    })
}

struct SpiLine {
    gic: Arc<Gic>,
    index: usize,
}

impl IrqLine for SpiLine {
    fn set(&self, asserted: bool) {
        self.gic.set_level(self.index, asserted);
    }
}

#[cfg(test)]
mod tests;
