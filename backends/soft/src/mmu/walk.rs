//! The page-table walks. Privileged architecture, "Virtual Address Translation Process" and "Two-Stage
//! Address Translation".
//!
//! Accessed and dirty bits are never written: an access that needs one set raises the page fault the
//! architecture allows instead (Svade), which every supervisor has to handle.
#![allow(unsafe_code)] // makes host addresses out of what the stage-2 tables say

use axvcpu::{AccessKind, GuestPhysAddr, HostPhysAddr, HostVirtAddr};
use axvcpu_riscv::csr::cause;
use axvcpu_riscv::paging::{self, Mode, PAGE_SIZE, pte};

use crate::ram::{HostAddr, Width};

/// What an instruction does to memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Fetch,
    Load,
    /// Also atomics, which fault as stores do.
    Store,
}

impl Access {
    pub(crate) const fn kind(self) -> AccessKind {
        match self {
            Self::Fetch => AccessKind::Execute,
            Self::Load => AccessKind::Read,
            Self::Store => AccessKind::Write,
        }
    }

    pub(crate) const fn page_fault(self) -> u64 {
        match self {
            Self::Fetch => cause::FETCH_PAGE,
            Self::Load => cause::LOAD_PAGE,
            Self::Store => cause::STORE_PAGE,
        }
    }

    pub(crate) const fn access_fault(self) -> u64 {
        match self {
            Self::Fetch => cause::FETCH_ACCESS,
            Self::Load => cause::LOAD_ACCESS,
            Self::Store => cause::STORE_ACCESS,
        }
    }

    pub(crate) const fn misaligned(self) -> u64 {
        match self {
            Self::Store => cause::STORE_MISALIGNED,
            _ => cause::LOAD_MISALIGNED,
        }
    }
}

/// Whose permissions an access is checked against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Privilege {
    User,
    Supervisor,
    /// With `sstatus.SUM`: user pages may be read and written, not executed.
    SupervisorOnUser,
}

/// Why an access has no translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The guest's own tables refuse it: an exception with this cause.
    Guest { cause: u64 },
    /// Stage 2 refuses it.
    Stage2 {
        gpa: GuestPhysAddr,
        kind: AccessKind,
        /// It was the walk of the guest's tables that stage 2 refused.
        walk: bool,
    },
}

/// A page that an access may go to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page {
    /// Its host address.
    pub(crate) host: HostAddr,
    /// Whether loads may use the same translation.
    pub(crate) read: bool,
    /// Whether stores may.
    pub(crate) write: bool,
    /// Whether the guest maps it as part of a page larger than 4 KiB.
    pub(crate) large: bool,
}

/// The hypervisor's table.
#[derive(Clone, Copy)]
pub(crate) struct Stage2 {
    pub(crate) root: HostPhysAddr,
    pub(crate) mode: Mode,
    pub(crate) phys_to_virt: fn(HostPhysAddr) -> HostVirtAddr,
}

impl Stage2 {
    /// The host address of `gpa`'s page and the permissions its leaf gives.
    fn translate(&self, gpa: u64) -> Option<(HostAddr, u64)> {
        if !self.mode.covers(gpa) {
            return None;
        }
        let mut table = self.root.as_u64();
        for level in (0..self.mode.levels).rev() {
            let entry = self.read(table + 8 * self.mode.index(gpa, level) as u64);
            if pte::is_fault(entry) {
                return None;
            }
            if !pte::is_leaf(entry) {
                if pte::is_bad_table(entry) {
                    return None;
                }
                table = pte::addr(entry);
                continue;
            }
            let span = paging::page_size(level) - 1;
            // All accesses are user accesses for the G-stage; A and D are left to the hypervisor.
            if entry & pte::U == 0 || entry & pte::A == 0 || pte::addr(entry) & span != 0 {
                return None;
            }
            let page = pte::addr(entry) | gpa & span & !(PAGE_SIZE - 1);
            let host = (self.phys_to_virt)(HostPhysAddr::new(page)).as_u64();
            let write = if entry & pte::D == 0 { pte::W } else { 0 };
            // SAFETY: a leaf of the table that `set_ept_root` vouches for: guest memory.
            return Some((unsafe { HostAddr::new(host) }, entry & !write));
        }
        None
    }

