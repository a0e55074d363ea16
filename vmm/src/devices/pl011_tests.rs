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
    uart: Pl011,
}

const RX: u16 = int::RX;
const TX: u16 = int::TX;
const RT: u16 = int::RX_TIMEOUT;

impl Bench {
    fn new() -> Self {
        let host = Arc::new(Host::default());
        Self { uart: Pl011::new(host.clone(), host.clone()), host }
    }

    fn get(&self, reg: u64) -> u16 {
        self.uart.read(reg, AccessWidth::Dword).unwrap() as u16
    }

    fn set(&self, reg: u64, value: u16) {
        self.uart.write(reg, AccessWidth::Dword, value.into()).unwrap();
    }

    fn irq(&self) -> bool {
        self.host.irq.load(Ordering::Relaxed)
    }

    fn empty(&self) -> bool {
        self.get(reg::FR) & fr::RX_EMPTY != 0
    }

    /// What a driver does when it opens the port.
    fn open(&self) {
        self.set(reg::LCR_H, 0x70);
        self.set(reg::CR, 0x301);
        self.set(reg::IMSC, RX | RT);
    }
}

#[test]
fn output_goes_to_the_sink_at_once() {
    let b = Bench::new();
    for byte in *b"hello" {
        assert_eq!(b.get(reg::FR), fr::CONNECTED | fr::RX_EMPTY | fr::TX_EMPTY);
        b.set(reg::DR, byte.into());
    }
    assert_eq!(*b.host.out.lock(), b"hello");
    b.uart.write(reg::DR, AccessWidth::Byte, 0x21).unwrap();
    b.uart.write(reg::DR, AccessWidth::Word, 0x3f).unwrap();
    assert_eq!(*b.host.out.lock(), b"hello!?");
}

#[test]
fn transmitter_interrupt() {
    let b = Bench::new();
    b.open();
    b.set(reg::IMSC, TX);
    assert!(!b.irq()); // a transition, not a level
    b.set(reg::DR, b'x'.into());
    assert_eq!((b.irq(), b.get(reg::RIS), b.get(reg::MIS)), (true, TX, TX));
    b.set(reg::ICR, TX);
    assert_eq!((b.irq(), b.get(reg::RIS)), (false, 0));
    b.set(reg::IMSC, 0);
    b.set(reg::DR, b'y'.into());
    assert_eq!((b.irq(), b.get(reg::RIS), b.get(reg::MIS)), (false, TX, 0));
    b.set(reg::IMSC, TX); // has happened: asserted when it is unmasked
    assert!(b.irq());
    b.set(reg::IMSC, 0);
    assert!(!b.irq());
}

#[test]
fn receiver_interrupts_and_data() {
    let b = Bench::new();
    b.open();
    assert!(!b.irq() && b.empty());
    assert_eq!(b.uart.push_input(b"ab"), 2);
    assert_eq!((b.irq(), b.get(reg::MIS), b.empty()), (true, RT, false));
    assert_eq!((b.get(reg::DR), b.irq()), (b'a'.into(), true));
    assert_eq!((b.get(reg::DR), b.irq()), (b'b'.into(), false));
    assert_eq!((b.empty(), b.get(reg::DR)), (true, 0));
}

#[test]
fn levels() {
    let b = Bench::new();
    b.open();
    b.uart.push_input(&[b'x'; 100]);
    for (level, trigger) in [(0, 4), (1, 8), (2, 16), (3, 24), (4, 28), (7, 28)] {
        b.set(reg::IFLS, level << 3);
        assert_eq!(b.get(reg::MIS), RX | RT);
        assert_eq!(b.uart.state.lock().trigger(), trigger);
    }
    assert_ne!(b.get(reg::FR) & fr::RX_FULL, 0);
    (0..73).for_each(|_| assert_eq!(b.get(reg::DR), b'x'.into()));
    assert_eq!((b.get(reg::MIS), b.get(reg::FR) & fr::RX_FULL), (RT, 0)); // 27 are left
    // Without its FIFO the receiver has one byte, and that is enough.
    b.set(reg::LCR_H, 0x60);
    assert_eq!(b.get(reg::MIS), RX | RT);
    assert_ne!(b.get(reg::FR) & fr::RX_FULL, 0);
    b.set(reg::ICR, int::ALL);
    assert!(b.irq()); // still there
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
        assert_eq!(b.get(reg::DR), b'z'.into());
    }
    assert_eq!(b.host.wanted.load(Ordering::Relaxed), 1);
    assert!(!b.irq());
}

#[test]
fn a_guest_that_polls_asks_twice() {
    let b = Bench::new();
    b.uart.push_input(b"abc");
    b.set(reg::CR, 0x301);
    for byte in *b"abc" {
        while b.empty() {}
        assert_eq!(b.get(reg::DR), byte.into());
    }
    assert!(b.empty() && b.empty());
    b.uart.push_input(b"d");
    // One look belongs to output, and what is read without a look is nothing.
    b.set(reg::DR, b'x'.into());
    assert_eq!((b.empty(), b.get(reg::DR)), (true, 0));
    b.set(reg::DR, b'y'.into());
    assert_eq!((b.empty(), b.empty(), b.get(reg::DR)), (true, false, b'd'.into()));
    // With the receiver off there is nothing to wait for.
    b.uart.push_input(b"e");
    b.set(reg::CR, 0x101);
    assert!(b.empty() && b.empty());
    b.set(reg::CR, 0x301);
    assert!(b.empty() && !b.empty());
}

