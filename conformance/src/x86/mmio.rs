//! Loads from and stores to devices: every width, extension, register and way to name an address.

use axvcpu::AccessWidth::{self, Byte, Dword, Qword, Word};
use axvcpu_x86::asm::*;
use axvcpu_x86::paging::{Size, Tables, entry};

use super::NamedCase;
use super::Subject;
use super::bench::{Bench, Exit, Hart};
use super::guest::*;
use super::ports::merged;
use crate::report::{Verdict, ensure, ensure_eq};

pub(super) fn cases<S: Subject>() -> [NamedCase<S>; 12] {
    [
        ("mmio: mov into every register", loads),
        ("mmio: mov from every register", stores),
        ("mmio: movzx and movsx into every register", extensions),
        ("mmio: mov of numbers", numbers),
        ("mmio: mov between the accumulator and an address", accumulator),
        ("mmio: every form of address", forms),
        ("mmio: arithmetic with a device as the source", arithmetic),
        ("mmio: a device is read, changed and written", changes),
        ("mmio: exchanges are a read and a write", exchanges),
        ("mmio: push, pop, call and jump", stack),
        ("mmio: movs, stos and lods", strings),
        ("mmio: addresses far up", far_up),
    ]
}

pub(super) const WIDTHS: [(AccessWidth, Width); 4] =
    [(Byte, Width::Byte), (Word, Width::Word), (Dword, Width::Dword), (Qword, Width::Qword)];

/// A register that `register` is not a part of.
fn other_than(register: Reg) -> Reg {
    if register.number() == RSI.number() { R11 } else { RSI }
}

/// Stores a register in data, and marks a number.
fn save(g: &mut Guest, register: Reg, number: u64) {
    let register = register.of(Width::Qword);
    g.mov(at(DATA), register);
    // The stack is needed for nothing that the suite does.
    g.mark(number);
}

/// Answers with both signs, and with garbage above the width, which must not arrive.
fn answers(width: AccessWidth) -> [u64; 4] {
    let top = 1 << (8 * width.bytes() - 1);
    [pattern(1) | top, pattern(2) & !top, u64::MAX, !width.mask()]
}

fn loads<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        for (access, width) in WIDTHS {
            for register in registers(width) {
                let base = other_than(register);
                for _ in answers(access) {
                    g.li(register.of(Width::Qword), pattern(5));
                    g.li(base, DEVICE - 8);
                    g.mov(register, mem(base) + 8);
                    save(g, register, register.number().into());
                }
            }
        }
        // The second byte of a register.
        for (register, whole) in [(AH, RAX), (CH, RCX), (DH, RDX), (BH, RBX)] {
            g.li(whole, pattern(5));
            g.li(RSI, DEVICE);
            g.mov(register, mem(RSI));
            save(g, whole, 1);
        }
        // The base may be the target.
        g.li(RAX, DEVICE);
        g.mov(RAX, mem(RAX));
        g.report(RAX);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    for (access, width) in WIDTHS {
        for register in registers(width) {
            for answer in answers(access) {
                hart.mmio_read(DEVICE, access)?;
                vcpu.set_return_value(answer)?;
                hart.mark(register.number().into())?;
                let expected = merged(pattern(5), answer, access);
                ensure_eq!(bench.space.read(DATA)?, expected, "{register:?} after {answer:#x}");
            }
        }
    }
    for _ in 0..4 {
        hart.mmio_read(DEVICE, Byte)?;
        vcpu.set_return_value(0x1aa)?;
        hart.mark(1)?;
        let expected = pattern(5) & !0xff00 | 0xaa00;
        ensure_eq!(bench.space.read(DATA)?, expected, "the second byte");
    }
    hart.mmio_read(DEVICE, Qword)?;
    vcpu.set_return_value(pattern(3))?;
    hart.mark(pattern(3))?;
    hart.end()
}

fn stores<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        for (_, width) in WIDTHS {
            for register in registers(width) {
                let base = other_than(register);
                g.li(base, DEVICE);
                g.li(register.of(Width::Qword), pattern(register.number().into()));
                g.mov(mem(base) + 16, register);
            }
        }
        for register in [AH, CH, DH, BH] {
            g.li(register.of(Width::Qword), 0);
            for whole in [RAX, RCX, RDX, RBX] {
                g.li(whole, pattern(6));
            }
            g.li(RSI, DEVICE);
            g.mov(mem(RSI), register);
        }
        // The base may be the source.
        g.li(RAX, DEVICE);
        g.mov(mem(RAX), RAX);
    })?;
    let hart = bench.hart();
    for (access, width) in WIDTHS {
        for register in registers(width) {
            let value = pattern(register.number().into()) & access.mask();
            hart.mmio_write(DEVICE + 16, access, value)?;
        }
    }
    for _ in 0..4 {
        hart.mmio_write(DEVICE, Byte, pattern(6) >> 8 & 0xff)?;
    }
    hart.mmio_write(DEVICE, Qword, DEVICE)?;
    hart.end()
}

