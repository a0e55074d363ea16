//! The parts of a round. Each is a function that leaves its result in `A0` and may change everything but
//! `SP`, `S0` to `S3`; `S1` is the checksum so far and `S2` the data's start.

use axvcpu_riscv::asm::*;

use crate::reference::{
    BUFFER, FACTOR, FIBONACCI, INCREMENT, LIST, OFFSET, POLYNOMIAL, SIDE, SIEVE, SORTED, START,
    STEP, WALKS,
};

// The data's parts, as distances from their start.
const SIEVE_AT: i64 = 0;
const TABLE_AT: i64 = SIEVE_AT + SIEVE as i64;
const BUFFER_AT: i64 = TABLE_AT + 256 * 4;
const A_AT: i64 = BUFFER_AT + BUFFER as i64;
const B_AT: i64 = A_AT + MATRIX;
const SORTED_AT: i64 = B_AT + MATRIX;
const LIST_AT: i64 = SORTED_AT + 8 * SORTED as i64;
const STACK_AT: i64 = LIST_AT + 8 * LIST as i64;
/// The end of everything.
pub(crate) const STACK_TOP: i64 = STACK_AT + (64 << 10);

const MATRIX: i64 = 8 * (SIDE * SIDE) as i64;

/// Appends the functions, and binds the one that prepares the data and the one that is a round.
pub(crate) fn emit(a: &mut Asm, setup: Label, round: Label) {
    let parts: [fn(&mut Asm); 6] = [sieve, crc, product, sort, walk, recurse];
    let labels = parts.map(|part| {
        a.align(8);
        let label = a.here_label();
        part(a);
        label
    });

    a.align(8);
    a.bind(round);
    a.addi(SP, SP, -16);
    a.sd(RA, 8, SP);
    for label in labels {
        a.call(label);
        a.slli(T0, S1, 5);
        a.sub(S1, T0, S1);
        a.add(S1, S1, A0);
    }
    a.ld(RA, 8, SP);
    a.addi(SP, SP, 16);
    a.ret();

    a.bind(setup);
    prepare(a);
}

/// `rd` = start of the data plus `distance`.
fn data(a: &mut Asm, rd: X, distance: i64) {
    a.li(rd, distance);
    a.add(rd, rd, S2);
}

/// Fills `T1` up to `T2` with random doublewords; `T3` is the generator's state. Uses `T4` and `T5`.
fn fill(a: &mut Asm) {
    a.li(T4, FACTOR as i64);
    a.li(T5, INCREMENT as i64);
    let again = a.here_label();
    a.mul(T3, T3, T4);
    a.add(T3, T3, T5);
    a.sd(T3, 0, T1);
    a.addi(T1, T1, 8);
    a.bltu(T1, T2, again);
}

fn prepare(a: &mut Asm) {
    // Buffer and both matrices follow one another.
    a.li(T3, START as i64);
    data(a, T1, BUFFER_AT);
    data(a, T2, SORTED_AT);
    fill(a);

    // The CRC's table.
    data(a, T0, TABLE_AT);
    a.li(T1, 0);
    a.li(A1, i64::from(POLYNOMIAL));
    a.li(A2, 256);
    let index = a.here_label();
    a.mv(T2, T1);
    a.li(T3, 8);
    let bit = a.here_label();
    a.andi(T4, T2, 1);
    a.sub(T4, ZERO, T4);
    a.and(T4, T4, A1);
    a.srli(T2, T2, 1);
    a.xor(T2, T2, T4);
    a.addi(T3, T3, -1);
    a.bnez(T3, bit);
    a.sw(T2, 0, T0);
    a.addi(T0, T0, 4);
    a.addi(T1, T1, 1);
    a.bne(T1, A2, index);

    // The list: each element holds its successor's address.
    data(a, T0, LIST_AT);
    a.mv(A1, T0);
    a.li(T1, 0);
    a.li(T2, STEP as i64);
    a.li(T3, OFFSET as i64);
    a.li(A2, LIST as i64);
    a.addi(A3, A2, -1);
    let element = a.here_label();
    a.mul(T4, T1, T2);
    a.add(T4, T4, T3);
    a.and(T4, T4, A3);
    a.slli(T4, T4, 3);
    a.add(T4, T4, A1);
    a.sd(T4, 0, T0);
    a.addi(T0, T0, 8);
    a.addi(T1, T1, 1);
    a.bne(T1, A2, element);
    a.ret();
}

/// The sieve of Eratosthenes.
fn sieve(a: &mut Asm) {
    data(a, A1, SIEVE_AT);
    a.li(A2, SIEVE as i64);
    a.add(A3, A1, A2);
    a.li(T0, 0x0101_0101_0101_0101);
    a.mv(T1, A1);
    let clear = a.here_label();
    a.sd(T0, 0, T1);
    a.sd(T0, 8, T1);
    a.addi(T1, T1, 16);
    a.bltu(T1, A3, clear);

    a.li(T0, 2);
    let (number, next, counted) = (a.here_label(), a.label(), a.label());
    a.mul(T1, T0, T0);
    a.bgeu(T1, A2, counted);
    a.add(T2, A1, T0);
    a.lbu(T2, 0, T2);
    a.beqz(T2, next);
    a.add(T1, T1, A1);
    let strike = a.here_label();
    a.sb(ZERO, 0, T1);
    a.add(T1, T1, T0);
    a.bltu(T1, A3, strike);
    a.bind(next);
    a.addi(T0, T0, 1);
    a.j(number);

    a.bind(counted);
    a.li(A0, 0);
    a.mv(T1, A1);
    let count = a.here_label();
    a.lbu(T2, 0, T1);
    a.add(A0, A0, T2);
    a.addi(T1, T1, 1);
    a.bltu(T1, A3, count);
    a.ret();
}

