//! How guests for the toy architecture are written: all that the conformance suite has to know of it.

use axvcpu::AccessWidth::{self, Qword};
use axvcpu::{AxArchVCpu, AxVCpu};
use axvcpu_conformance::generic::{Architecture, Instructions, Isa, Program, Reg, Verdict};
use axvcpu_riscv::paging::Mode;
use axvcpu_toy::isa::{REGISTERS, cause, encode, op, sys};

/// The architecture.
pub(crate) struct Toy;

const CODE: u64 = 0x8000_0000;
const DATA: u64 = 0x8010_0000;

const REPORT: u16 = 1;
const TRAP: u16 = 2;
const END: u16 = 3;

// Registers 1 to 6 are the arguments of calls to the suite. Of the others:
const NUMBER: usize = 7;
const COUNTER: usize = 12;
const LINK: usize = 13;
const TEMP: usize = 14;
pub(crate) const BASE: usize = 15;

// ANCHOR: assembler
/// An assembler, and a guest program in the making.
pub(crate) struct Asm {
    start: u64,
    words: Vec<u32>,
}

impl Asm {
    fn new(start: u64) -> Self {
        Self { start, words: Vec::new() }
    }

    pub(crate) fn put(&mut self, op: u32, rd: usize, rs: usize, n: u16) {
        self.words.push(encode(op, rd, rs, n));
    }

    /// Appends an instruction as it is.
    pub(crate) fn word(&mut self, word: u32) {
        self.words.push(word);
    }

    fn bytes(&self) -> Vec<u8> {
        self.words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    pub(crate) fn load_number(&mut self, rd: usize, value: u64) {
        self.put(op::SET, rd, 0, value as u16);
        if value >> 16 != 0 {
            self.put(op::SET, rd, 0, (value >> 48) as u16);
            for shift in [32, 16, 0] {
                self.put(op::SHIFT, rd, 0, (value >> shift) as u16);
            }
        }
    }

    pub(crate) fn copy(&mut self, rd: usize, rs: usize) {
        self.put(op::SET, rd, 0, 0);
        self.put(op::ADD, rd, rs, 0);
    }

    fn memory(&mut self, op: u32, reg: usize, width: AccessWidth, base: usize, offset: u64) {
        let n = (width.bytes().trailing_zeros() as u16) << 12 | offset as u16;
        self.put(op, reg, base, n);
    }

    fn branch_back(&mut self, op: u32, rd: usize, to: usize) {
        let distance = to as i64 - self.words.len() as i64;
        self.put(op, rd, 0, distance as u16);
    }

    /// Appends what the program does not run into, and makes it the handler.
    fn install_handler(&mut self, body: impl FnOnce(&mut Self)) {
        let jump = self.words.len();
        self.put(op::JUMP, 0, 0, 0);
        let handler = self.here();
        body(self);
        self.words[jump] = encode(op::JUMP, 0, 0, (self.words.len() - jump) as u16);
        self.load_number(TEMP, handler);
        self.put(op::WRITE, TEMP, 0, sys::VECTOR as u16);
    }

    fn host(&mut self, nr: u16) {
        self.put(op::HOST, 0, 0, nr);
    }

    /// Reports the trap, and goes on where the answer says if there is one.
    fn report_trap(&mut self) {
        self.put(op::SET, 1, 0, 0);
        for (register, system) in [(2, sys::CAUSE), (3, sys::EPC), (4, sys::VALUE)] {
            self.put(op::READ, register, 0, system as u16);
        }
        self.host(TRAP);
        self.put(op::BRANCH, 1, 0, 2);
        self.put(op::RETURN, 0, 0, 0);
        self.put(op::WRITE, 1, 0, sys::EPC as u16);
        self.put(op::RETURN, 0, 0, 0);
    }
}
// ANCHOR_END: assembler

// ANCHOR: program
impl Program for Asm {
    fn assemble(body: impl FnOnce(&mut Self)) -> Verdict<Vec<u8>> {
        let mut asm = Self::new(CODE);
        asm.install_handler(Self::report_trap);
        body(&mut asm);
        asm.end();
        Ok(asm.bytes())
    }

    fn mark(&mut self, number: u64) {
        self.load_number(1, number);
        self.host(REPORT);
    }

    fn wfi(&mut self) {
        self.put(op::WAIT, 0, 0, 0);
    }

    fn wait_for_ever(&mut self) {
        self.for_ever(Self::wfi);
    }

    fn report_for_ever(&mut self, address: u64) {
        self.load_number(TEMP, address);
        self.for_ever(|g| {
            g.memory(op::LOAD, 1, Qword, TEMP, 0);
            g.host(REPORT);
        });
    }

    fn count_for_ever(&mut self) {
        self.load_number(TEMP, DATA);
        self.load_number(COUNTER, 1);
        self.for_ever(|g| g.put(op::ATOMIC_ADD, COUNTER, TEMP, 0));
    }
}
// ANCHOR_END: program

// ANCHOR: instructions
impl Instructions for Asm {
    fn here(&self) -> u64 {
        self.start + 4 * self.words.len() as u64
    }

    fn end(&mut self) {
        self.for_ever(|g| g.host(END));
    }

    fn number(&mut self, into: Reg) {
        self.copy(Toy::gpr(into), NUMBER);
    }

    fn set(&mut self, register: Reg, value: u64) {
        self.load_number(Toy::gpr(register), value);
    }

