//! The life cycle, on a backend that means it.

use axvcpu::AccessWidth::Dword;
use axvcpu::{AxError, AxVCpu, GuestPhysAddr, VCpuState};
use axvcpu_stage2::Perms;
use axvcpu_x86::asm::*;
use axvcpu_x86::reg::{cr0, cr4, efer, gpr, msr, rflags};
use axvcpu_x86::start::{self, Mode, Start};

use super::NamedCase;
use super::Subject;
use super::bench::{Bench, Hart};
use super::guest::*;
use crate::bench::SetupConfig;
use crate::report::{Verdict, ensure_eq};

pub(super) fn cases<S: Subject>() -> [NamedCase<S>; 6] {
    [
        ("life: a guest starts in long mode", long_mode),
        ("life: a guest starts in protected mode", protected_mode),
        ("life: a guest starts in real mode", real_mode),
        ("life: a guest starts at the reset vector", reset_vector),
        ("life: an entry that the mode does not reach is refused", unreachable_entry),
        ("life: a reset guest finds everything off again", reset),
    ]
}

fn long_mode<S: Subject>(subject: &S) -> Verdict {
    let mut bench = Bench::empty(subject)?;
    // The very first instructions look, so that nothing was set before.
    let mut a = Asm::new(CODE);
    let segments = [Seg::Es, Seg::Cs, Seg::Ss, Seg::Ds, Seg::Fs, Seg::Gs];
    a.li(RSP, STACK);
    a.pushfq();
    a.pop(RAX);
    a.mov(at(DATA), RAX);
    for (address, number) in [(DATA + 8, 0), (DATA + 16, 3), (DATA + 24, 4)] {
        a.mov_from_cr(RAX, number);
        a.mov(at(address), RAX);
    }
    for (address, segment) in (DATA + 32..).step_by(8).zip(segments) {
        a.mov_from_seg(EAX, segment);
        a.mov(at(address), RAX);
    }
    a.sgdt(at(DATA + 0x80));
    a.li(RCX, msr::EFER.into());
    a.rdmsr();
    a.mov(EBX, EAX);
    call_host(&mut a, END);
    bench.space.fill(CODE, &finish(a)?)?;
    bench.add_bound(subject, 1)?;
    bench.vcpu().set_gpr(gpr::RSI, 0x1234)?;
    let exit = bench.hart().run()?;
    match bench.hart().call(&exit)? {
        Some((END, [ebx, _, edx, rsi, rdi, r8])) => {
            ensure_eq!((rsi, rdi, r8), (0x1234, 0, 0), "RSI as it was set, RDI and R8");
            ensure_eq!(ebx & !efer::NXE, START.efer(), "EFER");
            ensure_eq!(edx, 0, "EFER, upper half");
        }
        _ => crate::fail!("{exit:x?}"),
    }
    let found = |index: u64| bench.space.read(DATA + 8 * index);
    ensure_eq!(found(0)?, rflags::FIXED, "RFLAGS");
    ensure_eq!(found(1)?, START.cr0(), "CR0");
    ensure_eq!(found(2)?, TABLES, "CR3");
    ensure_eq!(found(3)? & !cr4::MCE, START.cr4(), "CR4");
    for (index, segment) in (4..).zip(segments) {
        let expected = if segment == Seg::Cs { start::CODE64 } else { start::DATA };
        ensure_eq!(found(index)?, expected.into(), "{segment:?}");
    }
    let (low, high) = (found(16)?, found(17)?);
    let (base, limit) = START.gdtr();
    ensure_eq!((low & 0xffff, low >> 16 | high << 48), (limit.into(), base), "GDTR");
    Ok(())
}

/// Makes a vCPU that starts in a way of its own.
fn add<S: Subject>(
    bench: &mut Bench<S>,
    subject: &S,
    entry: u64,
    config: SetupConfig<S>,
) -> Verdict {
    let config_of_new = subject.create_config(&bench.machine)?;
    bench.harts.push(Hart::new(AxVCpu::new(1, bench.harts.len(), 0, None, config_of_new)?));
    bench.setup_with(bench.harts.len() - 1, entry, config)?;
    Ok(())
}

/// Runs a vCPU to its report, and gives the arguments of that.
fn reported<S: Subject>(hart: &Hart<S>) -> Verdict<[u64; 6]> {
    let exit = hart.run()?;
    match hart.call(&exit)? {
        Some((REPORT, arguments)) => Ok(arguments),
        _ => crate::fail!("expected a report, found {exit:x?}"),
    }
}

