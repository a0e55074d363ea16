//! Registers, memory, and the other operands of instructions.

use core::ops::Add;

use axvcpu_asm::Label;

/// How wide an operand is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Width {
    /// 8 bits.
    Byte,
    /// 16 bits.
    Word,
    /// 32 bits.
    Dword,
    /// 64 bits.
    Qword,
}

impl Width {
    /// All widths, the narrowest first.
    pub const ALL: [Self; 4] = [Self::Byte, Self::Word, Self::Dword, Self::Qword];

    /// The width in bytes.
    pub const fn bytes(self) -> usize {
        1 << self as usize
    }
}

/// A general-purpose register of some width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reg {
    number: u8,
    width: Width,
    /// `ah`, `ch`, `dh` or `bh`, which have the numbers 4 to 7 where there is no REX prefix.
    high: bool,
}

impl Reg {
    /// The register with this number; `None` from 16 on.
    pub const fn new(number: u8, width: Width) -> Option<Self> {
        if number < 16 { Some(Self { number, width, high: false }) } else { None }
    }

    /// The number that instructions have for it, 0 to 15.
    pub const fn number(self) -> u8 {
        self.number
    }

    /// How wide it is.
    pub const fn width(self) -> Width {
        self.width
    }

    /// The same register in another width; of `ah` and its like, the register that has their number.
    pub const fn of(self, width: Width) -> Self {
        Self { number: self.number, width, high: false }
    }

    /// Whether its number means something else with a REX prefix.
    pub(super) const fn is_high(self) -> bool {
        self.high
    }

    /// Whether its number means something else without a REX prefix: `spl`, `bpl`, `sil` and `dil`.
    pub(super) const fn needs_rex(self) -> bool {
        matches!(self.width, Width::Byte) && !self.high && self.number >= 4
    }
}

macro_rules! registers {
    ($($width:ident: $($name:ident = $number:literal)*;)*) => {
        $($(#[doc = concat!("Register ", stringify!($number), ", as wide as its name says.")]
        pub const $name: Reg = Reg { number: $number, width: Width::$width, high: false };)*)*
    };
}

registers! {
    Qword: RAX=0 RCX=1 RDX=2 RBX=3 RSP=4 RBP=5 RSI=6 RDI=7 R8=8 R9=9 R10=10 R11=11 R12=12 R13=13 R14=14 R15=15;
    Dword: EAX=0 ECX=1 EDX=2 EBX=3 ESP=4 EBP=5 ESI=6 EDI=7 R8D=8 R9D=9 R10D=10 R11D=11 R12D=12 R13D=13 R14D=14 R15D=15;
    Word: AX=0 CX=1 DX=2 BX=3 SP=4 BP=5 SI=6 DI=7 R8W=8 R9W=9 R10W=10 R11W=11 R12W=12 R13W=13 R14W=14 R15W=15;
    Byte: AL=0 CL=1 DL=2 BL=3 SPL=4 BPL=5 SIL=6 DIL=7 R8B=8 R9B=9 R10B=10 R11B=11 R12B=12 R13B=13 R14B=14 R15B=15;
}

/// Bits 8 to 15 of `rax`.
pub const AH: Reg = Reg { number: 4, width: Width::Byte, high: true };
/// Bits 8 to 15 of `rcx`.
pub const CH: Reg = Reg { number: 5, width: Width::Byte, high: true };
/// Bits 8 to 15 of `rdx`.
pub const DH: Reg = Reg { number: 6, width: Width::Byte, high: true };
/// Bits 8 to 15 of `rbx`.
pub const BH: Reg = Reg { number: 7, width: Width::Byte, high: true };

/// A register of SSE, and the one of AVX that it is the lower half of: `xmm0` to `xmm15`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Xmm(u8);

impl Xmm {
    /// The register with this number; `None` from 16 on.
    pub const fn new(number: u8) -> Option<Self> {
        if number < 16 { Some(Self(number)) } else { None }
    }

    /// Its number, 0 to 15.
    pub const fn number(self) -> u8 {
        self.0
    }
}

/// `xmm0`.
pub const XMM0: Xmm = Xmm(0);
/// `xmm1`.
pub const XMM1: Xmm = Xmm(1);

/// A segment register, by its number in instructions (SDM volume 2, 2.1.5 and B.1.4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Seg {
    /// `es`.
    Es = 0,
    /// `cs`.
    Cs = 1,
    /// `ss`.
    Ss = 2,
    /// `ds`.
    Ds = 3,
    /// `fs`.
    Fs = 4,
    /// `gs`.
    Gs = 5,
}

