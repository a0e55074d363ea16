//! Loads and stores that stage 2 refused: which they were, from the instruction or from what the hart tells of it.
//!
//! Unprivileged ISA, chapters "RV32I", "RV64I", "F", "D" and "C"; privileged architecture, "Transformed
//! Instruction or Pseudoinstruction for mtinst or htinst".

use axvcpu::AccessWidth;

/// A plain load or store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    /// What it moves.
    pub(crate) operand: Operand,
    /// How much.
    pub(crate) width: AccessWidth,
    /// The bytes of the instruction.
    pub(crate) len: u8,
}

/// The register of a load or store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operand {
    /// Loads an integer register, sign-extended or not.
    Load { register: u8, signed: bool },
    /// Loads a floating-point register.
    LoadFloat { register: u8 },
    /// Stores an integer register.
    Store { register: u8 },
    /// Stores a floating-point register.
    StoreFloat { register: u8 },
}

/// What `htinst` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// Nothing: the instruction has to be fetched.
    Nothing,
    /// The access was one to the guest's own page tables.
    Walk {
        /// It was to update an entry, not to read it.
        write: bool,
    },
    /// It was this one; `offset` is how far behind its first byte the fault was.
    Access { access: Access, offset: u64 },
    /// It was something else.
    Other,
}

/// Reads `htinst`.
pub(crate) fn told(htinst: u64) -> Told {
    match htinst {
        0 => return Told::Nothing,
        // A 64-bit or 32-bit read or write of a page-table entry.
        0x2000 | 0x3000 => return Told::Walk { write: false },
        0x2020 | 0x3020 => return Told::Walk { write: true },
        _ if htinst & 1 == 0 => return Told::Nothing, // a custom value
        _ => {}
    }
    // Bit 1 tells compressed instructions, which are shown expanded; the place of rs1 holds the offset.
    let len = if htinst & 2 == 0 { 2 } else { 4 };
    match expanded(htinst as u32 | 2, len) {
        Some(access) => Told::Access { access, offset: htinst >> 15 & 31 },
        None => Told::Other,
    }
}

/// The load or store that these bytes are; `None` if they are something else.
pub(crate) fn instruction(bits: u32) -> Option<Access> {
    if bits & 3 == 3 { expanded(bits, 4) } else { compressed(bits as u16) }
}

fn expanded(bits: u32, len: u8) -> Option<Access> {
    let (rd, rs2) = ((bits >> 7 & 31) as u8, (bits >> 20 & 31) as u8);
    let funct3 = bits >> 12 & 7;
    let width = AccessWidth::from_bytes(1 << (funct3 & 3))?;
    let float = matches!(width, AccessWidth::Dword | AccessWidth::Qword) && funct3 < 4;
    let operand = match bits & 0x7f {
        0x03 if funct3 < 7 => Operand::Load { register: rd, signed: funct3 < 4 },
        0x07 if float => Operand::LoadFloat { register: rd },
        0x23 if funct3 < 4 => Operand::Store { register: rs2 },
        0x27 if float => Operand::StoreFloat { register: rs2 },
        _ => return None,
    };
    Some(Access { operand, width, len })
}

fn compressed(bits: u16) -> Option<Access> {
    use AccessWidth::{Byte, Dword, Qword, Word};
    let near = (bits >> 2 & 7) as u8 + 8; // rd' or rs2', of x8..x15
    let (rd, rs2) = ((bits >> 7 & 31) as u8, (bits >> 2 & 31) as u8);
    let half = bits >> 6 & 1 != 0; // Zcb tells its instructions apart here
    let (operand, width) = match (bits & 3, bits >> 13) {
        (0, 0b001) => (Operand::LoadFloat { register: near }, Qword),
        (0, 0b010) => (Operand::Load { register: near, signed: true }, Dword),
        (0, 0b011) => (Operand::Load { register: near, signed: true }, Qword),
        (0, 0b100) => match bits >> 10 & 7 {
            0b000 => (Operand::Load { register: near, signed: false }, Byte),
            0b001 => (Operand::Load { register: near, signed: half }, Word),
            0b010 => (Operand::Store { register: near }, Byte),
            0b011 if !half => (Operand::Store { register: near }, Word),
            _ => return None,
        },
        (0, 0b101) => (Operand::StoreFloat { register: near }, Qword),
        (0, 0b110) => (Operand::Store { register: near }, Dword),
        (0, 0b111) => (Operand::Store { register: near }, Qword),
        (2, 0b001) => (Operand::LoadFloat { register: rd }, Qword),
        // Loads to x0 are reserved here.
        (2, 0b010) if rd != 0 => (Operand::Load { register: rd, signed: true }, Dword),
        (2, 0b011) if rd != 0 => (Operand::Load { register: rd, signed: true }, Qword),
        (2, 0b101) => (Operand::StoreFloat { register: rs2 }, Qword),
        (2, 0b110) => (Operand::Store { register: rs2 }, Dword),
        (2, 0b111) => (Operand::Store { register: rs2 }, Qword),
        _ => return None,
    };
    Some(Access { operand, width, len: 2 })
}

/// The address that a load or store (one that [`instruction`] knows) begins at, from the registers it is executed
/// with.
pub(crate) fn address(bits: u32, x: &[u64; 32]) -> u64 {
    let (base, offset) = if bits & 3 == 3 { base_and_offset(bits) } else { short_offset(bits) };
    x[base & 31].wrapping_add(offset as u64)
}

fn base_and_offset(bits: u32) -> (usize, i64) {
    let high = i64::from(bits as i32 >> 25) << 5;
    let low = match bits & 0x7f {
        0x23 | 0x27 => bits >> 7 & 31,
        _ => bits >> 20 & 31,
    };
    ((bits >> 15 & 31) as usize, high | i64::from(low))
}

fn short_offset(bits: u32) -> (usize, i64) {
    // `count` bits from `from` on, put at `to`.
    let field = |from: u32, count: u32, to: u32| (bits >> from & ((1 << count) - 1)) << to;
    let near = (bits >> 7 & 7) as usize + 8;
    const SP: usize = 2;
    let (base, offset) = match (bits & 3, bits >> 13 & 7) {
        (0, 0b100) => match bits >> 10 & 1 {
            0 => (near, field(5, 1, 1) | field(6, 1, 0)),
            _ => (near, field(5, 1, 1)),
        },
        (0, 0b010 | 0b110) => (near, field(10, 3, 3) | field(6, 1, 2) | field(5, 1, 6)),
        (0, _) => (near, field(10, 3, 3) | field(5, 2, 6)),
        (_, 0b010) => (SP, field(12, 1, 5) | field(4, 3, 2) | field(2, 2, 6)),
        (_, 0b001 | 0b011) => (SP, field(12, 1, 5) | field(5, 2, 3) | field(2, 3, 6)),
        (_, 0b110) => (SP, field(9, 4, 2) | field(7, 2, 6)),
        _ => (SP, field(10, 3, 3) | field(7, 3, 6)),
    };
    (base, i64::from(offset))
}

/// `wfi`.
pub(crate) const WFI: u32 = 0x1050_0073;

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
