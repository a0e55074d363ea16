//! The instructions of programs (SDM volume 2, chapters 3 to 5).

use axvcpu_asm::Label;

use super::encode::{Asm, Imm, Op};
use super::{Cond, EAX, Mem, Operand, RAX, Reg, Rm, Width, Xmm};

/// The number in ModRM's register field where that is a part of the opcode.
pub(super) const fn digit(number: u8) -> Reg {
    match Reg::new(number, Width::Dword) {
        Some(reg) => reg,
        None => EAX,
    }
}

macro_rules! arithmetic {
    ($($name:ident $digit:literal $text:literal;)*) => {
        impl Asm {
            $(#[doc = $text]
            pub fn $name(&mut self, to: impl Into<Rm>, from: impl Into<Operand>) {
                self.arithmetic(stringify!($name), $digit, to.into(), from.into());
            })*
        }
    };
}

arithmetic! {
    add 0 "Adds.";
    or 1 "Sets the bits of the second operand.";
    adc 2 "Adds, with the carry.";
    sbb 3 "Subtracts, with the borrow.";
    and 4 "Keeps the bits of the second operand.";
    sub 5 "Subtracts.";
    xor 6 "Inverts the bits of the second operand.";
    cmp 7 "Compares: subtracts for the flags only.";
}

/// The opcodes of an operation on a register and a register or memory, from those of bytes.
const ARITHMETIC: [[&[u8]; 4]; 8] = [
    [&[0x00], &[0x01], &[0x02], &[0x03]],
    [&[0x08], &[0x09], &[0x0a], &[0x0b]],
    [&[0x10], &[0x11], &[0x12], &[0x13]],
    [&[0x18], &[0x19], &[0x1a], &[0x1b]],
    [&[0x20], &[0x21], &[0x22], &[0x23]],
    [&[0x28], &[0x29], &[0x2a], &[0x2b]],
    [&[0x30], &[0x31], &[0x32], &[0x33]],
    [&[0x38], &[0x39], &[0x3a], &[0x3b]],
];

macro_rules! unary {
    ($($name:ident $bytes:literal $others:literal $digit:literal $text:literal;)*) => {
        impl Asm {
            $(#[doc = $text]
            pub fn $name(&mut self, operand: impl Into<Rm>) {
                self.unary(stringify!($name), [&[$bytes], &[$others]], $digit, operand.into());
            })*
        }
    };
}

unary! {
    inc 0xfe 0xff 0 "Adds 1.";
    dec 0xfe 0xff 1 "Subtracts 1.";
    not 0xf6 0xf7 2 "Inverts every bit.";
    neg 0xf6 0xf7 3 "Subtracts from 0.";
    mul 0xf6 0xf7 4 "Multiplies the accumulator by it, without signs.";
    div 0xf6 0xf7 6 "Divides the accumulator by it, without signs.";
}

macro_rules! shifts {
    ($($name:ident $digit:literal $text:literal;)*) => {
        impl Asm {
            $(#[doc = $text]
            pub fn $name(&mut self, operand: impl Into<Rm>, count: u8) {
                let operand = operand.into();
                let Some(width) = operand.width() else { return self.refuse(stringify!($name)) };
                let op = Op::sized(stringify!($name), [&[0xc0], &[0xc1]], width);
                self.modrm(op, digit($digit), operand, Imm(count.into(), 1));
            })*
        }
    };
}

shifts! {
    shl 4 "Shifts left.";
    shr 5 "Shifts right, and zeroes come in.";
    sar 7 "Shifts right, and the sign comes in.";
}

macro_rules! exchanges {
    ($($name:ident $bytes:expr, $others:expr, $text:literal;)*) => {
        impl Asm {
            $(#[doc = $text]
            pub fn $name(&mut self, to: impl Into<Rm>, reg: Reg) {
                let to = to.into();
                match self.common(stringify!($name), to, reg.into()) {
                    Some(width) => {
                        let op = Op::sized(stringify!($name), [&$bytes, &$others], width);
                        self.modrm(op, reg, to, Imm::NONE);
                    }
                    None => self.refuse(stringify!($name)),
                }
            })*
        }
    };
}

exchanges! {
    xchg [0x86], [0x87], "Exchanges the two; on memory always as one access.";
    cmpxchg [0x0f, 0xb0], [0x0f, 0xb1], "Replaces the first operand by the register if it is the accumulator, which gets what it was.";
    xadd [0x0f, 0xc0], [0x0f, 0xc1], "Adds the register, which gets what the first operand was.";
}

