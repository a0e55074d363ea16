//! The programs.

use axvcpu_arm::asm::*;
use axvcpu_arm::sysreg::{ELR_EL1, ESR_EL1, MPIDR_EL1, VBAR_EL1};

use super::model::id;
use super::{ENTRY, UART};
use crate::BANNER;
use crate::table::{ANY, Call, EXPECTED, RECORD, SECOND, Table};

/// Each CPU has a place for what it tells the others: whether it is there, whether it is done, and how many calls it made.
const SLOT: u32 = 64;
const ARRIVED: u32 = 0;
const DONE: u32 = 8;
const COUNT: u32 = 16;

/// The registers of a call, in the order of a record. The first has the answer.
const ARGUMENTS: [X; 8] = [X0, X1, X2, X3, X4, X5, X6, X7];

/// What a table's program keeps in registers: this CPU's number, the next record, the end of the records, the values, how
/// many calls were made, and how many are left.
const SELF: X = X19;
const NEXT: X = X20;
const END: X = X21;
const VALUES: X = X22;
const MADE: X = X23;
const LEFT: X = X24;
/// Numbers to be printed.
const FIRST: X = X25;
const OTHER: X = X26;

/// A program that makes the calls of a table.
pub(super) struct Program {
    a: Asm,
    cpus: u32,
    table: Table,
    start: Label,
    vectors: Label,
    records: Label,
    slots: Label,
}

/// A program that makes one call, which does not return.
pub(super) fn end(call: [u64; 8], second: bool) -> Result<Vec<u8>, AsmError> {
    let mut a = Asm::new(ENTRY);
    let vectors = a.label();
    a.la(X9, vectors);
    a.msr(VBAR_EL1, X9);
    print(&mut a, &format!("{BANNER}ends\n"));
    for (register, value) in ARGUMENTS.into_iter().zip(call) {
        a.li(register, value);
    }
    match second {
        false => a.hvc(0),
        true => a.smc(0),
    }
    a.mov(FIRST, X0);
    fail(&mut a, "returned", &[FIRST]);
    traps(&mut a, vectors);
    a.finish()
}

impl Program {
    pub(super) fn new(cpus: u32, calls: &[Call]) -> Self {
        let mut a = Asm::new(ENTRY);
        let start = a.here_label();
        let (vectors, records, slots) = (a.label(), a.label(), a.label());
        a.la(X9, vectors);
        a.msr(VBAR_EL1, X9);
        a.mrs(SELF, MPIDR_EL1);
        a.li(X9, 0xff);
        a.and(SELF, SELF, X9);
        Self { a, cpus, table: Table::new(calls), start, vectors, records, slots }
    }

    /// CPU 0 makes the calls. The others, where they are started at the program's beginning, suspend themselves and switch
    /// themselves off.
    pub(super) fn sweep(mut self) -> Result<Vec<u8>, AsmError> {
        let first = self.a.label();
        self.a.cbz(SELF, first);
        for state in [0, 0x1_0000, u64::MAX] {
            self.a.li(X1, state);
            call(&mut self.a, id::CPU_SUSPEND);
        }
        call(&mut self.a, id::CPU_OFF);
        self.a.mov(FIRST, X0);
        fail(&mut self.a, "returned", &[FIRST]);
        self.a.bind(first);
        self.a.li(X9, 0);
        self.make_calls_from(X9);
        self.report();
        self.finish()
    }

