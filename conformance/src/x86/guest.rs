//! How the suite's guests are written.

use alloc::vec::Vec;
use core::ops::{Deref, DerefMut};

use axvcpu_x86::asm::*;
use axvcpu_x86::start::{CODE64, GDT, Mode, Start};

pub(super) use crate::bench::{Program, pattern};
use crate::report::{Failure, Verdict};

/// Where guests start.
pub(super) const CODE: u64 = 0x10_0000;
/// How much there is of code.
pub(super) const CODE_PAGES: u64 = 32;
/// Data, readable and writable.
pub(super) const DATA: u64 = 0x20_0000;
/// How much there is of data.
pub(super) const DATA_PAGES: u64 = 4;
/// Addresses at which there is nothing.
pub(super) const DEVICE: u64 = 0xd000_0000;

/// What every guest needs: descriptor tables, the task state, stacks.
pub(super) const SYSTEM: u64 = 0x80_0000;
/// How much that is.
pub(super) const SYSTEM_PAGES: u64 = 8;
/// The descriptors the vCPU starts with.
pub(super) const START_GDT: u64 = SYSTEM;
/// Those that the guest loads.
pub(super) const GUEST_GDT: u64 = SYSTEM + 0x100;
/// The operands of `lgdt` and `lidt`.
pub(super) const GDTR: u64 = SYSTEM + 0x200;
pub(super) const IDTR: u64 = SYSTEM + 0x210;
/// The task state.
pub(super) const TSS: u64 = SYSTEM + 0x300;
/// The interrupt descriptors.
pub(super) const IDT: u64 = SYSTEM + 0x1000;
/// Stacks, a page each, from the end of the first on.
pub(super) const STACK: u64 = SYSTEM + 0x3000;
/// How many there are.
pub(super) const STACKS: u64 = 4;
/// Where programs of CPL 3 have theirs.
pub(super) const USER_STACK: u64 = SYSTEM + SYSTEM_PAGES * 0x1000;
/// The page tables.
pub(super) const TABLES: u64 = 0x81_0000;
/// How much that is: the root, a table for all GiB, and one for each of four.
pub(super) const TABLE_PAGES: u64 = 6;
/// The handlers of exceptions and interrupts: one every 16 bytes.
pub(super) const HANDLERS: u64 = 0x82_0000;
/// How much that is.
pub(super) const HANDLER_PAGES: u64 = 2;

/// How guests start.
pub(super) const START: Start = Start { mode: Mode::Long, gdt: START_GDT, cr3: TABLES };

/// The descriptors of a guest that has programs: those it starts with, and code and data of CPL 3 in the order in which
/// SYSRET wants them.
pub(super) const DESCRIPTORS: [u64; 10] = [
    GDT[0],
    GDT[1],
    GDT[2],
    GDT[3],
    GDT[4],
    // An available task state (SDM volume 3, 9.2.3), of the first 4 GiB.
    0x0000_8900_0000_0067 | (TSS & 0xff_ffff) << 16 | (TSS >> 24 & 0xff) << 56,
    0,
    0x00cf_fb00_0000_ffff,
    0x00cf_f300_0000_ffff,
    0x00af_fb00_0000_ffff,
];
/// The selector from which SYSRET counts.
pub(super) const USER_BASE: u64 = 0x3b;
/// The data of programs.
pub(super) const USER_DATA: u16 = 0x43;
/// The code of programs.
pub(super) const USER_CODE: u16 = 0x4b;

/// The port through which guests talk to the suite: `eax` is the number of the call, and `rbx`, `rcx`, `rdx`, `rsi`, `rdi`
/// and `r8` are its arguments.
pub(super) const PORT: u8 = 0xe4;
/// `rbx` is a value.
pub(super) const REPORT: u64 = 0x0a00_0001;
/// An exception or an interrupt was taken: the arguments are the vector, the error code, RIP, CR2, RFLAGS and CS; what the
/// suite writes to `rax` is where to go on.
pub(super) const TRAP: u64 = 0x0a00_0002;
/// The program is over.
pub(super) const END: u64 = 0x0a00_0003;

