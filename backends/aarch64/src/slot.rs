//! What this crate knows about each physical CPU: whose state its registers hold.

use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use axvcpu::AxVCpuHal;
use axvcpu_hw::Holder;

use crate::image::Image;
use crate::percpu::Features;

/// Physical CPUs are numbered below this: fewer than there are VMIDs of 8 bits.
pub const MAX_CPUS: usize = 128;

/// One physical CPU. Its fields are used on that CPU only, with host interrupts masked, so that relaxed
/// accesses, which cost nothing, are all they need; being atomics they are harmless in wrong hands.
pub(crate) struct Slot {
    enabled: AtomicBool,
    /// Whose registers and stage 2 are loaded. Bound to this CPU.
    pub(crate) resident: Holder<Image>,
    /// Whose floating-point registers are in the CPU. Bound to this CPU.
    pub(crate) fp: Holder<Image>,
    /// How many vCPUs are bound here.
    bound: AtomicUsize,
    features: AtomicU64,
    sve_bytes: AtomicUsize,
    /// The host's exception vectors when virtualization was enabled.
    pub(crate) host_vectors: AtomicU64,
    /// An empty stage-2 table, for when no guest is loaded.
    pub(crate) nothing: AtomicU64,
}

static SLOTS: [Slot; MAX_CPUS] = [const { Slot::new() }; MAX_CPUS];

/// That of no physical CPU.
pub(crate) static NOWHERE: Slot = Slot::new();

impl Slot {
    const fn new() -> Self {
        Self {
            enabled: AtomicBool::new(false),
            resident: Holder::nobody(),
            fp: Holder::nobody(),
            bound: AtomicUsize::new(0),
            features: AtomicU64::new(0),
            sve_bytes: AtomicUsize::new(0),
            host_vectors: AtomicU64::new(0),
            nothing: AtomicU64::new(0),
        }
    }

    /// That of a physical CPU; `None` if the number is too large.
    pub(crate) fn of(cpu: usize) -> Option<&'static Self> {
        SLOTS.get(cpu)
    }

    /// That of the CPU this is called on, if virtualization is on there.
    pub(crate) fn enabled<H: AxVCpuHal>() -> Option<&'static Self> {
        Self::of(H::cpu_id()).filter(|slot| slot.is_enabled())
    }

    pub(crate) fn set_enabled(&self, features: Option<Features>) {
        if let Some(features) = features {
            self.features.store(features.pack(), Ordering::Relaxed);
            self.sve_bytes.store(features.sve_bytes, Ordering::Relaxed);
        }
        self.enabled.store(features.is_some(), Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn features(&self) -> Features {
        let (packed, sve_bytes) =
            (self.features.load(Ordering::Relaxed), self.sve_bytes.load(Ordering::Relaxed));
        Features::unpack(packed, sve_bytes)
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
}
