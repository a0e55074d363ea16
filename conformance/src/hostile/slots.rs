//! Many instructions in a row, each of which is executed, whatever those before it did.

use alloc::vec::Vec;

use axvcpu::Fence;
use axvcpu_stage2::PAGE_SIZE;

use super::sandbox::{KICKS, WINDOW_PAGES};
use super::{Hostile, Mode, Sandbox};
use crate::bench::Exit;
use crate::random::Random;
use crate::report::{Verdict, ensure};
use crate::subject::Subject;

/// Exits after which an instruction has had its chance.
const ENOUGH: usize = 40;

/// The instructions to try.
pub(crate) struct Slots<'a> {
    /// How many.
    pub(crate) count: usize,
    /// The bytes of one; at most as many as a slot has.
    pub(crate) write: &'a mut dyn FnMut(usize, &mut Random) -> Vec<u8>,
    /// What a register is to be when it is executed.
    pub(crate) register: &'a mut dyn FnMut(usize, usize, &mut Random) -> u64,
    /// Looks at an exit while it is executed.
    pub(crate) exit: &'a mut dyn FnMut(usize, &Exit) -> Verdict,
}

/// Has the guest execute every one of them in a mode. Behind each are instructions that trap, and each trap leads to the next
/// one; a guest that does not come to one is started over behind where it was lost.
pub(crate) fn slots<S: Subject, I: Hostile<S>>(
    sandbox: &Sandbox<'_, S, I>,
    mode: &Mode,
    random: &mut Random,
    slots: &mut Slots<'_>,
) -> Verdict {
    // The first place in the window is a trap, which tells that the guest has arrived.
    let room = (WINDOW_PAGES * PAGE_SIZE) as usize / I::SLOT - 1;
    let mut first = 0;
    while first < slots.count {
        let count = room.min(slots.count - first);
        let mut bytes = Vec::new();
        sandbox.clear_window()?;
        for index in 0..count {
            let code = (slots.write)(first + index, random);
            ensure!(code.len() <= I::SLOT, "the suite's own instruction has {} bytes", code.len());
            sandbox.bench.space.fill(I::WINDOW + ((index + 1) * I::SLOT) as u64, &code)?;
            bytes.push(code);
        }
        sandbox.vcpu().request_fence(Fence::INSTRUCTION);
        let mut next = 0;
        while next < count {
            sandbox.start_in(mode)?;
            batch(sandbox, mode, random, slots, first, &bytes, &mut next)?;
        }
        first += count;
    }
    Ok(())
}

/// Goes from one to the next until all have been executed, or the guest is lost.
fn batch<S: Subject, I: Hostile<S>>(
    sandbox: &Sandbox<'_, S, I>,
    mode: &Mode,
    random: &mut Random,
    slots: &mut Slots<'_>,
    first: usize,
    bytes: &[Vec<u8>],
    next: &mut usize,
) -> Verdict {
    let (hart, vcpu) = (sandbox.bench.hart(), sandbox.vcpu());
    'slot: while *next < bytes.len() {
        let (slot, offset) = (first + *next, ((*next + 1) * I::SLOT) as u64);
        restore::<S, I>(sandbox, offset, &bytes[*next])?;
        I::set_registers(hart, &sandbox.bench.space, |register| {
            (slots.register)(slot, register, random)
        })?;
        I::go_on_at(hart, mode.window + offset)?;
        *next += 1;
        let mut kicks = 0;
        for _ in 0..ENOUGH {
            let exit = vcpu.run()?;
            (slots.exit)(slot, &exit)?;
            kicks += usize::from(exit == Exit::Nothing);
            if kicks == KICKS {
                return Ok(());
            }
            match hart.trap_of(exit)? {
                Some(trap) if I::is_user(&trap) == mode.user => continue 'slot,
                Some(_) => return Ok(()),
                None if !sandbox.shrug(exit, random)? => return Ok(()),
                None => {}
            }
        }
        return Ok(());
    }
    Ok(())
}

/// Writes a slot anew if the guest has written over it.
fn restore<S: Subject, I: Hostile<S>>(
    sandbox: &Sandbox<'_, S, I>,
    offset: u64,
    code: &[u8],
) -> Verdict {
    let mut expected = I::TRAPS.to_le_bytes().repeat(I::SLOT / 8);
    expected[..code.len()].copy_from_slice(code);
    let mut found = Vec::with_capacity(I::SLOT);
    for at in (offset..offset + I::SLOT as u64).step_by(8) {
        found.extend(sandbox.bench.space.read(I::WINDOW + at)?.to_le_bytes());
    }
    if found != expected {
        sandbox.bench.space.fill(I::WINDOW + offset, &expected)?;
        sandbox.vcpu().request_fence(Fence::INSTRUCTION);
    }
    Ok(())
}
