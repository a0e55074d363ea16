//! The instructions: one table that encodes, decodes and names them, and a method for each.

use core::fmt;

use axvcpu_asm::Argument;

use super::operand::*;
use super::{Asm, F, Label, Order, Rounding, X};

/// One instruction: its name, its fixed bits and its operands in the order they are written.
pub struct Instruction {
    pub(super) name: &'static str,
    pub(super) bits: u32,
    pub(super) operands: &'static [&'static Operand],
}

impl Instruction {
    /// The name assemblers give it.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Its operands, in the order they are written.
    pub const fn operands(&self) -> &'static [&'static Operand] {
        self.operands
    }

    /// Its length in bytes, 2 or 4.
    #[allow(clippy::len_without_is_empty)] // an instruction is never empty
    pub const fn len(&self) -> usize {
        if self.bits & 0b11 == 0b11 { 4 } else { 2 }
    }

    /// The instruction word with these operands: register numbers, immediates as they are written,
    /// distances in bytes. `None` when an operand is missing or cannot take its value.
    pub fn encode(&self, values: &[i64]) -> Option<u32> {
        if values.len() != self.operands.len() {
            return None;
        }
        let mut word = self.bits;
        for (operand, &value) in self.operands.iter().zip(values) {
            word |= operand.encode(value)?;
        }
        Some(word)
    }

    fn matches(&self, word: u32) -> bool {
        let mask = self.operands.iter().fold(0, |mask, operand| mask | operand.mask());
        let word = if self.len() == 2 { word & 0xffff } else { word };
        word & !mask == self.bits && self.operands.iter().all(|o| o.decode(word).is_some())
    }
}

/// Every instruction the assembler knows, in groups; see [`lookup`].
pub fn instructions() -> impl Iterator<Item = &'static Instruction> {
    TABLE.iter().chain(super::compressed::TABLE)
}

/// The instruction called `name`.
pub fn lookup(name: &str) -> Option<&'static Instruction> {
    instructions().find(|insn| insn.name == name)
}

/// An instruction word as text, for listings of test programs.
pub struct Disassembly(u32);

/// Names the instruction in `word`, whose upper half is ignored if the lower half is a compressed one.
pub fn disassemble(word: u32) -> Disassembly {
    Disassembly(word)
}

impl fmt::Display for Disassembly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.0;
        let Some(insn) = instructions().find(|insn| insn.matches(word)) else {
            return write!(f, ".word {word:#x}");
        };
        f.write_str(insn.name)?;
        for operand in insn.operands.iter().filter(|o| o.kind() == OperandKind::Order) {
            let order = operand.decode(word).unwrap_or(0);
            f.write_str(["", ".rl", ".aq", ".aqrl"].get(order as usize).unwrap_or(&""))?;
        }
        let immediate =
            |o: &&Operand| matches!(o.kind(), OperandKind::Signed | OperandKind::Unsigned);
        let offset = insn.operands.iter().copied().any(|o| immediate(&o));
        let mut separator = " ";
        for operand in insn.operands {
            let value = operand.decode(word).unwrap_or(0);
            let number = u8::try_from(value).unwrap_or(0);
            if insn.name.starts_with("c.addi") && insn.name.contains("sp") && immediate(operand) {
                write!(f, "{separator}sp")?;
                separator = ", ";
            }
            match operand.kind() {
                OperandKind::Order => continue,
                OperandKind::X | OperandKind::XPrime => {
                    write!(f, "{separator}{}", X::new(number).unwrap_or(super::ZERO))?;
                }
                OperandKind::F | OperandKind::FPrime => {
                    write!(f, "{separator}{}", F::new(number).unwrap_or(super::FT0))?;
                }
                OperandKind::Base | OperandKind::BasePrime => {
                    let separator = if offset { "" } else { separator };
                    write!(f, "{separator}({})", X::new(number).unwrap_or(super::ZERO))?;
                }
                OperandKind::Signed | OperandKind::Unsigned => write!(f, "{separator}{value}")?,
                OperandKind::Target => write!(f, "{separator}.{value:+}")?,
                OperandKind::Csr => write!(f, "{separator}{value:#x}")?,
                OperandKind::Rounding => {
                    const MODES: [&str; 8] = ["rne", "rtz", "rdn", "rup", "rmm", "?", "?", "dyn"];
                    write!(f, "{separator}{}", MODES.get(value as usize).unwrap_or(&"?"))?;
                }
                OperandKind::FenceSet => {
                    f.write_str(separator)?;
                    for (bit, letter) in [(8, "i"), (4, "o"), (2, "r"), (1, "w")] {
                        if value & bit != 0 {
                            f.write_str(letter)?;
                        }
                    }
                    if value == 0 {
                        f.write_str("0")?;
                    }
                }
            }
            separator = ", ";
        }
        if insn.name.ends_with("sp") && insn.name != "c.addi16sp" {
            f.write_str("(sp)")?;
        }
        Ok(())
    }
}

