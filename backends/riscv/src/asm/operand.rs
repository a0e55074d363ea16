//! Where operands sit in an instruction word.

/// What an operand means, which is how it is written and what values it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperandKind {
    /// An integer register, by number.
    X,
    /// An integer register that holds an address; written in parentheses.
    Base,
    /// One of `x8..x15`, by its number in the full file (compressed instructions).
    XPrime,
    /// One of `x8..x15` that holds an address.
    BasePrime,
    /// A floating-point register, by number.
    F,
    /// One of `f8..f15`, by its number in the full file.
    FPrime,
    /// A sign-extended number.
    Signed,
    /// A zero-extended number.
    Unsigned,
    /// A distance in bytes from this instruction.
    Target,
    /// A [`Rounding`](super::Rounding) mode.
    Rounding,
    /// An atomic's [`Order`](super::Order).
    Order,
    /// A CSR's number.
    Csr,
    /// The accesses a `fence` orders: bit 3 device input, 2 output, 1 memory reads, 0 memory writes.
    FenceSet,
}

/// Some bits of an operand: `width` bits from bit `value` of the operand on are at bit `word` of the
/// instruction.
pub(super) struct Piece {
    value: u8,
    word: u8,
    width: u8,
}

/// One operand of an instruction: its meaning and its place.
pub struct Operand {
    kind: OperandKind,
    pieces: &'static [Piece],
    /// Values that would make it another instruction, or a reserved one.
    excluded: &'static [i64],
}

impl Operand {
    /// What the operand means.
    pub const fn kind(&self) -> OperandKind {
        self.kind
    }

    /// The values the operand takes: lowest, highest, and the step between them.
    /// [`allows`](Self::allows) knows the exceptions.
    pub fn range(&self) -> (i64, i64, i64) {
        let top = self.pieces.iter().map(|p| p.value + p.width).max().unwrap_or(0);
        let low = self.pieces.iter().map(|p| p.value).min().unwrap_or(0);
        let step = 1 << low;
        match self.kind {
            OperandKind::Signed | OperandKind::Target => {
                (-(1 << (top - 1)), (1 << (top - 1)) - step, step)
            }
            OperandKind::XPrime | OperandKind::BasePrime | OperandKind::FPrime => (8, 15, 1),
            _ => (0, (1 << top) - step, step),
        }
    }

    /// Whether the operand takes this value.
    pub fn allows(&self, value: i64) -> bool {
        self.encode(value).is_some()
    }

    /// The instruction bits that hold `value`; `None` when the operand cannot take it.
    pub(super) fn encode(&self, value: i64) -> Option<u32> {
        let (low, high, step) = self.range();
        if value < low || value > high || value & (step - 1) != 0 || self.excluded.contains(&value)
        {
            return None;
        }
        let value = if low == 8 && high == 15 { value - 8 } else { value };
        let place = |p: &Piece| (((value >> p.value) as u32) & ((1 << p.width) - 1)) << p.word;
        Some(self.pieces.iter().map(place).fold(0, |bits, piece| bits | piece))
    }

    /// The operand's value in an instruction; `None` when the bits are none of its values.
    pub(super) fn decode(&self, word: u32) -> Option<i64> {
        let take = |p: &Piece| i64::from(word >> p.word & ((1 << p.width) - 1)) << p.value;
        let raw = self.pieces.iter().map(take).fold(0, |value, piece| value | piece);
        let (low, high, _) = self.range();
        let value = match self.kind {
            OperandKind::XPrime | OperandKind::BasePrime | OperandKind::FPrime => raw + 8,
            _ if raw > high => raw + 2 * low, // the sign bit was set
            _ => raw,
        };
        self.encode(value).map(|_| value)
    }

    /// The instruction bits the operand occupies.
    pub(super) fn mask(&self) -> u32 {
        let bits = |p: &Piece| ((1 << p.width) - 1) << p.word;
        self.pieces.iter().map(bits).fold(0, |mask, piece| mask | piece)
    }
}

const fn at(value: u8, word: u8, width: u8) -> Piece {
    Piece { value, word, width }
}

