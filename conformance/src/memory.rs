//! Guest memory: frames of the platform, and the stage-2 table that maps them.
#![allow(unsafe_code)] // reads and writes guest memory, while guests may too

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use axvcpu::{AxError, AxMmHal, AxResult, GuestPhysAddr, HostPhysAddr};
use axvcpu_stage2::{Format, Mapping, PAGE_SIZE, Perms, Stage2};

use crate::bench::pattern;
use crate::report::{Verdict, ensure_eq, fail};

/// A guest's address space. It outlives the vCPUs that were given its root.
pub struct Space<M: AxMmHal, F: Format> {
    stage2: Stage2<M, F>,
    frames: Vec<Frame<M>>,
    /// Frames that nobody has to touch, see [`guarded`](Self::guarded).
    canaries: Option<Vec<Frame<M>>>,
}

/// A frame that is given back when it is dropped.
struct Frame<M: AxMmHal> {
    host: HostPhysAddr,
    /// Where the suite, and usually the guest, finds it.
    guest: u64,
    mm: core::marker::PhantomData<fn() -> M>,
}

impl<M: AxMmHal> Frame<M> {
    /// All of it, 64 bits at a time.
    fn quads(&self) -> &[AtomicU64] {
        let virt = M::phys_to_virt(self.host).as_usize() as *const AtomicU64;
        // SAFETY: a frame of ours, aligned, and for as long as `self` is there; who else accesses it, or must not and does,
        // is not of this program's making.
        unsafe { core::slice::from_raw_parts(virt, PAGE_SIZE as usize / 8) }
    }

    /// What a canary holds there.
    fn quad(&self, index: usize) -> u64 {
        pattern(self.host.as_u64() + index as u64)
    }
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
        Ok(Self { stage2: Stage2::new(format)?, frames: Vec::new(), canaries: None })
    }

    /// The same, for a guest that is not trusted: before and behind every page that it is given is a frame that is not the
    /// guest's, if the platform hands out frames in a row, and [`check_guards`](Self::check_guards) tells whether all of them
    /// are what they were.
    pub(crate) fn guarded(format: F) -> AxResult<Self> {
        let mut space = Self { canaries: Some(Vec::new()), ..Self::new(format)? };
        space.guard()?;
        Ok(space)
    }

    /// Puts up another canary.
    fn guard(&mut self) -> AxResult {
        let Some(canaries) = &mut self.canaries else { return Ok(()) };
        let host = M::alloc_frame().ok_or(AxError::NoMemory)?;
        let canary = Frame { host, guest: 0, mm: core::marker::PhantomData };
        for (index, quad) in canary.quads().iter().enumerate() {
            quad.store(canary.quad(index), Ordering::Relaxed);
        }
        canaries.push(canary);
        Ok(())
    }

    /// Where the canaries are, for guests that are to try it there.
    pub(crate) fn guards(&self) -> impl Iterator<Item = u64> {
        self.canaries.iter().flatten().map(|canary| canary.host.as_u64())
    }

    /// Fails unless every canary holds what it did, and the guest finds its memory where it was, with all permissions or
    /// without that to execute it.
    pub(crate) fn check_guards(&self) -> Verdict {
        for (number, canary) in (0..).zip(self.canaries.iter().flatten()) {
            for (index, quad) in canary.quads().iter().enumerate() {
                let found = quad.load(Ordering::Relaxed);
                let expected = canary.quad(index);
                ensure_eq!(
                    found,
                    expected,
                    "word {index} of host memory that is no guest's, frame {number}"
                );
            }
        }
        for frame in &self.frames {
            match self.query(frame.guest) {
                Some(Mapping { host, perms: Perms::RW | Perms::RWX, .. }) if host == frame.host => {
                }
                found => fail!("stage 2 has changed at {:#x}: {found:x?}", frame.guest),
            }
        }
        Ok(())
    }

    /// What stage 2 does with an address.
    pub(crate) fn query(&self, guest: u64) -> Option<Mapping> {
        self.stage2.query(GuestPhysAddr::new(guest))
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
            self.guard()?;
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
