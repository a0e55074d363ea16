//! What hardware would be: registers, caches, and the execution of one instruction after the other.
#![allow(unsafe_code)] // reads and writes guest memory and tables through the platform's addresses

use core::marker::PhantomData;
use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use axvcpu::{
    AccessKind, AccessWidth, AxMmHal, AxVCpuExitReason, AxVCpuHal, GuestPhysAddr, HostPhysAddr,
};
use axvcpu_stage2::{Format, Mapping, PAGE_SIZE, page_shift, page_size};

use crate::FORMAT;
use crate::isa::{REGISTERS, cause, op, sys};

// ANCHOR: open
/// What the last exit left open. But for a call, `pc` is still at the instruction.
#[derive(Clone, Copy)]
pub(crate) enum Open {
    Nothing,
    /// Waits for the value.
    Load {
        addr: u64,
        rd: usize,
        width: AccessWidth,
    },
    /// Needs nothing: the next run goes on behind it.
    Store {
        addr: u64,
    },
    /// The next run repeats it.
    Fault {
        addr: u64,
    },
    /// May have a result.
    Call,
}
// ANCHOR_END: open

pub(crate) struct Hart<H> {
    pub(crate) registers: [u64; REGISTERS],
    pub(crate) system: [u64; sys::COUNT],
    pub(crate) pc: u64,
    pub(crate) open: Open,
    pub(crate) root: HostPhysAddr,
    /// Pages by the lower bits of their numbers.
    tlb: [Option<(u64, Mapping)>; 16],
    /// Instructions by the lower bits of their host addresses.
    instructions: [Option<(u64, u32)>; 64],
    hal: PhantomData<fn() -> H>,
}

impl<H: AxVCpuHal> Hart<H> {
    pub(crate) fn new() -> Self {
        Self {
            registers: [0; REGISTERS],
            system: [0; sys::COUNT],
            pc: 0,
            open: Open::Nothing,
            root: HostPhysAddr::new(0),
            tlb: [None; 16],
            instructions: [None; 64],
            hal: PhantomData,
        }
    }

    pub(crate) fn forget_translations(&mut self) {
        self.tlb = [None; 16];
    }

    pub(crate) fn forget_instructions(&mut self) {
        self.instructions = [None; 64];
    }

    pub(crate) fn set_register(&mut self, register: usize, value: u64) {
        if register != 0 {
            self.registers[register] = value;
        }
    }

    // ANCHOR: trap
    /// Enters the guest's handler.
    pub(crate) fn trap(&mut self, cause: u64, value: u64) {
        self.system[sys::EPC] = self.pc;
        self.system[sys::CAUSE] = cause;
        self.system[sys::VALUE] = value;
        self.system[sys::STATUS] = self.system[sys::STATUS] << 1 & 2;
        self.pc = self.system[sys::VECTOR];
    }
    // ANCHOR_END: trap

    /// Takes an interrupt or executes an instruction. Answers why the guest cannot go on, if so.
    pub(crate) fn step(&mut self) -> Option<AxVCpuExitReason> {
        let pending = self.system[sys::PENDING];
        if pending != 0 && self.system[sys::STATUS] & 1 != 0 {
            self.system[sys::PENDING] = pending & (pending - 1);
            self.trap(cause::INTERRUPT + u64::from(pending.trailing_zeros()), 0);
            return None;
        }
        if self.pc % 4 != 0 {
            self.trap(cause::MISALIGNED, self.pc);
            return None;
        }
        let Some(host) = self.translate(self.pc, AccessKind::Execute) else {
            return Some(self.fault(self.pc, AccessKind::Execute));
        };
        let word = self.fetch(host);
        self.execute(word)
    }

