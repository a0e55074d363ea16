//! Floating point: device accesses, and what one vCPU sees of another's registers.

use axvcpu::AccessWidth::{Dword, Qword};
use axvcpu_riscv::asm::*;
use axvcpu_riscv::csr::{cause, num, sstatus};

use super::Subject;
use super::bench::Bench;
use super::guest::*;
use crate::report::{Verdict, ensure, ensure_eq};

impl Guest {
    /// Switches floating point on, in state "initial". Uses `t0`.
    pub(super) fn float_on(&mut self) {
        self.li(T0, sstatus::FS as i64);
        self.csrrc(ZERO, num::SSTATUS, T0);
        self.li(T0, 1 << 13);
        self.csrrs(ZERO, num::SSTATUS, T0);
    }
}

pub(super) fn float_registers() -> impl Iterator<Item = F> {
    (0..32).filter_map(F::new)
}

pub(super) fn device_accesses<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.float_on();
        g.li(S0, DEVICE as i64);
        for register in float_registers() {
            g.flw(register, 4, S0);
            g.fmv_x_d(A0, register);
            g.report(A0);
            g.fsd(register, 8, S0);
            g.fld(register, 16, S0);
            g.fmv_x_d(A0, register);
            g.report(A0);
            g.fsw(register, 20, S0);
            g.fsd(register, 24, S0);
        }
        // A device made the registers dirty: who saves them only when they are must see it.
        g.report_csr(num::SSTATUS);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    for number in 0..32 {
        let (single, double) = (pattern(number) & 0xffff_ffff, pattern(number + 40));
        let boxed = single | 0xffff_ffff << 32;
        hart.mmio_read(DEVICE + 4, Dword)?;
        vcpu.set_return_value(pattern(number))?;
        ensure_eq!(hart.report()?, boxed, "f{number} after flw, boxed");
        hart.mmio_write(DEVICE + 8, Qword, boxed)?;
        hart.mmio_read(DEVICE + 16, Qword)?;
        vcpu.set_return_value(double)?;
        ensure_eq!(hart.report()?, double, "f{number} after fld");
        hart.mmio_write(DEVICE + 20, Dword, double & 0xffff_ffff)?;
        hart.mmio_write(DEVICE + 24, Qword, double)?;
    }
    ensure_eq!(hart.report()? & sstatus::FS, sstatus::FS, "sstatus.FS");
    hart.end()
}

pub(super) fn compressed_device_accesses<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.float_on();
        g.li(S0, DEVICE as i64);
        g.li(SP, DEVICE as i64);
        for register in (8..16).filter_map(F::new) {
            g.c_fld(register, 248, S0);
            g.c_fsd(register, 240, S0);
        }
        for register in float_registers() {
            g.c_fldsp(register, 504);
            g.c_fsdsp(register, 496);
        }
        g.mark(1);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    for number in 8..16 {
        hart.mmio_read(DEVICE + 248, Qword)?;
        vcpu.set_return_value(pattern(number))?;
        hart.mmio_write(DEVICE + 240, Qword, pattern(number))?;
    }
    for number in 0..32 {
        hart.mmio_read(DEVICE + 504, Qword)?;
        vcpu.set_return_value(pattern(number))?;
        hart.mmio_write(DEVICE + 496, Qword, pattern(number))?;
    }
    hart.mark(1)
}

pub(super) fn switched_off<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.li(T0, sstatus::FS as i64);
        g.csrrc(ZERO, num::SSTATUS, T0);
        g.li(S0, DEVICE as i64);
        g.flw(FA0, 0, S0);
        g.fsd(FA0, 0, S0);
        g.fadd_d(FA0, FA0, FA0, Rounding::Dyn);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    for what in ["flw", "fsd", "fadd.d"] {
        let trap = hart.trap_for(cause::ILLEGAL)?;
        ensure!(trap.status & sstatus::FS == 0, "{what}: sstatus.FS was on");
        vcpu.set_return_value(trap.epc + 4)?;
    }
    hart.end()
}

