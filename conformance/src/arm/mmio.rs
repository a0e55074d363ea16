//! Loads from and stores to devices: every width, extension, register and addressing mode.

use axvcpu::AccessWidth::{self, Byte, Dword, Qword, Word};
use axvcpu_arm::asm::*;

use super::NamedCase;
use super::Subject;
use super::bench::Bench;
use super::float;
use super::guest::*;
use crate::report::{Verdict, ensure_eq};

pub(super) fn cases<S: Subject>() -> [NamedCase<S>; 20] {
    [
        ("mmio: ldrb into every register", |s| load_everywhere(s, Byte, 0, Asm::ldrb)),
        ("mmio: ldrsb into every register", |s| load_everywhere(s, Byte, 64, Asm::ldrsb)),
        ("mmio: ldrsb into every w register", |s| load_everywhere(s, Byte, 32, Asm::ldrsb_w)),
        ("mmio: ldrh into every register", |s| load_everywhere(s, Word, 0, Asm::ldrh)),
        ("mmio: ldrsh into every register", |s| load_everywhere(s, Word, 64, Asm::ldrsh)),
        ("mmio: ldrsh into every w register", |s| load_everywhere(s, Word, 32, Asm::ldrsh_w)),
        ("mmio: ldr into every w register", |s| load_everywhere(s, Dword, 0, Asm::ldr_w)),
        ("mmio: ldrsw into every register", |s| load_everywhere(s, Dword, 64, Asm::ldrsw)),
        ("mmio: ldr into every register", |s| load_everywhere(s, Qword, 0, Asm::ldr)),
        ("mmio: strb, strh, str from every register", stores),
        ("mmio: unscaled offsets", unscaled),
        ("mmio: offsets in registers", register_offsets),
        ("mmio: loads that write their base back", write_back_loads),
        ("mmio: stores that write their base back", write_back_stores),
        ("mmio: the stack pointer as base, written back", stack_pointer),
        ("mmio: acquire and release", ordered),
        ("mmio: an access changes its register only", nothing_else_changes),
        ("mmio: addresses of every alignment, and far ones", addresses),
        ("mmio: floating-point loads and stores", float::device_accesses),
        ("mmio: floating point switched off traps before the device", float::switched_off),
    ]
}

/// What a register holds after a load whose value is extended by its sign to so many bits, or by zeros.
fn extended(value: u64, width: AccessWidth, signed: u32) -> u64 {
    let unused = 64 - 8 * width.bytes() as u32;
    if signed == 0 {
        return value << unused >> unused;
    }
    ((value << unused) as i64 >> unused) as u64 & u64::MAX >> (64 - signed)
}

type Load = fn(&mut Asm, X, X, u32);

