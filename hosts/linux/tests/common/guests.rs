//! Guests of a few instructions.

use axvcpu_riscv::asm::*;
use axvcpu_riscv::csr::num::{SEPC, STVEC};

/// Where a flat binary is put: 2 MiB into RAM.
pub const BASE: u64 = 0x8020_0000;

// SBI specification: extension and function numbers.
const DBCN: i64 = 0x4442_434e;
const SRST: i64 = 0x5352_5354;
const HSM: i64 = 0x0048_534d;

/// The serial port: receive/transmit register and line status (16550).
const UART: i64 = 0x1000_0000;

/// How a guest asks for its end: the type and reason of SBI's system reset.
#[derive(Clone, Copy)]
pub enum Reset {
    Shutdown = 0,
    ColdReboot = 1,
    WarmReboot = 2,
}

fn ecall(a: &mut Asm, extension: i64, function: i64) {
    a.li(A7, extension);
    a.li(A6, function);
    a.ecall();
}

fn print(a: &mut Asm, text: &str) {
    let (data, behind) = (a.label(), a.label());
    a.j(behind);
    a.bind(data);
    a.bytes(text.as_bytes());
    a.align(4);
    a.bind(behind);
    a.li(A0, text.len() as i64);
    a.la(A1, data);
    a.li(A2, 0);
    ecall(a, DBCN, 0);
}

fn reset(a: &mut Asm, kind: Reset, reason: i64) {
    a.li(A0, kind as i64);
    a.li(A1, reason);
    ecall(a, SRST, 0);
}

fn build(program: impl FnOnce(&mut Asm)) -> Vec<u8> {
    let mut a = Asm::new(BASE);
    program(&mut a);
    a.finish().unwrap()
}

/// Says something and ends.
pub fn hello(kind: Reset, failure: bool) -> Vec<u8> {
    build(|a| {
        print(a, "hello from the guest\n");
        reset(a, kind, failure.into());
    })
}

/// Stops its only CPU for good.
pub fn stops_itself() -> Vec<u8> {
    build(|a| ecall(a, HSM, 1))
}

/// Says that it is there, in a line without an end, and then does nothing forever.
pub fn idles() -> Vec<u8> {
    build(|a| {
        print(a, "ready> ");
        let again = a.here_label();
        a.wfi();
        a.j(again);
    })
}

/// As [`idles`], but busily.
pub fn spins() -> Vec<u8> {
    build(|a| {
        print(a, "ready> ");
        let again = a.here_label();
        a.j(again);
    })
}

/// Prints without end.
pub fn prints_forever() -> Vec<u8> {
    build(|a| {
        let again = a.here_label();
        print(a, "all work and no play makes the guest a dull machine\n");
        a.j(again);
    })
}

/// Sends back what it gets through its serial port, until a `q` comes.
pub fn echoes() -> Vec<u8> {
    build(|a| {
        print(a, "ready> ");
        a.li(S0, UART);
        let again = a.here_label();
        a.lbu(T0, 5, S0); // line status
        a.andi(T0, T0, 1); // data ready
        a.beqz(T0, again);
        a.lbu(A0, 0, S0);
        a.sb(A0, 0, S0);
        a.li(T0, i64::from(b'q'));
        a.bne(A0, T0, again);
        reset(a, Reset::Shutdown, 0);
    })
}

/// Stores to every page of the first 8 GiB and to addresses of every magnitude, in every width and at odd
/// addresses, everywhere but over itself. Its trap handler skips what fails.
pub fn writes_everywhere() -> Vec<u8> {
    build(|a| {
        let handler = a.label();
        a.la(T0, handler);
        a.csrw(STVEC, T0);
        a.la(S4, handler);
        a.li(T0, -0x10000);
        a.and(S4, S4, T0); // 64 KiB that hold the program
        let store = |a: &mut Asm| {
            let skip = a.label();
            a.and(T2, S1, T0);
            a.beq(T2, S4, skip);
            a.sd(T0, 0, S1);
            a.sw(T0, 8, S1);
            a.sh(T0, 16, S1);
            a.sb(T0, 24, S1);
            a.sd(T0, 1, S1);
            a.ld(T2, 0, S1);
            a.bind(skip);
        };
        a.li(S1, 0);
        a.li(S2, 8 << 30);
        a.li(S3, 16 << 10);
        let pages = a.here_label();
        store(a);
        a.add(S1, S1, S3);
        a.bltu(S1, S2, pages);
        a.li(S1, 1 << 32);
        let magnitudes = a.here_label();
        store(a);
        a.slli(S1, S1, 1);
        a.bnez(S1, magnitudes);
        print(a, "still here\n");
        reset(a, Reset::Shutdown, 0);
        a.align(4);
        a.bind(handler);
        a.csrr(T1, SEPC);
        a.addi(T1, T1, 4);
        a.csrw(SEPC, T1);
        a.sret();
    })
}
