//! Page tables, device accesses and code of the guest's own.

use axvcpu_riscv::asm::*;
use axvcpu_riscv::csr::num;
use axvcpu_riscv::paging::{PAGE_SIZE, ROOT_PPN_MASK, SV39, SV48, SV57, pte};
use axvcpu_riscv::stage2::Perms;

use super::super::Subject;
use super::super::bench::{Bench, Riscv};
use super::super::guest::*;
use crate::bench::{Exit, Isa};
use crate::hostile::{Hostile, Pressure, Sandbox, Slots, attack, slots};
use crate::random::Random;
use crate::report::{Verdict, ensure, ensure_eq};

const WINDOW: u64 = Riscv::WINDOW;

/// With tables anywhere the guest loads, stores, adds and jumps: to where `s3` to `s6` say.
fn with_tables(g: &mut Guest) {
    g.csrw(num::SATP, S2);
    g.sfence_vma(ZERO, ZERO);
    g.ld(T0, 0, S3);
    g.sd(T0, 0, S4);
    g.amoadd_d(T1, T0, S5, Order::Relaxed);
    g.jalr(RA, 0, S6);
}

/// Goes on behind what trapped.
fn behind(trap: &super::super::bench::Trap, _: &mut Random) -> Option<u64> {
    Some(trap.epc.wrapping_add(4))
}

/// `satp` of every mode, and roots where there is anything but tables.
pub(super) fn tables<S: Subject>(subject: &S) -> Verdict {
    const ROUNDS: u64 = 100;
    attack::<S, Riscv>(subject, 130, Pressure::Kicks, with_tables, |sandbox, random| {
        for round in 0..ROUNDS {
            let mode = if round % 4 == 0 { round / 4 % 16 } else { 8 + round % 3 };
            let root = sandbox.address(random) >> 12 & ROOT_PPN_MASK;
            let asid = random.next() & 0xffff;
            let mut registers = [(18, mode << 60 | asid << 44 | root); 5];
            for (register, value) in (19..).zip(&mut registers[1..]) {
                *value = (register, sandbox.address(random));
            }
            sandbox.start(&registers)?;
            sandbox.let_go(random, behind)?;
        }
        Ok(())
    })
}

/// An entry that leads anywhere.
fn entry<S: Subject>(sandbox: &Sandbox<'_, S, Riscv>, random: &mut Random) -> u64 {
    let flags = match random.next() % 4 {
        0 => random.next() & 0x3ff | random.next() & random.next() & (0x3ff << 54),
        1 | 2 => pte::V, // the next table
        _ => pte::V | pte::RWX | pte::A | pte::D | random.next() & (pte::U | pte::G),
    };
    let place = match random.next() % 4 {
        // One of the tables, itself among them.
        0 | 1 => WINDOW + (random.next() % 4) * PAGE_SIZE,
        // Superpages are misaligned then, more often than not.
        2 => sandbox.address(random),
        _ => random.next(),
    };
    pte::new(place, flags)
}

/// Four pages of tables that lead to one another, to code, data, devices, nowhere and to host memory that is no guest's.
pub(super) fn entries<S: Subject>(subject: &S) -> Verdict {
    const ROUNDS: u64 = 100;
    attack::<S, Riscv>(subject, 131, Pressure::Kicks, with_tables, |sandbox, random| {
        for round in 0..ROUNDS {
            for at in (WINDOW..WINDOW + 4 * PAGE_SIZE).step_by(8) {
                sandbox.bench.space.write(at, entry(sandbox, random))?;
            }
            let mode = [SV39, SV48, SV57][round as usize % 3];
            // Mostly the code stays where it is, so that more than the first fetch comes of it.
            if round % 4 != 0 {
                let levels = mode.levels;
                for level in (2..levels).rev() {
                    let table = WINDOW + u64::from(levels - 1 - level) * PAGE_SIZE;
                    let flags = if level == 2 { pte::RWX | pte::A | pte::D } else { 0 };
                    let place = if level == 2 { CODE } else { table + PAGE_SIZE };
                    let at = table + 8 * mode.index(CODE, level) as u64;
                    sandbox.bench.space.write(at, pte::new(place, flags | pte::V))?;
                }
            }
            let mut registers = [(18, mode.root_register(WINDOW)); 5];
            for (register, value) in (19..).zip(&mut registers[1..]) {
                let any = random.next() >> (64 - mode.bits);
                *value = (register, if random.once_in(2) { any } else { sandbox.address(random) });
            }
            sandbox.start(&registers)?;
            sandbox.let_go(random, behind)?;
        }
        Ok(())
    })
}

