//! Scalable vectors (SVE), where the guest is told that there are any: what one vCPU sees of another's.

use axvcpu_arm::asm::*;

use super::Subject;
use super::bench::Bench;
use super::guest::*;
use crate::report::{Verdict, ensure, ensure_eq};

/// `ZCR_EL1`, the vector length that EL1 asks for.
const ZCR_EL1: u16 = sys::reg(3, 0, 1, 2, 0);

/// The most bytes a vector has.
const LONGEST: u64 = 256;

// Instructions of SVE, which the assembler does not have (Arm ARM, C4.1, "SVE encodings").
impl Guest {
    /// All 64-bit lanes of `z<number>` from a general-purpose register.
    fn dup(&mut self, number: u32, from: X) {
        self.word(0x05e0_3800 | u32::from(from.number()) << 5 | number);
    }

    /// Stores `z<number>` at the address in a register.
    fn store_z(&mut self, number: u32, base: X) {
        self.word(0xe580_4000 | u32::from(base.number()) << 5 | number);
    }

    /// Stores `p<number>`.
    fn store_p(&mut self, number: u32, base: X) {
        self.word(0xe580_0000 | u32::from(base.number()) << 5 | number);
    }

    /// Sets all bits of `p<number>`, or none.
    fn set_p(&mut self, number: u32, all: bool) {
        self.word(if all { 0x2518_e3e0 } else { 0x2518_e400 } | number);
    }

    /// The bytes of a vector.
    fn rdvl(&mut self, to: X) {
        self.word(0x04bf_5020 | u32::from(to.number()));
    }
}

/// Two vCPUs on one physical CPU take turns, each with its own vectors, predicates and length.
pub(super) fn isolation<S: Subject>(subject: &S) -> Verdict {
    const STEP: u64 = 0x1234_5678_9abc_def1;
    let bench = Bench::boot_many(subject, 2, |g| {
        let (there, second, fill, read) = (g.label(), g.label(), g.label(), g.label());
        g.add_imm(X25, X0, 1);
        g.mrs(X20, sys::ID_AA64PFR0_EL1);
        g.ubfm(X20, X20, 32, 35);
        g.cbnz(X20, there);
        let again = g.here_label();
        g.mark(0);
        g.b(again);
        g.bind(there);
        g.set_sys(sys::CPACR_EL1, 3 << 20 | 3 << 16);
        g.isb();
        // The second one asks for the shortest vectors.
        g.cmp_imm(X25, 2);
        g.b_cond(Cond::Eq, second);
        g.set_sys(ZCR_EL1, 15);
        g.isb();
        g.li(X19, DATA);
        for number in 0..16 {
            g.set_p(number, number % 2 == 0);
        }
        g.b(fill);
        g.bind(second);
        g.set_sys(ZCR_EL1, 0);
        g.isb();
        g.li(X19, DATA + 4096);
        for number in 0..16 {
            g.set_p(number, number % 2 == 1);
        }
        g.bind(fill);
        g.li(X21, STEP);
        g.mul(X21, X21, X25);
        g.mov(X20, X21);
        for number in 0..32 {
            g.dup(number, X20);
            g.add(X20, X20, X21);
        }
        g.rdvl(X22);
        g.report(X22);
        g.bind(read);
        for number in 0..32 {
            g.store_z(number, X19);
            g.mark(u64::from(number));
        }
        for number in 0..16 {
            g.store_p(number, X19);
            g.mark(u64::from(number));
        }
        g.rdvl(X22);
        g.report(X22);
        g.b(read);
    })?;
    let mut bytes = [0; 2];
    for (bytes, hart) in bytes.iter_mut().zip(&bench.harts) {
        *bytes = hart.report()?;
        if *bytes == 0 {
            return Ok(()); // what a guest without it finds is another case's matter
        }
        ensure!(*bytes % 16 == 0 && *bytes <= LONGEST, "vectors of {bytes} bytes");
    }
    ensure_eq!(bytes[1], 16, "bytes of the shortest vectors");
    for round in 0..2 {
        for number in 0..32 {
            for (id, (hart, bytes)) in (0..).zip(bench.harts.iter().zip(bytes)) {
                hart.mark(number)?;
                let expected = STEP.wrapping_mul(id + 1).wrapping_mul(number + 1);
                for at in (0..bytes).step_by(8) {
                    let found = bench.space.read(DATA + 4096 * id + at)?;
                    ensure_eq!(found, expected, "z{number} of vCPU {id} at {at}, round {round}");
                }
            }
        }
        for number in 0..16 {
            for (id, (hart, bytes)) in (0..).zip(bench.harts.iter().zip(bytes)) {
                hart.mark(number)?;
                // A bit for each byte; of 16 bytes two.
                let mask = if bytes >= 64 { u64::MAX } else { (1 << bytes) - 1 };
                let found = bench.space.read(DATA + 4096 * id)? & mask;
                let expected = if number % 2 == id { mask } else { 0 };
                ensure_eq!(found, expected, "p{number} of vCPU {id}, round {round}");
            }
        }
        for (id, (hart, bytes)) in bench.harts.iter().zip(bytes).enumerate() {
            ensure_eq!(hart.report()?, bytes, "bytes of a vector of vCPU {id}, round {round}");
        }
    }
    Ok(())
}
