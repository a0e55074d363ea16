//! The page that a vCPU shares with the kernel (Linux, Documentation/virt/kvm/api.rst, "The kvm_run structure").
//!
//! The kernel changes it during `KVM_RUN` only, so between two of them it belongs to whoever owns the vCPU; except
//! `immediate_exit`, which anybody may set at any time.
#![allow(unsafe_code)] // memory shared with the kernel

use std::mem::offset_of;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::AtomicU8;

use kvm_bindings::{
    KVM_EXIT_IO, KVM_EXIT_IO_IN, KVM_EXIT_IO_OUT, KVM_SYNC_X86_REGS, kvm_regs, kvm_run,
};

use super::Errno;

/// Where the data of port accesses is (`KVM_PIO_PAGE_OFFSET`, in pages).
pub(crate) const PORT_DATA: usize = 4096;

/// The mapping, and the one thing in it that anybody may touch. It lives as long as this.
pub(crate) struct Mapping {
    run: NonNull<kvm_run>,
    size: usize,
}

// SAFETY: the mapping belongs to the process, and this type gives access to a single byte, atomically.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `size` bytes of a vCPU's file, which is what the kernel says there are.
    pub(crate) fn new(vcpu: BorrowedFd<'_>, size: usize) -> Result<Self, Errno> {
        // What is read and written by `RunPage` is inside of this.
        if size < (PORT_DATA + 8).max(size_of::<kvm_run>()) {
            return Err(Errno(libc::EINVAL));
        }
        // SAFETY: a new mapping at an address the kernel chooses disturbs nothing.
        let at = unsafe {
            libc::mmap(
                ptr::null_mut(),
                size,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                vcpu.as_raw_fd(),
                0,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        NonNull::new(at.cast()).map(|run| Self { run, size }).ok_or(Errno(libc::ENOMEM))
    }

    /// The flag that keeps the kernel from entering the guest, as long as it is not zero.
    #[inline(always)]
    pub(crate) fn immediate_exit(&self) -> &AtomicU8 {
        // SAFETY: a byte of the mapping, which lives as long as `self`; everybody accesses it atomically.
        unsafe { AtomicU8::from_ptr(&raw mut (*self.run.as_ptr()).immediate_exit) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this size, and nobody has anything that points into it: what borrows the flag
        // borrows this, and `RunPage` keeps it.
        unsafe { libc::munmap(self.run.as_ptr().cast(), self.size) };
    }
}

/// Everything in the page, for the owner of the vCPU.
pub(crate) struct RunPage {
    /// Points into the mapping.
    run: NonNull<kvm_run>,
    size: usize,
    mapping: Arc<Mapping>,
}

// SAFETY: the mapping belongs to the process, not to a thread.
unsafe impl Send for RunPage {}

/// A port access.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Io {
    pub(crate) write: bool,
    /// Bytes of an element.
    pub(crate) size: u8,
    pub(crate) port: u16,
    /// Elements.
    pub(crate) count: u32,
    /// Where the data is, from the page's beginning.
    pub(crate) offset: usize,
}

/// Direction and size of a port access, as they are in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PortShape(u16);

impl PortShape {
    pub(crate) const IN_BYTE: Self = Self::new(KVM_EXIT_IO_IN, 1);
    pub(crate) const OUT_BYTE: Self = Self::new(KVM_EXIT_IO_OUT, 1);

    const fn new(direction: u32, size: u16) -> Self {
        Self(direction as u16 | size << 8)
    }
}

/// A memory access.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mmio {
    pub(crate) addr: u64,
    pub(crate) len: u32,
    pub(crate) write: bool,
}

/// An access to a model-specific register.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Msr {
    pub(crate) index: u32,
    pub(crate) data: u64,
}

/// The kernel's own failure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Internal {
    pub(crate) suberror: u32,
    pub(crate) data: [u64; 6],
}

macro_rules! field {
    ($page:expr, $($field:tt)+) => {
        // SAFETY: inside of the mapping, which is at least a `kvm_run` long; nobody writes it now (see the module).
        unsafe { (&raw const (*$page.run.as_ptr()).$($field)+).read() }
    };
}

macro_rules! set_field {
    ($page:expr, $value:expr, $($field:tt)+) => {
        // SAFETY: as for reading, and `&mut` of the page's owner.
        unsafe { (&raw mut (*$page.run.as_ptr()).$($field)+).write($value) }
    };
}

