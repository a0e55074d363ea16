//! What is not the guest's is an illegal instruction for it, and registers take no nonsense.

use axvcpu_riscv::asm::*;
use axvcpu_riscv::csr::{cause, num, sstatus};

use super::super::Subject;
use super::super::bench::Bench;
use super::super::guest::*;
use crate::report::{Verdict, ensure, ensure_eq};

/// A read of a CSR into `a0`.
const fn csrr(csr: u32) -> u32 {
    csr << 20 | 2 << 12 | 10 << 7 | 0x73
}

/// A write of `a0` to a CSR.
const fn csrw(csr: u32) -> u32 {
    csr << 20 | 10 << 15 | 1 << 12 | 0x73
}

/// Instructions of the hypervisor, of the machine, and of nobody.
const NOT_THE_GUESTS: [(&str, u32); 34] = [
    ("hfence.vvma", 0x2200_0073),
    ("hfence.gvma", 0x6200_0073),
    ("hinval.vvma", 0x2600_0073),
    ("hinval.gvma", 0x6600_0073),
    ("hlv.b", 0x6005_4573),
    ("hlv.d", 0x6c05_4573),
    ("hlvx.hu", 0x6435_4573),
    ("hlvx.wu", 0x6835_4573),
    ("hsv.b", 0x62a5_4073),
    ("hsv.d", 0x6ea5_4073),
    ("csrr hstatus", csrr(0x600)),
    ("csrr hedeleg", csrr(0x602)),
    ("csrr htimedelta", csrr(0x605)),
    ("csrr hcounteren", csrr(0x606)),
    ("csrr henvcfg", csrr(0x60a)),
    ("csrr hvip", csrr(0x645)),
    ("csrr hgatp", csrr(0x680)),
    ("csrw hgatp", csrw(0x680)),
    ("csrw hvip", csrw(0x645)),
    ("csrr vsstatus", csrr(0x200)),
    ("csrw vsatp", csrw(0x280)),
    ("csrr vstimecmp", csrr(0x24d)),
    ("csrr mstatus", csrr(0x300)),
    ("csrr mhartid", csrr(0xf14)),
    ("csrw satp of nobody", csrw(0x5c0)),
    ("csrr of nobody", csrr(0x9ff)),
    ("csrw cycle", csrw(0xc00)),
    ("csrw time", csrw(0xc01)),
    ("mret", 0x3020_0073),
    ("uret", 0x0020_0073),
    ("dret", 0x7b20_0073),
    ("a load of a reserved width", 0x0005_7503),
    ("zeroes", 0),
    ("ones", u32::MAX),
];

/// What a user must not do, although a supervisor may.
const NOT_USERS: [(&str, u32); 8] = [
    ("sret", 0x1020_0073),
    ("wfi", 0x1050_0073),
    ("sfence.vma", 0x1200_0073),
    ("csrr sstatus", csrr(0x100)),
    ("csrw satp", csrw(0x180)),
    ("csrw stvec", csrw(0x105)),
    ("csrr sip", csrr(0x144)),
    ("csrr stimecmp", csrr(0x14d)),
];

/// Expects each of these instructions, which begin at `at`, to be an illegal instruction for the guest.
fn all_illegal<S: Subject>(bench: &Bench<S>, at: u64, words: &[(&str, u32)], spp: u64) -> Verdict {
    for (epc, &(name, word)) in (at..).step_by(4).zip(words) {
        let trap = bench.hart().trap()?;
        ensure_eq!((trap.cause, trap.epc), (cause::ILLEGAL, epc), "{name}: scause, sepc");
        // Zeroes are two instructions of two bytes.
        let bits = if word == 0 { 0 } else { u64::from(word) };
        ensure!([0, bits].contains(&trap.value), "{name}: stval {:#x}", trap.value);
        ensure_eq!(trap.status & sstatus::SPP, spp, "{name}: sstatus.SPP");
        bench.vcpu().set_return_value(epc + 4)?;
    }
    Ok(())
}

pub(super) fn in_supervisor_mode<S: Subject>(subject: &S) -> Verdict {
    let mut at = 0;
    let bench = Bench::boot(subject, |g| {
        at = g.here();
        NOT_THE_GUESTS.iter().for_each(|&(_, word)| g.word(word));
        g.mark(1);
    })?;
    all_illegal(&bench, at, &NOT_THE_GUESTS, sstatus::SPP)?;
    bench.hart().mark(1)
}

pub(super) fn in_user_mode<S: Subject>(subject: &S) -> Verdict {
    let mut at = 0;
    let words = [&NOT_THE_GUESTS[..], &NOT_USERS].concat();
    let bench = Bench::boot(subject, |g| {
        let user = g.label();
        g.la(T0, user);
        g.csrw(num::SEPC, T0);
        g.li(T0, sstatus::SPP as i64);
        g.csrrc(ZERO, num::SSTATUS, T0);
        g.sret();
        g.bind(user);
        at = g.here();
        words.iter().for_each(|&(_, word)| g.word(word));
        g.ecall();
    })?;
    all_illegal(&bench, at, &words, 0)?;
    bench.hart().trap_for(cause::USER_ECALL)?;
    Ok(())
}

/// Writes that mean nothing change nothing that matters, and never end the run.
pub(super) fn nonsense<S: Subject>(subject: &S) -> Verdict {
    /// Where reserved values can be written, and which bits have a meaning that would lead elsewhere.
    const REGISTERS: [(u16, u64); 9] = [
        (num::SSTATUS, sstatus::SIE),
        (num::SIE, 0),
        (num::SIP, 0),
        (num::SCOUNTEREN, 0),
        (num::SENVCFG, 0),
        (num::SSCRATCH, 0),
        (num::SEPC, 0),
        (num::SCAUSE, 0),
        (num::STVAL, 0),
    ];
    let bench = Bench::boot(subject, |g| {
        for (csr, kept) in REGISTERS {
            g.csrr(S2, csr);
            for value in [!kept, pattern(u64::from(csr)) & !kept, 0] {
                g.li(T0, value as i64);
                g.csrw(csr, T0);
                g.csrr(T1, csr);
            }
            g.csrw(csr, S2);
        }
        // A reserved mode of translation leaves the register as it was.
        for mode in [1, 7, 11, 15] {
            g.li(T0, mode << 60 | 0x1234);
            g.csrw(num::SATP, T0);
            g.report_csr(num::SATP);
        }
        g.csrr(S2, num::STVEC);
        g.li(T0, -1);
        g.csrw(num::STVEC, T0);
        g.csrw(num::STVEC, S2);
        g.ebreak();
        g.mark(1);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    for _ in 0..4 {
        ensure_eq!(hart.report()?, 0, "satp");
    }
    let trap = hart.trap_for(cause::BREAKPOINT)?;
    vcpu.set_return_value(trap.epc + 4)?;
    hart.mark(1)
}
