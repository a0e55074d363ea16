//! Calls of the hypervisor.

use axvcpu::AxError;
use axvcpu_arm::asm::*;

use super::NamedCase;
use super::Subject;
use super::bench::{Bench, Exit};
use super::guest::*;
use crate::report::{Verdict, ensure_eq};

pub(super) fn cases<S: Subject>() -> [NamedCase<S>; 6] {
    [
        ("hypercall: number and arguments of HVC", |s| arguments(s, Asm::hvc)),
        ("hypercall: number and arguments of SMC", |s| arguments(s, Asm::smc)),
        ("hypercall: results in x0 and behind", results),
        ("hypercall: without an answer x0 stays", unanswered),
        ("hypercall: an immediate that is not 0 is undefined", immediates),
        ("hypercall: from EL0 it is undefined", from_user),
    ]
}

fn arguments<S: Subject>(subject: &S, call: fn(&mut Asm, u32)) -> Verdict {
    // Of PSCI, of the suite, of nobody.
    let numbers = [REPORT, 0x10, 0x8400_0000, 0xc400_0003, 1 << 63 | 7, u64::MAX];
    let bench = Bench::boot(subject, |g| {
        for (round, &number) in (0..).zip(&numbers) {
            g.li(X0, number);
            for (index, register) in (1..).zip([X1, X2, X3, X4, X5, X6, X7]) {
                g.li(register, pattern(8 * round + index));
            }
            call(g, 0);
        }
    })?;
    for (round, &nr) in (0..).zip(&numbers) {
        let args = core::array::from_fn(|index| pattern(8 * round + index as u64 + 1));
        let expected = Exit::Hypercall { nr, function: 0, args };
        ensure_eq!(bench.hart().run()?, expected, "call {round}");
    }
    bench.hart().end()
}

fn results<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.li(X2, 2);
        g.mark(0);
        g.mov(X9, X0);
        g.mov(X10, X1);
        g.report(X9);
        g.report(X10);
        g.report(X2);
        g.mark(3);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.mark(0)?;
    vcpu.set_return_value(pattern(1))?;
    ensure_eq!(vcpu.set_return_value(5), Err(AxError::NotAsked), "a second answer");
    vcpu.set_gpr(1, pattern(2))?;
    vcpu.set_gpr(2, pattern(3))?;
    ensure_eq!(hart.report()?, pattern(1), "x0");
    ensure_eq!(hart.report()?, pattern(2), "x1");
    ensure_eq!(hart.report()?, pattern(3), "x2");
    hart.mark(3)
}

fn unanswered<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.mark(0x77);
        g.report(X0);
    })?;
    bench.hart().mark(0x77)?;
    bench.hart().mark(REPORT)
}

fn immediates<S: Subject>(subject: &S) -> Verdict {
    let mut at = 0;
    let bench = Bench::boot(subject, |g| {
        at = g.here();
        for number in [1, 0x8000, 0xffff] {
            g.hvc(number);
            g.smc(number);
        }
        g.mark(1);
    })?;
    for elr in (at..).step_by(4).take(6) {
        bench.hart().undefined(elr)?;
    }
    bench.hart().mark(1)
}

fn from_user<S: Subject>(subject: &S) -> Verdict {
    let mut at = 0;
    let bench = Bench::boot(subject, |g| {
        g.go_user();
        at = g.here();
        g.hvc(0);
        g.smc(0);
        g.mrs(X1, sys::SCTLR_EL1); // not for users
        g.svc(7);
    })?;
    for elr in [at, at + 4, at + 8] {
        let trap = bench.hart().trap()?;
        let found = (trap.vector, trap.elr, trap.spsr & pstate::MODE);
        ensure_eq!(found, (vector::USER_SYNC, elr, 0), "vector, ELR and mode");
        // A register that EL0 may not read is class 0 as well, unless something traps it to EL1.
        ensure_eq!(trap.class(), class::UNKNOWN, "class");
        bench.vcpu().set_return_value(elr + 4)?;
    }
    let trap = bench.hart().trap()?;
    ensure_eq!((trap.vector, trap.class()), (vector::USER_SYNC, class::SVC), "vector and class");
    ensure_eq!((trap.elr, trap.esr & 0xffff), (at + 16, 7), "ELR and the number");
    Ok(())
}
