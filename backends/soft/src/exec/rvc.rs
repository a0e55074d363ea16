//! Compressed instructions, as the instructions they stand for. Unprivileged ISA, chapter "C".

/// The 32-bit instruction that `half` stands for; `None` when it is reserved. The order of the fields in the
/// immediates is the architecture's.
pub(super) fn expand(half: u16) -> Option<u32> {
    let h = u32::from(half);
    let bit = |from: u32, to: u32| (h >> from & 1) << to;
    let bits = |from: u32, count: u32, to: u32| (h >> from & ((1 << count) - 1)) << to;
    // Full register fields, and the three-bit ones that mean x8..x15.
    let (rd, rs2) = (bits(7, 5, 0), bits(2, 5, 0));
    let (low, high) = (bits(2, 3, 0) + 8, bits(7, 3, 0) + 8);
    let imm6 = bits(2, 5, 0) | if h & 0x1000 != 0 { !31 } else { 0 };
    let shamt = bits(2, 5, 0) | bit(12, 5);

    let i = |opcode: u32, funct3: u32, rd: u32, rs1: u32, imm: u32| {
        Some(imm << 20 | rs1 << 15 | funct3 << 12 | rd << 7 | opcode)
    };
    let s = |opcode: u32, funct3: u32, rs1: u32, rs2: u32, imm: u32| {
        Some(
            (imm >> 5 & 0x7f) << 25
                | rs2 << 20
                | rs1 << 15
                | funct3 << 12
                | (imm & 31) << 7
                | opcode,
        )
    };
    let r = |opcode: u32, funct3: u32, funct7: u32, rd: u32, rs1: u32, rs2: u32| {
        Some(funct7 << 25 | rs2 << 20 | rs1 << 15 | funct3 << 12 | rd << 7 | opcode)
    };
    let word_offset = bit(6, 2) | bits(10, 3, 3) | bit(5, 6);
    let double_offset = bits(10, 3, 3) | bits(5, 2, 6);

    match (h & 3, h >> 13) {
        (0, 0) => {
            let imm = bits(11, 2, 4) | bits(7, 4, 6) | bit(6, 2) | bit(5, 3);
            if imm == 0 { None } else { i(OP_IMM, 0, low, 2, imm) } // c.addi4spn
        }
        (0, 1) => i(LOAD_FP, 3, low, high, double_offset), // c.fld
        (0, 2) => i(LOAD, 2, low, high, word_offset),      // c.lw
        (0, 3) => i(LOAD, 3, low, high, double_offset),    // c.ld
        (0, 5) => s(STORE_FP, 3, high, low, double_offset), // c.fsd
        (0, 6) => s(STORE, 2, high, low, word_offset),     // c.sw
        (0, 7) => s(STORE, 3, high, low, double_offset),   // c.sd
        (1, 0) => i(OP_IMM, 0, rd, rd, imm6),              // c.addi, c.nop
        (1, 1) if rd != 0 => i(OP_IMM_32, 0, rd, rd, imm6), // c.addiw
        (1, 2) => i(OP_IMM, 0, rd, 0, imm6),               // c.li
        (1, 3) if imm6 == 0 => None,
        (1, 3) if rd == 2 => {
            let sign = if h & 0x1000 != 0 { !0x1ff } else { 0 };
            i(OP_IMM, 0, 2, 2, sign | bit(6, 4) | bit(2, 5) | bit(5, 6) | bits(3, 2, 7)) // c.addi16sp
        }
        (1, 3) => Some(imm6 << 12 | rd << 7 | LUI), // c.lui
        (1, 4) => match h >> 10 & 3 {
            0 => i(OP_IMM, 5, high, high, shamt),         // c.srli
            1 => i(OP_IMM, 5, high, high, shamt | 0x400), // c.srai
            2 => i(OP_IMM, 7, high, high, imm6),          // c.andi
            _ => match (h >> 12 & 1, h >> 5 & 3) {
                (0, 0) => r(OP, 0, 0x20, high, high, low),    // c.sub
                (0, 1) => r(OP, 4, 0, high, high, low),       // c.xor
                (0, 2) => r(OP, 6, 0, high, high, low),       // c.or
                (0, _) => r(OP, 7, 0, high, high, low),       // c.and
                (_, 0) => r(OP_32, 0, 0x20, high, high, low), // c.subw
                (_, 1) => r(OP_32, 0, 0, high, high, low),    // c.addw
                _ => None,
            },
        },
        (1, 5) => {
            let sign = if h & 0x1000 != 0 { !0x7ff } else { 0 };
            let imm = sign
                | bits(3, 3, 1)
                | bit(11, 4)
                | bit(2, 5)
                | bit(7, 6)
                | bit(6, 7)
                | bits(9, 2, 8)
                | bit(8, 10);
            // c.j
            Some(
                (imm >> 20 & 1) << 31
                    | (imm >> 1 & 0x3ff) << 21
                    | (imm >> 11 & 1) << 20
                    | imm & 0xf_f000
                    | JAL,
            )
        }
        (1, 6 | 7) => {
            let sign = if h & 0x1000 != 0 { !0xff } else { 0 };
            let imm = sign | bits(3, 2, 1) | bits(10, 2, 3) | bit(2, 5) | bits(5, 2, 6);
            let funct3 = h >> 13 & 1; // c.beqz, c.bnez
            Some(
                (imm >> 12 & 1) << 31
                    | (imm >> 5 & 0x3f) << 25
                    | high << 15
                    | funct3 << 12
                    | (imm >> 1 & 15) << 8
                    | (imm >> 11 & 1) << 7
                    | BRANCH,
            )
        }
        (2, 0) => i(OP_IMM, 1, rd, rd, shamt), // c.slli
        (2, 1) => i(LOAD_FP, 3, rd, 2, bits(5, 2, 3) | bit(12, 5) | bits(2, 3, 6)), // c.fldsp
        (2, 2) if rd != 0 => i(LOAD, 2, rd, 2, bits(4, 3, 2) | bit(12, 5) | bits(2, 2, 6)), // c.lwsp
        (2, 3) if rd != 0 => i(LOAD, 3, rd, 2, bits(5, 2, 3) | bit(12, 5) | bits(2, 3, 6)), // c.ldsp
        (2, 4) => match (h >> 12 & 1, rd, rs2) {
            (0, 0, 0) => None,
            (0, _, 0) => i(JALR, 0, 0, rd, 0),  // c.jr
            (0, ..) => r(OP, 0, 0, rd, 0, rs2), // c.mv
            (_, 0, 0) => Some(EBREAK),          // c.ebreak
            (_, _, 0) => i(JALR, 0, 1, rd, 0),  // c.jalr
            _ => r(OP, 0, 0, rd, rd, rs2),      // c.add
        },
        (2, 5) => s(STORE_FP, 3, 2, rs2, bits(10, 3, 3) | bits(7, 3, 6)), // c.fsdsp
        (2, 6) => s(STORE, 2, 2, rs2, bits(9, 4, 2) | bits(7, 2, 6)),     // c.swsp
        (2, 7) => s(STORE, 3, 2, rs2, bits(10, 3, 3) | bits(7, 3, 6)),    // c.sdsp
        _ => None,
    }
}

