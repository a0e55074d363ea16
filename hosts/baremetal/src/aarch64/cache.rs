//! Zeroing memory, and making it what is in memory: guests start without caches.
#![allow(unsafe_code)] // writes memory, cache maintenance

use super::sysreg::{barrier, read};

/// Zeroes whole pages.
///
/// # Safety
///
/// `start` is page-aligned, and the `size` bytes from it on, a multiple of the page size, are the caller's.
pub(crate) unsafe fn zero_pages(start: *mut u8, size: usize) {
    #[cfg(target_arch = "aarch64")]
    {
        /// `DCZID_EL0`: `DC ZVA` is prohibited.
        const PROHIBITED: u64 = 1 << 4;
        let dczid = read!("DCZID_EL0");
        if dczid & PROHIBITED == 0 {
            // A page is a multiple of the block, 2 KiB at most.
            let block = 4_usize << (dczid & 15);
            each_block(start.addr(), start.addr() + size, block, |at| {
                // SAFETY: the caller's promise.
                unsafe { core::arch::asm!("dc zva, {}", in(reg) at, options(nostack)) };
            });
            return;
        }
    }
    // SAFETY: the caller's promise.
    unsafe { core::ptr::write_bytes(start, 0, size) };
}

/// Makes memory what a guest reads that starts without caches: writes back what the caches have of it, to the
/// point of coherency.
pub(crate) fn clean(start: *const u8, size: usize) {
    let line = 4_usize << (read!("CTR_EL0") >> 16 & 15); // DminLine
    each_block(start.addr() & !(line - 1), start.addr() + size, line, clean_line);
    barrier!("dsb sy");
}

/// Calls `f` for each block from `start` to `end`. Guests have millions of them, so that what is around each counts.
#[inline(always)]
fn each_block(start: usize, end: usize, size: usize, f: impl Fn(usize)) {
    const UNROLLED: usize = 16;
    let mut at = start;
    while at + UNROLLED * size <= end {
        for index in 0..UNROLLED {
            f(at + index * size);
        }
        at += UNROLLED * size;
    }
    while at < end {
        f(at);
        at += size;
    }
}

#[inline(always)]
fn clean_line(at: usize) {
    #[cfg(target_arch = "aarch64")]
    // SAFETY: changes nothing that is seen through the caches.
    unsafe {
        core::arch::asm!("dc civac, {}", in(reg) at, options(nostack));
    }
    #[cfg(not(target_arch = "aarch64"))]
    let _ = at;
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn nothing_but_the_pages() {
        let mut memory = vec![1_u64; 3 * 512];
        let start = memory.as_ptr().align_offset(4096);
        let middle = memory[start..].as_mut_ptr();
        // SAFETY: a page of memory of our own.
        unsafe { zero_pages(middle.cast(), 4096) };
        clean(middle.cast(), 4096);
        assert!(memory[start..start + 512].iter().all(|&word| word == 0));
        assert!(memory[..start].iter().chain(&memory[start + 512..]).all(|&word| word == 1));
    }
}
