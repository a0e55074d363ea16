//! A small RISC-V assembler: enough encodings to write guests without any
//! toolchain. Formats and fields are those of the unprivileged ISA manual,
//! chapters "RV32I Base Integer Instruction Set" and "C" Extension.

/// Where a flat kernel starts in guest memory: 2 MiB above the start of RAM.
pub(crate) const ENTRY: u64 = 0x8020_0000;

/// Major opcodes (unprivileged ISA manual, "RV32/64G Instruction Set Listings").
pub(crate) mod op {
    pub(crate) const LOAD: u32 = 0x03;
    pub(crate) const LOAD_FP: u32 = 0x07;
    pub(crate) const IMM: u32 = 0x13;
    pub(crate) const AUIPC: u32 = 0x17;
    pub(crate) const IMM_32: u32 = 0x1b;
    pub(crate) const STORE: u32 = 0x23;
    pub(crate) const STORE_FP: u32 = 0x27;
    pub(crate) const AMO: u32 = 0x2f;
    pub(crate) const OP: u32 = 0x33;
    pub(crate) const LUI: u32 = 0x37;
    pub(crate) const OP_32: u32 = 0x3b;
    pub(crate) const FP: u32 = 0x53;
    pub(crate) const BRANCH: u32 = 0x63;
    pub(crate) const JALR: u32 = 0x67;
    pub(crate) const JAL: u32 = 0x6f;
    pub(crate) const SYSTEM: u32 = 0x73;
}

/// CSR addresses (privileged ISA manual, "CSR Listing").
pub(crate) mod csr {
    pub(crate) const FFLAGS: u32 = 0x001;
    pub(crate) const FRM: u32 = 0x002;
    pub(crate) const FCSR: u32 = 0x003;
    pub(crate) const SSTATUS: u32 = 0x100;
    pub(crate) const STVEC: u32 = 0x105;
    pub(crate) const SEPC: u32 = 0x141;
    pub(crate) const SCAUSE: u32 = 0x142;
}

/// Registers by their ABI names, where a name helps.
pub(crate) mod reg {
    pub(crate) const ZERO: u32 = 0;
    pub(crate) const RA: u32 = 1;
    pub(crate) const SP: u32 = 2;
    pub(crate) const GP: u32 = 3;
    pub(crate) const T0: u32 = 5;
    pub(crate) const T1: u32 = 6;
    pub(crate) const T2: u32 = 7;
    pub(crate) const S0: u32 = 8;
    pub(crate) const S1: u32 = 9;
    pub(crate) const A0: u32 = 10;
    pub(crate) const A1: u32 = 11;
    pub(crate) const A2: u32 = 12;
    pub(crate) const A6: u32 = 16;
    pub(crate) const A7: u32 = 17;
    pub(crate) const T6: u32 = 31;
}

/// `sret` (privileged ISA manual, "Trap-Return Instructions").
pub(crate) const SRET: u32 = 0x1020_0073;
/// `ecall` (unprivileged ISA manual, "Environment Call and Breakpoints").
pub(crate) const ECALL: u32 = 0x0000_0073;
/// `ebreak`, same place.
pub(crate) const EBREAK: u32 = 0x0010_0073;

pub(crate) fn r(op: u32, f3: u32, f7: u32, rd: u32, rs1: u32, rs2: u32) -> u32 {
    f7 << 25 | rs2 << 20 | rs1 << 15 | f3 << 12 | rd << 7 | op
}

pub(crate) fn i(op: u32, f3: u32, rd: u32, rs1: u32, imm: i32) -> u32 {
    (imm as u32 & 0xfff) << 20 | rs1 << 15 | f3 << 12 | rd << 7 | op
}

pub(crate) fn s(op: u32, f3: u32, rs1: u32, rs2: u32, imm: i32) -> u32 {
    let imm = imm as u32;
    (imm >> 5 & 0x7f) << 25 | rs2 << 20 | rs1 << 15 | f3 << 12 | (imm & 0x1f) << 7 | op
}

pub(crate) fn b(f3: u32, rs1: u32, rs2: u32, offset: i32) -> u32 {
    let imm = offset as u32;
    let high = (imm >> 12 & 1) << 31 | (imm >> 5 & 0x3f) << 25;
    let low = (imm >> 1 & 0xf) << 8 | (imm >> 11 & 1) << 7;
    high | rs2 << 20 | rs1 << 15 | f3 << 12 | low | op::BRANCH
}

/// `imm` is the 20-bit field itself, not shifted.
pub(crate) fn u(op: u32, rd: u32, imm: i32) -> u32 {
    (imm as u32) << 12 | rd << 7 | op
}

pub(crate) fn jal(rd: u32, offset: i32) -> u32 {
    assert!((-(1 << 20)..1 << 20).contains(&offset), "a jump over {offset} bytes");
    let imm = offset as u32;
    let high = (imm >> 20 & 1) << 31 | (imm >> 1 & 0x3ff) << 21;
    let low = (imm >> 11 & 1) << 20 | (imm >> 12 & 0xff) << 12;
    high | low | rd << 7 | op::JAL
}

pub(crate) fn addi(rd: u32, rs1: u32, imm: i32) -> u32 {
    i(op::IMM, 0, rd, rs1, imm)
}

pub(crate) fn slli(rd: u32, rs1: u32, shift: i32) -> u32 {
    i(op::IMM, 1, rd, rs1, shift)
}

