//! From instruction bits to ops. Unprivileged ISA, "RV32/64G Instruction Set Listings".

use super::alu;
use super::atomic::{self, amo};
use super::branch;
use super::cache::{Draft, MAX_BLOCK};
use super::decode_fp;
use super::fuse::fuse;
use super::memory;
use super::op::{Handler, Op, R, execute};
use super::{rvc, system};
use crate::ram::{HostAddr, Width};

/// What an instruction's bits mean.
pub(super) struct Decoded {
    pub(super) run: Handler,
    pub(super) imm: i32,
    pub(super) rd: R,
    pub(super) rs1: R,
    pub(super) rs2: R,
    /// Nothing behind it belongs to the block.
    pub(super) ends: bool,
}

/// Decodes the block at `at`, up to the end of its page. It has no instruction at all if already the first one
/// straddles.
pub(super) fn block(at: HostAddr, draft: &mut Draft) {
    draft.clear();
    let start = at.as_u64() & 0xfff;
    let mut offset = start;
    while offset < 0x1000 && draft.ops.len() < MAX_BLOCK {
        let low = u16::load(at.within_page(offset));
        let bits = if low & 3 != 3 {
            u32::from(low)
        } else if offset == 0xffe {
            break; // straddles: a block of its own
        } else {
            u32::from(low) | u32::from(u16::load(at.within_page(offset + 2))) << 16
        };
        let ends = append(bits, start, draft);
        offset = start + 2 * draft.raw.len() as u64;
        if ends {
            return fuse(&mut draft.ops);
        }
    }
    append_go_on(draft);
    fuse(&mut draft.ops);
}

/// Decodes one instruction of 32 bits that starts in the last halfword of a page.
pub(super) fn straddler(bits: u32, draft: &mut Draft) {
    draft.clear();
    if !append(bits, 0xffe, draft) {
        append_go_on(draft);
    }
}

fn append(bits: u32, start: u64, draft: &mut Draft) -> bool {
    let at = draft.raw.len();
    draft.raw.push(bits as u16);
    let full = if bits & 3 == 3 {
        draft.raw.push((bits >> 16) as u16);
        Some(bits)
    } else {
        rvc::expand(bits as u16)
    };
    let offset = 2 * at as i32;
    let d = full.map_or_else(undefined, |bits| decode(bits, offset, start));
    draft.ops.push(Op { run: d.run, imm: d.imm, rd: d.rd, rs1: d.rs1, rs2: d.rs2, at: at as u8 });
    draft.count += 1;
    d.ends
}

fn append_go_on(draft: &mut Draft) {
    let at = draft.raw.len() as u8;
    draft.ops.push(Op { run: branch::go_on, imm: 0, rd: R::Sink, rs1: R::X0, rs2: R::X0, at });
}

/// An instruction that does not exist.
pub(super) fn undefined() -> Decoded {
    ending(system::undefined)
}

fn ending(run: Handler) -> Decoded {
    Decoded { run, imm: 0, rd: R::Sink, rs1: R::X0, rs2: R::X0, ends: true }
}

/// Decodes the 32-bit instruction `bits`, `offset` bytes into a block that starts `start` bytes into its page.
fn decode(bits: u32, offset: i32, start: u64) -> Decoded {
    let signed = bits as i32;
    let rd = R::dst(bits >> 7);
    let (rs1, rs2) = (R::src(bits >> 15), R::src(bits >> 20));
    let funct3 = bits >> 12 & 7;
    let imm_i = signed >> 20;
    let imm_s = signed >> 25 << 5 | (bits >> 7 & 31) as i32;
    let imm_u = signed & !0xfff;
    let with = |run: Handler, imm: i32| Decoded { run, imm, rd, rs1, rs2, ends: false };
    let maybe = |run: Option<Handler>, imm: i32| run.map_or_else(undefined, |run| with(run, imm));

    match bits & 0x7f {
        0x03 => maybe(load(funct3), imm_i),
        0x23 => maybe(store(funct3), imm_s),
        0x07 | 0x27 | 0x43 | 0x47 | 0x4b | 0x4f | 0x53 => decode_fp::decode(bits),
        0x13 => match (funct3, rs1) {
            (0, R::X0) => with(execute::<alu::Li>, imm_i),
            (0, _) if imm_i == 0 => with(execute::<alu::Mv>, 0),
            _ => maybe(op_imm(bits, funct3), imm_i),
        },
        0x1b => maybe(op_imm_32(bits, funct3), imm_i),
        0x33 => maybe(op(bits), 0),
        0x3b => maybe(op_32(bits), 0),
        0x37 => with(execute::<alu::Li>, imm_u),
        // Cannot overflow: the low twelve bits of the immediate are zero, and blocks are short.
        0x17 => with(execute::<alu::Auipc>, imm_u + offset),
        0x63 => branch_op(funct3).map_or_else(undefined, |run| {
            let imm = signed >> 31 << 12
                | ((bits >> 7 & 1) << 11) as i32
                | ((bits >> 25 & 0x3f) << 5) as i32
                | ((bits >> 8 & 15) << 1) as i32;
            Decoded { ends: true, ..with(run, imm + offset) }
        }),
        0x6f => {
            let imm = signed >> 31 << 20
                | (bits & 0xf_f000) as i32
                | ((bits >> 20 & 1) << 11) as i32
                | ((bits >> 21 & 0x3ff) << 1) as i32;
            let near = (start as i64 + i64::from(imm + offset)) >> 12 == 0;
            let run = if near { execute::<branch::Jal> } else { execute::<branch::JalFar> };
            Decoded { ends: true, ..with(run, imm + offset) }
        }
        0x67 if funct3 == 0 => Decoded { ends: true, ..with(execute::<branch::Jalr>, imm_i) },
        0x0f => match funct3 {
            0 => {
                // Only writes before reads need a full barrier on hosts that order everything else.
                let (pred_writes, succ_reads) =
                    (bits >> 24 & 0b0101 != 0, bits >> 20 & 0b1010 != 0);
                // `fence.tso`, whose other forms are reserved and count as plain fences.
                let tso = bits >> 20 == 0x833;
                let full = pred_writes && succ_reads && !tso;
                with(if full { system::fence_full } else { system::fence_partial }, 0)
            }
            1 => ending(system::fence_i),
            _ => undefined(),
        },
        0x2f => maybe(atomic(bits, funct3), 0),
        0x73 => match funct3 {
            0 => match bits {
                0x0000_0073 => ending(system::ecall),
                0x0010_0073 => ending(system::ebreak),
                0x1020_0073 => ending(system::sret),
                0x1050_0073 => ending(system::wfi),
                _ if bits >> 25 == 0x09 && bits >> 7 & 31 == 0 => {
                    Decoded { rs1, rs2, ..ending(system::sfence_vma) }
                }
                _ => undefined(),
            },
            4 => undefined(),
            _ => Decoded { ends: true, ..with(system::csr, signed) },
        },
        _ => undefined(),
    }
}

