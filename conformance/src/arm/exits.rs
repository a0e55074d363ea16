//! What may be done with an exit: answer it, undo it, fail it.

use axvcpu::AccessKind::{Execute, Read, Write};
use axvcpu::AccessWidth::Qword;
use axvcpu_arm::asm::*;
use axvcpu_stage2::Perms;

use super::NamedCase;
use super::Subject;
use super::bench::{Bench, Exit};
use super::float;
use super::guest::*;
use super::paging::{VIRTUAL, bits, write_tables};
use crate::report::{Stop, Verdict, ensure, ensure_eq};

pub(super) fn cases<S: Subject>() -> [NamedCase<S>; 11] {
    [
        ("retry: the base register is as it was", retry_write_back),
        ("fail: loads and stores become external aborts", fail_mmio),
        ("fail: accesses with write-back leave their base alone", fail_write_back),
        ("fail: floating-point accesses too", fail_float),
        ("fail: a fetch becomes an external abort", fail_fetch),
        ("fail: at EL0 the guest's EL1 is told", fail_user),
        ("others: pairs are nested faults, and can be failed", pairs),
        ("others: 16 bytes are nested faults, and can be failed", float::quadwords),
        ("others: exclusive accesses", exclusive),
        ("others: atomic instructions", atomics),
        ("others: cache maintenance", maintenance),
    ]
}

fn retry_write_back<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.li(X19, DEVICE + 0x100);
        g.ldr_post(X20, X19, 8);
        g.report(X19);
        g.str_pre(X20, X19, -16);
        g.report(X19);
        g.li(X19, DEVICE + 0x100);
        g.mov_sp(SP, X19);
        g.str_post(X20, SP, 32);
        g.mov_sp(X19, SP);
        g.report(X19);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    for _ in 0..3 {
        hart.mmio_read(DEVICE + 0x100, Qword)?;
        vcpu.retry()?;
    }
    hart.mmio_read(DEVICE + 0x100, Qword)?;
    vcpu.set_return_value(5)?;
    hart.mark(DEVICE + 0x108)?;
    for _ in 0..3 {
        hart.mmio_write(DEVICE + 0xf8, Qword, 5)?;
        vcpu.retry()?;
    }
    hart.mmio_write(DEVICE + 0xf8, Qword, 5)?;
    hart.mark(DEVICE + 0xf8)?;
    for _ in 0..3 {
        hart.mmio_write(DEVICE + 0x100, Qword, 5)?;
        vcpu.retry()?;
    }
    hart.mmio_write(DEVICE + 0x100, Qword, 5)?;
    hart.mark(DEVICE + 0x120)
}

fn fail_mmio<S: Subject>(subject: &S) -> Verdict {
    type Access = fn(&mut Asm, X, X, u32);
    let loads: [Access; 9] = [
        Asm::ldrb,
        Asm::ldrh,
        Asm::ldr_w,
        Asm::ldr,
        Asm::ldrsb,
        Asm::ldrsh,
        Asm::ldrsw,
        Asm::ldrsb_w,
        Asm::ldrsh_w,
    ];
    let stores: [Access; 4] = [Asm::strb, Asm::strh, Asm::str_w, Asm::str];
    let mut at = 0;
    let bench = Bench::boot(subject, |g| {
        g.li(X19, DEVICE);
        g.li(X20, 0x55);
        at = g.here();
        for access in loads.into_iter().chain(stores) {
            access(g, X20, X19, 16);
        }
        g.report(X20);
    })?;
    for index in 0..13 {
        bench.hart().run()?;
        let elr = at + 4 * index;
        let trap = bench.hart().failed("an access", class::DATA, elr, DEVICE + 16, index >= 9)?;
        let expected = pstate::EL1H | pstate::DAIF;
        ensure_eq!(trap.spsr & 0x3ff, expected, "SPSR: EL1h, everything masked");
        bench.vcpu().set_return_value(elr + 4)?;
    }
    ensure_eq!(bench.hart().report()?, 0x55, "the target of the failed loads");
    Ok(())
}

