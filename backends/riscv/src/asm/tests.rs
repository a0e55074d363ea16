//! Encodings known from the manual's tables and worked out by hand, and properties over the whole table.

use alloc::string::ToString;
use alloc::vec::Vec;

use super::*;

/// An encoding and what assembles to it.
type Known<T> = (T, fn(&mut Asm));

fn words(write: impl FnOnce(&mut Asm)) -> Vec<u32> {
    let mut a = Asm::new(0x8000_0000);
    write(&mut a);
    let bytes = a.finish().unwrap();
    bytes
        .chunks(4)
        .map(|c| u32::from_le_bytes(core::array::from_fn(|i| *c.get(i).unwrap_or(&0))))
        .collect()
}

fn halves(write: impl FnOnce(&mut Asm)) -> Vec<u16> {
    let mut a = Asm::new(0x8000_0000);
    write(&mut a);
    a.finish().unwrap().chunks_exact(2).map(|c| u16::from_le_bytes([c[0], c[1]])).collect()
}

#[test]
fn full_size_instructions_have_their_known_encodings() {
    let known: &[Known<u32>] = &[
        (0x0000_0013, |a| a.nop()),
        (0x0000_8067, |a| a.ret()),
        (0xff01_0113, |a| a.addi(SP, SP, -16)),
        (0x0011_3423, |a| a.sd(RA, 8, SP)),
        (0x0081_3083, |a| a.ld(RA, 8, SP)),
        (0xfe01_2e23, |a| a.sw(ZERO, -4, SP)),
        (0x1234_5537, |a| a.lui(A0, 0x12345)),
        (0x00b5_0533, |a| a.add(A0, A0, A1)),
        (0x40b5_0533, |a| a.sub(A0, A0, A1)),
        (0x02b5_0533, |a| a.mul(A0, A0, A1)),
        (0x03f5_1513, |a| a.slli(A0, A0, 63)),
        (0x4015_551b, |a| a.sraiw(A0, A0, 1)),
        (0x0000_0073, |a| a.ecall()),
        (0x1020_0073, |a| a.sret()),
        (0x1050_0073, |a| a.wfi()),
        (0x1200_0073, |a| a.sfence_vma(ZERO, ZERO)),
        (0x0000_100f, |a| a.fence_i()),
        (0x0ff0_000f, |a| a.fence(15, 15)),
        (0xc010_2573, |a| a.csrr(A0, csrs::TIME)),
        (0x1805_1073, |a| a.csrw(csrs::SATP, A0)),
        (0x0022_d073, |a| a.csrrwi(ZERO, csrs::FRM, 5)),
        (0x1005_252f, |a| a.lr_w(A0, A0, Order::Relaxed)),
        (0x1eb5_352f, |a| a.sc_d(A0, A1, A0, Order::AcqRel)),
        (0x08b5_252f, |a| a.amoswap_w(A0, A1, A0, Order::Relaxed)),
        (0x0cb5_252f, |a| a.amoswap_w(A0, A1, A0, Order::Acquire)),
        (0x00b5_252f, |a| a.amoadd_w(A0, A1, A0, Order::Relaxed)),
        (0x00b5_7553, |a| a.fadd_s(FA0, FA0, FA1, Rounding::Dyn)),
        (0x5a05_7553, |a| a.fsqrt_d(FA0, FA0, Rounding::Dyn)),
        (0x6ac5_f543, |a| a.fmadd_d(FA0, FA1, FA2, FA3, Rounding::Dyn)),
        (0xe205_0553, |a| a.fmv_x_d(A0, FA0)),
        (0xc225_1553, |a| a.fcvt_l_d(A0, FA0, Rounding::Rtz)),
        (0x6b85_5513, |a| a.rev8(A0, A0)),
        (0x2875_5513, |a| a.orc_b(A0, A0)),
        (0x6005_1513, |a| a.clz(A0, A0)),
        (0x20b5_6533, |a| a.sh3add(A0, A0, A1)),
        (0x0805_453b, |a| a.zext_h(A0, A0)),
    ];
    for (index, &(word, write)) in known.iter().enumerate() {
        let found = words(write);
        assert_eq!(found, [word], "row {index}: {:#x?}", found);
    }
}

