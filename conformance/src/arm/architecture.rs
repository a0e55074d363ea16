//! AArch64 as an architecture of the generic suite, so that its cases are tried on one that exists.

use alloc::vec::Vec;

use axvcpu::{AccessKind, AccessWidth, AxArchVCpu, AxVCpu};
use axvcpu_arm::asm::*;

use super::bench::{Arm, Trap};
use super::guest::*;
use super::paging::{SCTLR, bits};
use crate::generic::{Architecture, Atomic, Instructions, Reg};
use crate::report::Verdict;

/// Shared interrupts, next to each other.
const VECTORS: [usize; 3] = [33, 34, 35];

/// Where the vectors keep the registers that a report is prepared in, once interrupts are let in: `x11` to `x17`.
const KEPT: u8 = 11;

/// Registers that neither the vectors nor calls to the suite use.
fn x(register: Reg) -> X {
    match register {
        Reg::A => X23,
        Reg::B => X24,
        Reg::C => X25,
    }
}

impl Guest {
    /// Switches translation on, with every address as it is and memory normal, in a table within the program: only there
    /// exclusive accesses are sure to work (Arm ARM, "Synchronization and semaphores"). Does nothing the second time: a guest
    /// that forgets its translations would hide a hypervisor that does not. Uses `x9`.
    fn make_memory_normal(&mut self) {
        /// `TCR_EL1`: 32 bits, of which the table's 4 entries have one GiB each; walks cacheable and inner shareable, no
        /// upper half, 40 bits of physical address.
        const TCR: u64 = 32 | 1 << 8 | 1 << 10 | 3 << 12 | 1 << 23 | 2 << 32;
        const WRITE_BACK: u64 = 0xff << 8;
        let (start, table, done) = (self.label(), self.label(), self.label());
        self.mrs(X9, sys::SCTLR_EL1);
        self.tbnz(X9, 0, done);
        self.b(start);
        self.align(64);
        self.bind(table);
        for gigabyte in 0..4 {
            self.quad(gigabyte << 30 | bits::NORMAL | bits::VALID);
        }
        self.bind(start);
        self.set_sys(sys::MAIR_EL1, WRITE_BACK);
        self.set_sys(sys::TCR_EL1, TCR);
        self.la(X9, table);
        self.msr(sys::TTBR0_EL1, X9);
        self.tlbi_vmalle1();
        self.dsb_ish();
        self.isb();
        self.set_sys(sys::SCTLR_EL1, SCTLR | 1 << 12 | 1 << 2 | 1);
        self.isb();
        self.bind(done);
    }
}

impl Instructions for Guest {
    fn here(&self) -> u64 {
        (**self).here() // the assembler's
    }

    fn end(&mut self) {
        Guest::end(self);
    }

    fn number(&mut self, into: Reg) {
        self.mov(x(into), X0);
    }

    fn set(&mut self, register: Reg, value: u64) {
        self.li(x(register), value);
    }

    fn add(&mut self, register: Reg, value: u64) {
        self.add_imm(x(register), x(register), value as u32);
    }

    fn load(&mut self, target: Reg, width: AccessWidth, base: Reg, offset: u64) {
        let load = match width {
            AccessWidth::Byte => Asm::ldurb,
            AccessWidth::Word => Asm::ldurh,
            AccessWidth::Dword => Asm::ldur_w,
            AccessWidth::Qword => Asm::ldur,
        };
        load(self, x(target), x(base), offset as i32);
    }

    fn store(&mut self, source: Reg, width: AccessWidth, base: Reg, offset: u64) {
        let store = match width {
            AccessWidth::Byte => Asm::sturb,
            AccessWidth::Word => Asm::sturh,
            AccessWidth::Dword => Asm::stur_w,
            AccessWidth::Qword => Asm::stur,
        };
        store(self, x(source), x(base), offset as i32);
    }