/// Loads and stores of every width, with the base in `a1`, and how many bytes they access.
const ACCESSES: [(u32, u64); 27] = [
    (0x0005_8503, 1), // lb a0, 0(a1)
    (0x0005_9503, 2), // lh
    (0x0005_a503, 4), // lw
    (0x0005_b503, 8), // ld
    (0x0005_c503, 1), // lbu
    (0x0005_d503, 2), // lhu
    (0x0005_e503, 4), // lwu
    (0x00c5_8023, 1), // sb a2, 0(a1)
    (0x00c5_9023, 2), // sh
    (0x00c5_a023, 4), // sw
    (0x00c5_b023, 8), // sd
    (0x0005_a507, 4), // flw fa0, 0(a1)
    (0x0005_b507, 8), // fld
    (0x00c5_a027, 4), // fsw fa2, 0(a1)
    (0x00c5_b027, 8), // fsd
    (0x9002_4188, 4), // c.lw a0, 0(a1)
    (0x9002_6188, 8), // c.ld
    (0x9002_2188, 8), // c.fld
    (0x9002_c190, 4), // c.sw a2, 0(a1)
    (0x9002_e190, 8), // c.sd
    (0x9002_a190, 8), // c.fsd
    (0x1005_a52f, 4), // lr.w a0, (a1)
    (0x1005_b52f, 8), // lr.d
    (0x18c5_a52f, 4), // sc.w a0, a2, (a1)
    (0x18c5_b52f, 8), // sc.d
    (0x00c5_a52f, 4), // amoadd.w a0, a2, (a1)
    (0x00c5_b52f, 8), // amoadd.d
];

/// What begins or ends there: nothing at all, the code, the data, the window, a device, what stage 2 can name, and all.
fn boundaries<S: Subject>(subject: &S) -> [u64; 11] {
    [
        0,
        CODE,
        CODE + 16 * PAGE_SIZE,
        DATA,
        DATA + DATA_PAGES * PAGE_SIZE,
        WINDOW,
        WINDOW + 4 * PAGE_SIZE,
        DEVICE,
        DEVICE + PAGE_SIZE,
        1 << subject.stage2_mode().bits,
        1 << 56,
    ]
}

pub(super) fn edges<S: Subject>(subject: &S) -> Verdict {
    /// Before each boundary, and behind it.
    const OFFSETS: [i64; 8] = [-8, -7, -4, -2, -1, 0, 1, 4];
    let boundaries = boundaries(subject);
    let places = boundaries.len() * OFFSETS.len();
    let address = |slot: usize| {
        let place = slot / ACCESSES.len();
        boundaries[place / OFFSETS.len()].wrapping_add_signed(OFFSETS[place % OFFSETS.len()])
    };
    let mut devices = 0;
    attack::<S, Riscv>(subject, 132, Pressure::Kicks, Guest::go_to_target, |sandbox, random| {
        for mode in &<Riscv as Hostile<S>>::MODES[..2] {
            let mut all = Slots {
                count: places * ACCESSES.len(),
                write: &mut |slot, _| ACCESSES[slot % ACCESSES.len()].0.to_le_bytes().to_vec(),
                register: &mut |slot, register, random| match register {
                    11 => address(slot),
                    _ => random.next(),
                },
                exit: &mut |slot, exit| {
                    let (word, bytes) = ACCESSES[slot % ACCESSES.len()];
                    let at = address(slot);
                    if let Exit::MmioRead { addr, width } | Exit::MmioWrite { addr, width, .. } =
                        exit
                    {
                        devices += 1;
                        let found = (addr.as_u64(), width.bytes() as u64);
                        ensure_eq!(found, (at, bytes), "{}: address and width", disassemble(word));
                        ensure!(at % bytes == 0, "{}: misaligned, {exit:x?}", disassemble(word));
                    }
                    Ok(())
                },
            };
            slots(sandbox, mode, random, &mut all)?;
        }
        Ok(())
    })?;
    ensure!(devices > 0, "no access was a device's");
    Ok(())
}

