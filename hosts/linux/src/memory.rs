//! Guest RAM: anonymous memory the kernel fills in as the guest touches it.
#![allow(unsafe_code)] // maps and unmaps memory

use std::io;
use std::ptr::{self, NonNull};

use axvcpu::HostPhysAddr;

/// RAM starts on a boundary of the largest page that stage 2 is likely to use, and the host as well.
const ALIGN: usize = 2 << 20;

/// A guest's RAM: zeroed, reserved but not occupied until it is used.
#[derive(Debug)]
pub struct GuestRam {
    base: NonNull<u8>,
    size: usize,
}

// SAFETY: the memory belongs to the process, not to a thread; this type never reads or writes it by itself.
unsafe impl Send for GuestRam {}
// SAFETY: as above.
unsafe impl Sync for GuestRam {}

impl GuestRam {
    /// Maps `size` bytes, a multiple of the page size.
    ///
    /// # Errors
    ///
    /// The host's: [`OutOfMemory`](io::ErrorKind::OutOfMemory) when its overcommit policy or an address-space
    /// limit forbids that much.
    pub fn new(size: usize) -> io::Result<Self> {
        let too_much = || io::Error::from_raw_os_error(libc::ENOMEM);
        if size == 0 || size % 4096 != 0 {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let reserved = size.checked_add(ALIGN).ok_or_else(too_much)?;
        // SAFETY: a new private mapping at an address the kernel chooses disturbs nothing.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                reserved,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = start.cast::<u8>();
        let head = start.align_offset(ALIGN);
        let base = start.wrapping_add(head);
        unmap(start, head);
        unmap(base.wrapping_add(size), ALIGN - head);
        // Large host pages spare both levels of translation; without them everything works the same.
        // SAFETY: advice on memory just mapped, which keeps its content.
        unsafe { libc::madvise(base.cast(), size, libc::MADV_HUGEPAGE) };
        base.expose_provenance(); // stage-2 tables hold the address as a number
        NonNull::new(base).map(|base| Self { base, size }).ok_or_else(too_much)
    }

    /// Where the host finds the first byte.
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// The first byte's address as stage-2 tables name it (see [`hal`](crate::hal)).
    pub fn host_address(&self) -> HostPhysAddr {
        HostPhysAddr::new(self.base.as_ptr().addr() as u64)
    }

    /// Bytes.
    pub fn size(&self) -> usize {
        self.size
    }
}

impl Drop for GuestRam {
    fn drop(&mut self) {
        unmap(self.base.as_ptr(), self.size);
    }
}

/// Gives part of a mapping back that only this file knows of.
fn unmap(start: *mut u8, size: usize) {
    if size > 0 {
        // SAFETY: the range lies in a mapping `GuestRam::new` made and nobody uses it: the slack around the
        // memory, which was never handed out, or the memory itself when its owner is dropped. Unmapping whole
        // pages cannot fail; were it to, the range would only stay reserved.
        unsafe { libc::munmap(start.cast(), size) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_aligned_zeroed_and_writable_to_the_last_byte() {
        for size in [4096, ALIGN - 4096, ALIGN, 3 * ALIGN + 4096] {
            let ram = GuestRam::new(size).unwrap();
            assert_eq!(ram.size(), size);
            assert_eq!(ram.base().as_ptr().addr() % ALIGN, 0);
            assert_eq!(ram.host_address().as_usize(), ram.base().as_ptr().addr());
            let last = ram.base().as_ptr().wrapping_add(size - 1);
            // SAFETY: the last byte of memory of our own.
            unsafe { last.write(7) };
            // SAFETY: memory of our own, which nobody writes any more.
            let content = unsafe { std::slice::from_raw_parts(ram.base().as_ptr(), size) };
            assert_eq!(content.iter().map(|&byte| u64::from(byte)).sum::<u64>(), 7);
            assert_eq!(content.last(), Some(&7));
        }
    }

    #[test]
    fn refuses_what_the_host_cannot_map() {
        for size in [0, 4095, usize::MAX & !4095, 1 << 55] {
            assert!(GuestRam::new(size).is_err(), "{size:#x}");
        }
    }

    #[test]
    fn is_given_back() {
        // More in total than the address space holds.
        for _ in 0..4096 {
            GuestRam::new(1 << 40).unwrap();
        }
    }
}
