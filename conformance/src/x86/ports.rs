//! Ports: every width, both ways to name one, strings, and what may happen in between.

use axvcpu::AccessWidth::{self, Byte, Dword, Word};
use axvcpu::{AxError, VCpuState};
use axvcpu_x86::asm::*;
use axvcpu_x86::reg::{gpr, rflags};

use super::NamedCase;
use super::Subject;
use super::bench::{Bench, Exit, Hart};
use super::guest::*;
use crate::report::{Stop, Verdict, ensure, ensure_eq};

pub(super) fn cases<S: Subject>() -> [NamedCase<S>; 16] {
    [
        ("port: in to al, ax and eax", reads),
        ("port: out from al, ax and eax", writes),
        ("port: every number that has one bit or all", numbers),
        ("port: entering without the answer is refused", unanswered),
        ("port: registers before and after the answer", registers_around_the_answer),
        ("port: an answer given while unbound", answered_unbound),
        ("port: outs and ins without rep", single_strings),
        ("port: rep outsb, outsw and outsd, up and down", written_strings),
        ("port: rep insb, insw and insd, up and down", read_strings),
        ("port: strings of no element", empty_strings),
        ("port: strings longer than a page", long_strings),
        ("port: strings to and from two pages", straddling_strings),
        ("port: kicks, unbinding and registers within a string", interrupted_strings),
        ("port: strings to and from a device", device_strings),
        ("port: programs without the privilege", unprivileged),
        ("port: programs with the privilege", privileged),
    ]
}

const NUMBER: u16 = 0xa0c0;
const ACCUMULATORS: [(AccessWidth, Reg); 3] = [(Byte, AL), (Word, AX), (Dword, EAX)];

/// What a register holds after its part of this width was written: 32 bits clear the others.
pub(super) fn merged(before: u64, value: u64, width: AccessWidth) -> u64 {
    match width {
        Byte | Word => before & !width.mask() | value & width.mask(),
        _ => value & width.mask(),
    }
}

fn reads<S: Subject>(subject: &S) -> Verdict {
    let answers = [0, u64::MAX, pattern(1), 0x80, 0x8000, 0x8000_0000];
    let bench = Bench::boot(subject, |g| {
        for (_, register) in ACCUMULATORS {
            for (index, _) in (0..).zip(answers) {
                for by_register in [false, true] {
                    g.li(RAX, pattern(index));
                    g.li(RDX, NUMBER.into());
                    if by_register {
                        g.in_dx(register);
                    } else {
                        g.in_imm(register, 0x71);
                    }
                    g.report(RAX);
                    g.report(RDX);
                }
            }
        }
    })?;
    for (width, register) in ACCUMULATORS {
        for (index, answer) in (0..).zip(answers) {
            for port in [0x71, NUMBER] {
                bench.hart().io_read(port, width)?;
                bench.vcpu().set_return_value(answer)?;
                let expected = merged(pattern(index), answer, width);
                ensure_eq!(bench.hart().report()?, expected, "{register:?} of {answer:#x}");
                ensure_eq!(bench.hart().report()?, NUMBER.into(), "RDX");
            }
        }
    }
    bench.hart().end()
}

fn writes<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        for (_, register) in ACCUMULATORS {
            for index in 0..4 {
                g.li(RAX, pattern(index));
                g.li(RDX, NUMBER.into());
                g.out_dx(register);
                g.out_imm(0x71, register);
                g.report(RAX);
            }
        }
    })?;
    for (width, _) in ACCUMULATORS {
        for index in 0..4 {
            bench.hart().io_write(NUMBER, width, pattern(index) & width.mask())?;
            bench.hart().io_write(0x71, width, pattern(index) & width.mask())?;
            ensure_eq!(bench.hart().report()?, pattern(index), "RAX");
        }
    }
    bench.hart().end()
}