/// Two vCPUs on one physical CPU take turns, each with its own floating-point registers.
pub(super) fn isolation<S: Subject>(subject: &S) -> Verdict {
    const ROUNDS: u64 = 4;
    let bench = Bench::boot_many(subject, 2, |g| {
        // s2: this hart's data; s3: what its registers are filled from.
        g.slli(S2, A0, 12);
        g.li(T1, DATA as i64);
        g.add(S2, S2, T1);
        g.li(S3, 0x1234_5678_9abc_def1u64 as i64);
        g.addi(S4, A0, 1);
        g.mul(S3, S3, S4);
        g.float_on();
        let again = g.here_label();
        g.mv(T1, S3);
        for register in float_registers() {
            g.fmv_d_x(register, T1);
            g.add(T1, T1, S3);
        }
        g.andi(T2, S4, 7);
        g.csrw(num::FCSR, T2);
        g.mark(1);
        for register in float_registers() {
            g.fsd(register, 8 * i32::from(register.number()), S2);
        }
        g.csrr(T2, num::FCSR);
        g.sd(T2, 256, S2);
        g.mark(2);
        g.addi(S3, S3, 17);
        g.j(again);
    })?;
    let mut seed = [1, 2].map(|n: u64| n.wrapping_mul(0x1234_5678_9abc_def1));
    for _ in 0..ROUNDS {
        for hart in &bench.harts {
            hart.mark(1)?;
        }
        for (index, hart) in bench.harts.iter().enumerate() {
            hart.mark(2)?;
            let data = DATA + 4096 * index as u64;
            for number in 0..32 {
                let expected = seed[index].wrapping_mul(number + 1);
                let found = bench.space.read(data + 8 * number)?;
                ensure_eq!(found, expected, "f{number} of vCPU {index}");
            }
            ensure_eq!(bench.space.read(data + 256)?, index as u64 + 1, "fcsr of vCPU {index}");
            seed[index] = seed[index].wrapping_add(17);
        }
    }
    Ok(())
}

/// A load from a device that is answered when another vCPU has used floating point in between.
pub(super) fn late_answer<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot_many(subject, 2, |g| {
        g.slli(S2, A0, 12);
        g.li(T1, DATA as i64);
        g.add(S2, S2, T1);
        g.addi(S4, A0, 1);
        g.li(S0, DEVICE as i64);
        g.float_on();
        for register in float_registers() {
            g.li(T1, pattern(register.number().into()) as i64);
            g.mul(T1, T1, S4);
            g.fmv_d_x(register, T1);
        }
        g.mark(1);
        g.fld(FA5, 0, S0);
        for register in float_registers() {
            g.fsd(register, 8 * i32::from(register.number()), S2);
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
        for register in float_registers() {
            let number = u64::from(register.number());
            let expected = match register {
                FA5 => pattern(90 + factor),
                _ => pattern(number).wrapping_mul(factor),
            };
            let found = bench.space.read(DATA + 4096 * index as u64 + 8 * number)?;
            ensure_eq!(found, expected, "f{number} of vCPU {index}");
        }
    }
    Ok(())
}

/// A vCPU that never used floating point finds zeros when it starts to, whatever ran before it.
pub(super) fn nothing_leaks<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot_many(subject, 2, |g| {
        let second = g.label();
        g.float_on();
        g.bnez(A0, second);
        for register in float_registers() {
            g.li(T1, pattern(register.number().into()) as i64);
            g.fmv_d_x(register, T1);
        }
        g.mark(1);
        g.end();
        g.bind(second);
        g.li(T1, DATA as i64);
        for register in float_registers() {
            g.fsd(register, 8 * i32::from(register.number()), T1);
        }
        g.report_csr(num::FCSR);
    })?;
    bench.harts[0].mark(1)?;
    ensure_eq!(bench.harts[1].report()?, 0, "fcsr");
    for number in 0..32 {
        let found = bench.space.read(DATA + 8 * number)?;
        ensure!(found != pattern(number), "f{number} of another vCPU");
    }
    Ok(())
}
