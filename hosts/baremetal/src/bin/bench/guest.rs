//! Guest programs, and memory for them.
#![allow(unsafe_code)] // writes guest memory

use alloc::format;
use alloc::vec::Vec;

use axvcpu::{AxMmHal, GuestPhysAddr, HostPhysAddr};
use axvcpu_baremetal::Mem;
use axvcpu_vmm::RamBacking;

use crate::Failure;
use crate::arch::{Asm, CODE, Perms, STAGE2, Stage2};

/// A program at `base`.
pub(crate) fn assemble(base: u64, write: impl FnOnce(&mut Asm)) -> Result<Vec<u8>, Failure> {
    let mut asm = Asm::new(base);
    write(&mut asm);
    asm.finish().map_err(|error| format!("the guest is wrong: {error}"))
}

/// Frames in a row. Given back with the machine.
pub(crate) struct Ram {
    at: HostPhysAddr,
    pages: usize,
}

impl Ram {
    pub(crate) fn new(pages: usize) -> Result<Self, Failure> {
        let at = Mem::alloc_ram(pages).ok_or_else(|| format!("no room for {pages} pages"))?;
        Ok(Self { at, pages })
    }

    pub(crate) fn fill(&self, bytes: &[u8]) {
        let to = Mem::phys_to_virt(self.at).as_usize() as *mut u8;
        let len = bytes.len().min(4096 * self.pages);
        // SAFETY: frames of ours, which no guest uses yet.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), to, len) };
        self.written(0, len as u64);
    }
}

impl Drop for Ram {
    fn drop(&mut self) {
        // SAFETY: taken in `new` with this count; the tables that mapped it are dropped with or before it.
        unsafe { Mem::dealloc_contiguous(self.at, self.pages) };
    }
}

// SAFETY: frames that were taken for this, identity-mapped, and nobody else's.
unsafe impl RamBacking for Ram {
    fn host_phys(&self) -> HostPhysAddr {
        self.at
    }

    fn size(&self) -> u64 {
        4096 * self.pages as u64
    }

    fn written(&self, offset: u64, len: u64) {
        Mem::clean((self.at.as_u64() + offset) as *const u8, len as usize);
    }
}

/// An address space with one program in it.
pub(crate) struct Space {
    stage2: Stage2<Mem>,
    _ram: Ram,
}

impl Space {
    pub(crate) fn new(program: &[u8]) -> Result<Self, Failure> {
        let ram = Ram::new(16)?;
        ram.fill(program);
        let refused = |error| format!("stage 2: {error}");
        let mut stage2 = Stage2::new(STAGE2).map_err(refused)?;
        stage2.map(GuestPhysAddr::new(CODE), ram.at, ram.size(), Perms::RWX).map_err(refused)?;
        Ok(Self { stage2, _ram: ram })
    }

    pub(crate) fn root(&self) -> HostPhysAddr {
        self.stage2.root()
    }
}