macro_rules! operands {
    ($($name:ident = $kind:ident [$(($value:literal, $word:literal, $width:literal)),*] $(except $excluded:tt)?;)*) => {
        $(pub(super) static $name: Operand = Operand {
            kind: OperandKind::$kind,
            pieces: &[$(at($value, $word, $width)),*],
            excluded: operands!(@ $($excluded)?),
        };)*
    };
    (@ $excluded:tt) => { &$excluded };
    (@) => { &[] };
}

// Unprivileged manual, "Base Instruction Formats", "Immediate Encoding Variants", and the tables of the
// C extension.
operands! {
    RD = X [(0, 7, 5)];
    RS1 = X [(0, 15, 5)];
    RS2 = X [(0, 20, 5)];
    BASE = Base [(0, 15, 5)];
    FD = F [(0, 7, 5)];
    FS1 = F [(0, 15, 5)];
    FS2 = F [(0, 20, 5)];
    FS3 = F [(0, 27, 5)];
    RM = Rounding [(0, 12, 3)] except [5, 6];
    ORDER = Order [(0, 25, 2)];
    CSR = Csr [(0, 20, 12)];
    PRED = FenceSet [(0, 24, 4)];
    SUCC = FenceSet [(0, 20, 4)];
    IMM_I = Signed [(0, 20, 12)];
    IMM_S = Signed [(0, 7, 5), (5, 25, 7)];
    IMM_B = Target [(1, 8, 4), (5, 25, 6), (11, 7, 1), (12, 31, 1)];
    IMM_J = Target [(1, 21, 10), (11, 20, 1), (12, 12, 8), (20, 31, 1)];
    IMM_U = Unsigned [(0, 12, 20)];
    SHAMT = Unsigned [(0, 20, 6)];
    SHAMT_W = Unsigned [(0, 20, 5)];
    UIMM = Unsigned [(0, 15, 5)];

    C_RD = X [(0, 7, 5)] except [0];
    C_RD_LUI = X [(0, 7, 5)] except [0, 2];
    C_RS2 = X [(0, 2, 5)] except [0];
    C_SRC = X [(0, 2, 5)];
    C_FD = F [(0, 7, 5)];
    C_FS2 = F [(0, 2, 5)];
    C_RD_LOW = XPrime [(0, 2, 3)];
    C_RS1 = XPrime [(0, 7, 3)];
    C_BASE = BasePrime [(0, 7, 3)];
    C_FD_LOW = FPrime [(0, 2, 3)];
    C_IMM = Signed [(0, 2, 5), (5, 12, 1)];
    C_IMM_NZ = Signed [(0, 2, 5), (5, 12, 1)] except [0];
    C_SHAMT = Unsigned [(0, 2, 5), (5, 12, 1)] except [0];
    C_LUI = Signed [(0, 2, 5), (5, 12, 1)] except [0];
    C_ADDI16SP = Signed [(5, 2, 1), (7, 3, 2), (6, 5, 1), (4, 6, 1), (9, 12, 1)] except [0];
    C_ADDI4SPN = Unsigned [(3, 5, 1), (2, 6, 1), (6, 7, 4), (4, 11, 2)] except [0];
    C_LW = Unsigned [(6, 5, 1), (2, 6, 1), (3, 10, 3)];
    C_LD = Unsigned [(6, 5, 2), (3, 10, 3)];
    C_LWSP = Unsigned [(6, 2, 2), (2, 4, 3), (5, 12, 1)];
    C_LDSP = Unsigned [(6, 2, 3), (3, 5, 2), (5, 12, 1)];
    C_SWSP = Unsigned [(6, 7, 2), (2, 9, 4)];
    C_SDSP = Unsigned [(6, 7, 3), (3, 10, 3)];
    C_J = Target [(5, 2, 1), (1, 3, 3), (7, 6, 1), (6, 7, 1), (10, 8, 1), (8, 9, 2), (4, 11, 1), (11, 12, 1)];
    C_B = Target [(5, 2, 1), (1, 3, 2), (6, 5, 2), (3, 10, 2), (8, 12, 1)];
}
