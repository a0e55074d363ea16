//! Atomics: `lr`, `sc` and the AMOs. Unprivileged ISA, chapter "A".
//!
//! They are the host's own atomics, sequentially consistent whatever `aq` and `rl` say, so they are atomic
//! against the other vCPUs' threads. `sc` succeeds if memory still holds what `lr` read there. That is weaker
//! than a reservation in one way: a value that changed and changed back in between goes unnoticed.

use super::memory::failed;
use super::op::{Cursor, Stop};
use super::step;
use crate::hart::{Hart, Reservation};
use crate::mmu::Access;
use crate::ram::AtomicWidth;

/// What an AMO does, as a number: const parameters cannot be enums.
pub(super) mod amo {
    pub(in super::super) const SWAP: u8 = 0;
    pub(in super::super) const ADD: u8 = 1;
    pub(in super::super) const XOR: u8 = 2;
    pub(in super::super) const AND: u8 = 3;
    pub(in super::super) const OR: u8 = 4;
    pub(in super::super) const MIN: u8 = 5;
    pub(in super::super) const MAX: u8 = 6;
    pub(in super::super) const MINU: u8 = 7;
    pub(in super::super) const MAXU: u8 = 8;
}

/// The value as a register holds it: words are sign-extended.
fn extend<W: AtomicWidth>(value: W) -> u64 {
    let value: u64 = value.into();
    if W::BYTES == 4 { value as i32 as i64 as u64 } else { value }
}

/// An AMO.
pub(super) fn update<W: AtomicWidth, const WHAT: u8>(
    h: &mut Hart,
    c: Cursor,
    pc: u64,
    left: i64,
) -> Stop {
    let op = c.op();
    let va = h.get(op.rs1);
    let addr = match h.locate_atomic::<W>(va, Access::Store) {
        Ok(addr) => addr,
        Err(fault) => return failed(h, (c, pc, left), va, fault, Access::Store, None),
    };
    let b = extend(W::cut(h.get(op.rs2)));
    let old = W::update(addr, |old| {
        // Both sign-extended, words compare as they should, signed and unsigned.
        let a = extend(old);
        W::cut(match WHAT {
            amo::SWAP => b,
            amo::ADD => a.wrapping_add(b),
            amo::XOR => a ^ b,
            amo::AND => a & b,
            amo::OR => a | b,
            amo::MIN => (a as i64).min(b as i64) as u64,
            amo::MAX => (a as i64).max(b as i64) as u64,
            amo::MINU => a.min(b),
            _ => a.max(b),
        })
    });
    h.set(op.rd, extend(old));
    step(h, c, pc, left)
}

/// `lr`.
pub(super) fn load_reserved<W: AtomicWidth>(h: &mut Hart, c: Cursor, pc: u64, left: i64) -> Stop {
    let op = c.op();
    let va = h.get(op.rs1);
    let addr = match h.locate_atomic::<W>(va, Access::Load) {
        Ok(addr) => addr,
        Err(fault) => return failed(h, (c, pc, left), va, fault, Access::Load, None),
    };
    let old = W::load(addr);
    // An acquire that later loads of this thread cannot pass.
    core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
    h.reservation = Some(Reservation { addr, bytes: W::BYTES, value: old.into() });
    h.set(op.rd, extend(old));
    step(h, c, pc, left)
}

/// `sc`. It uses up the reservation, whether it succeeds or not; a fault leaves it.
pub(super) fn store_conditional<W: AtomicWidth>(
    h: &mut Hart,
    c: Cursor,
    pc: u64,
    left: i64,
) -> Stop {
    let op = c.op();
    let va = h.get(op.rs1);
    let addr = match h.locate_atomic::<W>(va, Access::Store) {
        Ok(addr) => addr,
        Err(fault) => return failed(h, (c, pc, left), va, fault, Access::Store, None),
    };
    let done = match h.reservation.take() {
        Some(seen) if seen.addr == addr && seen.bytes == W::BYTES => {
            W::replace(addr, W::cut(seen.value), W::cut(h.get(op.rs2)))
        }
        _ => false,
    };
    h.set(op.rd, u64::from(!done));
    step(h, c, pc, left)
}