macro_rules! strings {
    ($($text:literal $base:literal: $b:ident $w:ident $d:ident $q:ident;)*) => {
        impl Asm {
            $(strings!(@ $text " 8 bits." $base Byte $b);
            strings!(@ $text " 16 bits." $base Word $w);
            strings!(@ $text " 32 bits." $base Dword $d);
            strings!(@ $text " 64 bits." $base Qword $q);)*
        }
    };
    (@ $text:literal $bits:literal $base:literal $width:ident $name:ident) => {
        #[doc = concat!($text, $bits)]
        pub fn $name(&mut self) {
            self.plain(Op::sized(stringify!($name), [&[$base], &[$base + 1]], Width::$width));
        }
    };
}

strings! {
    "Copies what `rsi` points to, to where `rdi` points:" 0xa4: movsb movsw movsd movsq;
    "Stores the accumulator where `rdi` points:" 0xaa: stosb stosw stosd stosq;
    "Loads the accumulator from where `rsi` points:" 0xac: lodsb lodsw lodsd lodsq;
}

macro_rules! plain {
    ($($name:ident [$($code:literal)*] $text:literal;)*) => {
        impl Asm {
            $(#[doc = $text]
            pub fn $name(&mut self) {
                self.bytes(&[$($code),*]);
            })*
        }
    };
}

plain! {
    insb [0x6c] "Reads a byte from port `dx` to where `rdi` points.";
    insw [0x66 0x6d] "Reads 16 bits from port `dx` to where `rdi` points.";
    insd [0x6d] "Reads 32 bits from port `dx` to where `rdi` points.";
    outsb [0x6e] "Writes the byte `rsi` points to, to port `dx`.";
    outsw [0x66 0x6f] "Writes the 16 bits `rsi` points to, to port `dx`.";
    outsd [0x6f] "Writes the 32 bits `rsi` points to, to port `dx`.";
    cld [0xfc] "String instructions go up.";
    std [0xfd] "String instructions go down.";
    nop [0x90] "Does nothing.";
    pause [0xf3 0x90] "Does nothing, and says that it does so in a loop.";
    mfence [0x0f 0xae 0xf0] "Orders everything before against everything after.";
    ret [0xc3] "Returns from a function.";
    retfq [0x48 0xcb] "Returns to another code segment.";
    int3 [0xcc] "The breakpoint.";
    ud2 [0x0f 0x0b] "The instruction that is none.";
    pushfq [0x9c] "Pushes RFLAGS.";
    popfq [0x9d] "Pops RFLAGS.";
    cpuid [0x0f 0xa2] "Identifies the CPU.";
    rdtsc [0x0f 0x31] "Reads the time-stamp counter.";
    fninit [0xdb 0xe3] "Puts the x87 unit into its initial state.";
    fld1 [0xd9 0xe8] "Pushes 1.0 to the x87 stack.";
    fldz [0xd9 0xee] "Pushes 0.0 to the x87 stack.";
}

impl Asm {
    /// A prefix: the instruction that follows accesses memory once for all.
    pub fn lock(&mut self) -> &mut Self {
        self.bytes(&[0xf0]);
        self
    }

    /// A prefix: the string instruction that follows is repeated `rcx` times.
    pub fn rep(&mut self) -> &mut Self {
        self.bytes(&[0xf3]);
        self
    }

    /// The width two operands have; `None` if they have none or two.
    fn common(&mut self, name: &'static str, one: Rm, other: Rm) -> Option<Width> {
        let (one, other) = (one.width(), other.width());
        match (one, other) {
            (Some(one), Some(other)) if one != other => {
                self.refuse(name);
                None
            }
            _ => one.or(other),
        }
    }

    fn arithmetic(&mut self, name: &'static str, number: u8, to: Rm, from: Operand) {
        let Some([store_byte, store, load_byte, load]) = ARITHMETIC.get(usize::from(number)) else {
            return self.refuse(name);
        };
        match (to, from) {
            (_, Operand::Rm(Rm::Reg(reg))) => match self.common(name, to, reg.into()) {
                Some(width) => {
                    self.modrm(Op::sized(name, [store_byte, store], width), reg, to, Imm::NONE);
                }
                None => self.refuse(name),
            },
            (Rm::Reg(reg), Operand::Rm(from)) => match self.common(name, from, to) {
                Some(width) => {
                    self.modrm(Op::sized(name, [load_byte, load], width), reg, from, Imm::NONE);
                }
                None => self.refuse(name),
            },
            (Rm::Mem(_), Operand::Rm(_)) => self.refuse(name),
            (_, Operand::Imm(value)) => {
                let Some((width, imm)) =
                    to.width().and_then(|width| Some((width, Imm::of(value, width)?)))
                else {
                    return self.refuse(name);
                };
                if width != Width::Byte && i8::try_from(value).is_ok() {
                    let op = Op { name, prefix: 0, code: &[0x83], width: Some(width) };
                    return self.modrm(op, digit(number), to, Imm(value, 1));
                }
                self.modrm(Op::sized(name, [&[0x80], &[0x81]], width), digit(number), to, imm);
            }
        }
    }

