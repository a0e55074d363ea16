//! The life cycle, on a backend that means it.

use axvcpu::AccessWidth::Byte;
use axvcpu::{AxError, GuestPhysAddr, VCpuState};
use axvcpu_arm::asm::*;

use super::NamedCase;
use super::Subject;
use super::bench::Bench;
use super::guest::*;
use crate::report::{Verdict, ensure, ensure_eq};

pub(super) fn cases<S: Subject>() -> [NamedCase<S>; 3] {
    [
        ("life: a guest starts at EL1 with everything off", initial_state),
        ("life: an entry that is no instruction's is refused", misaligned_entry),
        ("life: a reset guest finds everything off again", reset),
    ]
}

/// `SCTLR_EL1`: translation, alignment checks, caches.
const SWITCHES: u64 = 1 | 1 << 1 | 1 << 2 | 1 << 12;

fn initial_state<S: Subject>(subject: &S) -> Verdict {
    let mut bench = Bench::empty(subject)?;
    // The very first instructions look, so that nothing was set before.
    let mut asm = Asm::new(CODE);
    asm.mov(X19, X0);
    for (index, register) in (0..).zip([
        sys::CURRENT_EL,
        sys::DAIF,
        sys::SCTLR_EL1,
        sys::CPACR_EL1,
        sys::ICC_IGRPEN1_EL1,
        sys::ISR_EL1,
        sys::CNTV_CTL_EL0,
        sys::CNTP_CTL_EL0,
    ]) {
        asm.li(X9, DATA);
        asm.mrs(X10, register);
        asm.str(X10, X9, 8 * index);
    }
    // With its own stack pointer: EL1 cannot name its own, but moving it must not move EL0's.
    asm.li(X10, 0x1234_5670);
    asm.mov_sp(SP, X10);
    asm.mrs(X11, sys::SP_EL0);
    asm.str(X11, X9, 64);
    asm.mov(X1, X19);
    asm.li(X0, END);
    asm.hvc(0);
    bench.space.fill(CODE, &asm.finish().unwrap_or_default())?;
    bench.add_bound(subject, 1)?;
    bench.vcpu().set_gpr(0, 0x1234)?;
    bench.space.write(DATA + 64, 0x1234_5670)?;
    match bench.hart().run()? {
        super::bench::Exit::Hypercall { nr: END, args, .. } => {
            ensure_eq!(args[0], 0x1234, "x0 as it was set");
        }
        exit => crate::fail!("{exit:x?}"),
    }
    let found = |index: u64| bench.space.read(DATA + 8 * index);
    ensure_eq!(found(0)?, 1 << 2, "CurrentEL");
    ensure_eq!(found(1)?, pstate::DAIF, "DAIF");
    ensure_eq!(found(2)? & SWITCHES, 0, "SCTLR.M, A, C and I");
    ensure_eq!(found(3)? >> 20 & 3, 0, "CPACR.FPEN");
    ensure_eq!(found(4)?, 0, "ICC_IGRPEN1");
    ensure_eq!(found(5)?, 0, "ISR");
    ensure_eq!(found(6)? & 1, 0, "CNTV_CTL.ENABLE");
    ensure_eq!(found(7)? & 1, 0, "CNTP_CTL.ENABLE");
    ensure!(found(8)? != 0x1234_5670, "the guest used the stack pointer of EL0");
    Ok(())
}

fn misaligned_entry<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| g.mark(1))?;
    for offset in 1..4 {
        let refused = bench.vcpu().set_entry(GuestPhysAddr::new(CODE + offset));
        ensure_eq!(refused, Err(AxError::InvalidInput), "an entry at +{offset}");
    }
    bench.hart().mark(1)
}

fn reset<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        // What the last life left behind comes first.
        g.mov(X19, X0);
        g.mov(X20, X1);
        g.report(X19);
        g.report(X20);
        g.report_sys(sys::SCTLR_EL1);
        g.report_sys(sys::DAIF);
        g.report_sys(sys::ICC_IGRPEN1_EL1);
        g.report_sys(sys::CNTV_CTL_EL0);
        g.report_sys(sys::CPACR_EL1);
        g.report_sys(sys::CURRENT_EL);
        // Leave traces, and end at EL0.
        g.li(X1, 99);
        g.float_on();
        g.set_sys(sys::CNTV_CVAL_EL0, u64::MAX);
        g.set_sys(sys::CNTV_CTL_EL0, 1);
        g.mrs(X9, sys::SCTLR_EL1);
        g.li(X10, 1 << 12 | 1 << 1);
        g.orr(X9, X9, X10);
        g.msr(sys::SCTLR_EL1, X9);
        g.enable_interrupts();
        g.go_user();
        g.li(X19, DEVICE);
        g.ldrsb(X19, X19, 0);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    for life in 0..3 {
        ensure_eq!(hart.report()?, life, "x0");
        let x1 = hart.report()?;
        ensure_eq!(x1, if life == 0 { 0 } else { 7 }, "x1, as set after the reset");
        ensure_eq!(hart.report()? & SWITCHES, 0, "SCTLR.M, A, C and I");
        ensure_eq!(hart.report()?, pstate::DAIF, "DAIF");
        ensure_eq!(hart.report()?, 0, "ICC_IGRPEN1");
        ensure_eq!(hart.report()? & 1, 0, "CNTV_CTL.ENABLE");
        ensure_eq!(hart.report()? >> 20 & 3, 0, "CPACR.FPEN");
        ensure_eq!(hart.report()?, 1 << 2, "CurrentEL");
        hart.mmio_read(DEVICE, Byte)?;
        // As a CPU is started again: reset, entry, argument.
        vcpu.reset()?;
        ensure_eq!(vcpu.state(), VCpuState::Ready, "after the reset");
        vcpu.set_entry(GuestPhysAddr::new(CODE))?;
        vcpu.set_gpr(0, life + 1)?;
        vcpu.set_gpr(1, 7)?;
    }
    Ok(())
}
