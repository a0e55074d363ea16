//! The UART as a driver sees it.

use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::super::input::LINE;
use super::*;

#[derive(Default)]
struct Host {
    out: Mutex<Vec<u8>>,
    irq: AtomicBool,
    wanted: AtomicUsize,
}

impl ConsoleSink for Host {
    fn write(&self, bytes: &[u8]) {
        self.out.lock().extend(bytes);
    }

    fn input_wanted(&self) {
        self.wanted.fetch_add(1, Ordering::Relaxed);
    }
}

impl IrqLine for Host {
    fn set(&self, asserted: bool) {
        assert_ne!(self.irq.swap(asserted, Ordering::Relaxed), asserted, "no change");
    }
}

struct Bench {
    host: Arc<Host>,
    uart: Uart16550,
}

impl Bench {
    fn new() -> Self {
        let host = Arc::new(Host::default());
        Self { uart: Uart16550::new(host.clone(), host.clone()), host }
    }

    fn get(&self, reg: u64) -> u8 {
        self.uart.read(reg, AccessWidth::Byte).unwrap() as u8
    }

    fn set(&self, reg: u64, value: u8) {
        self.uart.write(reg, AccessWidth::Byte, value.into()).unwrap();
    }

    fn irq(&self) -> bool {
        self.host.irq.load(Ordering::Relaxed)
    }

    /// What a driver does when it opens the port.
    fn open(&self) {
        self.set(2, 0x01);
        self.set(4, 0x0b); // DTR, RTS, OUT2
        self.set(1, 0x01);
    }
}

#[test]
fn output_goes_to_the_sink_at_once() {
    let b = Bench::new();
    for byte in *b"hello" {
        assert_eq!(b.get(5) & 0x60, 0x60);
        b.set(0, byte);
    }
    assert_eq!(*b.host.out.lock(), b"hello");
}

#[test]
fn transmitter_interrupt() {
    let b = Bench::new();
    assert_eq!(b.get(2), 0x01);
    b.set(1, 0x02);
    assert!(b.irq()); // empty when it is enabled
    assert_eq!(b.get(2), 0x02);
    assert!(!b.irq()); // reading the identification clears it
    assert_eq!(b.get(2), 0x01);
    b.set(0, b'x');
    assert!(b.irq());
    b.set(1, 0);
    assert!(!b.irq());
}

#[test]
fn receiver_interrupt_and_data() {
    let b = Bench::new();
    b.open();
    assert!(!b.irq());
    assert_eq!(b.uart.push_input(b"ab"), 2);
    assert!(b.irq());
    assert_eq!(b.get(2), 0xc4);
    assert_eq!(b.get(5) & 1, 1);
    assert_eq!((b.get(0), b.irq()), (b'a', true));
    assert_eq!((b.get(0), b.irq()), (b'b', false));
    assert_eq!((b.get(5) & 1, b.get(0)), (0, 0));
}

#[test]
fn trigger_level_only_changes_the_reason() {
    let b = Bench::new();
    b.open();
    b.set(2, 0xc1);
    b.uart.push_input(b"x");
    assert!(b.irq());
    assert_eq!(b.get(2), 0xcc); // character timeout
    b.uart.push_input(&[b'y'; 13]);
    assert_eq!(b.get(2), 0xc4);
}

#[test]
fn receiver_comes_before_transmitter() {
    let b = Bench::new();
    b.open();
    b.set(1, 0x03);
    b.uart.push_input(b"x");
    assert_eq!(b.get(2) & 0xf, 0x4);
    b.get(0);
    assert_eq!(b.get(2) & 0xf, 0x2);
    assert_eq!(b.get(2) & 0xf, 0x1);
}

#[test]
fn input_is_bounded_and_its_sender_told_of_room() {
    let b = Bench::new();
    b.open();
    let flood = vec![b'z'; 5000];
    assert_eq!(b.uart.push_input(&flood), LINE);
    assert_eq!(b.uart.push_input(&flood), 0);
    assert_eq!(b.host.wanted.load(Ordering::Relaxed), 0);
    for _ in 0..LINE {
        assert_eq!(b.get(0), b'z');
    }
    assert_eq!(b.host.wanted.load(Ordering::Relaxed), 1);
    assert!(!b.irq());
}

#[test]
fn a_guest_that_polls_asks_twice() {
    let b = Bench::new();
    b.uart.push_input(b"abc");
    b.set(4, 0x03);
    b.set(2, 0x07);
    for byte in *b"abc" {
        while b.get(5) & 1 == 0 {}
        assert_eq!(b.get(0), byte);
    }
    assert_eq!((b.get(5) & 1, b.get(5) & 1), (0, 0));
    b.uart.push_input(b"d");
    // One look belongs to output, and what is read without a look is nothing.
    b.set(0, b'x');
    assert_eq!((b.get(5) & 1, b.get(0)), (0, 0));
    b.set(0, b'y');
    assert_eq!((b.get(5) & 1, b.get(5) & 1, b.get(0)), (0, 1, b'd'));
}

