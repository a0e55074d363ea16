//! The instructions: a table of their names, fixed bits and operands, and a method for each.

use axvcpu_asm::Argument;

use super::operand::*;
use super::{Asm, Cond, Label, V, X};

/// One instruction: its name, its fixed bits and its operands in the order of its method's arguments.
pub(super) struct Instruction {
    pub(super) name: &'static str,
    pub(super) bits: u32,
    pub(super) operands: &'static [&'static Operand],
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
    X: |r| r.id().into();
    V: |r| r.number().into();
    Cond: |cond| cond as i64;
}

/// One method for each instruction.
macro_rules! define {
    ($($section:literal $arguments:tt { $($method:ident $bits:expr;)* })*) => {
        impl Asm {
            $($(define!(@method $section $arguments $method $bits);)*)*
        }
    };
    (@method $section:literal ($($arg:ident: $type:ty = $operand:ident),*) $method:ident $bits:expr) => {
        #[doc = concat!("Appends `", stringify!($method), "`: ", $section, ".")]
        pub fn $method(&mut self, $($arg: $type),*) {
            static INSTRUCTION: Instruction =
                Instruction { name: stringify!($method), bits: $bits, operands: &[$(&$operand),*] };
            self.put(&INSTRUCTION, &[$($arg.into()),*]);
        }
    };
}

/// A load or store of a general-purpose register: log2 of the size, and `opc` (Arm ARM, C4.1.94).
const fn mem(size: u32, opc: u32) -> u32 {
    0x3800_0000 | size << 30 | opc << 22
}

/// The same of a SIMD and floating-point register.
const fn vmem(size: u32, opc: u32) -> u32 {
    mem(size, opc) | 1 << 26
}

/// The addressing mode with an unsigned, scaled offset.
const UNSIGNED: u32 = 1 << 24;
/// The one that adds the offset to the base behind the access.
const POST: u32 = 1 << 10;
/// The one that adds it before.
const PRE: u32 = 3 << 10;
/// The one with an offset in a register.
const REG: u32 = 1 << 21 | 3 << 13 | 2 << 10;

/// `op1`, `CRn`, `CRm` and `op2` of a system instruction (Arm ARM, C5.1.3).
const fn sys(op1: u32, crn: u32, crm: u32, op2: u32) -> u32 {
    0xd508_0000 | op1 << 16 | crn << 12 | crm << 8 | op2 << 5
}

/// The same without a register.
const fn sys_none(op1: u32, crn: u32, crm: u32, op2: u32) -> u32 {
    sys(op1, crn, crm, op2) | 31
}

/// A barrier or hint: `CRn`, `CRm`, `op2`.
const fn system(crn: u32, crm: u32, op2: u32) -> u32 {
    0xd503_001f | crn << 12 | crm << 8 | op2 << 5
}

