//! Access to guest memory through host addresses.
//!
//! Every access is an atomic of the guest's width with relaxed ordering: other vCPUs and the hypervisor use
//! the same memory at the same time, and a data race would be undefined behaviour. On the hosts that matter
//! this costs nothing over a plain access. Guest fences become host fences. (Guests race with accesses of different
//! widths as well. The language leaves that open; all hosts there are do the natural thing.)
#![allow(unsafe_code)] // the one place that turns translated addresses into memory accesses

#[cfg(not(target_endian = "little"))]
compile_error!(
    "guest memory is little-endian and is accessed with the host's own loads and stores"
);

use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

/// The host address of guest memory: the result of a completed two-stage translation.
///
/// Only [`HostAddr::new`] makes one from a number. It stays good until the vCPU's next stage-2 fence: that is
/// the promise behind [`set_ept_root`](axvcpu::AxArchVCpu::set_ept_root), and every structure that keeps one
/// is flushed by that fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct HostAddr(u64);

impl HostAddr {
    /// # Safety
    ///
    /// The naturally aligned access of up to 8 bytes at `addr` is to memory that the stage-2 tables
    /// (or the tables themselves) map, and that stays there until the next stage-2 fence.
    #[inline]
    pub(crate) const unsafe fn new(addr: u64) -> Self {
        Self(addr)
    }

    #[inline]
    pub(crate) const fn as_u64(self) -> u64 {
        self.0
    }

    /// The address `offset` bytes on, in the same page.
    #[inline]
    pub(crate) const fn within_page(self, offset: u64) -> Self {
        Self(self.0 & !0xfff | offset & 0xfff)
    }
}

/// A width of memory access.
pub(crate) trait Width: Copy + Into<u64> {
    /// Bytes.
    const BYTES: u64;
    /// The low bits of `value`.
    fn cut(value: u64) -> Self;
    /// Reads; `addr` is a multiple of [`Self::BYTES`].
    fn load(addr: HostAddr) -> Self;
    /// Writes; `addr` is a multiple of [`Self::BYTES`].
    fn store(addr: HostAddr, value: Self);
}

macro_rules! width {
    ($int:ty, $atomic:ty) => {
        impl Width for $int {
            const BYTES: u64 = size_of::<$int>() as u64;

            #[inline]
            fn cut(value: u64) -> Self {
                value as Self
            }

            #[inline]
            fn load(addr: HostAddr) -> Self {
                debug_assert_eq!(addr.0 & (Self::BYTES - 1), 0);
                // SAFETY: `HostAddr` is guest memory; callers align, as the translation cache checks it.
                unsafe { (*(addr.0 as *const $atomic)).load(Ordering::Relaxed) }
            }

            #[inline]
            fn store(addr: HostAddr, value: Self) {
                debug_assert_eq!(addr.0 & (Self::BYTES - 1), 0);
                // SAFETY: as above.
                unsafe { (*(addr.0 as *const $atomic)).store(value, Ordering::Relaxed) }
            }
        }
    };
}
width!(u8, AtomicU8);
width!(u16, AtomicU16);
width!(u32, AtomicU32);
width!(u64, AtomicU64);

/// A width that has atomic read-modify-write operations in the guest.
pub(crate) trait AtomicWidth: Width {
    /// Replaces the value by `f` of it in one atomic step, and answers the old one.
    fn update(addr: HostAddr, f: impl Fn(Self) -> Self) -> Self;
    /// Writes `new` if the value is `expected`, in one atomic step; whether it did.
    fn replace(addr: HostAddr, expected: Self, new: Self) -> bool;
}

macro_rules! atomic_width {
    ($int:ty, $atomic:ty) => {
        impl AtomicWidth for $int {
            #[inline]
            fn update(addr: HostAddr, f: impl Fn(Self) -> Self) -> Self {
                debug_assert_eq!(addr.0 & (Self::BYTES - 1), 0);
                // SAFETY: `HostAddr` is guest memory; callers align.
                let cell = unsafe { &*(addr.0 as *const $atomic) };
                let mut old = cell.load(Ordering::Relaxed);
                loop {
                    match cell.compare_exchange_weak(
                        old,
                        f(old),
                        Ordering::SeqCst,
                        Ordering::Relaxed,
                    ) {
                        Ok(_) => return old,
                        Err(now) => old = now,
                    }
                }
            }

            #[inline]
            fn replace(addr: HostAddr, expected: Self, new: Self) -> bool {
                debug_assert_eq!(addr.0 & (Self::BYTES - 1), 0);
                // SAFETY: as above.
                let cell = unsafe { &*(addr.0 as *const $atomic) };
                cell.compare_exchange(expected, new, Ordering::SeqCst, Ordering::Relaxed).is_ok()
            }
        }
    };
}
atomic_width!(u32, AtomicU32);
atomic_width!(u64, AtomicU64);
