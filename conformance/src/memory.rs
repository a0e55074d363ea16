//! Guest memory: frames of the platform, and the stage-2 table that maps them.
#![allow(unsafe_code)] // reads and writes guest memory, while guests may too

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use axvcpu::{AxError, AxMmHal, AxResult, GuestPhysAddr, HostPhysAddr};
use axvcpu_stage2::{Format, PAGE_SIZE, Perms, Stage2};

/// A guest's address space. It outlives the vCPUs that were given its root.
pub struct Space<M: AxMmHal, F: Format> {
    stage2: Stage2<M, F>,
    frames: Vec<Frame<M>>,
}

/// A frame that is given back when it is dropped.
struct Frame<M: AxMmHal> {
    host: HostPhysAddr,
    /// Where the suite, and usually the guest, finds it.
    guest: u64,
    mm: core::marker::PhantomData<fn() -> M>,
}

impl<M: AxMmHal> Drop for Frame<M> {
    fn drop(&mut self) {
        // SAFETY: `Space::add` took it; the vCPUs whose tables mapped it are gone, see `Bench`.
        unsafe { M::dealloc_frame(self.host) };
    }
}

impl<M: AxMmHal, F: Format> Space<M, F> {
    /// An address space with nothing in it.
    ///
    /// # Errors
    ///
    /// What [`Stage2`] refuses, here and below; [`InvalidInput`](AxError::InvalidInput) for an address that is not of
    /// this memory.
    pub fn new(format: F) -> AxResult<Self> {
        Ok(Self { stage2: Stage2::new(format)?, frames: Vec::new() })
    }

    /// The root of its stage-2 table.
    pub fn root(&self) -> HostPhysAddr {
        self.stage2.root()
    }

    /// Takes zeroed memory that the suite knows by guest addresses from `guest` on, and maps it there if there
    /// are `perms`.
    pub fn add(&mut self, guest: u64, pages: u64, perms: Option<Perms>) -> AxResult {
        for page in 0..pages {
            let host = M::alloc_frame().ok_or(AxError::NoMemory)?;
            let guest = guest + page * PAGE_SIZE;
            self.frames.push(Frame { host, guest, mm: core::marker::PhantomData });
            if let Some(perms) = perms {
                self.map(guest, guest, perms)?;
            }
        }
        Ok(())
    }

    /// Maps the page of memory the suite knows at `known` for the guest at `guest`.
    pub fn map(&mut self, guest: u64, known: u64, perms: Perms) -> AxResult {
        let host = self.frame(known).ok_or(AxError::InvalidInput)?.host;
        self.stage2.map(GuestPhysAddr::new(guest), host, PAGE_SIZE, perms)
    }

    /// Takes the mapping of a page away. What was there stays allocated.
    pub fn unmap(&mut self, guest: u64) -> AxResult {
        self.stage2.unmap(GuestPhysAddr::new(guest), PAGE_SIZE)
    }

    /// Changes what the guest may do with a page.
    pub fn protect(&mut self, guest: u64, perms: Perms) -> AxResult {
        self.stage2.protect(GuestPhysAddr::new(guest), PAGE_SIZE, perms)
    }

    fn frame(&self, known: u64) -> Option<&Frame<M>> {
        self.frames.iter().find(|frame| frame.guest == known & !(PAGE_SIZE - 1))
    }

    /// Where the suite reaches a byte.
    fn byte(&self, known: u64) -> Option<*mut u8> {
        let frame = self.frame(known)?;
        let virt = M::phys_to_virt(frame.host).as_usize() + (known % PAGE_SIZE) as usize;
        Some(virt as *mut u8)
    }

    /// Writes bytes one after another.
    pub fn fill(&self, known: u64, bytes: &[u8]) -> AxResult {
        for (at, &byte) in (known..).zip(bytes) {
            let ptr = self.byte(at).ok_or(AxError::InvalidInput)?;
            // SAFETY: within a frame of ours, which lives as long as `self`; whoever else accesses it, a guest
            // or another thread of the suite, is expected to see the access torn only between bytes.
            unsafe { AtomicU8::from_ptr(ptr) }.store(byte, Ordering::Relaxed);
        }
        Ok(())
    }

    fn quad(&self, known: u64) -> AxResult<&AtomicU64> {
        let ptr = self.byte(known).filter(|_| known % 8 == 0).ok_or(AxError::InvalidInput)?;
        // SAFETY: as in `fill`; aligned, as frames are.
        Ok(unsafe { AtomicU64::from_ptr(ptr.cast()) })
    }

    /// The 64 bits at a multiple of 8.
    pub fn read(&self, known: u64) -> AxResult<u64> {
        Ok(u64::from_le(self.quad(known)?.load(Ordering::SeqCst)))
    }

    /// Writes 64 bits at a multiple of 8.
    pub fn write(&self, known: u64, value: u64) -> AxResult {
        self.quad(known)?.store(value.to_le(), Ordering::SeqCst);
        Ok(())
    }
}
