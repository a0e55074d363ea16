//! Page tables, device accesses and ports.

use axvcpu::AccessWidth;
use axvcpu_x86::asm::*;
use axvcpu_x86::paging::entry;
use axvcpu_x86::reg::gpr;

use super::super::Subject;
use super::super::bench::X86;
use super::super::guest::*;
use crate::bench::{Exit, Isa};
use crate::hostile::{Hostile, Pressure, Sandbox, Slots, attack, slots};
use crate::random::Random;
use crate::report::{Verdict, ensure};

const WINDOW: u64 = X86::WINDOW;

/// An entry that leads anywhere.
fn any_entry<S: Subject>(sandbox: &Sandbox<'_, S, X86>, random: &mut Random) -> u64 {
    let flags = match random.next() % 4 {
        0 => random.next() & 0xfff0_0000_0000_0fff,
        1 | 2 => entry::PRESENT | entry::WRITE | entry::USER,
        _ => entry::PRESENT | random.next() & 0xfff,
    };
    let place = match random.next() % 4 {
        // One of the tables, itself among them.
        0 | 1 => WINDOW + (random.next() % 4) * 0x1000,
        2 => sandbox.address(random),
        _ => random.next(),
    };
    place & 0x000f_ffff_ffff_f000 | flags
}

/// Four pages of tables that lead to one another, to code, data, devices, nowhere and to host memory that is no guest's.
pub(super) fn entries<S: Subject>(subject: &S) -> Verdict {
    const ROUNDS: u64 = 120;
    let body = |g: &mut Guest| {
        g.mov_to_cr(3, R12);
        g.mov(R8, mem(R13));
        g.mov(mem(R14), R8);
        g.lock().inc(qword(R13));
        g.jmp_at(R15);
    };
    attack::<S, X86>(subject, 360, Pressure::Kicks, body, |sandbox, random| {
        let space = &sandbox.bench.space;
        for round in 0..ROUNDS {
            for at in (WINDOW..WINDOW + 0x4000).step_by(8) {
                space.write(at, any_entry(sandbox, random))?;
            }
            // Mostly the first gigabyte stays where it is, with all that the guest needs, so that more than the first fetch
            // comes of it: the entries of the suite's own tables.
            if round % 4 != 0 {
                space.write(WINDOW, space.read(TABLES)?)?;
            }
            let mut registers = [(12, WINDOW); 4];
            for (register, value) in (13..).zip(&mut registers[1..]) {
                let any = random.next() & 0x0000_7fff_ffff_ffff;
                *value = (register, if random.once_in(2) { any } else { sandbox.address(random) });
            }
            sandbox.start(&registers)?;
            sandbox.let_go(random, |_, _| None)?;
        }
        Ok(())
    })
}

/// The guest writes over the instructions behind the store, each time with other ones.
pub(super) fn next_instruction<S: Subject>(subject: &S) -> Verdict {
    const ROUNDS: usize = 150;
    let body = |g: &mut Guest| {
        let behind = g.label();
        g.mov(rip(behind), R12);
        g.bind(behind);
        g.bytes(&[0x90; 16]);
        g.jmp(behind);
    };
    attack::<S, X86>(subject, 361, Pressure::Kicks, body, |sandbox, random| {
        for _ in 0..ROUNDS {
            sandbox.start(&[(12, random.next())])?;
            sandbox.let_go(random, |_, _| None)?;
        }
        Ok(())
    })
}

/// Accesses of what `r9` points to, and how many bytes they are.
const ACCESSES: [(&[u8], u64); 16] = [
    (&[0x41, 0x8a, 0x01], 1),              // mov al, [r9]
    (&[0x66, 0x41, 0x8b, 0x01], 2),        // mov ax, [r9]
    (&[0x41, 0x8b, 0x01], 4),              // mov eax, [r9]
    (&[0x49, 0x8b, 0x01], 8),              // mov rax, [r9]
    (&[0x41, 0x88, 0x01], 1),              // mov [r9], al
    (&[0x66, 0x41, 0x89, 0x01], 2),        // mov [r9], ax
    (&[0x41, 0x89, 0x01], 4),              // mov [r9], eax
    (&[0x49, 0x89, 0x01], 8),              // mov [r9], rax
    (&[0x49, 0x0f, 0xbe, 0x01], 1),        // movsx rax, byte [r9]
    (&[0x49, 0x01, 0x01], 8),              // add [r9], rax
    (&[0x49, 0x87, 0x01], 8),              // xchg [r9], rax
    (&[0xf0, 0x41, 0x0f, 0xc7, 0x09], 8),  // lock cmpxchg8b [r9]
    (&[0xf3, 0x41, 0x0f, 0x6f, 0x01], 16), // movdqu xmm0, [r9]
    (&[0xf3, 0x41, 0x0f, 0x7f, 0x01], 16), // movdqu [r9], xmm0
    (&[0x41, 0xff, 0x31], 8),              // push [r9]
    (&[0x41, 0xff, 0x21], 8),              // jmp [r9]
];

