//! System registers: what they say, whose they are, and what happens to the rest.

use axvcpu::AxError;
use axvcpu_arm::asm::*;
use axvcpu_stage2::PAGE_SIZE;

use super::NamedCase;
use super::Subject;
use super::bench::{Bench, Exit};
use super::guest::*;
use crate::report::{Verdict, ensure, ensure_eq, fail};

pub(super) fn cases<S: Subject>() -> [NamedCase<S>; 11] {
    [
        ("registers: identification can be read", identification),
        ("registers: features that are not the guest's are hidden", hidden),
        ("registers: what is said to be absent is undefined", absent),
        ("registers: the number of the CPU", numbers),
        ("registers: EL2's are undefined", of_el2),
        ("registers: debug registers are there and do nothing", debug),
        ("registers: performance monitors are absent or read as zero", monitors),
        ("registers: implementation-defined ones are the hypervisor's", reads),
        ("registers: an answer goes to the register that was named", targets),
        ("registers: implementation-defined ones are written to the hypervisor", writes),
        ("registers: what the hypervisor fails is undefined", failed),
    ]
}

/// The field of four bits from `low` on.
fn field(value: u64, low: u32) -> u64 {
    value >> low & 15
}

/// The identification registers with this CRm and op2.
fn id(crm: u16, op2: u16) -> u16 {
    sys::reg(3, 0, 0, crm, op2)
}

/// What all identification registers say, by 8 * CRm + op2; read twice by each of two vCPUs.
fn all_identification<S: Subject>(subject: &S) -> Verdict<[u64; 64]> {
    let bench = Bench::boot_many(subject, 2, |g| {
        g.lsl(X19, X0, 12);
        g.li(X20, DATA);
        g.add(X19, X19, X20);
        for part in 0..2 {
            for crm in 1..8 {
                for op2 in 0..8 {
                    let index = 512 * part + 64 * u32::from(crm) + 8 * u32::from(op2);
                    g.mrs(X21, id(crm, op2));
                    g.str(X21, X19, index);
                }
            }
        }
    })?;
    for hart in &bench.harts {
        hart.end()?;
    }
    let mut all = [0; 64];
    for (index, value) in (0..).zip(&mut all) {
        *value = bench.space.read(DATA + 8 * index)?;
        for again in [512, PAGE_SIZE, PAGE_SIZE + 512] {
            let found = bench.space.read(DATA + again + 8 * index)?;
            ensure_eq!(found, *value, "CRm {}, op2 {}, read again", index / 8, index % 8);
        }
    }
    Ok(all)
}

fn identification<S: Subject>(subject: &S) -> Verdict {
    all_identification(subject)?;
    let others = [
        sys::MIDR_EL1,
        sys::REVIDR_EL1,
        sys::CTR_EL0,
        sys::DCZID_EL0,
        sys::reg(3, 1, 0, 0, 0), // CCSIDR_EL1
        sys::reg(3, 1, 0, 0, 1), // CLIDR_EL1
        sys::reg(3, 1, 0, 0, 7), // AIDR_EL1
        sys::ACTLR_EL1,
        sys::AFSR0_EL1,
        sys::AFSR1_EL1,
        sys::AMAIR_EL1,
    ];
    let bench = Bench::boot(subject, |g| {
        g.set_sys(sys::CSSELR_EL1, 0);
        g.isb();
        for register in others {
            g.report_sys(register);
        }
    })?;
    let mut values = [0; 11];
    for value in &mut values {
        *value = bench.hart().report()?;
    }
    ensure!(values[0] != 0, "MIDR is zero");
    ensure!(values[2] != 0, "CTR is zero");
    bench.hart().end()
}

