//! What one vCPU sees of another: nothing. And what it takes along to another physical CPU: everything.

use axvcpu_stage2::Perms;
use axvcpu_x86::asm::*;
use axvcpu_x86::paging::{Size, Tables, entry};
use axvcpu_x86::reg::{cr4, msr, rflags};

use super::NamedCase;
use super::Subject;
use super::bench::{Bench, Exit};
use super::exceptions::ROOT;
use super::guest::*;
use crate::report::{Stop, Verdict, ensure_eq};
use crate::turns::{self, STEP};

pub(super) fn cases<S: Subject>() -> [NamedCase<S>; 8] {
    [
        ("isolation: general-purpose registers of vCPUs that take turns", general),
        ("isolation: model-specific registers of vCPUs that take turns", model_specific),
        ("isolation: control registers of vCPUs that take turns", control),
        ("isolation: debug registers of vCPUs that take turns", debug),
        ("isolation: x87 and SSE registers of vCPUs that take turns", float),
        ("isolation: AVX registers of vCPUs that take turns", avx),
        ("isolation: interrupts of vCPUs that take turns", interrupts),
        ("migration: registers of every kind go along", registers_go_along),
    ]
}

fn general<S: Subject>(subject: &S) -> Verdict {
    // Everything but what reporting uses and the stack: a number, plus what is the vCPU's own.
    let used = [RAX, RBX, RSP, RDI];
    let tested = || registers(Width::Qword).filter(|register| !used.contains(register));
    let bench = Bench::boot_many(subject, 3, |g| {
        for register in tested() {
            g.li(register, pattern(register.number().into()));
            g.add(register, RDI);
        }
        g.mark(1);
        let again = g.here_label();
        for register in tested() {
            g.report(register);
        }
        g.jmp(again);
    })?;
    for hart in &bench.harts {
        hart.mark(1)?;
    }
    for round in 0..3 {
        for register in tested() {
            for (number, hart) in (0..).zip(&bench.harts) {
                let expected = pattern(register.number().into()).wrapping_add(number);
                ensure_eq!(hart.report()?, expected, "{register:?} of vCPU {number} in {round}");
            }
        }
    }
    Ok(())
}

/// Two vCPUs that each put values of their own somewhere, and tell a device what they find there, for ever. `put` gets the
/// index of a value, and the value in `r13`; `get` gets the index and leaves what is there in `rbx`. In `r12` is the vCPU's
/// number. After `prepare` they are programs, if they are to be.
fn alternate<S: Subject>(
    subject: &S,
    values: &[[u64; 2]],
    programs: bool,
    prepare: impl FnOnce(&mut Guest),
    put: impl Fn(&mut Guest, usize),
    get: impl Fn(&mut Guest, usize),
) -> Verdict {
    let bench = Bench::boot_many(subject, 2, |g| {
        g.mov(R12, RDI);
        prepare(g);
        if programs {
            g.go_user(rflags::FIXED);
        }
        for (index, [first, second]) in values.iter().enumerate() {
            let own = g.label();
            g.li(R13, *first);
            g.test(R12, R12);
            g.jcc(Cond::E, own);
            g.li(R13, *second);
            g.bind(own);
            put(g, index);
        }
        let again = g.here_label();
        for index in 0..values.len() {
            get(g, index);
            g.li(RDI, DEVICE);
            g.mov(mem(RDI), RBX);
        }
        g.jmp(again);
    })?;
    for round in 0..4 {
        for (index, values) in values.iter().enumerate() {
            for (number, (hart, expected)) in bench.harts.iter().zip(values).enumerate() {
                let exit = hart.run()?;
                let Exit::MmioWrite { data, .. } = exit else {
                    if subject.emulates() && matches!(exit, Exit::InternalError { .. }) {
                        return Err(Stop::Skipped(
                            "what is below the backend does not know the instruction",
                        ));
                    }
                    crate::fail!("value {index} of vCPU {number} in {round}: {exit:x?}");
                };
                ensure_eq!(data, *expected, "value {index} of vCPU {number} in {round}");
            }
        }
        if round == 1 {
            // On and off the CPU, the other way round.
            for hart in bench.harts.iter().rev() {
                hart.vcpu.unbind()?;
                hart.vcpu.bind()?;
            }
        }
    }
    Ok(())
}

/// Writes `r13` to a model-specific register. Uses `rax`, `rcx` and `rdx`.
fn put_msr(g: &mut Guest, register: u32) {
    g.li(RCX, register.into());
    g.mov(RAX, R13);
    g.mov(RDX, R13);
    g.shr(RDX, 32);
    g.wrmsr();
}

