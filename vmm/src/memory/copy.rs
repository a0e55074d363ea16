//! Copies between host buffers and memory that the guest changes at the same time.
//!
//! Every access is atomic, one byte or one aligned word at a time, so that a racing guest makes the copied
//! bytes arbitrary but nothing else; no reference to guest memory is ever made.
#![allow(unsafe_code)] // the only code that touches guest memory

use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

const WORD: usize = 8;

/// # Safety
///
/// `at` can be read and written (1 byte).
unsafe fn byte<'a>(at: *mut u8) -> &'a AtomicU8 {
    // SAFETY: the caller's promise; a byte is always aligned.
    unsafe { AtomicU8::from_ptr(at) }
}

/// # Safety
///
/// `at` can be read and written (8 bytes) and is 8-byte aligned.
unsafe fn word<'a>(at: *mut u8) -> &'a AtomicU64 {
    // SAFETY: the caller's promise.
    unsafe { AtomicU64::from_ptr(at.cast()) }
}

/// The bytes before the first aligned word, at most `len`.
fn head(at: *mut u8, len: usize) -> usize {
    (at.addr().wrapping_neg() % WORD).min(len)
}

/// Fills `buf` from guest memory.
///
/// # Safety
///
/// `from..from + buf.len()` is mapped and readable and writable as long as the call lasts; only the guest
/// and this module access it.
pub(super) unsafe fn read(from: *mut u8, buf: &mut [u8]) {
    let (head, rest) = buf.split_at_mut(head(from, buf.len()));
    let mut at = from;
    let bytes = |part: &mut [u8], at: &mut *mut u8| {
        for b in part {
            // SAFETY: `at` counts through the range, one byte for each of the buffer.
            unsafe {
                *b = byte(*at).load(Ordering::Relaxed);
                *at = at.add(1);
            }
        }
    };
    bytes(head, &mut at);
    let mut words = rest.chunks_exact_mut(WORD);
    for chunk in &mut words {
        // SAFETY: as above; `head` bytes made `at` aligned, and words keep it so.
        unsafe {
            chunk.copy_from_slice(&word(at).load(Ordering::Relaxed).to_ne_bytes());
            at = at.add(WORD);
        }
    }
    bytes(words.into_remainder(), &mut at);
}

/// Copies `buf` to guest memory.
///
/// # Safety
///
/// As for [`read`].
pub(super) unsafe fn write(to: *mut u8, buf: &[u8]) {
    let (head, rest) = buf.split_at(head(to, buf.len()));
    let mut at = to;
    let bytes = |part: &[u8], at: &mut *mut u8| {
        for b in part {
            // SAFETY: `at` counts through the range, one byte for each of the buffer.
            unsafe {
                byte(*at).store(*b, Ordering::Relaxed);
                *at = at.add(1);
            }
        }
    };
    bytes(head, &mut at);
    // Files are large, and often as aligned as where they go: then a word is one load, on every architecture.
    // SAFETY: any bytes are a `u64`.
    let (unaligned, aligned, _) = unsafe { rest.align_to::<u64>() };
    let rest = if unaligned.is_empty() {
        for &value in aligned {
            // SAFETY: as above; `head` bytes made `at` aligned, and words keep it so.
            unsafe {
                word(at).store(value, Ordering::Relaxed);
                at = at.add(WORD);
            }
        }
        &rest[WORD * aligned.len()..]
    } else {
        rest
    };
    let words = rest.chunks_exact(WORD);
    let tail = words.remainder();
    for chunk in words {
        let mut value = [0; WORD];
        value.copy_from_slice(chunk);
        // SAFETY: as above; `head` bytes made `at` aligned, and words keep it so.
        unsafe {
            word(at).store(u64::from_ne_bytes(value), Ordering::Relaxed);
            at = at.add(WORD);
        }
    }
    bytes(tail, &mut at);
}
