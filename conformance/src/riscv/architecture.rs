//! RISC-V as an architecture of the generic suite, so that its cases are tried on one that exists.

use alloc::vec::Vec;

use axvcpu::{AccessWidth, AxArchVCpu, AxVCpu};
use axvcpu_riscv::asm::*;
use axvcpu_riscv::csr::{irq, num};

use super::bench::{Riscv, Trap};
use super::guest::*;
use crate::generic::{Architecture, Instructions, Reg};
use crate::report::{Failure, Verdict};

/// The bits of `sie` and `sip` of every interrupt.
const ALL: u64 = 1 << irq::SOFTWARE | 1 << irq::TIMER | 1 << irq::EXTERNAL;
/// What tells interrupts from exceptions in `scause`.
const INTERRUPT: u64 = 1 << 63;
/// `sip.SSIP`, the only one of these bits that a guest clears by itself.
const SSIP: u32 = 1 << irq::SOFTWARE;

/// Registers that neither the handler nor calls to the suite use.
fn x(register: Reg) -> X {
    match register {
        Reg::A => S2,
        Reg::B => S3,
        Reg::C => S4,
    }
}

fn finish(asm: Asm) -> Verdict<Vec<u8>> {
    asm.finish().map_err(|error| {
        Failure::new(alloc::format!("the suite's own code is wrong: {error}")).into()
    })
}

impl Instructions for Guest {
    fn here(&self) -> u64 {
        (**self).here() // the assembler's
    }

    fn end(&mut self) {
        Guest::end(self);
    }

    fn number(&mut self, into: Reg) {
        self.mv(x(into), A0);
    }

    fn set(&mut self, register: Reg, value: u64) {
        self.li(x(register), value as i64);
    }

    fn add(&mut self, register: Reg, value: u64) {
        self.addi(x(register), x(register), value as i32);
    }

    fn load(&mut self, target: Reg, width: AccessWidth, base: Reg, offset: u64) {
        let load = match width {
            AccessWidth::Byte => Asm::lbu,
            AccessWidth::Word => Asm::lhu,
            AccessWidth::Dword => Asm::lwu,
            AccessWidth::Qword => Asm::ld,
        };
        load(self, x(target), offset as i32, x(base));
    }

    fn store(&mut self, source: Reg, width: AccessWidth, base: Reg, offset: u64) {
        let store = match width {
            AccessWidth::Byte => Asm::sb,
            AccessWidth::Word => Asm::sh,
            AccessWidth::Dword => Asm::sw,
            AccessWidth::Qword => Asm::sd,
        };
        store(self, x(source), offset as i32, x(base));
    }

    fn atomic_add(&mut self, source: Reg, base: Reg) {
        self.amoadd_d(ZERO, x(source), x(base), Order::Relaxed);
    }

    fn report(&mut self, register: Reg) {
        Guest::report(self, x(register));
    }

    /// Uses `t0`.
    fn call(&mut self, address: u64) {
        self.li(T0, address as i64);
        self.jalr(RA, 0, T0);
    }

    fn for_ever(&mut self, body: impl FnOnce(&mut Self)) {
        let again = self.here_label();
        body(self);
        self.j(again);
    }

    /// Uses `s5`.
    fn repeat(&mut self, times: u64, body: impl FnOnce(&mut Self)) {
        self.li(S5, times as i64);
        let again = self.here_label();
        body(self);
        self.addi(S5, S5, -1);
        self.bnez(S5, again);
    }

    fn write_system(&mut self, from: Reg) {
        self.csrw(num::SSCRATCH, x(from));
    }

    fn read_system(&mut self, into: Reg) {
        self.csrr(x(into), num::SSCRATCH);
    }

    /// Uses `t0`.
    fn enable_interrupts(&mut self) {
        // The usual handler, behind what takes a software interrupt back: the others are not pending once they are taken.
        let (start, handler, others) = (self.label(), self.label(), self.label());
        self.j(start);
        self.align(4);
        self.bind(handler);
        self.csrr(A1, num::SCAUSE);
        self.li(A2, (INTERRUPT | irq::SOFTWARE as u64) as i64);
        self.bne(A1, A2, others);
        self.csrrci(ZERO, num::SIP, SSIP);
        self.bind(others);
        self.report_trap();
        self.bind(start);
        self.la(T0, handler);
        self.csrw(num::STVEC, T0);
        Guest::enable_interrupts(self, ALL);
    }

    /// Uses `t0`.
    fn await_interrupt(&mut self) {
        self.li(T0, ALL as i64);
        self.csrw(num::SIE, T0);
        let again = self.here_label();
        Program::wfi(self);
        self.csrr(T0, num::SIP);
        self.beqz(T0, again); // woken for nothing
        self.csrrci(ZERO, num::SIP, SSIP);
    }

    fn count_interrupts(&mut self) {
        self.li(S2, (DATA + 8) as i64);
        Guest::count_interrupts(self);
        Guest::enable_interrupts(self, ALL);
    }

    fn trap_for_ever(&mut self) {
        let (start, handler) = (self.label(), self.label());
        self.j(start);
        self.align(4);
        self.bind(handler);
        self.ebreak();
        self.bind(start);
        self.la(T0, handler);
        self.csrw(num::STVEC, T0);
        self.ebreak();
    }
}

impl Architecture for Riscv {
    const REGISTERS: usize = 32;
    const ZERO: Option<usize> = Some(0);
    const BASE: usize = 31;
    const SPARE: usize = 31;
    const VECTORS: [usize; 3] = [irq::SOFTWARE, irq::TIMER, irq::EXTERNAL];

    fn gpr(register: Reg) -> usize {
        x(register).number().into()
    }

    fn store_registers() -> Verdict<Vec<u8>> {
        let mut asm = Asm::new(CODE);
        for register in registers() {
            asm.sd(register, 8 * i32::from(register.number()), T6);
        }
        asm.li(A7, END as i64);
        asm.ecall();
        finish(asm)
    }

    fn function(value: u64) -> Verdict<Vec<u8>> {
        let mut asm = Asm::new(0);
        asm.li(x(Reg::A), value as i64);
        asm.ret();
        finish(asm)
    }

    fn interrupt(trap: &Trap) -> Option<usize> {
        (trap.cause & INTERRUPT != 0).then_some(trap.cause as u8 as usize)
    }

    fn step_over<A: AxArchVCpu>(vcpu: &AxVCpu<A>, trap: &Trap) -> Verdict {
        Ok(vcpu.set_return_value(trap.epc + 4)?)
    }
}
