//! Guests for RISC-V: calls of the SBI.

mod model;
mod program;

use std::error::Error;

use self::model::{Others, hsm, legacy, srst};
use self::program::{Program, end};
use super::{Guest, MEMORY, status};
use crate::table::{Call, pairs};

/// Where RAM begins and ends, and the image: 2 MiB into it.
pub(crate) const RAM: u64 = 0x8000_0000;
pub(crate) const RAM_END: u64 = RAM + MEMORY;
pub(crate) const ENTRY: u64 = RAM + 0x20_0000;

/// The order of registers in the table, and the names of them.
const REGISTERS: [&str; 8] = ["a7", "a6", "a0", "a1", "a2", "a3", "a4", "a5"];

const UART: u64 = 0x1000_0000;
const PLIC: u64 = 0x0c00_0000;

/// Arguments: small numbers and hart masks; the ends of every range; places in memory, at its ends, beyond it and unaligned;
/// devices; what is more than 32 bits; what overflows if something is added.
const ARGUMENTS: [u64; 31] = [
    0,
    1,
    2,
    3,
    4,
    7,
    8,
    0xf,
    63,
    64,
    256,
    u64::MAX,
    u64::MAX - 1,
    i64::MAX as u64,
    i64::MIN as u64,
    u32::MAX as u64,
    i32::MIN as i64 as u64,
    1 << 32,
    u64::MAX << 32,
    u64::MAX << 12,
    RAM, // as a number of 32 bits it has the highest bit
    RAM + 1,
    RAM - 1,
    RAM_END - 2,
    RAM_END - 1,
    RAM_END,
    RAM_END + 1,
    ENTRY,
    ENTRY + 1,
    UART,
    PLIC,
];

/// Function numbers: those there are, some behind them, and those that are one of them in 32 bits, or negative.
const FUNCTIONS: [u64; 15] = [
    0,
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    8,
    64,
    i32::MAX as u64,
    u32::MAX as u64,
    1 << 32,
    i64::MIN as u64,
    u64::MAX,
];

/// Extensions of which the machine has nothing: later versions of the specification, the ranges for experiments, vendors and
/// firmware, what the legacy calls do not use, and what is no number of an extension, or one that there is in 32 bits.
const UNKNOWN: [u64; 30] = [
    9,
    0xa,
    0xb,
    0xc,
    0xd,
    0xe,
    0xf,
    0x11,
    0x50_4d55,   // PMU
    0x5355_5350, // SUSP
    0x4350_5043, // CPPC
    0x4e41_434c, // NACL
    0x0053_5441, // STA
    0x0053_5345, // SSE
    0x4657_4654, // FWFT
    0x4442_5452, // DBTR
    0x4d50_5859, // MPXY
    0x0800_0000,
    0x08ff_ffff,
    0x0900_0000,
    0x09ff_ffff,
    0x0a00_0000,
    0x0aff_ffff,
    i32::MAX as u64,
    u32::MAX as u64,
    1 << 32 | legacy::SHUTDOWN,
    1 << 32 | model::BASE,
    u64::MAX << 32 | hsm::EXTENSION,
    i64::MIN as u64 | srst::EXTENSION,
    u64::MAX,
];

/// All calls that return, on a machine with so many harts, the others of which do this.
fn calls(cpus: u32, others: Others) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut add = |extension: u64, function: u64, args: [u64; 6]| {
        let [a0, a1, a2, a3, a4, a5] = args;
        let registers = [extension, function, a0, a1, a2, a3, a4, a5];
        if let Some(expect) = model::expected(registers, cpus, others) {
            calls.push(Call { registers, second: false, expect });
        }
    };
    for extension in model::KNOWN.into_iter().chain(0..=legacy::SHUTDOWN) {
        for function in FUNCTIONS {
            for value in ARGUMENTS {
                add(extension, function, [value; 6]);
            }
            if !model::takes_several(extension, function) {
                continue;
            }
            for ([a0, a1], [a2, a3, a4, a5]) in pairs(&ARGUMENTS) {
                add(extension, function, [a0, a1, a2, a3, a4, a5]);
                // What comes third is often to be zero.
                add(extension, function, [a0, a1, 0, 0, 0, 0]);
            }
            for ([a2, a3], [a4, a5]) in pairs(&ARGUMENTS) {
                // This hart alone, or all of them: then start and size of a fence are looked at.
                add(extension, function, [1, 0, a2, a3, a4, a5]);
                add(extension, function, [a4, u64::MAX, a2, a3, a4, a5]);
            }
        }
    }
    for extension in UNKNOWN {
        for function in FUNCTIONS {
            for value in ARGUMENTS {
                add(extension, function, [value; 6]);
            }
        }
    }
    calls
}