fn fail_write_back<S: Subject>(subject: &S) -> Verdict {
    let mut at = [0; 4];
    let bench = Bench::boot(subject, |g| {
        g.li(X20, 0x77);
        for (index, place) in at.iter_mut().enumerate() {
            g.li(X19, DEVICE + 0x800);
            g.mov_sp(SP, X19);
            *place = g.here();
            match index {
                0 => g.ldr_post(X20, X19, 8),
                1 => g.str_pre(X20, X19, 8),
                2 => g.ldrb_pre(X20, SP, -1),
                _ => g.strh_post(X20, SP, 16),
            }
            g.mov_sp(X21, SP);
            g.report(X19);
            g.report(X21);
            g.report(X20);
        }
    })?;
    let addresses = [DEVICE + 0x800, DEVICE + 0x808, DEVICE + 0x7ff, DEVICE + 0x800];
    for (index, (elr, far)) in at.into_iter().zip(addresses).enumerate() {
        let hart = bench.hart();
        hart.run()?;
        hart.failed("write-back", class::DATA, elr, far, index % 2 == 1)?;
        bench.vcpu().set_return_value(elr + 4)?;
        hart.mark(DEVICE + 0x800)?;
        hart.mark(DEVICE + 0x800)?;
        hart.mark(0x77)?;
    }
    Ok(())
}

fn fail_float<S: Subject>(subject: &S) -> Verdict {
    let mut at = 0;
    let bench = Bench::boot(subject, |g| {
        g.float_on();
        g.li(X19, DEVICE);
        g.li(X20, pattern(1));
        g.fmov_to(V3, X20);
        at = g.here();
        g.ldr_s(V3, X19, 0);
        g.str_d(V3, X19, 0);
        g.ldr_b(V3, X19, 0);
        g.fmov_from(X20, V3);
        g.report(X20);
    })?;
    for index in 0..3 {
        bench.hart().run()?;
        let elr = at + 4 * index;
        bench.hart().failed("an access", class::DATA, elr, DEVICE, index == 1)?;
        bench.vcpu().set_return_value(elr + 4)?;
    }
    bench.hart().mark(pattern(1))
}

fn fail_fetch<S: Subject>(subject: &S) -> Verdict {
    let mut back = 0;
    let bench = Bench::boot(subject, |g| {
        g.li(X19, DEVICE);
        g.blr(X19);
        back = g.here();
        g.mark(1);
    })?;
    bench.hart().nested_fault(DEVICE, Execute)?;
    bench.hart().failed("a fetch", class::FETCH, DEVICE, DEVICE, false)?;
    bench.vcpu().set_return_value(back)?;
    bench.hart().mark(1)
}

