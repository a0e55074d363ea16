//! Exits: what the page says, in the words of the interface.

use axvcpu::{
    AccessKind, AccessWidth, AxResult, AxVCpuExitReason as Exit, AxVCpuHal, GuestPhysAddr,
};
use kvm_bindings::*;

use super::{KvmVCpu, Open, Todo};
use crate::sys::{Io, Mmio, PortShape, RunPage};

impl<H: AxVCpuHal> KvmVCpu<H> {
    /// The exit that most runs of a guest with ports end with: a single access to a register of a byte. `None` for all
    /// others, which take the long way.
    #[inline(always)]
    pub(super) fn plain_port_access(&mut self) -> Option<Exit> {
        use AccessWidth::Byte;
        let (shape, port) = self.page.port_access()?;
        match shape {
            PortShape::OUT_BYTE => {
                Some(Exit::IoWrite { port, width: Byte, data: self.page.port_byte().into() })
            }
            PortShape::IN_BYTE => {
                self.at = 0;
                self.open = Open::Asked;
                Some(Exit::IoRead { port, width: Byte })
            }
            _ => None,
        }
    }

    /// Whether the exit that the page tells of is for a value.
    pub(super) fn asks(&self) -> bool {
        match self.page.exit_reason() {
            KVM_EXIT_IO | KVM_EXIT_MMIO => !Piece::at(&self.page, self.at).write,
            reason => reason == KVM_EXIT_X86_RDMSR,
        }
    }

    /// What the page says. `None` if that is nothing to leave the guest for.
    pub(super) fn exit(&mut self) -> AxResult<Option<Exit>> {
        Ok(Some(match self.page.exit_reason() {
            KVM_EXIT_IO | KVM_EXIT_MMIO => {
                self.next = 0;
                self.next_piece()
            }
            KVM_EXIT_X86_RDMSR => {
                self.open = Open::Asked;
                self.todo |= Todo::OPEN;
                Exit::SysRegRead { addr: self.page.msr().index.into() }
            }
            KVM_EXIT_X86_WRMSR => {
                self.open = Open::Store;
                self.todo |= Todo::OPEN;
                let msr = self.page.msr();
                Exit::SysRegWrite { addr: msr.index.into(), value: msr.data }
            }
            KVM_EXIT_HLT => return self.halted(),
            KVM_EXIT_IRQ_WINDOW_OPEN | KVM_EXIT_SET_TPR => return Ok(None),
            KVM_EXIT_INTR => Exit::Nothing,
            KVM_EXIT_SHUTDOWN => Exit::SystemCrash,
            KVM_EXIT_SYSTEM_EVENT => match self.page.system_event() {
                KVM_SYSTEM_EVENT_SHUTDOWN => Exit::SystemDown,
                KVM_SYSTEM_EVENT_RESET => Exit::SystemReset,
                _ => Exit::SystemCrash,
            },
            KVM_EXIT_FAIL_ENTRY => Exit::FailEntry { reason: self.page.fail_entry() },
            KVM_EXIT_MEMORY_FAULT => Exit::NestedPageFault {
                addr: GuestPhysAddr::new(self.page.memory_fault()),
                access: AccessKind::Read,
            },
            KVM_EXIT_INTERNAL_ERROR => return self.internal_error(),
            KVM_EXIT_UNKNOWN => internal(KVM_EXIT_UNKNOWN, 0, [self.page.unknown(), 0, 0, 0, 0, 0]),
            other => internal(other, 0, [0; 6]),
        }))
    }

    /// What KVM cannot emulate is, most of the time, what is not there. Of a guest's user it is the guest's to handle, or any
    /// program could end the machine.
    fn internal_error(&mut self) -> AxResult<Option<Exit>> {
        let error = self.page.internal();
        if error.suberror == KVM_INTERNAL_ERROR_EMULATION {
            if let Some(addr) = self.missing_code()? {
                // The kernel has an undefined instruction for the guest in this case.
                self.drop_exception()?;
                self.open = Open::Fetch;
                self.todo |= Todo::OPEN;
                let addr = GuestPhysAddr::new(addr);
                return Ok(Some(Exit::NestedPageFault { addr, access: AccessKind::Execute }));
            }
            if self.runs_a_user()? {
                self.raise_undefined()?;
                return Ok(None);
            }
        }
        Ok(Some(internal(KVM_EXIT_INTERNAL_ERROR, error.suberror, error.data)))
    }

