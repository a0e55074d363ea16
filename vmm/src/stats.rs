//! How often and why each vCPU left the guest, and where the time went.

use core::fmt;
use core::iter::Sum;
use core::ops::Add;
use core::sync::atomic::{AtomicU64, Ordering};

use axvcpu::AxVCpuExitReason;

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal,)*) => {
        /// The reasons that are counted apart.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ExitKind { $($(#[$doc])* $kind,)* }

        impl ExitKind {
            /// All of them, in the order in which they are shown.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$kind),*];

            /// A short name for tables.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }
        }
    };
}

kinds! {
    /// Calls of the firmware.
    Hypercall = "hypercall",
    /// Loads from devices.
    MmioRead = "mmio read",
    /// Stores to devices.
    MmioWrite = "mmio write",
    /// Reads from I/O ports.
    IoRead = "port read",
    /// Writes to I/O ports.
    IoWrite = "port write",
    /// Accesses to system registers.
    SysReg = "system register",
    /// Interrupts from one CPU of the guest to others, where the backend reports them as such.
    Ipi = "ipi",
    /// Waits for an interrupt.
    Halt = "halt",
    /// Host interrupts.
    ExternalInterrupt = "host interrupt",
    /// Fetches, atomics and page-table walks outside of memory.
    NestedPageFault = "nested page fault",
    /// Kicks, and the ends of time slices.
    Nothing = "kick",
    /// Power control and failed entries, where the backend reports them as such.
    Other = "other",
    /// Accesses, of those above, to addresses, ports and system registers at which nothing answers.
    Unclaimed = "of these, unclaimed",
}

impl ExitKind {
    /// What `exit` is counted as.
    pub fn of(exit: &AxVCpuExitReason) -> Self {
        use AxVCpuExitReason as Exit;
        match exit {
            Exit::Hypercall { .. } => Self::Hypercall,
            Exit::MmioRead { .. } => Self::MmioRead,
            Exit::MmioWrite { .. } => Self::MmioWrite,
            Exit::IoRead { .. } => Self::IoRead,
            Exit::IoWrite { .. } => Self::IoWrite,
            Exit::SysRegRead { .. } | Exit::SysRegWrite { .. } => Self::SysReg,
            Exit::SendIpi { .. } => Self::Ipi,
            Exit::Halt { .. } => Self::Halt,
            Exit::ExternalInterrupt { .. } => Self::ExternalInterrupt,
            Exit::NestedPageFault { .. } => Self::NestedPageFault,
            Exit::Nothing => Self::Nothing,
            _ => Self::Other,
        }
    }
}

const KINDS: usize = ExitKind::ALL.len();

/// The counters of one vCPU. Written by the thread that runs it, read by anybody; a cache line or more of
/// its own, so that vCPUs do not slow each other down.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct Counters {
    exits: [AtomicU64; KINDS],
    outside_ns: [AtomicU64; KINDS],
    in_guest_ns: AtomicU64,
}

impl Counters {
    #[inline]
    pub(crate) fn count(&self, kind: ExitKind) {
        bump(&self.exits[kind as usize], 1);
    }

    pub(crate) fn in_guest(&self, ns: u64) {
        bump(&self.in_guest_ns, ns);
    }

    pub(crate) fn outside(&self, kind: ExitKind, ns: u64) {
        bump(&self.outside_ns[kind as usize], ns);
    }

    pub(crate) fn snapshot(&self) -> CpuStats {
        CpuStats {
            exits: core::array::from_fn(|i| self.exits[i].load(Ordering::Relaxed)),
            in_guest_ns: self.in_guest_ns.load(Ordering::Relaxed),
            outside_ns: core::array::from_fn(|i| self.outside_ns[i].load(Ordering::Relaxed)),
        }
    }
}

/// Adds without a locked instruction: there is one writer.
#[inline]
fn bump(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
}

/// What one vCPU did, or several together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuStats {
    exits: [u64; KINDS],
    outside_ns: [u64; KINDS],
    /// Nanoseconds from entries to exits, if the host [measures](crate::VmHost::exit_clock_ns).
    pub in_guest_ns: u64,
}

impl CpuStats {
    /// How often the vCPU left the guest for this reason.
    pub fn count(&self, kind: ExitKind) -> u64 {
        self.exits[kind as usize]
    }

    /// Nanoseconds spent on exits for this reason, from the exit to the next entry without waiting, if the host
    /// [measures](crate::VmHost::exit_clock_ns).
    pub fn time_ns(&self, kind: ExitKind) -> u64 {
        self.outside_ns[kind as usize]
    }

    /// Nanoseconds spent on exits of all kinds.
    pub fn outside_ns(&self) -> u64 {
        self.outside_ns.iter().sum()
    }

    /// How often the vCPU left the guest.
    pub fn total(&self) -> u64 {
        self.iter().filter(|&(kind, _)| kind != ExitKind::Unclaimed).map(|(_, count)| count).sum()
    }

    /// Reasons and counts, without those that did not occur.
    pub fn iter(&self) -> impl Iterator<Item = (ExitKind, u64)> + '_ {
        ExitKind::ALL.into_iter().zip(self.exits).filter(|&(_, count)| count != 0)
    }
}

impl Add for CpuStats {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            exits: core::array::from_fn(|i| self.exits[i].wrapping_add(other.exits[i])),
            in_guest_ns: self.in_guest_ns.wrapping_add(other.in_guest_ns),
            outside_ns: core::array::from_fn(|i| {
                self.outside_ns[i].wrapping_add(other.outside_ns[i])
            }),
        }
    }
}

impl Sum for CpuStats {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::default(), Self::add)
    }
}

impl fmt::Display for CpuStats {
    /// One line for each reason that occurred.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, count) in self.iter() {
            writeln!(f, "{:<20} {count:>12}", kind.name())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn counts_and_adds_up() {
        let counters = Counters::default();
        for _ in 0..3 {
            counters.count(ExitKind::of(&AxVCpuExitReason::Halt { wake_after_ns: None }));
        }
        counters.count(ExitKind::of(&AxVCpuExitReason::Nothing));
        counters.count(ExitKind::Unclaimed);
        counters.in_guest(5);
        counters.outside(ExitKind::Halt, 7);
        let one = counters.snapshot();
        assert_eq!((one.count(ExitKind::Halt), one.total()), (3, 4));
        let two: CpuStats = [one, one].into_iter().sum();
        assert_eq!((two.count(ExitKind::Nothing), two.in_guest_ns, two.outside_ns()), (2, 10, 14));
        assert_eq!((two.time_ns(ExitKind::Halt), two.time_ns(ExitKind::Nothing)), (14, 0));
        assert!(two.to_string().contains("halt                            6\n"));
        assert!(!two.to_string().contains("port"));
    }
}
