//! Requests of `/dev/kvm`, each with what it moves (Linux, Documentation/virt/kvm/api.rst; include/uapi/linux/kvm.h).
//!
//! A request says by its type what the kernel reads and writes, so that whoever makes it cannot give it anything else.
#![allow(unsafe_code)] // promises what the kernel does with an argument

use std::ffi::{c_int, c_ulong};
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use kvm_bindings::*;

use super::Errno;

/// A number, or nothing.
pub(crate) struct Plain(c_ulong);

/// The kernel makes a file.
pub(crate) struct Make(c_ulong);

/// The kernel writes a `T`.
pub(crate) struct Get<T>(c_ulong, PhantomData<fn() -> T>);

/// The kernel reads a `T`.
pub(crate) struct Set<T: ?Sized>(c_ulong, PhantomData<fn(&T)>);

/// The kernel reads and writes a `T`.
pub(crate) struct Swap<T>(c_ulong, PhantomData<fn(&mut T)>);

/// The kernel reads a `T` that gives it memory of the program's to keep.
pub(crate) struct Give<T>(c_ulong, PhantomData<fn(&T)>);

/// `_IOC` (Linux, include/uapi/asm-generic/ioctl.h).
const fn code(direction: c_ulong, nr: c_ulong, size: usize) -> c_ulong {
    const KVMIO: c_ulong = 0xae;
    direction << 30 | (size as c_ulong) << 16 | KVMIO << 8 | nr
}

const READ: c_ulong = 2;
const WRITE: c_ulong = 1;

const fn plain(nr: c_ulong) -> Plain {
    Plain(code(0, nr, 0))
}

const fn make(nr: c_ulong) -> Make {
    Make(code(0, nr, 0))
}

const fn get<T>(nr: c_ulong) -> Get<T> {
    Get(code(READ, nr, size_of::<T>()), PhantomData)
}

const fn set<T>(nr: c_ulong) -> Set<T> {
    Set(code(WRITE, nr, size_of::<T>()), PhantomData)
}

const fn swap<T>(nr: c_ulong) -> Swap<T> {
    Swap(code(READ | WRITE, nr, size_of::<T>()), PhantomData)
}

/// A structure that ends in a number of entries, of which `head` comes before them. The request's size is the head's.
#[repr(C)]
#[derive(Clone)]
pub(crate) struct List<H, T, const N: usize> {
    /// Says how many entries there are, which is never more than there is room for.
    head: H,
    entries: [T; N],
}

/// Room for as much as KVM has to tell of a CPU (`KVM_MAX_CPUID_ENTRIES`).
pub(crate) type Cpuid = List<kvm_cpuid2, kvm_cpuid_entry2, 256>;
/// Room for every model-specific register that KVM keeps.
pub(crate) type MsrList = List<kvm_msr_list, u32, 512>;
/// The inputs of the interrupt controllers of a PC, twice: for the 8259s and for the I/O APIC.
pub(crate) type Routes = List<kvm_irq_routing, kvm_irq_routing_entry, 64>;
/// One model-specific register.
pub(crate) type OneMsr = List<kvm_msrs, kvm_msr_entry, 1>;
/// Room for the largest XSAVE area this backend knows of: 2.75 KiB, and the 8 KiB that AMX takes. The kernel is to be asked
/// for its size (`KVM_CAP_XSAVE2`) before it is given one.
#[repr(C)]
#[derive(Clone)]
pub(crate) struct Xsave {
    pub(crate) region: [u32; 4096],
}

impl Cpuid {
    /// Room to be filled.
    pub(crate) fn room() -> Self {
        Self::of(&[kvm_cpuid_entry2::default(); 256])
    }

    /// So many entries there is room for.
    pub(crate) const ROOM: usize = 256;

    /// As many of these as there is room for.
    pub(crate) fn of(from: &[kvm_cpuid_entry2]) -> Self {
        let mut entries = [kvm_cpuid_entry2::default(); 256];
        let count = from.len().min(entries.len());
        entries[..count].copy_from_slice(&from[..count]);
        Self { head: kvm_cpuid2 { nent: count as u32, ..Default::default() }, entries }
    }

    pub(crate) fn entries(&self) -> &[kvm_cpuid_entry2] {
        &self.entries[..(self.head.nent as usize).min(256)]
    }
}

impl MsrList {
    /// Room to be filled.
    pub(crate) fn room() -> Self {
        Self { head: kvm_msr_list { nmsrs: 512, ..Default::default() }, entries: [0; 512] }
    }

    pub(crate) fn entries(&self) -> &[u32] {
        &self.entries[..(self.head.nmsrs as usize).min(512)]
    }
}

impl Routes {
    /// As many of these as there is room for: interrupt controller and its input, for each line.
    pub(crate) fn of(routes: impl Iterator<Item = (u32, u32, u32)>) -> Self {
        let mut list = Self {
            head: kvm_irq_routing::default(),
            entries: [kvm_irq_routing_entry::default(); 64],
        };
        for ((gsi, irqchip, pin), entry) in routes.zip(&mut list.entries) {
            (entry.gsi, entry.type_) = (gsi, KVM_IRQ_ROUTING_IRQCHIP);
            entry.u.irqchip = kvm_irq_routing_irqchip { irqchip, pin };
            list.head.nr += 1;
        }
        list
    }
}

