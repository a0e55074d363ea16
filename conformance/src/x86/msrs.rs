//! Model-specific registers: those that there are, and those that there are not.

use axvcpu::AxError;
use axvcpu_x86::asm::*;
use axvcpu_x86::reg::{gpr, msr};

use super::NamedCase;
use super::Subject;
use super::bench::{Bench, Exit};
use super::guest::*;
use crate::report::{Stop, Verdict, ensure_eq};

pub(super) fn cases<S: Subject>() -> [NamedCase<S>; 5] {
    [
        ("msr: the guest's own keep what is written", kept),
        ("msr: others are read by asking", read),
        ("msr: others are written by telling", written),
        ("msr: a failed access is a protection fault", failed),
        ("msr: unbinding while one waits for its answer", unbound),
    ]
}

/// Registers that no CPU has and no hypervisor: among those of Intel, and among those of AMD.
const NOBODYS: [u32; 3] = [0x0dea_dbee, 0xc0de_0001, 0xc001_fff3];

fn kept<S: Subject>(subject: &S) -> Verdict {
    const REGISTERS: [(u32, u64); 8] = [
        (msr::STAR, pattern_of(1)),
        (msr::LSTAR, 0xffff_8000_1234_5678),
        (msr::CSTAR, 0x7fff_1234_5678),
        (msr::SYSCALL_MASK, 0x4_7700),
        (msr::FS_BASE, 0xffff_9000_0000_1000),
        (msr::GS_BASE, 0x7fff_ffff_f000),
        (msr::KERNEL_GS_BASE, 0x1234_5678_9abc),
        (msr::PAT, 0x0007_0406_0007_0406),
    ];
    let bench = Bench::boot(subject, |g| {
        for (register, value) in REGISTERS {
            g.set_msr(register, value);
        }
        for (register, _) in REGISTERS {
            g.report_msr(register);
        }
        g.swapgs();
        g.report_msr(msr::GS_BASE);
    })?;
    for (register, value) in REGISTERS {
        ensure_eq!(bench.hart().report()?, value, "register {register:#x}");
    }
    ensure_eq!(bench.hart().report()?, 0x1234_5678_9abc, "GS's base after swapgs");
    bench.hart().end()
}

/// [`pattern`], for constants.
const fn pattern_of(number: u64) -> u64 {
    (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn needs_reports<S: Subject>(subject: &S) -> Verdict {
    if subject.reports_msrs() {
        return Ok(());
    }
    Err(Stop::Skipped("needs registers that are reported"))
}

fn read<S: Subject>(subject: &S) -> Verdict {
    needs_reports(subject)?;
    let bench = Bench::boot(subject, |g| {
        for register in NOBODYS {
            g.li(RAX, u64::MAX);
            g.li(RDX, u64::MAX);
            g.li(RCX, 0xffff_ffff_0000_0000 | u64::from(register));
            g.rdmsr();
            g.mov(R12, RAX);
            g.mov(R13, RDX);
            g.report(R12);
            g.report(R13);
        }
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    for register in NOBODYS {
        hart.exit(Exit::SysRegRead { addr: register.into() })?;
        ensure_eq!(vcpu.run(), Err(AxError::Unanswered), "running without the answer");
        vcpu.set_return_value(pattern(7))?;
        ensure_eq!(vcpu.set_return_value(1), Err(AxError::NotAsked), "a second answer");
        hart.mark(pattern(7) & 0xffff_ffff)?;
        hart.mark(pattern(7) >> 32)?;
    }
    hart.end()
}

fn written<S: Subject>(subject: &S) -> Verdict {
    needs_reports(subject)?;
    let bench = Bench::boot(subject, |g| {
        for register in NOBODYS {
            g.li(RAX, 0xffff_ffff_1234_5678);
            g.li(RDX, 0xffff_ffff_9abc_def0);
            g.li(RCX, register.into());
            g.wrmsr();
            g.report(RDX);
        }
    })?;
    for register in NOBODYS {
        let value = 0x9abc_def0_1234_5678;
        bench.hart().exit(Exit::SysRegWrite { addr: register.into(), value })?;
        let refused = bench.vcpu().set_return_value(1);
        ensure_eq!(refused, Err(AxError::NotAsked), "an answer to a write");
        bench.hart().mark(0xffff_ffff_9abc_def0)?;
    }
    bench.hart().end()
}

fn failed<S: Subject>(subject: &S) -> Verdict {
    needs_reports(subject)?;
    let mut places = [0; 3];
    let bench = Bench::boot(subject, |g| {
        g.li(RCX, NOBODYS[0].into());
        g.li(RAX, 5);
        g.li(RDX, 6);
        places[0] = g.here();
        g.rdmsr();
        places[1] = g.here();
        g.wrmsr();
        places[2] = g.here();
        g.mov(RBX, RAX);
        g.shl(RDX, 8);
        g.or(RBX, RDX);
        g.report(RBX);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    for access in 0..2 {
        hart.run()?;
        vcpu.fail_access()?;
        ensure_eq!(vcpu.set_return_value(1), Err(AxError::NotAsked), "an answer after failing it");
        let trap = hart.trap_for(vector::GP)?;
        ensure_eq!((trap.rip, trap.error), (places[access], 0), "RIP and error code");
        // The handler has kept the registers, `rax` included.
        hart.go_on_at(places[access + 1])?;
    }
    hart.mark(0x605)?;
    hart.end()
}

fn unbound<S: Subject>(subject: &S) -> Verdict {
    needs_reports(subject)?;
    let bench = Bench::boot(subject, |g| {
        for _ in 0..2 {
            g.li(R12, 7);
            g.report_msr(NOBODYS[1]);
        }
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    for round in 0..2 {
        hart.exit(Exit::SysRegRead { addr: NOBODYS[1].into() })?;
        vcpu.unbind()?;
        if round == 0 {
            vcpu.bind()?;
        }
        ensure_eq!(vcpu.get_gpr(gpr::RCX), Ok(NOBODYS[1].into()), "RCX before the answer");
        vcpu.set_return_value(pattern(round))?;
        ensure_eq!(vcpu.get_gpr(12), Ok(7), "R12 after the answer");
        if round == 1 {
            vcpu.bind()?;
        }
        hart.mark(pattern(round))?;
    }
    hart.end()
}
