//! The programs.

use axvcpu_riscv::asm::csrs::{SCAUSE, SEPC, STVEC};
use axvcpu_riscv::asm::*;

use super::ENTRY;
use super::model::{DBCN, hsm, srst};
use crate::BANNER;
use crate::table::{ANY, Call, EXPECTED, RECORD, Table};

/// Each hart has a place for what it tells the others: whether it is there, whether it is done, and how many calls it made.
const SLOT: i32 = 64;
const ARRIVED: i32 = 0;
const DONE: i32 = 8;
const COUNT: i32 = 16;

/// The registers of a call, in the order of a record.
const ARGUMENTS: [X; 8] = [A7, A6, A0, A1, A2, A3, A4, A5];
/// The first two of them are those of the call, and two are the answer.
const ANSWER: [X; 2] = [A0, A1];

/// What a table's program keeps in registers: the next record, the end of the records, the values, how many calls were
/// made, and how many are left. The hart's number is in the thread pointer.
const NEXT: X = S0;
const END: X = S1;
const VALUES: X = S2;
const MADE: X = S4;
const LEFT: X = S5;

/// A program that makes the calls of a table.
pub(super) struct Program {
    a: Asm,
    cpus: u32,
    table: Table,
    start: Label,
    trap: Label,
    records: Label,
    slots: Label,
}

/// A program that makes one call, which does not return.
pub(super) fn end(call: [u64; 8]) -> Result<Vec<u8>, AsmError> {
    let mut a = Asm::new(ENTRY);
    let trap = a.label();
    a.la(T0, trap);
    a.csrw(STVEC, T0);
    print(&mut a, &format!("{BANNER}ends\n"));
    for (register, value) in ARGUMENTS.into_iter().zip(call) {
        a.li(register, value as i64);
    }
    a.ecall();
    fail(&mut a, "returned", &[A0]);
    trap_handler(&mut a, trap);
    a.finish()
}

impl Program {
    pub(super) fn new(cpus: u32, calls: &[Call]) -> Self {
        let mut a = Asm::new(ENTRY);
        let start = a.here_label();
        let (trap, records, slots) = (a.label(), a.label(), a.label());
        a.la(T0, trap);
        a.csrw(STVEC, T0);
        a.mv(TP, A0);
        Self { a, cpus, table: Table::new(calls), start, trap, records, slots }
    }

    /// Hart 0 makes the calls. The others, where they are started at the program's beginning, suspend and stop themselves.
    pub(super) fn sweep(mut self) -> Result<Vec<u8>, AsmError> {
        let other = self.a.label();
        self.a.bnez(TP, other);
        self.make_calls();
        self.report();
        self.a.bind(other);
        for kind in [0, 0x8000_0000, -1] {
            self.a.li(A0, kind);
            call(&mut self.a, hsm::EXTENSION, hsm::SUSPEND);
        }
        call(&mut self.a, hsm::EXTENSION, hsm::STOP);
        fail(&mut self.a, "returned", &[A0]);
        self.finish()
    }

    /// All harts make the calls, each from another place of the table on. Hart 0 waits for the others, or ends the machine
    /// while they are at it.
    pub(super) fn storm(mut self, to_the_end: bool) -> Result<Vec<u8>, AsmError> {
        let share = self.table.records.len() / RECORD / self.cpus as usize * RECORD;
        let there = self.a.label();
        self.a.bnez(TP, there);
        for hart in 1..self.cpus {
            self.a.li(A0, hart.into());
            self.a.la(A1, self.start);
            call(&mut self.a, hsm::EXTENSION, hsm::START);
            let started = self.a.label();
            self.a.beqz(A0, started);
            fail(&mut self.a, "start", &[A0]);
            self.a.bind(started);
        }
        self.a.bind(there);
        self.tell(ARRIVED);
        self.wait_for_all(ARRIVED);
        let again = self.a.here_label();
        self.a.li(T1, share as i64);
        self.a.mul(T1, T1, TP);
        self.make_calls_from(T1);
        let first = self.a.label();
        self.a.beqz(TP, first);
        if to_the_end {
            let slot = self.slot();
            self.a.sd(MADE, COUNT, slot);
            self.tell(DONE);
            let idle = self.a.here_label();
            self.a.wfi();
            self.a.j(idle);
        } else {
            self.a.j(again);
        }
        self.a.bind(first);
        if to_the_end {
            self.tell(DONE);
            self.wait_for_all(DONE);
            for hart in 1..self.cpus as i32 {
                self.a.la(T0, self.slots);
                self.a.ld(T1, hart * SLOT + COUNT, T0);
                self.a.add(MADE, MADE, T1);
            }
        }
        self.report();
        self.finish()
    }

    /// Leaves the address of this hart's place in `t0`.
    fn slot(&mut self) -> X {
        self.a.la(T0, self.slots);
        self.a.slli(T1, TP, SLOT.trailing_zeros());
        self.a.add(T0, T0, T1);
        T0
    }

    fn tell(&mut self, what: i32) {
        let slot = self.slot();
        self.a.li(T1, 1);
        self.a.fence(3, 3);
        self.a.sd(T1, what, slot);
    }

    fn wait_for_all(&mut self, what: i32) {
        for hart in 0..self.cpus as i32 {
            self.a.la(T0, self.slots);
            let wait = self.a.here_label();
            self.a.ld(T1, hart * SLOT + what, T0);
            self.a.beqz(T1, wait);
        }
        self.a.fence(3, 3);
    }

    fn make_calls(&mut self) {
        self.make_calls_from(ZERO);
    }

