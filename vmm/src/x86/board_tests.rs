//! Registers at ports, without a machine around them.

use axvcpu_x86::start::Start;

use super::super::acpi::RESET_VALUE;
use super::*;
use crate::devices::Unconnected;
use crate::testing::Console;
use AccessWidth::{Byte, Dword, Qword, Word};

fn board() -> Board {
    let uart = Uart16550::new(Arc::new(Console::default()), Arc::new(Unconnected));
    Board::new(Arc::new(uart), First { start: Start::REAL, register: 0, argument: 0 })
}

const KEPT_ONLY: Option<Written> = Some(Written::Kept);

fn ends(outcome: Outcome) -> Option<Written> {
    Some(Written::Ends(outcome))
}

#[test]
fn soft_off() {
    let off = u64::from(SOFT_OFF) << 10 | 1 << 13;
    for control in [off, off | 1, off | 2] {
        let board = board();
        assert_eq!(board.write(0x604, Word, control), ends(Outcome::PowerOff));
    }
    // The type first, then with the bit that does it, as operating systems do; and as two bytes.
    let board = board();
    assert_eq!(board.write(0x604, Word, u64::from(SOFT_OFF) << 10 | 1), KEPT_ONLY);
    assert_eq!(board.read(0x604, Word), Some(5 << 10 | 1));
    assert_eq!(board.write(0x604, Byte, 0), KEPT_ONLY);
    assert_eq!(board.write(0x605, Byte, off >> 8), ends(Outcome::PowerOff));
    // As part of an access to more.
    assert_eq!(board.write(0x602, Dword, off << 16), ends(Outcome::PowerOff));
    // Other types of sleep do not exist.
    for kind in [0, 1, 3, 4, 6, 7] {
        assert_eq!(board.write(0x604, Word, kind << 10 | 1 << 13), KEPT_ONLY);
        assert_eq!(board.read(0x604, Word), Some(kind << 10 | 1), "SLP_EN reads as zero");
    }
}

#[test]
fn events_that_never_come() {
    let board = board();
    assert_eq!(board.read(0x604, Word), Some(1), "SCI_EN");
    assert_eq!(board.read(0x600, Dword), Some(0));
    assert_eq!(board.write(0x600, Word, 0xffff), KEPT_ONLY);
    assert_eq!(board.read(0x600, Word), Some(0));
    assert_eq!(board.write(0x602, Word, 0xffff), KEPT_ONLY);
    assert_eq!((board.read(0x602, Word), board.read(0x603, Byte)), (Some(0x4721), Some(0x47)));
    assert_eq!(board.write(0x602, Word, 1 << 5), KEPT_ONLY);
    assert_eq!(board.read(0x600, Dword), Some(1 << 21));
    assert_eq!(board.write(0x604, Word, 0xffff & !(1 << 13)), KEPT_ONLY);
    assert_eq!(board.read(0x604, Word), Some(7 << 10 | 3));
    // Behind the registers nothing answers, and before them, and at odd places what is there.
    assert_eq!(board.read(0x604, Dword), Some(0xffff_1c03));
    assert_eq!(board.read(0x601, Word), Some(0x2000));
    assert_eq!((board.read(0x606, Word), board.read(0x5ff, Word)), (None, None));
    assert_eq!((board.write(0x606, Word, 0), board.write(0x5ff, Word, 0)), (None, None));
    // No port access is of eight bytes. If one were, it would still do no harm.
    assert_eq!(board.write(0x604, Qword, u64::MAX), KEPT_ONLY);
}

#[test]
fn resets() {
    let board = board();
    assert_eq!(board.read(0xcf9, Byte), Some(0));
    assert_eq!(board.write(0xcf9, Byte, 2), KEPT_ONLY);
    assert_eq!(board.read(0xcf9, Byte), Some(2));
    let cold = ends(Outcome::Reboot { warm: false });
    for value in [RESET_VALUE, 6, 0xe, 0xff] {
        assert_eq!(board.write(0xcf9, Byte, value.into()), cold);
    }
    assert_eq!(board.write(0xcf9, Byte, 4), ends(Outcome::Reboot { warm: true }));
    // The address register of PCI is at the ports around it, for accesses of four bytes.
    for (port, width) in [(0xcf8, Dword), (0xcf8, Byte), (0xcf9, Word), (0xcfa, Byte)] {
        assert_eq!((board.read(port, width), board.write(port, width, 0x0600)), (None, None));
    }
    for command in [0xf0, 0xfe, 0xf2] {
        assert_eq!(board.write(0x64, Byte, command), cold);
    }
    for command in [0xff, 0xf1, 0xaa, 0xd1, 0xe0, 0] {
        assert_eq!(board.write(0x64, Byte, command), KEPT_ONLY);
    }
    assert_eq!(board.read(0x64, Byte), Some(0));
}

#[test]
fn ports_that_do_nothing() {
    let board = board();
    assert_eq!((board.write(0x80, Byte, 0x55), board.read(0x80, Byte)), (KEPT_ONLY, Some(0xff)));
    for port in [0, 0x60, 0x61, 0x70, 0x71, 0x81, 0x5fc, 0x606, 0xcfc, 0xffff] {
        assert_eq!((board.read(port, Byte), board.write(port, Byte, 0xff)), (None, None));
    }
    assert_eq!(board.read(0xffff, Dword), None);
}