fn load_everywhere<S: Subject>(
    subject: &S,
    width: AccessWidth,
    signed: u32,
    load: Load,
) -> Verdict {
    // The answers: both signs, and garbage above the width that must not arrive.
    let top = 1 << (8 * width.bytes() - 1);
    let answers = [pattern(1) | top, pattern(2) & !top, u64::MAX, !width.mask()];
    let bench = Bench::boot(subject, |g| {
        for target in (0..32).filter_map(X::new) {
            let base = if target == X19 { X20 } else { X19 };
            for _ in answers {
                g.li(base, DEVICE);
                load(g, target, base, 8);
                g.save(target, DATA);
                g.mark(u64::from(target.number()));
            }
        }
        // The base register may be the target.
        g.li(X11, DEVICE);
        load(g, X11, X11, 0);
        g.report(X11);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    for number in 0..32 {
        for answer in answers {
            hart.mmio_read(DEVICE + 8, width)?;
            vcpu.set_return_value(answer)?;
            hart.mark(number)?;
            let expected = if number == 31 { 0 } else { extended(answer, width, signed) };
            ensure_eq!(bench.space.read(DATA)?, expected, "x{number} after the answer {answer:#x}");
        }
    }
    hart.mmio_read(DEVICE, width)?;
    vcpu.set_return_value(answers[0])?;
    ensure_eq!(hart.report()?, extended(answers[0], width, signed), "base and target the same");
    hart.end()
}

fn stores<S: Subject>(subject: &S) -> Verdict {
    type Store = fn(&mut Asm, X, X, u32);
    let all: [(AccessWidth, Store); 4] =
        [(Byte, Asm::strb), (Word, Asm::strh), (Dword, Asm::str_w), (Qword, Asm::str)];
    let bench = Bench::boot(subject, |g| {
        for (_, store) in all {
            for source in (0..32).filter_map(X::new) {
                let base = if source == X19 { X20 } else { X19 };
                g.li(source, pattern(source.number().into()));
                g.li(base, DEVICE);
                store(g, source, base, 16);
            }
            // The base register may be the source.
            g.li(X19, DEVICE);
            store(g, X19, X19, 24);
        }
    })?;
    let hart = bench.hart();
    for (width, _) in all {
        for number in 0..32 {
            let value = if number == 31 { 0 } else { pattern(number) };
            hart.mmio_write(DEVICE + 16, width, value & width.mask())?;
        }
        hart.mmio_write(DEVICE + 24, width, DEVICE & width.mask())?;
    }
    hart.end()
}

fn unscaled<S: Subject>(subject: &S) -> Verdict {
    let page = DEVICE + 0x1000;
    let bench = Bench::boot(subject, |g| {
        g.li(X19, page);
        g.li(X20, pattern(3));
        g.ldurb(X21, X19, -1);
        g.report(X21);
        g.ldursh(X21, X19, -2);
        g.report(X21);
        g.ldursw(X21, X19, 252);
        g.report(X21);
        g.ldur(X21, X19, -256);
        g.report(X21);
        g.sturb(X20, X19, 255);
        g.sturh(X20, X19, -256);
        g.stur_w(X20, X19, -4);
        g.stur(X20, X19, 248);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    for (offset, width, signed) in
        [(-1, Byte, 0), (-2, Word, 64), (252, Dword, 64), (-256, Qword, 64)]
    {
        hart.mmio_read(page.wrapping_add_signed(offset), width)?;
        vcpu.set_return_value(u64::MAX << 7)?;
        ensure_eq!(hart.report()?, extended(u64::MAX << 7, width, signed), "read at {offset}");
    }
    for (offset, width) in [(255, Byte), (-256, Word), (-4, Dword), (248, Qword)] {
        let data = pattern(3) & width.mask();
        hart.mmio_write(page.wrapping_add_signed(offset), width, data)?;
    }
    hart.end()
}

fn register_offsets<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.li(X19, DEVICE);
        g.li(X20, 0x128);
        g.li(X21, pattern(4));
        g.ldr_reg(X22, X19, X20);
        g.report(X22);
        g.ldrsh_reg(X22, X19, X20);
        g.report(X22);
        g.ldrsw_reg(X22, X19, XZR);
        g.report(X22);
        g.str_reg(X21, X19, X20);
        g.strb_reg(X21, X19, X20);
        g.str_w_reg(XZR, X19, X20);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    for (at, width, signed) in
        [(DEVICE + 0x128, Qword, 0), (DEVICE + 0x128, Word, 64), (DEVICE, Dword, 64)]
    {
        hart.mmio_read(at, width)?;
        vcpu.set_return_value(pattern(5))?;
        ensure_eq!(hart.report()?, extended(pattern(5), width, signed), "read at {at:#x}");
    }
    hart.mmio_write(DEVICE + 0x128, Qword, pattern(4))?;
    hart.mmio_write(DEVICE + 0x128, Byte, pattern(4) & 0xff)?;
    hart.mmio_write(DEVICE + 0x128, Dword, 0)?;
    hart.end()
}

/// An access, how much it moves its base, and whether it does before.
type Moving = (AccessWidth, u32, bool, fn(&mut Asm, X, X, i32));

const LOADS: [Moving; 18] = [
    (Byte, 0, false, Asm::ldrb_post),
    (Byte, 64, false, Asm::ldrsb_post),
    (Byte, 32, false, Asm::ldrsb_w_post),
    (Word, 0, false, Asm::ldrh_post),
    (Word, 64, false, Asm::ldrsh_post),
    (Word, 32, false, Asm::ldrsh_w_post),
    (Dword, 0, false, Asm::ldr_w_post),
    (Dword, 64, false, Asm::ldrsw_post),
    (Qword, 0, false, Asm::ldr_post),
    (Byte, 0, true, Asm::ldrb_pre),
    (Byte, 64, true, Asm::ldrsb_pre),
    (Byte, 32, true, Asm::ldrsb_w_pre),
    (Word, 0, true, Asm::ldrh_pre),
    (Word, 64, true, Asm::ldrsh_pre),
    (Word, 32, true, Asm::ldrsh_w_pre),
    (Dword, 0, true, Asm::ldr_w_pre),
    (Dword, 64, true, Asm::ldrsw_pre),
    (Qword, 0, true, Asm::ldr_pre),
];

const STORES: [Moving; 8] = [
    (Byte, 0, false, Asm::strb_post),
    (Word, 0, false, Asm::strh_post),
    (Dword, 0, false, Asm::str_w_post),
    (Qword, 0, false, Asm::str_post),
    (Byte, 0, true, Asm::strb_pre),
    (Word, 0, true, Asm::strh_pre),
    (Dword, 0, true, Asm::str_w_pre),
    (Qword, 0, true, Asm::str_pre),
];

/// How much they move it.
const STEPS: [i32; 4] = [-256, -8, 8, 248];

/// Where an access with this step is, from a base in the midst of a page, and whether it is moved before.
fn moved(step: i32, before: bool) -> u64 {
    let base = DEVICE + 0x800;
    if before { base.wrapping_add_signed(step.into()) } else { base }
}

fn write_back_loads<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        for (.., load) in LOADS {
            for step in STEPS {
                g.li(X19, DEVICE + 0x800);
                load(g, X20, X19, step);
                g.report(X20);
                g.report(X19);
            }
        }
        g.li(X28, DEVICE + 0x800);
        g.ldr_post(XZR, X28, 8);
        g.report(X28);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    for (index, (width, signed, before, _)) in (0..).zip(LOADS) {
        for step in STEPS {
            hart.mmio_read(moved(step, before), width)?;
            let answer = pattern(index) | 0x8080_8080;
            vcpu.set_return_value(answer)?;
            ensure_eq!(hart.report()?, extended(answer, width, signed), "load {index}");
            ensure_eq!(hart.report()?, moved(step, true), "base of load {index}, step {step}");
        }
    }
    hart.mmio_read(DEVICE + 0x800, Qword)?;
    vcpu.set_return_value(1)?;
    ensure_eq!(hart.report()?, DEVICE + 0x808, "base of a load of the zero register");
    hart.end()
}

fn write_back_stores<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        for (.., store) in STORES {
            for step in STEPS {
                g.li(X19, DEVICE + 0x800);
                g.li(X20, pattern(6));
                store(g, X20, X19, step);
                g.report(X19);
            }
        }
        g.li(X28, DEVICE + 0x800);
        g.str_w_pre(XZR, X28, -4);
        g.report(X28);
    })?;
    let hart = bench.hart();
    for (index, (width, _, before, _)) in STORES.into_iter().enumerate() {
        for step in STEPS {
            hart.mmio_write(moved(step, before), width, pattern(6) & width.mask())?;
            ensure_eq!(hart.report()?, moved(step, true), "base of store {index}, step {step}");
        }
    }
    hart.mmio_write(DEVICE + 0x7fc, Dword, 0)?;
    ensure_eq!(hart.report()?, DEVICE + 0x7fc, "base of a store of the zero register");
    hart.end()
}