    fn execute(&mut self, word: u32) -> Option<AxVCpuExitReason> {
        let (rd, rs) = ((word >> 8 & 15) as usize, (word >> 12 & 15) as usize);
        let n = u64::from(word >> 16);
        let signed = n as u16 as i16 as u64;
        let (target, source) = (self.registers[rd], self.registers[rs]);
        let mut next = self.pc.wrapping_add(4);
        let mut exit = None;
        match word & 0xff {
            op::SET => self.set_register(rd, n),
            op::SHIFT => self.set_register(rd, target << 16 | n),
            op::ADD => self.set_register(rd, target.wrapping_add(source).wrapping_add(signed)),
            op::LOAD | op::STORE | op::ATOMIC_ADD => return self.access(word, target, source, rd),
            op::BRANCH if target == 0 => {}
            op::BRANCH | op::JUMP => next = self.pc.wrapping_add(signed.wrapping_mul(4)),
            op::CALL => {
                self.set_register(rd, next);
                next = source;
            }
            op::HOST => {
                let args = core::array::from_fn(|index| self.registers[1 + index]);
                self.open = Open::Call;
                exit = Some(AxVCpuExitReason::Hypercall { nr: n, function: 0, args });
            }
            op::WAIT => {
                if self.system[sys::PENDING] == 0 {
                    exit = Some(AxVCpuExitReason::Halt { wake_after_ns: None });
                }
            }
            op::READ if n < sys::COUNT as u64 => self.set_register(rd, self.system[n as usize]),
            op::WRITE if n < sys::COUNT as u64 => self.system[n as usize] = target,
            op::RETURN => {
                next = self.system[sys::EPC];
                self.system[sys::STATUS] >>= 1;
            }
            _ => {
                self.trap(cause::ILLEGAL, u64::from(word));
                return None;
            }
        }
        self.pc = next;
        exit
    }

    /// Carries out an instruction that accesses memory, whole or not at all.
    fn access(&mut self, word: u32, value: u64, base: u64, rd: usize) -> Option<AxVCpuExitReason> {
        let n = word >> 16;
        let op = word & 0xff;
        let atomic = op == op::ATOMIC_ADD;
        let bytes = if atomic { 8 } else { 1 << (n >> 12) };
        let Some(width) = AccessWidth::from_bytes(bytes) else {
            self.trap(cause::ILLEGAL, u64::from(word));
            return None;
        };
        let addr = if atomic { base } else { base.wrapping_add(u64::from(n & 0xfff)) };
        if addr % bytes as u64 != 0 {
            self.trap(cause::MISALIGNED, addr);
            return None;
        }
        let access = if op == op::LOAD { AccessKind::Read } else { AccessKind::Write };
        let Some(host) = self.translate(addr, access) else {
            if atomic {
                return Some(self.fault(addr, access));
            }
            let at = GuestPhysAddr::new(addr);
            let (open, exit) = if op == op::LOAD {
                (Open::Load { addr, rd, width }, AxVCpuExitReason::MmioRead { addr: at, width })
            } else {
                let data = value & width.mask();
                (Open::Store { addr }, AxVCpuExitReason::MmioWrite { addr: at, width, data })
            };
            self.open = open;
            return Some(exit);
        };
        match op {
            op::LOAD => self.set_register(rd, read::<H>(host, width)),
            op::STORE => write::<H>(host, width, value),
            _ => {
                cell64::<H>(host).fetch_add(value, Ordering::SeqCst);
            }
        }
        self.pc = self.pc.wrapping_add(4);
        None
    }

    /// The exit for an access that no device can answer.
    fn fault(&mut self, addr: u64, access: AccessKind) -> AxVCpuExitReason {
        self.open = Open::Fault { addr };
        AxVCpuExitReason::NestedPageFault { addr: GuestPhysAddr::new(addr), access }
    }

    // ANCHOR: walk
    /// Where an address leads, if the guest may do that there.
    fn translate(&mut self, addr: u64, access: AccessKind) -> Option<u64> {
        let number = addr / PAGE_SIZE;
        let slot = (number % self.tlb.len() as u64) as usize;
        let page = match self.tlb[slot] {
            Some((cached, page)) if cached == number => page,
            _ => {
                let page = self.walk(addr)?;
                self.tlb[slot] = Some((number, page));
                page
            }
        };
        let allowed = match access {
            AccessKind::Read => page.perms.read,
            AccessKind::Write => page.perms.write,
            AccessKind::Execute => page.perms.execute,
        };
        allowed.then(|| page.host.as_u64() + addr % PAGE_SIZE)
    }

