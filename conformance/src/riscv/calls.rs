//! Environment calls.

use axvcpu::AxError;
use axvcpu_riscv::asm::*;
use axvcpu_riscv::csr::{cause, num, sstatus};

use super::NamedCase;
use super::Subject;
use super::bench::{Bench, Exit};
use super::guest::*;
use crate::report::{Verdict, ensure_eq};

pub(super) fn cases<S: Subject>() -> [NamedCase<S>; 4] {
    [
        ("hypercall: number, function and arguments", arguments),
        ("hypercall: results in a0 and a1", results),
        ("hypercall: without an answer a0 stays", unanswered),
        ("hypercall: from VU-mode it is the guest kernel's", from_user),
    ]
}

fn arguments<S: Subject>(subject: &S) -> Verdict {
    let numbers = [REPORT, 0x10, 0x735049, 0x0aff_ffff, 1 << 63 | 7, u64::MAX];
    let bench = Bench::boot(subject, |g| {
        for (round, &number) in (0..).zip(&numbers) {
            for (index, register) in (0..).zip([A0, A1, A2, A3, A4, A5, A6]) {
                g.li(register, pattern(8 * round + index) as i64);
            }
            g.li(A7, number as i64);
            g.ecall();
        }
    })?;
    for (round, &nr) in (0..).zip(&numbers) {
        let args = core::array::from_fn(|index| pattern(8 * round + index as u64));
        let expected = Exit::Hypercall { nr, function: pattern(8 * round + 6), args };
        ensure_eq!(bench.hart().run()?, expected, "call {round}");
    }
    bench.hart().end()
}

fn results<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.li(S0, 1);
        g.li(A1, 2);
        g.mark(0);
        g.mv(S0, A0);
        g.mv(S1, A1);
        g.report(S0);
        g.report(S1);
        g.mark(3);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.mark(0)?;
    vcpu.set_return_value(pattern(1))?;
    ensure_eq!(vcpu.set_return_value(5), Err(AxError::NotAsked), "a second answer");
    vcpu.set_gpr(11, pattern(2))?;
    ensure_eq!(hart.report()?, pattern(1), "a0");
    ensure_eq!(hart.report()?, pattern(2), "a1");
    hart.mark(3)
}

fn unanswered<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.mark(0x77);
        g.report(A0);
    })?;
    bench.hart().mark(0x77)?;
    bench.hart().mark(0x77)
}

fn from_user<S: Subject>(subject: &S) -> Verdict {
    let mut call = 0;
    let bench = Bench::boot(subject, |g| {
        let user = g.label();
        g.la(T0, user);
        g.csrw(num::SEPC, T0);
        g.li(T0, sstatus::SPP as i64);
        g.csrrc(ZERO, num::SSTATUS, T0);
        g.sret();
        g.bind(user);
        g.li(A7, REPORT as i64);
        call = g.here();
        g.ecall();
        g.csrr(A0, num::SSTATUS); // not for users
    })?;
    let trap = bench.hart().trap_for(cause::USER_ECALL)?;
    ensure_eq!((trap.epc, trap.status & sstatus::SPP), (call, 0), "sepc and SPP");
    bench.vcpu().set_return_value(call + 4)?;
    let trap = bench.hart().trap_for(cause::ILLEGAL)?;
    ensure_eq!((trap.epc, trap.status & sstatus::SPP), (call + 4, 0), "sepc and SPP");
    Ok(())
}
