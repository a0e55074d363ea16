//! The life cycle, on a backend that means it.

use axvcpu::{AxError, GuestPhysAddr, VCpuState};
use axvcpu_riscv::asm::*;
use axvcpu_riscv::csr::{cause, num, sstatus};

use super::NamedCase;
use super::Subject;
use super::bench::{Bench, Riscv};
use super::guest::*;
use crate::life;
use crate::report::{Verdict, ensure, ensure_eq};

pub(super) fn cases<S: Subject>() -> [NamedCase<S>; 10] {
    [
        ("life: every state, and what is refused in it", life::states::<S, Riscv>),
        ("life: a guest starts in VS-mode with everything off", initial_state),
        ("life: all registers can be written, and read if at all", registers_read_and_write),
        ("life: set_entry moves the guest", set_entry),
        ("life: unbinding between exits changes nothing", rebinding),
        ("life: an unanswered exit survives unbinding", rebinding_unanswered),
        ("life: reset starts the guest afresh", reset),
        ("life: reset forgets interrupts and the open exit", reset_forgets),
        ("life: dropped while bound, in every state", dropped),
        ("life: the current vCPU is none between calls", life::current::<S, Riscv>),
    ]
}

fn initial_state<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.report(A0);
        g.report_csr(num::SATP);
        g.report_csr(num::SSTATUS);
        g.report_csr(num::SIE);
        g.report_csr(num::SIP);
        g.mret(); // exists in M-mode only
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    vcpu.set_gpr(10, 0x1234)?;
    ensure_eq!(hart.report()?, 0x1234, "a0 as it was set");
    ensure_eq!(hart.report()?, 0, "satp");
    ensure_eq!(hart.report()? & sstatus::SIE, 0, "sstatus.SIE");
    ensure_eq!(hart.report()?, 0, "sie");
    ensure_eq!(hart.report()?, 0, "sip");
    let trap = hart.trap_for(cause::ILLEGAL)?;
    ensure!(trap.status & sstatus::SPP != 0, "the guest was in VU-mode");
    Ok(())
}

fn registers_read_and_write<S: Subject>(subject: &S) -> Verdict {
    let mut bench = Bench::empty(subject)?;
    // The very first instructions store all registers; there is no prologue that could use any.
    let mut asm = Asm::new(CODE);
    asm.mv(T6, T6);
    for register in registers().filter(|&register| register != T6) {
        asm.sd(register, 8 * i32::from(register.number()), T6);
    }
    asm.li(A7, END as i64);
    asm.ecall();
    let program = asm.finish().unwrap_or_default();
    bench.space.fill(CODE, &program)?;
    bench.add_hart(subject, 0)?;
    life::registers(&bench, 32, 31, Some(0))
}

fn set_entry<S: Subject>(subject: &S) -> Verdict {
    let mut second = 0;
    let bench = Bench::boot(subject, |g| {
        g.mark(1);
        g.end();
        second = g.here();
        g.mark(2);
    })?;
    life::set_entry(&bench, second)
}

fn rebinding<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.li(S0, 0);
        for step in 1..=5 {
            g.addi(S0, S0, step);
            g.csrw(num::SSCRATCH, S0);
            g.report(S0);
            g.report_csr(num::SSCRATCH);
        }
    })?;
    life::rebinding(&bench)
}

fn rebinding_unanswered<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.li(S0, DEVICE as i64);
        g.lwu(S1, 0, S0);
        g.report(S1);
    })?;
    life::rebinding_unanswered(&bench, 0x8765_4321)
}

fn reset<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        // What the last life left behind comes first.
        g.mv(S0, A0);
        g.mv(S1, A1);
        g.report(S0);
        g.report(S1);
        g.report_csr(num::SATP);
        g.report_csr(num::SIE);
        g.report_csr(num::SSTATUS);
        // Leave traces, and end in VU-mode.
        g.li(A1, 99);
        g.li(T0, 1 << 9 | 1 << 1);
        g.csrw(num::SIE, T0);
        g.csrrsi(ZERO, num::SSTATUS, 2);
        let user = g.label();
        g.la(T0, user);
        g.csrw(num::SEPC, T0);
        g.li(T0, sstatus::SPP as i64);
        g.csrrc(ZERO, num::SSTATUS, T0);
        g.sret();
        g.bind(user);
        g.li(S0, DEVICE as i64);
        g.lb(S0, 0, S0);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    for life in 0..3 {
        ensure_eq!(hart.report()?, life, "a0");
        if life == 0 {
            hart.report()?;
        } else {
            ensure_eq!(hart.report()?, 7, "a1, as set after the reset");
        }
        ensure_eq!(hart.report()?, 0, "satp");
        ensure_eq!(hart.report()?, 0, "sie");
        ensure_eq!(hart.report()? & sstatus::SIE, 0, "sstatus.SIE");
        hart.mmio_read(DEVICE, axvcpu::AccessWidth::Byte)?;
        // As a hart is started again: reset, entry, arguments.
        vcpu.reset()?;
        ensure_eq!(vcpu.state(), VCpuState::Ready, "after the reset");
        vcpu.set_entry(GuestPhysAddr::new(CODE))?;
        vcpu.set_gpr(10, life + 1)?;
        vcpu.set_gpr(11, 7)?;
    }
    Ok(())
}

fn reset_forgets<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.report_csr(num::SIP);
        g.li(S0, DEVICE as i64);
        g.lb(S1, 0, S0);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    ensure_eq!(hart.report()?, 0, "sip");
    hart.mmio_read(DEVICE, axvcpu::AccessWidth::Byte)?;
    for vector in [1, 5, 9] {
        vcpu.inject_interrupt(vector)?;
    }
    vcpu.reset()?;
    ensure_eq!(vcpu.set_return_value(1), Err(AxError::NotAsked), "an answer after the reset");
    ensure_eq!(vcpu.retry(), Err(AxError::NotAsked), "retry after the reset");
    ensure_eq!(vcpu.fail_access(), Err(AxError::NotAsked), "fail_access after the reset");
    ensure_eq!(hart.report()?, 0, "sip after the reset");
    Ok(())
}

fn dropped<S: Subject>(subject: &S) -> Verdict {
    let program = |g: &mut Guest| {
        g.mark(1);
        g.li(S0, DEVICE as i64);
        g.lw(S0, 0, S0);
        g.wfi();
        g.mark(2);
    };
    life::dropped(|| Bench::boot(subject, program))
}
