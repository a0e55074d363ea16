//! The instructions of operating systems: interrupts, ports, and what the CPU is told.

use super::encode::{Asm, Imm, Op};
use super::insn::digit;
use super::{Mem, RAX, Reg, Rm, Seg, Width};

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
    cli [0xfa] "Interrupts are off.";
    sti [0xfb] "Interrupts are on, after the next instruction.";
    hlt [0xf4] "Waits for an interrupt.";
    iretq [0x48 0xcf] "Returns from an interrupt.";
    syscall [0x0f 0x05] "Calls the operating system.";
    sysretq [0x48 0x0f 0x07] "Returns from SYSCALL to code of 64 bits.";
    swapgs [0x0f 0x01 0xf8] "Exchanges the base of GS with the kernel's.";
    rdmsr [0x0f 0x32] "Reads the model-specific register `ecx` to `edx:eax`.";
    wrmsr [0x0f 0x30] "Writes `edx:eax` to the model-specific register `ecx`.";
    xgetbv [0x0f 0x01 0xd0] "Reads the extended control register `ecx` to `edx:eax`.";
    xsetbv [0x0f 0x01 0xd1] "Writes `edx:eax` to the extended control register `ecx`.";
    vmcall [0x0f 0x01 0xc1] "Calls the hypervisor, on Intel's CPUs.";
    vmmcall [0x0f 0x01 0xd9] "Calls the hypervisor, on AMD's CPUs.";
    clts [0x0f 0x06] "Clears CR0.TS.";
    wbinvd [0x0f 0x09] "Writes the caches back and empties them.";
}

impl Asm {
    /// The software interrupt `vector`.
    pub fn int(&mut self, vector: u8) {
        self.bytes(&[0xcd, vector]);
    }

    /// Port accesses are of the accumulator, and not of 64 bits.
    fn port(&mut self, name: &'static str, codes: [&'static [u8]; 2], reg: Reg) {
        if reg != RAX.of(reg.width()) || reg.width() == Width::Qword {
            return self.refuse(name);
        }
        self.plain(Op::sized(name, codes, reg.width()));
    }

    /// Reads `al`, `ax` or `eax` from a port below 256.
    pub fn in_imm(&mut self, reg: Reg, port: u8) {
        self.port("in", [&[0xe4], &[0xe5]], reg);
        self.bytes(&[port]);
    }

    /// Reads `al`, `ax` or `eax` from port `dx`.
    pub fn in_dx(&mut self, reg: Reg) {
        self.port("in", [&[0xec], &[0xed]], reg);
    }

    /// Writes `al`, `ax` or `eax` to a port below 256.
    pub fn out_imm(&mut self, port: u8, reg: Reg) {
        self.port("out", [&[0xe6], &[0xe7]], reg);
        self.bytes(&[port]);
    }

    /// Writes `al`, `ax` or `eax` to port `dx`.
    pub fn out_dx(&mut self, reg: Reg) {
        self.port("out", [&[0xee], &[0xef]], reg);
    }

    fn table(&mut self, name: &'static str, number: u8, mem: Mem) {
        self.modrm(Op::fixed(name, &[0x0f, 0x01]), digit(number), mem, Imm::NONE);
    }

    /// Stores the limit, in 2 bytes, and the base of the global descriptor table.
    pub fn sgdt(&mut self, mem: Mem) {
        self.table("sgdt", 0, mem);
    }

    /// Stores the limit and the base of the interrupt descriptor table.
    pub fn sidt(&mut self, mem: Mem) {
        self.table("sidt", 1, mem);
    }

    /// Loads the limit, from 2 bytes, and the base of the global descriptor table.
    pub fn lgdt(&mut self, mem: Mem) {
        self.table("lgdt", 2, mem);
    }

    /// Loads the limit and the base of the interrupt descriptor table.
    pub fn lidt(&mut self, mem: Mem) {
        self.table("lidt", 3, mem);
    }

    /// Forgets the translation of an address.
    pub fn invlpg(&mut self, mem: Mem) {
        self.table("invlpg", 7, mem);
    }

    /// Loads the task register with a selector.
    pub fn ltr(&mut self, from: impl Into<Rm>) {
        self.modrm(Op::fixed("ltr", &[0x0f, 0x00]), digit(3), from, Imm::NONE);
    }

    /// Loads a segment register with a selector.
    pub fn mov_to_seg(&mut self, to: Seg, from: Reg) {
        self.modrm(Op::fixed("mov", &[0x8e]), digit(to as u8), from.of(Width::Dword), Imm::NONE);
    }

    /// Reads a segment register's selector.
    pub fn mov_from_seg(&mut self, to: Reg, from: Seg) {
        self.modrm(Op::fixed("mov", &[0x8c]), digit(from as u8), to.of(Width::Dword), Imm::NONE);
    }

    /// Moves between a general-purpose register and one of 16 that systems have.
    fn special(&mut self, code: &'static [u8], number: u8, reg: Reg) {
        match Reg::new(number, Width::Qword) {
            Some(special) if reg.width() == Width::Qword => {
                self.modrm(Op::fixed("mov", code), special, reg, Imm::NONE);
            }
            _ => self.refuse("mov"),
        }
    }

    /// Reads a control register.
    pub fn mov_from_cr(&mut self, to: Reg, number: u8) {
        self.special(&[0x0f, 0x20], number, to);
    }

    /// Writes a control register.
    pub fn mov_to_cr(&mut self, number: u8, from: Reg) {
        self.special(&[0x0f, 0x22], number, from);
    }

    /// Reads a debug register.
    pub fn mov_from_dr(&mut self, to: Reg, number: u8) {
        self.special(&[0x0f, 0x21], number, to);
    }

    /// Writes a debug register.
    pub fn mov_to_dr(&mut self, number: u8, from: Reg) {
        self.special(&[0x0f, 0x23], number, from);
    }
}
