//! The loop whose speed is measured: the mix of a compiled integer program, with
//! a number of instructions that is known beforehand.

use super::asm::{add, addi, b, cond, i, ld, op, r, reg, sd, slli};
use super::{Program, Random, runtime};

/// Holds the number of rounds still to go.
const COUNTER: u32 = 20;

/// One round; every path through it has the same length.
fn round() -> Vec<u32> {
    let xor = |rd, rs1, rs2| r(op::OP, 4, 0, rd, rs1, rs2);
    let mut words = vec![
        ld(5, reg::SP, 0),
        add(6, 6, 5),
        // Marsaglia's xorshift: bits that no branch predictor foresees.
        slli(7, 6, 13),
        xor(6, 6, 7),
        i(op::IMM, 5, 7, 6, 7),
        xor(6, 6, 7),
        r(op::OP, 0, 1, 8, 6, 9),
        addi(10, 10, 1),
        i(op::IMM, 7, 11, 6, 0xf8),
        add(11, 11, reg::SP),
        sd(6, 11, 0),
        i(op::LOAD, 2, 12, 11, 4),
        r(op::OP_32, 0, 0, 13, 13, 12),
        r(op::OP, 3, 0, 14, 13, 6),
        b(cond::EQ, 14, reg::ZERO, 4),
        r(op::OP, 0, 0x20, 16, 6, 13),
        r(op::OP, 6, 0, 17, 16, 10),
        i(op::IMM, 5, 18, 17, 0x400 | 3),
        addi(COUNTER, COUNTER, -1),
    ];
    let back = -4 * words.len() as i32;
    words.push(b(cond::NE, COUNTER, reg::ZERO, back));
    words
}

/// Instructions in one round.
pub(crate) fn round_length() -> u64 {
    round().len() as u64
}

/// A guest that runs `rounds` rounds, prints its state and powers off.
pub(crate) fn guest(rounds: u64) -> Vec<u8> {
    let mut program = Program::random(&mut Random::new(1), 0);
    program.x[COUNTER as usize] = rounds;
    program.steps = vec![round().iter().flat_map(|word| word.to_le_bytes()).collect()];
    runtime::guest(&[program])
}
