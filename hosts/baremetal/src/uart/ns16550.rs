//! A 16550.
#![allow(unsafe_code)] // device registers

use core::sync::atomic::{AtomicUsize, Ordering};

use crate::console;

/// Where its registers are.
static BASE: AtomicUsize = AtomicUsize::new(0);
/// log2 of the distance between them.
static SHIFT: AtomicUsize = AtomicUsize::new(0);

const DATA: usize = 0;
const INTERRUPT_ENABLE: usize = 1;
const FIFO_CONTROL: usize = 2;
const LINE_STATUS: usize = 5;
const RECEIVED: u8 = 1;
const ROOM: u8 = 1 << 5;

fn register(index: usize) -> *mut u8 {
    let base = BASE.load(Ordering::Relaxed);
    (base + (index << SHIFT.load(Ordering::Relaxed))) as *mut u8
}

fn read(index: usize) -> u8 {
    // SAFETY: the port's registers, `init` was called.
    unsafe { register(index).read_volatile() }
}

fn write(index: usize, value: u8) {
    // SAFETY: as above.
    unsafe { register(index).write_volatile(value) };
}

/// Uses the port at `base`.
///
/// # Safety
///
/// There is a 16550 with its registers `1 << shift` bytes apart.
pub(super) unsafe fn init(base: usize, shift: usize) {
    SHIFT.store(shift, Ordering::Relaxed);
    BASE.store(base, Ordering::Relaxed);
    write(FIFO_CONTROL, 1);
    write(INTERRUPT_ENABLE, RECEIVED);
}

pub(super) fn send(bytes: &[u8]) {
    for &byte in bytes {
        while read(LINE_STATUS) & ROOM == 0 {
            core::hint::spin_loop();
        }
        write(DATA, byte);
    }
}

pub(super) fn receive() {
    while read(LINE_STATUS) & RECEIVED != 0 {
        console::received(read(DATA));
    }
}
