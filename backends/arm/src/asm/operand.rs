//! Where operands sit in an instruction word.

/// What an operand means, which is what values it takes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A register; 31 is the zero register.
    Zero,
    /// A register; 31 is the stack pointer.
    Stack,
    /// A zero-extended number, a SIMD and floating-point register, or a condition.
    Unsigned,
    /// A sign-extended number, or a distance in bytes.
    Signed,
}

/// Some bits of an operand: `width` bits from bit `value` of the operand on are at bit `word` of the instruction.
pub(super) struct Piece {
    value: u8,
    word: u8,
    width: u8,
}

/// One operand of an instruction: its meaning and its place.
pub struct Operand {
    kind: Kind,
    pieces: &'static [Piece],
}

impl Operand {
    /// The values the operand takes: lowest, highest, and the step between them.
    fn range(&self) -> (i64, i64, i64) {
        let top = self.pieces.iter().map(|p| p.value + p.width).max().unwrap_or(0);
        let low = self.pieces.iter().map(|p| p.value).min().unwrap_or(0);
        let step = 1 << low;
        match self.kind {
            Kind::Signed => (-(1 << (top - 1)), (1 << (top - 1)) - step, step),
            Kind::Stack => (0, 32, 1),
            Kind::Zero | Kind::Unsigned => (0, (1 << top) - step, step),
        }
    }

    /// The instruction bits that hold `value`; `None` when the operand cannot take it.
    pub(super) fn encode(&self, value: i64) -> Option<u32> {
        let (low, high, step) = self.range();
        if value < low || value > high || value & (step - 1) != 0 {
            return None;
        }
        let value = match (self.kind, value) {
            (Kind::Stack, 31) => return None,
            (Kind::Stack, 32) => 31,
            _ => value,
        };
        let place = |p: &Piece| (((value >> p.value) as u32) & ((1 << p.width) - 1)) << p.word;
        Some(self.pieces.iter().map(place).fold(0, |bits, piece| bits | piece))
    }
}

const fn at(value: u8, word: u8, width: u8) -> Piece {
    Piece { value, word, width }
}

macro_rules! operands {
    ($($name:ident = $kind:ident [$(($value:literal, $word:literal, $width:literal)),*];)*) => {
        $(pub(super) static $name: Operand =
            Operand { kind: Kind::$kind, pieces: &[$(at($value, $word, $width)),*] };)*
    };
}

// Arm ARM, C4.1 "A64 instruction set encoding".
operands! {
    RD = Zero [(0, 0, 5)];
    RD_SP = Stack [(0, 0, 5)];
    RN = Zero [(0, 5, 5)];
    RN_SP = Stack [(0, 5, 5)];
    RM = Zero [(0, 16, 5)];
    RT2 = Zero [(0, 10, 5)];
    VD = Unsigned [(0, 0, 5)];
    VN = Unsigned [(0, 5, 5)];
    VT2 = Unsigned [(0, 10, 5)];
    COND = Unsigned [(0, 0, 4)];
    COND_SET = Unsigned [(0, 12, 4)];
    IMM12 = Unsigned [(0, 10, 12)];
    IMM12_2 = Unsigned [(1, 10, 12)];
    IMM12_4 = Unsigned [(2, 10, 12)];
    IMM12_8 = Unsigned [(3, 10, 12)];
    IMM12_16 = Unsigned [(4, 10, 12)];
    IMM9 = Signed [(0, 12, 9)];
    IMM7_8 = Signed [(3, 15, 7)];
    IMM7_16 = Signed [(4, 15, 7)];
    IMM16 = Unsigned [(0, 5, 16)];
    IMM16_LOW = Unsigned [(0, 0, 16)];
    HALF = Unsigned [(4, 21, 2)];
    SHAMT = Unsigned [(0, 16, 6)];
    IMMS = Unsigned [(0, 10, 6)];
    IMM4 = Unsigned [(0, 8, 4)];
    BIT = Unsigned [(0, 19, 5), (5, 31, 1)];
    LANE_D = Unsigned [(0, 20, 1)];
    SYSREG = Unsigned [(0, 5, 16)];
    TARGET_14 = Signed [(2, 5, 14)];
    TARGET_19 = Signed [(2, 5, 19)];
    TARGET_26 = Signed [(2, 0, 26)];
    TARGET_ADR = Signed [(0, 29, 2), (2, 5, 19)];
}
