//! Loads and stores of any shape, for guests that leave.

use axvcpu_riscv::asm::Asm;

use crate::exits::emit;
use crate::rng::Rng;

/// A load or store: plain, compressed, or compressed with the stack pointer.
pub(crate) struct Access {
    kind: Kind,
    name: &'static str,
    /// Its width in bytes.
    pub(crate) size: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Compressed,
    OnStack,
}

/// Registers and the number in an access's encoding.
pub(crate) struct Operands {
    /// The register with the address.
    pub(crate) base: i64,
    other: i64,
    /// Added to the address; what the access can express.
    pub(crate) offset: i64,
}

impl Access {
    pub(crate) fn pick(rng: &mut Rng) -> Self {
        const PLAIN: [(&str, u64); 15] = [
            ("lb", 1),
            ("lbu", 1),
            ("lh", 2),
            ("lhu", 2),
            ("lw", 4),
            ("lwu", 4),
            ("ld", 8),
            ("sb", 1),
            ("sh", 2),
            ("sw", 4),
            ("sd", 8),
            ("flw", 4),
            ("fld", 8),
            ("fsw", 4),
            ("fsd", 8),
        ];
        const COMPRESSED: [(&str, u64); 6] =
            [("c.lw", 4), ("c.ld", 8), ("c.sw", 4), ("c.sd", 8), ("c.fld", 8), ("c.fsd", 8)];
        const ON_STACK: [(&str, u64); 6] = [
            ("c.lwsp", 4),
            ("c.ldsp", 8),
            ("c.swsp", 4),
            ("c.sdsp", 8),
            ("c.fldsp", 8),
            ("c.fsdsp", 8),
        ];
        let (kind, names) = match rng.below(6) {
            0 => (Kind::Compressed, &COMPRESSED[..]),
            1 => (Kind::OnStack, &ON_STACK[..]),
            _ => (Kind::Plain, &PLAIN[..]),
        };
        let (name, size) = *rng.pick(names);
        Self { kind, name, size }
    }

    /// Registers up to `last`, as far as the encoding can name them.
    pub(crate) fn operands(&self, rng: &mut Rng, last: i64) -> Operands {
        let (low, high) = if self.kind == Kind::Compressed { (8, 15) } else { (1, last) };
        let base = if self.kind == Kind::OnStack { 2 } else { rng.between(low, high) };
        let other = rng.between(low, high);
        let steps = if self.kind == Kind::Plain { rng.between(-8, 7) } else { rng.between(0, 3) };
        Operands { base, other, offset: steps * self.size as i64 }
    }

    pub(crate) fn emit(&self, a: &mut Asm, operands: &Operands) {
        let Operands { base, other, offset } = *operands;
        match self.kind {
            Kind::OnStack => emit(a, self.name, &[other, offset]),
            _ => emit(a, self.name, &[other, offset, base]),
        }
    }
}
