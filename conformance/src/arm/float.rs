//! SIMD and floating point: device accesses, and what one vCPU sees of another's registers.

use axvcpu::AccessKind::{Read, Write};
use axvcpu::AccessWidth::{Byte, Dword, Qword, Word};
use axvcpu_arm::asm::*;

use super::Subject;
use super::bench::Bench;
use super::guest::*;
use crate::report::{Verdict, ensure, ensure_eq};

impl Guest {
    /// Puts a value in both halves of a vector register, inverted in the upper one. Uses `x9`.
    fn fill(&mut self, register: V, value: X) {
        self.fmov_to(register, value);
        self.orr(X9, XZR, value);
        self.li(X10, u64::MAX);
        self.eor(X9, X9, X10);
        self.ins_d(register, 1, X9);
    }
}

pub(super) fn device_accesses<S: Subject>(subject: &S) -> Verdict {
    type Access = fn(&mut Asm, V, X, u32);
    let accesses: [(axvcpu::AccessWidth, Access, Access); 4] = [
        (Byte, Asm::ldr_b, Asm::str_b),
        (Word, Asm::ldr_h, Asm::str_h),
        (Dword, Asm::ldr_s, Asm::str_s),
        (Qword, Asm::ldr_d, Asm::str_d),
    ];
    let bench = Bench::boot(subject, |g| {
        g.float_on();
        g.li(X19, DEVICE);
        for register in float_registers() {
            for (_, load, store) in accesses {
                // What was in the register disappears, to its last bit.
                g.li(X20, u64::MAX);
                g.fill(register, X20);
                load(g, register, X19, 16);
                g.fmov_from(X20, register);
                g.report(X20);
                g.umov_d(X20, register, 1);
                g.report(X20);
                store(g, register, X19, 24);
            }
        }
        g.li(X20, pattern(50));
        g.fmov_to(V7, X20);
        g.str_d_pre(V7, X19, -8);
        g.ldr_d_post(V8, X19, 16);
        g.fmov_from(X20, V8);
        g.report(X20);
        g.report(X19);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    for number in 0..32 {
        for (width, ..) in accesses {
            let value = pattern(number) & width.mask();
            hart.mmio_read(DEVICE + 16, width)?;
            vcpu.set_return_value(pattern(number))?;
            ensure_eq!(hart.report()?, value, "v{number}, lower half");
            ensure_eq!(hart.report()?, 0, "v{number}, upper half");
            hart.mmio_write(DEVICE + 24, width, value)?;
        }
    }
    hart.mmio_write(DEVICE - 8, Qword, pattern(50))?;
    hart.mmio_read(DEVICE - 8, Qword)?;
    vcpu.set_return_value(pattern(51))?;
    hart.mark(pattern(51))?;
    hart.mark(DEVICE + 8)?;
    hart.end()
}

/// 16 bytes are more than an exit can speak of.
pub(super) fn quadwords<S: Subject>(subject: &S) -> Verdict {
    let mut at = 0;
    let bench = Bench::boot(subject, |g| {
        g.float_on();
        g.li(X19, DEVICE);
        at = g.here();
        g.ldr_q(V3, X19, 0);
        g.str_q(V3, X19, 16);
        g.ldp_q(V3, V4, X19, 0);
        g.stp_q(V3, V4, X19, 0);
        g.mark(1);
    })?;
    let hart = bench.hart();
    let cases = [(0, Read), (16, Write), (0, Read), (0, Write)];
    for (index, (offset, access)) in cases.into_iter().enumerate() {
        hart.nested_fault(DEVICE + offset, access)?;
        let elr = at + 4 * index as u64;
        hart.failed("16 bytes", class::DATA, elr, DEVICE + offset, access == Write)?;
        hart.vcpu.set_return_value(elr + 4)?;
    }
    hart.mark(1)
}

pub(super) fn switched_off<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.set_sys(sys::CPACR_EL1, 0);
        g.isb();
        g.li(X19, DEVICE);
        g.ldr_s(V0, X19, 0);
        g.str_d(V0, X19, 0);
        g.fmov_to(V0, X19);
        g.mrs(X20, sys::FPCR);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    for _ in 0..4 {
        let trap = hart.exception(class::FP)?;
        vcpu.set_return_value(trap.elr + 4)?;
    }
    hart.end()
}

/// A value that `FPCR` keeps: the rounding mode and flushing to zero; and one that `FPSR` does.
const FPCR: u64 = 3 << 22 | 1 << 24;
const FPSR: u64 = 0x1f | 1 << 27;

/// Two vCPUs on one physical CPU take turns, each with its own registers.
pub(super) fn isolation<S: Subject>(subject: &S) -> Verdict {
    const ROUNDS: u64 = 4;
    const STEP: u64 = 0x1234_5678_9abc_def1;
    let bench = Bench::boot_many(subject, 2, |g| {
        // x19: this vCPU's data; x21: what its registers are filled from.
        g.lsl(X19, X0, 12);
        g.li(X20, DATA);
        g.add(X19, X19, X20);
        g.add_imm(X22, X0, 1);
        g.li(X21, STEP);
        g.mul(X21, X21, X22);
        g.float_on();
        let again = g.here_label();
        g.mov(X20, X21);
        for register in float_registers() {
            g.fill(register, X20);
            g.add(X20, X20, X21);
        }
        g.lsl(X23, X22, 22);
        g.msr(sys::FPCR, X23);
        g.msr(sys::FPSR, X22);
        g.mark(1);
        for register in float_registers() {
            g.str_q(register, X19, 16 * u32::from(register.number()));
        }
        g.mrs(X23, sys::FPCR);
        g.str(X23, X19, 512);
        g.mrs(X23, sys::FPSR);
        g.str(X23, X19, 520);
        g.mark(2);
        g.add_imm(X21, X21, 17);
        g.b(again);
    })?;
    let mut seed = [1, 2].map(|n: u64| n.wrapping_mul(STEP));
    for _ in 0..ROUNDS {
        for hart in &bench.harts {
            hart.mark(1)?;
        }
        for (index, hart) in bench.harts.iter().enumerate() {
            hart.mark(2)?;
            let data = DATA + 4096 * index as u64;
            for number in 0..32 {
                let expected = seed[index].wrapping_mul(number + 1);
                let low = bench.space.read(data + 16 * number)?;
                let high = bench.space.read(data + 16 * number + 8)?;
                ensure_eq!((low, high), (expected, !expected), "q{number} of vCPU {index}");
            }
            let own = index as u64 + 1;
            ensure_eq!(bench.space.read(data + 512)?, own << 22, "FPCR of vCPU {index}");
            ensure_eq!(bench.space.read(data + 520)?, own, "FPSR of vCPU {index}");
            seed[index] = seed[index].wrapping_add(17);
        }
    }
    Ok(())
}

/// A load from a device that is answered when another vCPU has used floating point in between.
pub(super) fn late_answer<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot_many(subject, 2, |g| {
        g.lsl(X19, X0, 12);
        g.li(X20, DATA);
        g.add(X19, X19, X20);
        g.add_imm(X22, X0, 1);
        g.li(X21, DEVICE);
        g.float_on();
        for register in float_registers() {
            g.li(X20, pattern(register.number().into()));
            g.mul(X20, X20, X22);
            g.fill(register, X20);
        }
        g.mark(1);
        g.ldr_d(V15, X21, 0);
        for register in float_registers() {
            g.str_q(register, X19, 16 * u32::from(register.number()));
        }
        g.mark(2);
    })?;
    let [first, second] = &bench.harts[..] else { return Ok(()) };
    first.mark(1)?;
    second.mark(1)?;
    first.mmio_read(DEVICE, Qword)?;
    second.mmio_read(DEVICE, Qword)?;
    second.vcpu.set_return_value(pattern(92))?;
    second.mark(2)?;
    first.vcpu.set_return_value(pattern(91))?;
    first.mark(2)?;
    for (index, factor) in [1, 2].into_iter().enumerate() {
        for number in 0..32 {
            let value = pattern(number).wrapping_mul(factor);
            let expected = if number == 15 { (pattern(90 + factor), 0) } else { (value, !value) };
            let at = DATA + 4096 * index as u64 + 16 * number;
            let found = (bench.space.read(at)?, bench.space.read(at + 8)?);
            ensure_eq!(found, expected, "q{number} of vCPU {index}");
        }
    }
    Ok(())
}

