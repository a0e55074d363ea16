//! Guests that do little but leave: device accesses of every kind, calls, waits, traps, in random order.
//!
//! Their trap handler says what it sees in memory ([`SEEN`]) and asks where to go on ([`GO_ON`]), so that whoever
//! runs them can compare all of it at every exit.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use axvcpu_riscv::asm::{csrs, *};

use crate::access::Access;
use crate::layout;
use crate::rng::Rng;

/// The call with which the trap handler asks.
pub const TRAP: u64 = 0x0a00_0002;
/// The call with which the guest ends.
pub const END: u64 = 0x0a00_0003;
/// Where the trap handler leaves `scause`, `sepc`, `stval`, `sstatus` and `sip`, the last two as it found them.
pub const SEEN: u64 = layout::BASE + 0x10_0000;
/// How many 64-bit words these are.
pub const SEEN_WORDS: usize = 5;
/// Where it reads at what address to go on.
pub const GO_ON: u64 = SEEN + 64;
/// Addresses at which there is nothing.
pub const DEVICE: u64 = 0x1000_0000;

/// The trap handler's own registers, which the guest's instructions do not name.
const OWN: [X; 2] = [T5, T6];
/// The highest register they do name.
const LAST: i64 = 29;

/// The guest that `seed` stands for, of about `length` steps, to be placed and entered at [`layout::BASE`].
///
/// # Errors
///
/// When it cannot be assembled: a mistake in here.
pub fn guest(seed: u64, length: usize) -> Result<Vec<u8>, String> {
    let mut rng = Rng::new(seed);
    let mut asm = Asm::new(layout::BASE);
    let a = &mut asm;
    let (start, handler) = (a.label(), a.label());
    a.j(start);
    a.align(4);
    a.bind(handler);
    write_handler(a);
    a.bind(start);
    a.la(T0, handler);
    a.csrw(csrs::STVEC, T0);
    a.li(T0, 1 << 13); // floating point on
    a.csrrs(ZERO, csrs::SSTATUS, T0);
    a.li(T0, 1 << 9 | 1 << 5 | 1 << 1);
    a.csrw(csrs::SIE, T0);
    for register in (1..=LAST as u8).filter_map(X::new) {
        a.li(register, rng.word() as i64);
    }
    for register in (0..32).filter_map(F::new) {
        if let Some(source) = X::new(1 + register.number() % LAST as u8) {
            a.fmv_d_x(register, source);
        }
    }
    for _ in 0..length {
        step(&mut rng, a);
    }
    let again = a.here_label();
    a.li(A7, END as i64);
    a.ecall();
    a.j(again);
    asm.finish().map_err(|error| error.to_string())
}

fn write_handler(a: &mut Asm) {
    let [value, place] = OWN;
    a.li(place, SEEN as i64);
    for (index, csr) in
        [csrs::SCAUSE, csrs::SEPC, csrs::STVAL, csrs::SSTATUS, csrs::SIP].into_iter().enumerate()
    {
        a.csrr(value, csr);
        a.sd(value, 8 * index as i32, place);
    }
    a.csrrci(ZERO, csrs::SIP, 2);
    a.sd(A7, 56, place);
    a.li(A7, TRAP as i64);
    a.ecall();
    a.ld(A7, 56, place);
    a.ld(value, 64, place);
    a.csrw(csrs::SEPC, value);
    a.sret();
}

pub(crate) fn emit(a: &mut Asm, name: &str, values: &[i64]) {
    let word = lookup(name).and_then(|insn| Some((insn.encode(values)?, insn.len())));
    match word.unwrap_or_else(|| panic!("{name} cannot take {values:?}")) {
        (word, 2) => a.half(word as u16),
        (word, _) => a.word(word),
    }
}

fn step(rng: &mut Rng, a: &mut Asm) {
    match rng.below(20) {
        0..=8 => access(rng, a),
        9 => atomic(rng, a),
        10 | 11 => {
            // Firmware's own extension space: nobody answers but who runs the guest.
            a.li(A7, 0x0a00_0100 + rng.below(256) as i64);
            a.ecall();
        }
        12 => csr(rng, a),
        13 => {
            // What is not there, and what is not the guest's.
            let words =
                [0x0000_000b, 0x6000_2573, 0x2000_2573, 0x3000_2573, 0xc000_1073, 0x0005_7503];
            a.word(*rng.pick(&words));
        }
        14 => a.ebreak(),
        15 => a.wfi(),
        16 => {
            // Interrupts on or off.
            let name = if rng.chance(50) { "csrrsi" } else { "csrrci" };
            emit(a, name, &[0, 0x100, 2]);
        }
        17 => {
            a.li(T0, DEVICE as i64 + rng.below(2048) as i64 * 2);
            a.jalr(RA, 0, T0);
        }
        _ => {
            let name = *rng.pick(&["add", "sub", "mul", "xor", "sltu", "sraw", "fadd.d", "fmul.d"]);
            let values = [(); 3].map(|()| rng.between(0, LAST));
            match name {
                "fadd.d" | "fmul.d" => emit(a, name, &[values[0], values[1], values[2], 7]),
                _ => emit(a, name, &values),
            }
        }
    }
}

/// A load or store with nothing there, naturally aligned more often than not.
fn access(rng: &mut Rng, a: &mut Asm) {
    let access = Access::pick(rng);
    let mut at = DEVICE + rng.below(0x1_0000) * 8;
    if rng.chance(15) {
        at += rng.below(8);
    }
    let operands = access.operands(rng, LAST);
    if let Some(register) = X::new(operands.base as u8) {
        a.li(register, at as i64 - operands.offset);
    }
    access.emit(a, &operands);
}

fn atomic(rng: &mut Rng, a: &mut Asm) {
    const ATOMICS: [&str; 8] =
        ["amoadd.w", "amoswap.d", "amoxor.w", "amomax.d", "amominu.w", "amoor.d", "lr.w", "lr.d"];
    let name = *rng.pick(&ATOMICS);
    a.li(T0, DEVICE as i64 + rng.below(256) as i64 * 8);
    let (to, from) = (rng.between(0, LAST), rng.between(0, LAST));
    let order = rng.between(0, 3);
    match name {
        "lr.w" | "lr.d" => emit(a, name, &[to, 5, order]),
        _ => emit(a, name, &[to, from, 5, order]),
    }
}

/// A register of the supervisor that may hold anything.
fn csr(rng: &mut Rng, a: &mut Asm) {
    let number = *rng.pick(&[0x140, 0x142, 0x143, 0x003]);
    let name = *rng.pick(&["csrrw", "csrrs", "csrrc"]);
    let source = rng.between(0, LAST);
    if number == 3 {
        emit(a, "csrrwi", &[rng.between(0, LAST), number, rng.between(0, 31)]);
    } else {
        emit(a, name, &[rng.between(0, LAST), number, source]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_can_be_assembled_and_fit() {
        for seed in 0..200 {
            let code = guest(seed, 300).unwrap();
            assert!((code.len() as u64) < SEEN - layout::BASE, "seed {seed}");
            assert_eq!(code, guest(seed, 300).unwrap());
        }
    }
}
