//! Execution: blocks of decoded instructions, run slice by slice.

mod alu;
mod atomic;
mod branch;
mod cache;
mod decode;
mod decode_fp;
mod float;
mod fuse;
mod memory;
mod op;
mod rvc;
mod system;

use axvcpu::AxVCpuExitReason;

use crate::hart::Hart;
use crate::mmu::Fault;
use crate::ram::{HostAddr, Width};
use op::{Exits, Stop};

pub(crate) use cache::{BlockCache, Draft};
pub(crate) use op::{Cursor, R, REGS};

/// Instructions in a slice, about: a slice ends with the block that uses it up. Between slices the hart looks
/// at the clock and at what other threads want. It is also the bound on the handlers' stack, see
/// [`op`](self::op).
pub(crate) const SLICE: i64 = 1024;

/// Goes on with the op behind this one.
#[inline(always)]
fn step(h: &mut Hart, c: Cursor, pc: u64, left: i64) -> Stop {
    let next = c.next();
    (next.op().run)(h, next, pc, left)
}

/// Ends the block: goes on at `pc`, in the same page as a rule, where `TAKEN` says which of the block's links
/// leads. `from` is the block, `left` no longer counts its instructions.
#[inline(always)]
fn goto<const TAKEN: bool>(h: &mut Hart, c: Cursor, from: u64, pc: u64, left: i64) -> Stop {
    let exits = c.exits();
    let link = if TAKEN { &exits.taken } else { &exits.fall };
    match link.target(h.epoch) {
        Some(target) if left > 0 => (target.op().run)(h, target, pc, left),
        _ => {
            h.patch = Some((c, from, TAKEN));
            leave(h, pc, left, Stop::Link)
        }
    }
}

/// Ends the block: goes on at `pc`, anywhere.
#[inline(always)]
fn jump(h: &mut Hart, pc: u64, left: i64) -> Stop {
    match h.fetch.jump(pc, h.user) {
        Some(target) if left > 0 => (target.op().run)(h, target, pc, left),
        _ => leave(h, pc, left, Stop::Next),
    }
}

/// Returns to [`run_slice`], which goes on at `pc`.
#[inline(always)]
fn leave(h: &mut Hart, pc: u64, left: i64, stop: Stop) -> Stop {
    h.pc = pc;
    h.left = left;
    stop
}

/// Stops before the op at `c`, which does not complete: sets `pc` and `left` to say that everything before it
/// has been executed.
fn stop_at(h: &mut Hart, c: Cursor, pc: u64, left: i64) {
    let mut executed = 0;
    let mut op = c;
    while let Some(previous) = op.previous() {
        op = previous;
        executed += 1;
    }
    h.pc = pc + 2 * u64::from(c.op().at);
    h.left = left - executed;
}

/// The op at `c` is illegal here and now.
#[cold]
fn illegal(h: &mut Hart, c: Cursor, pc: u64, left: i64) -> Stop {
    stop_at(h, c, pc, left);
    // It was fetched before; if that is no longer possible, `stval` may be zero.
    let bits = h.instruction_at(h.pc).unwrap_or(0);
    h.trap(axvcpu_riscv::csr::cause::ILLEGAL, bits.into());
    Stop::Next
}

/// Runs until the slice is used up or something has to leave the guest.
pub(crate) fn run_slice(h: &mut Hart) -> Option<AxVCpuExitReason> {
    while h.left > 0 {
        if h.attention {
            h.patch = None;
            h.take_interrupt();
        }
        let target = match h.fetch.jump(h.pc, h.user) {
            Some(target) => target,
            None => match find_block(h) {
                Ok(target) => target,
                Err((fault, va)) => {
                    h.patch = None;
                    if h.fetch_failed(fault, va) {
                        return h.exit.take();
                    }
                    continue;
                }
            },
        };
        if let Some((op, from, taken)) = h.patch.take() {
            link(op.exits(), h.epoch, from, taken, h.pc, target);
        }
        let stop = (target.op().run)(h, target, h.pc, h.left);
        if stop == Stop::Exit {
            return h.exit.take();
        }
    }
    None
}

/// Remembers that the block at `from` leads to `target` at `pc`. Only within a page: another page's translation
/// may change without a word to this block.
fn link(exits: &Exits, epoch: u64, from: u64, taken: bool, pc: u64, target: Cursor) {
    let may_straddle = |va: u64| va & 0xfff == 0xffe;
    if (from ^ pc) >> 12 == 0 && !may_straddle(from) && !may_straddle(pc) {
        (if taken { &exits.taken } else { &exits.fall }).set(epoch, target);
    }
}

/// The block at `h.pc`, decoded if it has to be.
#[cold]
fn find_block(h: &mut Hart) -> Result<Cursor, (Fault, u64)> {
    let pc = h.pc;
    let at = h.locate_fetch(pc).map_err(|fault| (fault, pc))?;
    if pc & 0xfff == 0xffe && u16::load(at) & 3 == 3 {
        return find_straddler(h, pc);
    }
    let block = match h.blocks.find(at, h.epoch) {
        Some(block) => block,
        None => match decode_block(h, at) {
            Some(block) => block,
            // Another vCPU has made it a straddler since it was looked at.
            None => return find_straddler(h, pc),
        },
    };
    h.fetch.insert_jump(pc, h.user, block);
    Ok(block)
}

/// `None` when not even the first instruction is in the page as a whole: a block without instructions would
/// use up nothing of the slice.
fn decode_block(h: &mut Hart, at: HostAddr) -> Option<Cursor> {
    make_room(h);
    let mut draft = Draft::new();
    decode::block(at, &mut draft);
    (draft.count != 0).then(|| h.blocks.insert(at, h.epoch, &draft))
}

fn make_room(h: &mut Hart) {
    if h.blocks.is_full() {
        h.flush_instructions();
        h.patch = None;
        h.blocks.clear();
    }
}

/// The block of an instruction whose second half is in the next page. It is looked up anew each time, because
/// either page's translation may change.
fn find_straddler(h: &mut Hart, pc: u64) -> Result<Cursor, (Fault, u64)> {
    let bits = h.instruction_at(pc)?;
    if let Some(block) = h.blocks.find_straddler(bits) {
        return Ok(block);
    }
    // Its place may be another one's, whose cursor a patch could hold.
    h.patch = None;
    let mut draft = Draft::new();
    decode::straddler(bits, &mut draft);
    Ok(h.blocks.insert_straddler(bits, &draft))
}