    fn add(&mut self, register: Reg, value: u64) {
        self.put(op::ADD, Toy::gpr(register), 0, value as u16);
    }

    fn load(&mut self, target: Reg, width: AccessWidth, base: Reg, offset: u64) {
        self.memory(op::LOAD, Toy::gpr(target), width, Toy::gpr(base), offset);
    }

    fn store(&mut self, source: Reg, width: AccessWidth, base: Reg, offset: u64) {
        self.memory(op::STORE, Toy::gpr(source), width, Toy::gpr(base), offset);
    }

    fn atomic_add(&mut self, source: Reg, base: Reg) {
        self.put(op::ATOMIC_ADD, Toy::gpr(source), Toy::gpr(base), 0);
    }

    fn report(&mut self, register: Reg) {
        self.copy(1, Toy::gpr(register));
        self.host(REPORT);
    }

    fn call(&mut self, address: u64) {
        self.load_number(TEMP, address);
        self.put(op::CALL, LINK, TEMP, 0);
    }

    fn for_ever(&mut self, body: impl FnOnce(&mut Self)) {
        let again = self.words.len();
        body(self);
        self.branch_back(op::JUMP, 0, again);
    }

    fn repeat(&mut self, times: u64, body: impl FnOnce(&mut Self)) {
        self.load_number(COUNTER, times);
        let again = self.words.len();
        body(self);
        self.put(op::ADD, COUNTER, 0, -1i16 as u16);
        self.branch_back(op::BRANCH, COUNTER, again);
    }

    fn write_system(&mut self, from: Reg) {
        self.put(op::WRITE, Toy::gpr(from), 0, sys::SCRATCH as u16);
    }

    fn read_system(&mut self, into: Reg) {
        self.put(op::READ, Toy::gpr(into), 0, sys::SCRATCH as u16);
    }

    fn enable_interrupts(&mut self) {
        self.load_number(TEMP, 1);
        self.put(op::WRITE, TEMP, 0, sys::STATUS as u16);
    }

    fn await_interrupt(&mut self) {
        self.put(op::WAIT, 0, 0, 0);
        self.put(op::READ, TEMP, 0, sys::PENDING as u16);
        self.put(op::BRANCH, TEMP, 0, 2);
        self.put(op::JUMP, 0, 0, -3i16 as u16); // woken for nothing
        self.put(op::WRITE, 0, 0, sys::PENDING as u16);
    }

    fn count_interrupts(&mut self) {
        // The word of interrupt `v` is at DATA + 8 * v.
        self.install_handler(|g| {
            g.put(op::READ, 2, 0, sys::CAUSE as u16);
            for _ in 0..3 {
                g.put(op::ADD, 2, 2, 0);
            }
            g.load_number(3, DATA - 8 * cause::INTERRUPT);
            g.put(op::ADD, 3, 2, 0);
            g.load_number(2, 1);
            g.put(op::ATOMIC_ADD, 2, 3, 0);
            g.put(op::RETURN, 0, 0, 0);
        });
        self.enable_interrupts();
    }

    fn trap_for_ever(&mut self) {
        self.install_handler(|g| g.word(0));
        self.word(0); // illegal
    }
}
// ANCHOR_END: instructions

// ANCHOR: isa
/// What the handler reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trap {
    pub(crate) cause: u64,
    pub(crate) epc: u64,
    pub(crate) value: u64,
}

impl Isa for Toy {
    type Format = Mode;
    type Guest = Asm;
    type Trap = Trap;

    const CODE: u64 = CODE;
    const CODE_PAGES: u64 = 16;
    const DATA: u64 = DATA;
    const DATA_PAGES: u64 = 2;
    const DEVICE: u64 = 0x1000_0000;
    const NUMBER: usize = NUMBER;
    const REPORT: u64 = REPORT as u64;
    const TRAP: u64 = TRAP as u64;
    const END: u64 = END as u64;

    fn trap([_, cause, epc, value, ..]: [u64; 6]) -> Trap {
        Trap { cause, epc, value }
    }
}
// ANCHOR_END: isa

// ANCHOR: architecture
impl Architecture for Toy {
    const REGISTERS: usize = REGISTERS;
    const ZERO: Option<usize> = Some(0);
    const BASE: usize = BASE;
    const SPARE: usize = NUMBER;
    const VECTORS: [usize; 3] = [1, 2, 3];

    fn gpr(register: Reg) -> usize {
        match register {
            Reg::A => 8,
            Reg::B => 9,
            Reg::C => 10,
        }
    }

    fn store_registers() -> Verdict<Vec<u8>> {
        let mut asm = Asm::new(CODE);
        for register in 0..REGISTERS {
            asm.memory(op::STORE, register, Qword, BASE, 8 * register as u64);
        }
        asm.end();
        Ok(asm.bytes())
    }

    fn function(value: u64) -> Verdict<Vec<u8>> {
        let mut asm = Asm::new(0);
        asm.set(Reg::A, value);
        asm.put(op::CALL, 0, LINK, 0);
        Ok(asm.bytes())
    }

    fn interrupt(trap: &Trap) -> Option<usize> {
        trap.cause.checked_sub(cause::INTERRUPT).map(|vector| vector as usize)
    }

    fn step_over<A: AxArchVCpu>(vcpu: &AxVCpu<A>, trap: &Trap) -> Verdict {
        Ok(vcpu.set_return_value(trap.epc + 4)?)
    }
}
// ANCHOR_END: architecture