impl OneMsr {
    pub(crate) fn new(index: u32, data: u64) -> Self {
        let entry = kvm_msr_entry { index, data, ..Default::default() };
        Self { head: kvm_msrs { nmsrs: 1, ..Default::default() }, entries: [entry] }
    }

    pub(crate) fn data(&self) -> u64 {
        self.entries[0].data
    }
}

// Each line is one of the kernel's definitions: the number, and the structure it names.
pub(crate) const GET_API_VERSION: Plain = plain(0x00);
pub(crate) const CREATE_VM: Make = make(0x01);
pub(crate) const CHECK_EXTENSION: Plain = plain(0x03);
pub(crate) const GET_VCPU_MMAP_SIZE: Plain = plain(0x04);
pub(crate) const CREATE_VCPU: Make = make(0x41);
pub(crate) const SET_TSS_ADDR: Plain = plain(0x47);
pub(crate) const CREATE_IRQCHIP: Plain = plain(0x60);
pub(crate) const NMI: Plain = plain(0x9a);

pub(crate) const GET_SUPPORTED_CPUID: Swap<Cpuid> =
    Swap(code(READ | WRITE, 0x05, size_of::<kvm_cpuid2>()), PhantomData);
pub(crate) const GET_MSR_INDEX_LIST: Swap<MsrList> =
    Swap(code(READ | WRITE, 0x02, size_of::<kvm_msr_list>()), PhantomData);
pub(crate) const SET_CPUID2: Set<Cpuid> =
    Set(code(WRITE, 0x90, size_of::<kvm_cpuid2>()), PhantomData);
pub(crate) const GET_MSRS: Swap<OneMsr> =
    Swap(code(READ | WRITE, 0x88, size_of::<kvm_msrs>()), PhantomData);
pub(crate) const SET_MSRS: Set<OneMsr> = Set(code(WRITE, 0x89, size_of::<kvm_msrs>()), PhantomData);
// The area may be larger than the structure the request was made for; `Xsave` is larger than either.
pub(crate) const GET_XSAVE: Get<Xsave> = Get(code(READ, 0xa4, size_of::<kvm_xsave>()), PhantomData);
pub(crate) const GET_XSAVE2: Get<Xsave> =
    Get(code(READ, 0xcf, size_of::<kvm_xsave>()), PhantomData);
pub(crate) const SET_XSAVE: Set<Xsave> =
    Set(code(WRITE, 0xa5, size_of::<kvm_xsave>()), PhantomData);

pub(crate) const SET_GSI_ROUTING: Set<Routes> =
    Set(code(WRITE, 0x6a, size_of::<kvm_irq_routing>()), PhantomData);

pub(crate) const SET_USER_MEMORY_REGION: Give<kvm_userspace_memory_region> =
    Give(set::<kvm_userspace_memory_region>(0x46).0, PhantomData);
pub(crate) const SET_IDENTITY_MAP_ADDR: Set<u64> = set(0x48);
pub(crate) const IRQ_LINE: Set<kvm_irq_level> = set(0x61);
pub(crate) const IRQFD: Set<kvm_irqfd> = set(0x76);
pub(crate) const CREATE_PIT2: Set<kvm_pit_config> = set(0x77);
pub(crate) const IOEVENTFD: Set<kvm_ioeventfd> = set(0x79);
pub(crate) const ENABLE_CAP: Set<kvm_enable_cap> = set(0xa3);
pub(crate) const SIGNAL_MSI: Set<kvm_msi> = set(0xa5);
pub(crate) const X86_SET_MSR_FILTER: Set<kvm_msr_filter> = set(0xc6);

pub(crate) const GET_REGS: Get<kvm_regs> = get(0x81);
pub(crate) const SET_REGS: Set<kvm_regs> = set(0x82);
pub(crate) const GET_SREGS: Get<kvm_sregs> = get(0x83);
pub(crate) const SET_SREGS: Set<kvm_sregs> = set(0x84);
pub(crate) const TRANSLATE: Swap<kvm_translation> = swap(0x85);
pub(crate) const INTERRUPT: Set<kvm_interrupt> = set(0x86);
pub(crate) const GET_LAPIC: Get<kvm_lapic_state> = get(0x8e);
pub(crate) const SET_LAPIC: Set<kvm_lapic_state> = set(0x8f);
pub(crate) const GET_MP_STATE: Get<kvm_mp_state> = get(0x98);
pub(crate) const SET_MP_STATE: Set<kvm_mp_state> = set(0x99);
pub(crate) const GET_VCPU_EVENTS: Get<kvm_vcpu_events> = get(0x9f);
pub(crate) const SET_VCPU_EVENTS: Set<kvm_vcpu_events> = set(0xa0);
pub(crate) const GET_DEBUGREGS: Get<kvm_debugregs> = get(0xa1);
pub(crate) const SET_DEBUGREGS: Set<kvm_debugregs> = set(0xa2);
pub(crate) const GET_XCRS: Get<kvm_xcrs> = get(0xa6);
pub(crate) const SET_XCRS: Set<kvm_xcrs> = set(0xa7);

