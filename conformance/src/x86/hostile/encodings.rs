//! Every opcode, and bytes at random.

use alloc::vec::Vec;

use super::super::Subject;
use super::super::bench::X86;
use super::super::guest::*;
use crate::bench::Exit;
use crate::hostile::{self, Hostile, Pressure, Slots, attack, slots};
use crate::random::Random;
use crate::report::Verdict;

/// Every opcode behind each of these bytes, with prefixes and operands at random, in the supervisor and in a program.
pub(super) fn opcodes<S: Subject>(subject: &S, number: u64, before: &[&[u8]]) -> Verdict {
    const TRIES: usize = 2;
    attack::<S, X86>(subject, number, Pressure::Kicks, Guest::go_to_window, |sandbox, random| {
        for mode in <X86 as Hostile<S>>::MODES {
            let mut all = Slots {
                count: 256 * TRIES * before.len(),
                write: &mut |index, random| {
                    code(before[index / 256 / TRIES], (index / TRIES) as u8, random)
                },
                register: &mut |_, _, random| sandbox.operand(random),
                exit: &mut |_, _: &Exit| Ok(()),
            };
            slots(sandbox, mode, random, &mut all)?;
        }
        Ok(())
    })
}

/// Maybe a prefix or several, what is before the opcode, itself, and all that may belong to it.
fn code(before: &[u8], opcode: u8, random: &mut Random) -> Vec<u8> {
    const PREFIXES: [u8; 10] = [0x48, 0x66, 0xf3, 0xf2, 0xf0, 0x67, 0x2e, 0x64, 0x65, 0x4f];
    let mut code = Vec::new();
    while random.once_in(3) && code.len() < 4 {
        code.push(random.of(&PREFIXES));
    }
    code.extend(before);
    code.push(opcode);
    code.extend(random.next().to_le_bytes());
    code.extend(&random.next().to_le_bytes()[..4]);
    code
}

/// The two other maps of opcodes (SDM volume 2, A.3), and those of VEX in its short form and in its long one.
pub(super) fn longer<S: Subject>(subject: &S) -> Verdict {
    opcodes(
        subject,
        322,
        &[&[0x0f, 0x38], &[0x0f, 0x3a], &[0xc5, 0xf9], &[0xc4, 0xe2, 0x7d], &[0xc4, 0xe3, 0xfd]],
    )
}

pub(super) fn random_bytes<S: Subject>(subject: &S) -> Verdict {
    const ROUNDS: usize = 100;
    hostile::random_pages::<S, X86>(subject, 330, Guest::go_to_window, ROUNDS, Random::next)
}
