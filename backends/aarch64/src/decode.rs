//! Loads and stores whose syndrome does not describe them (Arm ARM, C4.1.94 "Loads and Stores"): those with write-back, and
//! those of floating-point registers.

use axvcpu::AccessWidth;

/// An access of one register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    pub(crate) operand: Operand,
    pub(crate) width: AccessWidth,
    /// The base register and what is added to it.
    pub(crate) write_back: Option<(u8, u64)>,
}

/// What is accessed with, and how a load extends the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operand {
    Load { register: u8, signed: bool, wide: bool },
    LoadFloat { register: u8 },
    Store { register: u8 },
    StoreFloat { register: u8 },
}

/// The access of an instruction; `None` for those that are no plain load or store of one register of up to 64 bits.
pub(crate) fn instruction(bits: u32) -> Option<Access> {
    let field = |at: u32, size: u32| bits >> at & ((1 << size) - 1);
    let (size, opc, register) = (field(30, 2), field(22, 2), field(0, 5) as u8);
    if field(24, 6) == 0b00_1000 {
        // Ordered ones (LDAR, STLR, LDLAR, STLLR): o2 set, o1 clear, the other registers all ones.
        let plain =
            field(23, 1) == 1 && field(21, 1) == 0 && field(16, 5) == 31 && field(10, 5) == 31;
        let load = field(22, 1) == 1;
        return plain
            .then(|| integer(size, if load { 0b01 } else { 0b00 }, register, None))
            .flatten();
    }
    if field(27, 3) != 0b111 {
        return None;
    }
    let float = field(26, 1) == 1;
    let write_back = match (field(24, 2), field(21, 1), field(10, 2)) {
        (0b01, ..) => None,                // unsigned offset
        (0b00, 0, 0b00) => None,           // unscaled offset
        (0b00, 0, 0b10) if !float => None, // unprivileged
        (0b00, 1, 0b10) => None,           // register offset
        (0b00, 0, 0b01 | 0b11) => {
            let offset = (field(12, 9) as i32) << 23 >> 23;
            Some((field(5, 5) as u8, i64::from(offset) as u64))
        }
        _ => return None, // atomics and pointer authentication among them
    };
    if !float {
        return integer(size, opc, register, write_back);
    }
    // The highest bit of opc makes it 128 bits, which no device is accessed with.
    let width = AccessWidth::from_bytes(1 << size)?;
    let operand = match opc {
        0b00 => Operand::StoreFloat { register },
        0b01 => Operand::LoadFloat { register },
        _ => return None,
    };
    Some(Access { operand, width, write_back })
}

/// Where an instruction that [`instruction`] knows accesses memory. `register` reads a register, of which 31 is the stack
/// pointer.
pub(crate) fn address(bits: u32, register: impl Fn(u8) -> u64) -> u64 {
    let field = |at: u32, size: u32| bits >> at & ((1 << size) - 1);
    let base = register(field(5, 5) as u8);
    if field(24, 6) == 0b00_1000 {
        return base; // ordered
    }
    if field(24, 2) == 0b01 {
        return base.wrapping_add(u64::from(field(10, 12)) << field(30, 2));
    }
    if field(21, 1) == 0 {
        let offset = i64::from((field(12, 9) as i32) << 23 >> 23) as u64;
        let post_index = field(10, 2) == 0b01;
        return if post_index { base } else { base.wrapping_add(offset) };
    }
    // A register offset: 31 is none, but the zero register.
    let index = match field(16, 5) as u8 {
        31 => 0,
        index => register(index),
    };
    let index = match field(13, 3) {
        0b010 => u64::from(index as u32),
        0b110 => i64::from(index as i32) as u64,
        _ => index,
    };
    let scale = if field(12, 1) == 1 { field(30, 2) } else { 0 };
    base.wrapping_add(index << scale)
}