fn load(funct3: u32) -> Option<Handler> {
    Some(match funct3 {
        0 => execute::<memory::Load<u8, true>>,
        1 => execute::<memory::Load<u16, true>>,
        2 => execute::<memory::Load<u32, true>>,
        3 => execute::<memory::Load<u64, false>>,
        4 => execute::<memory::Load<u8, false>>,
        5 => execute::<memory::Load<u16, false>>,
        6 => execute::<memory::Load<u32, false>>,
        _ => return None,
    })
}

fn store(funct3: u32) -> Option<Handler> {
    Some(match funct3 {
        0 => execute::<memory::Store<u8>>,
        1 => execute::<memory::Store<u16>>,
        2 => execute::<memory::Store<u32>>,
        3 => execute::<memory::Store<u64>>,
        _ => return None,
    })
}

fn branch_op(funct3: u32) -> Option<Handler> {
    Some(match funct3 {
        0 => execute::<branch::Beq>,
        1 => execute::<branch::Bne>,
        4 => execute::<branch::Blt>,
        5 => execute::<branch::Bge>,
        6 => execute::<branch::Bltu>,
        7 => execute::<branch::Bgeu>,
        _ => return None,
    })
}

fn op_imm(bits: u32, funct3: u32) -> Option<Handler> {
    // The upper six bits select among shifts; the upper twelve among operations on one register.
    let (funct6, funct12) = (bits >> 26, bits >> 20);
    Some(match (funct3, funct6) {
        (0, _) => execute::<alu::Addi>,
        (1, 0x00) => execute::<alu::Slli>,
        (1, 0x0a) => execute::<alu::Bseti>,
        (1, 0x12) => execute::<alu::Bclri>,
        (1, 0x1a) => execute::<alu::Binvi>,
        (1, 0x18) => match funct12 {
            0x600 => execute::<alu::Clz>,
            0x601 => execute::<alu::Ctz>,
            0x602 => execute::<alu::Cpop>,
            0x604 => execute::<alu::SextB>,
            0x605 => execute::<alu::SextH>,
            _ => return None,
        },
        (2, _) => execute::<alu::Slti>,
        (3, _) => execute::<alu::Sltiu>,
        (4, _) => execute::<alu::Xori>,
        (5, 0x00) => execute::<alu::Srli>,
        (5, 0x10) => execute::<alu::Srai>,
        (5, 0x12) => execute::<alu::Bexti>,
        (5, 0x18) => execute::<alu::Rori>,
        (5, _) => match funct12 {
            0x287 => execute::<alu::OrcB>,
            0x6b8 => execute::<alu::Rev8>,
            _ => return None,
        },
        (6, _) => execute::<alu::Ori>,
        (7, _) => execute::<alu::Andi>,
        _ => return None,
    })
}

