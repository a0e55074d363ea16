//! The guest's RAM, from the machine's frames.
#![allow(unsafe_code)] // promises that nobody else has the memory

use axvcpu::{AxMmHal, HostPhysAddr};
use axvcpu_baremetal::Mem;
use axvcpu_vmm::RamBacking;

/// Memory in one piece.
pub(crate) struct GuestRam {
    at: HostPhysAddr,
    frames: usize,
}

impl GuestRam {
    /// Takes `size` bytes, a multiple of 4 KiB; `None` if that is too much.
    pub(crate) fn new(size: u64) -> Option<Self> {
        let frames = usize::try_from(size / 4096).ok()?;
        Some(Self { at: Mem::alloc_ram(frames)?, frames })
    }
}

impl Drop for GuestRam {
    fn drop(&mut self) {
        // SAFETY: taken in `new`, with this count; whoever had it for a guest is done with it.
        unsafe { Mem::dealloc_contiguous(self.at, self.frames) };
    }
}

// SAFETY: frames taken for this, identity-mapped, and nobody else's until it is dropped.
unsafe impl RamBacking for GuestRam {
    fn host_phys(&self) -> HostPhysAddr {
        self.at
    }

    fn size(&self) -> u64 {
        4096 * self.frames as u64
    }

    fn written(&self, offset: u64, len: u64) {
        Mem::clean((self.at.as_u64() + offset) as *const u8, len as usize);
    }
}
