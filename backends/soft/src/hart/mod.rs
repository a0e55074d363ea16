//! The hart: everything a RISC-V guest in VS- or VU-mode can see of its CPU.

mod csr;
mod memory;
mod trap;

use alloc::boxed::Box;

use axvcpu::{AxError, AxResult, AxVCpuExitReason};
use axvcpu_riscv::csr::{irq, sstatus};

use crate::clock::{Clock, NS_PER_TICK};
use crate::exec::{BlockCache, Cursor, R, REGS};
use crate::mmu::tlb::{DataTlb, FetchTlb};
use crate::mmu::{Privilege, Stage2, Translation};
use crate::ram::HostAddr;

pub(crate) use csr::Csrs;
use memory::OpenAccess;
pub(crate) use memory::{Attempt, Dest, DeviceAccess};

/// One RISC-V hart.
///
/// The fields up to `stop_at` are what straight-line code touches.
pub(crate) struct Hart {
    /// Integer registers; the last entry takes what is written to `x0`.
    pub(crate) x: [u64; REGS],
    /// Floating-point registers, single precision NaN-boxed.
    pub(crate) f: [u64; REGS],
    /// Which links between blocks are good. Changes with `fence.i`.
    pub(crate) epoch: u64,
    pub(crate) data: DataTlb,
    pub(crate) fetch: FetchTlb,
    pub(crate) user: bool,
    /// Something changed that may let an interrupt through.
    pub(crate) attention: bool,
    pub(crate) csr: Csrs,

    /// The next instruction; while handlers run they carry it along instead.
    pub(crate) pc: u64,
    /// Instructions the slice may still execute; likewise.
    pub(crate) left: i64,
    /// What `left` was when the slice began.
    pub(crate) granted: i64,
    /// Instructions retired before the slice began.
    pub(crate) retired: u64,

    pub(crate) blocks: BlockCache,
    /// The link to fill in with the next block: the op that ends the block it belongs to, the address of that
    /// block, and whether the branch was taken.
    pub(crate) patch: Option<(Cursor, u64, bool)>,
    pub(crate) exit: Option<AxVCpuExitReason>,
    /// The access of the last exit, while it can still be answered, undone or failed.
    pub(crate) open: Option<OpenAccess>,
    pub(crate) reservation: Option<Reservation>,
    pub(crate) clock: Clock,
    pub(crate) stage2: Option<Stage2>,
}

/// What `lr` saw. `sc` succeeds if memory still holds it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reservation {
    pub(crate) addr: HostAddr,
    pub(crate) bytes: u64,
    pub(crate) value: u64,
}

impl Hart {
    /// A hart in its reset state; [`NoMemory`](AxError::NoMemory) when the host has none for its caches.
    pub(crate) fn new(clock: Clock) -> AxResult<Box<Self>> {
        let blocks = BlockCache::new().ok_or(AxError::NoMemory)?;
        Ok(Box::new(Self {
            x: [0; REGS],
            f: [0; REGS],
            epoch: 1,
            data: DataTlb::new(),
            fetch: FetchTlb::new(),
            user: false,
            attention: false,
            csr: Csrs::reset(),
            pc: 0,
            left: 0,
            granted: 0,
            retired: 0,
            blocks,
            patch: None,
            exit: None,
            open: None,
            reservation: None,
            clock,
            stage2: None,
        }))
    }

    /// The reset state: S-mode, translation off, interrupts off. Keeps stage 2, the clock, the program counter
    /// and the instruction count.
    pub(crate) fn reset(&mut self) {
        self.x = [0; REGS];
        self.f = [0; REGS];
        self.user = false;
        self.csr = Csrs::reset();
        self.patch = None;
        self.exit = None;
        self.open = None;
        self.reservation = None;
        self.flush_guest_tlb();
        self.flush_instructions();
        self.update_privilege();
    }

    #[inline]
    pub(crate) fn get(&self, r: R) -> u64 {
        self.x[r as usize]
    }

    #[inline]
    pub(crate) fn set(&mut self, r: R, value: u64) {
        self.x[r as usize] = value;
    }

    #[inline]
    pub(crate) fn getf(&self, r: R) -> u64 {
        self.f[r as usize]
    }

    #[inline]
    pub(crate) fn setf(&mut self, r: R, value: u64) {
        self.f[r as usize] = value;
        self.csr.sstatus |= sstatus::FS;
    }

    /// Makes loads and stores see what the current mode may: to be called whenever the mode or `sstatus.SUM`
    /// changed.
    pub(crate) fn update_privilege(&mut self) {
        self.data.select(match (self.user, self.csr.sstatus & sstatus::SUM != 0) {
            (true, _) => Privilege::User,
            (false, true) => Privilege::SupervisorOnUser,
            (false, false) => Privilege::Supervisor,
        });
    }

    pub(crate) fn translation(&self) -> Translation {
        Translation {
            stage2: self.stage2,
            satp: self.csr.satp,
            loads_from_code: self.csr.sstatus & sstatus::MXR != 0,
        }
    }

    /// Forgets translations by the guest's tables, and with them every combined one.
    pub(crate) fn flush_guest_tlb(&mut self) {
        self.data.flush();
        self.fetch.flush();
    }

    /// `sfence.vma` for one address.
    pub(crate) fn flush_guest_page(&mut self, va: u64) {
        self.data.flush_page(va);
        self.fetch.flush_page(va);
    }

    /// `fence.i`: blocks prove that memory still holds their instructions before they run again.
    pub(crate) fn flush_instructions(&mut self) {
        self.epoch += 1;
        self.fetch.flush_jumps();
    }

    /// Stage 2 changed: no host address found so far is good any more.
    pub(crate) fn flush_stage2(&mut self) {
        self.flush_guest_tlb();
        self.flush_instructions();
        self.patch = None; // it points into a block
        self.blocks.clear();
        self.reservation = None;
    }

    /// Instructions retired so far, when `left` of the slice are left.
    pub(crate) fn instret(&self, left: i64) -> u64 {
        self.retired.wrapping_add_signed(self.granted - left)
    }

    /// The `time` counter, when `left` instructions of the slice are left.
    pub(crate) fn time(&self, left: i64) -> u64 {
        self.now_ns(left) / NS_PER_TICK
    }

    fn now_ns(&self, left: i64) -> u64 {
        match &self.clock {
            Clock::Host(now) => now(),
            Clock::Instructions(clock) => clock.now_ns().wrapping_add_signed(self.granted - left),
        }
    }

    /// Lets time pass, besides what instructions take of it, where it is not the host's.
    pub(crate) fn pass_ns(&self, ns: u64) {
        if let Clock::Instructions(clock) = &self.clock {
            clock.advance_by_ns(ns);
        }
    }

    /// Brings the timer interrupt up to date.
    pub(crate) fn poll_timer(&mut self, left: i64) {
        if self.csr.stimecmp != u64::MAX || self.csr.sip & 1 << irq::TIMER != 0 {
            let fired = self.time(left) >= self.csr.stimecmp;
            self.csr.set_pending(irq::TIMER, fired);
            self.attention |= fired;
        }
    }

    /// Nanoseconds until the timer fires; `None` when it is not armed, or so far in the future that nobody
    /// will see it.
    pub(crate) fn timer_ns(&self) -> Option<u64> {
        let ticks = self.csr.stimecmp;
        if ticks == u64::MAX || self.csr.sie & 1 << irq::TIMER == 0 {
            return None;
        }
        Some(ticks.checked_mul(NS_PER_TICK)?.saturating_sub(self.now_ns(self.left)))
    }
}
