//! What the hardware backends make of an instruction whose access stage 2 refused.
//!
//! The decoders are the backends' own files: the backends themselves exist for their architectures alone.

use axvcpu::AccessWidth;

use crate::input::Input;

#[allow(dead_code, unreachable_pub)] // the backend uses more of it
#[path = "../../../backends/riscv64/src/decode.rs"]
mod riscv64;

#[allow(dead_code, unreachable_pub)] // the backend uses more of it
#[path = "../../../backends/aarch64/src/decode.rs"]
mod aarch64;

pub(super) fn riscv64(bytes: &[u8]) {
    use riscv64::{Operand, Told, address, instruction, told};
    let mut input = Input::new(bytes);
    while !input.is_empty() {
        let bits = input.u32();
        let mut x: [u64; 32] = core::array::from_fn(|i| (i as u64) << 40);
        x[0] = 0;
        if let Some(access) = instruction(bits) {
            let register = match access.operand {
                Operand::Load { register, .. } | Operand::LoadFloat { register } => register,
                Operand::Store { register } | Operand::StoreFloat { register } => register,
            };
            assert!(register < 32, "{bits:#x}: {access:?}");
            let short = bits & 3 != 3;
            assert_eq!(access.len, if short { 2 } else { 4 }, "{bits:#x}");
            // Bits behind a compressed instruction are another's.
            if short {
                assert_eq!(instruction(bits & 0xffff), Some(access), "{bits:#x}");
            }
            // The base is one register, and what is added to it has 12 bits.
            let first = address(bits, &x);
            let base = first.wrapping_add(2048) >> 40;
            assert!(base < 32, "{bits:#x}: {first:#x}");
            assert!(first.wrapping_sub(base << 40).wrapping_add(2048) < 4096, "{bits:#x}");
            if short {
                // Compressed offsets are multiples of the width, and none is negative.
                let offset = first.wrapping_sub(base << 40);
                assert_eq!(offset % access.width.bytes() as u64, 0, "{bits:#x}");
            }
        }
        // A hart tells of plain instructions what they are, with the place of `rs1` for an offset.
        let word = u64::from(bits);
        match told(word) {
            Told::Access { access, offset } => {
                assert!(word & 1 != 0 && offset < 32, "{bits:#x}");
                let whole = instruction(bits | 3).expect("an access as well");
                assert_eq!((whole.operand, whole.width), (access.operand, access.width));
                assert_eq!(access.len, if word & 2 == 0 { 2 } else { 4 });
            }
            Told::Other => assert_eq!(instruction(bits | 3), None, "{bits:#x}"),
            Told::Nothing => assert!(word & 1 == 0, "{bits:#x}"),
            Told::Walk { .. } => assert!(word & !0x1020 == 0x2000, "{bits:#x}"),
        }
        told(word | input.u64() << 32);
    }
}

pub(super) fn aarch64(bytes: &[u8]) {
    use aarch64::{Operand, address, instruction};
    let mut input = Input::new(bytes);
    while !input.is_empty() {
        let bits = input.u32();
        let Some(access) = instruction(bits) else { continue };
        let number = (bits & 31) as u8;
        let register = match access.operand {
            Operand::Load { register, signed, wide } => {
                // 64 bits have no sign to extend, and narrow registers hold no word that has one.
                assert!(!signed || access.width != AccessWidth::Qword, "{bits:#x}: {access:?}");
                assert!(wide || signed && access.width < AccessWidth::Dword, "{bits:#x}");
                register
            }
            Operand::LoadFloat { register } | Operand::Store { register } => register,
            Operand::StoreFloat { register } => register,
        };
        assert_eq!(register, number, "{bits:#x}");
        let base = (bits >> 5 & 31) as u8;
        let at = |number: u8| {
            assert!(number < 32);
            u64::from(number) << 40
        };
        let first = address(bits, at);
        if let Some((written, change)) = access.write_back {
            assert_eq!(written, base, "{bits:#x}");
            assert!((change as i64) >= -256 && (change as i64) < 256, "{bits:#x}: {change:#x}");
            // Before it is changed, or after: nothing else.
            let after = at(base).wrapping_add(change);
            assert!(first == at(base) || first == after, "{bits:#x}: {first:#x}");
        }
        // Registers that are all zero leave what the instruction itself adds: 12 bits, scaled.
        let bare = address(bits, |_| 0) as i64;
        assert!((-256..4096 * 8).contains(&bare), "{bits:#x}: {bare:#x}");
        let size = access.width.bytes();
        assert_eq!(size, 1 << (bits >> 30), "{bits:#x}");
    }
}