pub(super) fn edges<S: Subject>(subject: &S) -> Verdict {
    /// What begins or ends there: nothing at all, code, data, the window, a device, the first four gigabytes, and all.
    const BOUNDARIES: [u64; 10] = [
        0,
        CODE,
        CODE + 0x1000 * CODE_PAGES,
        DATA,
        DATA + 0x1000 * DATA_PAGES,
        WINDOW + 0x4000,
        DEVICE,
        DEVICE + 0x1000,
        1 << 32,
        1 << 47,
    ];
    /// Before each boundary, and behind it.
    const OFFSETS: [i64; 8] = [-16, -8, -7, -4, -1, 0, 1, 8];
    let address = |slot: usize| {
        let place = slot / ACCESSES.len();
        BOUNDARIES[place / OFFSETS.len()].wrapping_add_signed(OFFSETS[place % OFFSETS.len()])
    };
    let mut devices = 0;
    attack::<S, X86>(subject, 362, Pressure::Kicks, Guest::go_to_window, |sandbox, random| {
        for mode in <X86 as Hostile<S>>::MODES {
            let mut all = Slots {
                count: BOUNDARIES.len() * OFFSETS.len() * ACCESSES.len(),
                write: &mut |slot, _| ACCESSES[slot % ACCESSES.len()].0.to_vec(),
                register: &mut |slot, register, random| match register {
                    9 => address(slot),
                    _ => random.next(),
                },
                exit: &mut |slot, exit| {
                    if let Exit::MmioRead { addr, width } | Exit::MmioWrite { addr, width, .. } =
                        exit
                    {
                        devices += 1;
                        // What crosses a page, or is wider than a register, may come in parts.
                        let (code, bytes) = ACCESSES[slot % ACCESSES.len()];
                        let first = addr.as_u64().wrapping_sub(address(slot));
                        let last = first.wrapping_add(width.bytes() as u64);
                        ensure!(
                            first < bytes && last <= bytes,
                            "{}, {code:x?} at {:#x}: {exit:x?}",
                            mode.name,
                            address(slot)
                        );
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

/// `in` and `out` of every width at every port where something may begin or end, strings of them included, and with a prefix
/// that repeats it. A program may not.
pub(super) fn ports<S: Subject>(subject: &S) -> Verdict {
    const PORTS: [u16; 20] = [
        0, 1, 2, 3, 0x1f, 0x3f, 0x70, 0x7f, 0x80, 0xe3, 0xe5, 0xff, 0x100, 0x3ff, 0x400, 0xcf8,
        0xcff, 0xfffc, 0xfffe, 0xffff,
    ];
    /// And how wide they are.
    const ACCESSES: [(&[u8], usize); 14] = [
        (&[0xec], 1),             // in al, dx
        (&[0x66, 0xed], 2),       // in ax, dx
        (&[0xed], 4),             // in eax, dx
        (&[0x48, 0xed], 4),       // the same
        (&[0xee], 1),             // out dx, al
        (&[0x66, 0xef], 2),       // out dx, ax
        (&[0xef], 4),             // out dx, eax
        (&[0x6c], 1),             // insb
        (&[0x66, 0x6d], 2),       // insw
        (&[0x6d], 4),             // insd
        (&[0x6e], 1),             // outsb
        (&[0x6f], 4),             // outsd
        (&[0xf3, 0x6c], 1),       // rep insb
        (&[0xf3, 0x66, 0x6f], 2), // rep outsw
    ];
    /// Where strings are: in memory, across its end, at a device, where there is nothing, and at what is no address. Not in the
    /// program, or more would be accessed than is asked for.
    const STRINGS: [u64; 5] =
        [DATA, DATA + 0x1000 * DATA_PAGES - 2, DEVICE, 1 << 40, 0xdead_beef_0000_0000];
    let mut accesses = 0;
    attack::<S, X86>(subject, 363, Pressure::Kicks, Guest::go_to_window, |sandbox, random| {
        for mode in <X86 as Hostile<S>>::MODES {
            let mut all = Slots {
                count: PORTS.len() * ACCESSES.len(),
                write: &mut |slot, _| ACCESSES[slot % ACCESSES.len()].0.to_vec(),
                register: &mut |slot, register, random| match register {
                    gpr::RDX => PORTS[slot / ACCESSES.len()].into(),
                    gpr::RCX => random.next() % 8,
                    gpr::RSI | gpr::RDI => random.of(&STRINGS),
                    _ => random.next(),
                },
                exit: &mut |slot, exit| {
                    let (code, bytes) = ACCESSES[slot % ACCESSES.len()];
                    let is_asked = |port: u16, width: AccessWidth| {
                        port == PORTS[slot / ACCESSES.len()] && width.bytes() == bytes
                    };
                    // The handler's own calls are of another port.
                    if let Exit::IoRead { port, width } | Exit::IoWrite { port, width, .. } = *exit
                    {
                        if port != u16::from(PORT) {
                            accesses += 1;
                            ensure!(!mode.user, "a program has ports: {exit:x?}");
                            ensure!(is_asked(port, width), "{code:x?}: {exit:x?}");
                        }
                    }
                    Ok(())
                },
            };
            slots(sandbox, mode, random, &mut all)?;
        }
        Ok(())
    })?;
    ensure!(accesses > 0, "no port was accessed");
    Ok(())
}