fn numbers<S: Subject>(subject: &S) -> Verdict {
    let ports = || (0..16).map(|bit| 1u16 << bit).chain([0, 0xff, 0x100, 0x7fff, u16::MAX]);
    let bench = Bench::boot(subject, |g| {
        for port in ports() {
            // Only 16 bits of the register count.
            g.li(RDX, u64::from(port) | 0xabcd_0123_0000);
            g.out_dx(AL);
            g.in_dx(AL);
        }
        for port in [0, 1, 0x80, 0xff] {
            g.out_imm(port, AX);
        }
    })?;
    for port in ports() {
        let exit = bench.hart().run()?;
        let Exit::IoWrite { port: found, width: Byte, .. } = exit else {
            crate::fail!("port {port:#x}: {exit:x?}")
        };
        ensure_eq!(found, port, "the port");
        bench.hart().io_read(port, Byte)?;
        bench.vcpu().set_return_value(port.into())?;
    }
    for port in [0, 1, 0x80, 0xff] {
        let exit = bench.hart().run()?;
        ensure!(
            matches!(exit, Exit::IoWrite { port: found, width: Word, .. } if found == port),
            "port {port:#x}: {exit:x?}"
        );
    }
    bench.hart().end()
}

fn unanswered<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.li(RDX, NUMBER.into());
        g.in_dx(EAX);
        g.report(RAX);
        g.out_dx(EAX);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.io_read(NUMBER, Dword)?;
    for _ in 0..3 {
        ensure_eq!(vcpu.run(), Err(AxError::Unanswered), "entering without the answer");
        ensure_eq!(vcpu.state(), VCpuState::Ready, "after the refusal");
    }
    vcpu.set_return_value(7)?;
    ensure_eq!(vcpu.set_return_value(8), Err(AxError::NotAsked), "a second answer");
    hart.mark(7)?;
    hart.io_write(NUMBER, Dword, REPORT)?;
    ensure_eq!(vcpu.set_return_value(8), Err(AxError::NotAsked), "an answer to a write");
    hart.end()
}

fn registers_around_the_answer<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.li(R12, 0x55);
        for _ in 0..3 {
            g.li(RAX, pattern(3));
            g.li(RDX, NUMBER.into());
            g.in_dx(AL);
            g.mov(RCX, RAX);
            call_host(g, REPORT);
        }
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    let reported = || -> Verdict<[u64; 3]> {
        let exit = hart.run()?;
        match hart.call(&exit)? {
            Some((REPORT, [_, rcx, rdx, ..])) => Ok([rcx, rdx, vcpu.get_gpr(12)?]),
            _ => crate::fail!("expected a report, found {exit:x?}"),
        }
    };
    // Reading changes nothing, before the answer and after.
    hart.io_read(NUMBER, Byte)?;
    ensure_eq!(vcpu.get_gpr(gpr::RDX), Ok(NUMBER.into()), "RDX before the answer");
    ensure_eq!(vcpu.get_gpr(12), Ok(0x55), "R12 before the answer");
    vcpu.set_return_value(0x1_23)?;
    let answered = merged(pattern(3), 0x23, Byte);
    ensure_eq!(vcpu.get_gpr(gpr::RAX), Ok(answered), "RAX after the answer");
    ensure_eq!(vcpu.get_gpr(gpr::RAX), Ok(answered), "RAX, read again");
    ensure_eq!(reported()?, [answered, NUMBER.into(), 0x55], "RAX, RDX and R12");
    // What is written before the answer stays, except for what the answer writes.
    hart.io_read(NUMBER, Byte)?;
    vcpu.set_gpr(12, 0x66)?;
    vcpu.set_gpr(gpr::RDX, 5)?;
    vcpu.set_return_value(0x45)?;
    ensure_eq!(reported()?, [merged(pattern(3), 0x45, Byte), 5, 0x66], "RAX, RDX and R12");
    // What is written after the answer stays in any case.
    hart.io_read(NUMBER, Byte)?;
    vcpu.set_return_value(0x67)?;
    vcpu.set_gpr(gpr::RAX, 8)?;
    vcpu.set_gpr(12, 0x77)?;
    ensure_eq!(reported()?, [8, NUMBER.into(), 0x77], "RAX, RDX and R12");
    hart.end()
}