/// What a register of a width holds after a load that extends.
fn extended(before: u64, value: u64, from: AccessWidth, to: AccessWidth, signed: bool) -> u64 {
    let unused = 64 - 8 * from.bytes() as u32;
    let value =
        if signed { ((value << unused) as i64 >> unused) as u64 } else { value & from.mask() };
    merged(before, value, to)
}

fn extensions<S: Subject>(subject: &S) -> Verdict {
    type Extend = fn(&mut Asm, Reg, Mem);
    const ALL: [(AccessWidth, bool, usize, Extend); 5] = [
        (Byte, false, 1, |a, to, from| a.movzx(to, from.of(Width::Byte))),
        (Byte, true, 1, |a, to, from| a.movsx(to, from.of(Width::Byte))),
        (Word, false, 2, |a, to, from| a.movzx(to, from.of(Width::Word))),
        (Word, true, 2, |a, to, from| a.movsx(to, from.of(Width::Word))),
        (Dword, true, 3, |a, to, from| a.movsxd(to, from)),
    ];
    let cases = || {
        ALL.into_iter().flat_map(|(from, signed, first, insn)| {
            WIDTHS.into_iter().skip(first).flat_map(move |(access, width)| {
                registers(width).map(move |register| (from, signed, insn, access, register))
            })
        })
    };
    let answers = |from: AccessWidth| [pattern(1) | 1 << (8 * from.bytes() - 1), 0x55];
    let bench = Bench::boot(subject, |g| {
        for (from, _, insn, _, register) in cases() {
            let base = other_than(register);
            for _ in answers(from) {
                g.li(register.of(Width::Qword), pattern(5));
                g.li(base, DEVICE);
                insn(g, register, mem(base));
                save(g, register, 3);
            }
        }
    })?;
    for (from, signed, _, access, register) in cases() {
        for answer in answers(from) {
            bench.hart().mmio_read(DEVICE, from)?;
            bench.vcpu().set_return_value(answer)?;
            bench.hart().mark(3)?;
            let expected = extended(pattern(5), answer, from, access, signed);
            let found = bench.space.read(DATA)?;
            ensure_eq!(found, expected, "{register:?} of {from:?}, signed {signed}, {answer:#x}");
        }
    }
    bench.hart().end()
}

fn numbers<S: Subject>(subject: &S) -> Verdict {
    const VALUES: [i32; 4] = [0x12, -1, 0x7f, -128];
    let bench = Bench::boot(subject, |g| {
        g.li(RSI, DEVICE);
        for (_, width) in WIDTHS {
            for value in VALUES {
                g.mov(mem(RSI).of(width), value);
            }
        }
        g.mov(qword(RSI), 0x1234_5678);
        g.mov(qword(RSI), i32::MIN);
    })?;
    for (access, _) in WIDTHS {
        for value in VALUES {
            bench.hart().mmio_write(DEVICE, access, i64::from(value) as u64 & access.mask())?;
        }
    }
    bench.hart().mmio_write(DEVICE, Qword, 0x1234_5678)?;
    bench.hart().mmio_write(DEVICE, Qword, i64::from(i32::MIN) as u64)?;
    bench.hart().end()
}

fn accumulator<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        for (_, width) in WIDTHS {
            g.li(RAX, pattern(1));
            g.mov_from(RAX.of(width), DEVICE + 8);
            g.mov_into(DEVICE + 24, RAX);
            g.mov_into(DEVICE + 32, RAX.of(width));
        }
    })?;
    for (access, _) in WIDTHS {
        bench.hart().mmio_read(DEVICE + 8, access)?;
        bench.vcpu().set_return_value(pattern(2))?;
        let expected = merged(pattern(1), pattern(2), access);
        bench.hart().mmio_write(DEVICE + 24, Qword, expected)?;
        bench.hart().mmio_write(DEVICE + 32, access, expected & access.mask())?;
    }
    bench.hart().end()
}

