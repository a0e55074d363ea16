//! Encodings as LLVM's assembler gives them, and what the program does with labels and mistakes.

use alloc::vec::Vec;

use super::*;
use crate::sysreg;

/// An encoding and what assembles to it.
type Known = (u32, fn(&mut Asm));

fn words(write: impl FnOnce(&mut Asm)) -> Vec<u32> {
    let mut a = Asm::new(0x4020_0000);
    write(&mut a);
    let bytes = a.finish().unwrap();
    bytes.chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect()
}

#[test]
fn instructions_have_their_known_encodings() {
    // The comments are what LLVM was given.
    let known: &[Known] = &[
        (0xd2a2_4683, |a| a.movz(X3, 0x1234, 16)), // movz x3, #0x1234, lsl #16
        (0x92ff_ffe3, |a| a.movn(X3, 0xffff, 48)), // movn x3, #0xffff, lsl #48
        (0xf2c0_003e, |a| a.movk(X30, 1, 32)),     // movk x30, #1, lsl #32
        (0x913f_fc3f, |a| a.add_imm(SP, X1, 4095)), // add sp, x1, #4095
        (0xd100_43e1, |a| a.sub_imm(X1, SP, 16)),  // sub x1, sp, #16
        (0xb100_045f, |a| a.adds_imm(XZR, X2, 1)), // adds xzr, x2, #1
        (0xf100_0447, |a| a.subs_imm(X7, X2, 1)),  // subs x7, x2, #1
        (0xf100_1c5f, |a| a.cmp_imm(X2, 7)),       // cmp x2, #7
        (0xeb03_005f, |a| a.cmp(X2, X3)),          // cmp x2, x3
        (0x8b03_0041, |a| a.add(X1, X2, X3)),      // add x1, x2, x3
        (0xcb03_03e1, |a| a.sub(X1, XZR, X3)),     // sub x1, xzr, x3
        (0xab03_0041, |a| a.adds(X1, X2, X3)),     // adds x1, x2, x3
        (0xeb03_0041, |a| a.subs(X1, X2, X3)),     // subs x1, x2, x3
        (0x8a03_0041, |a| a.and(X1, X2, X3)),      // and x1, x2, x3
        (0x8a23_0041, |a| a.bic(X1, X2, X3)),      // bic x1, x2, x3
        (0xaa03_0041, |a| a.orr(X1, X2, X3)),      // orr x1, x2, x3
        (0xca03_0041, |a| a.eor(X1, X2, X3)),      // eor x1, x2, x3
        (0xea03_0041, |a| a.ands(X1, X2, X3)),     // ands x1, x2, x3
        (0xaa02_03e1, |a| a.mov(X1, X2)),          // mov x1, x2
        (0x9100_005f, |a| a.mov_sp(SP, X2)),       // mov sp, x2
        (0x9ac3_2041, |a| a.lslv(X1, X2, X3)),     // lsl x1, x2, x3
        (0x9ac3_2441, |a| a.lsrv(X1, X2, X3)),     // lsr x1, x2, x3
        (0x9ac3_2841, |a| a.asrv(X1, X2, X3)),     // asr x1, x2, x3
        (0x9b03_7c41, |a| a.mul(X1, X2, X3)),      // mul x1, x2, x3
        (0x9ac3_0841, |a| a.udiv(X1, X2, X3)),     // udiv x1, x2, x3
        (0xd340_fc41, |a| a.lsl(X1, X2, 0)),       // ubfm x1, x2, #0, #63
        (0xd374_cc41, |a| a.lsl(X1, X2, 12)),      // lsl x1, x2, #12
        (0xd341_0041, |a| a.lsl(X1, X2, 63)),      // lsl x1, x2, #63
        (0xd35a_fc41, |a| a.lsr(X1, X2, 26)),      // lsr x1, x2, #26
        (0x937f_fc41, |a| a.asr(X1, X2, 63)),      // asr x1, x2, #63
        (0xd344_1c41, |a| a.ubfm(X1, X2, 4, 7)),   // ubfx x1, x2, #4, #4
        (0xd61f_0120, |a| a.br(X9)),               // br x9
        (0xd63f_0120, |a| a.blr(X9)),              // blr x9
        (0xd65f_03c0, |a| a.ret()),                // ret
        (0x9a9f_07e4, |a| a.cset(X4, Cond::Ne)),   // cset x4, ne
        (0x9a9f_a7e4, |a| a.cset(X4, Cond::Lt)),   // cset x4, lt
        (0x393f_fc41, |a| a.strb(X1, X2, 4095)),   // strb w1, [x2, #4095]
        (0x3940_07e1, |a| a.ldrb(X1, SP, 1)),      // ldrb w1, [sp, #1]
        (0x3980_0041, |a| a.ldrsb(X1, X2, 0)),     // ldrsb x1, [x2]
        (0x39c0_005f, |a| a.ldrsb_w(XZR, X2, 0)),  // ldrsb wzr, [x2]
        (0x793f_fc41, |a| a.strh(X1, X2, 8190)),   // strh w1, [x2, #8190]
        (0x7940_0441, |a| a.ldrh(X1, X2, 2)),      // ldrh w1, [x2, #2]
        (0x7980_0441, |a| a.ldrsh(X1, X2, 2)),     // ldrsh x1, [x2, #2]
        (0x79c0_0441, |a| a.ldrsh_w(X1, X2, 2)),   // ldrsh w1, [x2, #2]
        (0xb93f_fc5f, |a| a.str_w(XZR, X2, 16380)), // str wzr, [x2, #16380]
        (0xb940_0441, |a| a.ldr_w(X1, X2, 4)),     // ldr w1, [x2, #4]
        (0xb980_0441, |a| a.ldrsw(X1, X2, 4)),     // ldrsw x1, [x2, #4]
        (0xf93f_fc41, |a| a.str(X1, X2, 32760)),   // str x1, [x2, #32760]
        (0xf940_0441, |a| a.ldr(X1, X2, 8)),       // ldr x1, [x2, #8]
        (0x381f_f041, |a| a.sturb(X1, X2, -1)),    // sturb w1, [x2, #-1]
        (0x384f_f041, |a| a.ldurb(X1, X2, 255)),   // ldurb w1, [x2, #255]
        (0x3890_0041, |a| a.ldursb(X1, X2, -256)), // ldursb x1, [x2, #-256]
        (0x38c0_1041, |a| a.ldursb_w(X1, X2, 1)),  // ldursb w1, [x2, #1]
        (0x7800_1041, |a| a.sturh(X1, X2, 1)),     // sturh w1, [x2, #1]
        (0x7840_1041, |a| a.ldurh(X1, X2, 1)),     // ldurh w1, [x2, #1]
        (0x7880_1041, |a| a.ldursh(X1, X2, 1)),    // ldursh x1, [x2, #1]
        (0x78c0_1041, |a| a.ldursh_w(X1, X2, 1)),  // ldursh w1, [x2, #1]
        (0xb800_1041, |a| a.stur_w(X1, X2, 1)),    // stur w1, [x2, #1]
        (0xb840_1041, |a| a.ldur_w(X1, X2, 1)),    // ldur w1, [x2, #1]
        (0xb880_1041, |a| a.ldursw(X1, X2, 1)),    // ldursw x1, [x2, #1]
        (0xf81f_8041, |a| a.stur(X1, X2, -8)),     // stur x1, [x2, #-8]
        (0xf85f_8041, |a| a.ldur(X1, X2, -8)),     // ldur x1, [x2, #-8]
        (0x3800_1441, |a| a.strb_post(X1, X2, 1)), // strb w1, [x2], #1
        (0x385f_f441, |a| a.ldrb_post(X1, X2, -1)), // ldrb w1, [x2], #-1
        (0x3880_1441, |a| a.ldrsb_post(X1, X2, 1)), // ldrsb x1, [x2], #1
        (0x38c0_1441, |a| a.ldrsb_w_post(X1, X2, 1)), // ldrsb w1, [x2], #1
        (0x7800_2441, |a| a.strh_post(X1, X2, 2)), // strh w1, [x2], #2
        (0x7840_2441, |a| a.ldrh_post(X1, X2, 2)), // ldrh w1, [x2], #2
        (0x7880_2441, |a| a.ldrsh_post(X1, X2, 2)), // ldrsh x1, [x2], #2
        (0x78c0_2441, |a| a.ldrsh_w_post(X1, X2, 2)), // ldrsh w1, [x2], #2
        (0xb800_4441, |a| a.str_w_post(X1, X2, 4)), // str w1, [x2], #4
        (0xb840_4441, |a| a.ldr_w_post(X1, X2, 4)), // ldr w1, [x2], #4
        (0xb880_4441, |a| a.ldrsw_post(X1, X2, 4)), // ldrsw x1, [x2], #4
        (0xf800_87e1, |a| a.str_post(X1, SP, 8)),  // str x1, [sp], #8
        (0xf840_87e1, |a| a.ldr_post(X1, SP, 8)),  // ldr x1, [sp], #8
        (0x3800_1c41, |a| a.strb_pre(X1, X2, 1)),  // strb w1, [x2, #1]!
        (0x3840_1c41, |a| a.ldrb_pre(X1, X2, 1)),  // ldrb w1, [x2, #1]!
        (0x3880_1c41, |a| a.ldrsb_pre(X1, X2, 1)), // ldrsb x1, [x2, #1]!
        (0x38c0_1c41, |a| a.ldrsb_w_pre(X1, X2, 1)), // ldrsb w1, [x2, #1]!
        (0x7800_2c41, |a| a.strh_pre(X1, X2, 2)),  // strh w1, [x2, #2]!
        (0x7840_2c41, |a| a.ldrh_pre(X1, X2, 2)),  // ldrh w1, [x2, #2]!
        (0x7880_2c41, |a| a.ldrsh_pre(X1, X2, 2)), // ldrsh x1, [x2, #2]!
        (0x78c0_2c41, |a| a.ldrsh_w_pre(X1, X2, 2)), // ldrsh w1, [x2, #2]!
        (0xb800_4c41, |a| a.str_w_pre(X1, X2, 4)), // str w1, [x2, #4]!
        (0xb840_4c41, |a| a.ldr_w_pre(X1, X2, 4)), // ldr w1, [x2, #4]!
        (0xb880_4c41, |a| a.ldrsw_pre(X1, X2, 4)), // ldrsw x1, [x2, #4]!
        (0xf81f_0fe1, |a| a.str_pre(X1, SP, -16)), // str x1, [sp, #-16]!
        (0xf840_8fe1, |a| a.ldr_pre(X1, SP, 8)),   // ldr x1, [sp, #8]!
        (0x3823_6841, |a| a.strb_reg(X1, X2, X3)), // strb w1, [x2, x3]
        (0x3863_6841, |a| a.ldrb_reg(X1, X2, X3)), // ldrb w1, [x2, x3]
        (0x7823_6841, |a| a.strh_reg(X1, X2, X3)), // strh w1, [x2, x3]
        (0x78a3_6841, |a| a.ldrsh_reg(X1, X2, X3)), // ldrsh x1, [x2, x3]
        (0xb823_6841, |a| a.str_w_reg(X1, X2, X3)), // str w1, [x2, x3]
        (0xb8a3_6841, |a| a.ldrsw_reg(X1, X2, X3)), // ldrsw x1, [x2, x3]
        (0xf823_6841, |a| a.str_reg(X1, X2, X3)),  // str x1, [x2, x3]
        (0xf87f_6be1, |a| a.ldr_reg(X1, SP, XZR)), // ldr x1, [sp, xzr]
        (0xa920_0861, |a| a.stp(X1, X2, X3, -512)), // stp x1, x2, [x3, #-512]
        (0xa95f_8861, |a| a.ldp(X1, X2, X3, 504)), // ldp x1, x2, [x3, #504]
        (0xa9bf_7bfd, |a| a.stp_pre(X29, X30, SP, -16)), // stp x29, x30, [sp, #-16]!
        (0xa8c1_7bfd, |a| a.ldp_post(X29, X30, SP, 16)), // ldp x29, x30, [sp], #16
        (0x3d00_0441, |a| a.str_b(V1, X2, 1)),     // str b1, [x2, #1]
        (0x3d40_0441, |a| a.ldr_b(V1, X2, 1)),     // ldr b1, [x2, #1]
        (0x7d00_0441, |a| a.str_h(V1, X2, 2)),     // str h1, [x2, #2]
        (0x7d40_0441, |a| a.ldr_h(V1, X2, 2)),     // ldr h1, [x2, #2]
        (0xbd00_0441, |a| a.str_s(V1, X2, 4)),     // str s1, [x2, #4]
        (0xbd40_0441, |a| a.ldr_s(V1, X2, 4)),     // ldr s1, [x2, #4]
        (0xfd00_0441, |a| a.str_d(V1, X2, 8)),     // str d1, [x2, #8]
        (0xfd40_045f, |a| a.ldr_d(V31, X2, 8)),    // ldr d31, [x2, #8]
        (0x3d80_0441, |a| a.str_q(V1, X2, 16)),    // str q1, [x2, #16]
        (0x3dff_fc41, |a| a.ldr_q(V1, X2, 65520)), // ldr q1, [x2, #65520]
        (0xfc1f_8c41, |a| a.str_d_pre(V1, X2, -8)), // str d1, [x2, #-8]!
        (0xfc40_8441, |a| a.ldr_d_post(V1, X2, 8)), // ldr d1, [x2], #8
        (0xad01_0861, |a| a.stp_q(V1, V2, X3, 32)), // stp q1, q2, [x3, #32]
        (0xad60_0861, |a| a.ldp_q(V1, V2, X3, -1024)), // ldp q1, q2, [x3, #-1024]
        (0x9e67_00c5, |a| a.fmov_to(V5, X6)),      // fmov d5, x6
        (0x9e66_00a6, |a| a.fmov_from(X6, V5)),    // fmov x6, d5
        (0x4e08_1cc5, |a| a.ins_d(V5, 0, X6)),     // mov v5.d[0], x6
        (0x4e18_1cc5, |a| a.ins_d(V5, 1, X6)),     // mov v5.d[1], x6
        (0x4e18_3ca6, |a| a.umov_d(X6, V5, 1)),    // mov x6, v5.d[1]
        (0xc85f_7c41, |a| a.ldxr(X1, X2)),         // ldxr x1, [x2]
        (0x885f_7c41, |a| a.ldxr_w(X1, X2)),       // ldxr w1, [x2]
        (0xc85f_fc41, |a| a.ldaxr(X1, X2)),        // ldaxr x1, [x2]
        (0xc8df_fc41, |a| a.ldar(X1, X2)),         // ldar x1, [x2]
        (0x88df_fc41, |a| a.ldar_w(X1, X2)),       // ldar w1, [x2]
        (0xc89f_fc41, |a| a.stlr(X1, X2)),         // stlr x1, [x2]
        (0x889f_fc41, |a| a.stlr_w(X1, X2)),       // stlr w1, [x2]
        (0xc803_7c41, |a| a.stxr(X3, X1, X2)),     // stxr w3, x1, [x2]
        (0x8803_7c41, |a| a.stxr_w(X3, X1, X2)),   // stxr w3, w1, [x2]
        (0xc803_fc41, |a| a.stlxr(X3, X1, X2)),    // stlxr w3, x1, [x2]
        (0xf821_0062, |a| a.ldadd(X1, X2, X3)),    // ldadd x1, x2, [x3]
        (0xb821_0062, |a| a.ldadd_w(X1, X2, X3)),  // ldadd w1, w2, [x3]
        (0xf821_8062, |a| a.swp(X1, X2, X3)),      // swp x1, x2, [x3]
        (0xc8a1_7c62, |a| a.cas(X1, X2, X3)),      // cas x1, x2, [x3]
        (0xd503_42df, |a| a.daifset(2)),           // msr daifset, #2
        (0xd503_4fff, |a| a.daifclr(15)),          // msr daifclr, #15
        (0xd500_41bf, |a| a.spsel(1)),             // msr spsel, #1
        (0xd50b_7421, |a| a.dc_zva(X1)),           // dc zva, x1
        (0xd508_7621, |a| a.dc_ivac(X1)),          // dc ivac, x1
        (0xd50b_7a21, |a| a.dc_cvac(X1)),          // dc cvac, x1
        (0xd50b_7b21, |a| a.dc_cvau(X1)),          // dc cvau, x1
        (0xd50b_7e21, |a| a.dc_civac(X1)),         // dc civac, x1
        (0xd50b_7521, |a| a.ic_ivau(X1)),          // ic ivau, x1
        (0xd508_7641, |a| a.dc_isw(X1)),           // dc isw, x1
        (0xd508_7a41, |a| a.dc_csw(X1)),           // dc csw, x1
        (0xd508_7e41, |a| a.dc_cisw(X1)),          // dc cisw, x1
        (0xd508_751f, |a| a.ic_iallu()),           // ic iallu
        (0xd508_711f, |a| a.ic_ialluis()),         // ic ialluis
        (0xd508_8721, |a| a.tlbi_vae1(X1)),        // tlbi vae1, x1
        (0xd508_8321, |a| a.tlbi_vae1is(X1)),      // tlbi vae1is, x1
        (0xd508_871f, |a| a.tlbi_vmalle1()),       // tlbi vmalle1
        (0xd508_831f, |a| a.tlbi_vmalle1is()),     // tlbi vmalle1is
        (0xd508_7801, |a| a.at_s1e1r(X1)),         // at s1e1r, x1
        (0xd503_3fdf, |a| a.isb()),                // isb
        (0xd503_3f9f, |a| a.dsb_sy()),             // dsb sy
        (0xd503_3b9f, |a| a.dsb_ish()),            // dsb ish
        (0xd503_3fbf, |a| a.dmb_sy()),             // dmb sy
        (0xd503_3bbf, |a| a.dmb_ish()),            // dmb ish
        (0xd503_3f5f, |a| a.clrex()),              // clrex
        (0xd503_201f, |a| a.nop()),                // nop
        (0xd503_205f, |a| a.wfe()),                // wfe
        (0xd503_207f, |a| a.wfi()),                // wfi
        (0xd503_209f, |a| a.sev()),                // sev
        (0xd503_20bf, |a| a.sevl()),               // sevl
        (0xd503_1001, |a| a.wfet(X1)),             // wfet x1
        (0xd503_1021, |a| a.wfit(X1)),             // wfit x1
        (0xd400_0021, |a| a.svc(1)),               // svc #1
        (0xd400_0002, |a| a.hvc(0)),               // hvc #0
        (0xd41f_ffe3, |a| a.smc(65535)),           // smc #65535
        (0xd420_0040, |a| a.brk(2)),               // brk #2
        (0xd440_0060, |a| a.hlt(3)),               // hlt #3
        (0xd69f_03e0, |a| a.eret()),               // eret
        (0x0000_0004, |a| a.udf(4)),               // udf #4
    ];
    for (index, &(word, write)) in known.iter().enumerate() {
        let found = words(write);
        assert_eq!(found, [word], "row {index}: {found:#x?}");
    }
}