fn integer(size: u32, opc: u32, register: u8, write_back: Option<(u8, u64)>) -> Option<Access> {
    let width = AccessWidth::from_bytes(1 << size)?;
    let operand = match (opc, size) {
        (0b00, _) => Operand::Store { register },
        (0b01, _) => Operand::Load { register, signed: false, wide: true },
        (0b10, 0..=2) => Operand::Load { register, signed: true, wide: true },
        (0b11, 0..=1) => Operand::Load { register, signed: true, wide: false },
        _ => return None, // prefetches
    };
    Some(Access { operand, width, write_back })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(width: AccessWidth, signed: bool, wide: bool) -> Option<Access> {
        let operand = Operand::Load { register: 3, signed, wide };
        Some(Access { operand, width, write_back: None })
    }

    #[test]
    fn plain_ones() {
        use AccessWidth::*;
        // As GNU as has them: ldr x3, [x5]; ldr w3, [x5, #8]; ldrb w3, [x5]; ldrsb x3, [x5]; ldrsb w3, [x5];
        // ldrsh x3, [x5]; ldrsw x3, [x5]; ldur x3, [x5, #-8]; ldr x3, [x5, x6]; ldtr x3, [x5]; ldar x3, [x5].
        assert_eq!(instruction(0xf940_00a3), load(Qword, false, true));
        assert_eq!(instruction(0xb940_08a3), load(Dword, false, true));
        assert_eq!(instruction(0x3940_00a3), load(Byte, false, true));
        assert_eq!(instruction(0x3980_00a3), load(Byte, true, true));
        assert_eq!(instruction(0x39c0_00a3), load(Byte, true, false));
        assert_eq!(instruction(0x7980_00a3), load(Word, true, true));
        assert_eq!(instruction(0xb980_00a3), load(Dword, true, true));
        assert_eq!(instruction(0xf85f_80a3), load(Qword, false, true));
        assert_eq!(instruction(0xf866_68a3), load(Qword, false, true));
        assert_eq!(instruction(0xf840_08a3), load(Qword, false, true));
        assert_eq!(instruction(0xc8df_fca3), load(Qword, false, true));
    }

    #[test]
    fn write_back_and_floating_point() {
        // str w3, [sp, #-4]!; ldr x3, [x5], #255; str d7, [x5]; ldr s7, [x5], #4.
        assert_eq!(
            instruction(0xb81f_cfe3),
            Some(Access {
                operand: Operand::Store { register: 3 },
                width: AccessWidth::Dword,
                write_back: Some((31, 4u64.wrapping_neg())),
            })
        );
        assert_eq!(instruction(0xf84f_f4a3).and_then(|access| access.write_back), Some((5, 255)));
        assert_eq!(
            instruction(0xfd00_00a7),
            Some(Access {
                operand: Operand::StoreFloat { register: 7 },
                width: AccessWidth::Qword,
                write_back: None,
            })
        );
        assert_eq!(
            instruction(0xbc40_44a7),
            Some(Access {
                operand: Operand::LoadFloat { register: 7 },
                width: AccessWidth::Dword,
                write_back: Some((5, 4)),
            })
        );
    }

    #[test]
    fn addresses() {
        let register = |number: u8| if number == 6 { u64::MAX } else { 0x1000 + u64::from(number) };
        // ldr x3, [x5]; ldr w3, [x5, #8]; ldur x3, [x5, #-8]; ldr x3, [x5, x6]; ldr w3, [x5, w6, uxtw #2];
        // ldr x3, [x5, w6, sxtw]; str w3, [sp, #-4]!; ldr x3, [x5], #255; ldar x3, [x5]; ldr x3, [x5, xzr].
        for (bits, expected) in [
            (0xf940_00a3, 0x1005),
            (0xb940_08a3, 0x100d),
            (0xf85f_80a3, 0xffd),
            (0xf866_68a3, 0x1004),
            (0xb866_58a3, 0x1005 + (0xffff_ffff << 2)),
            (0xf866_c8a3, 0x1004),
            (0xb81f_cfe3, 0x101f - 4),
            (0xf84f_f4a3, 0x1005),
            (0xc8df_fca3, 0x1005),
            (0xf87f_68a3, 0x1005),
        ] {
            assert_eq!(address(bits, register), expected, "{bits:#x}");
        }
    }

    #[test]
    fn others_are_none() {
        // ldp x3, x4, [x5]; ldr q7, [x5]; ldxr x3, [x5]; ldadd x1, x3, [x5]; prfm pldl1keep, [x5]; ldraa x3, [x5];
        // add x0, x0, x0; ld1 {v0.8b}, [x5].
        for bits in [
            0xa940_10a3,
            0x3dc0_00a7,
            0xc85f_7ca3,
            0xf821_00a3,
            0xf980_00a0,
            0xf820_04a3,
            0x8b00_0000,
            0x0c40_70a0,
        ] {
            assert_eq!(instruction(bits), None, "{bits:#x}");
        }
    }
}