fn model_specific<S: Subject>(subject: &S) -> Verdict {
    const REGISTERS: [u32; 7] = [
        msr::STAR,
        msr::LSTAR,
        msr::CSTAR,
        msr::SYSCALL_MASK,
        msr::FS_BASE,
        msr::GS_BASE,
        msr::KERNEL_GS_BASE,
    ];
    let values: [[u64; 2]; 7] = core::array::from_fn(|index| {
        let index = index as u64;
        // Canonical addresses, and of the mask the bits that it has.
        [0x1000, 0x1004_0000].map(|base| (base + 0x100 * index) & 0x4_7fff)
    });
    alternate(
        subject,
        &values,
        false,
        |_| {},
        |g, index| put_msr(g, REGISTERS[index]),
        |g, index| {
            g.li(RCX, REGISTERS[index].into());
            g.rdmsr();
            g.mov(EBX, EAX);
            g.shl(RDX, 32);
            g.or(RBX, RDX);
        },
    )
}

fn control<S: Subject>(subject: &S) -> Verdict {
    // CR2, CR4.TSD, and which tables there are: each has its own, which say the same.
    const TABLES_OF: [u64; 2] = [ROOT, ROOT + 0x10_0000];
    const TSD: u64 = 1 << 2;
    let bits = super::guest::START.cr4();
    let values = [[0x1234_5000, 0xffff_8888_0000_0000], [bits, bits | TSD], TABLES_OF];
    let numbers = [2, 4, 3];
    let mut bench = Bench::boot_many(subject, 2, |g| {
        g.mov(R12, RDI);
        // Wait until the tables are there.
        g.mark(0);
        for (values, number) in values.into_iter().zip(numbers) {
            let own = g.label();
            g.li(R13, values[0]);
            g.test(R12, R12);
            g.jcc(Cond::E, own);
            g.li(R13, values[1]);
            g.bind(own);
            g.mov_to_cr(number, R13);
        }
        let again = g.here_label();
        for number in numbers {
            g.report_cr(number);
        }
        g.jmp(again);
    })?;
    for root in TABLES_OF {
        let tables = Tables::identity(root, 4, Size::Large, entry::WRITE | entry::USER)?;
        bench.space.add(root, tables.as_slice().len() as u64, Some(Perms::RW))?;
        tables.write(|address, entry| bench.space.write(address, entry))?;
    }
    bench.announce();
    for hart in &bench.harts {
        hart.mark(0)?;
    }
    for round in 0..4 {
        for (values, number) in values.into_iter().zip(numbers) {
            for (hart, expected) in bench.harts.iter().zip(values) {
                let found = hart.report()?;
                // SVM lets guests see that of the host.
                let found = if number == 4 { found & !cr4::MCE } else { found };
                ensure_eq!(found, expected, "CR{number} in round {round}");
            }
        }
    }
    Ok(())
}

fn debug<S: Subject>(subject: &S) -> Verdict {
    // Addresses only: nothing is switched on.
    let values: [[u64; 2]; 4] =
        core::array::from_fn(|index| [pattern(index as u64) >> 20, 0x1000 + index as u64]);
    alternate(
        subject,
        &values,
        false,
        |_| {},
        |g, index| g.mov_to_dr(index as u8, R13),
        |g, index| g.mov_from_dr(RBX, index as u8),
    )
}

/// Where a guest puts what it moves to and from registers that it cannot reach otherwise: by its number.
const STAGE: u64 = DATA + 0x1000;

/// The stage of this vCPU, whose number is in `r12`, in `rsi`.
fn stage(g: &mut Guest) {
    g.mov(RSI, R12);
    g.shl(RSI, 8);
    g.add(RSI, STAGE as u32);
}

/// Switches SSE on.
fn sse_on(g: &mut Guest, more: u64) {
    g.mov_from_cr(RAX, 4);
    g.or(RAX, (cr4::OSFXSR | cr4::OSXMMEXCPT | more) as u32);
    g.mov_to_cr(4, RAX);
}

fn float<S: Subject>(subject: &S) -> Verdict {
    // The registers of SSE, then its status, then what is on the x87 stack.
    const MXCSR: usize = 16;
    let mut values = [[0; 2]; 18];
    for (index, values) in (0..).zip(&mut values) {
        *values = [pattern(index), pattern(100 + index)];
    }
    values[MXCSR] = [0x1f80, 0x5fa0];
    values[MXCSR + 1] = [1.5f64.to_bits(), (-2.25e100f64).to_bits()];
    let xmm = |index: usize| Xmm::new(index as u8).unwrap_or(XMM0);
    alternate(
        subject,
        &values,
        true,
        |g| {
            sse_on(g, 0);
        },
        |g, index| {
            stage(g);
            g.mov(mem(RSI), R13);
            g.mov(mem(RSI) + 8, R13);
            match index {
                MXCSR => g.ldmxcsr(mem(RSI)),
                0..MXCSR => g.movdqu_load(xmm(index), mem(RSI)),
                _ => g.fld(mem(RSI)),
            }
        },
        |g, index| {
            stage(g);
            g.li(RBX, 0);
            g.mov(mem(RSI) + 8, RBX);
            match index {
                MXCSR => {
                    g.stmxcsr(mem(RSI));
                    g.mov(EBX, mem(RSI));
                }
                0..MXCSR => {
                    g.movdqu_store(mem(RSI), xmm(index));
                    g.mov(RBX, mem(RSI) + 8);
                }
                _ => {
                    g.fstp(mem(RSI));
                    g.fld(mem(RSI));
                    g.mov(RBX, mem(RSI));
                }
            }
        },
    )
}

