//! Page tables, device accesses and code of the guest's own.

use axvcpu_arm::asm::*;
use axvcpu_stage2::{PAGE_SIZE, Perms};

use super::super::Subject;
use super::super::bench::{Arm, Bench, Trap};
use super::super::guest::*;
use super::super::paging::{SCTLR, TCR, bits, entry};
use crate::bench::{Exit, Isa};
use crate::hostile::{Hostile, Pressure, Sandbox, Slots, attack, slots};
use crate::random::Random;
use crate::report::{Verdict, ensure, ensure_eq};

const WINDOW: u64 = Arm::WINDOW;

/// Goes on behind what trapped.
fn behind(trap: &Trap, _: &mut Random) -> Option<u64> {
    Some(if trap.vector % 4 == 1 { 0 } else { trap.elr.wrapping_add(4) })
}

/// With tables anywhere the guest loads, stores, stores exclusively, asks for a translation and jumps: to where `x23` to `x26`
/// say. `x19` to `x22` are `TTBR0`, `TTBR1`, `TCR` and `MAIR`.
fn with_tables(g: &mut Guest) {
    g.msr(sys::MAIR_EL1, X22);
    g.msr(sys::TCR_EL1, X21);
    g.msr(sys::TTBR0_EL1, X19);
    g.msr(sys::TTBR1_EL1, X20);
    g.tlbi_vmalle1();
    g.dsb_ish();
    g.isb();
    g.set_sys(sys::SCTLR_EL1, SCTLR | 1 << 12 | 1 << 2 | 1);
    g.isb();
    g.ldr(X10, X23, 0);
    g.str(X10, X24, 0);
    g.ldxr(X11, X24);
    g.stxr(X12, X10, X24);
    g.at_s1e1r(X25);
    g.mrs(X13, sys::PAR_EL1);
    g.dc_civac(X25);
    g.blr(X26);
}

/// `TTBR0`, `TTBR1`, `TCR` and `MAIR`, and four addresses that are mostly of the lower half.
fn registers<S: Subject>(
    sandbox: &Sandbox<'_, S, Arm>,
    random: &mut Random,
    roots: [u64; 2],
    control: u64,
) -> [(usize, u64); 8] {
    /// The bits that tables of 39 bits translate.
    const LOWER: u64 = (1 << 39) - 1;
    let mut registers = [(0, 0); 8];
    let address = |random: &mut Random| match random.next() % 3 {
        0 => random.next() & LOWER,
        1 => !(random.next() & LOWER),
        _ => sandbox.address(random),
    };
    let values = [roots[0], roots[1], control, 0xff04 ^ random.next() & random.next()];
    for (index, register) in registers.iter_mut().enumerate() {
        let value = values.get(index).copied().unwrap_or_else(|| address(random));
        *register = (19 + index, value);
    }
    registers
}

pub(super) fn tables<S: Subject>(subject: &S) -> Verdict {
    const ROUNDS: u64 = 100;
    attack::<S, Arm>(subject, 240, Pressure::Kicks, with_tables, |sandbox, random| {
        for round in 0..ROUNDS {
            // Any control at all, and one with which tables are looked at.
            let control = match round % 4 {
                0 => random.next(),
                1 => TCR ^ 1 << (random.next() % 64),
                _ => TCR & !(1 << 23), // the upper half, too
            };
            let roots = [(); 2].map(|()| sandbox.address(random) ^ (random.next() & 1) << 48);
            let registers = registers(sandbox, random, roots, control);
            sandbox.start(&registers)?;
            sandbox.let_go(random, behind)?;
        }
        Ok(())
    })
}

/// A descriptor that leads anywhere.
fn descriptor<S: Subject>(sandbox: &Sandbox<'_, S, Arm>, random: &mut Random) -> u64 {
    let attributes = match random.next() % 4 {
        0 => random.next() & 0xffff_0000_0000_0fff,
        1 | 2 => bits::TABLE,
        _ => bits::NORMAL | 1 | random.next() & 0xc0,
    };
    let place = match random.next() % 4 {
        // One of the tables, itself among them.
        0 | 1 => WINDOW + (random.next() % 4) * PAGE_SIZE,
        // Blocks are misaligned then, more often than not.
        2 => sandbox.address(random),
        _ => random.next(),
    };
    place & 0xffff_ffff_f000 | attributes
}