fn hidden<S: Subject>(subject: &S) -> Verdict {
    let all = all_identification(subject)?;
    let [pfr0, pfr1, dfr0] = [8 * 4, 8 * 4 + 1, 8 * 5].map(|index| all[index]);
    let [mmfr1, mmfr2] = [8 * 7 + 1, 8 * 7 + 2].map(|index| all[index]);
    for (value, low, name) in [
        (pfr0, 8, "EL2"),
        (pfr0, 28, "RAS"),
        (pfr0, 40, "MPAM"),
        (pfr0, 44, "activity monitors"),
        (pfr0, 52, "realms"),
        (pfr1, 8, "memory tagging"),
        (pfr1, 12, "RAS, fraction"),
        (pfr1, 24, "SME"),
        (dfr0, 4, "trace"),
        (dfr0, 8, "performance monitors"),
        (dfr0, 32, "statistical profiling"),
        (dfr0, 40, "self-hosted trace"),
        (dfr0, 44, "trace buffer"),
        (dfr0, 52, "branch records"),
        (mmfr1, 8, "virtualization host extensions"),
        (mmfr2, 24, "nested virtualization"),
    ] {
        ensure_eq!(field(value, low), 0, "{name}");
    }
    ensure!(field(pfr0, 0) >= 1 && field(pfr0, 4) >= 1, "no EL0 or EL1: {pfr0:#x}");
    ensure!(field(pfr0, 24) != 0, "the CPU interface has no system registers: {pfr0:#x}");
    ensure_eq!(field(dfr0, 0), 6, "the debug architecture");
    Ok(())
}

fn absent<S: Subject>(subject: &S) -> Verdict {
    let all = all_identification(subject)?;
    let (pfr0, pfr1) = (all[8 * 4], all[8 * 4 + 1]);
    // An instruction, and whether it has to be there.
    let mut tries: [(&str, u32, bool); 8] = [
        ("rdvl (SVE)", 0x04bf_5035, field(pfr0, 32) != 0),
        ("mrs zcr_el1 (SVE)", 0, field(pfr0, 32) != 0),
        ("rdsvl (SME)", 0x04bf_5835, field(pfr1, 24) != 0),
        ("mrs smcr_el1 (SME)", 0, field(pfr1, 24) != 0),
        ("mrs tfsr_el1 (MTE)", 0, field(pfr1, 8) >= 2),
        ("mrs gcr_el1 (MTE)", 0, field(pfr1, 8) >= 2),
        ("mrs erridr_el1 (RAS)", 0, field(pfr0, 28) != 0),
        ("mrs pmscr_el1 (profiling)", 0, false),
    ];
    let registers = [
        (1, sys::reg(3, 0, 1, 2, 0)),
        (3, sys::reg(3, 0, 1, 2, 6)),
        (4, sys::reg(3, 0, 5, 6, 0)),
        (5, sys::reg(3, 0, 1, 0, 6)),
        (6, sys::reg(3, 0, 5, 3, 0)),
        (7, sys::reg(3, 0, 9, 9, 0)),
    ];
    for (index, register) in registers {
        tries[index].1 = 0xd520_0000 | u32::from(register) << 5 | 21;
    }
    let mut at = 0;
    let bench = Bench::boot(subject, |g| {
        // Everything that EL1 can allow: floating point, SVE, SME.
        g.set_sys(sys::CPACR_EL1, 3 << 20 | 3 << 16 | 3 << 24);
        g.isb();
        at = g.here();
        for (_, word, _) in tries {
            g.word(word);
        }
    })?;
    let mut undefined = [false; 8];
    loop {
        match bench.hart().run()? {
            Exit::Hypercall { nr: END, .. } => break,
            Exit::Hypercall { nr: TRAP, args: [vector, esr, elr, ..], .. } => {
                let index = elr.wrapping_sub(at) as usize / 4;
                ensure!(index < tries.len(), "a trap at {elr:#x}");
                let name = tries[index].0;
                ensure_eq!((vector, esr >> 26), (vector::SYNC, 0), "{name}: vector and class");
                undefined[index] = true;
                bench.vcpu().set_return_value(elr + 4)?;
            }
            exit => fail!("{exit:x?}"),
        }
    }
    for ((name, _, there), undefined) in tries.into_iter().zip(undefined) {
        ensure_eq!(undefined, !there, "{name}: undefined");
    }
    Ok(())
}