/// The order in which the driver of Linux goes about it: unmask, switch on, clear, empty, unmask.
#[test]
fn input_waits_for_the_driver() {
    let b = Bench::new();
    b.uart.push_input(b"early");
    b.set(reg::IMSC, 0);
    b.set(reg::ICR, 0xffff);
    for _ in 0..2 {
        b.set(reg::IMSC, RX | RT);
        // Output meanwhile, which switches the port on for as long as it takes.
        b.set(reg::CR, 0x301);
        b.set(reg::DR, b'.'.into());
        b.set(reg::CR, 0x300);
        b.set(reg::CR, 0x301);
        b.get(reg::FR);
        assert!(!b.irq());
        b.set(reg::ICR, RX | RT);
        assert!(b.empty());
        assert_eq!(b.get(reg::DR), 0);
        b.set(reg::IMSC, RX | RT);
        assert!(b.irq());
        // Closed again: another opening finds it all.
        b.set(reg::IMSC, 0);
        assert!(!b.irq() && b.empty());
        b.set(reg::CR, 0x101);
    }
    b.open();
    assert_eq!(b"early".map(|_| b.get(reg::DR)), b"early".map(u16::from));
    // Interrupts masked: it waits.
    b.uart.push_input(b"late");
    b.set(reg::IMSC, TX);
    assert_eq!((b.empty(), b.get(reg::DR)), (true, 0));
    b.set(reg::IMSC, RX);
    assert_eq!(b"late".map(|_| b.get(reg::DR)), b"late".map(u16::from));
}

#[test]
fn a_receiver_that_is_switched_on_last() {
    let b = Bench::new();
    b.uart.push_input(b"1");
    b.set(reg::IMSC, RX | RT);
    b.set(reg::CR, 0x301);
    assert!(!b.irq());
    b.uart.push_input(b"2");
    assert!(b.irq());
    assert_eq!((b.get(reg::DR), b.get(reg::DR)), (b'1'.into(), b'2'.into()));
}

#[test]
fn loopback() {
    let b = Bench::new();
    b.open();
    b.set(reg::CR, 0x381);
    b.set(reg::ICR, int::ALL);
    b.uart.push_input(b"outside");
    for byte in 0..=FIFO as u16 {
        b.set(reg::DR, byte);
    }
    assert_eq!(b.get(reg::RIS), int::OVERRUN | RX | RT | TX);
    assert_eq!((b.get(reg::RSR_ECR), b.get(reg::DR), b.get(reg::DR)), (8, 0x800, 1));
    b.set(reg::RSR_ECR, 0);
    b.set(reg::ICR, int::OVERRUN);
    assert_eq!((b.get(reg::RSR_ECR), b.get(reg::RIS)), (0, RX | RT | TX));
    assert!(b.host.out.lock().is_empty());
    b.set(reg::CR, 0x301);
    assert_eq!(b.get(reg::DR), b'o'.into());
}

#[test]
fn modem_status_changes() {
    let b = Bench::new();
    let modem = |b: &Bench| b.get(reg::FR) & (fr::CONNECTED | fr::RI);
    b.set(reg::IMSC, 0xf);
    assert_eq!((modem(&b), b.irq()), (fr::CONNECTED, false));
    b.set(reg::CR, 0x381); // loopback with all outputs low: three inputs fall
    assert_eq!((modem(&b), b.get(reg::MIS), b.irq()), (0, 0b1110, true));
    b.set(reg::ICR, 0b1110);
    assert!(!b.irq());
    b.set(reg::CR, 0x381 | cr::OUT2 | cr::RTS);
    assert_eq!((modem(&b), b.get(reg::MIS)), (fr::RI | fr::CTS, 0b11));
}

#[test]
fn identification_and_registers_that_only_remember() {
    let b = Bench::new();
    let id =
        |first: u64| (0..4).fold(0u32, |id, i| id | u32::from(b.get(first + 4 * i)) << (8 * i));
    assert_eq!((id(0xfe0) & 0xf_ffff, id(0xff0)), (0x4_1011, 0xb105_f00d));
    for (reg, reset, kept) in [
        (reg::ILPR, 0, 0xff),
        (reg::IBRD, 0, 0xffff),
        (reg::FBRD, 0, 0x3f),
        (reg::LCR_H, 0, 0xff),
        (reg::CR, 0x300, 0xff87),
        (reg::IFLS, 0x12, 0x3f),
        (reg::IMSC, 0, 0x7ff),
        (reg::DMACR, 0, 7),
    ] {
        assert_eq!(b.get(reg), reset, "{reg:#x}");
        b.set(reg, 0xffff);
        assert_eq!(b.get(reg), kept, "{reg:#x}");
    }
    for read_only in [reg::FR, reg::RIS, reg::MIS, 0xfe0, 0xffc] {
        let before = b.get(read_only);
        b.set(read_only, !before);
        assert_eq!(b.get(read_only), before);
    }
    assert_eq!(b.get(reg::ICR), 0);
}

#[test]
fn wrong_widths_and_offsets() {
    let b = Bench::new();
    assert_eq!(b.uart.read(0, AccessWidth::Qword), Err(NoDevice));
    assert_eq!(b.uart.write(0, AccessWidth::Qword, 0x41), Err(NoDevice));
    for offset in [0x08, 0x1c, 0x4c, 0x80, 0xfdc, 0x1000] {
        assert_eq!(b.uart.read(offset, AccessWidth::Dword), Err(NoDevice), "{offset:#x}");
        assert_eq!(b.uart.write(offset, AccessWidth::Dword, 0), Err(NoDevice), "{offset:#x}");
    }
    assert_eq!(b.uart.read(2, AccessWidth::Word), Err(NoDevice));
    assert_eq!(b.uart.read(1, AccessWidth::Byte), Err(NoDevice));
    assert!(b.host.out.lock().is_empty());
}