fn stack_pointer<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.li(X19, DEVICE + 0x800);
        g.mov_sp(SP, X19);
        g.ldr(X20, SP, 8);
        g.report(X20);
        g.str_pre(X20, SP, -16);
        g.mov_sp(X21, SP);
        g.report(X21);
        g.ldr_post(X20, SP, 32);
        g.report(X20);
        g.mov_sp(X21, SP);
        g.report(X21);
        // EL0's is another one.
        g.spsel(0);
        g.li(X19, DEVICE + 0x200);
        g.mov_sp(SP, X19);
        g.ldr_post(X20, SP, 16);
        g.mov_sp(X21, SP);
        g.spsel(1);
        g.mov_sp(X22, SP);
        g.report(X21);
        g.report(X22);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.mmio_read(DEVICE + 0x808, Qword)?;
    vcpu.set_return_value(pattern(7))?;
    hart.mark(pattern(7))?;
    hart.mmio_write(DEVICE + 0x7f0, Qword, pattern(7))?;
    hart.mark(DEVICE + 0x7f0)?;
    hart.mmio_read(DEVICE + 0x7f0, Qword)?;
    vcpu.set_return_value(pattern(8))?;
    hart.mark(pattern(8))?;
    hart.mark(DEVICE + 0x810)?;
    hart.mmio_read(DEVICE + 0x200, Qword)?;
    vcpu.set_return_value(0)?;
    hart.mark(DEVICE + 0x210)?;
    hart.mark(DEVICE + 0x810)
}

