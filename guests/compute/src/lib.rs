//! A guest that computes: the mix of a plain integer program, for measuring how fast guests run.
//!
//! Each round is a sieve, a CRC, a matrix product, a sort, a walk through a linked list and a recursion, with
//! data that fit into a processor's caches. The guest is RV64IM, starts in S-mode without translation at
//! [`ENTRY`] as a Linux kernel does, prints one line with a checksum through SBI, and switches its machine off
//! through SBI. [`image`] makes it, [`checksum`] knows what it must print, and [`instructions`] how many
//! instructions it executes; rounds are all alike, so that two lengths give the cost of a round free of
//! whatever comes before and after.

mod kernels;
mod reference;

use axvcpu_riscv::asm::{csrs, *};

pub use reference::checksum;

/// Where the image is loaded and started: 2 MiB into RAM.
pub const ENTRY: u64 = 0x8020_0000;

/// Rounds that make 1.4 thousand million instructions.
pub const DEFAULT_ROUNDS: u32 = 1285;

/// What the guest's line begins with; the checksum follows as 16 hexadecimal digits, then the instructions
/// of all rounds as the `instret` counter gives them (an emulator's may count something else).
pub const BANNER: &str = "AXVCPU-COMPUTE ";

/// Instructions of one round, as a hart that counts them exactly has found.
const ROUND: u64 = 1_089_433;
/// Instructions before and after the rounds.
const REST: u64 = 73_659;

/// How many instructions the guest executes in S-mode until it is off.
pub fn instructions(rounds: u32) -> u64 {
    REST + u64::from(rounds) * ROUND
}

/// Where the data are, from this address on: behind the image, in what any machine has for RAM.
const DATA: i64 = ENTRY as i64 + 0x1_0000;

const SBI_DEBUG_CONSOLE: i64 = 0x4442_434e;
const SBI_SYSTEM_RESET: i64 = 0x5352_5354;

/// The guest as a flat binary that computes `rounds` times.
///
/// # Errors
///
/// Never, unless the program in this crate is wrong.
pub fn image(rounds: u32) -> Result<Vec<u8>, AsmError> {
    let mut program = Asm::new(ENTRY);
    let a = &mut program;
    let (setup, body, line) = (a.label(), a.label(), a.label());
    let (digits, hex, count) = (a.label(), a.label(), a.label());

    a.li(SP, DATA + kernels::STACK_TOP);
    a.li(S1, reference::START as i64);
    a.li(S2, DATA);
    a.call(setup);
    a.la(S0, count); // not a constant of the code, whose length would depend on it
    a.ld(S0, 0, S0);
    a.csrr(S3, csrs::INSTRET);
    let (again, done) = (a.here_label(), a.label());
    a.beqz(S0, done);
    a.call(body);
    a.addi(S0, S0, -1);
    a.j(again);
    a.bind(done);
    a.csrr(T0, csrs::INSTRET);
    a.sub(S3, T0, S3);

    // The line, with both numbers in their places.
    a.la(A1, digits);
    a.mv(A0, S1);
    a.call(hex);
    a.addi(A1, A1, 1);
    a.mv(A0, S3);
    a.call(hex);
    a.li(A0, BANNER.len() as i64 + 16 + 1 + 16 + 1);
    a.la(A1, line);
    a.li(A2, 0);
    a.li(A6, 0);
    a.li(A7, SBI_DEBUG_CONSOLE);
    a.ecall();
    a.li(A0, 0);
    a.li(A1, 0);
    a.li(A6, 0);
    a.li(A7, SBI_SYSTEM_RESET);
    a.ecall();
    let stop = a.here_label(); // not reached
    a.wfi();
    a.j(stop);

    // Writes A0 as 16 digits to A1, and leaves A1 behind them.
    a.bind(hex);
    a.li(T0, 60);
    let digit = a.here_label();
    a.srl(T1, A0, T0);
    a.andi(T1, T1, 15);
    a.sltiu(T2, T1, 10); // without a branch, so that every number costs the same
    a.addi(T2, T2, -1);
    a.andi(T2, T2, i32::from(b'a' - b'9') - 1);
    a.add(T1, T1, T2);
    a.addi(T1, T1, i32::from(b'0'));
    a.sb(T1, 0, A1);
    a.addi(A1, A1, 1);
    a.addi(T0, T0, -4);
    a.bge(T0, ZERO, digit);
    a.ret();

    kernels::emit(a, setup, body);

    a.align(8);
    a.bind(count);
    a.quad(rounds.into());
    a.bind(line);
    a.bytes(BANNER.as_bytes());
    a.bind(digits);
    a.bytes(&[b' '; 33]);
    a.bytes(b"\n");
    program.finish()
}