/// The calls that end the machine, with what its status is then.
fn ends() -> Vec<(String, [u64; 8], u8)> {
    const X: u64 = u64::MAX;
    /// Bits above the 32 that count.
    const HIGH: u64 = 0xdead_beef << 32;
    let mut ends = Vec::new();
    for (what, kind, ended) in [
        ("shutdown", 0, status::POWER_OFF),
        ("cold-reboot", 1, status::RESET),
        ("warm-reboot", 2, status::RESET),
    ] {
        let call = [srst::EXTENSION, 0, kind, 0, X, X, X, X];
        ends.push((what.to_owned(), call, ended));
        let call = [srst::EXTENSION, 0, HIGH | kind, HIGH, 0, 0, 0, 0];
        ends.push((format!("{what}-with-high-bits"), call, ended));
        let call = [srst::EXTENSION, 0, kind, 1, X, X, X, X];
        ends.push((format!("{what}-after-a-failure"), call, status::CRASH));
    }
    // Legacy calls have no function.
    for function in [0, 1, X] {
        let call = [legacy::SHUTDOWN, function, X, X, X, X, X, X];
        ends.push((format!("legacy-shutdown-{function:x}"), call, status::POWER_OFF));
    }
    let call = [hsm::EXTENSION, hsm::STOP, X, X, X, X, X, X];
    ends.push(("the-last-hart-stops".into(), call, status::CRASH));
    ends
}

pub(crate) fn guests() -> Result<Vec<Guest>, Box<dyn Error>> {
    let mut guests = Vec::new();
    for cpus in [1, 4] {
        let calls = calls(cpus, Others::Off);
        let image = Program::new(cpus, &calls).sweep()?;
        let name = format!("sweep-{cpus}");
        guests.push(Guest::sweep(name, cpus, image, calls.len() as u64).of(&calls, REGISTERS));
    }
    let cpus = 4;
    let calls = calls(cpus, Others::On);
    let made = calls.len() as u64;
    let image = Program::new(cpus, &calls).storm(true)?;
    let sum = made * u64::from(cpus);
    guests.push(Guest::sweep("storm".into(), cpus, image, sum).of(&calls, REGISTERS));
    // Hart 0 says that it is done while the others are not: nobody else may print, or lines would mix.
    let silent: Vec<_> = calls.into_iter().filter(|call| !model::prints(call.registers)).collect();
    let (made, image) = (silent.len() as u64, Program::new(cpus, &silent).storm(false)?);
    guests.push(Guest::sweep("storm-cut-short".into(), cpus, image, made).of(&silent, REGISTERS));
    for (name, call, ended) in ends() {
        for cpus in [1, 4] {
            guests.push(Guest::end(format!("{name}-{cpus}"), cpus, end(call)?, ended));
        }
    }
    Ok(guests)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Expect;

    #[test]
    fn what_ends_the_machine_is_in_no_table() {
        for (name, call, _) in ends() {
            assert_eq!(model::expected(call, 1, Others::Off), None, "{name}");
        }
    }

    #[test]
    fn every_answer_of_the_specification_is_expected_somewhere() {
        let calls = calls(4, Others::Off);
        for code in [0, -1i64, -2, -3, -5, -6] {
            let code = code as u64;
            let found = calls.iter().any(|call| match call.expect {
                Expect::Any => false,
                Expect::One(one) => one == code,
                Expect::Either(one, other) => one == code || other == code,
            });
            assert!(found, "{code:#x}");
        }
        // What is held to nothing is the exception.
        let any = calls.iter().filter(|call| call.expect == Expect::Any).count();
        assert!(any * 20 < calls.len(), "{any} of {}", calls.len());
    }
}