impl Seg {
    pub(super) const fn prefix(self) -> u8 {
        match self {
            Self::Es => 0x26,
            Self::Cs => 0x2e,
            Self::Ss => 0x36,
            Self::Ds => 0x3e,
            Self::Fs => 0x64,
            Self::Gs => 0x65,
        }
    }
}

/// What an address begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Base {
    /// Nothing: the displacement is the address, sign-extended.
    None,
    Reg(Reg),
    /// A label, found relative to the instruction pointer.
    Rip(Label),
}

/// A place in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mem {
    pub(super) base: Base,
    pub(super) index: Option<(Reg, u8)>,
    pub(super) disp: i32,
    pub(super) segment: Option<Seg>,
    pub(super) width: Option<Width>,
}

/// The memory at the address in a register; another operand tells the width.
pub const fn mem(base: Reg) -> Mem {
    Mem { base: Base::Reg(base), index: None, disp: 0, segment: None, width: None }
}

/// The memory at this address, which is sign-extended to 64 bits.
pub const fn abs(address: i32) -> Mem {
    Mem { base: Base::None, index: None, disp: address, segment: None, width: None }
}

/// The memory at a label, found relative to the instruction.
pub const fn rip(label: Label) -> Mem {
    Mem { base: Base::Rip(label), index: None, disp: 0, segment: None, width: None }
}

macro_rules! sized {
    ($($name:ident = $width:ident, $text:literal;)*) => {
        $(#[doc = concat!($text, " at the address in a register.")]
        pub const fn $name(base: Reg) -> Mem {
            mem(base).of(Width::$width)
        })*
    };
}

sized! {
    byte = Byte, "8 bits";
    word = Word, "16 bits";
    dword = Dword, "32 bits";
    qword = Qword, "64 bits";
}

impl Mem {
    /// Says how wide it is.
    pub const fn of(self, width: Width) -> Self {
        Self { width: Some(width), ..self }
    }

    /// Adds a register, any but `rsp`, that is multiplied by 1, 2, 4 or 8.
    pub const fn index(self, index: Reg, scale: u8) -> Self {
        Self { index: Some((index, scale)), ..self }
    }

    /// Adds the base of a segment: a segment-override prefix.
    pub const fn segment(self, segment: Seg) -> Self {
        Self { segment: Some(segment), ..self }
    }
}

/// A displacement.
impl Add<i32> for Mem {
    type Output = Self;
    fn add(self, disp: i32) -> Self {
        Self { disp: self.disp.wrapping_add(disp), ..self }
    }
}

/// A register or a place in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rm {
    /// A register.
    Reg(Reg),
    /// Memory.
    Mem(Mem),
}

/// A register, a place in memory, or a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// A register or memory.
    Rm(Rm),
    /// A number.
    Imm(i64),
}

impl Rm {
    pub(super) const fn width(self) -> Option<Width> {
        match self {
            Self::Reg(reg) => Some(reg.width),
            Self::Mem(mem) => mem.width,
        }
    }
}

impl From<Reg> for Rm {
    fn from(reg: Reg) -> Self {
        Self::Reg(reg)
    }
}

impl From<Mem> for Rm {
    fn from(mem: Mem) -> Self {
        Self::Mem(mem)
    }
}

impl From<Reg> for Operand {
    fn from(reg: Reg) -> Self {
        Self::Rm(reg.into())
    }
}

impl From<Mem> for Operand {
    fn from(mem: Mem) -> Self {
        Self::Rm(mem.into())
    }
}

macro_rules! numbers {
    ($($type:ty)*) => {
        $(impl From<$type> for Operand {
            fn from(number: $type) -> Self {
                Self::Imm(number.into())
            }
        })*
    };
}

numbers!(i64 i32 u32 u16 u8);

/// What a conditional instruction asks of the flags (SDM volume 2, B.1.4.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Cond {
    /// Overflow.
    O = 0,
    /// No overflow.
    No = 1,
    /// Unsigned less: carry.
    B = 2,
    /// Unsigned greater or equal: no carry.
    Ae = 3,
    /// Equal.
    E = 4,
    /// Not equal.
    Ne = 5,
    /// Unsigned less or equal.
    Be = 6,
    /// Unsigned greater.
    A = 7,
    /// Negative.
    S = 8,
    /// Not negative.
    Ns = 9,
    /// Even parity.
    P = 10,
    /// Odd parity.
    Np = 11,
    /// Signed less.
    L = 12,
    /// Signed greater or equal.
    Ge = 13,
    /// Signed less or equal.
    Le = 14,
    /// Signed greater.
    G = 15,
}