/// Four pages of tables that lead to one another, to code, data, devices, nowhere and to host memory that is no guest's.
pub(super) fn entries<S: Subject>(subject: &S) -> Verdict {
    const ROUNDS: u64 = 100;
    attack::<S, Arm>(subject, 241, Pressure::Kicks, with_tables, |sandbox, random| {
        for round in 0..ROUNDS {
            for at in (WINDOW..WINDOW + 4 * PAGE_SIZE).step_by(8) {
                sandbox.bench.space.write(at, descriptor(sandbox, random))?;
            }
            // Mostly the code stays where it is, so that more than the first fetch comes of it.
            if round % 4 != 0 {
                let leaf = CODE | bits::NORMAL | bits::VALID;
                sandbox.bench.space.write(entry(WINDOW, CODE, 2), leaf)?;
            }
            let upper = WINDOW + (random.next() % 4) * PAGE_SIZE;
            let registers =
                registers(sandbox, random, [WINDOW, upper], TCR & !(1 << 23) | 25 << 16 | 2 << 30);
            sandbox.start(&registers)?;
            sandbox.let_go(random, behind)?;
        }
        Ok(())
    })
}

/// Loads and stores of every width, with the base in `x19`, and how many bytes they access; 0 for those that are no plain
/// access of one register.
const ACCESSES: [(u32, u64); 32] = [
    (0x3940_0274, 1), // ldrb w20, [x19]
    (0x7940_0274, 2), // ldrh
    (0xb940_0274, 4), // ldr w
    (0xf940_0274, 8), // ldr x
    (0x3980_0274, 1), // ldrsb x
    (0x7980_0274, 2), // ldrsh x
    (0xb980_0274, 4), // ldrsw
    (0x39c0_0274, 1), // ldrsb w
    (0x79c0_0274, 2), // ldrsh w
    (0x3900_0274, 1), // strb w20, [x19]
    (0x7900_0274, 2), // strh
    (0xb900_0274, 4), // str w
    (0xf900_0274, 8), // str x
    (0x3840_1674, 1), // ldrb w20, [x19], #1
    (0xf840_8674, 8), // ldr x20, [x19], #8
    (0xb800_4674, 4), // str w20, [x19], #4
    (0xf800_0e74, 8), // str x20, [x19, #0]!
    (0x3d40_0274, 1), // ldr b20, [x19]
    (0x7d40_0274, 2), // ldr h20
    (0xbd40_0274, 4), // ldr s20
    (0xfd40_0274, 8), // ldr d20
    (0x3dc0_0274, 0), // ldr q20
    (0xfd00_0274, 8), // str d20
    (0x3d80_0274, 0), // str q20
    (0xa940_5674, 0), // ldp x20, x21, [x19]
    (0xa900_5674, 0), // stp x20, x21, [x19]
    (0xc85f_7e74, 0), // ldxr x20, [x19]
    (0xc814_7e75, 0), // stxr w20, x21, [x19]
    (0xc8df_fe74, 8), // ldar x20, [x19]
    (0xc89f_fe74, 8), // stlr x20, [x19]
    (0xf834_0275, 0), // ldadd x20, x21, [x19]
    (0xd50b_7433, 0), // dc zva, x19
];