/// The instruction at a label of its own, `addi s3, s3, n`, is written anew for every `n`, and executed twice in a row: where
/// it is, and far away.
fn rewriting(g: &mut Guest, rounds: i64, fence: bool) {
    g.li(S0, WINDOW as i64);
    g.li(S1, 0);
    g.li(S3, 0);
    g.li(S4, 0x0009_8993); // addi s3, s3, 0
    let again = g.here_label();
    let place = g.label();
    g.slli(T0, S1, 20);
    g.add(T0, T0, S4);
    g.la(T1, place);
    g.sw(T0, 0, T1);
    g.sw(T0, 0, S0);
    if fence {
        g.fence_i();
    }
    g.bind(place);
    g.addi(S3, S3, 0);
    g.jalr(RA, 0, S0);
    g.addi(S1, S1, 1);
    g.li(T0, rounds);
    g.bne(S1, T0, again);
    g.report(S3);
}

const ROUNDS: u64 = 300;

fn rewrite<S: Subject>(subject: &S, fence: bool) -> Verdict<(Bench<S>, u64)> {
    let mut bench = Bench::boot(subject, |g| rewriting(g, ROUNDS as i64, fence))?;
    bench.space.add(WINDOW, 1, Some(Perms::RWX))?;
    bench.space.write(WINDOW, 0x8067 << 32 | 0x0009_8993)?; // and `ret`
    let sum = bench.hart().report()?;
    Ok((bench, sum))
}

pub(super) fn self_modifying<S: Subject>(subject: &S) -> Verdict {
    let (bench, sum) = rewrite(subject, true)?;
    ensure_eq!(sum, ROUNDS * (ROUNDS - 1), "the sum of what was executed");
    bench.hart().end()
}

/// Without the fence either may be executed, the instruction that was there or one that is there now, and nothing else.
pub(super) fn unfenced<S: Subject>(subject: &S) -> Verdict {
    let (bench, sum) = rewrite(subject, false)?;
    ensure!(sum <= ROUNDS * (ROUNDS - 1), "the sum of what was executed is {sum}");
    bench.hart().end()
}

/// The guest writes over the instructions behind the store, each time with other ones.
pub(super) fn next_instruction<S: Subject>(subject: &S) -> Verdict {
    const ROUNDS: usize = 80;
    let body = |g: &mut Guest| {
        let behind = g.label();
        g.la(T1, behind);
        g.sd(S2, 0, T1);
        g.bind(behind);
        g.nop();
        g.nop();
        g.fence_i();
        g.j(behind);
    };
    attack::<S, Riscv>(subject, 133, Pressure::Kicks, body, |sandbox, random| {
        for _ in 0..ROUNDS {
            sandbox.start(&[(18, random.next())])?;
            sandbox.let_go(random, behind)?;
        }
        Ok(())
    })
}

/// Stores of anything over the guest's own program, from its end down to the instruction that does it.
pub(super) fn handler<S: Subject>(subject: &S) -> Verdict {
    const ROUNDS: usize = 40;
    let body = |g: &mut Guest| {
        g.li(T1, (CODE + PAGE_SIZE) as i64);
        let again = g.here_label();
        g.addi(T1, T1, -8);
        g.sd(S2, 0, T1);
        g.ebreak();
        g.j(again);
    };
    attack::<S, Riscv>(subject, 134, Pressure::Kicks, body, |sandbox, random| {
        for round in 0..ROUNDS {
            sandbox.start(&[(18, random.next())])?;
            // Far enough for half of them to get at the handler.
            for _ in 0..1 + 10 * (round % 2) {
                sandbox.let_go(random, behind)?;
            }
        }
        Ok(())
    })
}