fn answered_unbound<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        for _ in 0..3 {
            g.li(RAX, pattern(9));
            g.in_imm(AX, 0x71);
            g.report(RAX);
        }
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    for round in 0..3 {
        hart.io_read(0x71, Word)?;
        vcpu.unbind()?;
        if round > 0 {
            vcpu.bind()?;
            ensure_eq!(vcpu.run(), Err(AxError::Unanswered), "running without the answer");
        }
        vcpu.set_return_value(0x1234 + round)?;
        if round == 0 {
            vcpu.bind()?;
        }
        if round == 2 {
            vcpu.unbind()?;
            vcpu.bind()?;
        }
        ensure_eq!(hart.report()?, merged(pattern(9), 0x1234 + round, Word), "round {round}");
    }
    hart.end()
}

type Insn = fn(&mut Asm);
const OUTS: [(AccessWidth, Insn); 3] =
    [(Byte, Asm::outsb), (Word, Asm::outsw), (Dword, Asm::outsd)];
const INS: [(AccessWidth, Insn); 3] = [(Byte, Asm::insb), (Word, Asm::insw), (Dword, Asm::insd)];

/// A string instruction, with or without a prefix: where its first element is, how many there are, and the direction.
fn string(g: &mut Guest, insn: Insn, address: u64, count: u64, down: bool, rep: bool) {
    if down {
        g.std();
    }
    g.li(RDX, NUMBER.into());
    g.li(RSI, address);
    g.li(RDI, address);
    g.li(RCX, count);
    if rep {
        g.rep();
    }
    insn(g);
    g.cld();
}

/// The address of an element.
fn element(first: u64, index: u64, width: AccessWidth, down: bool) -> u64 {
    let offset = index * width.bytes() as u64;
    if down { first - offset } else { first + offset }
}

/// An element of guest memory.
fn memory<S: Subject>(bench: &Bench<S>, address: u64, width: AccessWidth) -> Verdict<u64> {
    let mut value = 0;
    for byte in (0..width.bytes() as u64).rev() {
        let at = address + byte;
        let word = bench.space.read(at & !7)?;
        value = value << 8 | word >> (8 * (at & 7)) & 0xff;
    }
    Ok(value)
}

/// Fills the guest's data with a pattern.
fn fill<S: Subject>(bench: &Bench<S>) -> Verdict {
    for at in (DATA..DATA + 0x1000 * DATA_PAGES).step_by(8) {
        bench.space.write(at, pattern(at))?;
    }
    Ok(())
}

/// Expects the elements of a string at the port, and what they should be.
fn written<S: Subject>(
    bench: &Bench<S>,
    first: u64,
    count: u64,
    width: AccessWidth,
    down: bool,
) -> Verdict {
    for index in 0..count {
        let expected = memory(bench, element(first, index, width, down), width)?;
        bench.hart().io_write(NUMBER, width, expected)?;
    }
    Ok(())
}

/// Answers the elements of a string with patterns. [`stored`] looks whether they arrived.
fn answer<S: Subject>(hart: &Hart<S>, count: u64, width: AccessWidth) -> Verdict {
    for index in 0..count {
        hart.io_read(NUMBER, width)?;
        hart.vcpu.set_return_value(pattern(index))?;
    }
    Ok(())
}

fn stored<S: Subject>(
    bench: &Bench<S>,
    first: u64,
    count: u64,
    width: AccessWidth,
    down: bool,
) -> Verdict {
    for index in 0..count {
        let found = memory(bench, element(first, index, width, down), width)?;
        ensure_eq!(found, pattern(index) & width.mask(), "element {index} of {width:?}");
    }
    Ok(())
}

