//! Instructions that do not exist, or not here and now.

use axvcpu_riscv::asm::*;
use axvcpu_riscv::csr::sstatus::FS;
use axvcpu_riscv::paging::SV39;

use crate::probe::{CODE, How, Probe};

/// Not there in any mode of the guest.
#[rustfmt::skip]
const NOWHERE: &[(&str, u32)] = &[
    ("all ones", 0xffff_ffff), ("48 bits", 0x0000_001f), ("64 bits", 0x0000_003f),
    ("mret", 0x3020_0073), ("uret", 0x0020_0073), ("mnret", 0x7020_0073), ("dret", 0x7b20_0073),
    ("wrs.nto", 0x00d0_0073), ("wrs.sto", 0x01d0_0073),
    ("ecall with rd", 0x0000_00f3), ("ecall with rs1", 0x0000_8073), ("ebreak with rs1", 0x0010_8073),
    ("sret with rd", 0x1020_00f3), ("wfi with rs1", 0x1050_8073), ("sfence.vma with rd", 0x1200_00f3),
    ("hfence.vvma", 0x2200_0073), ("hfence.gvma", 0x6200_0073), ("hlv.b", 0x6000_4073), ("hsv.d", 0x6e00_4073),
    ("hlvx.wu", 0x6830_4073), ("hinval.vvma", 0x2600_0073),
    ("sinval.vma", 0x1600_0073), ("sfence.w.inval", 0x1800_0073), ("sfence.inval.ir", 0x1810_0073),
    ("cbo.zero", 0x0045_200f), ("cbo.clean", 0x0015_200f), ("misc-mem 3", 0x0000_300f),
    ("load 7", 0x0000_7003), ("store 4", 0x0000_4023), ("branch 2", 0x0000_2063), ("branch 3", 0x0000_3063),
    ("jalr 1", 0x0000_1067), ("custom-0", 0x0000_000b), ("custom-1", 0x0000_002b), ("custom-2", 0x0000_005b),
    ("custom-3", 0x0000_007b), ("vector", 0x0000_0057), ("vle8.v", 0x0205_0007), ("reserved 6b", 0x0000_006b),
    ("flh", 0x0000_1007), ("fsh", 0x0000_1027), ("flq", 0x0000_4007),
    ("slli 64", 0x0800_1013), ("srli odd", 0x0800_5013), ("slliw 32", 0x0200_101b), ("srliw 32", 0x0200_501b),
    ("addiw group 2", 0x0000_201b), ("brev8", 0x6870_5013), ("zip", 0x08f0_1013),
    ("op funct7 2", 0x0400_0033), ("sub and", 0x4000_1033), ("clmul", 0x0a00_1033), ("pack", 0x0800_4033),
    ("czero.eqz", 0x0e00_5033), ("mulhw", 0x0200_103b), ("packw", 0x0810_403b), ("op-32 and", 0x0000_703b),
    ("lr.w with rs2", 0x1010_202f), ("lr.b", 0x1000_002f), ("amoadd.h", 0x0000_102f), ("amoadd.q", 0x0000_402f),
    ("amocas.w", 0x2800_202f), ("amo 0x1d", 0xe800_202f),
    ("fadd.h", 0x0400_0053), ("fadd.q", 0x0600_0053), ("fmadd.h", 0x0400_0043), ("fcvt.s.h", 0x4020_0053),
    ("fcvt.s.s", 0x4000_0053), ("fcvt.d.d", 0x4210_0053), ("fsqrt.s with rs2", 0x5810_0053),
    ("fsgnj.s 3", 0x2000_3053), ("fmin.s 2", 0x2800_2053), ("feq.s 3", 0xa000_3053),
    ("fmv.x.w 2", 0xe000_2053), ("fclass.s with rs2", 0xe010_1053), ("fmv.w.x 1", 0xf000_1053),
    ("fcvt.w.s 4", 0xc040_0053), ("fcvt.s.w 4", 0xd040_0053), ("fli.s", 0xf010_0053), ("fround.s", 0x4040_0053),
];