fn numbers<S: Subject>(subject: &S) -> Verdict {
    for id in [0, 1, 15, 16, 17, 35] {
        let mut bench = Bench::empty(subject)?;
        bench.load(|g| g.report_sys(sys::MPIDR_EL1))?;
        bench.add_hart(subject, id)?;
        bench.vcpu().bind()?;
        let expected = 1 << 31 | (id as u64 >> 4) << 8 | (id as u64 & 15);
        ensure_eq!(bench.hart().report()?, expected, "MPIDR of vCPU {id}");
    }
    Ok(())
}

fn of_el2<S: Subject>(subject: &S) -> Verdict {
    let registers = [
        sys::HCR_EL2,
        sys::VTTBR_EL2,
        sys::reg(3, 4, 1, 0, 0),   // SCTLR_EL2
        sys::reg(3, 4, 2, 1, 2),   // VTCR_EL2
        sys::reg(3, 4, 4, 0, 1),   // ELR_EL2
        sys::reg(3, 4, 4, 1, 0),   // SP_EL1
        sys::reg(3, 4, 12, 0, 0),  // VBAR_EL2
        sys::reg(3, 4, 12, 11, 0), // ICH_HCR_EL2
        sys::reg(3, 4, 12, 12, 0), // ICH_LR0_EL2
        sys::reg(3, 4, 14, 0, 3),  // CNTVOFF_EL2
        sys::reg(3, 5, 1, 0, 0),   // SCTLR_EL12
        sys::reg(3, 5, 14, 3, 1),  // CNTV_CTL_EL02
        sys::reg(3, 6, 1, 1, 0),   // SCR_EL3
    ];
    let mut at = 0;
    let bench = Bench::boot(subject, |g| {
        at = g.here();
        for register in registers {
            g.mrs(X20, register);
            g.msr(register, X20);
        }
        g.mark(1);
    })?;
    for elr in (at..).step_by(4).take(2 * registers.len()) {
        bench.hart().undefined(elr)?;
    }
    bench.hart().mark(1)
}

fn debug<S: Subject>(subject: &S) -> Verdict {
    // What a kernel does when it starts: nothing of it may trap.
    let bench = Bench::boot(subject, |g| {
        g.set_sys(sys::OSDLR_EL1, 0);
        g.set_sys(sys::OSLAR_EL1, 0);
        g.isb();
        g.report_sys(sys::OSLSR_EL1);
        g.set_sys(sys::MDSCR_EL1, 0);
        g.set_sys(sys::DBGBCR0_EL1, 0);
        g.set_sys(sys::DBGBVR0_EL1, 0);
        g.isb();
        for register in [sys::MDSCR_EL1, sys::DBGBCR0_EL1, sys::DBGBVR0_EL1] {
            g.report_sys(register);
        }
        // A breakpoint instruction is the guest's own.
        g.brk(5);
        g.mark(1);
    })?;
    let hart = bench.hart();
    ensure_eq!(hart.report()? & 2, 0, "OSLSR.OSLK, unlocked");
    for name in ["MDSCR", "DBGBCR0", "DBGBVR0"] {
        ensure_eq!(hart.report()?, 0, "{name}");
    }
    let trap = hart.exception(class::BRK)?;
    ensure_eq!(trap.esr & 0xffff, 5, "the number of the breakpoint");
    bench.vcpu().set_return_value(trap.elr + 4)?;
    hart.mark(1)
}

