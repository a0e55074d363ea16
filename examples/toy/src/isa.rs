//! The instruction set.
//!
//! 16 registers of 64 bits, the first of which is always 0. Instructions are 32 bits: from the lowest, 8 of an [operation](op),
//! 4 of a register `rd`, 4 of a register `rs` and 16 of a number `n`. Accesses to memory must be aligned.
//!
//! A trap puts where the guest was into [`EPC`](sys::EPC), why into [`CAUSE`](sys::CAUSE) and the address of an access into
//! [`VALUE`](sys::VALUE), switches interrupts off, and goes on at [`VECTOR`](sys::VECTOR).

/// How many registers there are.
pub const REGISTERS: usize = 16;

/// The operations. All others are illegal, 0 among them.
pub mod op {
    /// `rd = n`.
    pub const SET: u32 = 1;
    /// `rd = rd << 16 | n`.
    pub const SHIFT: u32 = 2;
    /// `rd = rd + rs + n`, of which `n` is signed.
    pub const ADD: u32 = 3;
    /// Loads to `rd` from `rs` plus the lower 12 bits of `n`. The upper ones are log2 of the number of bytes.
    pub const LOAD: u32 = 4;
    /// Stores `rd` there.
    pub const STORE: u32 = 5;
    /// Adds `rd` to the 64 bits in memory at `rs`, atomically.
    pub const ATOMIC_ADD: u32 = 6;
    /// Goes `n` instructions forward, or back, if `rd` is not 0.
    pub const BRANCH: u32 = 7;
    /// Goes `n` instructions forward or back.
    pub const JUMP: u32 = 8;
    /// Goes to the address in `rs`, and puts where it came from, plus 4, into `rd`.
    pub const CALL: u32 = 9;
    /// Calls the host: number `n`, arguments in the registers 1 to 6, the result in register 1.
    pub const HOST: u32 = 10;
    /// Waits until an interrupt is pending.
    pub const WAIT: u32 = 11;
    /// Reads system register `n` to `rd`.
    pub const READ: u32 = 12;
    /// Writes it.
    pub const WRITE: u32 = 13;
    /// Goes back from a trap.
    pub const RETURN: u32 = 14;
}

/// The system registers.
pub mod sys {
    /// Where traps lead.
    pub const VECTOR: usize = 0;
    /// Where the guest was.
    pub const EPC: usize = 1;
    /// Why it trapped.
    pub const CAUSE: usize = 2;
    /// The address of the access that trapped.
    pub const VALUE: usize = 3;
    /// Interrupts that are pending, a bit for each; one is cleared when it is taken.
    pub const PENDING: usize = 4;
    /// Bit 0 lets interrupts in, bit 1 is what it was before the trap.
    pub const STATUS: usize = 5;
    /// Nothing but a place to keep a value.
    pub const SCRATCH: usize = 6;
    /// How many there are.
    pub const COUNT: usize = 7;
}

/// Why a guest trapped.
pub mod cause {
    /// An instruction that does not exist.
    pub const ILLEGAL: u64 = 1;
    /// An access that is not aligned.
    pub const MISALIGNED: u64 = 2;
    /// An access to an address where nothing answers.
    pub const ACCESS: u64 = 3;
    /// An interrupt; its number is added.
    pub const INTERRUPT: u64 = 0x100;
}

/// The instruction of an operation, its registers and its number.
pub const fn encode(op: u32, rd: usize, rs: usize, n: u16) -> u32 {
    op | (rd as u32 & 15) << 8 | (rs as u32 & 15) << 12 | (n as u32) << 16
}
