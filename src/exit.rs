//! Why a guest stopped running: architecture-neutral and owned, so that it outlives the vCPU's next run.

use crate::GuestPhysAddr;
use crate::control::{ANSWERABLE, UNANSWERED};

/// The size of a memory, port or register access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum AccessWidth {
    /// 1 byte.
    Byte = 1,
    /// 2 bytes.
    Word = 2,
    /// 4 bytes.
    Dword = 4,
    /// 8 bytes.
    Qword = 8,
}

impl AccessWidth {
    /// The width in bytes.
    #[inline]
    pub const fn bytes(self) -> usize {
        self as usize
    }

    /// A value with the bits of this width set.
    #[inline]
    pub const fn mask(self) -> u64 {
        u64::MAX >> (64 - 8 * self as u32)
    }

    /// The width of `bytes` bytes; `None` unless it is 1, 2, 4 or 8.
    #[inline]
    pub const fn from_bytes(bytes: usize) -> Option<Self> {
        Some(match bytes {
            1 => Self::Byte,
            2 => Self::Word,
            4 => Self::Dword,
            8 => Self::Qword,
            _ => return None,
        })
    }
}

/// What a guest tried to do with memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AccessKind {
    /// A load, or the read of a page-table entry.
    Read,
    /// A store, an atomic read-modify-write, or the update of a page-table entry.
    Write,
    /// An instruction fetch.
    Execute,
}

