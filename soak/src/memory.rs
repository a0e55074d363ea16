//! The guest's memory, from the host.
#![allow(unsafe_code)] // reaches memory that a guest runs on

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use axvcpu::HostPhysAddr;
use axvcpu_cli::memory::GuestRam;

/// Memory that the guest sees from `base` on.
pub(crate) struct Memory {
    ram: GuestRam,
    base: u64,
}

impl Memory {
    pub(crate) fn new(base: u64, size: usize) -> Result<Self, String> {
        let ram = GuestRam::new(size).map_err(|error| format!("guest memory: {error}"))?;
        Ok(Self { ram, base })
    }

    pub(crate) fn host_address(&self) -> HostPhysAddr {
        self.ram.host_address()
    }

    fn at(&self, addr: u64, len: usize) -> *mut u8 {
        let offset = (addr - self.base) as usize;
        assert!(addr % len as u64 == 0 && offset + len <= self.ram.size(), "{addr:#x}");
        self.ram.base().as_ptr().wrapping_add(offset)
    }

    pub(crate) fn write(&self, addr: u64, bytes: &[u8]) {
        for (addr, &byte) in (addr..).zip(bytes) {
            // SAFETY: inside of the memory, which lives as long as `self` and is only accessed atomically here.
            unsafe { AtomicU8::from_ptr(self.at(addr, 1)) }.store(byte, Ordering::Relaxed);
        }
    }

    /// A number that the guest counts.
    pub(crate) fn count(&self, addr: u64) -> u64 {
        // SAFETY: as above; `at` has checked the alignment.
        unsafe { AtomicU64::from_ptr(self.at(addr, 8).cast()) }.load(Ordering::Acquire)
    }
}
