//! Loads from and stores to devices: every width, extension, register and encoding.

use axvcpu::AccessWidth::{self, Byte, Dword, Qword, Word};
use axvcpu_riscv::asm::*;
use axvcpu_riscv::csr::num;

use super::NamedCase;
use super::Subject;
use super::bench::Bench;
use super::float;
use super::guest::*;
use crate::report::{Verdict, ensure_eq};

pub(super) fn cases<S: Subject>() -> [NamedCase<S>; 15] {
    [
        ("mmio: lb into every register", |s| load_everywhere(s, Byte, true, Asm::lb)),
        ("mmio: lbu into every register", |s| load_everywhere(s, Byte, false, Asm::lbu)),
        ("mmio: lh into every register", |s| load_everywhere(s, Word, true, Asm::lh)),
        ("mmio: lhu into every register", |s| load_everywhere(s, Word, false, Asm::lhu)),
        ("mmio: lw into every register", |s| load_everywhere(s, Dword, true, Asm::lw)),
        ("mmio: lwu into every register", |s| load_everywhere(s, Dword, false, Asm::lwu)),
        ("mmio: ld into every register", |s| load_everywhere(s, Qword, false, Asm::ld)),
        ("mmio: sb, sh, sw, sd from every register", stores),
        ("mmio: compressed loads", compressed_loads),
        ("mmio: compressed stores", compressed_stores),
        ("mmio: an access changes its register only", nothing_else_changes),
        ("mmio: addresses of every alignment, and offsets", addresses),
        ("mmio: floating-point loads and stores", float::device_accesses),
        ("mmio: compressed floating-point loads and stores", float::compressed_device_accesses),
        ("mmio: floating point switched off traps before the device", float::switched_off),
    ]
}

/// What a register holds after a load.
fn extended(value: u64, width: AccessWidth, signed: bool) -> u64 {
    let unused = 64 - 8 * width.bytes() as u32;
    if signed { ((value << unused) as i64 >> unused) as u64 } else { value << unused >> unused }
}

type Load = fn(&mut Asm, X, i32, X);

fn load_everywhere<S: Subject>(
    subject: &S,
    width: AccessWidth,
    signed: bool,
    load: Load,
) -> Verdict {
    // The answers: both signs, and garbage above the width that must not arrive.
    let top = 1 << (8 * width.bytes() - 1);
    let answers = [pattern(1) | top, pattern(2) & !top, u64::MAX, !width.mask()];
    let bench = Bench::boot(subject, |g| {
        for target in (0..32).filter_map(X::new) {
            let base = if target == S0 { S1 } else { S0 };
            for _ in answers {
                g.li(base, DEVICE as i64 + 8);
                load(g, target, -8, base);
                if target == T0 {
                    g.mv(S2, T0);
                    g.save(S2, DATA);
                } else {
                    g.save(target, DATA);
                }
                g.mark(target.number().into());
            }
        }
        // The base register may be the target.
        g.li(A0, DEVICE as i64);
        load(g, A0, 0, A0);
        g.report(A0);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    for number in 0..32 {
        for answer in answers {
            hart.mmio_read(DEVICE, width)?;
            vcpu.set_return_value(answer)?;
            hart.mark(number)?;
            let expected = if number == 0 { 0 } else { extended(answer, width, signed) };
            ensure_eq!(bench.space.read(DATA)?, expected, "x{number} after the answer {answer:#x}");
        }
    }
    hart.mmio_read(DEVICE, width)?;
    vcpu.set_return_value(answers[0])?;
    ensure_eq!(hart.report()?, extended(answers[0], width, signed), "base and target the same");
    hart.end()
}

fn stores<S: Subject>(subject: &S) -> Verdict {
    type Store = fn(&mut Asm, X, i32, X);
    let all: [(AccessWidth, Store); 4] =
        [(Byte, Asm::sb), (Word, Asm::sh), (Dword, Asm::sw), (Qword, Asm::sd)];
    let bench = Bench::boot(subject, |g| {
        for (_, store) in all {
            for source in (0..32).filter_map(X::new) {
                let base = if source == S0 { S1 } else { S0 };
                g.li(source, pattern(source.number().into()) as i64);
                g.li(base, DEVICE as i64);
                store(g, source, 16, base);
            }
            // The base register may be the source.
            g.li(S0, DEVICE as i64);
            store(g, S0, 24, S0);
        }
    })?;
    let hart = bench.hart();
    for (width, _) in all {
        for number in 0..32 {
            let value = if number == 0 { 0 } else { pattern(number) };
            hart.mmio_write(DEVICE + 16, width, value & width.mask())?;
        }
        hart.mmio_write(DEVICE + 24, width, DEVICE & width.mask())?;
    }
    hart.end()
}

/// `x8` to `x15`, which is what most compressed instructions can name.
fn low_registers() -> impl Iterator<Item = X> {
    (8..16).filter_map(X::new)
}

fn compressed_loads<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        // The instruction behind a compressed one starts two bytes later: a backend that steps over four
        // loses the first half of what follows, and the mark.
        for target in low_registers() {
            let base = if target == S0 { S1 } else { S0 };
            g.li(base, DEVICE as i64);
            g.c_lw(target, 124, base);
            g.report(target);
            g.li(base, DEVICE as i64);
            g.c_ld(target, 248, base);
            g.report(target);
        }
        g.li(SP, DEVICE as i64);
        for target in registers().filter(|&register| register != SP) {
            g.c_lwsp(target, 252);
            g.report(target);
            g.c_ldsp(target, 504);
            g.report(target);
        }
        g.c_ldsp(SP, 0);
        g.report(SP);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    let answer = |addr, width, value, expected| -> Verdict {
        hart.mmio_read(addr, width)?;
        vcpu.set_return_value(value)?;
        ensure_eq!(hart.report()?, expected, "answered {value:#x}");
        Ok(())
    };
    for _ in low_registers() {
        answer(DEVICE + 124, Dword, 0x9000_0001, 0xffff_ffff_9000_0001)?;
        answer(DEVICE + 248, Qword, pattern(3), pattern(3))?;
    }
    for _ in 0..30 {
        answer(DEVICE + 252, Dword, 0x8765_4321, 0xffff_ffff_8765_4321)?;
        answer(DEVICE + 504, Qword, pattern(4), pattern(4))?;
    }
    answer(DEVICE, Qword, pattern(5), pattern(5))?;
    hart.end()
}

fn compressed_stores<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        for source in low_registers() {
            let base = if source == S0 { S1 } else { S0 };
            g.li(base, DEVICE as i64);
            g.li(source, pattern(source.number().into()) as i64);
            g.c_sw(source, 124, base);
            g.c_sd(source, 248, base);
        }
        for source in (0..32).filter_map(X::new).filter(|&register| register != SP) {
            g.li(SP, DEVICE as i64);
            g.li(source, pattern(source.number().into()) as i64);
            g.c_swsp(source, 252);
            g.c_sdsp(source, 504);
        }
    })?;
    let hart = bench.hart();
    for number in 8..16 {
        hart.mmio_write(DEVICE + 124, Dword, pattern(number) & 0xffff_ffff)?;
        hart.mmio_write(DEVICE + 248, Qword, pattern(number))?;
    }
    for number in (0..32).filter(|&number| number != 2) {
        let value = if number == 0 { 0 } else { pattern(number) };
        hart.mmio_write(DEVICE + 252, Dword, value & 0xffff_ffff)?;
        hart.mmio_write(DEVICE + 504, Qword, value)?;
    }
    hart.end()
}