define! {
"a 16-bit piece of a constant, `shift` 0, 16, 32 or 48" (rd: X = RD, imm: u32 = IMM16, shift: u32 = HALF) {
    movz 0xd280_0000;
    movn 0x9280_0000;
    movk 0xf280_0000;
}
"register or stack pointer, and 0 to 4095" (rd: X = RD_SP, rn: X = RN_SP, imm: u32 = IMM12) {
    add_imm 0x9100_0000;
    sub_imm 0xd100_0000;
}
"the same, and sets the flags" (rd: X = RD, rn: X = RN_SP, imm: u32 = IMM12) {
    adds_imm 0xb100_0000;
    subs_imm 0xf100_0000;
}
"two registers" (rd: X = RD, rn: X = RN, rm: X = RM) {
    add 0x8b00_0000;
    sub 0xcb00_0000;
    adds 0xab00_0000;
    subs 0xeb00_0000;
    and 0x8a00_0000;
    bic 0x8a20_0000;
    orr 0xaa00_0000;
    eor 0xca00_0000;
    ands 0xea00_0000;
    lslv 0x9ac0_2000;
    lsrv 0x9ac0_2400;
    asrv 0x9ac0_2800;
    mul 0x9b00_7c00;
    udiv 0x9ac0_0800;
}
"shift right by 0 to 63" (rd: X = RD, rn: X = RN, shamt: u32 = SHAMT) {
    lsr 0xd340_fc00;
    asr 0x9340_fc00;
}
"the bits from `low` to `high` of a register, at the bottom of another" (rd: X = RD, rn: X = RN, low: u32 = SHAMT,
    high: u32 = IMMS) {
    ubfm 0xd340_0000;
}
"branch within 128 MiB" (target: Label = TARGET_26) {
    b 0x1400_0000;
    bl 0x9400_0000;
}
"branch on the flags, within 1 MiB" (cond: Cond = COND, target: Label = TARGET_19) {
    b_cond 0x5400_0000;
}
"branch on a register that is zero, or is not, within 1 MiB" (rt: X = RD, target: Label = TARGET_19) {
    cbz 0xb400_0000;
    cbnz 0xb500_0000;
}
"branch on a bit that is zero, or is not, within 32 KiB" (rt: X = RD, bit: u32 = BIT, target: Label = TARGET_14) {
    tbz 0x3600_0000;
    tbnz 0x3700_0000;
}
"branch to the address in a register" (rn: X = RN) {
    br 0xd61f_0000;
    blr 0xd63f_0000;
}
"the address of a label within 1 MiB" (rd: X = RD, target: Label = TARGET_ADR) {
    la 0x1000_0000;
}

"load or store, the offset 0 to 4095" (rt: X = RD, base: X = RN_SP, offset: u32 = IMM12) {
    strb mem(0, 0) | UNSIGNED;
    ldrb mem(0, 1) | UNSIGNED;
    ldrsb mem(0, 2) | UNSIGNED;
    ldrsb_w mem(0, 3) | UNSIGNED;
}
"load or store, the offset a multiple of 2 up to 8190" (rt: X = RD, base: X = RN_SP, offset: u32 = IMM12_2) {
    strh mem(1, 0) | UNSIGNED;
    ldrh mem(1, 1) | UNSIGNED;
    ldrsh mem(1, 2) | UNSIGNED;
    ldrsh_w mem(1, 3) | UNSIGNED;
}
"load or store, the offset a multiple of 4 up to 16380" (rt: X = RD, base: X = RN_SP, offset: u32 = IMM12_4) {
    str_w mem(2, 0) | UNSIGNED;
    ldr_w mem(2, 1) | UNSIGNED;
    ldrsw mem(2, 2) | UNSIGNED;
}
"load or store, the offset a multiple of 8 up to 32760" (rt: X = RD, base: X = RN_SP, offset: u32 = IMM12_8) {
    str mem(3, 0) | UNSIGNED;
    ldr mem(3, 1) | UNSIGNED;
}
"load or store, the offset -256 to 255" (rt: X = RD, base: X = RN_SP, offset: i32 = IMM9) {
    sturb mem(0, 0);
    ldurb mem(0, 1);
    ldursb mem(0, 2);
    ldursb_w mem(0, 3);
    sturh mem(1, 0);
    ldurh mem(1, 1);
    ldursh mem(1, 2);
    ldursh_w mem(1, 3);
    stur_w mem(2, 0);
    ldur_w mem(2, 1);
    ldursw mem(2, 2);
    stur mem(3, 0);
    ldur mem(3, 1);
}
"load or store that adds -256 to 255 to its base register" (rt: X = RD, base: X = RN_SP, offset: i32 = IMM9) {
    strb_post mem(0, 0) | POST;
    ldrb_post mem(0, 1) | POST;
    ldrsb_post mem(0, 2) | POST;
    ldrsb_w_post mem(0, 3) | POST;
    strh_post mem(1, 0) | POST;
    ldrh_post mem(1, 1) | POST;
    ldrsh_post mem(1, 2) | POST;
    ldrsh_w_post mem(1, 3) | POST;
    str_w_post mem(2, 0) | POST;
    ldr_w_post mem(2, 1) | POST;
    ldrsw_post mem(2, 2) | POST;
    str_post mem(3, 0) | POST;
    ldr_post mem(3, 1) | POST;
    strb_pre mem(0, 0) | PRE;
    ldrb_pre mem(0, 1) | PRE;
    ldrsb_pre mem(0, 2) | PRE;
    ldrsb_w_pre mem(0, 3) | PRE;
    strh_pre mem(1, 0) | PRE;
    ldrh_pre mem(1, 1) | PRE;
    ldrsh_pre mem(1, 2) | PRE;
    ldrsh_w_pre mem(1, 3) | PRE;
    str_w_pre mem(2, 0) | PRE;
    ldr_w_pre mem(2, 1) | PRE;
    ldrsw_pre mem(2, 2) | PRE;
    str_pre mem(3, 0) | PRE;
    ldr_pre mem(3, 1) | PRE;
}
"load or store with an offset in a register" (rt: X = RD, base: X = RN_SP, offset: X = RM) {
    strb_reg mem(0, 0) | REG;
    ldrb_reg mem(0, 1) | REG;
    strh_reg mem(1, 0) | REG;
    ldrsh_reg mem(1, 2) | REG;
    str_w_reg mem(2, 0) | REG;
    ldrsw_reg mem(2, 2) | REG;
    str_reg mem(3, 0) | REG;
    ldr_reg mem(3, 1) | REG;
}
"load or store of two registers, the offset a multiple of 8, -512 to 504"
    (rt: X = RD, rt2: X = RT2, base: X = RN_SP, offset: i32 = IMM7_8) {
    stp 0xa900_0000;
    ldp 0xa940_0000;
    stp_pre 0xa980_0000;
    ldp_post 0xa8c0_0000;
}

"floating-point load or store of 8 bits, the offset 0 to 4095" (vt: V = VD, base: X = RN_SP, offset: u32 = IMM12) {
    str_b vmem(0, 0) | UNSIGNED;
    ldr_b vmem(0, 1) | UNSIGNED;
}
"floating-point load or store of 16 bits, the offset a multiple of 2 up to 8190"
    (vt: V = VD, base: X = RN_SP, offset: u32 = IMM12_2) {
    str_h vmem(1, 0) | UNSIGNED;
    ldr_h vmem(1, 1) | UNSIGNED;
}
"floating-point load or store of 32 bits, the offset a multiple of 4 up to 16380"
    (vt: V = VD, base: X = RN_SP, offset: u32 = IMM12_4) {
    str_s vmem(2, 0) | UNSIGNED;
    ldr_s vmem(2, 1) | UNSIGNED;
}
"floating-point load or store of 64 bits, the offset a multiple of 8 up to 32760"
    (vt: V = VD, base: X = RN_SP, offset: u32 = IMM12_8) {
    str_d vmem(3, 0) | UNSIGNED;
    ldr_d vmem(3, 1) | UNSIGNED;
}
"load or store of 128 bits, the offset a multiple of 16 up to 65520"
    (vt: V = VD, base: X = RN_SP, offset: u32 = IMM12_16) {
    str_q vmem(0, 2) | UNSIGNED;
    ldr_q vmem(0, 3) | UNSIGNED;
}
"floating-point load or store of 64 bits that adds -256 to 255 to its base register"
    (vt: V = VD, base: X = RN_SP, offset: i32 = IMM9) {
    str_d_pre vmem(3, 0) | PRE;
    ldr_d_post vmem(3, 1) | POST;
}
"load or store of two registers of 128 bits, the offset a multiple of 16, -1024 to 1008"
    (vt: V = VD, vt2: V = VT2, base: X = RN_SP, offset: i32 = IMM7_16) {
    stp_q 0xad00_0000;
    ldp_q 0xad40_0000;
}
"moves 64 bits to the bottom of a floating-point register, and clears the rest" (vd: V = VD, rn: X = RN) {
    fmov_to 0x9e67_0000;
}
"moves 64 bits from the bottom of a floating-point register" (rd: X = RD, vn: V = VN) {
    fmov_from 0x9e66_0000;
}
"moves 64 bits to half of a vector register, 0 or 1" (vd: V = VD, lane: u32 = LANE_D, rn: X = RN) {
    ins_d 0x4e08_1c00;
}
"moves 64 bits from half of a vector register, 0 or 1" (rd: X = RD, vn: V = VN, lane: u32 = LANE_D) {
    umov_d 0x4e08_3c00;
}

"load or store with order or exclusively" (rt: X = RD, base: X = RN_SP) {
    ldxr 0xc85f_7c00;
    ldxr_w 0x885f_7c00;
    ldaxr 0xc85f_fc00;
    ldar 0xc8df_fc00;
    ldar_w 0x88df_fc00;
    stlr 0xc89f_fc00;
    stlr_w 0x889f_fc00;
}
"store exclusively; `rs` becomes 0 if it was done" (rs: X = RM, rt: X = RD, base: X = RN_SP) {
    stxr 0xc800_7c00;
    stxr_w 0x8800_7c00;
    stlxr 0xc800_fc00;
}
"atomic read-modify-write, the old value in `rt` (FEAT_LSE)" (rs: X = RM, rt: X = RD, base: X = RN_SP) {
    ldadd 0xf820_0000;
    ldadd_w 0xb820_0000;
    swp 0xf820_8000;
    cas 0xc8a0_7c00;
}

"read of a system register" (rt: X = RD, register: u16 = SYSREG) {
    mrs 0xd520_0000;
}
"write of a system register, or a system instruction" (register: u16 = SYSREG, rt: X = RD) {
    msr 0xd500_0000;
}
"bits of PSTATE: 8 debug, 4 SError, 2 IRQ, 1 FIQ" (bits: u32 = IMM4) {
    daifset 0xd503_40df;
    daifclr 0xd503_40ff;
}
"which stack pointer there is" (select: u32 = IMM4) {
    spsel 0xd500_40bf;
}
"cache or translation maintenance by address" (rt: X = RD) {
    dc_zva sys(3, 7, 4, 1);
    dc_ivac sys(0, 7, 6, 1);
    dc_cvac sys(3, 7, 10, 1);
    dc_cvau sys(3, 7, 11, 1);
    dc_civac sys(3, 7, 14, 1);
    ic_ivau sys(3, 7, 5, 1);
    tlbi_vae1 sys(0, 8, 7, 1);
    tlbi_vae1is sys(0, 8, 3, 1);
    at_s1e1r sys(0, 7, 8, 0);
}
"cache maintenance by set and way" (rt: X = RD) {
    dc_isw sys(0, 7, 6, 2);
    dc_csw sys(0, 7, 10, 2);
    dc_cisw sys(0, 7, 14, 2);
}
"cache or translation maintenance of everything" () {
    ic_iallu sys_none(0, 7, 5, 0);
    ic_ialluis sys_none(0, 7, 1, 0);
    tlbi_vmalle1 sys_none(0, 8, 7, 0);
    tlbi_vmalle1is sys_none(0, 8, 3, 0);
}
"barrier" () {
    isb system(3, 15, 6);
    dsb_sy system(3, 15, 4);
    dsb_ish system(3, 11, 4);
    dmb_sy system(3, 15, 5);
    dmb_ish system(3, 11, 5);
    clrex system(3, 15, 2);
}
"hint" () {
    nop system(2, 0, 0);
    wfe system(2, 0, 2);
    wfi system(2, 0, 3);
    sev system(2, 0, 4);
    sevl system(2, 0, 5);
}
"waits, until a time at most (FEAT_WFxT)" (rd: X = RD) {
    wfet 0xd503_1000;
    wfit 0xd503_1020;
}
"exception with a 16-bit number" (imm: u32 = IMM16) {
    svc 0xd400_0001;
    hvc 0xd400_0002;
    smc 0xd400_0003;
    brk 0xd420_0000;
    hlt 0xd440_0000;
}
"no operands" () {
    eret 0xd69f_03e0;
    ret 0xd65f_03c0;
}
"permanently undefined, with a 16-bit number" (imm: u32 = IMM16_LOW) {
    udf 0;
}
"1 if the opposite of `cond` does not hold, else 0" (rd: X = RD, opposite: u32 = COND_SET) {
    cset_inverted 0x9a9f_07e0;
}
}