#[test]
fn system_registers_sit_where_they_belong() {
    let known: &[Known] = &[
        (0xd538_d085, |a| a.mrs(X5, sysreg::TPIDR_EL1)), // mrs x5, tpidr_el1
        (0xd518_c005, |a| a.msr(sysreg::VBAR_EL1, X5)),  // msr vbar_el1, x5
        (0xd53b_e049, |a| a.mrs(X9, sysreg::CNTVCT_EL0)), // mrs x9, cntvct_el0
        (0xd518_cbbf, |a| a.msr(sysreg::ICC_SGI1R_EL1, XZR)), // msr icc_sgi1r_el1, xzr
        (0xd538_4240, |a| a.mrs(X0, sysreg::CURRENT_EL)), // mrs x0, currentel
        (0xd510_0241, |a| a.msr(sysreg::MDSCR_EL1, X1)), // msr mdscr_el1, x1
    ];
    for (index, &(word, write)) in known.iter().enumerate() {
        let found = words(write);
        assert_eq!(found, [word], "row {index}: {found:#x?}");
    }
    // `mrs x0, …`, or `msr …, x0` of those that can only be written, as LLVM encodes them.
    let names: &[(u32, u16)] = &[
        (0xd530_0240, sysreg::MDSCR_EL1),
        (0xd530_0080, sysreg::DBGBVR0_EL1),
        (0xd530_00a0, sysreg::DBGBCR0_EL1),
        (0xd510_1080, sysreg::OSLAR_EL1),
        (0xd530_1180, sysreg::OSLSR_EL1),
        (0xd530_1380, sysreg::OSDLR_EL1),
        (0xd538_0000, sysreg::MIDR_EL1),
        (0xd538_00a0, sysreg::MPIDR_EL1),
        (0xd538_00c0, sysreg::REVIDR_EL1),
        (0xd538_0400, sysreg::ID_AA64PFR0_EL1),
        (0xd538_0420, sysreg::ID_AA64PFR1_EL1),
        (0xd538_0480, sysreg::ID_AA64ZFR0_EL1),
        (0xd538_0500, sysreg::ID_AA64DFR0_EL1),
        (0xd538_1000, sysreg::SCTLR_EL1),
        (0xd538_1020, sysreg::ACTLR_EL1),
        (0xd538_1040, sysreg::CPACR_EL1),
        (0xd538_2000, sysreg::TTBR0_EL1),
        (0xd538_2020, sysreg::TTBR1_EL1),
        (0xd538_2040, sysreg::TCR_EL1),
        (0xd538_4000, sysreg::SPSR_EL1),
        (0xd538_4020, sysreg::ELR_EL1),
        (0xd538_4100, sysreg::SP_EL0),
        (0xd538_4240, sysreg::CURRENT_EL),
        (0xd538_4600, sysreg::ICC_PMR_EL1),
        (0xd538_5100, sysreg::AFSR0_EL1),
        (0xd538_5120, sysreg::AFSR1_EL1),
        (0xd538_5200, sysreg::ESR_EL1),
        (0xd538_6000, sysreg::FAR_EL1),
        (0xd538_7400, sysreg::PAR_EL1),
        (0xd538_99e0, sysreg::PMSIDR_EL1),
        (0xd538_a200, sysreg::MAIR_EL1),
        (0xd538_a300, sysreg::AMAIR_EL1),
        (0xd538_c000, sysreg::VBAR_EL1),
        (0xd538_c100, sysreg::ISR_EL1),
        (0xd518_cb20, sysreg::ICC_DIR_EL1),
        (0xd538_cb60, sysreg::ICC_RPR_EL1),
        (0xd518_cba0, sysreg::ICC_SGI1R_EL1),
        (0xd538_cc00, sysreg::ICC_IAR1_EL1),
        (0xd518_cc20, sysreg::ICC_EOIR1_EL1),
        (0xd538_cc40, sysreg::ICC_HPPIR1_EL1),
        (0xd538_cc60, sysreg::ICC_BPR1_EL1),
        (0xd538_cc80, sysreg::ICC_CTLR_EL1),
        (0xd538_cca0, sysreg::ICC_SRE_EL1),
        (0xd538_cce0, sysreg::ICC_IGRPEN1_EL1),
        (0xd538_d020, sysreg::CONTEXTIDR_EL1),
        (0xd538_d080, sysreg::TPIDR_EL1),
        (0xd538_e100, sysreg::CNTKCTL_EL1),
        (0xd53a_0000, sysreg::CSSELR_EL1),
        (0xd53b_0020, sysreg::CTR_EL0),
        (0xd53b_00e0, sysreg::DCZID_EL0),
        (0xd53b_4200, sysreg::NZCV),
        (0xd53b_4220, sysreg::DAIF),
        (0xd53b_4400, sysreg::FPCR),
        (0xd53b_4420, sysreg::FPSR),
        (0xd53b_9c00, sysreg::PMCR_EL0),
        (0xd53b_9c20, sysreg::PMCNTENSET_EL0),
        (0xd53b_9d00, sysreg::PMCCNTR_EL0),
        (0xd53b_9e00, sysreg::PMUSERENR_EL0),
        (0xd53b_d040, sysreg::TPIDR_EL0),
        (0xd53b_d060, sysreg::TPIDRRO_EL0),
        (0xd53b_e000, sysreg::CNTFRQ_EL0),
        (0xd53b_e020, sysreg::CNTPCT_EL0),
        (0xd53b_e040, sysreg::CNTVCT_EL0),
        (0xd53b_e200, sysreg::CNTP_TVAL_EL0),
        (0xd53b_e220, sysreg::CNTP_CTL_EL0),
        (0xd53b_e240, sysreg::CNTP_CVAL_EL0),
        (0xd53b_e300, sysreg::CNTV_TVAL_EL0),
        (0xd53b_e320, sysreg::CNTV_CTL_EL0),
        (0xd53b_e340, sysreg::CNTV_CVAL_EL0),
        (0xd53c_1100, sysreg::HCR_EL2),
        (0xd53c_2100, sysreg::VTTBR_EL2),
    ];
    for &(word, register) in names {
        let bit = 1 << 21; // tells reading from writing
        assert_eq!(words(|a| a.mrs(X0, register)), [word | bit], "{register:#x}");
        assert_eq!(words(|a| a.msr(register, X0)), [word & !bit], "{register:#x}");
    }
    assert_eq!(sysreg::reg(3, 7, 15, 15, 7), 0xffff);
}

