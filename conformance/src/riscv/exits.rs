//! What may be done with an exit: answer it, undo it, fail it.

use axvcpu::AccessKind::{Execute, Read, Write};
use axvcpu::AxError;
use axvcpu_riscv::asm::*;
use axvcpu_riscv::csr::{cause, num};
use axvcpu_riscv::stage2::Perms;

use super::NamedCase;
use super::Subject;
use super::bench::Bench;
use super::guest::*;
use crate::report::{Verdict, ensure, ensure_eq};

pub(super) fn cases<S: Subject>() -> [NamedCase<S>; 6] {
    [
        ("fail: loads and stores become access faults", fail_mmio),
        ("fail: floating-point and compressed accesses too", fail_others),
        ("fail: a fetch becomes an access fault", fail_fetch),
        ("atomics: every one is a nested fault, and can be failed", atomics_failed),
        ("atomics: a nested fault repeats until memory is there", atomics_mapped),
        ("atomics: load-reserved and store-conditional", reserved),
    ]
}

/// Runs to a trap that `fail_access` caused at the instruction at `epc`, and steps over that.
fn failed<S: Subject>(bench: &Bench<S>, what: &str, code: u64, epc: u64, value: u64) -> Verdict {
    bench.vcpu().fail_access()?;
    let refused = Err(AxError::NotAsked);
    ensure_eq!(bench.vcpu().set_return_value(1), refused, "{what}: an answer after failing it");
    let trap = bench.hart().trap()?;
    let expected = (code, epc, value);
    ensure_eq!((trap.cause, trap.epc, trap.value), expected, "{what}: scause, sepc, stval");
    Ok(())
}

fn fail_mmio<S: Subject>(subject: &S) -> Verdict {
    type Access = fn(&mut Asm, X, i32, X);
    let loads: [Access; 7] = [Asm::lb, Asm::lh, Asm::lw, Asm::ld, Asm::lbu, Asm::lhu, Asm::lwu];
    let stores: [Access; 4] = [Asm::sb, Asm::sh, Asm::sw, Asm::sd];
    let mut at = 0;
    let bench = Bench::boot(subject, |g| {
        g.li(S0, DEVICE as i64);
        g.li(S1, 0x55);
        at = g.here();
        for access in loads.into_iter().chain(stores) {
            access(g, S1, 16, S0);
        }
        g.report(S1);
    })?;
    for index in 0..11 {
        bench.hart().run()?;
        let code = if index < 7 { cause::LOAD_ACCESS } else { cause::STORE_ACCESS };
        let epc = at + 4 * index;
        failed(&bench, "a load or store", code, epc, DEVICE + 16)?;
        bench.vcpu().set_return_value(epc + 4)?;
    }
    ensure_eq!(bench.hart().report()?, 0x55, "the target of the failed loads");
    Ok(())
}

fn fail_others<S: Subject>(subject: &S) -> Verdict {
    let mut at = [0; 4];
    let bench = Bench::boot(subject, |g| {
        g.li(T0, 1 << 13);
        g.csrrs(ZERO, num::SSTATUS, T0);
        g.li(S0, DEVICE as i64);
        for (index, place) in at.iter_mut().enumerate() {
            *place = g.here();
            match index {
                0 => g.flw(FA0, 0, S0),
                1 => g.fsd(FA0, 0, S0),
                2 => g.c_lw(A0, 0, S0),
                _ => g.c_sd(A0, 0, S0),
            }
        }
    })?;
    let codes = [cause::LOAD_ACCESS, cause::STORE_ACCESS, cause::LOAD_ACCESS, cause::STORE_ACCESS];
    for (index, (at, code)) in at.into_iter().zip(codes).enumerate() {
        bench.hart().run()?;
        failed(&bench, "an access", code, at, DEVICE)?;
        bench.vcpu().set_return_value(at + if index < 2 { 4 } else { 2 })?;
    }
    bench.hart().end()
}

fn fail_fetch<S: Subject>(subject: &S) -> Verdict {
    let mut back = 0;
    let bench = Bench::boot(subject, |g| {
        g.li(S0, DEVICE as i64);
        g.jalr(RA, 0, S0);
        back = g.here();
        g.mark(1);
    })?;
    bench.hart().nested_fault(DEVICE, Execute)?;
    failed(&bench, "a fetch", cause::FETCH_ACCESS, DEVICE, DEVICE)?;
    bench.vcpu().set_return_value(back)?;
    bench.hart().mark(1)
}

type Atomic = fn(&mut Asm, X, X, X, Order);