#[rustfmt::skip]
const NOWHERE_COMPRESSED: &[(&str, u16)] = &[
    ("zero", 0x0000), ("c.addi4spn 0", 0x0004), ("quadrant 0, 4", 0x8000), ("c.lbu", 0x8188),
    ("c.addiw to x0", 0x2001), ("c.lui 0", 0x6081), ("c.addi16sp 0", 0x6101),
    ("c.mul", 0x9c41), ("c.zext.b", 0x9c61), ("c.lwsp to x0", 0x4002), ("c.ldsp to x0", 0x6002), ("c.jr x0", 0x8002),
];

/// CSRs of higher modes, of RV32 and of extensions the hart does not have.
#[rustfmt::skip]
const NO_CSRS: &[u16] = &[
    0x300, 0x301, 0x302, 0x303, 0x304, 0x305, 0x306, 0x30a, 0x320, 0x323, 0x340, 0x341, 0x342, 0x343, 0x344, 0x34a,
    0x3a0, 0x3b0, 0x747, 0x7a0, 0x7b0, 0xb00, 0xb02, 0xb03, 0xf11, 0xf12, 0xf13, 0xf14, 0xf15,
    0x600, 0x602, 0x603, 0x604, 0x605, 0x606, 0x607, 0x60a, 0x643, 0x644, 0x645, 0x64a, 0x680, 0xe12,
    0x200, 0x204, 0x205, 0x240, 0x241, 0x242, 0x243, 0x244, 0x24d, 0x280,
    0x008, 0x009, 0x00a, 0x00f, 0x015, 0x017, 0xc03, 0xc1f, 0xc20, 0xc21, 0xc22, 0xc80, 0xc81, 0xc82,
    0x10c, 0x120, 0x14e, 0x150, 0x151, 0x15c, 0x15d, 0x181, 0x5a8, 0xda0, 0xdb0,
    0x000, 0x004, 0x005, 0x040, 0x041, 0x042, 0x043, 0x044, 0x102, 0x103, 0x800, 0xcc0, 0x9ff, 0xfff,
];

const SUPERVISOR_CSRS: [u16; 13] =
    [0x100, 0x104, 0x105, 0x106, 0x10a, 0x140, 0x141, 0x142, 0x143, 0x144, 0x14d, 0x180, 0x100];

/// Executes the instruction and expects that it does not exist.
#[track_caller]
fn illegal(probe: &Probe, bits: u32, how: How, what: &str) {
    let x31 = probe.get(T6);
    let trap = probe.execute(
        |a| {
            a.nop();
            if bits & 3 == 3 { a.word(bits) } else { a.half(bits as u16) }
        },
        how,
    );
    let trap = trap.unwrap_or_else(|exit| panic!("{what}: {exit:?}"));
    let at = probe.place(CODE, how) + 4;
    assert_eq!((trap.cause, trap.value, trap.pc), (2, bits.into(), at), "{what}, {how:?}");
    assert_eq!(probe.get(T6), x31);
}

const fn csr(number: u16, funct3: u32, rs1: u32) -> u32 {
    (number as u32) << 20 | rs1 << 15 | funct3 << 12 | 31 << 7 | 0x73
}

#[test]
fn instructions_that_exist_nowhere() {
    let probe = Probe::paged(SV39);
    for how in [How::S, How::U] {
        for &(what, bits) in NOWHERE {
            illegal(&probe, bits, how, what);
        }
        for &(what, half) in NOWHERE_COMPRESSED {
            illegal(&probe, half.into(), how, what);
        }
    }
}

#[test]
fn registers_that_exist_nowhere() {
    let probe = Probe::paged(SV39);
    for how in [How::S, How::U] {
        for &number in NO_CSRS {
            for funct3 in [1, 2, 3, 5, 6, 7] {
                illegal(&probe, csr(number, funct3, 0), how, &format!("csr {number:#x}"));
                illegal(&probe, csr(number, funct3, 30), how, &format!("csr {number:#x}"));
            }
        }
    }
}