pub(crate) fn add(rd: u32, rs1: u32, rs2: u32) -> u32 {
    r(op::OP, 0, 0, rd, rs1, rs2)
}

pub(crate) fn ld(rd: u32, rs1: u32, offset: i32) -> u32 {
    i(op::LOAD, 3, rd, rs1, offset)
}

pub(crate) fn sd(rs2: u32, rs1: u32, offset: i32) -> u32 {
    s(op::STORE, 3, rs1, rs2, offset)
}

pub(crate) fn sb(rs2: u32, rs1: u32, offset: i32) -> u32 {
    s(op::STORE, 0, rs1, rs2, offset)
}

/// `csrrw`, `csrrs`, `csrrc` for `f3` 1, 2, 3; the immediate forms for 5, 6, 7,
/// where `rs1` is the value.
pub(crate) fn csr_op(f3: u32, rd: u32, csr: u32, rs1: u32) -> u32 {
    csr << 20 | rs1 << 15 | f3 << 12 | rd << 7 | op::SYSTEM
}

/// Branch conditions, as the `f3` of [`b`].
pub(crate) mod cond {
    pub(crate) const EQ: u32 = 0;
    pub(crate) const NE: u32 = 1;
    pub(crate) const GE: u32 = 5;
}

/// A flat program that starts at [`ENTRY`].
#[derive(Default)]
pub(crate) struct Assembler {
    bytes: Vec<u8>,
}

impl Assembler {
    /// The address of what is written next.
    pub(crate) fn here(&self) -> u64 {
        ENTRY + self.bytes.len() as u64
    }

    pub(crate) fn word(&mut self, instruction: u32) {
        self.bytes.extend_from_slice(&instruction.to_le_bytes());
    }

    pub(crate) fn words(&mut self, instructions: &[u32]) {
        for instruction in instructions {
            self.word(*instruction);
        }
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Fills up to a multiple of `alignment` bytes; never executed.
    pub(crate) fn align(&mut self, alignment: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(alignment), 0);
    }

    /// Loads an address relative to the program counter.
    pub(crate) fn address(&mut self, rd: u32, target: u64) {
        let offset = target.wrapping_sub(self.here()) as i64;
        let (high, low) = split(offset);
        self.words(&[u(op::AUIPC, rd, high), addi(rd, rd, low)]);
    }

    /// Loads a 32-bit constant, sign-extended.
    pub(crate) fn constant(&mut self, rd: u32, value: i32) {
        let (high, low) = split(i64::from(value));
        self.words(&[u(op::LUI, rd, high), i(op::IMM_32, 0, rd, rd, low)]);
    }

    pub(crate) fn jump(&mut self, rd: u32, target: u64) {
        let offset = self.to(target);
        self.word(jal(rd, offset));
    }

    pub(crate) fn branch(&mut self, condition: u32, rs1: u32, rs2: u32, target: u64) {
        let offset = self.to(target);
        self.word(b(condition, rs1, rs2, offset));
    }

    /// Replaces the word at `address`, a jump written before its target was known.
    pub(crate) fn patch_jump(&mut self, address: u64, rd: u32) {
        let offset = (self.here() - address) as i32;
        let at = (address - ENTRY) as usize;
        self.bytes[at..at + 4].copy_from_slice(&jal(rd, offset).to_le_bytes());
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.bytes
    }

    fn to(&self, target: u64) -> i32 {
        target.wrapping_sub(self.here()) as i32
    }
}

/// Splits for `lui`/`auipc` (upper 20 bits) and `addi` (lower 12, signed).
fn split(value: i64) -> (i32, i32) {
    let low = (value << 52 >> 52) as i32;
    (((value - i64::from(low)) >> 12) as i32 & 0xf_ffff, low)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against words whose disassembly is well known.
    #[test]
    fn encodings() {
        assert_eq!(addi(reg::SP, reg::SP, -16), 0xff01_0113);
        assert_eq!(sd(reg::RA, reg::SP, 8), 0x0011_3423);
        assert_eq!(ld(reg::RA, reg::SP, 8), 0x0081_3083);
        assert_eq!(add(reg::A0, reg::A0, reg::A1), 0x00b5_0533);
        assert_eq!(jal(reg::ZERO, -4), 0xffdf_f06f);
        assert_eq!(b(cond::NE, reg::A0, reg::ZERO, -8), 0xfe05_1ce3);
        assert_eq!(csr_op(1, 0, csr::STVEC, reg::T0), 0x1052_9073);
    }

    #[test]
    fn constants_split_and_join() {
        for value in [0, 1, -1, 2047, 2048, -2048, -2049, 0x7fff_ffff, -0x8000_0000, 0x4442_434e] {
            let (high, low) = split(value);
            // `lui` sign-extends its 32 bits; the sum wraps to 32 as in `addiw`.
            assert_eq!((high << 12).wrapping_add(low), value as i32);
            assert!((-2048..2048).contains(&low));
        }
    }

    #[test]
    fn a_forward_jump_is_patched() {
        let mut program = Assembler::default();
        let start = program.here();
        program.word(0);
        program.word(EBREAK);
        program.patch_jump(start, reg::ZERO);
        assert_eq!(program.finish()[..4], jal(reg::ZERO, 8).to_le_bytes());
    }
}
