//! Integer computation: RV64I, M, Zba, Zbb, Zbs.

use super::op::{Cursor, Stop};
use super::step;
use crate::hart::Hart;

/// Handlers that compute `rd` from `rs1` and `rs2`.
macro_rules! register_ops {
    ($($(#[$doc:meta])* $name:ident($a:ident, $b:ident) $value:expr;)*) => {$(
        $(#[$doc])*
        pub(super) fn $name(h: &mut Hart, c: Cursor, pc: u64, left: i64) -> Stop {
            let op = c.op();
            let ($a, $b) = (h.get(op.rs1), h.get(op.rs2));
            h.set(op.rd, $value);
            step(h, c, pc, left)
        }
    )*};
}

/// Handlers that compute `rd` from `rs1` and the immediate.
macro_rules! immediate_ops {
    ($($(#[$doc:meta])* $name:ident($a:ident, $imm:ident) $value:expr;)*) => {$(
        $(#[$doc])*
        pub(super) fn $name(h: &mut Hart, c: Cursor, pc: u64, left: i64) -> Stop {
            let op = c.op();
            let ($a, $imm) = (h.get(op.rs1), op.imm as i64 as u64);
            h.set(op.rd, $value);
            step(h, c, pc, left)
        }
    )*};
}

/// The low 32 bits, sign-extended: the result of every `…w` instruction.
#[inline(always)]
const fn word(value: u64) -> u64 {
    value as i32 as i64 as u64
}

immediate_ops! {
    addi(a, imm) a.wrapping_add(imm);
    slti(a, imm) u64::from((a as i64) < imm as i64);
    sltiu(a, imm) u64::from(a < imm);
    xori(a, imm) a ^ imm;
    ori(a, imm) a | imm;
    andi(a, imm) a & imm;
    slli(a, imm) a << (imm & 63);
    srli(a, imm) a >> (imm & 63);
    srai(a, imm) (a as i64 >> (imm & 63)) as u64;
    addiw(a, imm) word(a.wrapping_add(imm));
    slliw(a, imm) word(a << (imm & 31));
    srliw(a, imm) word(u64::from(a as u32 >> (imm & 31)));
    sraiw(a, imm) (a as i32 >> (imm & 31)) as i64 as u64;
    /// `lui`, and `addi` from `x0`.
    li(_a, imm) imm;
    /// `addi` of zero.
    mv(a, _imm) a;
    slli_uw(a, imm) u64::from(a as u32) << (imm & 63);
    rori(a, imm) a.rotate_right(imm as u32 & 63);
    roriw(a, imm) word(u64::from((a as u32).rotate_right(imm as u32 & 31)));
    bclri(a, imm) a & !(1 << (imm & 63));
    bexti(a, imm) a >> (imm & 63) & 1;
    binvi(a, imm) a ^ 1 << (imm & 63);
    bseti(a, imm) a | 1 << (imm & 63);
    clz(a, _imm) a.leading_zeros().into();
    ctz(a, _imm) a.trailing_zeros().into();
    cpop(a, _imm) a.count_ones().into();
    clzw(a, _imm) (a as u32).leading_zeros().into();
    ctzw(a, _imm) (a as u32).trailing_zeros().into();
    cpopw(a, _imm) (a as u32).count_ones().into();
    sext_b(a, _imm) a as i8 as i64 as u64;
    sext_h(a, _imm) a as i16 as i64 as u64;
    zext_h(a, _imm) u64::from(a as u16);
    rev8(a, _imm) a.swap_bytes();
    orc_b(a, _imm) orc(a);
}

register_ops! {
    add(a, b) a.wrapping_add(b);
    sub(a, b) a.wrapping_sub(b);
    sll(a, b) a << (b & 63);
    slt(a, b) u64::from((a as i64) < b as i64);
    sltu(a, b) u64::from(a < b);
    xor(a, b) a ^ b;
    srl(a, b) a >> (b & 63);
    sra(a, b) (a as i64 >> (b & 63)) as u64;
    or(a, b) a | b;
    and(a, b) a & b;
    addw(a, b) word(a.wrapping_add(b));
    subw(a, b) word(a.wrapping_sub(b));
    sllw(a, b) word(a << (b & 31));
    srlw(a, b) word(u64::from(a as u32 >> (b & 31)));
    sraw(a, b) (a as i32 >> (b & 31)) as i64 as u64;

    mul(a, b) a.wrapping_mul(b);
    mulh(a, b) ((i128::from(a as i64) * i128::from(b as i64)) >> 64) as u64;
    mulhsu(a, b) ((i128::from(a as i64) * i128::from(b)) >> 64) as u64;
    mulhu(a, b) ((u128::from(a) * u128::from(b)) >> 64) as u64;
    mulw(a, b) word(a.wrapping_mul(b));
    // Division never traps: by zero it gives all ones and the dividend, and the one overflow wraps.
    div(a, b) if b == 0 { u64::MAX } else { (a as i64).wrapping_div(b as i64) as u64 };
    divu(a, b) a.checked_div(b).unwrap_or(u64::MAX);
    rem(a, b) if b == 0 { a } else { (a as i64).wrapping_rem(b as i64) as u64 };
    remu(a, b) a.checked_rem(b).unwrap_or(a);
    divw(a, b) if b as u32 == 0 { u64::MAX } else { (a as i32).wrapping_div(b as i32) as i64 as u64 };
    divuw(a, b) word(u64::from((a as u32).checked_div(b as u32).unwrap_or(u32::MAX)));
    remw(a, b) if b as u32 == 0 { word(a) } else { (a as i32).wrapping_rem(b as i32) as i64 as u64 };
    remuw(a, b) word(u64::from((a as u32).checked_rem(b as u32).unwrap_or(a as u32)));

    add_uw(a, b) u64::from(a as u32).wrapping_add(b);
    sh1add(a, b) (a << 1).wrapping_add(b);
    sh2add(a, b) (a << 2).wrapping_add(b);
    sh3add(a, b) (a << 3).wrapping_add(b);
    sh1add_uw(a, b) (u64::from(a as u32) << 1).wrapping_add(b);
    sh2add_uw(a, b) (u64::from(a as u32) << 2).wrapping_add(b);
    sh3add_uw(a, b) (u64::from(a as u32) << 3).wrapping_add(b);
    andn(a, b) a & !b;
    orn(a, b) a | !b;
    xnor(a, b) !(a ^ b);
    max(a, b) (a as i64).max(b as i64) as u64;
    maxu(a, b) a.max(b);
    min(a, b) (a as i64).min(b as i64) as u64;
    minu(a, b) a.min(b);
    rol(a, b) a.rotate_left(b as u32 & 63);
    rolw(a, b) word(u64::from((a as u32).rotate_left(b as u32 & 31)));
    ror(a, b) a.rotate_right(b as u32 & 63);
    rorw(a, b) word(u64::from((a as u32).rotate_right(b as u32 & 31)));
    bclr(a, b) a & !(1 << (b & 63));
    bext(a, b) a >> (b & 63) & 1;
    binv(a, b) a ^ 1 << (b & 63);
    bset(a, b) a | 1 << (b & 63);
}

/// `auipc`; the immediate already counts from the start of the block.
pub(super) fn auipc(h: &mut Hart, c: Cursor, pc: u64, left: i64) -> Stop {
    let op = c.op();
    h.set(op.rd, pc.wrapping_add(op.imm as i64 as u64));
    step(h, c, pc, left)
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
