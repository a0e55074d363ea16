//! One vCPU on two physical CPUs, one after the other.

use axvcpu::Fence;
use axvcpu_arm::asm::*;
use axvcpu_stage2::Perms;

use super::NamedCase;
use super::Subject;
use super::bench::Bench;
use super::guest::*;
use crate::report::{Verdict, ensure, ensure_eq};
use crate::turns::take_turns;

pub(super) fn cases<S: Subject>() -> [NamedCase<S>; 3] {
    [
        ("migration: registers of every kind go along", registers_go_along),
        ("migration: a page taken away while the vCPU was elsewhere", pages),
        ("migration: interrupts go along", interrupts),
    ]
}

fn registers_go_along<S: Subject>(subject: &S) -> Verdict {
    /// What goes into each register: a multiple of a number that changes every round, of which it keeps this.
    const SYSTEM: [(u16, u64); 10] = [
        (sys::TPIDR_EL0, u64::MAX),
        (sys::TPIDRRO_EL0, u64::MAX),
        (sys::TPIDR_EL1, u64::MAX),
        (sys::ELR_EL1, 0xffff_fffc),
        (sys::FAR_EL1, u64::MAX >> 8),
        (sys::ESR_EL1, 0xffff_ffff),
        (sys::CONTEXTIDR_EL1, 0xffff_ffff),
        (sys::CNTV_CVAL_EL0, u64::MAX),
        (sys::CNTP_CVAL_EL0, u64::MAX),
        (sys::FPSR, 0x1f),
    ];
    const STEP: u64 = 0x1234_5678_9abc_def1;
    const GENERAL: [X; 8] = [X11, X12, X13, X14, X25, X26, X27, X28];
    let mut bench = Bench::empty(subject)?;
    bench.load(|g| {
        g.float_on();
        g.li(X19, DATA);
        g.li(X21, STEP);
        let again = g.here_label();
        g.mov(X20, X21);
        for register in float_registers() {
            g.fmov_to(register, X20);
            g.add(X20, X20, X21);
        }
        for register in GENERAL {
            g.mov(register, X20);
            g.add(X20, X20, X21);
        }
        for (register, mask) in SYSTEM {
            g.li(X9, mask);
            g.and(X9, X9, X21);
            g.msr(register, X9);
        }
        g.mark(1);
        for register in float_registers() {
            g.str_d(register, X19, 8 * u32::from(register.number()));
        }
        for (index, register) in (32..).zip(GENERAL) {
            g.str(register, X19, 8 * index);
        }
        for (index, (register, _)) in (40..).zip(SYSTEM) {
            g.mrs(X9, register);
            g.str(X9, X19, 8 * index);
        }
        g.mark(2);
        g.li(X9, STEP);
        g.add(X21, X21, X9);
        g.b(again);
    })?;
    bench.add_hart(subject, 0)?;
    let (hart, space) = (bench.hart(), &bench.space);
    take_turns(subject, 40, |turn| {
        hart.vcpu.bind()?;
        hart.mark(1 + turn as u64 % 2)?;
        hart.vcpu.unbind()?;
        if turn % 2 == 0 {
            return Ok(());
        }
        let seed = STEP.wrapping_mul(turn as u64 / 2 + 1);
        for index in 0..40 {
            let found = space.read(DATA + 8 * index)?;
            ensure_eq!(found, seed.wrapping_mul(index + 1), "register {index} in turn {turn}");
        }
        for (index, (register, mask)) in (40..).zip(SYSTEM) {
            let found = space.read(DATA + 8 * index)?;
            ensure_eq!(found, seed & mask, "register {register:#x} in turn {turn}");
        }
        Ok(())
    })
}

fn pages<S: Subject>(subject: &S) -> Verdict {
    const WINDOW: u64 = DATA + 0x10_0000;
    const FIRST: u64 = DATA + 0x20_0000;
    const SECOND: u64 = DATA + 0x20_1000;
    const TURNS: usize = 30;
    let mut bench = Bench::empty(subject)?;
    bench.load(|g| {
        g.li(X19, WINDOW);
        let again = g.here_label();
        g.ldr(X20, X19, 0);
        g.report(X20);
        g.b(again);
    })?;
    bench.space.add(FIRST, 1, None)?;
    bench.space.add(SECOND, 1, None)?;
    bench.space.write(FIRST, 0)?;
    bench.space.write(SECOND, 1)?;
    bench.add_hart(subject, 0)?;
    // Every three turns the other page, so that each CPU has seen either when it is exchanged.
    for part in 0..TURNS / 3 {
        let page = if part % 2 == 0 { FIRST } else { SECOND };
        if part > 0 {
            bench.space.unmap(WINDOW)?;
        }
        bench.space.map(WINDOW, page, Perms::RW)?;
        bench.vcpu().request_fence(Fence::STAGE2_TLB);
        let hart = bench.hart();
        // The first turn is another CPU's each time.
        take_turns(subject, 4, |turn| {
            if turn == 0 && part % 2 == 1 {
                return Ok(());
            }
            hart.vcpu.bind()?;
            for _ in 0..2 {
                let found = hart.report()?;
                ensure!(found == part as u64 % 2, "page {found} in part {part}, turn {turn}");
            }
            Ok(hart.vcpu.unbind()?)
        })?;
    }
    Ok(())
}

/// One that is active on one CPU is ended on another; others are pending all the while.
fn interrupts<S: Subject>(subject: &S) -> Verdict {
    let mut bench = Bench::empty(subject)?;
    bench.load(|g| {
        g.enable_interrupts();
        let again = g.here_label();
        g.mark(1);
        g.b(again);
    })?;
    bench.add_hart(subject, 0)?;
    let hart = bench.hart();
    take_turns(subject, 40, |turn| {
        hart.vcpu.bind()?;
        match turn % 4 {
            0 => {
                hart.mark(1)?;
                for vector in [33, 34, 35] {
                    hart.vcpu.inject_interrupt(vector)?;
                }
                hart.trap().map(drop)?;
            }
            1 | 2 => hart.trap().map(drop)?,
            _ => hart.mark(1)?,
        }
        Ok(hart.vcpu.unbind()?)
    })
}