fn forms<S: Subject>(subject: &S) -> Verdict {
    const DISPLACEMENTS: [i32; 5] = [0, 8, -8, 0x1000, -0x2000];
    /// Where nothing is either, within the reach of displacements.
    const NEAR: u64 = 0x7000_0000;
    let pairs = || {
        registers(Width::Qword).filter(|&base| base != RSP && base != RAX).flat_map(|base| {
            let index = if base == R9 { RBX } else { R9 };
            [(base, index), (index, base)]
        })
    };
    let bench = Bench::boot(subject, |g| {
        // A base alone, every one of them.
        for base in registers(Width::Qword) {
            let value = if base == RAX { RCX } else { RAX };
            for disp in DISPLACEMENTS {
                g.li(base, DEVICE.wrapping_sub(i64::from(disp) as u64));
                g.li(value, 0x77);
                g.mov(mem(base) + disp, value.of(Width::Dword));
            }
        }
        g.li(RAX, 0x78);
        for (base, index) in pairs() {
            for scale in [1, 2, 4, 8] {
                g.li(base, DEVICE - 16 * u64::from(scale) - 4);
                g.li(index, 16);
                g.mov(mem(base).index(index, scale) + 4, EAX);
            }
        }
        // An index alone, the address of a label, and 32 bits of an address.
        g.li(RBX, DEVICE / 8);
        g.mov(abs(0).index(RBX, 8), EAX);
        g.li(RBX, 0x1234_5678_0000_0000 | DEVICE);
        g.mov(mem(EBX), EAX);
        g.li(R9, 0xffff_ffff);
        g.mov(mem(EBX).index(R9D, 1) + 1, EAX);
        let distance = NEAR - g.here();
        let here = g.here_label();
        g.mov(rip(here) + distance as i32, EAX);
        g.mov(at(NEAR), EAX);
    })?;
    for _ in registers(Width::Qword) {
        for _ in DISPLACEMENTS {
            bench.hart().mmio_write(DEVICE, Dword, 0x77)?;
        }
    }
    for _ in 0..4 * pairs().count() + 3 {
        bench.hart().mmio_write(DEVICE, Dword, 0x78)?;
    }
    for _ in 0..2 {
        bench.hart().mmio_write(NEAR, Dword, 0x78)?;
    }
    bench.hart().end()
}

