//! The guest's instructions: steps of a few each, any of which may be the first, in any mode.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ops::Range;

use axvcpu_riscv::asm::{csrs, *};
use axvcpu_riscv::csr::{irq, num};
use axvcpu_riscv::paging::PAGE_SIZE;

use super::layout::{
    ALIAS, BASE, BEYOND, BEYOND_PAGE, CODE, CODE_SIZE, DATA, DATA_PAGES, DEVICE, DEVICE_PAGES,
    HUGE, LARGE, LOST_TABLE, ODD_PAGE, SUPERVISOR_CODE, TEST, TEST_PAGES, USER_CODE,
};
use super::tables;
use crate::access::Access;
use crate::exits::emit;
use crate::rng::Rng;

/// The calls of the guest's instructions; nobody answers but the hypervisor.
pub(super) const CALL: u64 = 0x0a00_0100;
/// How many of them.
const CALLS: u64 = 256;
/// The time that has come on any hart, and times that will not while somebody looks.
pub(super) const PAST: u64 = 0;
pub(super) const NEVER: [u64; 2] = [u64::MAX, 1 << 62];

/// SBI's timer extension.
const SBI_TIME: i64 = 0x5449_4d45;

/// Instructions for [`CODE`], and where each step's are in it.
pub(super) struct Steps {
    pub(super) code: Vec<u8>,
    pub(super) ranges: Vec<Range<usize>>,
}

/// Which interrupts a guest has. QEMU's harts choose among several by their numbers, the lowest first, where the
/// external one comes first by the manual ("Supervisor Interrupt Registers"): so none has that and another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interrupts {
    SoftwareAndTimer,
    External,
}

impl Interrupts {
    /// The bits of `sie` that the guest ever sets.
    pub(super) fn enabled(self) -> u64 {
        match self {
            Self::SoftwareAndTimer => 1 << irq::SOFTWARE | 1 << irq::TIMER,
            Self::External => 1 << irq::EXTERNAL,
        }
    }
}

/// About `count` steps.
pub(super) fn steps(rng: &mut Rng, count: usize, interrupts: Interrupts) -> Result<Steps, String> {
    let mut program = Asm::new(CODE);
    let a = &mut program;
    let mut ranges = Vec::new();
    let place = |a: &Asm| (a.here() - CODE) as usize;
    for _ in 0..count {
        let start = place(a);
        if start as u64 > CODE_SIZE - 256 {
            break;
        }
        step(rng, a, interrupts);
        ranges.push(start..place(a));
    }
    // The end is a trap, after which the hypervisor has the guest go on at any step.
    let start = place(a);
    a.ebreak();
    ranges.push(start..place(a));
    let code = program.finish().map_err(|error| error.to_string())?;
    Ok(Steps { code, ranges })
}

fn x(rng: &mut Rng) -> X {
    X::new(rng.between(1, 31) as u8).unwrap_or(A0)
}

fn step(rng: &mut Rng, a: &mut Asm, interrupts: Interrupts) {
    match rng.below(40) {
        0..=15 => access(rng, a),
        16..=18 => atomic(rng, a),
        19 => reservation(rng, a),
        20..=22 => {
            a.li(A7, (CALL + rng.below(CALLS)) as i64);
            a.ecall();
        }
        23..=26 => csr(rng, a, interrupts),
        27 => a.ebreak(),
        28 => a.wfi(),
        29 => {
            let name = if rng.chance(60) { "csrrsi" } else { "csrrci" };
            emit(a, name, &[0, i64::from(csrs::SSTATUS), 2]);
        }
        30 => jump(rng, a),
        31 => word(rng, a),
        32 => switch(rng, a),
        33 => {
            // Another address space, or none: the same instructions may be somewhere else then.
            let register = x(rng);
            a.li(register, *rng.pick(&tables::satps()) as i64);
            a.csrw(csrs::SATP, register);
            a.sfence_vma(ZERO, ZERO);
        }
        34 => match rng.below(3) {
            0 => emit(a, "sfence.vma", &[rng.between(0, 31), rng.between(0, 31)]),
            1 => a.fence_i(),
            _ => emit(a, "fence", &[rng.between(0, 15), rng.between(0, 15)]),
        },
        35 => {
            // The timer, as guests without one of their own set it.
            a.li(A7, SBI_TIME);
            a.li(A6, 0);
            past_or_never(rng, a, A0);
            a.ecall();
        }
        36 | 37 => {
            let name = *rng.pick(&["fadd.d", "fmul.s", "fdiv.d", "fsub.d"]);
            let [to, left, right] = [(); 3].map(|()| rng.between(0, 31));
            emit(a, name, &[to, left, right, *rng.pick(&[0, 1, 7])]);
        }
        _ => {
            let name = *rng.pick(&["add", "sub", "mul", "xor", "sltu", "sraw"]);
            let values = [(); 3].map(|()| rng.between(0, 31));
            emit(a, name, &values);
        }
    }
}