    /// All CPUs make the calls, each from another place of the table on. CPU 0 waits for the others, or ends the machine
    /// while they are at it.
    pub(super) fn storm(mut self, to_the_end: bool) -> Result<Vec<u8>, AsmError> {
        let share = self.table.records.len() / RECORD / self.cpus as usize * RECORD;
        let there = self.a.label();
        self.a.cbnz(SELF, there);
        for cpu in 1..self.cpus {
            self.a.li(X1, cpu.into());
            self.a.la(X2, self.start);
            call(&mut self.a, id::CPU_ON);
            let started = self.a.label();
            self.a.cbz(X0, started);
            self.a.mov(FIRST, X0);
            fail(&mut self.a, "start", &[FIRST]);
            self.a.bind(started);
        }
        self.a.bind(there);
        self.tell(ARRIVED);
        self.wait_for_all(ARRIVED);
        let again = self.a.here_label();
        self.a.li(X9, share as u64);
        self.a.mul(X9, X9, SELF);
        self.make_calls_from(X9);
        let first = self.a.label();
        self.a.cbz(SELF, first);
        if to_the_end {
            self.slot();
            self.a.str(MADE, X9, COUNT);
            self.tell(DONE);
            let idle = self.a.here_label();
            self.a.wfi();
            self.a.b(idle);
        } else {
            self.a.b(again);
        }
        self.a.bind(first);
        if to_the_end {
            self.tell(DONE);
            self.wait_for_all(DONE);
            for cpu in 1..self.cpus {
                far(&mut self.a, X9, self.slots);
                self.a.ldr(X10, X9, cpu * SLOT + COUNT);
                self.a.add(MADE, MADE, X10);
            }
        }
        self.report();
        self.finish()
    }

    /// Leaves the address of this CPU's place in `x9`.
    fn slot(&mut self) {
        far(&mut self.a, X9, self.slots);
        self.a.lsl(X10, SELF, SLOT.trailing_zeros());
        self.a.add(X9, X9, X10);
    }

    fn tell(&mut self, what: u32) {
        self.slot();
        self.a.li(X10, 1);
        self.a.dmb_sy();
        self.a.str(X10, X9, what);
    }

    fn wait_for_all(&mut self, what: u32) {
        for cpu in 0..self.cpus {
            far(&mut self.a, X9, self.slots);
            let wait = self.a.here_label();
            self.a.ldr(X10, X9, cpu * SLOT + what);
            self.a.cbz(X10, wait);
        }
        self.a.dmb_sy();
    }

    /// Makes all calls once, beginning with the record at this distance from the first.
    fn make_calls_from(&mut self, offset: X) {
        let (wrong, broken, values) = (self.a.label(), self.a.label(), self.a.label());
        let (good, done) = (self.a.label(), self.a.label());
        let (by_smc, called) = (self.a.label(), self.a.label());
        let a = &mut self.a;
        far(a, NEXT, self.records);
        a.li(X10, self.table.records.len() as u64);
        a.add(END, NEXT, X10);
        a.add(NEXT, NEXT, offset);
        a.la(VALUES, values);
        a.li(MADE, 0);
        a.li(LEFT, (self.table.records.len() / RECORD) as u64);
        let again = a.here_label();
        a.cbz(LEFT, done);
        for (register, place) in ARGUMENTS.into_iter().zip(0..) {
            load(a, register, place);
        }
        a.ldrb(X9, NEXT, SECOND as u32);
        a.cbnz(X9, by_smc);
        a.hvc(0);
        a.b(called);
        a.bind(by_smc);
        a.smc(0);
        a.bind(called);
        a.add_imm(MADE, MADE, 1);
        // Every other register is as it was (SMCCC 1.2, 2.6).
        for (register, place) in ARGUMENTS.into_iter().zip(0..).skip(1) {
            load(a, X10, place);
            a.cmp(register, X10);
            a.b_cond(Cond::Ne, broken);
        }
        a.ldrb(X9, NEXT, EXPECTED[0] as u32);
        a.cmp_imm(X9, ANY.into());
        a.b_cond(Cond::Eq, good);
        for place in EXPECTED {
            load(a, X10, place as u32);
            a.cmp(X0, X10);
            a.b_cond(Cond::Eq, good);
        }
        a.b(wrong);
        a.bind(good);
        a.add_imm(NEXT, NEXT, RECORD as u32);
        a.sub_imm(LEFT, LEFT, 1);
        a.cmp(NEXT, END);
        a.b_cond(Cond::Ne, again);
        far(a, NEXT, self.records);
        a.b(again);

        a.bind(wrong);
        a.mov(OTHER, X0);
        number_of_record(a, self.records);
        fail(a, "call", &[FIRST, OTHER]);
        a.bind(broken);
        number_of_record(a, self.records);
        fail(a, "call", &[FIRST]);

        a.align(8);
        a.bind(values);
        self.table.values.iter().for_each(|value| a.quad(*value));
        a.bind(done);
    }