/// Why [`AxVCpu::run`](crate::AxVCpu::run) came back.
///
/// Exits marked *asks* must be answered with [`set_return_value`](crate::AxVCpu::set_return_value) before
/// the vCPU runs again; the backend writes the answer to the right register, with the width and extension
/// the guest's instruction demands. An exit that is not marked has already been completed: the next run
/// goes on behind the instruction that caused it. The exits that stand for a call ([`Hypercall`](Self::Hypercall),
/// [`CpuUp`](Self::CpuUp), [`CpuDown`](Self::CpuDown), [`SystemDown`](Self::SystemDown),
/// [`SystemReset`](Self::SystemReset), [`SendIpi`](Self::SendIpi)) may be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AxVCpuExitReason {
    /// The guest called its firmware or hypervisor.
    ///
    /// *May be answered*: the value goes to the call's first result register (`a0`, `x0`, `rax`). Further
    /// results are written with [`set_gpr`](crate::AxVCpu::set_gpr).
    Hypercall {
        /// The call number: `a7` (SBI extension), `x0` (SMCCC function id), `rax`.
        nr: u64,
        /// The function within the call where the architecture has one (`a6`, SBI function), else 0.
        function: u64,
        /// The arguments: `a0..a5`, `x1..x6`, or `rbx, rcx, rdx, rsi, rdi, r8`.
        args: [u64; 6],
    },
    /// A load from an address stage 2 does not map. *Asks* for the value read.
    MmioRead {
        /// The first byte accessed.
        addr: GuestPhysAddr,
        /// How many bytes.
        width: AccessWidth,
    },
    /// A store to an address stage 2 does not map for writing.
    MmioWrite {
        /// The first byte accessed.
        addr: GuestPhysAddr,
        /// How many bytes.
        width: AccessWidth,
        /// The value stored; bits beyond `width` are zero.
        data: u64,
    },
    /// A read from an I/O port (x86). *Asks* for the value read.
    IoRead {
        /// The port.
        port: u16,
        /// How many bytes; never [`AccessWidth::Qword`].
        width: AccessWidth,
    },
    /// A write to an I/O port (x86).
    IoWrite {
        /// The port.
        port: u16,
        /// How many bytes; never [`AccessWidth::Qword`].
        width: AccessWidth,
        /// The value written; bits beyond `width` are zero.
        data: u64,
    },
    /// A read of a system register the backend does not handle itself. *Asks* for the value.
    SysRegRead {
        /// The register, in the architecture's own encoding (CSR number, MSR index, `op0..op2` packed).
        addr: u64,
    },
    /// A write to a system register the backend does not handle itself.
    SysRegWrite {
        /// The register, in the architecture's own encoding.
        addr: u64,
        /// The value written.
        value: u64,
    },
    /// Stage 2 refused an access that is not a plain load or store: an instruction fetch, the walk of the
    /// guest's own page tables, an atomic. The instruction has not completed: the next run repeats it.
    NestedPageFault {
        /// The guest physical address that is not mapped or lacks the permission.
        addr: GuestPhysAddr,
        /// What the guest tried to do there.
        access: AccessKind,
    },
    /// A host interrupt ended the run and waits to be dispatched.
    ExternalInterrupt {
        /// The host's number of the interrupt, as [`AxVCpuHal::irq_fetch`](crate::AxVCpuHal::irq_fetch)
        /// gives it.
        vector: u64,
    },
    /// The guest waits for an interrupt. The vCPU is now [`Blocked`](crate::VCpuState::Blocked) unless
    /// something to wake it for was already pending.
    Halt {
        /// Nanoseconds until the guest's own timer fires, when it has one armed: the host should
        /// [`wake`](crate::AxVCpu::wake) the vCPU then.
        wake_after_ns: Option<u64>,
    },
    /// The guest starts one of its CPUs.
    CpuUp {
        /// The CPU, in the guest's numbering.
        target_cpu: u64,
        /// Where it starts.
        entry_point: GuestPhysAddr,
        /// What it finds in its first argument register.
        arg: u64,
    },
    /// The guest stops the CPU it runs on.
    CpuDown {
        /// The architecture's power-down state, 0 when it has none.
        state: u64,
    },
    /// The guest switches its machine off.
    SystemDown,
    /// The guest restarts its machine.
    SystemReset,
    /// The guest has come to an end it did not want: a fault that it could not even report (x86's triple fault, which
    /// shuts the CPU down), or a crash that it told its firmware of. The vCPU goes on after a
    /// [`reset`](crate::AxVCpu::reset) at best.
    SystemCrash,
    /// The guest interrupts other CPUs of its own.
    SendIpi {
        /// The guest's number of the first CPU that `mask` speaks of.
        base: u64,
        /// Bit `n` selects CPU `base + n`.
        mask: u64,
        /// The interrupt.
        vector: u64,
    },
    /// The hardware refused to enter the guest.
    FailEntry {
        /// The reason in the hardware's own encoding.
        reason: u64,
    },
    /// What is below the backend cannot go on: it met an instruction it has to emulate and does not know, or an event it
    /// has no name for. The guest is where it was; running again would most likely end the same way.
    InternalError {
        /// What happened, in the words of what is below the backend.
        code: u64,
        /// Details that go with the code.
        data: [u64; 6],
    },
    /// Nothing that concerns the caller: a kick, or an event the backend handled itself.
    Nothing,
}

impl AxVCpuExitReason {
    /// Whether the vCPU cannot run again before it was given a value.
    #[inline]
    pub const fn asks(&self) -> bool {
        matches!(self, Self::MmioRead { .. } | Self::IoRead { .. } | Self::SysRegRead { .. })
    }

    /// The owner's bits of the control word that a run sets which ended with this.
    #[inline(always)]
    pub(crate) const fn leaves_open(&self) -> u32 {
        if let Self::Hypercall { .. } = self {
            return ANSWERABLE; // first, as it is the most frequent
        }
        match self {
            Self::MmioRead { .. } | Self::IoRead { .. } | Self::SysRegRead { .. } => UNANSWERED,
            Self::CpuUp { .. }
            | Self::CpuDown { .. }
            | Self::SystemDown
            | Self::SystemReset
            | Self::SendIpi { .. } => ANSWERABLE,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths() {
        for bytes in 0..=16 {
            let width = AccessWidth::from_bytes(bytes);
            assert_eq!(width.is_some(), matches!(bytes, 1 | 2 | 4 | 8));
            if let Some(width) = width {
                assert_eq!(width.bytes(), bytes);
                assert_eq!(width.mask().count_ones() as usize, 8 * bytes);
            }
        }
    }
}