const ATOMICS: [(&str, Atomic, u64); 18] = [
    ("amoswap.w", Asm::amoswap_w, 4),
    ("amoadd.w", Asm::amoadd_w, 4),
    ("amoxor.w", Asm::amoxor_w, 4),
    ("amoand.w", Asm::amoand_w, 4),
    ("amoor.w", Asm::amoor_w, 4),
    ("amomin.w", Asm::amomin_w, 4),
    ("amomax.w", Asm::amomax_w, 4),
    ("amominu.w", Asm::amominu_w, 4),
    ("amomaxu.w", Asm::amomaxu_w, 4),
    ("amoswap.d", Asm::amoswap_d, 8),
    ("amoadd.d", Asm::amoadd_d, 8),
    ("amoxor.d", Asm::amoxor_d, 8),
    ("amoand.d", Asm::amoand_d, 8),
    ("amoor.d", Asm::amoor_d, 8),
    ("amomin.d", Asm::amomin_d, 8),
    ("amomax.d", Asm::amomax_d, 8),
    ("amominu.d", Asm::amominu_d, 8),
    ("amomaxu.d", Asm::amomaxu_d, 8),
];

fn atomics_failed<S: Subject>(subject: &S) -> Verdict {
    let mut at = 0;
    let bench = Bench::boot(subject, |g| {
        g.li(S0, DEVICE as i64);
        g.li(S1, 0x77);
        at = g.here();
        for (_, atomic, _) in ATOMICS {
            atomic(g, S1, S0, S0, Order::AcqRel);
        }
        g.report(S1);
    })?;
    for (epc, (name, ..)) in (at..).step_by(4).zip(ATOMICS) {
        bench.hart().nested_fault(DEVICE, Write)?;
        failed(&bench, name, cause::STORE_ACCESS, epc, DEVICE)?;
        bench.vcpu().set_return_value(epc + 4)?;
    }
    ensure_eq!(bench.hart().report()?, 0x77, "the target of the failed atomics");
    Ok(())
}

fn atomics_mapped<S: Subject>(subject: &S) -> Verdict {
    // The first two bytes of the page after the last one mapped, and read-only memory.
    let (absent, constant) = (DEVICE, DEVICE + 0x1000);
    let mut bench = Bench::boot(subject, |g| {
        for address in [absent, constant] {
            g.li(S0, address as i64);
            g.li(S1, 5);
            g.amoadd_d(S2, S1, S0, Order::Relaxed);
            g.report(S2);
        }
    })?;
    bench.space.add(absent, 1, None)?;
    bench.space.add(constant, 1, Some(Perms::R))?;
    bench.space.write(absent, 100)?;
    bench.space.write(constant, 200)?;
    for _ in 0..3 {
        bench.hart().nested_fault(absent, Write)?;
    }
    bench.space.map(absent, absent, Perms::RW)?;
    bench.vcpu().request_fence(axvcpu::Fence::STAGE2_TLB);
    ensure_eq!(bench.hart().report()?, 100, "the old value");
    ensure_eq!(bench.space.read(absent)?, 105, "the new value");
    for _ in 0..3 {
        bench.hart().nested_fault(constant, Write)?;
    }
    bench.space.protect(constant, Perms::RW)?;
    bench.vcpu().request_fence(axvcpu::Fence::STAGE2_TLB);
    ensure_eq!(bench.hart().report()?, 200, "the old value");
    ensure_eq!(bench.space.read(constant)?, 205, "the new value");
    Ok(())
}

fn reserved<S: Subject>(subject: &S) -> Verdict {
    let mut at = [0; 2];
    let bench = Bench::boot(subject, |g| {
        g.li(S0, DEVICE as i64);
        at[0] = g.here();
        g.lr_w(S1, S0, Order::Acquire);
        g.lr_d(S1, S0, Order::Relaxed);
        // A pair on memory works, with nothing in between that could break it.
        g.li(S2, DATA as i64);
        g.li(S3, 9);
        let again = g.here_label();
        g.lr_d(S1, S2, Order::Relaxed);
        g.sc_d(S4, S3, S2, Order::Relaxed);
        g.bnez(S4, again);
        g.report(S1);
        // One that stores elsewhere must not succeed, and may not even touch the memory.
        g.lr_d(S1, S2, Order::Relaxed);
        at[1] = g.here();
        g.sc_d(S4, S3, S0, Order::Relaxed);
        g.report(S4);
    })?;
    bench.space.write(DATA, 8)?;
    for epc in [at[0], at[0] + 4] {
        bench.hart().nested_fault(DEVICE, Read)?;
        failed(&bench, "load-reserved", cause::LOAD_ACCESS, epc, DEVICE)?;
        bench.vcpu().set_return_value(epc + 4)?;
    }
    ensure_eq!(bench.hart().report()?, 8, "what load-reserved saw");
    ensure_eq!(bench.space.read(DATA)?, 9, "what store-conditional left");
    match bench.hart().run()? {
        super::bench::Exit::Hypercall { nr: REPORT, args, .. } => {
            ensure!(args[0] != 0, "store-conditional succeeded without a reservation");
        }
        exit => {
            let expected = super::bench::Exit::NestedPageFault {
                addr: axvcpu::GuestPhysAddr::new(DEVICE),
                access: Write,
            };
            ensure_eq!(exit, expected, "store-conditional elsewhere");
            failed(&bench, "store-conditional", cause::STORE_ACCESS, at[1], DEVICE)?;
        }
    }
    Ok(())
}