/// What begins or ends there: nothing at all, a device, the code, the data, the window, what stage 2 can name, and all.
fn boundaries<S: Subject>(subject: &S) -> [u64; 11] {
    [
        0,
        CODE,
        CODE + CODE_PAGES * PAGE_SIZE,
        DATA,
        DATA + DATA_PAGES * PAGE_SIZE,
        WINDOW,
        WINDOW + 4 * PAGE_SIZE,
        DEVICE,
        DEVICE + PAGE_SIZE,
        1 << subject.stage2().bits(),
        1 << 52,
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
    attack::<S, Arm>(subject, 242, Pressure::Kicks, Guest::go_to_target, |sandbox, random| {
        for mode in <Arm as Hostile<S>>::MODES {
            // Programs find everything elsewhere in tables of their own.
            let away = mode.window - WINDOW;
            let translated = mode.registers[0] != (super::TABLES, 0);
            let mut all = Slots {
                count: places * ACCESSES.len(),
                write: &mut |slot, _| ACCESSES[slot % ACCESSES.len()].0.to_le_bytes().to_vec(),
                register: &mut |slot, register, random| match register {
                    19 => address(slot).wrapping_add(away),
                    _ => random.next(),
                },
                exit: &mut |slot, exit| {
                    let (word, bytes) = ACCESSES[slot % ACCESSES.len()];
                    let at = address(slot);
                    let (Exit::MmioRead { addr, width } | Exit::MmioWrite { addr, width, .. }) =
                        exit
                    else {
                        return Ok(());
                    };
                    devices += 1;
                    // Without translation all memory is a device's, and what is misaligned an alignment fault of the guest's
                    // own (Arm ARM, D8.2.12.1). QEMU 10.0 does not look while there is a stage 2
                    // (`target/arm/tcg/hflags.c`, `aprofile_require_alignment`), and tells of the page that is missing.
                    let behind = addr.as_u64().wrapping_sub(at);
                    if !translated && (1..bytes).contains(&behind) && addr.as_u64() % PAGE_SIZE == 0
                    {
                        return Ok(());
                    }
                    let found = (addr.as_u64(), width.bytes() as u64);
                    ensure_eq!(found, (at, bytes), "{}, {word:#x}: address and width", mode.name);
                    ensure!(at % bytes == 0, "{}, {word:#x}: misaligned, {exit:x?}", mode.name);
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

const ROUNDS: u64 = 300;

/// The instruction at a label of its own, `add x21, x21, #n`, is written anew for every `n`, and executed twice in a row:
/// where it is, and far away.
fn rewrite<S: Subject>(subject: &S, announce: bool) -> Verdict<(Bench<S>, u64)> {
    const ADD: u64 = 0x9100_02b5;
    let mut bench = Bench::boot(subject, |g| {
        g.li(X19, WINDOW);
        g.li(X20, 0);
        g.li(X21, 0);
        g.li(X22, ADD);
        let again = g.here_label();
        let place = g.label();
        g.lsl(X23, X20, 10);
        g.add(X23, X23, X22);
        g.la(X24, place);
        for target in [X24, X19] {
            g.str_w(X23, target, 0);
            if announce {
                g.dc_cvau(target);
                g.dsb_ish();
                g.ic_ivau(target);
                g.dsb_ish();
            }
        }
        if announce {
            g.isb();
        }
        g.bind(place);
        g.add_imm(X21, X21, 0);
        g.blr(X19);
        g.add_imm(X20, X20, 1);
        g.cmp_imm(X20, ROUNDS as u32);
        g.b_cond(Cond::Ne, again);
        g.report(X21);
    })?;
    bench.space.add(WINDOW, 1, Some(Perms::RWX))?;
    bench.space.write(WINDOW, 0xd65f_03c0 << 32 | ADD)?; // and `ret`
    let sum = bench.hart().report()?;
    Ok((bench, sum))
}

pub(super) fn self_modifying<S: Subject>(subject: &S) -> Verdict {
    let (bench, sum) = rewrite(subject, true)?;
    ensure_eq!(sum, ROUNDS * (ROUNDS - 1), "the sum of what was executed");
    bench.hart().end()
}

/// Either may be executed, the instruction that was there or one that is there now, and nothing else.
pub(super) fn unannounced<S: Subject>(subject: &S) -> Verdict {
    let (bench, sum) = rewrite(subject, false)?;
    ensure!(sum <= ROUNDS * (ROUNDS - 1), "the sum of what was executed is {sum}");
    bench.hart().end()
}

/// The guest writes over the instructions behind the store, each time with other ones.
pub(super) fn next_instruction<S: Subject>(subject: &S) -> Verdict {
    const ROUNDS: usize = 80;
    let body = |g: &mut Guest| {
        let behind = g.label();
        g.la(X20, behind);
        g.str(X19, X20, 0);
        g.bind(behind);
        g.nop();
        g.nop();
        g.ic_iallu();
        g.dsb_ish();
        g.isb();
        g.b(behind);
    };
    attack::<S, Arm>(subject, 243, Pressure::Kicks, body, |sandbox, random| {
        for _ in 0..ROUNDS {
            sandbox.start(&[(19, random.next())])?;
            sandbox.let_go(random, behind)?;
        }
        Ok(())
    })
}

/// Stores of anything over the guest's own program, from far behind its end down to the instruction that does it.
pub(super) fn vectors<S: Subject>(subject: &S) -> Verdict {
    const ROUNDS: usize = 40;
    let body = |g: &mut Guest| {
        g.li(X20, CODE + 2 * PAGE_SIZE);
        let again = g.here_label();
        g.sub_imm(X20, X20, 8);
        g.str(X19, X20, 0);
        g.ic_iallu();
        g.brk(0);
        g.b(again);
    };
    attack::<S, Arm>(subject, 244, Pressure::Kicks, body, |sandbox, random| {
        for round in 0..ROUNDS {
            sandbox.start(&[(19, random.next())])?;
            // Far enough for half of them to get at the vectors.
            for _ in 0..1 + 20 * (round % 2) {
                sandbox.let_go(random, behind)?;
            }
        }
        Ok(())
    })
}
