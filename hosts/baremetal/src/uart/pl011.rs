//! A PL011 (Arm DDI 0183). Its line settings are the firmware's.
#![allow(unsafe_code)] // device registers

use core::sync::atomic::{AtomicUsize, Ordering};

use crate::console;

/// Where its registers are.
static BASE: AtomicUsize = AtomicUsize::new(0);

const DATA: usize = 0x00;
const FLAGS: usize = 0x18;
const LINE_CONTROL: usize = 0x2c;
const CONTROL: usize = 0x30;
const INTERRUPT_MASK: usize = 0x38;

/// `UARTFR`: nothing was received; there is no room to send.
const RECEIVE_EMPTY: u32 = 1 << 4;
const TRANSMIT_FULL: u32 = 1 << 5;
/// `UARTLCR_H`: 8 bits, FIFOs.
const LINE: u32 = 0b11 << 5 | 1 << 4;
/// `UARTCR`: the port, sending and receiving on.
const ON: u32 = 1 | 1 << 8 | 1 << 9;
/// `UARTIMSC`: what was received, at once or after a pause.
const RECEIVED: u32 = 1 << 4 | 1 << 6;

fn register(offset: usize) -> *mut u32 {
    (BASE.load(Ordering::Relaxed) + offset) as *mut u32
}

fn read(offset: usize) -> u32 {
    // SAFETY: the port's registers; `init` was called.
    unsafe { register(offset).read_volatile() }
}

fn write(offset: usize, value: u32) {
    // SAFETY: as above.
    unsafe { register(offset).write_volatile(value) };
}

/// Uses the port at `base`.
///
/// # Safety
///
/// There is a PL011.
pub(super) unsafe fn init(base: usize) {
    BASE.store(base, Ordering::Relaxed);
    write(LINE_CONTROL, LINE);
    write(CONTROL, ON);
    write(INTERRUPT_MASK, RECEIVED);
}

pub(super) fn send(bytes: &[u8]) {
    for &byte in bytes {
        while read(FLAGS) & TRANSMIT_FULL != 0 {
            core::hint::spin_loop();
        }
        write(DATA, byte.into());
    }
}

pub(super) fn receive() {
    while read(FLAGS) & RECEIVE_EMPTY == 0 {
        console::received(read(DATA) as u8);
    }
}