fn monitors<S: Subject>(subject: &S) -> Verdict {
    let registers =
        [sys::PMCR_EL0, sys::PMCNTENSET_EL0, sys::PMCCNTR_EL0, sys::PMUSERENR_EL0, sys::PMSIDR_EL1];
    let mut at = 0;
    let bench = Bench::boot(subject, |g| {
        at = g.here();
        for (index, register) in (0..).zip(registers) {
            g.movz(X20, index, 0);
            g.li(X21, 0);
            g.msr(register, X21);
            g.mrs(X21, register);
            g.report(X21);
        }
    })?;
    let mut found = 0;
    loop {
        match bench.hart().run()? {
            Exit::Hypercall { nr: END, .. } => break,
            Exit::Hypercall { nr: TRAP, args: [vector, esr, elr, ..], .. } => {
                ensure_eq!((vector, esr >> 26), (vector::SYNC, 0), "vector and class at {elr:#x}");
                bench.vcpu().set_return_value(elr + 4)?;
            }
            Exit::Hypercall { nr: REPORT, args, .. } => {
                ensure_eq!(args[0], 0, "register {found}");
                found += 1;
            }
            exit => fail!("{exit:x?}"),
        }
    }
    ensure_eq!(found, registers.len(), "registers");
    Ok(())
}

/// Implementation-defined registers (Arm ARM, D22.3.3): CRn 11 and 15.
const IMPLEMENTATION: [u16; 5] = [
    sys::reg(3, 0, 15, 0, 0),
    sys::reg(3, 1, 15, 2, 0),
    sys::reg(3, 1, 11, 0, 2),
    sys::reg(3, 3, 15, 12, 7),
    sys::reg(3, 0, 11, 15, 1),
];

fn reads<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        for register in IMPLEMENTATION {
            g.mrs(X20, register);
            g.report(X20);
        }
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    for (index, register) in (0..).zip(IMPLEMENTATION) {
        let expected = Exit::SysRegRead { addr: register.into() };
        ensure_eq!(hart.run()?, expected, "a read of {register:#x}");
        ensure_eq!(vcpu.run(), Err(AxError::Unanswered), "entering without the answer");
        vcpu.set_return_value(pattern(index))?;
        hart.mark(pattern(index))?;
    }
    hart.end()
}

fn targets<S: Subject>(subject: &S) -> Verdict {
    let register = IMPLEMENTATION[0];
    let bench = Bench::boot(subject, |g| {
        for target in (0..32).filter_map(X::new) {
            g.mrs(target, register);
            g.save(target, DATA);
            g.mark(u64::from(target.number()));
        }
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    for number in 0..32 {
        ensure_eq!(hart.run()?, Exit::SysRegRead { addr: register.into() }, "a read");
        vcpu.set_return_value(pattern(number))?;
        hart.mark(number)?;
        let expected = if number == 31 { 0 } else { pattern(number) };
        ensure_eq!(bench.space.read(DATA)?, expected, "x{number}");
    }
    hart.end()
}

fn writes<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        for (index, register) in (0..).zip(IMPLEMENTATION) {
            g.li(X20, pattern(index));
            g.msr(register, X20);
            g.msr(register, XZR);
        }
        g.mark(1);
    })?;
    for (index, register) in (0..).zip(IMPLEMENTATION) {
        for value in [pattern(index), 0] {
            let expected = Exit::SysRegWrite { addr: register.into(), value };
            ensure_eq!(bench.hart().run()?, expected, "a write of {register:#x}");
            let refused = Err(AxError::NotAsked);
            ensure_eq!(bench.vcpu().set_return_value(1), refused, "an answer to a write");
        }
    }
    bench.hart().mark(1)
}

fn failed<S: Subject>(subject: &S) -> Verdict {
    let register = IMPLEMENTATION[1];
    let mut at = 0;
    let bench = Bench::boot(subject, |g| {
        g.li(X20, 0x55);
        at = g.here();
        g.mrs(X20, register);
        g.msr(register, X20);
        g.report(X20);
    })?;
    for elr in [at, at + 4] {
        bench.hart().run()?;
        bench.vcpu().fail_access()?;
        ensure_eq!(bench.vcpu().set_return_value(1), Err(AxError::NotAsked), "an answer after it");
        bench.hart().undefined(elr)?;
    }
    bench.hart().mark(0x55)
}
