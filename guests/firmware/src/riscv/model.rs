//! What calls of the SBI may answer, by its specification, version 2.0, and by what the book says of the machine.

use super::{RAM, RAM_END};
use crate::table::Expect::{self, Any, Either, One};

pub(super) const BASE: u64 = 0x10;
pub(super) const TIME: u64 = 0x5449_4d45;
pub(super) const IPI: u64 = 0x0073_5049;
pub(super) const RFENCE: u64 = 0x5246_4e43;
pub(super) const DBCN: u64 = 0x4442_434e;

/// Starting and stopping harts.
pub(super) mod hsm {
    pub(crate) const EXTENSION: u64 = 0x0048_534d;
    pub(crate) const START: u64 = 0;
    pub(crate) const STOP: u64 = 1;
    pub(crate) const STATUS: u64 = 2;
    pub(crate) const SUSPEND: u64 = 3;
}

/// System reset.
pub(super) mod srst {
    pub(crate) const EXTENSION: u64 = 0x5352_5354;
}

/// The calls of version 0.1.
pub(super) mod legacy {
    pub(crate) const SET_TIMER: u64 = 0;
    pub(crate) const PUTCHAR: u64 = 1;
    pub(crate) const GETCHAR: u64 = 2;
    pub(crate) const SHUTDOWN: u64 = 8;
}

/// The extensions that the machine has, besides the legacy calls.
pub(super) const KNOWN: [u64; 7] = [BASE, TIME, IPI, RFENCE, hsm::EXTENSION, srst::EXTENSION, DBCN];

const OK: Option<Expect> = Some(One(0));
const FAILED: u64 = -1i64 as u64;
const NOT_SUPPORTED: u64 = -2i64 as u64;
const INVALID_PARAM: u64 = -3i64 as u64;
const INVALID_ADDRESS: u64 = -5i64 as u64;
const ALREADY_AVAILABLE: u64 = -6i64 as u64;
/// Of a legacy call: there is no input.
const NO_BYTE: u64 = FAILED;

/// What the harts do that do not make the calls of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Others {
    /// They are off at first, and the calls may start them.
    Off,
    /// They make calls, too.
    On,
}

/// What a call may answer; nothing if it does not return.
pub(super) fn expected(call: [u64; 8], cpus: u32, others: Others) -> Option<Expect> {
    let [extension, function, a0, a1, a2, a3, ..] = call;
    let harts = u64::from(cpus);
    let (unsupported, invalid) = (Some(One(NOT_SUPPORTED)), Some(One(INVALID_PARAM)));
    let valid = mask_is_valid(a0, a1, harts);
    match (extension, function) {
        (legacy::SET_TIMER | legacy::PUTCHAR, _) => OK,
        (legacy::GETCHAR, _) => Some(One(NO_BYTE)),
        (legacy::SHUTDOWN, _) => None,
        (BASE, 0..=6) | (TIME, 0) => OK,
        (IPI, 0) if valid => OK,
        (IPI, 0) => invalid,
        // Whose fault is told if there are two is not said.
        (RFENCE, 0) => {
            if valid {
                OK
            } else {
                invalid
            }
        }
        (RFENCE, 1 | 2) => match (valid, range_is_valid(a2, a3)) {
            (true, true) => OK,
            (true, false) => Some(One(INVALID_ADDRESS)),
            (false, true) => invalid,
            (false, false) => Some(Either(INVALID_PARAM, INVALID_ADDRESS)),
        },
        (hsm::EXTENSION, hsm::START) => {
            let entry = a1 % 2 == 0 && is_in_ram(a1, 2);
            let is_on = a0 == 0 || others == Others::On;
            Some(match (a0 < harts, entry) {
                (false, true) => One(INVALID_PARAM),
                (false, false) => Either(INVALID_PARAM, INVALID_ADDRESS),
                (true, false) => Either(INVALID_ADDRESS, ALREADY_AVAILABLE),
                (true, true) if is_on => One(ALREADY_AVAILABLE),
                (true, true) => Either(0, ALREADY_AVAILABLE),
            })
        }
        (hsm::EXTENSION, hsm::STOP) => None,
        (hsm::EXTENSION, hsm::STATUS) => {
            if a0 < harts {
                OK
            } else {
                invalid
            }
        }
        // A type is a number of 32 bits.
        (hsm::EXTENSION, hsm::SUSPEND) => match a0 as u32 {
            0 => OK,
            0x8000_0000 => unsupported,
            _ => invalid,
        },
        // So are a type of reset, and the reason.
        (srst::EXTENSION, 0) => match (a0 as u32, a1 as u32) {
            (0..=2, 0 | 1) => None,
            _ => invalid,
        },
        (DBCN, 0 | 1) => match a0 {
            0 => Some(Any), // whether no bytes may be nowhere is not said
            _ if a2 == 0 && is_in_ram(a1, a0) => OK,
            _ => invalid,
        },
        (DBCN, 2) => OK,
        _ => unsupported,
    }
}

/// Whether it is a function that prints.
pub(super) fn prints(call: [u64; 8]) -> bool {
    let [extension, function, ..] = call;
    matches!((extension, function), (legacy::PUTCHAR, _) | (DBCN, 0 | 2))
}

/// Whether it is a function whose arguments depend on each other.
pub(super) fn takes_several(extension: u64, function: u64) -> bool {
    match extension {
        TIME | IPI | srst::EXTENSION => function == 0,
        RFENCE => function <= 6,
        hsm::EXTENSION => function <= hsm::SUSPEND,
        DBCN => function <= 2,
        _ => false,
    }
}

/// Whether a hart mask selects harts that there are; which are selected by no bit does not matter.
fn mask_is_valid(mask: u64, base: u64, harts: u64) -> bool {
    let selected = (0..64).filter(|bit| mask >> bit & 1 != 0);
    base == u64::MAX
        || selected.map(|bit| base.checked_add(bit)).all(|h| h.is_some_and(|h| h < harts))
}

/// Whether a fence's range has no end beyond the last address. All of them are a start and a size of zero, or a size that
/// is the largest.
fn range_is_valid(start: u64, size: u64) -> bool {
    size == u64::MAX || start.checked_add(size).is_some()
}

fn is_in_ram(start: u64, size: u64) -> bool {
    start >= RAM && start.checked_add(size).is_some_and(|end| end <= RAM_END)
}
