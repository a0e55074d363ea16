//! The life cycle, on a backend that means it.

use axvcpu::{GuestPhysAddr, VCpuState};
use axvcpu_riscv::asm::*;
use axvcpu_riscv::csr::{cause, num, sstatus};

use super::NamedCase;
use super::Subject;
use super::bench::Bench;
use super::guest::*;
use crate::report::{Verdict, ensure, ensure_eq};

pub(super) fn cases<S: Subject>() -> [NamedCase<S>; 2] {
    [
        ("life: a guest starts in VS-mode with everything off", initial_state),
        ("life: a reset guest finds everything off again", reset),
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