/// An address, by which there may be anything.
fn address(rng: &mut Rng, size: u64) -> u64 {
    let offset = match rng.below(20) {
        0 => PAGE_SIZE - size + rng.below(size), // to the next page, but for one in `size`
        1 => rng.below(PAGE_SIZE - size),
        _ => rng.below(PAGE_SIZE - 256) / size * size,
    };
    let data = DATA - BASE + rng.below(DATA_PAGES) * PAGE_SIZE + offset;
    let test = TEST + rng.below(TEST_PAGES) * PAGE_SIZE + offset;
    match rng.below(50) {
        0..=19 => test,
        20..=33 => BASE + data,
        34..=36 => LARGE + data,
        37 | 38 => HUGE + data,
        39 | 40 => ALIAS + (test - BASE),
        41 | 42 => DEVICE_PAGES + rng.below(2) * PAGE_SIZE + offset,
        43 | 44 => DEVICE + offset,
        45 => *rng.pick(&[BEYOND, BEYOND_PAGE, ODD_PAGE]) + offset,
        46 => LOST_TABLE + offset,
        47 => SUPERVISOR_CODE + offset,
        48 => test | 1 << rng.between(39, 63), // not canonical in some mode or in all
        _ => rng.word(),
    }
}

/// A load or store of any shape.
fn access(rng: &mut Rng, a: &mut Asm) {
    let access = Access::pick(rng);
    let operands = access.operands(rng, 31);
    if let Some(register) = X::new(operands.base as u8) {
        a.li(register, (address(rng, access.size) as i64).wrapping_sub(operands.offset));
    }
    access.emit(a, &operands);
}

fn atomic(rng: &mut Rng, a: &mut Asm) {
    const ATOMICS: [(&str, u64); 8] = [
        ("amoadd.w", 4),
        ("amoswap.d", 8),
        ("amoxor.w", 4),
        ("amomax.d", 8),
        ("amominu.w", 4),
        ("amoor.d", 8),
        ("amoand.w", 4),
        ("amomaxu.d", 8),
    ];
    let (name, size) = *rng.pick(&ATOMICS);
    let base = x(rng);
    a.li(base, address(rng, size) as i64);
    let (to, from) = (rng.between(0, 31), rng.between(0, 31));
    emit(a, name, &[to, from, base.number().into(), rng.between(0, 3)]);
}

/// A reservation and what it is for, in one step: in between a hart may lose it for any reason.
fn reservation(rng: &mut Rng, a: &mut Asm) {
    let (load, store, size) = *rng.pick(&[("lr.w", "sc.w", 4), ("lr.d", "sc.d", 8)]);
    a.li(T0, address(rng, size) as i64);
    let base = T0.number().into();
    emit(a, load, &[T1.number().into(), base, rng.between(0, 3)]);
    emit(a, store, &[T2.number().into(), rng.between(0, 31), base, rng.between(0, 3)]);
}