    /// The part of the last access that comes next, and has not been handed out.
    pub(super) fn next_piece(&mut self) -> Exit {
        self.at = self.next;
        self.piece()
    }

    /// The part of the last access at `at`. What follows it is left to do.
    pub(super) fn piece(&mut self) -> Exit {
        let piece = Piece::at(&self.page, self.at);
        self.next = self.at + piece.width.bytes() as u32;
        self.todo.set(Todo::PIECES, self.next < piece.total);
        self.open = match (piece.place, piece.write) {
            (_, false) => Open::Asked,
            (Place::Memory(_), true) => Open::Store,
            (Place::Port(_), true) => Open::Nothing,
        };
        self.todo.set(Todo::OPEN, self.open == Open::Store);
        let Piece { width, .. } = piece;
        match (piece.place, piece.write) {
            (Place::Port(port), true) => {
                Exit::IoWrite { port, width, data: piece.data(&self.page) }
            }
            (Place::Port(port), false) => Exit::IoRead { port, width },
            (Place::Memory(addr), true) => {
                let addr = GuestPhysAddr::new(addr);
                Exit::MmioWrite { addr, width, data: piece.data(&self.page) }
            }
            (Place::Memory(addr), false) => {
                Exit::MmioRead { addr: GuestPhysAddr::new(addr), width }
            }
        }
    }

    /// Answers what was asked last.
    pub(super) fn answer(&mut self, value: u64) {
        self.open = Open::Nothing;
        // They change with the value.
        self.todo.remove(Todo::REGISTERS);
        match self.page.exit_reason() {
            KVM_EXIT_IO | KVM_EXIT_MMIO => {
                let piece = Piece::at(&self.page, self.at);
                if !piece.write {
                    self.page.set_data(piece.offset, piece.width.bytes(), value);
                }
            }
            KVM_EXIT_X86_RDMSR => self.page.set_msr(Some(value)),
            _ => {}
        }
    }
}

fn internal(reason: u32, suberror: u32, data: [u64; 6]) -> Exit {
    Exit::InternalError { code: u64::from(reason) << 32 | u64::from(suberror), data }
}

/// Where an access goes.
#[derive(Clone, Copy)]
pub(super) enum Place {
    Port(u16),
    Memory(u64),
}

/// A part of an access that is one access by itself.
pub(super) struct Piece {
    pub(super) place: Place,
    pub(super) width: AccessWidth,
    pub(super) write: bool,
    /// Where its data is, from the page's beginning.
    pub(super) offset: usize,
    /// How many bytes the whole access has.
    total: u32,
}

impl Piece {
    /// The part of the page's port or memory access that begins with byte `at`.
    pub(super) fn at(page: &RunPage, at: u32) -> Self {
        if page.exit_reason() == KVM_EXIT_IO {
            let Io { write, size, port, count, offset } = page.io();
            // There are no others; a kernel that had some would be cut short.
            let width = AccessWidth::from_bytes(size.into()).unwrap_or(AccessWidth::Byte);
            let total = u32::from(size).saturating_mul(count);
            return Self {
                place: Place::Port(port),
                width,
                write,
                offset: offset + at as usize,
                total,
            };
        }
        let Mmio { addr, len, write } = page.mmio();
        // Up to 8 bytes, of an access that crosses a page perhaps 3, 5, 6 or 7.
        let total = len.min(8);
        let left = total.saturating_sub(at).max(1);
        let width = AccessWidth::from_bytes(1 << left.ilog2()).unwrap_or(AccessWidth::Byte);
        let offset = RunPage::MMIO_DATA + at as usize;
        let place = Place::Memory(addr.wrapping_add(at.into()));
        Self { place, width, write, offset, total }
    }

    /// What is written.
    pub(super) fn data(&self, page: &RunPage) -> u64 {
        page.data(self.offset, self.width.bytes()).unwrap_or(0)
    }
}