fn arithmetic<S: Subject>(subject: &S) -> Verdict {
    type Operation = (fn(&mut Guest, Reg, Mem), fn(u64, u64) -> u64);
    const ALL: [Operation; 5] = [
        (|g, to, from| g.add(to, from), u64::wrapping_add),
        (|g, to, from| g.sub(to, from), u64::wrapping_sub),
        (|g, to, from| g.and(to, from), |a, b| a & b),
        (|g, to, from| g.or(to, from), |a, b| a | b),
        (|g, to, from| g.xor(to, from), |a, b| a ^ b),
    ];
    let bench = Bench::boot(subject, |g| {
        g.li(RSI, DEVICE);
        for (_, width) in WIDTHS {
            for (insn, _) in ALL {
                g.li(R9, pattern(1));
                insn(g, R9.of(width), mem(RSI));
                g.report(R9);
            }
            // For the flags only.
            g.li(R9, 5);
            g.cmp(mem(RSI), R9.of(width));
            g.li(RBX, 0);
            g.setcc(Cond::E, BL);
            g.report(RBX);
            g.test(mem(RSI).of(width), 4);
            g.li(RBX, 0);
            g.setcc(Cond::Ne, BL);
            g.report(RBX);
        }
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    for (access, _) in WIDTHS {
        for (_, operation) in ALL {
            hart.mmio_read(DEVICE, access)?;
            vcpu.set_return_value(pattern(2))?;
            let expected = merged(pattern(1), operation(pattern(1), pattern(2)), access);
            hart.mark(expected)?;
        }
        for _ in 0..2 {
            hart.mmio_read(DEVICE, access)?;
            vcpu.set_return_value(5)?;
            hart.mark(1)?;
        }
    }
    hart.end()
}

/// Expects a device to be read and written.
fn updated<S: Subject>(hart: &Hart<S>, width: AccessWidth, found: u64, left: u64) -> Verdict {
    hart.mmio_read(DEVICE, width)?;
    hart.vcpu.set_return_value(found)?;
    hart.mmio_write(DEVICE, width, left & width.mask())
}

fn changes<S: Subject>(subject: &S) -> Verdict {
    type Operation = (fn(&mut Guest, Mem), fn(u64) -> u64);
    const ALL: [Operation; 7] = [
        (|g, at| g.inc(at), |a| a.wrapping_add(1)),
        (|g, at| g.dec(at), |a| a.wrapping_sub(1)),
        (|g, at| g.not(at), |a| !a),
        (|g, at| g.neg(at), u64::wrapping_neg),
        (|g, at| g.add(at, 0x11), |a| a.wrapping_add(0x11)),
        (|g, at| g.or(at, 0x11), |a| a | 0x11),
        (|g, at| g.shl(at, 3), |a| a << 3),
    ];
    let bench = Bench::boot(subject, |g| {
        g.li(RSI, DEVICE);
        g.li(RCX, pattern(4));
        for (_, width) in WIDTHS {
            for (insn, _) in ALL {
                insn(g, mem(RSI).of(width));
            }
            g.sub(mem(RSI), RCX.of(width));
            g.lock().add(mem(RSI), RCX.of(width));
            g.lock().inc(mem(RSI).of(width));
        }
    })?;
    for (access, _) in WIDTHS {
        for (_, operation) in ALL {
            updated(bench.hart(), access, pattern(3), operation(pattern(3) & access.mask()))?;
        }
        updated(bench.hart(), access, pattern(3), pattern(3).wrapping_sub(pattern(4)))?;
        updated(bench.hart(), access, pattern(3), pattern(3).wrapping_add(pattern(4)))?;
        updated(bench.hart(), access, pattern(3), pattern(3).wrapping_add(1))?;
    }
    bench.hart().end()
}

fn exchanges<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.li(RSI, DEVICE);
        for (_, width) in WIDTHS {
            g.li(R9, pattern(1));
            g.xchg(mem(RSI), R9.of(width));
            g.report(R9);
            g.li(R9, pattern(1));
            g.lock().xadd(mem(RSI), R9.of(width));
            g.report(R9);
            for (expected, locked) in [(pattern(2), true), (pattern(7), false)] {
                g.li(RAX, expected);
                g.li(R9, pattern(1));
                if locked {
                    g.lock();
                }
                g.cmpxchg(mem(RSI), R9.of(width));
                g.report(RAX);
            }
        }
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    for (access, _) in WIDTHS {
        let (old, new) = (pattern(2), pattern(1));
        updated(hart, access, old, new)?;
        hart.mark(merged(new, old, access))?;
        updated(hart, access, old, old.wrapping_add(new))?;
        hart.mark(merged(new, old, access))?;
        updated(hart, access, old, new)?;
        hart.mark(old)?;
        // What differs is left as it is. The CPU writes it back, or not at all.
        hart.mmio_read(DEVICE, access)?;
        vcpu.set_return_value(old)?;
        let mut exit = hart.run()?;
        if let Exit::MmioWrite { addr, width, data } = exit {
            let found = (addr.as_u64(), width, data);
            ensure_eq!(found, (DEVICE, access, old & access.mask()), "written back");
            exit = hart.run()?;
        }
        match hart.call(&exit)? {
            Some((REPORT, [rax, ..])) => {
                ensure_eq!(rax, merged(pattern(7), old, access), "the accumulator");
            }
            _ => crate::fail!("expected a report, found {exit:x?}"),
        }
    }
    hart.end()
}

fn stack<S: Subject>(subject: &S) -> Verdict {
    let mut behind = 0;
    let bench = Bench::boot(subject, |g| {
        let (function, other) = (g.label(), g.label());
        g.li(RSP, DEVICE + 0x100);
        g.li(RBX, pattern(1));
        g.push(RBX);
        g.pop(R9);
        g.report(R9);
        g.push(0x1234);
        g.pushfq();
        g.li(RSI, DEVICE);
        g.li(RSP, STACK);
        g.push(mem(RSI) + 8);
        g.pop(R9);
        g.report(R9);
        g.push(RSI);
        g.pop(qword(RSI));
        g.li(RSP, DEVICE + 0x100);
        g.call(function);
        behind = g.here();
        g.mark(3);
        g.jmp_at(mem(RSI) + 16);
        g.bind(function);
        g.ret();
        g.bind(other);
        g.mark(4);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    let top = DEVICE + 0xf8;
    hart.mmio_write(top, Qword, pattern(1))?;
    hart.mmio_read(top, Qword)?;
    vcpu.set_return_value(pattern(2))?;
    hart.mark(pattern(2))?;
    hart.mmio_write(top, Qword, 0x1234)?;
    let exit = hart.run()?;
    ensure!(
        matches!(exit, Exit::MmioWrite { addr, width: Qword, .. } if addr.as_u64() == top - 8),
        "pushfq: {exit:x?}"
    );
    hart.mmio_read(DEVICE + 8, Qword)?;
    vcpu.set_return_value(pattern(3))?;
    hart.mark(pattern(3))?;
    hart.mmio_write(DEVICE, Qword, DEVICE)?;
    hart.mmio_write(top, Qword, behind)?;
    hart.mmio_read(top, Qword)?;
    vcpu.set_return_value(behind)?;
    hart.mark(3)?;
    // The mark takes two instructions of 5 and 2 bytes behind its number's 5, the jump 3 and the return 1.
    hart.mmio_read(DEVICE + 16, Qword)?;
    vcpu.set_return_value(behind + 5 + 5 + 2 + 3 + 1)?;
    hart.mark(4)
}

fn strings<S: Subject>(subject: &S) -> Verdict {
    type Three = [fn(&mut Asm); 3];
    const ALL: [(AccessWidth, Three); 4] = [
        (Byte, [Asm::movsb, Asm::stosb, Asm::lodsb]),
        (Word, [Asm::movsw, Asm::stosw, Asm::lodsw]),
        (Dword, [Asm::movsd, Asm::stosd, Asm::lodsd]),
        (Qword, [Asm::movsq, Asm::stosq, Asm::lodsq]),
    ];
    let bench = Bench::boot(subject, |g| {
        for (_, [movs, stos, lods]) in ALL {
            g.li(RAX, pattern(1));
            g.li(RSI, DEVICE);
            g.li(RDI, DEVICE + 0x40);
            movs(g);
            stos(g);
            lods(g);
            g.report(RAX);
            // Down, from memory to the device and back.
            g.std();
            g.li(RSI, DATA + 0x20);
            movs(g);
            g.li(RSI, DEVICE);
            g.li(RDI, DATA + 0x40);
            movs(g);
            g.cld();
            g.mov(RBX, RDI);
            g.report(RBX);
        }
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    bench.space.write(DATA + 0x20, pattern(9))?;
    for (width, _) in ALL {
        let bytes = width.bytes() as u64;
        hart.mmio_read(DEVICE, width)?;
        vcpu.set_return_value(pattern(2))?;
        hart.mmio_write(DEVICE + 0x40, width, pattern(2) & width.mask())?;
        hart.mmio_write(DEVICE + 0x40 + bytes, width, pattern(1) & width.mask())?;
        hart.mmio_read(DEVICE + bytes, width)?;
        vcpu.set_return_value(pattern(3))?;
        hart.mark(merged(pattern(1), pattern(3), width))?;
        hart.mmio_write(DEVICE + 0x40 + 2 * bytes, width, pattern(9) & width.mask())?;
        hart.mmio_read(DEVICE, width)?;
        vcpu.set_return_value(pattern(4))?;
        hart.mark(DATA + 0x40 - bytes)?;
        let found = bench.space.read(DATA + 0x40)?;
        ensure_eq!(found & width.mask(), pattern(4) & width.mask(), "what was stored");
    }
    hart.end()
}

fn far_up<S: Subject>(subject: &S) -> Verdict {
    const ROOT: u64 = 0x90_0000;
    const VIRTUAL: u64 = 0xffff_ff00_0000_0000;
    // The highest of 36 bits, which the smallest CPUs of 64 bits have.
    const PLACES: [u64; 4] = [1 << 32, 0x1_2345_6000, 0x8_0000_0000, 0xf_ffff_f000];
    let mut bench = Bench::boot(subject, |g| {
        g.li(RAX, ROOT);
        g.mov_to_cr(3, RAX);
        for (index, _) in (0..).zip(PLACES) {
            g.li(RSI, VIRTUAL + 0x1000 * index);
            g.mov(R9D, mem(RSI) + 0x10);
            g.mov(mem(RSI) + 0xff8, R9);
        }
    })?;
    let mut tables = Tables::identity(ROOT, 4, Size::Large, entry::WRITE | entry::USER)?;
    for (address, to) in (VIRTUAL..).step_by(0x1000).zip(PLACES) {
        tables.map(address, to, Size::Small, entry::WRITE)?;
    }
    bench.space.add(ROOT, tables.as_slice().len() as u64, Some(axvcpu_stage2::Perms::RW))?;
    tables.write(|address, entry| bench.space.write(address, entry))?;
    bench.announce();
    for place in PLACES {
        bench.hart().mmio_read(place + 0x10, Dword)?;
        bench.vcpu().set_return_value(pattern(place))?;
        bench.hart().mmio_write(place + 0xff8, Qword, pattern(place) & 0xffff_ffff)?;
    }
    bench.hart().end()
}
