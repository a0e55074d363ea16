//! How the suite's guests are written.

use alloc::vec::Vec;
use core::ops::{Deref, DerefMut};

use axvcpu_arm::asm::*;
pub(super) use axvcpu_arm::sysreg as sys;

pub(super) use crate::bench::{Program, pattern};
use crate::report::{Failure, Verdict};

/// Where guests start.
pub(super) const CODE: u64 = 0x4000_0000;
/// How much there is of code.
pub(super) const CODE_PAGES: u64 = 24;
/// Data, readable and writable.
pub(super) const DATA: u64 = 0x4010_0000;
/// How much there is of data.
pub(super) const DATA_PAGES: u64 = 2;
/// Addresses at which there is nothing.
pub(super) const DEVICE: u64 = 0x0a00_0000;

// Calls by which guests talk to the suite: fast calls of 64 bits, among those of vendors' hypervisors (SMCCC, chapter 6).
/// `x1` is a value.
pub(super) const REPORT: u64 = 0xc600_0001;
/// An exception was taken: `x1..x6` are the vector's number, `ESR_EL1`, `ELR_EL1`, `FAR_EL1`, `SPSR_EL1` and the INTID; the
/// answer, if there is one, is where to go on.
pub(super) const TRAP: u64 = 0xc600_0002;
/// The program is over.
pub(super) const END: u64 = 0xc600_0003;

/// Numbers of vectors: their offsets from `VBAR_EL1`, divided by 0x80 (Arm ARM, D1.3.1.2).
pub(super) mod vector {
    /// A synchronous exception of EL1 with its own stack pointer.
    pub(crate) const SYNC: u64 = 4;
    /// An interrupt there.
    pub(crate) const IRQ: u64 = 5;
    /// A synchronous exception of EL0.
    pub(crate) const USER_SYNC: u64 = 8;
    /// An interrupt there.
    pub(crate) const USER_IRQ: u64 = 9;
}

/// Exception classes (Arm ARM, D24.2.37).
pub(super) mod class {
    /// An undefined instruction.
    pub(crate) const UNKNOWN: u64 = 0;
    /// Floating point that is switched off.
    pub(crate) const FP: u64 = 0x07;
    /// `SVC`.
    pub(crate) const SVC: u64 = 0x15;
    /// A fetch that failed.
    pub(crate) const FETCH: u64 = 0x21;
    /// A data access that failed.
    pub(crate) const DATA: u64 = 0x25;
    /// `BRK`.
    pub(crate) const BRK: u64 = 0x3c;
}

/// Bits of PSTATE.
pub(super) mod pstate {
    /// All of D, A, I and F.
    pub(crate) const DAIF: u64 = 0xf << 6;
    /// Interrupts are masked.
    pub(crate) const I: u64 = 1 << 7;
    /// EL1 with its own stack pointer.
    pub(crate) const EL1H: u64 = 5;
    /// The exception level and the stack pointer.
    pub(crate) const MODE: u64 = 0x1f;
}

/// A guest program: [`Asm`] with vectors that report everything they are called for with [`TRAP`].
///
/// The vectors keep no register of `x0..x6`. They acknowledge an interrupt before they report it, and end it after.
pub struct Guest {
    asm: Asm,
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

/// The bytes of a program of the suite's.
pub(super) fn finish(asm: Asm) -> Verdict<Vec<u8>> {
    asm.finish().map_err(|error| {
        Failure::new(alloc::format!("the suite's own guest is wrong: {error}")).into()
    })
}

impl Guest {
    /// The vectors, at a label. They use `x0` to `x6`; with `spare` they keep these and use that many registers from there
    /// on instead. In any case `x18` is not 0 behind what was no interrupt.
    pub(super) fn write_vectors(&mut self, vectors: Label, spare: Option<u8>) {
        let (common, interrupt, call, back) =
            (self.label(), self.label(), self.label(), self.label());
        let kept = move || {
            let spare = spare.into_iter().flat_map(|first| (first..).filter_map(X::new));
            spare.zip((0..7).filter_map(X::new))
        };
        self.table(vectors, |g, number| {
            for (spare, used) in kept() {
                g.mov(spare, used);
            }
            g.movz(X1, number, 0);
            let is_interrupt = number % 4 == 1;
            g.b(if is_interrupt { interrupt } else { common });
        });
        self.bind(common);
        self.li(X6, 1023); // no interrupt
        self.mov(X18, X6);
        self.b(call);
        self.bind(interrupt);
        self.mrs(X6, sys::ICC_IAR1_EL1);
        self.bind(call);
        self.mrs(X2, sys::ESR_EL1);
        self.mrs(X3, sys::ELR_EL1);
        self.mrs(X4, sys::FAR_EL1);
        self.mrs(X5, sys::SPSR_EL1);
        self.call_host(TRAP);
        // Without an answer it is still what it was.
        self.li(X5, TRAP);
        self.cmp(X0, X5);
        self.b_cond(Cond::Eq, back);
        self.msr(sys::ELR_EL1, X0);
        self.bind(back);
        let done = self.label();
        self.cmp_imm(X6, 1020);
        self.b_cond(Cond::Hs, done);
        self.msr(sys::ICC_EOIR1_EL1, X6);
        self.bind(done);
        for (spare, used) in kept() {
            self.mov(used, spare);
        }
        self.eret();
    }