macro_rules! arguments {
    ($($type:ty: $value:expr;)*) => {
        $(impl From<$type> for Argument {
            fn from(argument: $type) -> Self {
                let value: fn($type) -> i64 = $value;
                Self::Value(value(argument))
            }
        })*
    };
}

arguments! {
    X: |r| r.number().into();
    F: |r| r.number().into();
    Rounding: |mode| mode as i64;
    Order: |order| order as i64;
}

/// One method and one table row for each instruction.
macro_rules! define {
    ($vis:vis $table:ident: $($section:literal $arguments:tt { $($method:ident $name:literal $bits:expr;)* })*) => {
        impl Asm {
            $($(define!(@method $section $arguments $method $name $bits);)*)*
        }

        $vis static $table: &[Instruction] = &[$($(define!(@row $arguments $name $bits)),*),*];
    };
    (@method $section:literal ($($arg:ident: $type:ty = $operand:ident),*) $method:ident $name:literal $bits:expr) => {
        #[doc = concat!("Appends `", $name, "`: ", $section, ".")]
        pub fn $method(&mut self, $($arg: $type),*) {
            static INSTRUCTION: Instruction = define!(@row ($($arg: $type = $operand),*) $name $bits);
            self.put(&INSTRUCTION, &[$($arg.into()),*]);
        }
    };
    (@row ($($arg:ident: $type:ty = $operand:ident),*) $name:literal $bits:expr) => {
        Instruction { name: $name, bits: $bits, operands: &[$(&$operand),*] }
    };
}
pub(super) use define;

/// Opcode, `funct3` and `funct7` in their places.
const fn op(opcode: u32, funct3: u32, funct7: u32) -> u32 {
    opcode | funct3 << 12 | funct7 << 25
}

/// The same with the `rs2` field as a part of the opcode.
const fn op2(opcode: u32, funct3: u32, funct7: u32, rs2: u32) -> u32 {
    op(opcode, funct3, funct7) | rs2 << 20
}