    fn read(&self, entry: u64) -> u64 {
        let host = (self.phys_to_virt)(HostPhysAddr::new(entry)).as_u64();
        // SAFETY: an entry of a table that `set_ept_root` vouches for, aligned as all entries are.
        u64::load(unsafe { HostAddr::new(host) })
    }
}

/// Everything that decides about a translation.
#[derive(Clone, Copy)]
pub(crate) struct Translation {
    /// `None` until the hypervisor gave a root: then nothing is mapped.
    pub(crate) stage2: Option<Stage2>,
    pub(crate) satp: u64,
    /// `sstatus.MXR`.
    pub(crate) loads_from_code: bool,
}

impl Translation {
    /// Finds the page of `va` for an access of this kind.
    pub(crate) fn translate(&self, va: u64, access: Access, by: Privilege) -> Result<Page, Fault> {
        let needed = match access {
            Access::Fetch => pte::X,
            Access::Load => pte::R,
            Access::Store => pte::W,
        };
        let (gpa, allowed, large) = match Mode::of_satp(self.satp) {
            None => (va, pte::RWX, true),
            Some(mode) => self.walk(mode, va, access, by)?,
        };
        let refused =
            Fault::Stage2 { gpa: GuestPhysAddr::new(gpa), kind: access.kind(), walk: false };
        let (page, leaf) = self.stage2.and_then(|stage2| stage2.translate(gpa)).ok_or(refused)?;
        // MXR of the guest says nothing about the G-stage: what is only executable there is not readable.
        if leaf & needed == 0 {
            return Err(refused);
        }
        let both = allowed & leaf;
        Ok(Page { host: page, read: both & pte::R != 0, write: both & pte::W != 0, large })
    }

    /// The guest's own walk: the guest physical address, what the leaf allows at this privilege, and whether
    /// it is a large page.
    fn walk(
        &self,
        mode: Mode,
        va: u64,
        access: Access,
        by: Privilege,
    ) -> Result<(u64, u64, bool), Fault> {
        let fault = Err(Fault::Guest { cause: access.page_fault() });
        if !mode.covers(va) {
            return fault;
        }
        let mut table = (self.satp & paging::ROOT_PPN_MASK) << paging::PAGE_SHIFT;
        for level in (0..mode.levels).rev() {
            let at = table + 8 * mode.index(va, level) as u64;
            let refused =
                Fault::Stage2 { gpa: GuestPhysAddr::new(at), kind: AccessKind::Read, walk: true };
            let entry = match self.stage2.and_then(|stage2| stage2.translate(at)) {
                Some((page, leaf)) if leaf & pte::R != 0 => u64::load(page.within_page(at)),
                _ => return Err(refused),
            };
            if pte::is_fault(entry) {
                return fault;
            }
            if !pte::is_leaf(entry) {
                if pte::is_bad_table(entry) {
                    return fault;
                }
                table = pte::addr(entry);
                continue;
            }
            let span = paging::page_size(level) - 1;
            if pte::addr(entry) & span != 0 {
                return fault;
            }
            let mut allowed = entry & pte::RWX;
            if self.loads_from_code && allowed & pte::X != 0 {
                allowed |= pte::R;
            }
            let user_page = entry & pte::U != 0;
            match by {
                Privilege::User if !user_page => allowed = 0,
                Privilege::Supervisor if user_page => allowed = 0,
                Privilege::SupervisorOnUser if user_page => allowed &= !pte::X,
                _ => {}
            }
            if entry & pte::A == 0 {
                allowed = 0;
            }
            if entry & pte::D == 0 {
                allowed &= !pte::W;
            }
            let needed = match access {
                Access::Fetch => pte::X,
                Access::Load => pte::R,
                Access::Store => pte::W,
            };
            if allowed & needed == 0 {
                return fault;
            }
            return Ok((pte::addr(entry) | va & span, allowed, level > 0));
        }
        fault
    }
}