impl RunPage {
    /// All of a page, for the one owner of its vCPU.
    pub(crate) fn new(mapping: &Arc<Mapping>) -> Self {
        Self { run: mapping.run, size: mapping.size, mapping: mapping.clone() }
    }

    /// What others may have of it.
    pub(crate) fn mapping(&self) -> &Arc<Mapping> {
        &self.mapping
    }

    /// Says that nothing is left of the last exit.
    pub(crate) fn set_finished(&mut self) {
        set_field!(self, kvm_bindings::KVM_EXIT_INTR, exit_reason);
    }

    /// The flag that keeps the kernel from entering the guest, as long as it is not zero.
    #[inline(always)]
    pub(crate) fn immediate_exit(&self) -> &AtomicU8 {
        // SAFETY: as in `Mapping`, which `self` keeps; without the way through it.
        unsafe { AtomicU8::from_ptr(&raw mut (*self.run.as_ptr()).immediate_exit) }
    }

    #[inline(always)]
    pub(crate) fn exit_reason(&self) -> u32 {
        field!(self, exit_reason)
    }

    /// A port access, after `KVM_EXIT_IO`.
    #[inline(always)]
    pub(crate) fn io(&self) -> Io {
        let io = field!(self, __bindgen_anon_1.io);
        Io {
            write: u32::from(io.direction) == KVM_EXIT_IO_OUT,
            size: io.size,
            port: io.port,
            count: io.count,
            offset: io.data_offset as usize,
        }
    }

    /// The port access of one element that the page tells of, if its data is where it usually is: shape and port.
    #[inline(always)]
    pub(crate) fn port_access(&self) -> Option<(PortShape, u16)> {
        const IO: usize = offset_of!(kvm_run, __bindgen_anon_1.io);
        const {
            assert!(offset_of!(kvm_run, __bindgen_anon_1.io.direction) == IO && IO % 2 == 0);
            assert!(offset_of!(kvm_run, __bindgen_anon_1.io.size) == IO + 1);
        }
        let io = field!(self, __bindgen_anon_1.io);
        let usual = self.exit_reason() == KVM_EXIT_IO
            && io.data_offset == PORT_DATA as u64
            && io.count == 1;
        // SAFETY: inside of the mapping, and as aligned as it has to be; nobody writes it now.
        let shape = unsafe { self.run.as_ptr().cast::<u8>().add(IO).cast::<u16>().read() };
        usual.then_some((PortShape(shape), io.port))
    }

    /// The data of one of a byte.
    #[inline(always)]
    pub(crate) fn port_byte(&self) -> u8 {
        // SAFETY: inside of the mapping, which is longer than that: see `Mapping::new`.
        unsafe { self.run.as_ptr().cast::<u8>().add(PORT_DATA).read() }
    }

    /// Up to 8 bytes at an offset from the beginning. `None` if they are not all inside.
    #[inline(always)]
    pub(crate) fn data(&self, offset: usize, len: usize) -> Option<u64> {
        let at = self.inside(offset, len)?;
        // SAFETY: inside of the mapping; every width is read as what it is, at any alignment.
        unsafe {
            Some(match len {
                1 => u64::from(at.read()),
                2 => u64::from(at.cast::<u16>().read_unaligned()),
                4 => u64::from(at.cast::<u32>().read_unaligned()),
                8 => at.cast::<u64>().read_unaligned(),
                _ => return None,
            })
        }
    }

    /// Writes 1, 2, 4 or 8 bytes at an offset from the beginning, if they are all inside.
    pub(crate) fn set_data(&mut self, offset: usize, len: usize, value: u64) {
        let Some(at) = self.inside(offset, len) else { return };
        // SAFETY: inside of the mapping, no longer than a `u64`, which is little-endian here.
        unsafe { ptr::copy_nonoverlapping((&raw const value).cast(), at, len) };
    }

    #[inline(always)]
    fn inside(&self, offset: usize, len: usize) -> Option<*mut u8> {
        let inside = len <= 8 && offset <= self.size - 8;
        inside.then(|| self.run.as_ptr().cast::<u8>().wrapping_add(offset))
    }

    /// A memory access, after `KVM_EXIT_MMIO`.
    #[inline(always)]
    pub(crate) fn mmio(&self) -> Mmio {
        let mmio = field!(self, __bindgen_anon_1.mmio);
        Mmio { addr: mmio.phys_addr, len: mmio.len, write: mmio.is_write != 0 }
    }