#[test]
fn what_users_may_not() {
    let probe = Probe::paged(SV39);
    for (what, bits) in [
        ("sret", 0x1020_0073),
        ("wfi", 0x1050_0073),
        ("sfence.vma", 0x1200_0073),
        ("sfence.vma of an address", 0x12b5_0073),
    ] {
        illegal(&probe, bits, How::U, what);
    }
    for number in SUPERVISOR_CSRS {
        for funct3 in [1, 2, 3, 5, 6, 7] {
            illegal(&probe, csr(number, funct3, 0), How::U, &format!("csr {number:#x}"));
            probe.set(T5, 0);
            illegal(&probe, csr(number, funct3, 30), How::U, &format!("csr {number:#x}"));
        }
        // They are there for the supervisor.
        probe.run(|a| a.csrr(A5, number), How::S);
    }
}

/// Writing a read-only register is illegal, reading it is not, and what sets no bits does not write.
#[test]
fn read_only_registers() {
    let probe = Probe::paged(SV39);
    probe.run(
        |a| {
            a.li(T1, 7);
            a.csrw(csrs::SCOUNTEREN, T1)
        },
        How::S,
    );
    for number in [csrs::CYCLE, csrs::TIME, csrs::INSTRET] {
        for how in [How::S, How::U] {
            probe.run(|a| a.csrrs(A5, number, ZERO), how);
            probe.run(|a| a.csrrc(A5, number, ZERO), how);
            probe.run(|a| a.csrrsi(A5, number, 0), how);
            probe.run(|a| a.csrrci(A5, number, 0), how);
            probe.set(T5, 0); // a register that holds zero is written all the same
            for (funct3, rs1) in [(1, 0), (1, 30), (2, 30), (3, 30), (5, 0), (5, 1), (6, 1), (7, 1)]
            {
                illegal(&probe, csr(number, funct3, rs1), how, "read-only");
            }
        }
    }
}

/// Every instruction of floating point the assembler knows, with floating point switched off.
#[test]
fn floating_point_switched_off() {
    let probe = Probe::paged(SV39);
    let off = How { fp_off: true, ..How::S };
    let mut count = 0;
    for insn in instructions() {
        let kinds = || insn.operands().iter().map(|operand| operand.kind());
        if !kinds().any(|kind| matches!(kind, OperandKind::F | OperandKind::FPrime)) {
            continue;
        }
        count += 1;
        let values: Vec<i64> =
            insn.operands().iter().map(|operand| operand.range().0.max(0)).collect();
        let bits = insn.encode(&values).unwrap();
        illegal(&probe, bits, off, insn.name());
        illegal(&probe, bits, How { user: true, ..off }, insn.name());
    }
    assert!(count > 60, "{count}");
    for number in [csrs::FFLAGS, csrs::FRM, csrs::FCSR] {
        for funct3 in [1, 2, 3, 5, 6, 7] {
            illegal(&probe, csr(number, funct3, 0), off, "fcsr");
            illegal(&probe, csr(number, funct3, 1), off, "fcsr");
        }
    }
    assert_eq!(probe.execute(|_| {}, off).unwrap().status & FS, 0);
}

/// Rounding modes 5 and 6 in the instruction, and 5 to 7 in `frm` where the instruction refers to it.
#[test]
fn reserved_rounding_modes() {
    let probe = Probe::paged(SV39);
    let mut count = 0;
    for insn in instructions() {
        let Some(rm) = insn.operands().iter().position(|o| o.kind() == OperandKind::Rounding)
        else {
            continue;
        };
        count += 1;
        let mut values = vec![1; insn.operands().len()];
        values[rm] = 7;
        let dynamic = insn.encode(&values).unwrap();
        for frm in 0..8 {
            probe.run(|a| a.csrrwi(ZERO, csrs::FRM, frm), How::S);
            if frm < 5 {
                probe.run(|a| a.word(dynamic), How::S);
            } else {
                illegal(&probe, dynamic, How::S, insn.name());
            }
            // The others do not ask `frm`.
            for rm in 0..5 {
                probe.run(|a| a.word(dynamic & !0x7000 | rm << 12), How::S);
            }
            for rm in [5, 6] {
                illegal(&probe, dynamic & !0x7000 | rm << 12, How::S, insn.name());
            }
        }
    }
    assert!(count > 25, "{count}");
}
