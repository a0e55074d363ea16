//! How the suite's guests are written.

use alloc::vec::Vec;
use core::ops::{Deref, DerefMut};

use axvcpu_riscv::asm::*;
use axvcpu_riscv::csr::num;

pub(super) use crate::bench::{Program, pattern};
use crate::report::{Failure, Verdict};

/// Where guests start.
pub(super) const CODE: u64 = 0x8000_0000;
/// How much there is of code.
pub(super) const CODE_PAGES: u64 = 16;
/// Two pages of data, readable and writable.
pub(super) const DATA: u64 = 0x8010_0000;
/// How much there is of data.
pub(super) const DATA_PAGES: u64 = 2;
/// Addresses at which there is nothing.
pub(super) const DEVICE: u64 = 0x1000_0000;

// Environment calls by which guests talk to the suite: in the extension space that SBI leaves to firmware.
/// `a0` is a value.
pub(super) const REPORT: u64 = 0x0a00_0001;
/// A trap was taken: `a1..a5` are `scause`, `sepc`, `stval`, `sstatus`, `sip`; the answer, unless 0, is where to
/// go on.
pub(super) const TRAP: u64 = 0x0a00_0002;
/// The program is over.
pub(super) const END: u64 = 0x0a00_0003;

/// A guest program: [`Asm`] with a trap handler that reports every trap with [`TRAP`].
///
/// The handler keeps no register: after a trap `a0..a5` and `a7` are not what they were.
pub struct Guest {
    asm: Asm,
    handler: Label,
}

impl Deref for Guest {
    type Target = Asm;
    fn deref(&self) -> &Asm {
        &self.asm
    }
}

impl DerefMut for Guest {
    fn deref_mut(&mut self) -> &mut Asm {
        &mut self.asm
    }
}

impl Guest {
    fn write_handler(&mut self) {
        self.asm.align(4);
        self.asm.bind(self.handler);
        self.report_trap();
    }

    /// Reports the trap, and goes on where the answer says if there is one: the end of a handler.
    pub(super) fn report_trap(&mut self) {
        for (register, csr) in [
            (A1, num::SCAUSE),
            (A2, num::SEPC),
            (A3, num::STVAL),
            (A4, num::SSTATUS),
            (A5, num::SIP),
        ] {
            self.csrr(register, csr);
        }
        let back = self.label();
        self.li(A0, 0);
        self.call_host(TRAP);
        self.beqz(A0, back);
        self.csrw(num::SEPC, A0);
        self.bind(back);
        self.sret();
    }

    fn call_host(&mut self, nr: u64) {
        self.li(A7, nr as i64);
        self.ecall();
    }

    /// Reports the value of a register. Uses `a0` and `a7`.
    pub(super) fn report(&mut self, register: X) {
        if register != A0 {
            self.mv(A0, register);
        }
        self.call_host(REPORT);
    }

    /// Reports a CSR.
    pub(super) fn report_csr(&mut self, csr: u16) {
        self.csrr(A0, csr);
        self.call_host(REPORT);
    }

    /// Ends the program, for ever.
    pub(super) fn end(&mut self) {
        let again = self.here_label();
        self.call_host(END);
        self.j(again);
    }

    /// Enables these interrupts (bits of `sie`) and lets them in. Uses `t0`.
    pub(super) fn enable_interrupts(&mut self, sie: u64) {
        self.li(T0, sie as i64);
        self.csrw(num::SIE, T0);
        self.csrrsi(ZERO, num::SSTATUS, 2);
    }

    /// Stores a register at a data address. Uses `t0`, which can therefore not be stored.
    pub(super) fn save(&mut self, register: X, address: u64) {
        self.li(T0, address as i64);
        self.sd(register, 0, T0);
    }

    /// Replaces the trap handler by one that never leaves the guest: it adds 1 to the word at `s2` for a
    /// software interrupt, which it clears, at `s2 + 8` for a timer's, at `s2 + 16` for an external one. Uses
    /// `t0` now, and `t3` to `t6` with each interrupt.
    pub(super) fn count_interrupts(&mut self) {
        let (start, handler) = (self.label(), self.label());
        let vectors = [(1, 0), (5, 8), (9, 16)];
        self.j(start);
        self.align(4);
        self.bind(handler);
        self.csrr(T3, num::SCAUSE);
        self.andi(T3, T3, 15);
        for (code, offset) in vectors {
            let next = self.label();
            self.li(T4, code);
            self.bne(T3, T4, next);
            if code == 1 {
                self.csrrci(ZERO, num::SIP, 2);
            }
            self.addi(T5, S2, offset);
            self.li(T6, 1);
            self.amoadd_d(ZERO, T6, T5, Order::Relaxed);
            self.bind(next);
        }
        self.sret();
        self.bind(start);
        self.la(T0, handler);
        self.csrw(num::STVEC, T0);
    }
}

impl Program for Guest {
    /// Uses `t0` to install the handler.
    fn assemble(body: impl FnOnce(&mut Self)) -> Verdict<Vec<u8>> {
        let mut asm = Asm::new(CODE);
        let handler = asm.label();
        let mut guest = Self { asm, handler };
        guest.la(T0, handler);
        guest.csrw(num::STVEC, T0);
        body(&mut guest);
        guest.end();
        guest.write_handler();
        guest.asm.finish().map_err(|error| {
            Failure::new(alloc::format!("the suite's own guest is wrong: {error}")).into()
        })
    }

    fn mark(&mut self, number: u64) {
        self.li(A0, number as i64);
        self.call_host(REPORT);
    }

    fn wfi(&mut self) {
        self.asm.wfi();
    }

    fn wait_for_ever(&mut self) {
        let again = self.here_label();
        self.wfi();
        self.j(again);
    }

    /// Uses `s0` and `s1`.
    fn report_for_ever(&mut self, address: u64) {
        self.li(S0, address as i64);
        let again = self.here_label();
        self.ld(S1, 0, S0);
        self.report(S1);
        self.j(again);
    }

    /// Uses `t0` and `t1`.
    fn count_for_ever(&mut self) {
        self.li(T0, DATA as i64);
        let again = self.here_label();
        self.ld(T1, 0, T0);
        self.addi(T1, T1, 1);
        self.sd(T1, 0, T0);
        self.j(again);
    }
}

/// Every integer register that can hold a value.
pub(super) fn registers() -> impl Iterator<Item = X> {
    (1..32).filter_map(X::new)
}
