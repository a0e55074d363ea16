//! x86-64 as an architecture of the generic suite, so that its cases are tried on one that exists.

use alloc::vec::Vec;

use axvcpu::{AccessWidth, AxArchVCpu, AxVCpu};
use axvcpu_x86::asm::{self, *};
use axvcpu_x86::reg::gpr;

use super::bench::{Trap, X86};
use super::guest::*;
use crate::generic::{Architecture, Atomic, Instructions, Reg};
use crate::report::{Verdict, fail};

/// The first vector that is no exception's (SDM volume 3, table 7-1).
const FIRST_VECTOR: u64 = 32;

/// One of the lowest priority that there is, one of the highest, and one in between.
const VECTORS: [usize; 3] = [0x21, 0x80, 0xff];

/// Registers that calls to the suite do not use.
fn x(register: Reg) -> asm::Reg {
    match register {
        Reg::A => R12,
        Reg::B => R13,
        Reg::C => R14,
    }
}

/// Memory behind the address in a register.
fn behind(base: Reg, offset: u64) -> Mem {
    mem(x(base)) + offset as i32
}

impl Instructions for Guest {
    fn here(&self) -> u64 {
        (**self).here() // the assembler's
    }

    fn end(&mut self) {
        Guest::end(self);
    }

    fn number(&mut self, into: Reg) {
        self.mov(x(into), RDI);
    }

    fn set(&mut self, register: Reg, value: u64) {
        self.li(x(register), value);
    }

    fn add(&mut self, register: Reg, value: u64) {
        (**self).add(x(register), value as i32); // the assembler's
    }

    fn load(&mut self, target: Reg, width: AccessWidth, base: Reg, offset: u64) {
        let from = behind(base, offset);
        match width {
            AccessWidth::Byte => self.movzx(x(target), from.of(Width::Byte)),
            AccessWidth::Word => self.movzx(x(target), from.of(Width::Word)),
            // Clears the other half.
            AccessWidth::Dword => self.mov(x(target).of(Width::Dword), from),
            AccessWidth::Qword => self.mov(x(target), from),
        }
    }

    fn store(&mut self, source: Reg, width: AccessWidth, base: Reg, offset: u64) {
        let width = match width {
            AccessWidth::Byte => Width::Byte,
            AccessWidth::Word => Width::Word,
            AccessWidth::Dword => Width::Dword,
            AccessWidth::Qword => Width::Qword,
        };
        self.mov(behind(base, offset), x(source).of(width));
    }

    fn atomic_add(&mut self, source: Reg, base: Reg) {
        self.lock().add(behind(base, 0), x(source));
    }

    /// Uses `rax` and `rbx`.
    fn report(&mut self, register: Reg) {
        if self.passes {
            self.pass();
        }
        Guest::report(self, x(register));
    }

    /// Uses `rax`.
    fn call(&mut self, address: u64) {
        self.li(RAX, address);
        self.call_at(RAX);
    }

    fn for_ever(&mut self, body: impl FnOnce(&mut Self)) {
        let again = self.here_label();
        body(self);
        self.jmp(again);
    }

    /// Uses `r15`.
    fn repeat(&mut self, times: u64, body: impl FnOnce(&mut Self)) {
        self.li(R15, times);
        let again = self.here_label();
        body(self);
        self.dec(R15);
        self.jcc(Cond::Ne, again);
    }

    /// CR2, which may be any number, unlike a model-specific register with an address.
    fn write_system(&mut self, from: Reg) {
        self.mov_to_cr(2, x(from));
    }

    fn read_system(&mut self, into: Reg) {
        self.mov_from_cr(x(into), 2);
    }

    /// The handlers keep every register. Uses `rax`.
    fn enable_interrupts(&mut self) {
        self.sti();
        self.pass();
        // There may be more, which are let in when the handler of the first one returns.
        self.passes = true;
    }

    /// Uses `rax` and `r11`.
    fn await_interrupt(&mut self) {
        let (start, handler) = (self.label(), self.label());
        self.jmp(start);
        self.bind(handler);
        self.li(R11, 1);
        self.iretq();
        self.bind(start);
        self.set_handler(VECTORS[0] as u64, handler);
        self.li(R11, 0);
        let again = self.here_label();
        // Nothing gets in between the two.
        self.sti();
        Program::wfi(self);
        self.cli();
        self.test(R11, R11);
        self.jcc(Cond::E, again); // woken for nothing
    }

    fn count_interrupts(&mut self) {
        Guest::count_interrupts(self, &VECTORS, DATA + 8);
        self.sti();
    }

    /// What comes before the instruction that traps begins the stack anew, or it would not last.
    fn trap_for_ever(&mut self) {
        let handler = self.label();
        self.set_handler(vector::UD, handler);
        self.bind(handler);
        self.li(RSP, STACK);
        self.ud2();
    }
}

impl Architecture for X86 {
    const REGISTERS: usize = gpr::COUNT;
    const ZERO: Option<usize> = None;
    const BASE: usize = 15;
    const SPARE: usize = 15;
    const VECTORS: [usize; 3] = VECTORS;
    // Loads and stores are MMIO, whatever instruction makes them, and an access that is failed finds ones.
    const ATOMIC: Atomic = Atomic::Device;
    const FAILURES_TRAP: bool = false;

    fn gpr(register: Reg) -> usize {
        x(register).number().into()
    }

    fn store_registers() -> Verdict<Vec<u8>> {
        let mut asm = Asm::new(CODE);
        for register in registers(Width::Qword).filter(|&register| register != R15) {
            asm.mov(mem(R15) + 8 * i32::from(register.number()), register);
        }
        call_host(&mut asm, END);
        finish(asm)
    }

    fn function(value: u64) -> Verdict<Vec<u8>> {
        let mut asm = Asm::new(0);
        asm.li(x(Reg::A), value);
        asm.ret();
        finish(asm)
    }

    fn interrupt(trap: &Trap) -> Option<usize> {
        (trap.vector >= FIRST_VECTOR).then_some(trap.vector as usize)
    }

    fn step_over<A: AxArchVCpu>(_: &AxVCpu<A>, trap: &Trap) -> Verdict {
        fail!("an access that failed was a trap: {trap:x?}")
    }
}
