//! Integer computation: RV64I, M, Zba, Zbb, Zbs.

use super::op::{Op, Plain};
use crate::hart::Hart;

/// Operations that compute `rd` from `rs1` and `rs2`.
macro_rules! register_ops {
    ($($(#[$doc:meta])* $name:ident($a:ident, $b:ident) $value:expr;)*) => {$(
        $(#[$doc])*
        pub(super) enum $name {}
        impl Plain for $name {
            #[inline(always)]
            fn perform(h: &mut Hart, op: &Op, _pc: u64) -> bool {
                let ($a, $b) = (h.get(op.rs1), h.get(op.rs2));
                h.set(op.rd, $value);
                true
            }
        }
    )*};
}

/// Operations that compute `rd` from `rs1` and the immediate.
macro_rules! immediate_ops {
    ($($(#[$doc:meta])* $name:ident($a:ident, $imm:ident) $value:expr;)*) => {$(
        $(#[$doc])*
        pub(super) enum $name {}
        impl Plain for $name {
            #[inline(always)]
            fn perform(h: &mut Hart, op: &Op, _pc: u64) -> bool {
                let ($a, $imm) = (h.get(op.rs1), op.imm as i64 as u64);
                h.set(op.rd, $value);
                true
            }
        }
    )*};
}

/// The low 32 bits, sign-extended: the result of every `…w` instruction.
#[inline(always)]
const fn word(value: u64) -> u64 {
    value as i32 as i64 as u64
}

immediate_ops! {
    Addi(a, imm) a.wrapping_add(imm);
    Slti(a, imm) u64::from((a as i64) < imm as i64);
    Sltiu(a, imm) u64::from(a < imm);
    Xori(a, imm) a ^ imm;
    Ori(a, imm) a | imm;
    Andi(a, imm) a & imm;
    Slli(a, imm) a << (imm & 63);
    Srli(a, imm) a >> (imm & 63);
    Srai(a, imm) (a as i64 >> (imm & 63)) as u64;
    Addiw(a, imm) word(a.wrapping_add(imm));
    Slliw(a, imm) word(a << (imm & 31));
    Srliw(a, imm) word(u64::from(a as u32 >> (imm & 31)));
    Sraiw(a, imm) (a as i32 >> (imm & 31)) as i64 as u64;
    /// `lui`, and `addi` from `x0`.
    Li(_a, imm) imm;
    /// `addi` of zero.
    Mv(a, _imm) a;
    SlliUw(a, imm) u64::from(a as u32) << (imm & 63);
    Rori(a, imm) a.rotate_right(imm as u32 & 63);
    Roriw(a, imm) word(u64::from((a as u32).rotate_right(imm as u32 & 31)));
    Bclri(a, imm) a & !(1 << (imm & 63));
    Bexti(a, imm) a >> (imm & 63) & 1;
    Binvi(a, imm) a ^ 1 << (imm & 63);
    Bseti(a, imm) a | 1 << (imm & 63);
    Clz(a, _imm) a.leading_zeros().into();
    Ctz(a, _imm) a.trailing_zeros().into();
    Cpop(a, _imm) a.count_ones().into();
    Clzw(a, _imm) (a as u32).leading_zeros().into();
    Ctzw(a, _imm) (a as u32).trailing_zeros().into();
    Cpopw(a, _imm) (a as u32).count_ones().into();
    SextB(a, _imm) a as i8 as i64 as u64;
    SextH(a, _imm) a as i16 as i64 as u64;
    ZextH(a, _imm) u64::from(a as u16);
    Rev8(a, _imm) a.swap_bytes();
    OrcB(a, _imm) orc(a);
}

register_ops! {
    Add(a, b) a.wrapping_add(b);
    Sub(a, b) a.wrapping_sub(b);
    Sll(a, b) a << (b & 63);
    Slt(a, b) u64::from((a as i64) < b as i64);
    Sltu(a, b) u64::from(a < b);
    Xor(a, b) a ^ b;
    Srl(a, b) a >> (b & 63);
    Sra(a, b) (a as i64 >> (b & 63)) as u64;
    Or(a, b) a | b;
    And(a, b) a & b;
    Addw(a, b) word(a.wrapping_add(b));
    Subw(a, b) word(a.wrapping_sub(b));
    Sllw(a, b) word(a << (b & 31));
    Srlw(a, b) word(u64::from(a as u32 >> (b & 31)));
    Sraw(a, b) (a as i32 >> (b & 31)) as i64 as u64;

    Mul(a, b) a.wrapping_mul(b);
    Mulh(a, b) ((i128::from(a as i64) * i128::from(b as i64)) >> 64) as u64;
    Mulhsu(a, b) ((i128::from(a as i64) * i128::from(b)) >> 64) as u64;
    Mulhu(a, b) ((u128::from(a) * u128::from(b)) >> 64) as u64;
    Mulw(a, b) word(a.wrapping_mul(b));
    // Division never traps: by zero it gives all ones and the dividend, and the one overflow wraps.
    Div(a, b) if b == 0 { u64::MAX } else { (a as i64).wrapping_div(b as i64) as u64 };
    Divu(a, b) a.checked_div(b).unwrap_or(u64::MAX);
    Rem(a, b) if b == 0 { a } else { (a as i64).wrapping_rem(b as i64) as u64 };
    Remu(a, b) a.checked_rem(b).unwrap_or(a);
    Divw(a, b) if b as u32 == 0 { u64::MAX } else { (a as i32).wrapping_div(b as i32) as i64 as u64 };
    Divuw(a, b) word(u64::from((a as u32).checked_div(b as u32).unwrap_or(u32::MAX)));
    Remw(a, b) if b as u32 == 0 { word(a) } else { (a as i32).wrapping_rem(b as i32) as i64 as u64 };
    Remuw(a, b) word(u64::from((a as u32).checked_rem(b as u32).unwrap_or(a as u32)));

    AddUw(a, b) u64::from(a as u32).wrapping_add(b);
    Sh1add(a, b) (a << 1).wrapping_add(b);
    Sh2add(a, b) (a << 2).wrapping_add(b);
    Sh3add(a, b) (a << 3).wrapping_add(b);
    Sh1addUw(a, b) (u64::from(a as u32) << 1).wrapping_add(b);
    Sh2addUw(a, b) (u64::from(a as u32) << 2).wrapping_add(b);
    Sh3addUw(a, b) (u64::from(a as u32) << 3).wrapping_add(b);
    Andn(a, b) a & !b;
    Orn(a, b) a | !b;
    Xnor(a, b) !(a ^ b);
    Max(a, b) (a as i64).max(b as i64) as u64;
    Maxu(a, b) a.max(b);
    Min(a, b) (a as i64).min(b as i64) as u64;
    Minu(a, b) a.min(b);
    Rol(a, b) a.rotate_left(b as u32 & 63);
    Rolw(a, b) word(u64::from((a as u32).rotate_left(b as u32 & 31)));
    Ror(a, b) a.rotate_right(b as u32 & 63);
    Rorw(a, b) word(u64::from((a as u32).rotate_right(b as u32 & 31)));
    Bclr(a, b) a & !(1 << (b & 63));
    Bext(a, b) a >> (b & 63) & 1;
    Binv(a, b) a ^ 1 << (b & 63);
    Bset(a, b) a | 1 << (b & 63);
}

/// `auipc`; the immediate already counts from the start of the block.
pub(super) enum Auipc {}

impl Plain for Auipc {
    #[inline(always)]
    fn perform(h: &mut Hart, op: &Op, pc: u64) -> bool {
        h.set(op.rd, pc.wrapping_add(op.imm as i64 as u64));
        true
    }
}

/// All ones in each byte that is not zero.
const fn orc(value: u64) -> u64 {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    // The top bit of each byte: set if any bit of the byte is.
    let any = (((value & LOW) + LOW) | value) & !LOW;
    (any >> 7).wrapping_mul(0xff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orc_fills_every_byte_that_is_not_zero() {
        for value in [0, 1, 0x80, 0x0100, 0xff00_0000_0000_0001, 0x0080_0100_ff00_7f00, u64::MAX] {
            let expected = value.to_le_bytes().map(|byte| if byte == 0 { 0 } else { 0xff });
            assert_eq!(orc(value).to_le_bytes(), expected, "{value:#x}");
        }
    }
}