/// Reports the registers that a string instruction moves.
fn report_string(g: &mut Guest) {
    g.mov(RBX, RCX);
    call_host(g, REPORT);
}

/// Expects the registers that a string instruction has moved.
fn moved<S: Subject>(hart: &Hart<S>, expected: [u64; 3]) -> Verdict {
    ensure_eq!(hart.report()?, expected[0], "RCX");
    let found = [hart.vcpu.get_gpr(gpr::RSI)?, hart.vcpu.get_gpr(gpr::RDI)?];
    ensure_eq!(found, [expected[1], expected[2]], "RSI and RDI");
    Ok(())
}

fn single_strings<S: Subject>(subject: &S) -> Verdict {
    const FIRST: u64 = DATA + 0x100;
    let bench = Bench::boot(subject, |g| {
        for down in [false, true] {
            for (_, insn) in OUTS.into_iter().chain(INS) {
                string(g, insn, FIRST, 5, down, false);
                report_string(g);
            }
        }
    })?;
    fill(&bench)?;
    for down in [false, true] {
        for (width, _) in OUTS {
            written(&bench, FIRST, 1, width, down)?;
            moved(bench.hart(), [5, element(FIRST, 1, width, down), FIRST])?;
        }
        for (width, _) in INS {
            answer(bench.hart(), 1, width)?;
            moved(bench.hart(), [5, FIRST, element(FIRST, 1, width, down)])?;
            stored(&bench, FIRST, 1, width, down)?;
        }
    }
    bench.hart().end()
}

fn written_strings<S: Subject>(subject: &S) -> Verdict {
    const FIRST: u64 = DATA + 0x400;
    let bench = Bench::boot(subject, |g| {
        for (_, insn) in OUTS {
            for down in [false, true] {
                for count in [1, 2, 77] {
                    string(g, insn, FIRST, count, down, true);
                    report_string(g);
                }
            }
        }
    })?;
    fill(&bench)?;
    for (width, _) in OUTS {
        for down in [false, true] {
            for count in [1, 2, 77] {
                written(&bench, FIRST, count, width, down)?;
                moved(bench.hart(), [0, element(FIRST, count, width, down), FIRST])?;
            }
        }
    }
    bench.hart().end()
}

fn read_strings<S: Subject>(subject: &S) -> Verdict {
    const FIRST: u64 = DATA + 0x400;
    let bench = Bench::boot(subject, |g| {
        for (_, insn) in INS {
            for down in [false, true] {
                for count in [1, 2, 77] {
                    string(g, insn, FIRST, count, down, true);
                    report_string(g);
                }
            }
        }
    })?;
    for (width, _) in INS {
        for down in [false, true] {
            for count in [1, 2, 77] {
                fill(&bench)?;
                let behind = element(FIRST, count, width, down);
                let before = memory(&bench, behind, width)?;
                answer(bench.hart(), count, width)?;
                moved(bench.hart(), [0, FIRST, behind])?;
                stored(&bench, FIRST, count, width, down)?;
                ensure_eq!(memory(&bench, behind, width)?, before, "what is behind the string");
            }
        }
    }
    bench.hart().end()
}

fn empty_strings<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        for (_, insn) in OUTS.into_iter().chain(INS) {
            // Where nothing is accessed there may be nothing.
            string(g, insn, DEVICE, 0, false, true);
            report_string(g);
        }
    })?;
    for _ in 0..6 {
        moved(bench.hart(), [0, DEVICE, DEVICE])?;
    }
    bench.hart().end()
}