fn nothing_else_changes<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        for register in registers() {
            g.li(register, pattern(register.number().into()) as i64);
        }
        g.li(T5, DATA as i64);
        g.li(T6, DEVICE as i64);
        g.lhu(A3, 0, T6);
        g.sh(A4, 0, T6);
        for register in registers() {
            g.sd(register, 8 * i32::from(register.number()), T5);
        }
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.mmio_read(DEVICE, Word)?;
    vcpu.set_return_value(0xabcd)?;
    hart.mmio_write(DEVICE, Word, pattern(14) & 0xffff)?;
    hart.end()?;
    for register in registers() {
        let number = u64::from(register.number());
        let expected = match register {
            A3 => 0xabcd,
            T5 => DATA,
            T6 => DEVICE,
            _ => pattern(number),
        };
        ensure_eq!(bench.space.read(DATA + 8 * number)?, expected, "{register}");
    }
    Ok(())
}

fn addresses<S: Subject>(subject: &S) -> Verdict {
    // Within a page: its first and last bytes, and each place an access of the width may be.
    let page = DEVICE + 0x5000;
    let places: [(AccessWidth, &[u64]); 4] = [
        (Byte, &[0, 1, 2, 3, 4, 5, 6, 7, 0xffe, 0xfff]),
        (Word, &[0, 2, 4, 6, 0xffe]),
        (Dword, &[0, 4, 8, 0xffc]),
        (Qword, &[0, 8, 0x10, 0xff8]),
    ];
    // Far away: zero, just below and beyond memory, and the last addresses stage 2 can speak of.
    let top = 1 << subject.stage2_mode().bits;
    let far = [0, 8, CODE - 8, CODE + CODE_PAGES * 4096, DATA - 8, 1 << 32, top / 2, top - 8];
    let bench = Bench::boot(subject, |g| {
        for (width, offsets) in places {
            for &offset in offsets {
                g.li(S0, (page + offset) as i64);
                match width {
                    Byte => g.lb(S1, 0, S0),
                    Word => g.lh(S1, 0, S0),
                    Dword => g.lw(S1, 0, S0),
                    Qword => g.ld(S1, 0, S0),
                }
                g.report(S1);
            }
        }
        for address in far {
            g.li(S0, address as i64);
            g.ld(S1, 0, S0);
            g.li(S1, 5);
            g.sd(S1, 0, S0);
        }
        for offset in [-2048, -1, 0, 1, 2047] {
            g.li(S0, page as i64);
            g.sb(S0, offset, S0);
        }
        g.report_csr(num::SSTATUS);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    for (width, offsets) in places {
        for &offset in offsets {
            hart.mmio_read(page + offset, width)?;
            vcpu.set_return_value(offset & 0x7f)?;
            ensure_eq!(hart.report()?, offset & 0x7f, "read at +{offset:#x}");
        }
    }
    for address in far {
        hart.mmio_read(address, Qword)?;
        vcpu.set_return_value(1)?;
        hart.mmio_write(address, Qword, 5)?;
    }
    for offset in [-2048, -1, 0, 1, 2047] {
        hart.mmio_write(page.wrapping_add_signed(offset), Byte, page & 0xff)?;
    }
    hart.report()?;
    hart.end()
}