    /// Where its data is, from the page's beginning.
    pub(crate) const MMIO_DATA: usize = offset_of!(kvm_run, __bindgen_anon_1.mmio.data);

    /// An access to a model-specific register, after `KVM_EXIT_X86_RDMSR` or `WRMSR`.
    pub(crate) fn msr(&self) -> Msr {
        let msr = field!(self, __bindgen_anon_1.msr);
        Msr { index: msr.index, data: msr.data }
    }

    /// Answers it: with a value, or with a general-protection fault.
    pub(crate) fn set_msr(&mut self, value: Option<u64>) {
        set_field!(self, value.unwrap_or(0), __bindgen_anon_1.msr.data);
        set_field!(self, u8::from(value.is_none()), __bindgen_anon_1.msr.error);
    }

    /// What went wrong, after `KVM_EXIT_INTERNAL_ERROR`.
    pub(crate) fn internal(&self) -> Internal {
        let internal = field!(self, __bindgen_anon_1.internal);
        let known = (internal.ndata as usize).min(internal.data.len());
        let mut data = [0; 6];
        for (to, from) in data.iter_mut().zip(&internal.data[..known]) {
            *to = *from;
        }
        Internal { suberror: internal.suberror, data }
    }

    /// Why the hardware did not enter, after `KVM_EXIT_FAIL_ENTRY`.
    pub(crate) fn fail_entry(&self) -> u64 {
        field!(self, __bindgen_anon_1.fail_entry.hardware_entry_failure_reason)
    }

    /// Why the hardware left, after `KVM_EXIT_UNKNOWN`.
    pub(crate) fn unknown(&self) -> u64 {
        field!(self, __bindgen_anon_1.hw.hardware_exit_reason)
    }

    /// Which event, after `KVM_EXIT_SYSTEM_EVENT`.
    pub(crate) fn system_event(&self) -> u32 {
        field!(self, __bindgen_anon_1.system_event.type_)
    }

    /// Address and `KVM_MEMORY_EXIT_FLAG`s, after `KVM_EXIT_MEMORY_FAULT`.
    pub(crate) fn memory_fault(&self) -> u64 {
        field!(self, __bindgen_anon_1.memory_fault.gpa)
    }

    /// Whether an interrupt could be taken now, at the last exit.
    pub(crate) fn is_ready_for_interrupt(&self) -> bool {
        field!(self, ready_for_interrupt_injection) != 0
    }

    /// Says that nobody knows whether an interrupt could be taken.
    pub(crate) fn set_not_ready_for_interrupt(&mut self) {
        set_field!(self, 0, ready_for_interrupt_injection);
    }

    /// Whether RFLAGS.IF was set at the last exit.
    pub(crate) fn interrupts_enabled(&self) -> bool {
        field!(self, if_flag) != 0
    }

    /// The task priority, which the kernel takes over at every entry if it has no local APIC.
    pub(crate) fn set_task_priority(&mut self, priority: u64) {
        set_field!(self, priority, cr8);
    }

    /// Asks for an exit as soon as the guest can take an interrupt, or no more.
    pub(crate) fn set_interrupt_window(&mut self, wanted: bool) {
        set_field!(self, u8::from(wanted), request_interrupt_window);
    }

    /// Asks for the general-purpose registers at every exit, or no more.
    pub(crate) fn set_wants_registers(&mut self, wanted: bool) {
        let classes = if wanted { u64::from(KVM_SYNC_X86_REGS) } else { 0 };
        set_field!(self, classes, kvm_valid_regs);
    }

    /// The general-purpose registers, as they were last exchanged.
    pub(crate) fn registers(&self) -> kvm_regs {
        field!(self, s.regs.regs)
    }

    /// Changes them here.
    pub(crate) fn set_registers(&mut self, registers: kvm_regs) {
        set_field!(self, registers, s.regs.regs);
    }

    /// Whether the kernel takes them over at the next entry.
    pub(crate) fn registers_are_changed(&self) -> bool {
        field!(self, kvm_dirty_regs) & u64::from(KVM_SYNC_X86_REGS) != 0
    }

    /// Has the kernel take them over at the next entry, or not.
    pub(crate) fn set_registers_changed(&mut self, changed: bool) {
        let classes = if changed { u64::from(KVM_SYNC_X86_REGS) } else { 0 };
        set_field!(self, classes, kvm_dirty_regs);
    }
}