fn long_strings<S: Subject>(subject: &S) -> Verdict {
    const FIRST: u64 = DATA + 0x40;
    const COUNT: u64 = 0x1980;
    const QUARTER: u64 = COUNT / 4;
    let bench = Bench::boot(subject, |g| {
        string(g, Asm::outsb, FIRST, COUNT, false, true);
        report_string(g);
        string(g, Asm::outsd, FIRST + COUNT, QUARTER, true, true);
        report_string(g);
        string(g, Asm::insb, FIRST, COUNT, false, true);
        report_string(g);
        string(g, Asm::insd, FIRST + COUNT, QUARTER, true, true);
        report_string(g);
    })?;
    fill(&bench)?;
    written(&bench, FIRST, COUNT, Byte, false)?;
    moved(bench.hart(), [0, FIRST + COUNT, FIRST])?;
    written(&bench, FIRST + COUNT, QUARTER, Dword, true)?;
    moved(bench.hart(), [0, FIRST, FIRST + COUNT])?;
    answer(bench.hart(), COUNT, Byte)?;
    moved(bench.hart(), [0, FIRST, FIRST + COUNT])?;
    stored(&bench, FIRST, COUNT, Byte, false)?;
    answer(bench.hart(), QUARTER, Dword)?;
    moved(bench.hart(), [0, FIRST + COUNT, FIRST])?;
    stored(&bench, FIRST + COUNT, QUARTER, Dword, true)?;
    bench.hart().end()
}

fn straddling_strings<S: Subject>(subject: &S) -> Verdict {
    // The third element is on both pages.
    const FIRST: u64 = DATA + 0x1000 - 10;
    let bench = Bench::boot(subject, |g| {
        string(g, Asm::outsd, FIRST, 6, false, true);
        report_string(g);
        string(g, Asm::insd, FIRST, 6, false, true);
        report_string(g);
    })?;
    fill(&bench)?;
    written(&bench, FIRST, 6, Dword, false)?;
    moved(bench.hart(), [0, FIRST + 24, FIRST])?;
    answer(bench.hart(), 6, Dword)?;
    moved(bench.hart(), [0, FIRST, FIRST + 24])?;
    stored(&bench, FIRST, 6, Dword, false)?;
    bench.hart().end()
}

