//! Vector registers, for guests that have any.

use axvcpu_riscv::asm::*;
use axvcpu_riscv::csr::{cause, num};

use super::Subject;
use super::bench::Bench;
use super::guest::*;
use crate::report::{Verdict, ensure, ensure_eq};

/// `sstatus.VS`: 0 off, 1 initial, 2 clean, 3 dirty.
const VS: u64 = 3 << 9;
const VXRM: u16 = 0x00a;
const VL: u16 = 0xc20;
const VTYPE: u16 = 0xc21;

/// 64-bit elements, one register to a group, tail and mask agnostic.
const E64: u32 = 0xd8;
/// Elements used of each register: what the smallest there are have room for.
const ELEMENTS: i64 = 2;

/// The vector instructions that the suite needs; the assembler has none.
impl Guest {
    fn vsetvli(&mut self, rd: X, rs1: X) {
        let (rd, rs1) = (u32::from(rd.number()), u32::from(rs1.number()));
        self.word(E64 << 20 | rs1 << 15 | 7 << 12 | rd << 7 | 0x57);
    }

    fn vmv_v_x(&mut self, vd: u32, rs1: X) {
        self.word(0x5e00_4057 | u32::from(rs1.number()) << 15 | vd << 7);
    }

    fn vse64_v(&mut self, vs3: u32, rs1: X) {
        self.word(0x0200_7027 | u32::from(rs1.number()) << 15 | vs3 << 7);
    }

    /// Stores the elements of all registers from `t1` on, which is behind them then.
    fn store_vectors(&mut self) {
        for register in 0..32 {
            self.vse64_v(register, T1);
            self.addi(T1, T1, 8 * ELEMENTS as i32);
        }
    }
}

/// Two vCPUs take turns, and neither finds anything of the other's. Where a guest has no vectors, their
/// instructions are illegal.
pub(super) fn isolation<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot_many(subject, 2, |g| {
        // s2: this hart's data; s3: what its registers are filled from; s4: its number plus 1.
        g.slli(S2, A0, 12);
        g.li(T1, DATA as i64);
        g.add(S2, S2, T1);
        g.addi(S4, A0, 1);
        g.li(S3, pattern(3) as i64);
        g.mul(S3, S3, S4);
        g.li(T0, 1 << 9);
        g.csrrs(ZERO, num::SSTATUS, T0);
        g.report_csr(num::SSTATUS);
        g.li(T2, ELEMENTS);
        g.vsetvli(T0, T2);
        g.mv(T1, S2);
        g.store_vectors(); // as they are at first
        g.csrw(VXRM, S4);
        g.mark(1);
        let again = g.here_label();
        for register in 0..32 {
            g.li(T1, pattern(register) as i64);
            g.add(T1, T1, S3);
            g.vmv_v_x(register as u32, T1);
        }
        g.mark(2);
        g.mv(T1, S2);
        g.store_vectors();
        for csr in [VXRM, VL, VTYPE] {
            g.csrr(T0, csr);
            g.sd(T0, 0, T1);
            g.addi(T1, T1, 8);
        }
        g.mark(3);
        g.addi(S3, S3, 17);
        g.j(again);
    })?;
    for hart in &bench.harts {
        if hart.report()? & VS == 0 {
            hart.trap_for(cause::ILLEGAL)?;
            return Ok(());
        }
    }
    let element = |index: usize, register: u64, element: u64| {
        let number = register * ELEMENTS as u64 + element;
        bench.space.read(DATA + 4096 * index as u64 + 8 * number)
    };
    let value = |index: usize, register: u64, round: u64| {
        let seed = pattern(3).wrapping_mul(index as u64 + 1).wrapping_add(17 * round);
        pattern(register).wrapping_add(seed)
    };
    bench.harts[0].mark(1)?;
    bench.harts[0].mark(2)?;
    bench.harts[1].mark(1)?;
    for register in 0..32 {
        for at in 0..ELEMENTS as u64 {
            let found = element(1, register, at)?;
            ensure!(found != value(0, register, 0), "v{register} of another vCPU");
        }
    }
    bench.harts[1].mark(2)?;
    for round in 0..4 {
        for (index, hart) in bench.harts.iter().enumerate() {
            hart.mark(3)?;
            for register in 0..32 {
                for at in 0..ELEMENTS as u64 {
                    let expected = value(index, register, round);
                    ensure_eq!(
                        element(index, register, at)?,
                        expected,
                        "v{register} of vCPU {index}"
                    );
                }
            }
            for (at, expected, name) in [
                (0, index as u64 + 1, "vxrm"),
                (1, ELEMENTS as u64, "vl"),
                (2, u64::from(E64), "vtype"),
            ] {
                let found = bench.space.read(DATA + 4096 * index as u64 + 512 + 8 * at)?;
                ensure_eq!(found, expected, "{name} of vCPU {index}");
            }
        }
        for hart in &bench.harts {
            hart.mark(2)?;
        }
    }
    Ok(())
}