    fn unary(&mut self, name: &'static str, codes: [&'static [u8]; 2], number: u8, operand: Rm) {
        match operand.width() {
            Some(width) => {
                self.modrm(Op::sized(name, codes, width), digit(number), operand, Imm::NONE);
            }
            None => self.refuse(name),
        }
    }

    /// Copies. A number for 64 bits is sign-extended from 32; [`li`](Self::li) takes any.
    pub fn mov(&mut self, to: impl Into<Rm>, from: impl Into<Operand>) {
        let (to, from) = (to.into(), from.into());
        let number = match (to, from) {
            (_, Operand::Imm(value)) => value,
            (_, Operand::Rm(Rm::Reg(reg))) => {
                return match self.common("mov", to, reg.into()) {
                    Some(width) => {
                        let op = Op::sized("mov", [&[0x88], &[0x89]], width);
                        self.modrm(op, reg, to, Imm::NONE);
                    }
                    None => self.refuse("mov"),
                };
            }
            (Rm::Reg(reg), Operand::Rm(from)) => {
                return match self.common("mov", from, to) {
                    Some(width) => {
                        let op = Op::sized("mov", [&[0x8a], &[0x8b]], width);
                        self.modrm(op, reg, from, Imm::NONE);
                    }
                    None => self.refuse("mov"),
                };
            }
            (Rm::Mem(_), Operand::Rm(_)) => return self.refuse("mov"),
        };
        match to.width().and_then(|width| Some((width, Imm::of(number, width)?))) {
            Some((width, imm)) => {
                self.modrm(Op::sized("mov", [&[0xc6], &[0xc7]], width), digit(0), to, imm);
            }
            None => self.refuse("mov"),
        }
    }

    /// Loads any constant, in the shortest way. Writes all 64 bits of the register, which is named by its 64 bits.
    pub fn li(&mut self, reg: Reg, value: u64) {
        if reg.width() != Width::Qword {
            return self.refuse("li");
        }
        if let Ok(value) = u32::try_from(value) {
            // Writing 32 bits clears the others.
            let op = Op { name: "li", prefix: 0, code: &[0xb8], width: Some(Width::Dword) };
            self.with_register(op, reg.of(Width::Dword));
            self.word(value);
        } else if let Ok(value) = i32::try_from(value as i64) {
            self.mov(reg, value);
        } else {
            self.movabs(reg, value);
        }
    }

    /// Loads a constant of 64 bits.
    pub fn movabs(&mut self, reg: Reg, value: u64) {
        if reg.width() != Width::Qword {
            return self.refuse("movabs");
        }
        let op = Op { name: "movabs", prefix: 0, code: &[0xb8], width: Some(Width::Qword) };
        self.with_register(op, reg);
        self.quad(value);
    }

    /// Moves between the accumulator, of any width, and memory at an address of 64 bits.
    fn moffs(&mut self, name: &'static str, codes: [&'static [u8]; 2], reg: Reg, address: u64) {
        if reg != RAX.of(reg.width()) {
            return self.refuse(name);
        }
        self.plain(Op::sized(name, codes, reg.width()));
        self.quad(address);
    }

    /// Loads the accumulator from an address of 64 bits.
    pub fn mov_from(&mut self, reg: Reg, address: u64) {
        self.moffs("mov_from", [&[0xa0], &[0xa1]], reg, address);
    }

    /// Stores the accumulator at an address of 64 bits.
    pub fn mov_into(&mut self, address: u64, reg: Reg) {
        self.moffs("mov_into", [&[0xa2], &[0xa3]], reg, address);
    }

    fn extend(&mut self, name: &'static str, codes: [&'static [u8]; 2], to: Reg, from: Rm) {
        match from.width() {
            Some(Width::Byte) if to.width() > Width::Byte => {
                let op = Op { name, prefix: 0, code: codes[0], width: Some(to.width()) };
                self.modrm(op, to, from, Imm::NONE);
            }
            Some(Width::Word) if to.width() > Width::Word => {
                let op = Op { name, prefix: 0, code: codes[1], width: Some(to.width()) };
                self.modrm(op, to, from, Imm::NONE);
            }
            _ => self.refuse(name),
        }
    }

    /// Copies 8 or 16 bits, and clears the others.
    pub fn movzx(&mut self, to: Reg, from: impl Into<Rm>) {
        self.extend("movzx", [&[0x0f, 0xb6], &[0x0f, 0xb7]], to, from.into());
    }

    /// Copies 8 or 16 bits, and fills the others with the sign.
    pub fn movsx(&mut self, to: Reg, from: impl Into<Rm>) {
        self.extend("movsx", [&[0x0f, 0xbe], &[0x0f, 0xbf]], to, from.into());
    }

    /// Copies 32 bits, and fills the others with the sign.
    pub fn movsxd(&mut self, to: Reg, from: impl Into<Rm>) {
        let from = from.into();
        match (to.width(), from.width()) {
            (Width::Qword, Some(Width::Dword) | None) => {
                let op = Op { name: "movsxd", prefix: 0, code: &[0x63], width: Some(Width::Qword) };
                self.modrm(op, to, from, Imm::NONE);
            }
            _ => self.refuse("movsxd"),
        }
    }

    /// Loads the address of memory.
    pub fn lea(&mut self, to: Reg, from: Mem) {
        if to.width() == Width::Byte {
            return self.refuse("lea");
        }
        let op = Op { name: "lea", prefix: 0, code: &[0x8d], width: Some(to.width()) };
        self.modrm(op, to, from, Imm::NONE);
    }

    /// Sets the flags of two operands' common bits.
    pub fn test(&mut self, one: impl Into<Rm>, other: impl Into<Operand>) {
        let one = one.into();
        match other.into() {
            Operand::Rm(Rm::Reg(reg)) => match self.common("test", one, reg.into()) {
                Some(width) => {
                    let op = Op::sized("test", [&[0x84], &[0x85]], width);
                    self.modrm(op, reg, one, Imm::NONE);
                }
                None => self.refuse("test"),
            },
            Operand::Rm(Rm::Mem(_)) => self.refuse("test"),
            Operand::Imm(value) => {
                match one.width().and_then(|width| Some((width, Imm::of(value, width)?))) {
                    Some((width, imm)) => {
                        let op = Op::sized("test", [&[0xf6], &[0xf7]], width);
                        self.modrm(op, digit(0), one, imm);
                    }
                    None => self.refuse("test"),
                }
            }
        }
    }

    /// Pushes 64 bits: a register, memory, or a number that is sign-extended from 32.
    pub fn push(&mut self, operand: impl Into<Operand>) {
        match operand.into() {
            Operand::Rm(Rm::Reg(reg)) if reg.width() == Width::Qword => {
                self.with_register(Op::fixed("push", &[0x50]), reg);
            }
            Operand::Rm(Rm::Mem(mem)) if mem.width.is_none_or(|width| width == Width::Qword) => {
                self.modrm(Op::fixed("push", &[0xff]), digit(6), mem, Imm::NONE);
            }
            Operand::Imm(value) => match i32::try_from(value) {
                Ok(value) => {
                    self.bytes(&[0x68]);
                    self.bytes(&value.to_le_bytes());
                }
                Err(_) => self.refuse("push"),
            },
            Operand::Rm(_) => self.refuse("push"),
        }
    }

    /// Pops 64 bits.
    pub fn pop(&mut self, operand: impl Into<Rm>) {
        match operand.into() {
            Rm::Reg(reg) if reg.width() == Width::Qword => {
                self.with_register(Op::fixed("pop", &[0x58]), reg);
            }
            Rm::Mem(mem) if mem.width.is_none_or(|width| width == Width::Qword) => {
                self.modrm(Op::fixed("pop", &[0x8f]), digit(0), mem, Imm::NONE);
            }
            _ => self.refuse("pop"),
        }
    }

    /// Calls a function.
    pub fn call(&mut self, label: Label) {
        self.near(&[0xe8], label);
    }

    /// Jumps.
    pub fn jmp(&mut self, label: Label) {
        self.near(&[0xe9], label);
    }

    /// Jumps within 128 bytes.
    pub fn jmp_short(&mut self, label: Label) {
        self.short(0xeb, label);
    }

    /// Jumps if the condition holds.
    pub fn jcc(&mut self, cond: Cond, label: Label) {
        self.near(&[0x0f, 0x80 | cond as u8], label);
    }

    /// Jumps within 128 bytes if the condition holds.
    pub fn jcc_short(&mut self, cond: Cond, label: Label) {
        self.short(0x70 | cond as u8, label);
    }

    fn indirect(&mut self, name: &'static str, number: u8, target: Rm) {
        if target.width().is_some_and(|width| width != Width::Qword) {
            return self.refuse(name);
        }
        self.modrm(Op::fixed(name, &[0xff]), digit(number), target, Imm::NONE);
    }

    /// Calls the function at the address that a register or memory holds.
    pub fn call_at(&mut self, target: impl Into<Rm>) {
        self.indirect("call_at", 2, target.into());
    }

    /// Jumps to the address that a register or memory holds.
    pub fn jmp_at(&mut self, target: impl Into<Rm>) {
        self.indirect("jmp_at", 4, target.into());
    }

    /// Sets a byte to 1 if the condition holds, else to 0.
    pub fn setcc(&mut self, cond: Cond, to: impl Into<Rm>) {
        const CODES: [[u8; 2]; 16] = {
            let mut codes = [[0x0f, 0x90]; 16];
            let mut cond = 0;
            while cond < 16 {
                codes[cond][1] |= cond as u8;
                cond += 1;
            }
            codes
        };
        let to = to.into();
        match CODES.get(cond as usize) {
            Some(code) if to.width().is_none_or(|width| width == Width::Byte) => {
                self.modrm(Op::fixed("setcc", code), digit(0), to, Imm::NONE);
            }
            _ => self.refuse("setcc"),
        }
    }

    /// An instruction of SSE2 on memory.
    fn sse(&mut self, name: &'static str, prefix: u8, code: &'static [u8], xmm: Xmm, mem: Mem) {
        match Reg::new(xmm.number(), Width::Dword) {
            Some(reg) => self.modrm(Op { name, prefix, code, width: None }, reg, mem, Imm::NONE),
            None => self.refuse(name),
        }
    }

    /// Loads 128 bits, at any address.
    pub fn movdqu_load(&mut self, to: Xmm, from: Mem) {
        self.sse("movdqu", 0xf3, &[0x0f, 0x6f], to, from);
    }

    /// Stores 128 bits, at any address.
    pub fn movdqu_store(&mut self, to: Mem, from: Xmm) {
        self.sse("movdqu", 0xf3, &[0x0f, 0x7f], from, to);
    }

    /// Loads the lower 64 bits, and clears the others.
    pub fn movq_load(&mut self, to: Xmm, from: Mem) {
        self.sse("movq", 0xf3, &[0x0f, 0x7e], to, from);
    }

    /// Stores the lower 64 bits.
    pub fn movq_store(&mut self, to: Mem, from: Xmm) {
        self.sse("movq", 0x66, &[0x0f, 0xd6], from, to);
    }

    /// Loads the control and status register of SSE.
    pub fn ldmxcsr(&mut self, from: Mem) {
        self.modrm(Op::fixed("ldmxcsr", &[0x0f, 0xae]), digit(2), from, Imm::NONE);
    }

    /// Stores the control and status register of SSE.
    pub fn stmxcsr(&mut self, to: Mem) {
        self.modrm(Op::fixed("stmxcsr", &[0x0f, 0xae]), digit(3), to, Imm::NONE);
    }

    /// Pushes the 64-bit number in memory to the x87 stack.
    pub fn fld(&mut self, from: Mem) {
        self.modrm(Op::fixed("fld", &[0xdd]), digit(0), from, Imm::NONE);
    }

    /// Pops from the x87 stack to memory of 64 bits.
    pub fn fstp(&mut self, to: Mem) {
        self.modrm(Op::fixed("fstp", &[0xdd]), digit(3), to, Imm::NONE);
    }

    /// VEX in three bytes (SDM volume 2, 2.3.5): 256 bits, prefix F3, opcodes of `0f`, at the address in a register.
    fn vmovdqu(&mut self, code: u8, xmm: Xmm, base: Reg) {
        if base.width() != Width::Qword {
            return self.refuse("vmovdqu");
        }
        let extended = |number: u8, bit: u8| if number > 7 { 0 } else { bit };
        let first = extended(xmm.number(), 0x80) | 0x40 | extended(base.number(), 0x20) | 1;
        self.bytes(&[0xc4, first, 0x7e, code]);
        self.memory("vmovdqu", xmm.number() << 3 & 0x38, super::mem(base), 0);
    }

    /// Loads 256 bits from the address in a register.
    pub fn vmovdqu_load(&mut self, to: Xmm, base: Reg) {
        self.vmovdqu(0x6f, to, base);
    }

    /// Stores 256 bits at the address in a register.
    pub fn vmovdqu_store(&mut self, base: Reg, from: Xmm) {
        self.vmovdqu(0x7f, from, base);
    }
}