fn fail_user<S: Subject>(subject: &S) -> Verdict {
    let mut at = 0;
    let bench = Bench::boot(subject, |g| {
        g.li(X19, DEVICE);
        g.go_user();
        at = g.here();
        g.ldr(X20, X19, 8);
        g.br(X19);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.mmio_read(DEVICE + 8, Qword)?;
    vcpu.fail_access()?;
    let trap = hart.trap()?;
    let found = (trap.vector, trap.class(), trap.elr, trap.far, trap.spsr & pstate::MODE);
    ensure_eq!(
        found,
        (vector::USER_SYNC, 0x24, at, DEVICE + 8, 0),
        "vector, class, ELR, FAR, mode"
    );
    ensure_eq!(trap.esr & 0x3f, 0x10, "fault status");
    vcpu.set_return_value(at + 4)?;
    hart.nested_fault(DEVICE, Execute)?;
    vcpu.fail_access()?;
    let trap = hart.trap()?;
    let found = (trap.vector, trap.class(), trap.elr, trap.far, trap.spsr & pstate::MODE);
    ensure_eq!(
        found,
        (vector::USER_SYNC, 0x20, DEVICE, DEVICE, 0),
        "vector, class, ELR, FAR, mode"
    );
    Ok(())
}

fn pairs<S: Subject>(subject: &S) -> Verdict {
    let mut at = 0;
    let mut bench = Bench::boot(subject, |g| {
        g.li(X19, DEVICE);
        g.li(X20, pattern(1));
        g.li(X21, pattern(2));
        at = g.here();
        g.ldp(X22, X23, X19, 8);
        g.stp(X20, X21, X19, 16);
        g.ldp_post(X22, X23, X19, 16);
        g.stp_pre(X20, X21, X19, 32);
        g.report(X19);
        // With memory there they are what they always are.
        g.stp(X20, X21, X19, 8);
        g.ldp(X22, X23, X19, 8);
        g.report(X22);
        g.report(X23);
    })?;
    let accesses = [(8, Read), (16, Write), (0, Read), (32, Write)];
    for (index, (offset, access)) in (0..).zip(accesses) {
        for _ in 0..2 {
            bench.hart().nested_fault(DEVICE + offset, access)?;
        }
        let elr = at + 4 * index;
        bench.hart().failed("a pair", class::DATA, elr, DEVICE + offset, access == Write)?;
        bench.vcpu().set_return_value(elr + 4)?;
    }
    bench.hart().mark(DEVICE)?;
    bench.hart().nested_fault(DEVICE + 8, Write)?;
    bench.space.add(DEVICE, 1, Some(Perms::RW))?;
    bench.vcpu().request_fence(axvcpu::Fence::STAGE2_TLB);
    bench.hart().mark(pattern(1))?;
    bench.hart().mark(pattern(2))
}

/// With translation on, as exclusive accesses and atomics need normal memory (Arm ARM, B2.12.2).
fn exclusive<S: Subject>(subject: &S) -> Verdict {
    let mut at = [0; 2];
    let mut bench = Bench::boot(subject, |g| {
        g.mmu_on();
        g.li(X19, VIRTUAL);
        at[0] = g.here();
        g.ldxr(X20, X19);
        g.ldaxr(X20, X19);
        // A pair on memory works, with nothing in between that could break it.
        g.li(X21, DATA);
        g.li(X22, 9);
        let again = g.here_label();
        g.ldxr(X20, X21);
        g.stxr(X23, X22, X21);
        g.cbnz(X23, again);
        g.report(X20);
        // One that stores elsewhere must not succeed, and may not even touch the memory.
        g.ldxr(X20, X21);
        at[1] = g.here();
        g.stxr(X23, X22, X19);
        g.report(X23);
    })?;
    write_tables(&mut bench, DEVICE, bits::NORMAL)?;
    bench.space.write(DATA, 8)?;
    for elr in [at[0], at[0] + 4] {
        bench.hart().nested_fault(DEVICE, Read)?;
        bench.hart().failed("load-exclusive", class::DATA, elr, VIRTUAL, false)?;
        bench.vcpu().set_return_value(elr + 4)?;
    }
    ensure_eq!(bench.hart().report()?, 8, "what load-exclusive saw");
    ensure_eq!(bench.space.read(DATA)?, 9, "what store-exclusive left");
    match bench.hart().run()? {
        Exit::Hypercall { nr: REPORT, args, .. } => {
            ensure!(args[0] != 0, "store-exclusive succeeded without a reservation");
        }
        exit => {
            let addr = axvcpu::GuestPhysAddr::new(DEVICE);
            let expected = Exit::NestedPageFault { addr, access: Write };
            ensure_eq!(exit, expected, "store-exclusive elsewhere");
            bench.hart().failed("store-exclusive", class::DATA, at[1], VIRTUAL, true)?;
        }
    }
    Ok(())
}

fn atomics<S: Subject>(subject: &S) -> Verdict {
    if !subject.has_atomics() {
        let mut at = 0;
        let bench = Bench::boot(subject, |g| {
            at = g.here();
            g.ldadd(X20, X21, X19);
        })?;
        return bench.hart().undefined(at);
    }
    let mut at = 0;
    let mut bench = Bench::boot(subject, |g| {
        g.mmu_on();
        g.li(X19, VIRTUAL);
        g.li(X20, 5);
        g.li(X21, 0x77);
        at = g.here();
        g.ldadd(X20, X21, X19);
        g.ldadd_w(X20, X21, X19);
        g.swp(X20, X21, X19);
        g.report(X21);
        g.ldadd(X20, X21, X19);
        g.report(X21);
    })?;
    write_tables(&mut bench, DEVICE, bits::NORMAL)?;
    let fault = |access| {
        let addr = axvcpu::GuestPhysAddr::new(DEVICE);
        Exit::NestedPageFault { addr, access }
    };
    for elr in [at, at + 4, at + 8] {
        // The read comes first, and the syndrome may say that it was one.
        let exit = bench.hart().run()?;
        ensure!(exit == fault(Write) || exit == fault(Read), "an atomic: {exit:x?}");
        bench.vcpu().fail_access()?;
        let trap = bench.hart().exception(class::DATA)?;
        ensure_eq!((trap.elr, trap.far), (elr, VIRTUAL), "ELR and FAR");
        bench.vcpu().set_return_value(elr + 4)?;
    }
    ensure_eq!(bench.hart().report()?, 0x77, "the target of the failed atomics");
    bench.hart().run()?;
    bench.space.add(DEVICE, 1, Some(Perms::R))?;
    bench.space.write(DEVICE, 100)?;
    bench.vcpu().request_fence(axvcpu::Fence::STAGE2_TLB);
    bench.hart().nested_fault(DEVICE, Write)?;
    bench.space.protect(DEVICE, Perms::RW)?;
    bench.vcpu().request_fence(axvcpu::Fence::STAGE2_TLB);
    ensure_eq!(bench.hart().report()?, 100, "the old value");
    ensure_eq!(bench.space.read(DEVICE)?, 105, "the new value");
    Ok(())
}

fn maintenance<S: Subject>(subject: &S) -> Verdict {
    let mut zva = 0;
    let mut bench = Bench::boot(subject, |g| {
        g.mmu_on();
        g.li(X19, VIRTUAL);
        // By address to nowhere it does nothing.
        g.dc_cvac(X19);
        g.dc_cvau(X19);
        g.dc_civac(X19);
        g.dc_ivac(X19);
        g.ic_ivau(X19);
        g.dsb_ish();
        g.mark(1);
        // On memory, by set and way, and all of it: nor does it here.
        g.li(X20, DATA);
        g.dc_civac(X20);
        g.dc_cvac(X20);
        g.ic_ivau(X20);
        g.dc_cisw(XZR);
        g.dc_csw(XZR);
        g.dc_isw(XZR);
        g.ic_iallu();
        g.ic_ialluis();
        g.dsb_sy();
        g.isb();
        g.mark(2);
        // Zeroing is a store.
        g.mrs(X21, sys::DCZID_EL0);
        let allowed = g.label();
        g.tbz(X21, 4, allowed);
        g.report(XZR);
        g.end();
        g.bind(allowed);
        g.mark(3);
        zva = g.here();
        g.dc_zva(X19);
        g.mark(4);
        g.dc_zva(X19);
        g.mark(5);
    })?;
    write_tables(&mut bench, DEVICE, bits::NORMAL)?;
    bench.space.write(DATA, pattern(1))?;
    bench.hart().mark(1)?;
    bench.hart().mark(2)?;
    ensure_eq!(bench.space.read(DATA)?, pattern(1), "memory that was maintained");
    if bench.hart().report()? == 0 {
        return Err(Stop::Skipped("the processor zeroes no blocks"));
    }
    bench.hart().nested_fault(DEVICE, Write)?;
    bench.hart().failed("dc zva", class::DATA, zva, VIRTUAL, true)?;
    bench.vcpu().set_return_value(zva + 4)?;
    bench.hart().mark(4)?;
    bench.hart().nested_fault(DEVICE, Write)?;
    bench.space.add(DEVICE, 1, Some(Perms::RW))?;
    bench.space.write(DEVICE, pattern(2))?;
    bench.vcpu().request_fence(axvcpu::Fence::STAGE2_TLB);
    bench.hart().mark(5)?;
    ensure_eq!(bench.space.read(DEVICE)?, 0, "memory that was zeroed");
    Ok(())
}