    /// Says how many calls were made, and switches the machine off.
    fn report(&mut self) {
        say(&mut self.a, "calls", &[MADE]);
        power_off(&mut self.a);
    }

    fn finish(self) -> Result<Vec<u8>, AsmError> {
        let Self { mut a, cpus, table, vectors, records, slots, .. } = self;
        traps(&mut a, vectors);
        a.align(SLOT as usize);
        a.bind(slots);
        a.zero((cpus * SLOT) as usize);
        a.bind(records);
        a.bytes(&table.records);
        a.finish()
    }
}

/// Loads the address of a label that may be further away than an instruction reaches. Changes `x11`.
fn far(a: &mut Asm, register: X, label: Label) {
    let (place, behind) = (a.label(), a.label());
    a.b(behind);
    a.align(8);
    a.bind(place);
    a.quad_label(label);
    a.bind(behind);
    a.la(X11, place);
    a.ldr(register, X11, 0);
}

/// Loads the value that a byte of the record refers to. Changes `x9`.
fn load(a: &mut Asm, register: X, place: u32) {
    a.ldrb(X9, NEXT, place);
    a.lsl(X9, X9, 3);
    a.ldr_reg(register, VALUES, X9);
}

/// Leaves the number of the record in the first register for numbers.
fn number_of_record(a: &mut Asm, records: Label) {
    far(a, X9, records);
    a.sub(FIRST, NEXT, X9);
    a.lsr(FIRST, FIRST, RECORD.trailing_zeros());
}

fn call(a: &mut Asm, function: u64) {
    a.li(X0, function);
    a.hvc(0);
}

fn print(a: &mut Asm, text: &str) {
    a.li(X10, UART);
    for byte in text.bytes() {
        a.li(X9, byte.into());
        a.strb(X9, X10, 0);
    }
}

/// Prints a line: the banner, a word, and the numbers in these registers.
fn say(a: &mut Asm, word: &str, numbers: &[X]) {
    print(a, &format!("\n{BANNER}{word}"));
    for (number, before) in numbers.iter().zip([" ", " answered "]) {
        print(a, before);
        print_number(a, *number);
    }
    print(a, "\n");
}

fn print_number(a: &mut Asm, number: X) {
    a.mov(X9, number);
    a.li(X10, 10);
    // The digits come last one first. There is nothing below the program.
    a.li(X12, ENTRY - 64);
    a.mov(X13, X12);
    let digit = a.here_label();
    a.udiv(X14, X9, X10);
    a.mul(X15, X14, X10);
    a.sub(X15, X9, X15);
    a.add_imm(X15, X15, u32::from(b'0'));
    a.sub_imm(X13, X13, 1);
    a.strb(X15, X13, 0);
    a.mov(X9, X14);
    a.cbnz(X9, digit);
    a.li(X10, UART);
    let next = a.here_label();
    a.ldrb(X15, X13, 0);
    a.strb(X15, X10, 0);
    a.add_imm(X13, X13, 1);
    a.cmp(X13, X12);
    a.b_cond(Cond::Ne, next);
}

/// Says what is wrong, and ends the machine. The last line tells that this is no success.
fn fail(a: &mut Asm, word: &str, numbers: &[X]) {
    say(a, word, numbers);
    power_off(a);
}

fn power_off(a: &mut Asm) {
    call(a, id::SYSTEM_OFF);
    let here = a.here_label(); // it went on: the run takes too long
    a.b(here);
}

/// Vectors (Arm ARM, D1.3.1.2) that say what came and end the machine.
fn traps(a: &mut Asm, vectors: Label) {
    let trap = a.label();
    a.align(0x800);
    a.bind(vectors);
    for _ in 0..16 {
        a.b(trap);
        a.align(0x80);
    }
    a.bind(trap);
    a.mrs(FIRST, ESR_EL1);
    a.mrs(OTHER, ELR_EL1);
    fail(a, "trap", &[FIRST, OTHER]);
}