const LOAD: u32 = 0x03;
const LOAD_FP: u32 = 0x07;
const OP_IMM: u32 = 0x13;
const OP_IMM_32: u32 = 0x1b;
const STORE: u32 = 0x23;
const STORE_FP: u32 = 0x27;
const OP: u32 = 0x33;
const LUI: u32 = 0x37;
const OP_32: u32 = 0x3b;
const BRANCH: u32 = 0x63;
const JALR: u32 = 0x67;
const JAL: u32 = 0x6f;
const EBREAK: u32 = 0x0010_0073;

#[cfg(test)]
mod tests {
    use super::expand;

    #[test]
    fn known_encodings() {
        // Pairs as a standard assembler gives them with and without compression.
        for (half, full) in [
            (0x0001, 0x0000_0013), // nop
            (0x1141, 0xff01_0113), // addi sp,sp,-16
            (0xe406, 0x0011_3423), // sd ra,8(sp)
            (0x60a2, 0x0081_3083), // ld ra,8(sp)
            (0x0141, 0x0101_0113), // addi sp,sp,16
            (0x8082, 0x0000_8067), // ret
            (0x9902, 0x0009_00e7), // jalr s2
            (0x4501, 0x0000_0513), // li a0,0
            (0x557d, 0xfff0_0513), // li a0,-1
            (0x7179, 0xfd01_0113), // addi sp,sp,-48
            (0x1800, 0x0301_0413), // addi s0,sp,48
            (0x9002, 0x0010_0073), // ebreak
            (0x8d1d, 0x40f5_0533), // sub a0,a0,a5
            (0x9d3d, 0x00f5_053b), // addw a0,a0,a5
            (0x852e, 0x00b0_0533), // mv a0,a1 (add a0,x0,a1)
            (0x952e, 0x00b5_0533), // add a0,a0,a1
            (0x6785, 0x0000_17b7), // lui a5,0x1
            (0x2705, 0x0017_071b), // addiw a4,a4,1
        ] {
            assert_eq!(expand(half), Some(full), "{half:#06x}");
        }
    }

    /// Which encodings of RV64GC are reserved, from the listing of the chapter; hints are not.
    #[test]
    fn every_encoding() {
        for half in (0..=u16::MAX).filter(|half| half & 3 != 3) {
            let rd = half >> 7 & 31;
            let reserved = match (half & 3, half >> 13) {
                (0, 0) => half & 0x1fe0 == 0, // c.addi4spn by nothing
                (0, 4) => true,
                (1, 1) => rd == 0,                                     // c.addiw
                (1, 3) => half & 0x107c == 0,                          // c.lui, c.addi16sp
                (1, 4) => half & 0x1c00 == 0x1c00 && half & 0x40 != 0, // beyond c.addw
                (2, 2 | 3) => rd == 0,                                 // c.lwsp, c.ldsp
                (2, 4) => half == 0x8002,                              // c.jr x0
                _ => false,
            };
            assert_eq!(expand(half).is_none(), reserved, "{half:#06x}");
        }
    }

    #[test]
    fn reserved_encodings() {
        for half in [0x0000, 0x2001, 0x6001, 0x6101, 0x8000, 0x9c41, 0x4002, 0x6002, 0x8002] {
            assert_eq!(expand(half), None, "{half:#06x}");
        }
    }
}