/// Vectors (SDM volume 3, table 7-1).
pub(super) mod vector {
    /// Divide error.
    pub(crate) const DE: u64 = 0;
    /// Debug exception.
    pub(crate) const DB: u64 = 1;
    /// The NMI.
    pub(crate) const NMI: u64 = 2;
    /// Breakpoint.
    pub(crate) const BP: u64 = 3;
    /// Undefined opcode.
    pub(crate) const UD: u64 = 6;
    /// General protection.
    pub(crate) const GP: u64 = 13;
    /// Page fault.
    pub(crate) const PF: u64 = 14;
}

/// A guest program: [`Asm`] with handlers that report everything they are called for with [`TRAP`].
pub struct Guest {
    asm: Asm,
    /// Before each report the guest [passes time](Guest::pass), for interrupts that should come before it.
    pub(super) passes: bool,
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

/// An address below 2 GiB as an operand.
pub(super) fn at(address: u64) -> Mem {
    abs(address as i32)
}

/// Calls the suite. Uses `rax`.
pub(super) fn call_host(asm: &mut Asm, nr: u64) {
    asm.li(RAX, nr);
    asm.out_imm(PORT, EAX);
}

/// The handlers, for [`HANDLERS`]. They keep every register.
pub(super) fn handlers() -> Verdict<Vec<u8>> {
    let mut a = Asm::new(HANDLERS);
    let common = a.label();
    for vector in 0..256u32 {
        a.align(16);
        // Those that push an error code (SDM volume 3, table 7-1).
        if !matches!(vector, 8 | 10..=14 | 17 | 21 | 29 | 30) {
            a.push(0);
        }
        a.push(vector);
        a.jmp(common);
    }
    a.bind(common);
    let saved = [RAX, RBX, RCX, RDX, RSI, RDI, R8];
    for register in saved {
        a.push(register);
    }
    let frame = mem(RSP) + 8 * saved.len() as i32;
    a.mov(RBX, frame);
    a.mov(RCX, frame + 8);
    a.mov(RDX, frame + 16);
    a.mov_from_cr(RSI, 2);
    a.mov(RDI, frame + 32);
    a.mov(R8, frame + 24);
    call_host(&mut a, TRAP);
    let back = a.label();
    a.cmp(RAX, TRAP as u32);
    a.jcc(Cond::E, back);
    a.mov(frame + 16, RAX);
    a.bind(back);
    for register in saved.into_iter().rev() {
        a.pop(register);
    }
    a.add(RSP, 16);
    a.iretq();
    finish(a)
}

/// The bytes of a program of the suite's.
pub(super) fn finish(asm: Asm) -> Verdict<Vec<u8>> {
    asm.finish().map_err(|error| {
        Failure::new(alloc::format!("the suite's own guest is wrong: {error}")).into()
    })
}

/// The two halves of an interrupt gate of 64 bits (SDM volume 3, 7.14.1), for programs too.
pub(super) fn gate(handler: u64) -> [u64; 2] {
    let low =
        handler & 0xffff | u64::from(CODE64) << 16 | 0xee00 << 32 | (handler >> 16 & 0xffff) << 48;
    [low, handler >> 32]
}

impl Guest {
    /// Reports the value of a register. Uses `rax` and `rbx`.
    pub(super) fn report(&mut self, register: Reg) {
        if register != RBX {
            self.mov(RBX, register);
        }
        call_host(self, REPORT);
    }

    /// Reports a control register. Uses `rax` and `rbx`.
    pub(super) fn report_cr(&mut self, number: u8) {
        self.mov_from_cr(RBX, number);
        call_host(self, REPORT);
    }

    /// Reports a model-specific register. Uses `rax` to `rdx`.
    pub(super) fn report_msr(&mut self, msr: u32) {
        self.li(RCX, msr.into());
        self.rdmsr();
        self.shl(RDX, 32);
        self.mov(EBX, EAX);
        self.or(RBX, RDX);
        call_host(self, REPORT);
    }

    /// Writes a model-specific register. Uses `rax`, `rcx` and `rdx`.
    pub(super) fn set_msr(&mut self, msr: u32, value: u64) {
        self.li(RCX, msr.into());
        self.li(RAX, value & 0xffff_ffff);
        self.li(RDX, value >> 32);
        self.wrmsr();
    }

