//! Two instructions in a row do what they do with something between them: neighbours are executed together
//! where they often meet, and each may trap.

use axvcpu_riscv::asm::*;
use axvcpu_riscv::paging::SV39;

use crate::machine::{DEVICE, Random};
use crate::probe::{CODE, DATA, Ended, How, Probe};
use crate::tables::ALL;

/// An instruction on a destination and two sources. Loads and stores use the first source as the base.
type Emit = fn(&mut Asm, X, X, X);

#[rustfmt::skip]
const PLAIN: &[(&str, Emit)] = &[
    ("addi", |a, d, s, _| a.addi(d, s, -3)), ("mv", |a, d, s, _| a.mv(d, s)), ("li", |a, d, _, _| a.addi(d, ZERO, 77)),
    ("lui", |a, d, _, _| a.lui(d, 0x80201)), ("auipc", |a, d, _, _| a.auipc(d, 0)),
    ("slli", |a, d, s, _| a.slli(d, s, 3)), ("srli", |a, d, s, _| a.srli(d, s, 5)), ("srai", |a, d, s, _| a.srai(d, s, 5)),
    ("andi", |a, d, s, _| a.andi(d, s, 0xf8)), ("addiw", |a, d, s, _| a.addiw(d, s, 5)),
    ("slliw", |a, d, s, _| a.slliw(d, s, 4)), ("srliw", |a, d, s, _| a.srliw(d, s, 4)),
    ("add", |a, d, s, t| a.add(d, s, t)), ("sub", |a, d, s, t| a.sub(d, s, t)), ("addw", |a, d, s, t| a.addw(d, s, t)),
    ("and", |a, d, s, t| a.and(d, s, t)), ("or", |a, d, s, t| a.or(d, s, t)), ("xor", |a, d, s, t| a.xor(d, s, t)),
    ("sltu", |a, d, s, t| a.sltu(d, s, t)), ("slt", |a, d, s, t| a.slt(d, s, t)), ("mul", |a, d, s, t| a.mul(d, s, t)),
    ("ld", |a, d, s, _| a.ld(d, 8, s)), ("lw", |a, d, s, _| a.lw(d, 4, s)), ("lbu", |a, d, s, _| a.lbu(d, 1, s)),
    ("lhu", |a, d, s, _| a.lhu(d, 2, s)), ("sd", |a, _, s, t| a.sd(t, 8, s)), ("sw", |a, _, s, t| a.sw(t, 4, s)),
    ("sb", |a, _, s, t| a.sb(t, 1, s)), ("c.ld", |a, _, _, _| a.c_ld(A5, 0, A1)), ("c.mv", |a, _, _, _| a.c_mv(A1, A5)),
];

#[rustfmt::skip]
const LAST: &[(&str, Emit)] = &[
    ("beq", |a, d, s, t| { let l = a.label(); a.beq(s, t, l); a.addi(d, d, 1); a.bind(l) }),
    ("bne", |a, d, s, t| { let l = a.label(); a.bne(s, t, l); a.addi(d, d, 1); a.bind(l) }),
    ("blt", |a, d, s, t| { let l = a.label(); a.blt(s, t, l); a.addi(d, d, 1); a.bind(l) }),
    ("bge", |a, d, s, t| { let l = a.label(); a.bge(s, t, l); a.addi(d, d, 1); a.bind(l) }),
    ("bltu", |a, d, s, t| { let l = a.label(); a.bltu(s, t, l); a.addi(d, d, 1); a.bind(l) }),
    ("bgeu", |a, d, s, t| { let l = a.label(); a.bgeu(s, t, l); a.addi(d, d, 1); a.bind(l) }),
    ("jal", |a, d, _, _| { let l = a.label(); a.jal(d, l); a.ebreak(); a.bind(l) }),
    ("jal away", |a, d, _, _| { let l = a.label(); a.jal(d, l); a.zero(0x1000); a.bind(l) }),
    ("jalr", |a, d, _, _| a.jalr(d, 0x40, GP)),
];

/// Instructions before the pair: with the first one as many as are decoded together, so that the second begins
/// a new block.
const BEFORE: u64 = 63;

/// Everything there is to see at the end: trap or exit, registers, memory.
#[derive(Debug, PartialEq)]
struct Seen {
    ended: Ended,
    registers: [u64; 5],
    memory: Vec<u8>,
    instructions: u64,
}

/// The registers of the pairs. `gp` points to a breakpoint.
const REGISTERS: [X; 5] = [A1, A2, A3, A5, T1];

fn run(probe: &Probe, values: [u64; 5], pc: u64, fence: u64) -> Seen {
    for offset in 0..8 {
        probe.machine.write_u64(DATA + 8 * offset, DATA + 8 * (offset ^ 3));
    }
    for (register, value) in REGISTERS.into_iter().zip(values) {
        probe.set(register, value);
    }
    let before = probe.machine.instructions();
    let ended = probe.go(pc, How::S.fence(fence));
    if ended.is_err() {
        let _ = probe.machine.vcpu.fail_access();
        assert!([5, 7].contains(&probe.resume().unwrap().cause));
    }
    Seen {
        ended,
        registers: REGISTERS.map(|register| probe.get(register)),
        memory: probe.machine.read(DATA, 64),
        instructions: probe.machine.instructions() - before,
    }
}

#[test]
fn neighbours() {
    let probe = Probe::paged(SV39);
    let tables = probe.tables();
    let device = tables.free(0);
    tables.map(&probe.machine, device, 0, DEVICE, ALL);
    let random = &mut Random(2024);
    let values = [DATA, DATA + 16, DATA + 3, device, 0, 1, u64::MAX, 0x7fff_ffff_ffff_fff8];
    let start = CODE + 0x100;
    let pair = start + 4 * BEFORE;
    let mut exits = [0; 3];
    probe.run(|a| a.nop(), How::S); // switches paging on
    probe.set(GP, CODE);
    probe.machine.write(CODE + 0x40, &[0x02, 0x90]); // c.ebreak
    for &(first_name, first) in PLAIN {
        for &(second_name, second) in PLAIN.iter().chain(LAST) {
            for _ in 0..6 {
                let [d1, s1, t1, d2, s2, t2] = [(); 6].map(|()| random.pick(&REGISTERS));
                // Half of the seconds use what the firsts make.
                let s2 = if random.below(2) == 0 { d1 } else { s2 };
                // Nobody stores to the code: when that is seen is another matter.
                let (d1, s2) = if first_name == "auipc" { (T1, A1) } else { (d1, s2) };
                let mut a = Asm::new(start);
                for _ in 0..BEFORE {
                    a.fence(0, 0);
                }
                first(&mut a, d1, s1, t1);
                second(&mut a, d2, s2, t2);
                a.ebreak();
                probe.machine.write_code(start, a);
                let values = [(); 5].map(|()| random.pick(&values));
                let together = run(&probe, values, pair, How::INSTRUCTIONS);
                let mut apart = run(&probe, values, start, How::INSTRUCTIONS);
                apart.instructions -= BEFORE;
                let what = || {
                    format!(
                        "{first_name} {d1} {s1} {t1}; {second_name} {d2} {s2} {t2}: {values:x?}"
                    )
                };
                assert_eq!(together, apart, "{}", what());
                exits[match together.ended {
                    Ok(trap) if trap.cause == 3 => 0,
                    Ok(_) => 1,
                    Err(_) => 2,
                }] += 1;
            }
        }
    }
    assert!(exits.iter().all(|&count| count > 100), "too few of a kind: {exits:?}");
}
