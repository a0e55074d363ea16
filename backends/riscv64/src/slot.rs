//! What this crate knows about each physical CPU: whose state its registers hold.

use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use axvcpu::AxVCpuHal;
use axvcpu_hw::Holder;

use crate::image::Image;
use crate::percpu::Features;

/// Physical CPUs are numbered below this.
pub const MAX_CPUS: usize = 256;

/// One physical CPU. Its fields are used on that CPU only, with host interrupts masked, so that relaxed
/// accesses, which cost nothing, are all they need; being atomics they are harmless in wrong hands.
pub(crate) struct Slot {
    enabled: AtomicBool,
    /// Whose registers and stage 2 are loaded. Bound to this CPU.
    pub(crate) resident: Holder<Image>,
    /// How many vCPUs are bound here.
    bound: AtomicUsize,
    /// The next VMID never used since everything was flushed.
    next_vmid: AtomicU64,
    /// How often that was: VMIDs of another generation mean nothing.
    generation: AtomicU64,
    features: [AtomicU64; 4],
    /// The host's registers when virtualization was enabled.
    pub(crate) host: HostRegisters,
}

/// The host's registers that guests displace, as they were when virtualization was enabled.
#[derive(Default)]
pub(crate) struct HostRegisters {
    pub(crate) stvec: AtomicU64,
    pub(crate) sscratch: AtomicU64,
    pub(crate) sstatus: AtomicU64,
    pub(crate) hstatus: AtomicU64,
    pub(crate) scounteren: AtomicU64,
    pub(crate) senvcfg: AtomicU64,
}

static SLOTS: [Slot; MAX_CPUS] = [const { Slot::new() }; MAX_CPUS];

/// That of no physical CPU.
pub(crate) static NOWHERE: Slot = Slot::new();

/// A VMID of one physical CPU, for as long as its generation lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Vmid {
    pub(crate) number: u64,
    pub(crate) generation: u64,
}

impl Slot {
    const fn new() -> Self {
        Self {
            enabled: AtomicBool::new(false),
            resident: Holder::nobody(),
            bound: AtomicUsize::new(0),
            next_vmid: AtomicU64::new(0),
            generation: AtomicU64::new(0),
            features: [const { AtomicU64::new(0) }; 4],
            host: HostRegisters {
                stvec: AtomicU64::new(0),
                sscratch: AtomicU64::new(0),
                sstatus: AtomicU64::new(0),
                hstatus: AtomicU64::new(0),
                scounteren: AtomicU64::new(0),
                senvcfg: AtomicU64::new(0),
            },
        }
    }

    /// That of a physical CPU; `None` if the number is too large.
    pub(crate) fn of(cpu: usize) -> Option<&'static Self> {
        SLOTS.get(cpu)
    }

    /// That of the CPU this is called on, if virtualization is on there.
    pub(crate) fn enabled<H: AxVCpuHal>() -> Option<&'static Self> {
        Self::of(H::cpu_id()).filter(|slot| slot.enabled.load(Ordering::Relaxed))
    }

    pub(crate) fn set_enabled(&self, features: Option<Features>) {
        if let Some(f) = features {
            let values = [
                u64::from(f.sstc) | u64::from(f.fp) << 1 | u64::from(f.stateen) << 2,
                f.vlenb as u64,
                f.vmid_bits.into(),
                f.stage2_modes.into(),
            ];
            for (word, value) in self.features.iter().zip(values) {
                word.store(value, Ordering::Relaxed);
            }
            // Whatever another generation has left here is flushed with the first use of its VMID.
            self.next_generation();
        }
        self.enabled.store(features.is_some(), Ordering::Relaxed);
    }

    pub(crate) fn features(&self) -> Features {
        let [flags, vlenb, vmid_bits, modes] =
            [0, 1, 2, 3].map(|i: usize| self.features[i].load(Ordering::Relaxed));
        Features {
            sstc: flags & 1 != 0,
            fp: flags & 2 != 0,
            stateen: flags & 4 != 0,
            vlenb: vlenb as usize,
            vmid_bits: vmid_bits as u32,
            stage2_modes: modes as u16,
        }
    }

    pub(crate) fn add_bound(&self) {
        self.bound.store(self.bound.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    pub(crate) fn remove_bound(&self) {
        self.bound.store(self.bound.load(Ordering::Relaxed).saturating_sub(1), Ordering::Relaxed);
    }

    /// Whether vCPUs are bound here, loaded or not.
    pub(crate) fn is_used(&self) -> bool {
        self.bound.load(Ordering::Relaxed) != 0
    }

    pub(crate) fn is_enabled(&self) -> bool {
        self.enabled.load(Ordering::Relaxed)
    }

    /// VMID 0 is what the hart uses without a guest: guests get it only where there is no other.
    fn next_generation(&self) {
        let first = u64::from(self.features[2].load(Ordering::Relaxed) != 0);
        self.generation.store(self.generation.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        self.next_vmid.store(first, Ordering::Relaxed);
    }

    /// Whether a VMID that this CPU gave out is still its owner's.
    pub(crate) fn is_current(&self, vmid: Vmid) -> bool {
        vmid.generation == self.generation.load(Ordering::Relaxed)
    }

    /// A VMID that nobody else uses on this CPU. What the hart remembers under it from an earlier generation
    /// must be flushed before it is used.
    pub(crate) fn new_vmid(&self) -> Vmid {
        let vmid_bits = self.features[2].load(Ordering::Relaxed);
        if self.next_vmid.load(Ordering::Relaxed) >> vmid_bits != 0 {
            self.next_generation();
        }
        let number = self.next_vmid.load(Ordering::Relaxed);
        self.next_vmid.store(number + 1, Ordering::Relaxed);
        Vmid { number, generation: self.generation.load(Ordering::Relaxed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(cpu: usize, vmid_bits: u32) -> &'static Slot {
        let slot = Slot::of(cpu).unwrap();
        slot.set_enabled(Some(Features { vmid_bits, ..Features::default() }));
        slot
    }

    #[test]
    fn vmids_are_unique_within_a_generation() {
        let slot = slot(200, 3);
        let first: [Vmid; 7] = core::array::from_fn(|_| slot.new_vmid());
        for (number, vmid) in (1..).zip(&first) {
            assert_eq!(vmid.number, number);
            assert!(slot.is_current(*vmid));
        }
        let second = slot.new_vmid();
        assert_eq!(second.number, 1);
        assert!(slot.is_current(second) && !slot.is_current(first[0]));
    }

    #[test]
    fn without_vmids_every_vcpu_gets_a_new_generation() {
        let slot = slot(201, 0);
        let (a, b) = (slot.new_vmid(), slot.new_vmid());
        assert_eq!((a.number, b.number), (0, 0));
        assert!(!slot.is_current(a) && slot.is_current(b));
    }

    #[test]
    fn features_are_kept_as_found() {
        let features = Features {
            sstc: true,
            fp: true,
            stateen: false,
            vlenb: 16,
            vmid_bits: 14,
            stage2_modes: 0x700,
        };
        let slot = Slot::of(202).unwrap();
        slot.set_enabled(Some(features));
        assert_eq!(slot.features(), features);
        assert!(Slot::of(MAX_CPUS).is_none());
    }
}
