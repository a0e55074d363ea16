//! How an instruction becomes bytes (SDM volume 2, chapter 2; APM volume 3, chapter 1).

use alloc::vec::Vec;
use core::ops::{Deref, DerefMut};

use axvcpu_asm::{AsmError, Label, Program, Reference};

use super::{Base, Mem, Reg, Rm, Seg, Width};

/// Where an instruction holds the distance to a label.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// 32 bits, which count from somewhere behind them: what to add to the distance from where they are.
    Near(i64),
    /// 8 bits at the instruction's end.
    Short,
}

impl Reference for Place {
    fn encode(&self, value: i64) -> Option<u64> {
        match self {
            Self::Near(plus) => {
                i32::try_from(value + plus).ok().map(|distance| u64::from(distance as u32))
            }
            Self::Short => i8::try_from(value - 1).ok().map(|distance| u64::from(distance as u8)),
        }
    }
}

/// A program under construction. See the [module](super) for an example.
pub struct Asm(Program<Place>);

impl Deref for Asm {
    type Target = Program<Place>;
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Asm {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

/// An instruction without its operands.
#[derive(Clone, Copy)]
pub(super) struct Op {
    pub(super) name: &'static str,
    /// 0x66, 0xf2 or 0xf3 where that is a part of the opcode, else 0.
    pub(super) prefix: u8,
    pub(super) code: &'static [u8],
    /// The operand size, where the instruction has several: 16 bits take a prefix, 64 bits REX.W.
    pub(super) width: Option<Width>,
}

impl Op {
    /// An instruction whose operands have a size of their own.
    pub(super) const fn fixed(name: &'static str, code: &'static [u8]) -> Self {
        Self { name, prefix: 0, code, width: None }
    }

    /// An instruction that has one opcode for bytes, and another for everything else.
    pub(super) const fn sized(
        name: &'static str,
        [byte, other]: [&'static [u8]; 2],
        width: Width,
    ) -> Self {
        let code = if matches!(width, Width::Byte) { byte } else { other };
        Self { name, prefix: 0, code, width: Some(width) }
    }
}

/// A number at an instruction's end, and how many bytes it has there.
#[derive(Clone, Copy)]
pub(super) struct Imm(pub(super) i64, pub(super) usize);

impl Imm {
    pub(super) const NONE: Self = Self(0, 0);

    /// A number for an operand of this width: of 64 bits it is the lower 32, sign-extended. `None` when it has more
    /// bits; a number without a sign is one as well.
    pub(super) fn of(value: i64, width: Width) -> Option<Self> {
        let (low, high) = match width {
            Width::Byte => (i64::from(i8::MIN), i64::from(u8::MAX)),
            Width::Word => (i64::from(i16::MIN), i64::from(u16::MAX)),
            Width::Dword => (i64::from(i32::MIN), i64::from(u32::MAX)),
            Width::Qword => (i64::from(i32::MIN), i64::from(i32::MAX)),
        };
        let bytes = width.bytes().min(4);
        (low..=high).contains(&value).then_some(Self(value, bytes))
    }
}

impl Asm {
    /// An empty program that will be loaded at address `base`.
    pub const fn new(base: u64) -> Self {
        Self(Program::new(base))
    }

    /// The program's bytes, with every label filled in.
    ///
    /// # Errors
    ///
    /// The first mistake that was made.
    pub fn finish(self) -> Result<Vec<u8>, AsmError> {
        self.0.finish()
    }

    /// An instruction with a register, or the digit that stands in its place, and a register or memory.
    pub(super) fn modrm(&mut self, op: Op, reg: Reg, rm: impl Into<Rm>, imm: Imm) {
        let rm = rm.into();
        let (base, index) = match rm {
            Rm::Reg(reg) => (Some(reg), None),
            Rm::Mem(Mem { base, index, segment, .. }) => {
                self.prefix_segment(segment);
                let base = match base {
                    Base::Reg(reg) => Some(reg),
                    Base::None | Base::Rip(_) => None,
                };
                (base, index.map(|(reg, _)| reg))
            }
        };
        if let Rm::Mem(mem) = rm {
            self.prefix_address(op.name, mem, base, index);
        }
        self.prefixes(op);
        let is_register = matches!(rm, Rm::Reg(_));
        let bytes = [Some(reg), base.filter(|_| is_register)];
        let bytes = bytes.into_iter().flatten().filter(|reg| reg.width() == Width::Byte);
        let wide = op.width == Some(Width::Qword);
        let extended = |reg: Option<Reg>| reg.is_some_and(|reg| reg.number() > 7);
        let rex = u8::from(wide) << 3
            | u8::from(extended(Some(reg))) << 2
            | u8::from(extended(index)) << 1
            | u8::from(extended(base));
        let (mut needs_rex, mut is_high) = (rex != 0, false);
        for reg in bytes {
            needs_rex |= reg.needs_rex();
            is_high |= reg.is_high();
        }
        if needs_rex {
            if is_high {
                self.refuse(op.name);
            }
            self.bytes(&[0x40 | rex]);
        }
        self.bytes(op.code);
        let reg = reg.number() << 3 & 0x38;
        match rm {
            Rm::Reg(rm) => self.bytes(&[0xc0 | reg | rm.number() & 7]),
            Rm::Mem(mem) => self.memory(op.name, reg, mem, imm.1),
        }
        self.imm(imm);
    }

    fn prefix_segment(&mut self, segment: Option<Seg>) {
        if let Some(segment) = segment {
            self.bytes(&[segment.prefix()]);
        }
    }

    /// Addresses have 64 bits, or 32 with a prefix.
    fn prefix_address(
        &mut self,
        name: &'static str,
        mem: Mem,
        base: Option<Reg>,
        index: Option<Reg>,
    ) {
        let mut widths = [base, index].into_iter().flatten().map(Reg::width);
        let first = widths.next().unwrap_or(Width::Qword);
        let same = widths.all(|width| width == first);
        let scales = mem.index.is_none_or(|(_, scale)| matches!(scale, 1 | 2 | 4 | 8));
        let indexable = index.is_none_or(|index| index.number() != 4);
        if !same || !scales || !indexable || first < Width::Dword {
            self.refuse(name);
        }
        if first == Width::Dword {
            self.bytes(&[0x67]);
        }
    }

    fn prefixes(&mut self, op: Op) {
        if op.width == Some(Width::Word) {
            self.bytes(&[0x66]);
        }
        if op.prefix != 0 {
            self.bytes(&[op.prefix]);
        }
    }

    /// ModRM, SIB and displacement of memory, with `behind` bytes between them and the instruction's end.
    pub(super) fn memory(&mut self, name: &'static str, reg: u8, mem: Mem, behind: usize) {
        let (disp, index) = (mem.disp, mem.index);
        let base = match mem.base {
            Base::Rip(label) => {
                if index.is_some() {
                    self.refuse(name);
                }
                self.bytes(&[reg | 5]);
                self.refer(label, Place::Near(i64::from(disp) - 4 - behind as i64));
                return self.bytes(&[0; 4]);
            }
            // Without a base there is SIB's form of that: ModRM's own means the instruction pointer.
            Base::None => 5,
            Base::Reg(base) => base.number() & 7,
        };
        // Without a displacement `rbp` and `r13` as the base would mean none.
        let mode = match mem.base {
            Base::Reg(_) if disp == 0 && base != 5 => 0,
            Base::Reg(_) if i8::try_from(disp).is_ok() => 0x40,
            Base::Reg(_) => 0x80,
            _ => 0,
        };
        // `rsp` and `r12` as the base would mean that there is a SIB, so there is one.
        if index.is_some() || base == 4 || mem.base == Base::None {
            let (index, scale) =
                index.map_or((4, 1), |(index, scale)| (index.number() & 7, scale.max(1)));
            let scale = (scale.trailing_zeros() as u8) << 6;
            self.bytes(&[mode | reg | 4, scale | index << 3 | base]);
        } else {
            self.bytes(&[mode | reg | base]);
        }
        match mode {
            0 if mem.base != Base::None => {}
            0x40 => self.bytes(&[disp as u8]),
            _ => self.bytes(&disp.to_le_bytes()),
        }
    }

    pub(super) fn imm(&mut self, Imm(value, bytes): Imm) {
        self.bytes(value.to_le_bytes().get(..bytes).unwrap_or_default());
    }

    /// An instruction that has a register's number in its opcode's last byte.
    pub(super) fn with_register(&mut self, op: Op, reg: Reg) {
        let wide = u8::from(op.width == Some(Width::Qword)) << 3;
        let rex = wide | u8::from(reg.number() > 7);
        self.prefixes(op);
        if rex != 0 || reg.needs_rex() {
            self.bytes(&[0x40 | rex]);
        }
        if let Some((last, first)) = op.code.split_last() {
            self.bytes(first);
            self.bytes(&[last | reg.number() & 7]);
        }
    }

    /// An instruction without operands in its encoding.
    pub(super) fn plain(&mut self, op: Op) {
        self.prefixes(op);
        if op.width == Some(Width::Qword) {
            self.bytes(&[0x48]);
        }
        self.bytes(op.code);
    }

    /// An opcode and the distance to a label, in 32 bits.
    pub(super) fn near(&mut self, code: &[u8], label: Label) {
        self.bytes(code);
        self.refer(label, Place::Near(-4));
        self.bytes(&[0; 4]);
    }

    /// An opcode and the distance to a label, in 8 bits.
    pub(super) fn short(&mut self, code: u8, label: Label) {
        self.bytes(&[code]);
        self.refer(label, Place::Short);
        self.bytes(&[0]);
    }
}