/// A register of the supervisor. The hypervisor overwrites instructions: whatever has become of those that make a value,
/// the last before the CSR is written leaves only what may be written. That are the fields which both harts have.
fn csr(rng: &mut Rng, a: &mut Asm, interrupts: Interrupts) {
    let register = x(rng);
    let number = i64::from(register.number());
    let value = (rng.word() >> rng.below(64)) as i64;
    let name = *rng.pick(&["csrrw", "csrrs", "csrrc"]);
    let to = rng.between(0, 31);
    let write = |a: &mut Asm, csr: u16, mask: i32, value: i64| {
        a.li(register, value & i64::from(mask));
        if mask != -1 {
            a.andi(register, register, mask);
        }
        emit(a, name, &[to, csr.into(), number]);
    };
    match rng.below(15) {
        0 | 1 => {
            // Its lowest 20 bits, without the width of registers. It is not read: floating-point state may be called
            // dirty that is not.
            a.li(register, value);
            a.slli(register, register, 44);
            a.srli(register, register, 44);
            let name = if name == "csrrc" { "csrrc" } else { "csrrs" };
            emit(a, name, &[0, csrs::SSTATUS.into(), number]);
        }
        2 => write(a, csrs::SIE, interrupts.enabled() as i32, value),
        // The guest's own interrupt.
        3 | 4 => write(a, csrs::SIP, 0x222, *rng.pick(&[0, 2, 2, 0x222])),
        5 => write(a, csrs::SSCRATCH, -1, value),
        6 => write(a, csrs::SEPC, -2, value), // QEMU keeps the bit that is always 0
        7 => {
            // Not as if an interrupt had been taken: the backend looks there for whether it has.
            a.li(register, value);
            a.srli(register, register, 1);
            emit(a, "csrrw", &[to, csrs::SCAUSE.into(), number]);
        }
        8 => write(a, csrs::STVAL, -1, value),
        9 => write(a, csrs::SCOUNTEREN, 7, value),
        10 => write(a, num::SENVCFG, 1, value),
        11 => {
            past_or_never(rng, a, register);
            emit(a, "csrrw", &[to, csrs::STIMECMP.into(), number]);
        }
        // Counters only if they may be read: their values are the hart's own.
        12 => emit(a, "csrrs", &[0, *rng.pick(&[0xc00, 0xc01, 0xc02]), 0]),
        13 => write(a, csrs::FCSR, 0xff, value),
        _ => {
            // What is a hypervisor's or the machine's, or is not there; and the address space, only to be read.
            let csr = *rng.pick(&[0x180, 0x200, 0x280, 0x300, 0x344, 0x600, 0x680, 0x7a8, 0xf14]);
            let (name, from) = if csr == 0x180 { ("csrrs", 0) } else { (name, 10) };
            emit(a, name, &[to, csr, from]);
        }
    }
}

/// A time that has come, or one that never does.
fn past_or_never(rng: &mut Rng, a: &mut Asm, register: X) {
    a.li(register, rng.between(0, 1));
    a.andi(register, register, 1);
    a.sub(register, ZERO, register);
}

/// To where there is no step. The way back is in `ra`, if nothing else is.
fn jump(rng: &mut Rng, a: &mut Asm) {
    let register = x(rng);
    a.li(register, (address(rng, 2) & !1) as i64);
    a.jalr(RA, rng.between(-2, 2) as i32, register);
}

/// Bits that are no instruction, or are one.
fn word(rng: &mut Rng, a: &mut Asm) {
    const NONE: [u32; 6] =
        [0x0000_000b, 0x6000_2573, 0x2000_2573, 0x3000_2573, 0xc000_1073, 0x0005_7503];
    match rng.below(3) {
        0 => a.word(*rng.pick(&NONE)),
        1 => a.half(loop {
            let half = rng.word() as u16;
            if half & 3 != 3 {
                break half;
            }
        }),
        _ => a.word(loop {
            let word = rng.word() as u32 | 3;
            // CSRs have steps of their own: with some of them the guest would lose its handler, and counters are
            // not the same twice.
            if word & 0x7f != 0x73 {
                break word;
            }
        }),
    }
}

/// To the other mode, or the same, by `sret`.
fn switch(rng: &mut Rng, a: &mut Asm) {
    const SPP: i64 = 1 << 8;
    let after = a.label();
    a.la(T0, after);
    let here = *rng.pick(&[SUPERVISOR_CODE, SUPERVISOR_CODE, USER_CODE, CODE]);
    let there = *rng.pick(&[USER_CODE, USER_CODE, SUPERVISOR_CODE, CODE]);
    a.li(T1, there.wrapping_sub(here) as i64);
    a.add(T0, T0, T1);
    a.li(T1, SPP);
    let name = if there == USER_CODE || rng.chance(20) { "csrrc" } else { "csrrs" };
    emit(a, name, &[0, csrs::SSTATUS.into(), T1.number().into()]);
    // Last: a trap in between makes it the address of what is here. An `sret` to itself ends, as its second is one
    // of a user.
    a.andi(T0, T0, -2);
    a.csrw(csrs::SEPC, T0);
    a.sret();
    a.bind(after);
}