/// CRC-32 of the buffer, beginning with the checksum.
fn crc(a: &mut Asm) {
    data(a, T0, BUFFER_AT);
    a.li(T1, BUFFER as i64);
    a.add(T1, T1, T0);
    data(a, A1, TABLE_AT);
    a.slli(A0, S1, 32);
    a.srli(A0, A0, 32);
    let again = a.here_label();
    a.lbu(T2, 0, T0);
    a.xor(T2, T2, A0);
    a.andi(T2, T2, 0xff);
    a.slli(T2, T2, 2);
    a.add(T2, T2, A1);
    a.lwu(T2, 0, T2);
    a.srli(A0, A0, 8);
    a.xor(A0, A0, T2);
    a.addi(T0, T0, 1);
    a.bne(T0, T1, again);
    a.ret();
}

/// The product of the matrices, each element mixed into the result.
fn product(a: &mut Asm) {
    const ROW: i32 = 8 * SIDE as i32;

    data(a, A1, A_AT); // the row
    data(a, A4, B_AT); // its end, when all rows are done
    a.li(A0, 0);
    let row = a.here_label();
    data(a, A2, B_AT); // the column
    a.addi(A5, A2, ROW);
    let column = a.here_label();
    a.mv(T0, A1);
    a.addi(T1, A1, ROW);
    a.mv(T2, A2);
    a.li(T3, 0);
    let term = a.here_label();
    a.ld(T4, 0, T0);
    a.ld(T5, 0, T2);
    a.mul(T4, T4, T5);
    a.add(T3, T3, T4);
    a.addi(T0, T0, 8);
    a.addi(T2, T2, ROW);
    a.bne(T0, T1, term);
    a.slli(T4, A0, 5);
    a.add(A0, A0, T4);
    a.xor(A0, A0, T3);
    a.addi(A2, A2, 8);
    a.bne(A2, A5, column);
    a.addi(A1, A1, ROW);
    a.bne(A1, A4, row);
    a.ret();
}

/// Quicksort of random numbers, with Hoare's partition.
fn sort(a: &mut Asm) {
    let sort = a.label();
    a.addi(SP, SP, -16);
    a.sd(RA, 8, SP);
    a.li(T3, START as i64);
    data(a, T1, SORTED_AT);
    data(a, T2, LIST_AT);
    fill(a);
    data(a, A0, SORTED_AT);
    data(a, A1, LIST_AT - 8);
    a.call(sort);
    data(a, T1, SORTED_AT);
    data(a, T2, LIST_AT);
    a.li(A0, 0);
    let sum = a.here_label();
    a.ld(T0, 0, T1);
    a.slli(T3, A0, 5);
    a.sub(A0, T3, A0);
    a.add(A0, A0, T0);
    a.addi(T1, T1, 8);
    a.bne(T1, T2, sum);
    a.ld(RA, 8, SP);
    a.addi(SP, SP, 16);
    a.ret();

    // From A0 to A1, both included.
    a.bind(sort);
    let (some, swapped, split) = (a.label(), a.label(), a.label());
    a.bltu(A0, A1, some);
    a.ret();
    a.bind(some);
    a.addi(SP, SP, -32);
    a.sd(RA, 24, SP);
    a.sd(A1, 16, SP);
    a.sub(T0, A1, A0);
    a.srli(T0, T0, 4);
    a.slli(T0, T0, 3);
    a.add(T0, T0, A0);
    a.ld(T0, 0, T0); // the pivot
    a.addi(T1, A0, -8);
    a.addi(T2, A1, 8);
    a.bind(swapped);
    let up = a.here_label();
    a.addi(T1, T1, 8);
    a.ld(T3, 0, T1);
    a.bltu(T3, T0, up);
    let down = a.here_label();
    a.addi(T2, T2, -8);
    a.ld(T4, 0, T2);
    a.bltu(T0, T4, down);
    a.bgeu(T1, T2, split);
    a.sd(T4, 0, T1);
    a.sd(T3, 0, T2);
    a.j(swapped);
    a.bind(split);
    a.sd(T2, 8, SP);
    a.mv(A1, T2);
    a.call(sort);
    a.ld(A0, 8, SP);
    a.addi(A0, A0, 8);
    a.ld(A1, 16, SP);
    a.call(sort);
    a.ld(RA, 24, SP);
    a.addi(SP, SP, 32);
    a.ret();
}

/// Walks through the list, from its first element.
fn walk(a: &mut Asm) {
    data(a, A1, LIST_AT);
    a.mv(T0, A1);
    a.li(T1, (LIST * WALKS) as i64);
    a.li(A0, 0);
    let again = a.here_label();
    a.ld(T0, 0, T0);
    a.sub(T2, T0, A1);
    a.slli(T3, A0, 1);
    a.add(A0, A0, T3);
    a.add(A0, A0, T2);
    a.addi(T1, T1, -1);
    a.bnez(T1, again);
    a.ret();
}

/// A Fibonacci number by its definition.
fn recurse(a: &mut Asm) {
    a.li(A0, FIBONACCI as i64);
    let fibonacci = a.here_label();
    let deeper = a.label();
    a.sltiu(T0, A0, 2);
    a.beqz(T0, deeper);
    a.ret();
    a.bind(deeper);
    a.addi(SP, SP, -32);
    a.sd(RA, 24, SP);
    a.sd(A0, 16, SP);
    a.addi(A0, A0, -1);
    a.call(fibonacci);
    a.sd(A0, 8, SP);
    a.ld(A0, 16, SP);
    a.addi(A0, A0, -2);
    a.call(fibonacci);
    a.ld(T0, 8, SP);
    a.add(A0, A0, T0);
    a.ld(RA, 24, SP);
    a.addi(SP, SP, 32);
    a.ret();
}