#[test]
fn branches_reach_forwards_and_backwards_and_no_further() {
    let code = words(|a| {
        let (back, forward) = (a.here_label(), a.label());
        a.cbz(X0, forward);
        a.bl(back);
        a.b_cond(Cond::Ne, forward);
        a.tbnz(X1, 33, forward);
        a.bind(forward);
        a.b(back);
        a.la(X2, back);
    });
    assert_eq!(
        code,
        [0xb400_0080, 0x97ff_ffff, 0x5400_0041, 0xb708_0021, 0x17ff_fffc, 0x10ff_ff62]
    );

    let far = |distance: usize| {
        let mut a = Asm::new(0);
        let end = a.label();
        a.tbz(X0, 0, end);
        a.zero(distance - 4);
        a.bind(end);
        a.finish().map(|_| ())
    };
    assert_eq!(far(0x7ffc), Ok(()));
    assert_eq!(far(0x8000), Err(AsmError::Distance { at: 0, distance: 0x8000 }));
}

#[test]
fn mistakes_are_reported_where_they_were_made() {
    let mistake = |write: fn(&mut Asm)| {
        let mut a = Asm::new(0);
        a.nop();
        write(&mut a);
        a.finish().map(|_| ())
    };
    let operand = |name| Err(AsmError::Operand { at: 4, name });
    assert_eq!(mistake(|a| a.add_imm(X0, X0, 4096)), operand("add_imm"));
    // 31 is either the zero register or the stack pointer.
    assert_eq!(mistake(|a| a.add_imm(XZR, X0, 1)), operand("add_imm"));
    assert_eq!(mistake(|a| a.add(X0, X0, SP)), operand("add"));
    assert_eq!(mistake(|a| a.ldr(X0, XZR, 0)), operand("ldr"));
    assert_eq!(mistake(|a| a.ldr(SP, X0, 0)), operand("ldr"));
    assert_eq!(mistake(|a| a.ldr(X0, X0, 4)), operand("ldr"));
    assert_eq!(mistake(|a| a.ldp(X0, X1, X2, 4)), operand("ldp"));
    assert_eq!(mistake(|a| a.ldur(X0, X0, -257)), operand("ldur"));
    assert_eq!(mistake(|a| a.movz(X0, 0, 8)), operand("movz"));
    assert_eq!(mistake(|a| a.lsl(X0, X0, 64)), operand("lsl"));
    assert_eq!(mistake(|a| a.hvc(0x1_0000)), operand("hvc"));
    assert_eq!(mistake(|a| a.align(3)), Err(AsmError::Alignment { at: 4 }));
    let unbound = |a: &mut Asm| {
        let nowhere = a.label();
        a.b(nowhere);
    };
    assert_eq!(mistake(unbound), Err(AsmError::Unbound { at: 4 }));
    let twice = |a: &mut Asm| {
        let label = a.here_label();
        a.bind(label);
    };
    assert_eq!(mistake(twice), Err(AsmError::Rebound { at: 4 }));
}