fn op_imm_32(bits: u32, funct3: u32) -> Option<Handler> {
    let (funct7, funct12) = (bits >> 25, bits >> 20);
    Some(match (funct3, funct7) {
        (0, _) => execute::<alu::Addiw>,
        (1, 0x00) => execute::<alu::Slliw>,
        (1, 0x04 | 0x05) => execute::<alu::SlliUw>,
        (1, 0x30) => match funct12 {
            0x600 => execute::<alu::Clzw>,
            0x601 => execute::<alu::Ctzw>,
            0x602 => execute::<alu::Cpopw>,
            _ => return None,
        },
        (5, 0x00) => execute::<alu::Srliw>,
        (5, 0x20) => execute::<alu::Sraiw>,
        (5, 0x30) => execute::<alu::Roriw>,
        _ => return None,
    })
}

fn op(bits: u32) -> Option<Handler> {
    Some(match (bits >> 25, bits >> 12 & 7) {
        (0x00, 0) => execute::<alu::Add>,
        (0x00, 1) => execute::<alu::Sll>,
        (0x00, 2) => execute::<alu::Slt>,
        (0x00, 3) => execute::<alu::Sltu>,
        (0x00, 4) => execute::<alu::Xor>,
        (0x00, 5) => execute::<alu::Srl>,
        (0x00, 6) => execute::<alu::Or>,
        (0x00, 7) => execute::<alu::And>,
        (0x20, 0) => execute::<alu::Sub>,
        (0x20, 4) => execute::<alu::Xnor>,
        (0x20, 5) => execute::<alu::Sra>,
        (0x20, 6) => execute::<alu::Orn>,
        (0x20, 7) => execute::<alu::Andn>,
        (0x01, 0) => execute::<alu::Mul>,
        (0x01, 1) => execute::<alu::Mulh>,
        (0x01, 2) => execute::<alu::Mulhsu>,
        (0x01, 3) => execute::<alu::Mulhu>,
        (0x01, 4) => execute::<alu::Div>,
        (0x01, 5) => execute::<alu::Divu>,
        (0x01, 6) => execute::<alu::Rem>,
        (0x01, 7) => execute::<alu::Remu>,
        (0x05, 4) => execute::<alu::Min>,
        (0x05, 5) => execute::<alu::Minu>,
        (0x05, 6) => execute::<alu::Max>,
        (0x05, 7) => execute::<alu::Maxu>,
        (0x10, 2) => execute::<alu::Sh1add>,
        (0x10, 4) => execute::<alu::Sh2add>,
        (0x10, 6) => execute::<alu::Sh3add>,
        (0x14, 1) => execute::<alu::Bset>,
        (0x24, 1) => execute::<alu::Bclr>,
        (0x24, 5) => execute::<alu::Bext>,
        (0x34, 1) => execute::<alu::Binv>,
        (0x30, 1) => execute::<alu::Rol>,
        (0x30, 5) => execute::<alu::Ror>,
        _ => return None,
    })
}

fn op_32(bits: u32) -> Option<Handler> {
    Some(match (bits >> 25, bits >> 12 & 7) {
        (0x00, 0) => execute::<alu::Addw>,
        (0x00, 1) => execute::<alu::Sllw>,
        (0x00, 5) => execute::<alu::Srlw>,
        (0x20, 0) => execute::<alu::Subw>,
        (0x20, 5) => execute::<alu::Sraw>,
        (0x01, 0) => execute::<alu::Mulw>,
        (0x01, 4) => execute::<alu::Divw>,
        (0x01, 5) => execute::<alu::Divuw>,
        (0x01, 6) => execute::<alu::Remw>,
        (0x01, 7) => execute::<alu::Remuw>,
        (0x04, 0) => execute::<alu::AddUw>,
        (0x04, 4) if bits >> 20 & 31 == 0 => execute::<alu::ZextH>,
        (0x10, 2) => execute::<alu::Sh1addUw>,
        (0x10, 4) => execute::<alu::Sh2addUw>,
        (0x10, 6) => execute::<alu::Sh3addUw>,
        (0x30, 1) => execute::<alu::Rolw>,
        (0x30, 5) => execute::<alu::Rorw>,
        _ => return None,
    })
}

fn atomic(bits: u32, funct3: u32) -> Option<Handler> {
    macro_rules! by_width {
        ($($f:ident)::+ $(, $what:expr)?) => {
            if funct3 == 2 { $($f)::+::<u32 $(, { $what })?> } else { $($f)::+::<u64 $(, { $what })?> }
        };
    }
    if !matches!(funct3, 2 | 3) {
        return None;
    }
    Some(match bits >> 27 {
        0x02 if bits >> 20 & 31 == 0 => by_width!(atomic::load_reserved),
        0x03 => by_width!(atomic::store_conditional),
        0x01 => by_width!(atomic::update, amo::SWAP),
        0x00 => by_width!(atomic::update, amo::ADD),
        0x04 => by_width!(atomic::update, amo::XOR),
        0x0c => by_width!(atomic::update, amo::AND),
        0x08 => by_width!(atomic::update, amo::OR),
        0x10 => by_width!(atomic::update, amo::MIN),
        0x14 => by_width!(atomic::update, amo::MAX),
        0x18 => by_width!(atomic::update, amo::MINU),
        0x1c => by_width!(atomic::update, amo::MAXU),
        _ => return None,
    })
}