/// A vCPU that never used floating point finds nothing of another's when it starts to.
pub(super) fn nothing_leaks<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot_many(subject, 2, |g| {
        let second = g.label();
        g.mov(X19, X0);
        g.float_on();
        g.cbnz(X19, second);
        for register in float_registers() {
            g.li(X20, pattern(register.number().into()));
            g.fill(register, X20);
        }
        g.set_sys(sys::FPCR, FPCR);
        g.set_sys(sys::FPSR, FPSR);
        g.mark(1);
        g.end();
        g.bind(second);
        g.li(X20, DATA);
        for register in float_registers() {
            g.str_q(register, X20, 16 * u32::from(register.number()));
        }
        g.report_sys(sys::FPCR);
        g.report_sys(sys::FPSR);
    })?;
    bench.harts[0].mark(1)?;
    ensure_eq!(bench.harts[1].report()?, 0, "FPCR");
    ensure!(bench.harts[1].report()? != FPSR, "FPSR of another vCPU");
    for number in 0..32 {
        let at = DATA + 16 * number;
        let found = (bench.space.read(at)?, bench.space.read(at + 8)?);
        ensure!(found.0 != pattern(number), "q{number} of another vCPU, lower half");
        ensure!(found.1 != !pattern(number), "q{number} of another vCPU, upper half");
    }
    Ok(())
}

/// Floating point that the guest's EL0 may use and that it switches off and on again keeps its values.
pub(super) fn switched<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot_many(subject, 2, |g| {
        g.add_imm(X22, X0, 1);
        g.float_on();
        g.li(X20, pattern(1));
        g.mul(X20, X20, X22);
        g.fill(V9, X20);
        g.set_sys(sys::CPACR_EL1, 0);
        g.isb();
        g.mark(1);
        g.float_on();
        g.fmov_from(X20, V9);
        g.report(X20);
        g.umov_d(X20, V9, 1);
        g.report(X20);
        g.mark(2);
    })?;
    for hart in &bench.harts {
        hart.mark(1)?;
    }
    for (factor, hart) in (1..).zip(&bench.harts) {
        let value = pattern(1).wrapping_mul(factor);
        ensure_eq!(hart.report()?, value, "lower half");
        ensure_eq!(hart.report()?, !value, "upper half");
        hart.mark(2)?;
    }
    Ok(())
}