    /// Looks an address's page up in the stage-2 table. Nothing is kept of a page that is not there, so it takes no fence
    /// to map one.
    fn walk(&self, addr: u64) -> Option<Mapping> {
        type Entries = axvcpu_riscv::paging::Mode;
        if addr >> FORMAT.guest_bits() != 0 {
            return None;
        }
        let (mut table, mut level) = (self.root.as_u64(), FORMAT.levels() - 1);
        let mut entries = 512 * FORMAT.root_pages() as u64;
        loop {
            let index = (addr >> page_shift(level)) % entries;
            let entry = cell64::<H>(table + 8 * index).load(Ordering::Acquire);
            if !Entries::is_valid(entry) {
                return None;
            }
            if level == 0 || Entries::is_leaf(entry) {
                let page = addr & (page_size(level) - 1) & !(PAGE_SIZE - 1);
                return Some(Mapping {
                    host: HostPhysAddr::new(Entries::addr(entry) + page),
                    perms: Entries::perms(entry),
                    page_size: PAGE_SIZE,
                });
            }
            (table, level, entries) = (Entries::addr(entry), level - 1, 512);
        }
    }
    // ANCHOR_END: walk

    /// The instruction at a host address, as it was when it was fetched first.
    fn fetch(&mut self, host: u64) -> u32 {
        let slot = (host / 4 % self.instructions.len() as u64) as usize;
        match self.instructions[slot] {
            Some((cached, word)) if cached == host => word,
            _ => {
                let word = read::<H>(host, AccessWidth::Dword) as u32;
                self.instructions[slot] = Some((host, word));
                word
            }
        }
    }
}

// ANCHOR: memory
/// Where code reaches a host address.
fn at<H: AxVCpuHal, T>(host: u64) -> *mut T {
    H::MmHal::phys_to_virt(HostPhysAddr::new(host)).as_usize() as *mut T
}

fn cell64<'a, H: AxVCpuHal>(host: u64) -> &'a AtomicU64 {
    // SAFETY: as in `read`; entries of tables are aligned, too, and are the table's owner's to change at any time.
    unsafe { AtomicU64::from_ptr(at::<H, u64>(host)) }
}

/// Reads guest memory.
fn read<H: AxVCpuHal>(host: u64, width: AccessWidth) -> u64 {
    // SAFETY: the address comes from the stage-2 table, or from a translation that no fence has withdrawn, so it is memory
    // that the guest may access (see `AxArchVCpu::set_ept_root`); it is aligned, so all of the access is in one page.
    // Guests and hosts that access it at the same time do so atomically.
    unsafe {
        match width {
            AccessWidth::Byte => AtomicU8::from_ptr(at::<H, _>(host)).load(Ordering::SeqCst).into(),
            AccessWidth::Word => {
                AtomicU16::from_ptr(at::<H, _>(host)).load(Ordering::SeqCst).into()
            }
            AccessWidth::Dword => {
                AtomicU32::from_ptr(at::<H, _>(host)).load(Ordering::SeqCst).into()
            }
            AccessWidth::Qword => AtomicU64::from_ptr(at::<H, _>(host)).load(Ordering::SeqCst),
        }
    }
}

/// Writes guest memory.
fn write<H: AxVCpuHal>(host: u64, width: AccessWidth, value: u64) {
    // SAFETY: as in `read`.
    unsafe {
        match width {
            AccessWidth::Byte => {
                AtomicU8::from_ptr(at::<H, _>(host)).store(value as u8, Ordering::SeqCst);
            }
            AccessWidth::Word => {
                AtomicU16::from_ptr(at::<H, _>(host)).store(value as u16, Ordering::SeqCst);
            }
            AccessWidth::Dword => {
                AtomicU32::from_ptr(at::<H, _>(host)).store(value as u32, Ordering::SeqCst);
            }
            AccessWidth::Qword => {
                AtomicU64::from_ptr(at::<H, _>(host)).store(value, Ordering::SeqCst);
            }
        }
    }
}
// ANCHOR_END: memory