define! { TABLE:
"upper immediate, the 20 bits that become bits 31:12 (RV32I, 2.4)" (rd: X = RD, imm20: u32 = IMM_U) {
    lui "lui" 0x37;
    auipc "auipc" 0x17;
}
"jump and link (RV32I, 2.5)" (rd: X = RD, target: Label = IMM_J) {
    jal "jal" 0x6f;
}
"indirect jump and link, to `offset(base)` (RV32I, 2.5)" (rd: X = RD, offset: i32 = IMM_I, base: X = BASE) {
    jalr "jalr" op(0x67, 0, 0);
}
"conditional branch (RV32I, 2.5)" (rs1: X = RS1, rs2: X = RS2, target: Label = IMM_B) {
    beq "beq" op(0x63, 0, 0);
    bne "bne" op(0x63, 1, 0);
    blt "blt" op(0x63, 4, 0);
    bge "bge" op(0x63, 5, 0);
    bltu "bltu" op(0x63, 6, 0);
    bgeu "bgeu" op(0x63, 7, 0);
}
"load from `offset(base)` (RV64I, 4.3)" (rd: X = RD, offset: i32 = IMM_I, base: X = BASE) {
    lb "lb" op(0x03, 0, 0);
    lh "lh" op(0x03, 1, 0);
    lw "lw" op(0x03, 2, 0);
    ld "ld" op(0x03, 3, 0);
    lbu "lbu" op(0x03, 4, 0);
    lhu "lhu" op(0x03, 5, 0);
    lwu "lwu" op(0x03, 6, 0);
}
"store to `offset(base)` (RV64I, 4.3)" (src: X = RS2, offset: i32 = IMM_S, base: X = BASE) {
    sb "sb" op(0x23, 0, 0);
    sh "sh" op(0x23, 1, 0);
    sw "sw" op(0x23, 2, 0);
    sd "sd" op(0x23, 3, 0);
}
"register and immediate (RV64I, 4.2)" (rd: X = RD, rs1: X = RS1, imm: i32 = IMM_I) {
    addi "addi" op(0x13, 0, 0);
    slti "slti" op(0x13, 2, 0);
    sltiu "sltiu" op(0x13, 3, 0);
    xori "xori" op(0x13, 4, 0);
    ori "ori" op(0x13, 6, 0);
    andi "andi" op(0x13, 7, 0);
    addiw "addiw" op(0x1b, 0, 0);
}
"shift by an immediate, 0 to 63 (RV64I, 4.2; Zba, Zbb, Zbs)" (rd: X = RD, rs1: X = RS1, shamt: u32 = SHAMT) {
    slli "slli" op(0x13, 1, 0);
    srli "srli" op(0x13, 5, 0);
    srai "srai" op(0x13, 5, 0x20);
    rori "rori" op(0x13, 5, 0x30);
    bclri "bclri" op(0x13, 1, 0x24);
    bexti "bexti" op(0x13, 5, 0x24);
    binvi "binvi" op(0x13, 1, 0x34);
    bseti "bseti" op(0x13, 1, 0x14);
    slli_uw "slli.uw" op(0x1b, 1, 0x04);
}
"shift of a word by an immediate, 0 to 31 (RV64I, 4.2; Zbb)" (rd: X = RD, rs1: X = RS1, shamt: u32 = SHAMT_W) {
    slliw "slliw" op(0x1b, 1, 0);
    srliw "srliw" op(0x1b, 5, 0);
    sraiw "sraiw" op(0x1b, 5, 0x20);
    roriw "roriw" op(0x1b, 5, 0x30);
}
"register and register (RV64I, M, Zba, Zbb, Zbs)" (rd: X = RD, rs1: X = RS1, rs2: X = RS2) {
    add "add" op(0x33, 0, 0);
    sub "sub" op(0x33, 0, 0x20);
    sll "sll" op(0x33, 1, 0);
    slt "slt" op(0x33, 2, 0);
    sltu "sltu" op(0x33, 3, 0);
    xor "xor" op(0x33, 4, 0);
    srl "srl" op(0x33, 5, 0);
    sra "sra" op(0x33, 5, 0x20);
    or "or" op(0x33, 6, 0);
    and "and" op(0x33, 7, 0);
    addw "addw" op(0x3b, 0, 0);
    subw "subw" op(0x3b, 0, 0x20);
    sllw "sllw" op(0x3b, 1, 0);
    srlw "srlw" op(0x3b, 5, 0);
    sraw "sraw" op(0x3b, 5, 0x20);
    mul "mul" op(0x33, 0, 1);
    mulh "mulh" op(0x33, 1, 1);
    mulhsu "mulhsu" op(0x33, 2, 1);
    mulhu "mulhu" op(0x33, 3, 1);
    div "div" op(0x33, 4, 1);
    divu "divu" op(0x33, 5, 1);
    rem "rem" op(0x33, 6, 1);
    remu "remu" op(0x33, 7, 1);
    mulw "mulw" op(0x3b, 0, 1);
    divw "divw" op(0x3b, 4, 1);
    divuw "divuw" op(0x3b, 5, 1);
    remw "remw" op(0x3b, 6, 1);
    remuw "remuw" op(0x3b, 7, 1);
    sh1add "sh1add" op(0x33, 2, 0x10);
    sh2add "sh2add" op(0x33, 4, 0x10);
    sh3add "sh3add" op(0x33, 6, 0x10);
    add_uw "add.uw" op(0x3b, 0, 0x04);
    sh1add_uw "sh1add.uw" op(0x3b, 2, 0x10);
    sh2add_uw "sh2add.uw" op(0x3b, 4, 0x10);
    sh3add_uw "sh3add.uw" op(0x3b, 6, 0x10);
    andn "andn" op(0x33, 7, 0x20);
    orn "orn" op(0x33, 6, 0x20);
    xnor "xnor" op(0x33, 4, 0x20);
    max "max" op(0x33, 6, 0x05);
    maxu "maxu" op(0x33, 7, 0x05);
    min "min" op(0x33, 4, 0x05);
    minu "minu" op(0x33, 5, 0x05);
    rol "rol" op(0x33, 1, 0x30);
    ror "ror" op(0x33, 5, 0x30);
    rolw "rolw" op(0x3b, 1, 0x30);
    rorw "rorw" op(0x3b, 5, 0x30);
    bclr "bclr" op(0x33, 1, 0x24);
    bext "bext" op(0x33, 5, 0x24);
    binv "binv" op(0x33, 1, 0x34);
    bset "bset" op(0x33, 1, 0x14);
}
"one register (Zbb)" (rd: X = RD, rs1: X = RS1) {
    clz "clz" op2(0x13, 1, 0x30, 0);
    ctz "ctz" op2(0x13, 1, 0x30, 1);
    cpop "cpop" op2(0x13, 1, 0x30, 2);
    sext_b "sext.b" op2(0x13, 1, 0x30, 4);
    sext_h "sext.h" op2(0x13, 1, 0x30, 5);
    clzw "clzw" op2(0x1b, 1, 0x30, 0);
    ctzw "ctzw" op2(0x1b, 1, 0x30, 1);
    cpopw "cpopw" op2(0x1b, 1, 0x30, 2);
    zext_h "zext.h" op(0x3b, 4, 0x04);
    orc_b "orc.b" op2(0x13, 5, 0x14, 7);
    rev8 "rev8" op2(0x13, 5, 0x35, 0x18);
}
"memory ordering, `pred` before `succ` (RV32I, 2.7)" (pred: u32 = PRED, succ: u32 = SUCC) {
    fence "fence" op(0x0f, 0, 0);
}
"no operands (RV32I, Zifencei, privileged manual 3.3 and 10.2)" () {
    fence_i "fence.i" op(0x0f, 1, 0);
    ecall "ecall" 0x73;
    ebreak "ebreak" 0x0010_0073;
    sret "sret" 0x1020_0073;
    mret "mret" 0x3020_0073;
    wfi "wfi" 0x1050_0073;
}
"translation-cache fence, of one address and one address space unless `zero` (privileged manual, 10.2.1)"
    (addr: X = RS1, asid: X = RS2) {
    sfence_vma "sfence.vma" op(0x73, 0, 0x09);
}
"exchange of a CSR with a register (Zicsr)" (rd: X = RD, csr: u16 = CSR, rs1: X = RS1) {
    csrrw "csrrw" op(0x73, 1, 0);
    csrrs "csrrs" op(0x73, 2, 0);
    csrrc "csrrc" op(0x73, 3, 0);
}
"exchange of a CSR with an immediate, 0 to 31 (Zicsr)" (rd: X = RD, csr: u16 = CSR, imm: u32 = UIMM) {
    csrrwi "csrrwi" op(0x73, 5, 0);
    csrrsi "csrrsi" op(0x73, 6, 0);
    csrrci "csrrci" op(0x73, 7, 0);
}
"load-reserved from the address in `base` (A)" (rd: X = RD, base: X = BASE, order: Order = ORDER) {
    lr_w "lr.w" op(0x2f, 2, 0x08);
    lr_d "lr.d" op(0x2f, 3, 0x08);
}
"atomic at the address in `base` (A)" (rd: X = RD, src: X = RS2, base: X = BASE, order: Order = ORDER) {
    sc_w "sc.w" op(0x2f, 2, 0x0c);
    amoswap_w "amoswap.w" op(0x2f, 2, 0x04);
    amoadd_w "amoadd.w" op(0x2f, 2, 0x00);
    amoxor_w "amoxor.w" op(0x2f, 2, 0x10);
    amoand_w "amoand.w" op(0x2f, 2, 0x30);
    amoor_w "amoor.w" op(0x2f, 2, 0x20);
    amomin_w "amomin.w" op(0x2f, 2, 0x40);
    amomax_w "amomax.w" op(0x2f, 2, 0x50);
    amominu_w "amominu.w" op(0x2f, 2, 0x60);
    amomaxu_w "amomaxu.w" op(0x2f, 2, 0x70);
    sc_d "sc.d" op(0x2f, 3, 0x0c);
    amoswap_d "amoswap.d" op(0x2f, 3, 0x04);
    amoadd_d "amoadd.d" op(0x2f, 3, 0x00);
    amoxor_d "amoxor.d" op(0x2f, 3, 0x10);
    amoand_d "amoand.d" op(0x2f, 3, 0x30);
    amoor_d "amoor.d" op(0x2f, 3, 0x20);
    amomin_d "amomin.d" op(0x2f, 3, 0x40);
    amomax_d "amomax.d" op(0x2f, 3, 0x50);
    amominu_d "amominu.d" op(0x2f, 3, 0x60);
    amomaxu_d "amomaxu.d" op(0x2f, 3, 0x70);
}
"floating-point load from `offset(base)` (F, D)" (rd: F = FD, offset: i32 = IMM_I, base: X = BASE) {
    flw "flw" op(0x07, 2, 0);
    fld "fld" op(0x07, 3, 0);
}
"floating-point store to `offset(base)` (F, D)" (src: F = FS2, offset: i32 = IMM_S, base: X = BASE) {
    fsw "fsw" op(0x27, 2, 0);
    fsd "fsd" op(0x27, 3, 0);
}
"rounded arithmetic (F, D)" (rd: F = FD, rs1: F = FS1, rs2: F = FS2, rm: Rounding = RM) {
    fadd_s "fadd.s" op(0x53, 0, 0x00);
    fsub_s "fsub.s" op(0x53, 0, 0x04);
    fmul_s "fmul.s" op(0x53, 0, 0x08);
    fdiv_s "fdiv.s" op(0x53, 0, 0x0c);
    fadd_d "fadd.d" op(0x53, 0, 0x01);
    fsub_d "fsub.d" op(0x53, 0, 0x05);
    fmul_d "fmul.d" op(0x53, 0, 0x09);
    fdiv_d "fdiv.d" op(0x53, 0, 0x0d);
}
"square root or conversion between formats (F, D)" (rd: F = FD, rs1: F = FS1, rm: Rounding = RM) {
    fsqrt_s "fsqrt.s" op(0x53, 0, 0x2c);
    fsqrt_d "fsqrt.d" op(0x53, 0, 0x2d);
    fcvt_s_d "fcvt.s.d" op2(0x53, 0, 0x20, 1);
    fcvt_d_s "fcvt.d.s" op2(0x53, 0, 0x21, 0);
}
"fused multiply and add: `rs1 * rs2 + rs3` and its sign variants (F, D)"
    (rd: F = FD, rs1: F = FS1, rs2: F = FS2, rs3: F = FS3, rm: Rounding = RM) {
    fmadd_s "fmadd.s" op(0x43, 0, 0);
    fmsub_s "fmsub.s" op(0x47, 0, 0);
    fnmsub_s "fnmsub.s" op(0x4b, 0, 0);
    fnmadd_s "fnmadd.s" op(0x4f, 0, 0);
    fmadd_d "fmadd.d" op(0x43, 0, 1);
    fmsub_d "fmsub.d" op(0x47, 0, 1);
    fnmsub_d "fnmsub.d" op(0x4b, 0, 1);
    fnmadd_d "fnmadd.d" op(0x4f, 0, 1);
}
"exact operation (F, D)" (rd: F = FD, rs1: F = FS1, rs2: F = FS2) {
    fsgnj_s "fsgnj.s" op(0x53, 0, 0x10);
    fsgnjn_s "fsgnjn.s" op(0x53, 1, 0x10);
    fsgnjx_s "fsgnjx.s" op(0x53, 2, 0x10);
    fmin_s "fmin.s" op(0x53, 0, 0x14);
    fmax_s "fmax.s" op(0x53, 1, 0x14);
    fsgnj_d "fsgnj.d" op(0x53, 0, 0x11);
    fsgnjn_d "fsgnjn.d" op(0x53, 1, 0x11);
    fsgnjx_d "fsgnjx.d" op(0x53, 2, 0x11);
    fmin_d "fmin.d" op(0x53, 0, 0x15);
    fmax_d "fmax.d" op(0x53, 1, 0x15);
}
"comparison (F, D)" (rd: X = RD, rs1: F = FS1, rs2: F = FS2) {
    fle_s "fle.s" op(0x53, 0, 0x50);
    flt_s "flt.s" op(0x53, 1, 0x50);
    feq_s "feq.s" op(0x53, 2, 0x50);
    fle_d "fle.d" op(0x53, 0, 0x51);
    flt_d "flt.d" op(0x53, 1, 0x51);
    feq_d "feq.d" op(0x53, 2, 0x51);
}
"conversion to an integer (F, D)" (rd: X = RD, rs1: F = FS1, rm: Rounding = RM) {
    fcvt_w_s "fcvt.w.s" op2(0x53, 0, 0x60, 0);
    fcvt_wu_s "fcvt.wu.s" op2(0x53, 0, 0x60, 1);
    fcvt_l_s "fcvt.l.s" op2(0x53, 0, 0x60, 2);
    fcvt_lu_s "fcvt.lu.s" op2(0x53, 0, 0x60, 3);
    fcvt_w_d "fcvt.w.d" op2(0x53, 0, 0x61, 0);
    fcvt_wu_d "fcvt.wu.d" op2(0x53, 0, 0x61, 1);
    fcvt_l_d "fcvt.l.d" op2(0x53, 0, 0x61, 2);
    fcvt_lu_d "fcvt.lu.d" op2(0x53, 0, 0x61, 3);
}
"conversion from an integer (F, D)" (rd: F = FD, rs1: X = RS1, rm: Rounding = RM) {
    fcvt_s_w "fcvt.s.w" op2(0x53, 0, 0x68, 0);
    fcvt_s_wu "fcvt.s.wu" op2(0x53, 0, 0x68, 1);
    fcvt_s_l "fcvt.s.l" op2(0x53, 0, 0x68, 2);
    fcvt_s_lu "fcvt.s.lu" op2(0x53, 0, 0x68, 3);
    fcvt_d_w "fcvt.d.w" op2(0x53, 0, 0x69, 0);
    fcvt_d_wu "fcvt.d.wu" op2(0x53, 0, 0x69, 1);
    fcvt_d_l "fcvt.d.l" op2(0x53, 0, 0x69, 2);
    fcvt_d_lu "fcvt.d.lu" op2(0x53, 0, 0x69, 3);
}
"bits or class of a floating-point register (F, D)" (rd: X = RD, rs1: F = FS1) {
    fmv_x_w "fmv.x.w" op(0x53, 0, 0x70);
    fclass_s "fclass.s" op(0x53, 1, 0x70);
    fmv_x_d "fmv.x.d" op(0x53, 0, 0x71);
    fclass_d "fclass.d" op(0x53, 1, 0x71);
}
"bits of an integer register (F, D)" (rd: F = FD, rs1: X = RS1) {
    fmv_w_x "fmv.w.x" op(0x53, 0, 0x78);
    fmv_d_x "fmv.d.x" op(0x53, 0, 0x79);
}
}
