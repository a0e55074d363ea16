//! Every class of instructions, and every CSR.

use alloc::vec::Vec;

use super::super::Subject;
use super::super::bench::Riscv;
use super::super::guest::*;
use crate::bench::Exit;
use crate::hostile::{Hostile, Mode, Pressure, Sandbox, Slots, attack, slots};
use crate::random::Random;
use crate::report::Verdict;

/// Executes `count` instructions in each of these modes, with operands of all kinds.
fn everywhere<S: Subject>(
    subject: &S,
    number: u64,
    modes: &[Mode],
    count: usize,
    code: impl Fn(usize, &mut Random) -> Vec<u8>,
) -> Verdict {
    let attempts = |sandbox: &Sandbox<'_, S, Riscv>, random: &mut Random| {
        for mode in modes {
            let mut all = Slots {
                count,
                write: &mut |index, random| code(index, random),
                register: &mut |_, _, random| sandbox.operand(random),
                exit: &mut |_, _: &Exit| Ok(()),
            };
            slots(sandbox, mode, random, &mut all)?;
        }
        Ok(())
    };
    attack(subject, number, Pressure::Kicks, Guest::go_to_target, attempts)
}

/// Major opcodes, of which each has 5 bits, with all minor ones of 3 bits and with a few of 7 bits.
pub(super) fn instructions<S: Subject>(subject: &S) -> Verdict {
    /// Those with most of the meanings, and any.
    const MINOR: [Option<u32>; 5] = [Some(0), Some(1), Some(0x20), None, None];
    everywhere(subject, 120, modes::<S>(), 32 * 8 * MINOR.len(), |index, random| {
        let (major, minor) = (index as u32 / 8 / MINOR.len() as u32, index as u32 % 8);
        let bits = random.next() as u32;
        let mut word = bits & !0x707f | major << 2 | 3 | minor << 12;
        if let Some(seven) = MINOR[index / 8 % MINOR.len()] {
            word = word & 0x01ff_ffff | seven << 25;
        }
        word.to_le_bytes().to_vec()
    })
}

/// Quadrants and their upper 3 bits, with all the rest at random, and nothing but zeroes.
pub(super) fn compressed<S: Subject>(subject: &S) -> Verdict {
    const EACH: usize = 40;
    everywhere(subject, 121, modes::<S>(), 3 * 8 * EACH, |index, random| {
        let (quadrant, upper) = (index as u16 / EACH as u16 / 8, index as u16 / EACH as u16 % 8);
        let rest = if index % EACH == 0 { 0 } else { random.next() as u16 & 0x1ffc };
        (quadrant | rest | upper << 13).to_le_bytes().to_vec()
    })
}

/// All 4096 of them: read, written with any value, and changed in one of the other ways. A guest that has written to its
/// trap vector or its page tables has mostly lost itself, and is started over.
pub(super) fn csrs<S: Subject>(subject: &S) -> Verdict {
    /// In VS-mode; a program, for which there are far fewer, tries one of them each.
    const WAYS: usize = 3;
    // Without tables of their own: those are the same instructions, and registers know nothing of tables.
    let (supervisor, user) = (&modes::<S>()[..1], &modes::<S>()[1..2]);
    let access = |index: usize, random: &mut Random| {
        let (csr, any) = ((index / WAYS) as u32, random.next() as u32);
        let (source, minor, target) = match index % WAYS {
            0 => (0, 2, any & 31),             // csrrs rd, csr, zero
            1 => (any >> 5 & 31, 1, any & 31), // csrrw rd, csr, rs
            // csrrs and csrrc zero, csr, rs, and the immediate ones
            _ => (any >> 5 & 31, [2, 3, 5, 6, 7][(any >> 10) as usize % 5], 0),
        };
        (csr << 20 | source << 15 | minor << 12 | target << 7 | 0x73).to_le_bytes().to_vec()
    };
    everywhere(subject, 122, supervisor, 4096 * WAYS, access)?;
    everywhere(subject, 123, user, 4096, |csr, random| {
        access(csr * WAYS + random.next() as usize % WAYS, random)
    })
}

fn modes<S: Subject>() -> &'static [Mode] {
    <Riscv as Hostile<S>>::MODES
}
