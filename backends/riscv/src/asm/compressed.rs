//! The compressed instructions of RV64GC (unprivileged manual, the C extension).
//!
//! Of instructions whose bits overlap the special case comes first: decoding takes the first that matches.

use super::insn::{Instruction, define};
use super::operand::*;
use super::{Asm, F, Label, X};

/// Quadrant and the upper three bits in their places.
const fn c(quadrant: u32, funct3: u32) -> u32 {
    quadrant | funct3 << 13
}

define! { pub(super) TABLE:
"stack pointer plus a multiple of 4, 4 to 1020; `rd` is one of `x8..x15`" (rd: X = C_RD_LOW, imm: u32 = C_ADDI4SPN) {
    c_addi4spn "c.addi4spn" c(0, 0);
}
"load; `rd` and `base` are of `x8..x15`, the offset a multiple of 4 up to 124"
    (rd: X = C_RD_LOW, offset: u32 = C_LW, base: X = C_BASE) {
    c_lw "c.lw" c(0, 2);
}
"load; `rd` and `base` are of `x8..x15`, the offset a multiple of 8 up to 248"
    (rd: X = C_RD_LOW, offset: u32 = C_LD, base: X = C_BASE) {
    c_ld "c.ld" c(0, 3);
}
"floating-point load; `rd` is of `f8..f15`, `base` of `x8..x15`, the offset a multiple of 8 up to 248"
    (rd: F = C_FD_LOW, offset: u32 = C_LD, base: X = C_BASE) {
    c_fld "c.fld" c(0, 1);
}
"store; `src` and `base` are of `x8..x15`, the offset a multiple of 4 up to 124"
    (src: X = C_RD_LOW, offset: u32 = C_LW, base: X = C_BASE) {
    c_sw "c.sw" c(0, 6);
}
"store; `src` and `base` are of `x8..x15`, the offset a multiple of 8 up to 248"
    (src: X = C_RD_LOW, offset: u32 = C_LD, base: X = C_BASE) {
    c_sd "c.sd" c(0, 7);
}
"floating-point store; `src` is of `f8..f15`, `base` of `x8..x15`, the offset a multiple of 8 up to 248"
    (src: F = C_FD_LOW, offset: u32 = C_LD, base: X = C_BASE) {
    c_fsd "c.fsd" c(0, 5);
}
"does nothing" () {
    c_nop "c.nop" c(1, 0);
}
"adds -32 to 31, not 0, to a register that is not `x0`" (rd: X = C_RD, imm: i32 = C_IMM_NZ) {
    c_addi "c.addi" c(1, 0);
}
"register that is not `x0`, and -32 to 31" (rd: X = C_RD, imm: i32 = C_IMM) {
    c_addiw "c.addiw" c(1, 1);
    c_li "c.li" c(1, 2);
}
"adds a multiple of 16, -512 to 496, not 0, to the stack pointer" (imm: i32 = C_ADDI16SP) {
    c_addi16sp "c.addi16sp" c(1, 3) | 2 << 7;
}
"upper immediate, -32 to 31, not 0; `rd` is neither `x0` nor `x2`" (rd: X = C_RD_LUI, imm: i32 = C_LUI) {
    c_lui "c.lui" c(1, 3);
}
"shift of one of `x8..x15` by 1 to 63" (rd: X = C_RS1, shamt: u32 = C_SHAMT) {
    c_srli "c.srli" c(1, 4);
    c_srai "c.srai" c(1, 4) | 1 << 10;
}
"one of `x8..x15` and -32 to 31" (rd: X = C_RS1, imm: i32 = C_IMM) {
    c_andi "c.andi" c(1, 4) | 2 << 10;
}
"two of `x8..x15`, the result in the first" (rd: X = C_RS1, rs2: X = C_RD_LOW) {
    c_sub "c.sub" c(1, 4) | 3 << 10;
    c_xor "c.xor" c(1, 4) | 3 << 10 | 1 << 5;
    c_or "c.or" c(1, 4) | 3 << 10 | 2 << 5;
    c_and "c.and" c(1, 4) | 3 << 10 | 3 << 5;
    c_subw "c.subw" c(1, 4) | 7 << 10;
    c_addw "c.addw" c(1, 4) | 7 << 10 | 1 << 5;
}
"jump by less than 2 KiB" (target: Label = C_J) {
    c_j "c.j" c(1, 5);
}
"branch on one of `x8..x15`, by less than 256 bytes" (rs1: X = C_RS1, target: Label = C_B) {
    c_beqz "c.beqz" c(1, 6);
    c_bnez "c.bnez" c(1, 7);
}
"shift of a register that is not `x0` by 1 to 63" (rd: X = C_RD, shamt: u32 = C_SHAMT) {
    c_slli "c.slli" c(2, 0);
}
"load from the stack pointer plus a multiple of 4 up to 252; `rd` is not `x0`" (rd: X = C_RD, offset: u32 = C_LWSP) {
    c_lwsp "c.lwsp" c(2, 2);
}
"load from the stack pointer plus a multiple of 8 up to 504; `rd` is not `x0`" (rd: X = C_RD, offset: u32 = C_LDSP) {
    c_ldsp "c.ldsp" c(2, 3);
}
"load from the stack pointer plus a multiple of 8 up to 504" (rd: F = C_FD, offset: u32 = C_LDSP) {
    c_fldsp "c.fldsp" c(2, 1);
}
"jump to the address in a register that is not `x0`" (rs1: X = C_RD) {
    c_jr "c.jr" c(2, 4);
}
"registers that are not `x0`" (rd: X = C_RD, rs2: X = C_RS2) {
    c_mv "c.mv" c(2, 4);
}
"breakpoint" () {
    c_ebreak "c.ebreak" c(2, 4) | 1 << 12;
}
"jump to the address in a register that is not `x0`, linking `ra`" (rs1: X = C_RD) {
    c_jalr "c.jalr" c(2, 4) | 1 << 12;
}
"registers that are not `x0`, the result in the first" (rd: X = C_RD, rs2: X = C_RS2) {
    c_add "c.add" c(2, 4) | 1 << 12;
}
"store to the stack pointer plus a multiple of 4 up to 252" (src: X = C_SRC, offset: u32 = C_SWSP) {
    c_swsp "c.swsp" c(2, 6);
}
"store to the stack pointer plus a multiple of 8 up to 504" (src: X = C_SRC, offset: u32 = C_SDSP) {
    c_sdsp "c.sdsp" c(2, 7);
}
"store to the stack pointer plus a multiple of 8 up to 504" (src: F = C_FS2, offset: u32 = C_SDSP) {
    c_fsdsp "c.fsdsp" c(2, 5);
}
}
