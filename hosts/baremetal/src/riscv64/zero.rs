//! Zeroing memory: half a gigabyte of it before a guest starts, so that it shows how.
#![allow(unsafe_code)] // writes memory

use core::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that one `cbo.zero` zeroes; 0 on harts without it (Zicboz).
static BLOCK: AtomicUsize = AtomicUsize::new(0);

/// Uses `cbo.zero` with blocks of this size from now on. Firmware allows it to HS-mode where the hart has it.
pub(crate) fn use_blocks(size: usize) {
    if size.is_power_of_two() && size <= 4096 / UNROLLED {
        BLOCK.store(size, Ordering::Relaxed);
    }
}

/// Blocks in one round of the loop below.
const UNROLLED: usize = 8;

/// Zeroes whole pages.
///
/// # Safety
///
/// `start` is page-aligned, and the `size` bytes from it on, a multiple of the page size, are the caller's.
pub(crate) unsafe fn zero_pages(start: *mut u8, size: usize) {
    #[cfg(target_arch = "riscv64")]
    {
        let block = BLOCK.load(Ordering::Relaxed);
        if block != 0 {
            // SAFETY: the caller's promise; a page is a multiple of eight blocks.
            return unsafe { zero_blocks(start, size, block) };
        }
    }
    // SAFETY: the caller's promise.
    unsafe { core::ptr::write_bytes(start, 0, size) };
}

/// Makes memory what a guest reads that starts without caches: nothing to do, as harts have none that show.
pub(crate) fn clean(_start: *const u8, _size: usize) {}

/// # Safety
///
/// As for [`zero_pages`]; `block` is the hart's, and a page is a multiple of [`UNROLLED`] blocks.
#[cfg(target_arch = "riscv64")]
unsafe fn zero_blocks(start: *mut u8, size: usize, block: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        core::arch::asm!(
            ".option push",
            ".option arch, +zicboz",
            "2:",
            ".rept {unrolled}",
            "cbo.zero ({at})",
            "add {at}, {at}, {block}",
            ".endr",
            "bltu {at}, {end}, 2b",
            ".option pop",
            unrolled = const UNROLLED,
            at = inout(reg) start => _,
            end = in(reg) start.wrapping_add(size),
            block = in(reg) block,
            options(nostack),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn nothing_but_the_pages() {
        let mut memory = vec![1_u64; 3 * 512];
        // SAFETY: the middle third of memory of our own.
        unsafe { zero_pages(memory[512..].as_mut_ptr().cast(), 4096) };
        assert!(memory[512..1024].iter().all(|&word| word == 0));
        assert!(memory[..512].iter().chain(&memory[1024..]).all(|&word| word == 1));
    }
}