impl Plain {
    pub(crate) fn call(&self, fd: BorrowedFd<'_>, argument: c_ulong) -> Result<c_int, Errno> {
        // SAFETY: by the definitions above the argument is a number; the kernel uses no memory of the program's.
        Errno::check(unsafe { libc::ioctl(fd.as_raw_fd(), self.0 as _, argument) })
    }
}

impl Make {
    pub(crate) fn call(&self, fd: BorrowedFd<'_>, argument: c_ulong) -> Result<OwnedFd, Errno> {
        // SAFETY: as above.
        let made = Errno::check(unsafe { libc::ioctl(fd.as_raw_fd(), self.0 as _, argument) })?;
        // SAFETY: the kernel has opened it for this call, and nobody else knows of it.
        Ok(unsafe { OwnedFd::from_raw_fd(made) })
    }
}

impl<T> Get<T> {
    /// The structure, of which the kernel has written all it knows. `T` is one of its own, for which any bytes will do.
    pub(crate) fn call(&self, fd: BorrowedFd<'_>) -> Result<T, Errno> {
        // SAFETY: numbers and arrays of them (see the definitions above): zeros are a value.
        let mut value: T = unsafe { std::mem::zeroed() };
        // SAFETY: the kernel writes no more than the structure named in the definition.
        Errno::check(unsafe { libc::ioctl(fd.as_raw_fd(), self.0 as _, &raw mut value) })?;
        Ok(value)
    }
}

impl<T> Set<T> {
    pub(crate) fn call(&self, fd: BorrowedFd<'_>, value: &T) -> Result<c_int, Errno> {
        // SAFETY: the kernel reads no more than the structure named in the definition; a list knows its own length.
        Errno::check(unsafe { libc::ioctl(fd.as_raw_fd(), self.0 as _, &raw const *value) })
    }
}

impl<T> Swap<T> {
    pub(crate) fn call(&self, fd: BorrowedFd<'_>, value: &mut T) -> Result<c_int, Errno> {
        // SAFETY: the kernel reads and writes no more than the structure named in the definition. Lists say how many
        // entries they have room for in a head that `Self::new` has set and nothing else sets to more.
        Errno::check(unsafe { libc::ioctl(fd.as_raw_fd(), self.0 as _, &raw mut *value) })
    }
}

impl<T> Give<T> {
    /// # Safety
    ///
    /// The kernel may do with the memory that `value` names what the request is for, as long as it keeps it.
    pub(crate) unsafe fn call(&self, fd: BorrowedFd<'_>, value: &T) -> Result<c_int, Errno> {
        // SAFETY: the kernel reads the structure named in the definition; what becomes of the memory it names is the
        // caller's promise.
        Errno::check(unsafe { libc::ioctl(fd.as_raw_fd(), self.0 as _, &raw const *value) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the kernel's headers compute them.
    #[test]
    fn the_numbers_are_the_kernel_s() {
        assert_eq!(CREATE_VM.0, 0xae01);
        assert_eq!(SET_USER_MEMORY_REGION.0, 0x4020_ae46);
        assert_eq!(GET_REGS.0, 0x8090_ae81);
        assert_eq!(SET_SREGS.0, 0x4138_ae84);
        assert_eq!(GET_SUPPORTED_CPUID.0, 0xc008_ae05);
        assert_eq!(SET_CPUID2.0, 0x4008_ae90);
        assert_eq!(GET_MSRS.0, 0xc008_ae88);
        assert_eq!(GET_MSR_INDEX_LIST.0, 0xc004_ae02);
        assert_eq!(SET_MSRS.0, 0x4008_ae89);
        assert_eq!(GET_LAPIC.0, 0x8400_ae8e);
        assert_eq!(GET_XSAVE.0, 0x9000_aea4);
        assert_eq!(GET_XSAVE2.0, 0x9000_aecf);
        assert_eq!(SET_VCPU_EVENTS.0, 0x4040_aea0);
        assert_eq!(SIGNAL_MSI.0, 0x4020_aea5);
        assert_eq!(TRANSLATE.0, 0xc018_ae85);
        assert_eq!(IRQFD.0, 0x4020_ae76);
        assert_eq!(IOEVENTFD.0, 0x4040_ae79);
        assert_eq!(ENABLE_CAP.0, 0x4068_aea3);
        assert_eq!(X86_SET_MSR_FILTER.0, 0x4188_aec6);
        assert_eq!(CREATE_PIT2.0, 0x4040_ae77);
        assert_eq!(SET_GSI_ROUTING.0, 0x4008_ae6a);
        assert_eq!(NMI.0, 0xae9a);
    }
}