    /// Ends the program, for ever.
    pub(super) fn end(&mut self) {
        let again = self.here_label();
        call_host(self, END);
        self.jmp(again);
    }

    /// Passes the time that it takes what is below a backend to notice that interrupts are let in: an emulator looks once in
    /// a while. Uses `rax`.
    pub(super) fn pass(&mut self) {
        self.li(RAX, 2000);
        let again = self.here_label();
        self.dec(EAX);
        self.jcc_short(Cond::Ne, again);
    }

    /// Loads the address of a label.
    pub(super) fn la(&mut self, register: Reg, label: Label) {
        self.lea(register, rip(label));
    }

    /// Replaces the handler of a vector by one at a label. Uses `rax`.
    pub(super) fn set_handler(&mut self, vector: u64, label: Label) {
        let gate = IDT + 16 * vector;
        self.la(RAX, label);
        // Handlers are below 4 GiB: the rest of the gate stays.
        self.mov(at(gate), AX);
        self.shr(EAX, 16);
        self.mov(at(gate + 6), AX);
    }

    /// Goes to the instruction behind this at CPL 3, with these flags. It cannot report, but [`ud2`](Asm::ud2) traps. Uses
    /// `rax`.
    pub(super) fn go_user(&mut self, flags: u64) {
        self.li(RAX, STACK);
        self.mov(at(TSS + 4).of(Width::Qword), RAX); // RSP0
        // Available, if it was loaded before.
        self.and(at(GUEST_GDT + 5 * 8 + 5).of(Width::Byte), 0xfd);
        self.li(RAX, 0x28);
        self.ltr(AX);
        let user = self.label();
        self.push(u32::from(USER_DATA));
        self.push(USER_STACK as u32);
        self.push(flags as u32);
        self.push(u32::from(USER_CODE));
        self.la(RAX, user);
        self.push(RAX);
        self.iretq();
        self.bind(user);
    }

    /// Replaces handlers by ones that never leave the guest: for each of these vectors they add 1 to the next word from
    /// `address` on. Uses `rax` now, and nothing with an interrupt.
    pub(super) fn count_interrupts(&mut self, vectors: &[usize], address: u64) {
        let start = self.label();
        self.jmp(start);
        let mut handlers = Vec::new();
        for (&vector, word) in vectors.iter().zip((address..).step_by(8)) {
            handlers.push((vector, self.here_label()));
            self.lock().inc(at(word).of(Width::Qword));
            self.iretq();
        }
        self.bind(start);
        for (vector, label) in handlers {
            self.set_handler(vector as u64, label);
        }
    }
}

impl Program for Guest {
    /// Uses `rsp` only.
    fn assemble(body: impl FnOnce(&mut Self)) -> Verdict<Vec<u8>> {
        let mut guest = Self { asm: Asm::new(CODE), passes: false };
        guest.lgdt(at(GDTR));
        guest.lidt(at(IDTR));
        // A stack for each vCPU.
        guest.mov(ESP, EDI);
        guest.and(ESP, STACKS as u32 - 1);
        guest.shl(ESP, 12);
        guest.add(ESP, STACK as u32);
        body(&mut guest);
        guest.end();
        finish(guest.asm)
    }

    fn mark(&mut self, number: u64) {
        if self.passes {
            self.pass();
        }
        self.li(RBX, number);
        call_host(self, REPORT);
    }

    fn wfi(&mut self) {
        self.hlt();
    }

    fn wait_for_ever(&mut self) {
        let again = self.here_label();
        self.hlt();
        self.jmp(again);
    }

    fn report_for_ever(&mut self, address: u64) {
        let again = self.here_label();
        self.li(RSI, address);
        self.mov(RBX, mem(RSI));
        call_host(self, REPORT);
        self.jmp(again);
    }

    fn count_for_ever(&mut self) {
        let again = self.here_label();
        self.inc(at(DATA).of(Width::Qword));
        self.jmp(again);
    }
}

/// Every general-purpose register of a width.
pub(super) fn registers(width: Width) -> impl Iterator<Item = Reg> + Clone {
    (0..16).filter_map(move |number| Reg::new(number, width))
}