    /// A table of vectors at `label`, each with up to 32 instructions of `entry`.
    pub(super) fn table(&mut self, label: Label, entry: impl Fn(&mut Self, u32)) {
        self.asm.align(0x800);
        self.asm.bind(label);
        for number in 0..16 {
            self.asm.align(0x80);
            entry(self, number);
        }
        self.asm.align(0x80);
    }

    /// Exchanges the vectors for those at a label. Uses `x9`.
    pub(super) fn set_vectors(&mut self, label: Label) {
        self.la(X9, label);
        self.msr(sys::VBAR_EL1, X9);
        self.isb();
    }

    fn call_host(&mut self, nr: u64) {
        self.li(X0, nr);
        self.hvc(0);
    }

    /// Reports the value of a register. Uses `x0` and `x1`.
    pub(super) fn report(&mut self, register: X) {
        if register != X1 {
            self.mov(X1, register);
        }
        self.call_host(REPORT);
    }

    /// Reports a system register.
    pub(super) fn report_sys(&mut self, register: u16) {
        self.mrs(X1, register);
        self.call_host(REPORT);
    }

    /// Writes a constant to a system register. Uses `x9`.
    pub(super) fn set_sys(&mut self, register: u16, value: u64) {
        self.li(X9, value);
        self.msr(register, X9);
    }

    /// Ends the program, for ever.
    pub(super) fn end(&mut self) {
        let again = self.here_label();
        self.call_host(END);
        self.b(again);
    }

    /// Switches the CPU interface on: every priority, group 1. Uses `x9`.
    pub(super) fn gic_on(&mut self) {
        self.set_sys(sys::ICC_SRE_EL1, 7);
        self.isb();
        self.set_sys(sys::ICC_PMR_EL1, 0xff);
        self.set_sys(sys::ICC_BPR1_EL1, 0);
        self.set_sys(sys::ICC_IGRPEN1_EL1, 1);
        self.isb();
    }

    /// The same, and lets interrupts in.
    pub(super) fn enable_interrupts(&mut self) {
        self.gic_on();
        self.daifclr(2);
    }

    /// Switches floating point on. Uses `x9`.
    pub(super) fn float_on(&mut self) {
        self.set_sys(sys::CPACR_EL1, 3 << 20);
        self.isb();
    }

    /// Stores a register at a data address. Uses `x9`, or `x10` if that is the register.
    pub(super) fn save(&mut self, register: X, address: u64) {
        let base = if register == X9 { X10 } else { X9 };
        self.li(base, address);
        self.str(register, base, 0);
    }

    /// Goes to the instruction behind this at EL0, with interrupts let in. Uses `x9`.
    pub(super) fn go_user(&mut self) {
        let user = self.label();
        self.la(X9, user);
        self.msr(sys::ELR_EL1, X9);
        self.msr(sys::SPSR_EL1, XZR);
        self.eret();
        self.bind(user);
    }

    /// Replaces the vectors by ones that never leave the guest: they end the interrupt and add 1 to the word at `x19`
    /// plus 8 for each of its number. Uses `x9` now, and `x20` to `x22` with each interrupt.
    pub(super) fn count_interrupts(&mut self) {
        let (start, table) = (self.label(), self.label());
        self.b(start);
        self.table(table, |g, number| {
            if number == 5 || number == 9 {
                g.mrs(X20, sys::ICC_IAR1_EL1);
                g.lsl(X21, X20, 3);
                g.ldr_reg(X22, X19, X21);
                g.add_imm(X22, X22, 1);
                g.str_reg(X22, X19, X21);
                g.msr(sys::ICC_EOIR1_EL1, X20);
                g.eret();
            } else {
                g.mark(0xbad0 + u64::from(number));
            }
        });
        self.bind(start);
        self.set_vectors(table);
    }
}

impl Program for Guest {
    /// Uses `x9` to install the vectors.
    fn assemble(body: impl FnOnce(&mut Self)) -> Verdict<Vec<u8>> {
        let mut guest = Self { asm: Asm::new(CODE) };
        let vectors = guest.label();
        guest.la(X9, vectors);
        guest.msr(sys::VBAR_EL1, X9);
        guest.isb();
        body(&mut guest);
        guest.end();
        guest.write_vectors(vectors, None);
        finish(guest.asm)
    }

    fn mark(&mut self, number: u64) {
        self.li(X1, number);
        self.call_host(REPORT);
    }

    fn wfi(&mut self) {
        self.asm.wfi();
    }

    fn wait_for_ever(&mut self) {
        let again = self.here_label();
        self.wfi();
        self.b(again);
    }

    /// Uses `x19` and `x20`.
    fn report_for_ever(&mut self, address: u64) {
        self.li(X19, address);
        let again = self.here_label();
        self.ldr(X20, X19, 0);
        self.report(X20);
        self.b(again);
    }

    /// Uses `x9` and `x10`.
    fn count_for_ever(&mut self) {
        self.li(X9, DATA);
        let again = self.here_label();
        self.ldr(X10, X9, 0);
        self.add_imm(X10, X10, 1);
        self.str(X10, X9, 0);
        self.b(again);
    }
}

/// Every general-purpose register that can hold a value.
pub(super) fn registers() -> impl Iterator<Item = X> {
    (0..31).filter_map(X::new)
}

/// All registers of SIMD and floating point.
pub(super) fn float_registers() -> impl Iterator<Item = V> {
    (0..32).filter_map(V::new)
}
