//! Registers and the other named operands of instructions.

use core::fmt;

/// A general-purpose register, the zero register or the stack pointer. The last two have the same number in
/// instructions, and which of them it means depends on the instruction: an operand takes one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct X(u8);

/// A register of SIMD and floating point, `v0` to `v31`, of any width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct V(u8);

/// The zero register: reads as zero, and swallows what is written.
pub const XZR: X = X(31);
/// The stack pointer.
pub const SP: X = X(32);

impl X {
    /// `x0` to `x30`, and the zero register as 31; `None` from 32 on.
    pub const fn new(number: u8) -> Option<Self> {
        if number < 32 { Some(Self(number)) } else { None }
    }

    /// The number in an instruction, 0 to 31.
    pub const fn number(self) -> u8 {
        if self.0 > 31 { 31 } else { self.0 }
    }

    /// A number that tells the stack pointer, 32, from the zero register, 31.
    pub(super) const fn id(self) -> u8 {
        self.0
    }
}

impl V {
    /// The register with this number; `None` from 32 on.
    pub const fn new(number: u8) -> Option<Self> {
        if number < 32 { Some(Self(number)) } else { None }
    }

    /// The register's number, 0 to 31.
    pub const fn number(self) -> u8 {
        self.0
    }
}

impl fmt::Display for X {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            31 => f.write_str("xzr"),
            32 => f.write_str("sp"),
            number => write!(f, "x{number}"),
        }
    }
}

impl fmt::Display for V {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

macro_rules! names {
    ($type:ident: $($name:ident = $number:literal)*) => {
        $(#[doc = concat!("Register ", stringify!($number), " of its file.")]
        pub const $name: $type = $type($number);)*
    };
}

names!(X: X0=0 X1=1 X2=2 X3=3 X4=4 X5=5 X6=6 X7=7 X8=8 X9=9 X10=10 X11=11 X12=12 X13=13 X14=14 X15=15 X16=16 X17=17
    X18=18 X19=19 X20=20 X21=21 X22=22 X23=23 X24=24 X25=25 X26=26 X27=27 X28=28 X29=29 X30=30);
names!(V: V0=0 V1=1 V2=2 V3=3 V4=4 V5=5 V6=6 V7=7 V8=8 V9=9 V10=10 V11=11 V12=12 V13=13 V14=14 V15=15 V16=16 V17=17
    V18=18 V19=19 V20=20 V21=21 V22=22 V23=23 V24=24 V25=25 V26=26 V27=27 V28=28 V29=29 V30=30 V31=31);

/// What a conditional instruction asks of the flags (Arm ARM, C1.2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Cond {
    /// Equal.
    Eq = 0,
    /// Not equal.
    Ne = 1,
    /// Unsigned greater or equal: carry set.
    Hs = 2,
    /// Unsigned less: carry clear.
    Lo = 3,
    /// Negative.
    Mi = 4,
    /// Positive or zero.
    Pl = 5,
    /// Overflow.
    Vs = 6,
    /// No overflow.
    Vc = 7,
    /// Unsigned greater.
    Hi = 8,
    /// Unsigned less or equal.
    Ls = 9,
    /// Signed greater or equal.
    Ge = 10,
    /// Signed less.
    Lt = 11,
    /// Signed greater.
    Gt = 12,
    /// Signed less or equal.
    Le = 13,
}

impl Cond {
    /// The opposite, as it is encoded.
    pub(super) const fn inverted(self) -> u32 {
        self as u32 ^ 1
    }
}