/// Executes the instructions `li` uses.
fn evaluate(code: &[u32]) -> u64 {
    code.iter().fold(0, |value, &word| {
        let shift = 16 * (word >> 21 & 3);
        let imm = u64::from(word >> 5 & 0xffff) << shift;
        match word & 0xff80_0000 {
            0xd280_0000 => imm,
            0x9280_0000 => !imm,
            0xf280_0000 => value & !(0xffff << shift) | imm,
            _ => panic!("{word:#x} is no part of li"),
        }
    })
}

#[test]
fn li_loads_every_kind_of_constant() {
    let mut values = alloc::vec![0, 1, u64::MAX, u64::MAX - 1, 0xffff, 0x1_0000, 1 << 63];
    for shift in 0..64 {
        for offset in [0, 1, 0xffff, u64::MAX, 0xffff_0000] {
            values.push((1u64 << shift).wrapping_add(offset));
            values.push((u64::MAX << shift).wrapping_sub(offset));
        }
    }
    for value in values {
        let code = words(|a| a.li(X0, value));
        assert_eq!(evaluate(&code), value, "{code:#x?}");
        assert!(code.len() <= 4);
    }
    assert_eq!(words(|a| a.li(X0, u64::MAX - 5)).len(), 1);
    assert_eq!(words(|a| a.li(X0, 0x4010_0000)).len(), 1);
}

#[test]
fn addresses_are_pc_relative_and_in_data_absolute() {
    let code = words(|a| {
        let data = a.label();
        a.la(X0, data);
        a.align(8);
        a.bind(data);
        a.quad_label(data);
    });
    assert_eq!(code, [0x1000_0040, 0, 0x4020_0008, 0]);
}