fn ordered<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.li(X19, DEVICE);
        g.ldar(X20, X19);
        g.report(X20);
        g.ldar_w(X20, X19);
        g.report(X20);
        g.li(X20, pattern(9));
        g.stlr(X20, X19);
        g.stlr_w(X20, X19);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    for width in [Qword, Dword] {
        hart.mmio_read(DEVICE, width)?;
        vcpu.set_return_value(pattern(8))?;
        ensure_eq!(hart.report()?, pattern(8) & width.mask(), "load-acquire");
    }
    for width in [Qword, Dword] {
        hart.mmio_write(DEVICE, width, pattern(9) & width.mask())?;
    }
    hart.end()
}

fn nothing_else_changes<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        for register in registers() {
            g.li(register, pattern(register.number().into()));
        }
        g.li(X29, DATA);
        g.li(X30, DEVICE);
        // All flags set.
        g.cmp(X29, X29);
        g.ldrh(X13, X30, 0);
        g.strh(X14, X30, 0);
        g.ldrb_post(X15, X30, 1);
        g.strb_pre(X16, X30, -1);
        for register in registers() {
            g.str(register, X29, 8 * u32::from(register.number()));
        }
        g.report_sys(sys::NZCV);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.mmio_read(DEVICE, Word)?;
    vcpu.set_return_value(0xabcd)?;
    hart.mmio_write(DEVICE, Word, pattern(14) & 0xffff)?;
    hart.mmio_read(DEVICE, Byte)?;
    vcpu.set_return_value(0xef)?;
    hart.mmio_write(DEVICE, Byte, pattern(16) & 0xff)?;
    ensure_eq!(hart.report()?, 6 << 28, "the flags: equal, and no borrow");
    for register in registers() {
        let number = u64::from(register.number());
        let expected = match register {
            X13 => 0xabcd,
            X15 => 0xef,
            X29 => DATA,
            X30 => DEVICE,
            _ => pattern(number),
        };
        ensure_eq!(bench.space.read(DATA + 8 * number)?, expected, "{register}");
    }
    hart.end()
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
    // Far away: zero, just below and beyond memory, and the last addresses stage 2 can speak of, as far as the CPU
    // has any.
    let top = 1u64 << subject.stage2().bits().min(40);
    let far = [0, 8, CODE - 8, CODE + CODE_PAGES * 4096, DATA - 8, 1 << 32, top / 2, top - 8];
    let bench = Bench::boot(subject, |g| {
        for (width, offsets) in places {
            for &offset in offsets {
                g.li(X19, page + offset);
                match width {
                    Byte => g.ldrb(X20, X19, 0),
                    Word => g.ldrh(X20, X19, 0),
                    Dword => g.ldr_w(X20, X19, 0),
                    Qword => g.ldr(X20, X19, 0),
                }
                g.report(X20);
            }
        }
        for address in far {
            g.li(X19, address);
            g.ldr(X20, X19, 0);
            g.li(X20, 5);
            g.str(X20, X19, 0);
        }
        for offset in [0, 1, 4095] {
            g.li(X19, page);
            g.strb(X19, X19, offset);
        }
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
    for offset in [0, 1, 4095] {
        hart.mmio_write(page + offset, Byte, page & 0xff)?;
    }
    hart.end()
}