#[test]
fn compressed_instructions_have_their_known_encodings() {
    let known: &[Known<u16>] = &[
        (0x0001, |a| a.c_nop()),
        (0x8082, |a| a.c_jr(RA)),
        (0x9002, |a| a.c_ebreak()),
        (0x1141, |a| a.c_addi(SP, -16)),
        (0xe406, |a| a.c_sdsp(RA, 8)),
        (0x60a2, |a| a.c_ldsp(RA, 8)),
        (0x4501, |a| a.c_li(A0, 0)),
        (0x852e, |a| a.c_mv(A0, A1)),
        (0x952e, |a| a.c_add(A0, A1)),
        (0x8d0d, |a| a.c_sub(A0, A1)),
        (0x4188, |a| a.c_lw(A0, 0, A1)),
        (0x6588, |a| a.c_ld(A0, 8, A1)),
        (0xe588, |a| a.c_sd(A0, 8, A1)),
        (0x7139, |a| a.c_addi16sp(-64)),
        (0x0808, |a| a.c_addi4spn(A0, 16)),
        (0x6505, |a| a.c_lui(A0, 1)),
        (0x0506, |a| a.c_slli(A0, 1)),
        (0x2501, |a| a.c_addiw(A0, 0)),
    ];
    for &(half, write) in known {
        assert_eq!(halves(write), [half]);
    }
}

#[test]
fn branches_reach_forwards_and_backwards_and_no_further() {
    let code = words(|a| {
        let (back, forward) = (a.here_label(), a.label());
        a.beq(A0, A1, forward);
        a.jal(RA, back);
        a.bind(forward);
        a.bne(A0, ZERO, back);
    });
    assert_eq!(code, [0x00b5_0463, 0xffdf_f0ef, 0xfe05_1ce3]);

    let far = |distance: usize| {
        let mut a = Asm::new(0);
        let end = a.label();
        a.beqz(A0, end);
        a.zero(distance - 4);
        a.bind(end);
        a.finish().map(|_| ())
    };
    assert_eq!(far(4094), Ok(()));
    assert_eq!(far(4096), Err(AsmError::Distance { at: 0, distance: 4096 }));
}

#[test]
fn mistakes_are_reported_where_they_were_made() {
    let mistake = |write: fn(&mut Asm)| {
        let mut a = Asm::new(0);
        a.nop();
        write(&mut a);
        a.finish()
    };
    assert_eq!(mistake(|a| a.addi(A0, A0, 2048)), Err(AsmError::Operand { at: 4, name: "addi" }));
    assert_eq!(mistake(|a| a.c_ld(A0, 4, A1)), Err(AsmError::Operand { at: 4, name: "c.ld" }));
    assert_eq!(mistake(|a| a.c_ld(T0, 8, A1)), Err(AsmError::Operand { at: 4, name: "c.ld" }));
    assert_eq!(mistake(|a| a.c_lui(SP, 1)), Err(AsmError::Operand { at: 4, name: "c.lui" }));
    assert_eq!(mistake(|a| a.slliw(A0, A0, 32)), Err(AsmError::Operand { at: 4, name: "slliw" }));
    assert_eq!(mistake(|a| a.align(3)), Err(AsmError::Alignment { at: 4 }));
    let unbound = |a: &mut Asm| {
        let nowhere = a.label();
        a.j(nowhere);
    };
    assert_eq!(mistake(unbound), Err(AsmError::Unbound { at: 4 }));
    let twice = |a: &mut Asm| {
        let label = a.here_label();
        a.bind(label);
    };
    assert_eq!(mistake(twice), Err(AsmError::Rebound { at: 4 }));
}