    /// With exclusive accesses, because not every CPU has atomic instructions. Uses `x9`, `x10` and `x18`.
    fn atomic_add(&mut self, source: Reg, base: Reg) {
        self.make_memory_normal();
        let done = self.label();
        let again = self.here_label();
        // The vectors leave something else there: whoever finds it has been sent here behind a load that failed.
        self.li(X18, 0);
        self.ldxr(X9, x(base));
        self.cbnz(X18, done);
        (**self).add(X9, X9, x(source)); // the assembler's
        self.stxr(X10, X9, x(base));
        self.cbnz(X10, again);
        self.bind(done);
    }

    fn report(&mut self, register: Reg) {
        Guest::report(self, x(register));
    }

    /// Uses `x9`.
    fn call(&mut self, address: u64) {
        self.li(X9, address);
        self.blr(X9);
    }

    fn for_ever(&mut self, body: impl FnOnce(&mut Self)) {
        let again = self.here_label();
        body(self);
        self.b(again);
    }

    /// Uses `x26`.
    fn repeat(&mut self, times: u64, body: impl FnOnce(&mut Self)) {
        self.li(X26, times);
        let again = self.here_label();
        body(self);
        self.sub_imm(X26, X26, 1);
        self.cbnz(X26, again);
    }

    fn write_system(&mut self, from: Reg) {
        self.msr(sys::TPIDR_EL1, x(from));
    }

    fn read_system(&mut self, into: Reg) {
        self.mrs(x(into), sys::TPIDR_EL1);
    }

    /// Uses `x9`.
    fn enable_interrupts(&mut self) {
        let (start, vectors) = (self.label(), self.label());
        self.b(start);
        self.write_vectors(vectors, Some(KEPT));
        self.bind(start);
        self.set_vectors(vectors);
        Guest::enable_interrupts(self);
    }

    /// Uses `x9` and `x10`.
    fn await_interrupt(&mut self) {
        self.gic_on();
        let again = self.here_label();
        Program::wfi(self);
        self.mrs(X10, sys::ICC_IAR1_EL1);
        self.cmp_imm(X10, VECTORS[0] as u32);
        self.b_cond(Cond::Ne, again); // woken for nothing
        self.msr(sys::ICC_EOIR1_EL1, X10);
    }

    fn count_interrupts(&mut self) {
        self.li(X19, DATA + 8 - 8 * VECTORS[0] as u64);
        Guest::count_interrupts(self);
        Guest::enable_interrupts(self);
    }

    fn trap_for_ever(&mut self) {
        let (start, table) = (self.label(), self.label());
        self.b(start);
        self.table(table, |g, _| g.udf(0));
        self.bind(start);
        self.set_vectors(table);
        self.udf(0);
    }
}

impl Architecture for Arm {
    const REGISTERS: usize = 32;
    const ZERO: Option<usize> = Some(31);
    const BASE: usize = 30;
    const SPARE: usize = 28;
    const VECTORS: [usize; 3] = VECTORS;
    // A load comes first.
    const ATOMIC: Atomic = Atomic::Fault(AccessKind::Read);

    fn gpr(register: Reg) -> usize {
        x(register).number().into()
    }

    fn store_registers() -> Verdict<Vec<u8>> {
        let mut asm = Asm::new(CODE);
        for register in registers().filter(|&register| register != X30) {
            asm.str(register, X30, 8 * u32::from(register.number()));
        }
        asm.li(X0, END);
        asm.hvc(0);
        finish(asm)
    }

    fn function(value: u64) -> Verdict<Vec<u8>> {
        let mut asm = Asm::new(0);
        asm.li(x(Reg::A), value);
        asm.ret();
        finish(asm)
    }

    fn interrupt(trap: &Trap) -> Option<usize> {
        matches!(trap.vector, vector::IRQ | vector::USER_IRQ).then_some(trap.intid as usize)
    }

    fn step_over<A: AxArchVCpu>(vcpu: &AxVCpu<A>, trap: &Trap) -> Verdict {
        Ok(vcpu.set_return_value(trap.elr + 4)?)
    }
}
