use AccessWidth::{Byte, Dword, Qword, Word};
use axvcpu::AccessWidth;
use axvcpu_riscv::asm::{A0, Asm, S1, T0, T6, ZERO};

use super::Operand::{Load, LoadFloat, Store, StoreFloat};
use super::{Access, Told, address, instruction, told};

/// The first instruction that `write` assembles.
fn assembled(write: impl FnOnce(&mut Asm)) -> u32 {
    let mut asm = Asm::new(0);
    write(&mut asm);
    let code = asm.finish().unwrap();
    let byte = |i: usize| u32::from(code.get(i).copied().unwrap_or(0));
    let bits = byte(0) | byte(1) << 8;
    if bits & 3 == 3 { bits | byte(2) << 16 | byte(3) << 24 } else { bits }
}

#[test]
fn loads_and_stores() {
    let load = |register, signed, width| {
        Some(Access { operand: Load { register, signed }, width, len: 4 })
    };
    let store = |register, width| Some(Access { operand: Store { register }, width, len: 4 });
    let at = |write: fn(&mut Asm)| instruction(assembled(write));
    assert_eq!(at(|a| a.lb(S1, -5, A0)), load(9, true, Byte));
    assert_eq!(at(|a| a.lh(T6, 6, A0)), load(31, true, Word));
    assert_eq!(at(|a| a.lw(A0, 4, A0)), load(10, true, Dword));
    assert_eq!(at(|a| a.ld(ZERO, 8, A0)), load(0, true, Qword));
    assert_eq!(at(|a| a.lbu(S1, 5, A0)), load(9, false, Byte));
    assert_eq!(at(|a| a.lhu(S1, 6, A0)), load(9, false, Word));
    assert_eq!(at(|a| a.lwu(S1, 4, A0)), load(9, false, Dword));
    assert_eq!(at(|a| a.sb(S1, -1, A0)), store(9, Byte));
    assert_eq!(at(|a| a.sh(T6, 2, A0)), store(31, Word));
    assert_eq!(at(|a| a.sw(A0, 4, A0)), store(10, Dword));
    assert_eq!(at(|a| a.sd(ZERO, 8, A0)), store(0, Qword));
}

#[test]
fn what_is_no_plain_access() {
    for bits in
        [0x0000_0013, 0x1050_0073, 0x1005_a2af, 0x0ff0_000f, 0, u32::MAX, 0x0000_7003, 0x0000_4023]
    {
        assert_eq!(instruction(bits), None, "{bits:#x}");
    }
    // Loads and stores of vectors, and of 16-bit floats.
    for bits in [0x0200_8007_u32, 0x0205_5007, 0x0205_6027, 0x0005_1007] {
        assert_eq!(instruction(bits), None, "{bits:#x}");
    }
}

#[test]
fn compressed_ones() {
    let short = |operand, width| Some(Access { operand, width, len: 2 });
    let x8 = 8;
    for (bits, expected) in [
        (0x4000_u32, short(Load { register: x8, signed: true }, Dword)), // c.lw s0, 0(s0)
        (0x6000, short(Load { register: x8, signed: true }, Qword)),     // c.ld
        (0xc000, short(Store { register: x8 }, Dword)),                  // c.sw
        (0xe004, short(Store { register: 9 }, Qword)),                   // c.sd s1
        (0x2000, short(LoadFloat { register: x8 }, Qword)),              // c.fld
        (0xa000, short(StoreFloat { register: x8 }, Qword)),             // c.fsd
        (0x4082, short(Load { register: 1, signed: true }, Dword)),      // c.lwsp ra
        (0x6082, short(Load { register: 1, signed: true }, Qword)),      // c.ldsp ra
        (0x2082, short(LoadFloat { register: 1 }, Qword)),               // c.fldsp
        (0xc006, short(Store { register: 1 }, Dword)),                   // c.swsp ra
        (0xe006, short(Store { register: 1 }, Qword)),                   // c.sdsp ra
        (0xa006, short(StoreFloat { register: 1 }, Qword)),              // c.fsdsp
        (0x4002, None),                                                  // reserved: to x0
        (0x8000, short(Load { register: x8, signed: false }, Byte)),     // c.lbu
        (0x8400, short(Load { register: x8, signed: false }, Word)),     // c.lhu
        (0x8440, short(Load { register: x8, signed: true }, Word)),      // c.lh
        (0x8800, short(Store { register: x8 }, Byte)),                   // c.sb
        (0x8c00, short(Store { register: x8 }, Word)),                   // c.sh
        (0x8c40, None),
        (0x0001, None), // c.nop
    ] {
        assert_eq!(instruction(bits), expected, "{bits:#x}");
    }
}

#[test]
fn every_encoding_is_an_answer() {
    for bits in 0..=u16::MAX {
        let _ = instruction(bits.into());
    }
    for bits in (0..=u32::MAX).step_by(9973) {
        if let Some(access) = instruction(bits) {
            assert!(matches!(access.len, 2 | 4));
        }
        let _ = told(bits.into());
    }
}

#[test]
fn transformed_instructions() {
    assert_eq!(told(0), Told::Nothing);
    assert_eq!(told(0x3000), Told::Walk { write: false });
    assert_eq!(told(0x3020), Told::Walk { write: true });
    // ld s1, 0(x5): the place of the base holds the offset.
    let bits = assembled(|a| a.ld(S1, 0, T0));
    let access = Access { operand: Load { register: 9, signed: true }, width: Qword, len: 4 };
    assert_eq!(told(bits.into()), Told::Access { access, offset: 5 });
    // The same as if it had been compressed.
    let access = Access { len: 2, ..access };
    assert_eq!(told(u64::from(bits & !2)), Told::Access { access, offset: 5 });
    // An atomic.
    assert_eq!(told(0x00b5_302f), Told::Other);
}

#[test]
fn addresses() {
    let mut x = [0; 32];
    for (number, value) in (0..).zip(&mut x) {
        *value = 0x1000 * number;
    }
    let at = |write: &dyn Fn(&mut Asm)| address(assembled(|a| write(a)), &x);
    for offset in [-2048, -1, 0, 1, 31, 32, 2047] {
        let expected = 0xa000_u64.wrapping_add_signed(offset.into());
        assert_eq!(at(&|a| a.lb(S1, offset, A0)), expected);
        assert_eq!(at(&|a| a.sd(S1, offset, A0)), expected);
    }
    for offset in (0..128).step_by(4) {
        assert_eq!(at(&|a| a.c_lw(S1, offset, A0)), 0xa000 + offset as u64);
        assert_eq!(at(&|a| a.c_sw(S1, offset, A0)), 0xa000 + offset as u64);
    }
    for offset in (0..256).step_by(8) {
        assert_eq!(at(&|a| a.c_ld(S1, offset, A0)), 0xa000 + offset as u64);
        assert_eq!(at(&|a| a.c_sd(S1, offset, A0)), 0xa000 + offset as u64);
        assert_eq!(at(&|a| a.c_lwsp(S1, offset)), 0x2000 + offset as u64);
        assert_eq!(at(&|a| a.c_swsp(S1, offset)), 0x2000 + offset as u64);
    }
    for offset in (0..512).step_by(8) {
        assert_eq!(at(&|a| a.c_ldsp(S1, offset)), 0x2000 + offset as u64);
        assert_eq!(at(&|a| a.c_sdsp(S1, offset)), 0x2000 + offset as u64);
    }
}