fn protected_mode<S: Subject>(subject: &S) -> Verdict {
    // These instructions are the same in code of 32 bits.
    let mut a = Asm::new(CODE);
    a.li(RSP, STACK);
    a.pushfq();
    a.pop(RDI);
    a.mov_from_cr(RBX, 0);
    a.mov_from_cr(RSI, 4);
    a.mov_from_seg(ECX, Seg::Cs);
    a.mov_from_seg(EDX, Seg::Ss);
    call_host(&mut a, REPORT);
    // Its last instruction has an operand of 32 bits here, and addresses wrap around.
    a.mov_from_seg(ECX, Seg::Gs);
    a.li(RBX, DATA - 0x1000);
    a.mov(dword(RBX) + 0x1000, ECX);
    call_host(&mut a, REPORT);
    let mut bench = Bench::empty(subject)?;
    bench.space.fill(CODE, &finish(a)?)?;
    let start = Start { mode: Mode::Protected, gdt: START_GDT, cr3: 0 };
    add(&mut bench, subject, CODE, subject.setup_for(start))?;
    bench.vcpu().bind()?;
    let [rbx, rcx, rdx, rsi, rdi, _] = reported(bench.hart())?;
    ensure_eq!((rcx, rdx), (start::CODE32.into(), start::DATA.into()), "CS and SS");
    ensure_eq!((rbx, rsi & !cr4::MCE), (start.cr0(), start.cr4()), "CR0 and CR4");
    ensure_eq!(rdi, rflags::FIXED, "EFLAGS");
    reported(bench.hart())?;
    ensure_eq!(bench.space.read(DATA)?, start::DATA.into(), "GS, in memory");
    Ok(())
}

/// 16-bit code: `mov ebx, cr0`; CS, DS and SS to `cx`, `dx` and `si`; the word at DS:0x0500 to `di`; and the report.
const REAL_PROGRAM: [u8; 28] = [
    0x0f, 0x20, 0xc3, 0x8c, 0xc9, 0x8c, 0xda, 0x8c, 0xd6, 0x8b, 0x3e, 0x00,
    0x05, // and the call:
    0x66, 0xb8, 0x01, 0x00, 0x00, 0x0a, 0x66, 0xe7, PORT, // then, for ever:
    0xf4, 0xeb, 0xfd, 0x90, 0x90, 0x90,
];

fn real_mode<S: Subject>(subject: &S) -> Verdict {
    for (entry, cs) in [(0x7c00, 0), (0x8_1234, 0x8000)] {
        let mut bench = Bench::empty(subject)?;
        bench.space.add(0, 1, Some(Perms::RW))?;
        bench.space.write(0x500, 0x4321)?;
        bench.space.add(entry & !0xfff, 1, Some(Perms::RWX))?;
        bench.space.fill(entry, &REAL_PROGRAM)?;
        add(&mut bench, subject, entry, subject.setup_for(Start::REAL))?;
        bench.vcpu().bind()?;
        for life in 0..2 {
            let [rbx, rcx, rdx, rsi, rdi, _] = reported(bench.hart())?;
            ensure_eq!(rbx, Start::REAL.cr0(), "CR0 in life {life} at {entry:#x}");
            ensure_eq!((rcx, rdx, rsi), (cs, 0, 0), "CS, DS and SS in life {life} at {entry:#x}");
            ensure_eq!(rdi, 0x4321, "what is in memory, in life {life}");
            bench.hart().halt()?;
            bench.vcpu().reset()?;
            bench.vcpu().wake();
            bench.vcpu().set_entry(GuestPhysAddr::new(entry))?;
        }
    }
    Ok(())
}

fn reset_vector<S: Subject>(subject: &S) -> Verdict {
    const ENTRY: u64 = axvcpu_x86::start::RESET_VECTOR;
    let mut bench = Bench::empty(subject)?;
    bench.space.add(ENTRY & !0xfff, 1, Some(Perms::RX))?;
    // CS to `cx`, and the call.
    bench.space.fill(ENTRY, &[0x8c, 0xc9])?;
    bench.space.fill(ENTRY + 2, &REAL_PROGRAM[13..25])?;
    add(&mut bench, subject, ENTRY, subject.setup_config())?;
    bench.vcpu().bind()?;
    let [_, rcx, ..] = reported(bench.hart())?;
    ensure_eq!(rcx, 0xf000, "CS");
    bench.hart().halt()?;
    Ok(())
}