fn avx<S: Subject>(subject: &S) -> Verdict {
    let probe = Bench::boot(subject, |g| {
        g.li(RAX, 1);
        g.li(RCX, 0);
        g.cpuid();
        g.report(RCX);
    })?;
    // XSAVE and AVX (SDM volume 2, CPUID).
    let features = probe.hart().report()?;
    if features >> 26 & 1 == 0 || features >> 28 & 1 == 0 {
        return Err(Stop::Skipped("needs AVX"));
    }
    let mut values = [[0; 2]; 16];
    for (index, values) in (0..).zip(&mut values) {
        *values = [pattern(index), pattern(100 + index)];
    }
    let xmm = |index: usize| Xmm::new(index as u8).unwrap_or(XMM0);
    alternate(
        subject,
        &values,
        true,
        |g| {
            sse_on(g, cr4::OSXSAVE);
            g.li(RCX, 0);
            g.li(RAX, 7);
            g.li(RDX, 0);
            g.xsetbv();
        },
        |g, index| {
            stage(g);
            for offset in [0, 8, 16, 24] {
                g.mov(mem(RSI) + offset, R13);
            }
            g.vmovdqu_load(xmm(index), RSI);
        },
        |g, index| {
            stage(g);
            g.vmovdqu_store(RSI, xmm(index));
            g.mov(RBX, mem(RSI) + 24);
        },
    )
}

fn interrupts<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot_many(subject, 2, |g| {
        g.sti();
        g.report_for_ever(DATA);
    })?;
    for round in 0..20 {
        let (one, other) = (&bench.harts[round % 2], &bench.harts[1 - round % 2]);
        one.mark(0)?;
        other.mark(0)?;
        one.vcpu.inject_interrupt(100 + round)?;
        other.mark(0)?;
        one.trap_for(100 + round as u64)?;
        one.mark(0)?;
    }
    Ok(())
}

fn registers_go_along<S: Subject>(subject: &S) -> Verdict {
    /// What goes into each register: a multiple of a number that changes every round, of which it keeps this. They are
    /// told apart by the lower half of their numbers.
    const SYSTEM: [(u16, u64); 4] = [
        (msr::STAR as u16, u64::MAX),
        (msr::LSTAR as u16, 0x7fff_ffff_ffff),
        (msr::KERNEL_GS_BASE as u16, 0x7fff_ffff_ffff),
        (msr::SYSCALL_MASK as u16, 0x4_7fd5),
    ];
    let msr = |low: u16| 0xc000_0000 | u32::from(low);
    let general = [R8, R9, R10, R11, R12, R13, R14, R15];
    let xmms = || (0..16).filter_map(Xmm::new);
    let mut bench = Bench::empty(subject)?;
    bench.load(|g| {
        sse_on(g, 0);
        g.li(RSI, STEP);
        let again = g.here_label();
        g.mov(RDI, RSI);
        for index in 0..32 {
            g.mov(at(STAGE + 8 * index), RDI);
            g.add(RDI, RSI);
        }
        for xmm in xmms() {
            g.movdqu_load(xmm, at(STAGE + 16 * u64::from(xmm.number())));
        }
        for register in general {
            g.mov(register, RDI);
            g.add(RDI, RSI);
        }
        for (low, mask) in SYSTEM {
            g.li(RCX, mask);
            g.mov(RAX, RSI);
            g.and(RAX, RCX);
            g.mov(RDX, RAX);
            g.shr(RDX, 32);
            g.li(RCX, msr(low).into());
            g.wrmsr();
        }
        g.mark(1);
        for xmm in xmms() {
            g.movdqu_store(at(DATA + 16 * u64::from(xmm.number())), xmm);
        }
        for (address, register) in (DATA + 256..).step_by(8).zip(general) {
            g.mov(at(address), register);
        }
        for (address, (low, _)) in (DATA + 320..).step_by(8).zip(SYSTEM) {
            g.li(RCX, msr(low).into());
            g.rdmsr();
            g.shl(RDX, 32);
            g.or(RAX, RDX);
            g.mov(at(address), RAX);
        }
        g.mark(2);
        g.li(RAX, STEP);
        g.add(RSI, RAX);
        g.jmp(again);
    })?;
    turns::registers(subject, bench, &SYSTEM, |_, found| found)
}