    /// Makes all calls once, beginning with the record at this distance from the first.
    fn make_calls_from(&mut self, offset: X) {
        let (wrong, broken, values) = (self.a.label(), self.a.label(), self.a.label());
        let (good, done) = (self.a.label(), self.a.label());
        let a = &mut self.a;
        a.la(NEXT, self.records);
        a.li(T0, self.table.records.len() as i64);
        a.add(END, NEXT, T0);
        a.add(NEXT, NEXT, offset);
        a.la(VALUES, values);
        a.li(MADE, 0);
        a.li(LEFT, (self.table.records.len() / RECORD) as i64);
        let again = a.here_label();
        a.beqz(LEFT, done);
        for (register, place) in ARGUMENTS.into_iter().zip(0..) {
            load(a, register, place);
        }
        a.ecall();
        a.addi(MADE, MADE, 1);
        // Every other register is as it was (SBI 2.0, chapter 3).
        for (register, place) in ARGUMENTS.into_iter().zip(0..) {
            if !ANSWER.contains(&register) {
                load(a, T1, place);
                a.bne(register, T1, broken);
            }
        }
        a.lbu(T0, EXPECTED[0] as i32, NEXT);
        a.li(T1, ANY.into());
        a.beq(T0, T1, good);
        for place in EXPECTED {
            load(a, T1, place as i32);
            a.beq(A0, T1, good);
        }
        a.j(wrong);
        a.bind(good);
        a.addi(NEXT, NEXT, RECORD as i32);
        a.addi(LEFT, LEFT, -1);
        a.bne(NEXT, END, again);
        a.la(NEXT, self.records);
        a.j(again);

        a.bind(wrong);
        a.mv(S6, A0);
        number_of_record(a, self.records);
        fail(a, "call", &[S7, S6]);
        a.bind(broken);
        number_of_record(a, self.records);
        fail(a, "call", &[S7]);

        a.align(8);
        a.bind(values);
        self.table.values.iter().for_each(|value| a.quad(*value));
        a.bind(done);
    }

    /// Says how many calls were made, and switches the machine off.
    fn report(&mut self) {
        say(&mut self.a, "calls", &[MADE]);
        power_off(&mut self.a, 0);
    }

    fn finish(self) -> Result<Vec<u8>, AsmError> {
        let Self { mut a, cpus, table, trap, records, slots, .. } = self;
        trap_handler(&mut a, trap);
        a.align(SLOT as usize);
        a.bind(slots);
        a.zero(cpus as usize * SLOT as usize);
        a.bind(records);
        a.bytes(&table.records);
        a.finish()
    }
}

/// Loads the value that a byte of the record refers to. Changes `t0`.
fn load(a: &mut Asm, register: X, place: i32) {
    a.lbu(T0, place, NEXT);
    a.slli(T0, T0, 3);
    a.add(T0, T0, VALUES);
    a.ld(register, 0, T0);
}

/// Leaves the number of the record in `s7`.
fn number_of_record(a: &mut Asm, records: Label) {
    a.la(T0, records);
    a.sub(S7, NEXT, T0);
    a.srli(S7, S7, RECORD.trailing_zeros());
}

fn call(a: &mut Asm, extension: u64, function: u64) {
    a.li(A7, extension as i64);
    a.li(A6, function as i64);
    a.ecall();
}

/// Prints a text that is at a label.
fn print_at(a: &mut Asm, length: X, at: X) {
    a.mv(A0, length);
    a.mv(A1, at);
    a.li(A2, 0);
    call(a, DBCN, 0);
}

fn print(a: &mut Asm, text: &str) {
    let (data, behind) = (a.label(), a.label());
    a.j(behind);
    a.bind(data);
    a.bytes(text.as_bytes());
    a.align(4);
    a.bind(behind);
    a.li(T0, text.len() as i64);
    a.la(T1, data);
    print_at(a, T0, T1);
}

/// Prints a line: the banner, a word, and the numbers in these registers, which calls do not change.
fn say(a: &mut Asm, word: &str, numbers: &[X]) {
    // Whatever was printed before, this is a line of its own.
    print(a, &format!("\n{BANNER}{word}"));
    for (number, before) in numbers.iter().zip([" ", " answered "]) {
        print(a, before);
        print_number(a, *number);
    }
    print(a, "\n");
}

fn print_number(a: &mut Asm, number: X) {
    const DIGITS: i32 = 20;
    let (buffer, behind) = (a.label(), a.label());
    a.j(behind);
    a.bind(buffer);
    a.zero(DIGITS as usize);
    a.bind(behind);
    a.la(T1, buffer);
    a.addi(T2, T1, DIGITS);
    a.mv(T1, T2);
    a.mv(T3, number);
    a.li(T4, 10);
    let digit = a.here_label();
    a.remu(T5, T3, T4);
    a.addi(T5, T5, i32::from(b'0'));
    a.addi(T1, T1, -1);
    a.sb(T5, 0, T1);
    a.divu(T3, T3, T4);
    a.bnez(T3, digit);
    a.sub(T0, T2, T1);
    print_at(a, T0, T1);
}

/// Says what is wrong, and ends the machine with a failure.
fn fail(a: &mut Asm, word: &str, numbers: &[X]) {
    say(a, word, numbers);
    power_off(a, 1);
}

fn power_off(a: &mut Asm, reason: i64) {
    a.li(A0, 0);
    a.li(A1, reason);
    call(a, srst::EXTENSION, 0);
    let here = a.here_label(); // it went on: the run takes too long
    a.j(here);
}

fn trap_handler(a: &mut Asm, trap: Label) {
    a.align(4);
    a.bind(trap);
    a.csrr(S6, SCAUSE);
    a.csrr(S7, SEPC);
    fail(a, "trap", &[S6, S7]);
}