fn unreachable_entry<S: Subject>(subject: &S) -> Verdict {
    let real: (Start, &[u64]) = (Start::REAL, &[0x10_0000, 0xffff_ffef, 1 << 32]);
    let protected = Start { mode: Mode::Protected, gdt: START_GDT, cr3: 0 };
    for (start, entries) in [real, (protected, &[1 << 32, u64::MAX])] {
        let mut bench = Bench::empty(subject)?;
        bench.space.add(0x7000, 1, Some(Perms::RWX))?;
        bench.space.fill(0x7000, &[0xb0, 1, 0xe6, PORT])?; // mov al, 1; out PORT, al
        add(&mut bench, subject, 0x7000, subject.setup_for(start))?;
        for &entry in entries {
            let refused = bench.vcpu().set_entry(GuestPhysAddr::new(entry));
            ensure_eq!(refused, Err(AxError::InvalidInput), "{entry:#x} in {:?}", start.mode);
        }
        // What was refused has changed nothing.
        bench.vcpu().bind()?;
        bench.hart().io_write(PORT.into(), axvcpu::AccessWidth::Byte, 1)?;
    }
    Ok(())
}

fn reset<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        // What the last life left behind comes first.
        g.mov(R12, RAX);
        g.mov(R13, R9);
        g.pushfq();
        g.pop(R14);
        g.report(R12);
        g.report(R13);
        g.report(R14);
        g.report_cr(0);
        g.report_cr(2);
        g.report_cr(4);
        g.report_msr(msr::EFER);
        g.report_msr(msr::KERNEL_GS_BASE);
        g.report_msr(msr::LSTAR);
        g.mov_from_dr(RBX, 0);
        g.report(RBX);
        // Leave traces, and end at CPL 3.
        g.li(R9, 99);
        g.li(RAX, DEVICE);
        g.mov_to_cr(2, RAX);
        g.mov_to_dr(0, RAX);
        g.mov_from_cr(RAX, 4);
        g.or(RAX, (cr4::PGE | cr4::OSFXSR) as u32);
        g.mov_to_cr(4, RAX);
        g.mov_from_cr(RAX, 0);
        g.or(RAX, cr0::WP as u32);
        g.mov_to_cr(0, RAX);
        g.set_msr(msr::EFER, efer::SCE | efer::LME | efer::NXE);
        g.set_msr(msr::KERNEL_GS_BASE, 0x1234_5678);
        g.set_msr(msr::LSTAR, CODE);
        g.go_user(rflags::FIXED | rflags::IF);
        g.li(RSI, DEVICE);
        g.mov(EAX, mem(RSI));
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    for life in 0..3 {
        ensure_eq!(hart.report()?, life, "RAX");
        let r9 = hart.report()?;
        ensure_eq!(r9, if life == 0 { 0 } else { 7 }, "R9, as set after the reset");
        // The program's first instructions have set others.
        ensure_eq!(hart.report()? & (rflags::IF | 3 << 12), 0, "RFLAGS.IF and IOPL");
        ensure_eq!(hart.report()?, START.cr0(), "CR0 in life {life}");
        ensure_eq!(hart.report()?, 0, "CR2 in life {life}");
        ensure_eq!(hart.report()? & !cr4::MCE, START.cr4(), "CR4 in life {life}");
        ensure_eq!(hart.report()?, START.efer(), "EFER in life {life}");
        ensure_eq!(hart.report()?, 0, "KERNEL_GS_BASE in life {life}");
        ensure_eq!(hart.report()?, 0, "LSTAR in life {life}");
        ensure_eq!(hart.report()?, 0, "DR0 in life {life}");
        hart.mmio_read(DEVICE, Dword)?;
        // As a CPU is started again: reset, entry, argument.
        vcpu.reset()?;
        ensure_eq!(vcpu.state(), VCpuState::Ready, "after the reset");
        vcpu.set_entry(GuestPhysAddr::new(CODE))?;
        vcpu.set_gpr(gpr::RAX, life + 1)?;
        vcpu.set_gpr(9, 7)?;
    }
    Ok(())
}