#[test]
fn input_waits_for_the_driver() {
    let b = Bench::new();
    b.uart.push_input(b"early");
    // A driver probes, empties the receiver several times, and only then opens.
    for fcr in [0x01, 0x07, 0x00] {
        b.set(2, fcr);
        assert_eq!((b.get(5) & 1, b.get(0)), (0, 0));
    }
    b.set(1, 0x0f);
    b.set(1, 0);
    for fcr in [0x01, 0x07, 0x00] {
        b.set(2, fcr);
        b.set(4, 0x0b);
        assert_eq!((b.get(5) & 1, b.get(5) & 1, b.get(0)), (0, 0, 0));
    }
    b.set(1, 1); // interrupts first, then the FIFO, as some do
    b.set(2, 0x81);
    assert!(b.irq());
    assert_eq!(b"early".map(|_| b.get(0)), *b"early");
    // So it is between two users of the port.
    b.uart.push_input(b"late");
    b.set(1, 0);
    assert_eq!((b.irq(), b.get(0)), (false, 0));
    b.set(1, 1);
    assert_eq!(b"late".map(|_| b.get(0)), *b"late");
}

#[test]
fn clearing_the_fifo_takes_what_was_received() {
    let b = Bench::new();
    b.open();
    b.uart.push_input(&[b'a'; 20]);
    b.set(2, 0x03);
    let mut left = 0;
    while b.get(5) & 1 != 0 {
        b.get(0);
        left += 1;
    }
    assert_eq!(left, 4);
    assert!(!b.irq());
}

#[test]
fn loopback() {
    let b = Bench::new();
    // The probe of a well-known driver: the four outputs come back as inputs.
    b.set(4, 0x1a);
    assert_eq!(b.get(6) & 0xf0, 0x90);
    b.uart.push_input(b"outside");
    b.set(0, 0x5a);
    assert_eq!((b.get(5) & 1, b.get(0), b.get(5) & 1), (1, 0x5a, 0));
    b.set(0, 1);
    b.set(0, 2);
    assert_eq!(b.get(5) & 3, 3); // overrun, once
    assert_eq!(b.get(5) & 3, 1);
    assert!(b.host.out.lock().is_empty());
    b.set(4, 0x03);
    assert_eq!(b.get(6) & 0xf0, 0xb0);
    assert_eq!((b.get(5) & 1, b.get(5) & 1, b.get(0)), (0, 1, b'o'));
}

#[test]
fn modem_status_changes() {
    let b = Bench::new();
    assert_eq!(b.get(6), 0xb0);
    b.set(1, 0x08);
    b.set(4, 0x10); // loopback with all outputs low: three inputs fall
    assert!(b.irq());
    assert_eq!(b.get(2), 0x00);
    assert_eq!(b.get(6), 0x0b);
    assert!(!b.irq());
    assert_eq!(b.get(6), 0x00);
    b.set(4, 0x14); // ring starts: not reported
    assert_eq!(b.get(6), 0x40);
    b.set(4, 0x10); // ring ends: reported
    assert_eq!(b.get(6), 0x04);
}

#[test]
fn registers_that_only_remember() {
    let b = Bench::new();
    b.set(7, 0xa5);
    b.set(3, 0x83);
    b.set(0, 0x12);
    b.set(1, 0x34);
    assert_eq!((b.get(7), b.get(0), b.get(1)), (0xa5, 0x12, 0x34));
    b.set(3, 0x03);
    assert_eq!((b.get(3), b.get(1)), (0x03, 0));
    b.set(1, 0xff);
    assert_eq!(b.get(1), 0x0f);
    b.set(4, 0xff);
    assert_eq!(b.get(4), 0x1f);
    b.set(5, 0);
    b.set(6, 0);
    assert_eq!(*b.host.out.lock(), b"");
}

#[test]
fn wrong_widths_and_offsets() {
    let b = Bench::new();
    for width in [AccessWidth::Word, AccessWidth::Dword, AccessWidth::Qword] {
        assert_eq!(b.uart.read(0, width), Err(NoDevice));
        assert_eq!(b.uart.write(0, width, 0x41), Err(NoDevice));
    }
    assert_eq!(b.uart.read(8, AccessWidth::Byte), Err(NoDevice));
    assert_eq!(b.uart.write(8, AccessWidth::Byte, 0), Err(NoDevice));
    assert!(b.host.out.lock().is_empty());
}

#[test]
fn firmware_reads_past_the_registers() {
    let b = Bench::new();
    b.open();
    b.uart.push_input(b"q");
    assert!(b.irq());
    assert_eq!(b.uart.pop_input(), Some(b'q'));
    assert_eq!(b.uart.pop_input(), None);
    assert!(!b.irq());
}
