//! Loads and stores.

use core::marker::PhantomData;

use axvcpu::AccessWidth;

use super::op::{Cursor, Op, Plain, Stop};
use super::{illegal, step, stop_at};
use crate::fp::{self, F32};
use crate::hart::{Attempt, Dest, DeviceAccess, Hart};
use crate::mmu::{Access, Fault};
use crate::ram::Width;

/// The value as a register holds it.
#[inline(always)]
fn extend<W: Width, const SIGNED: bool>(value: u64) -> u64 {
    if SIGNED {
        let unused = 64 - 8 * W::BYTES as u32;
        ((value << unused) as i64 >> unused) as u64
    } else {
        value
    }
}

/// Loads into an integer register.
pub(super) struct Load<W, const SIGNED: bool>(PhantomData<W>);

impl<W: Width, const SIGNED: bool> Plain for Load<W, SIGNED> {
    #[inline(always)]
    fn perform(h: &mut Hart, op: &Op, _pc: u64) -> bool {
        let va = h.get(op.rs1).wrapping_add(op.imm as i64 as u64);
        let Some(addr) = h.data.read::<W>(va) else { return false };
        let value = W::load(addr).into();
        h.set(op.rd, extend::<W, SIGNED>(value));
        true
    }

    #[cold]
    #[inline(never)]
    fn execute_slowly(h: &mut Hart, c: Cursor, pc: u64, left: i64) -> Stop {
        let op = c.op();
        let va = h.get(op.rs1).wrapping_add(op.imm as i64 as u64);
        match h.load_slowly::<W>(va) {
            Ok(value) => {
                h.set(op.rd, extend::<W, SIGNED>(value));
                step(h, c, pc, left)
            }
            Err(fault) => {
                let dest = Dest::Int { register: op.rd, signed: SIGNED };
                load_failed::<W>(h, (c, pc, left), va, fault, dest)
            }
        }
    }
}

/// Stores from an integer register.
pub(super) struct Store<W>(PhantomData<W>);

impl<W: Width> Plain for Store<W> {
    #[inline(always)]
    fn perform(h: &mut Hart, op: &Op, _pc: u64) -> bool {
        let va = h.get(op.rs1).wrapping_add(op.imm as i64 as u64);
        let Some(addr) = h.data.write::<W>(va) else { return false };
        W::store(addr, W::cut(h.get(op.rs2)));
        true
    }

    #[cold]
    #[inline(never)]
    fn execute_slowly(h: &mut Hart, c: Cursor, pc: u64, left: i64) -> Stop {
        let op = c.op();
        let va = h.get(op.rs1).wrapping_add(op.imm as i64 as u64);
        store_value::<W>(h, (c, pc, left), va, h.get(op.rs2))
    }
}

/// Loads into a floating-point register: `flw`, `fld`.
pub(super) fn load_float<W: Width>(h: &mut Hart, c: Cursor, pc: u64, left: i64) -> Stop {
    let op = c.op();
    let va = h.get(op.rs1).wrapping_add(op.imm as i64 as u64);
    match h.data.read::<W>(va) {
        Some(addr) if h.csr.fp_on() => {
            let value = W::load(addr).into();
            h.setf(op.rd, boxed::<W>(value));
            step(h, c, pc, left)
        }
        _ => load_float_slowly::<W>(h, c, pc, left),
    }
}

#[cold]
fn load_float_slowly<W: Width>(h: &mut Hart, c: Cursor, pc: u64, left: i64) -> Stop {
    if !h.csr.fp_on() {
        return illegal(h, c, pc, left);
    }
    let op = c.op();
    let va = h.get(op.rs1).wrapping_add(op.imm as i64 as u64);
    match h.load_slowly::<W>(va) {
        Ok(value) => {
            h.setf(op.rd, boxed::<W>(value));
            step(h, c, pc, left)
        }
        Err(fault) => {
            load_failed::<W>(h, (c, pc, left), va, fault, Dest::Float { register: op.rd })
        }
    }
}

/// The value as a floating-point register holds it.
#[inline(always)]
fn boxed<W: Width>(value: u64) -> u64 {
    if W::BYTES == 4 { fp::nan_box::<F32>(value as u32) } else { value }
}

/// Stores from a floating-point register: `fsw` stores the low half whatever is in the high one.
pub(super) fn store_float<W: Width>(h: &mut Hart, c: Cursor, pc: u64, left: i64) -> Stop {
    let op = c.op();
    let va = h.get(op.rs1).wrapping_add(op.imm as i64 as u64);
    match h.data.write::<W>(va) {
        Some(addr) if h.csr.fp_on() => {
            W::store(addr, W::cut(h.getf(op.rs2)));
            step(h, c, pc, left)
        }
        _ => store_float_slowly::<W>(h, c, pc, left),
    }
}

#[cold]
fn store_float_slowly<W: Width>(h: &mut Hart, c: Cursor, pc: u64, left: i64) -> Stop {
    if !h.csr.fp_on() {
        return illegal(h, c, pc, left);
    }
    let op = c.op();
    let va = h.get(op.rs1).wrapping_add(op.imm as i64 as u64);
    store_value::<W>(h, (c, pc, left), va, h.getf(op.rs2))
}

/// Where execution is: the op, the start of its block, and what was left of the slice then.
type Place = (Cursor, u64, i64);

fn store_value<W: Width>(h: &mut Hart, place: Place, va: u64, value: u64) -> Stop {
    match h.store_slowly::<W>(va, value) {
        Ok(()) => step(h, place.0, place.1, place.2),
        Err(fault) => {
            failed(h, place, va, fault, Access::Store, width::<W>(DeviceAccess::Store(value)))
        }
    }
}

fn load_failed<W: Width>(
    h: &mut Hart,
    place: Place,
    va: u64,
    fault: (Fault, u64),
    dest: Dest,
) -> Stop {
    failed(h, place, va, fault, Access::Load, width::<W>(DeviceAccess::Load(dest)))
}

fn width<W: Width>(device: DeviceAccess) -> Option<(AccessWidth, DeviceAccess)> {
    AccessWidth::from_bytes(W::BYTES as usize).map(|width| (width, device))
}

/// The access at `place` has no translation: a trap in the guest, or an exit.
#[cold]
pub(super) fn failed(
    h: &mut Hart,
    (c, pc, left): Place,
    va: u64,
    (fault, fault_va): (Fault, u64),
    access: Access,
    device: Option<(AccessWidth, DeviceAccess)>,
) -> Stop {
    stop_at(h, c, pc, left);
    // Memory accesses never end a block, so the next op says where the next instruction is.
    let next = pc.wrapping_add(2 * u64::from(c.next().op().at));
    let attempt = Attempt { pc: h.pc, next, va, access, device };
    if h.access_failed(attempt, fault, fault_va) { Stop::Exit } else { Stop::Next }
}
