//! From the bits of floating-point instructions to ops. Unprivileged ISA, chapters "F" and "D".

use super::decode::{Decoded, undefined};
use super::float;
use super::memory;
use super::op::{Handler, R};
use crate::fp::{F32, F64, Format};

/// Decodes an instruction whose major opcode is one of floating point's.
pub(super) fn decode(bits: u32) -> Decoded {
    let signed = bits as i32;
    let rm = bits >> 12 & 7;
    let (rd, rs1, rs2) = (R::src(bits >> 7), R::src(bits >> 15), R::src(bits >> 20));
    let with = |run: Handler, imm: i32| Decoded { run, imm, rd, rs1, rs2, ends: false };
    let double = bits >> 25 & 3 == 1;

    let found = match bits & 0x7f {
        0x07 => match rm {
            2 => Some(with(memory::load_float::<u32>, signed >> 20)),
            3 => Some(with(memory::load_float::<u64>, signed >> 20)),
            _ => None,
        },
        0x27 => {
            let imm = signed >> 25 << 5 | (bits >> 7 & 31) as i32;
            match rm {
                2 => Some(with(memory::store_float::<u32>, imm)),
                3 => Some(with(memory::store_float::<u64>, imm)),
                _ => None,
            }
        }
        _ if bits >> 25 & 3 > 1 => None, // half and quad precision
        0x53 => {
            let run = if double { op::<F64>(bits, rm) } else { op::<F32>(bits, rm) };
            run.map(|run| {
                // Comparisons, conversions to integers, classifications and moves write an `x` register.
                let integer = matches!(bits >> 27, 0x14 | 0x18 | 0x1c);
                let rd = if integer { R::dst(bits >> 7) } else { rd };
                Decoded { rd, ..with(run, rm as i32) }
            })
        }
        opcode => {
            let run = if double { fused::<F64>(opcode) } else { fused::<F32>(opcode) };
            run.map(|run| with(run, (bits >> 27 << 3 | rm) as i32))
        }
    };
    found.filter(|_| !rounds(bits) || !matches!(rm, 5 | 6)).unwrap_or_else(undefined)
}

/// Whether the instruction's `rm` field is a rounding mode (of which 5 and 6 are reserved).
const fn rounds(bits: u32) -> bool {
    match bits & 0x7f {
        0x43 | 0x47 | 0x4b | 0x4f => true,
        0x53 => matches!(bits >> 27, 0x00..=0x03 | 0x08 | 0x0b | 0x18 | 0x1a),
        _ => false,
    }
}

fn fused<F: Format>(opcode: u32) -> Option<Handler> {
    Some(match opcode {
        0x43 => float::fmadd::<F>,
        0x47 => float::fmsub::<F>,
        0x4b => float::fnmsub::<F>,
        0x4f => float::fnmadd::<F>,
        _ => return None,
    })
}

fn op<F: Format>(bits: u32, funct3: u32) -> Option<Handler> {
    let rs2 = bits >> 20 & 31;
    Some(match (bits >> 27, funct3, rs2) {
        (0x00, ..) => float::add::<F>,
        (0x01, ..) => float::sub::<F>,
        (0x02, ..) => float::mul::<F>,
        (0x03, ..) => float::div::<F>,
        (0x0b, _, 0) => float::sqrt::<F>,
        (0x04, 0, _) => float::sgnj::<F>,
        (0x04, 1, _) => float::sgnjn::<F>,
        (0x04, 2, _) => float::sgnjx::<F>,
        (0x05, 0, _) => float::min::<F>,
        (0x05, 1, _) => float::max::<F>,
        (0x08, _, 1) if F::WIDTH == 32 => float::convert::<F64, F32>,
        (0x08, _, 0) if F::WIDTH == 64 => float::convert::<F32, F64>,
        (0x14, 0, _) => float::fle::<F>,
        (0x14, 1, _) => float::flt::<F>,
        (0x14, 2, _) => float::feq::<F>,
        (0x18, _, 0) => float::to_int::<F, i32>,
        (0x18, _, 1) => float::to_int::<F, u32>,
        (0x18, _, 2) => float::to_int::<F, i64>,
        (0x18, _, 3) => float::to_int::<F, u64>,
        (0x1a, _, 0) => float::from_int::<F, i32>,
        (0x1a, _, 1) => float::from_int::<F, u32>,
        (0x1a, _, 2) => float::from_int::<F, i64>,
        (0x1a, _, 3) => float::from_int::<F, u64>,
        (0x1c, 0, 0) => float::to_bits::<F>,
        (0x1c, 1, 0) => float::class::<F>,
        (0x1e, 0, 0) => float::from_bits::<F>,
        _ => return None,
    })
}