fn interrupted_strings<S: Subject>(subject: &S) -> Verdict {
    const COUNT: u64 = 40;
    let bench = Bench::boot(subject, |g| {
        g.li(R8, pattern(8));
        string(g, Asm::insw, DATA, COUNT, false, true);
        g.report(R9);
        string(g, Asm::outsw, DATA, COUNT, false, true);
        g.report(R9);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    let interrupt = |index: u64| -> Verdict {
        match index % 5 {
            1 => {
                vcpu.unbind()?;
                vcpu.bind()?;
            }
            2 => ensure_eq!(vcpu.get_gpr(8), Ok(pattern(8)), "R8 within a string"),
            3 => vcpu.set_gpr(9, pattern(index))?,
            _ => {}
        }
        Ok(())
    };
    let kick = || -> Verdict {
        vcpu.kick();
        ensure_eq!(vcpu.run(), Ok(Exit::Nothing), "kicked within a string");
        Ok(())
    };
    for index in 0..COUNT {
        hart.io_read(NUMBER, Word)?;
        // Before the answer and behind it.
        if index < COUNT / 2 {
            interrupt(index)?;
        }
        vcpu.set_return_value(pattern(index))?;
        if index >= COUNT / 2 {
            interrupt(index)?;
        }
        if index % 5 == 4 {
            kick()?;
        }
    }
    ensure_eq!(hart.report()?, pattern(38), "R9, as written within the first string");
    stored(&bench, DATA, COUNT, Word, false)?;
    for index in 0..COUNT {
        hart.io_write(NUMBER, Word, pattern(index) & Word.mask())?;
        interrupt(index)?;
        if index % 5 == 4 {
            kick()?;
        }
    }
    ensure_eq!(hart.report()?, pattern(38), "R9, as written within the second string");
    hart.end()
}

fn device_strings<S: Subject>(subject: &S) -> Verdict {
    const COUNT: u64 = 5;
    let bench = Bench::boot(subject, |g| {
        string(g, Asm::outsd, DEVICE, COUNT, false, true);
        report_string(g);
        string(g, Asm::insd, DEVICE, COUNT, false, true);
        report_string(g);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    for index in 0..COUNT {
        hart.mmio_read(DEVICE + 4 * index, Dword)?;
        vcpu.set_return_value(pattern(index))?;
        hart.io_write(NUMBER, Dword, pattern(index) & Dword.mask())?;
    }
    moved(hart, [0, DEVICE + 4 * COUNT, DEVICE])?;
    // Elements may be read ahead, and be stored together: in order all the same.
    let (mut read, mut stored) = (0, 0);
    while stored < 4 * COUNT {
        match hart.run()? {
            Exit::IoRead { port: NUMBER, width: Dword } if read < COUNT => {
                vcpu.set_return_value(pattern(read))?;
                read += 1;
            }
            Exit::MmioWrite { addr, width, data } => {
                let place = addr.as_u64();
                ensure_eq!(place, DEVICE + stored, "where element {} is stored", stored / 4);
                for byte in 0..width.bytes() as u64 {
                    let expected = pattern(stored / 4) >> (8 * (stored % 4)) & 0xff;
                    ensure_eq!(data >> (8 * byte) & 0xff, expected, "byte {stored}");
                    stored += 1;
                }
                ensure!(stored <= 4 * read, "{stored} bytes stored after {read} elements");
            }
            exit => crate::fail!("{read} elements read, {stored} bytes stored: {exit:x?}"),
        }
    }
    moved(hart, [0, DEVICE, DEVICE + 4 * COUNT])?;
    hart.end()
}

/// Instructions that take the I/O privilege level (SDM volume 1, 20.5.1).
const PRIVILEGED: [fn(&mut Guest); 9] = [
    |g| g.in_imm(AL, 0x71),
    |g| g.out_imm(0x71, EAX),
    |g| g.in_dx(AX),
    |g| g.out_dx(AL),
    |g| g.insb(),
    |g| {
        g.rep().outsd();
    },
    |g| g.cli(),
    |g| g.sti(),
    |g| g.hlt(), // which takes CPL 0
];

/// Without the privilege, and without a bitmap that would grant ports, accesses are the guest's own fault.
fn unprivileged<S: Subject>(subject: &S) -> Verdict {
    let mut places = alloc::vec::Vec::new();
    let bench = Bench::boot(subject, |g| {
        g.li(RCX, 1);
        g.go_user(rflags::FIXED);
        for insn in PRIVILEGED {
            let from = g.here();
            insn(g);
            places.push((from, g.here()));
        }
        g.ud2();
    })?;
    let hart = bench.hart();
    for (from, behind) in places {
        let trap = hart.trap_for(vector::GP)?;
        ensure_eq!((trap.rip, trap.error), (from, 0), "RIP and error code");
        ensure_eq!(trap.cs, USER_CODE.into(), "CS");
        hart.go_on_at(behind)?;
    }
    hart.trap_for(vector::UD)?;
    Ok(())
}

/// With it they are exits like any other.
fn privileged<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.go_user(rflags::FIXED | 3 << 12);
        g.ud2();
        g.in_imm(AX, 0x71);
        g.out_imm(0x72, EAX);
        g.mark(1);
    })?;
    let hart = bench.hart();
    let trap = hart.trap_for(vector::UD)?;
    if trap.flags >> 12 & 3 != 3 {
        return Err(Stop::Skipped("needs a CPU that grants the I/O privilege to programs"));
    }
    hart.go_on_at(trap.rip + 2)?;
    hart.io_read(0x71, Word)?;
    bench.vcpu().set_return_value(5)?;
    let exit = hart.run()?;
    ensure!(
        matches!(exit, Exit::IoWrite { port: 0x72, width: Dword, data } if data & 0xffff == 5),
        "{exit:x?}"
    );
    hart.mark(1)
}