/// Executes the instructions `li` uses.
fn evaluate(code: &[u32]) -> i64 {
    code.iter().fold(0i64, |value, &word| {
        let imm = i64::from(word as i32 >> 20);
        let source = if word >> 15 & 31 == 0 { 0 } else { value };
        match word & 0x707f {
            0x13 => source.wrapping_add(imm),
            0x1013 => source << (word >> 20 & 63),
            0x1b => i64::from(source.wrapping_add(imm) as i32),
            _ if word & 0x7f == 0x37 => i64::from((word & 0xffff_f000) as i32),
            _ => panic!("{word:#x} is no part of li"),
        }
    })
}

#[test]
fn li_loads_every_kind_of_constant() {
    let mut values = alloc::vec![
        0,
        1,
        -1,
        2047,
        2048,
        -2048,
        -2049,
        0x7fff_ffff,
        0x8000_0000,
        i64::MAX,
        i64::MIN
    ];
    for shift in 0..64 {
        for offset in [-2049, -2048, -1, 0, 1, 2047, 2048, 0x7ff_f800] {
            values.push((1i64 << shift).wrapping_add(offset));
            values.push((-1i64 << shift).wrapping_add(offset));
        }
    }
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    for _ in 0..2000 {
        random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        values.push(random as i64);
    }
    for value in values {
        let code = words(|a| a.li(A0, value));
        assert_eq!(evaluate(&code), value, "{code:#x?}");
        assert!(code.len() <= 8);
    }
}

#[test]
fn addresses_are_pc_relative_and_in_data_absolute() {
    let code = words(|a| {
        let data = a.label();
        a.la(A0, data);
        a.zero(0x7f8);
        a.bind(data);
        a.quad_label(data);
    });
    assert_eq!(code[..2], [0x0000_1517, 0x8005_0513]); // +0x1000 - 0x800
    assert_eq!(code[code.len() - 2..], [0x8000_0800, 0]);
}

/// Encoding and decoding agree for the edges of every operand of every instruction.
#[test]
fn decoding_undoes_encoding() {
    for insn in instructions() {
        for (index, operand) in insn.operands().iter().enumerate() {
            let (low, high, step) = operand.range();
            for value in [low, low + step, 0, step, 2 * step, (high / 2) & -step, high - step, high]
            {
                let mut values: Vec<i64> = insn.operands().iter().map(|o| o.range().1).collect();
                values[index] = value;
                let Some(word) = insn.encode(&values) else {
                    assert!(!operand.allows(value));
                    continue;
                };
                let found = disassemble(word).to_string();
                let name = found.split_whitespace().next().unwrap();
                assert!(
                    name.starts_with(insn.name()),
                    "{} {values:?} reads as {found}",
                    insn.name()
                );
                let back: Vec<_> =
                    insn.operands().iter().map(|o| o.decode(word).unwrap()).collect();
                assert_eq!(back, values, "{}", insn.name());
            }
        }
        for operand in insn.operands() {
            let (low, high, step) = operand.range();
            assert!(!operand.allows(low - step) && !operand.allows(high + step), "{}", insn.name());
        }
    }
}

#[test]
fn no_two_instructions_share_a_name() {
    let mut names: Vec<_> = instructions().map(Instruction::name).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    assert_eq!(count, 237);
}

#[test]
fn listings_read_like_assembly() {
    for (word, text) in [
        (0x0081_3083, "ld ra, 8(sp)"),
        (0xfe05_1ce3, "bne a0, zero, .-8"),
        (0x1eb5_352f, "sc.d.aqrl a0, a1, (a0)"),
        (0x7139, "c.addi16sp sp, -64"),
        (0x0808, "c.addi4spn a0, sp, 16"),
        (0x60a2, "c.ldsp ra, 8(sp)"),
        (0xe588, "c.sd a0, 8(a1)"),
        (0x6ac5_f543, "fmadd.d fa0, fa1, fa2, fa3, dyn"),
        (0x0ff0_000f, "fence iorw, iorw"),
        (0xffff_ffff, ".word 0xffffffff"),
    ] {
        assert_eq!(disassemble(word).to_string(), text);
    }
}
