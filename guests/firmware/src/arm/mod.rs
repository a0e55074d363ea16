//! Guests for AArch64: calls of PSCI, and others under the SMC calling convention.

mod model;
mod program;

use std::error::Error;

use self::model::{Others, id};
use self::program::{Program, end};
use super::{Guest, MEMORY, status};
use crate::table::{Call, pairs};

/// Where RAM begins and ends, and the image: 2 MiB into it.
pub(crate) const RAM: u64 = 0x4000_0000;
pub(crate) const RAM_END: u64 = RAM + MEMORY;
pub(crate) const ENTRY: u64 = RAM + 0x20_0000;

/// The order of registers in the table, and the names of them.
const REGISTERS: [&str; 8] = ["x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7"];

const UART: u64 = 0x0900_0000;
const DISTRIBUTOR: u64 = 0x0800_0000;

/// Arguments: small numbers, which are affinities, levels, states and types of reset; affinities that no CPU has; the bits
/// of power states; places in memory, at its ends, beyond it and unaligned; devices; what is more than 32 bits; function
/// identifiers.
const ARGUMENTS: [u64; 33] = [
    0,
    1,
    2,
    3,
    4,
    15,
    16,
    0x100,
    0x1_0000,
    0x100_0000,
    0x300_0000,
    0x8000_0000,
    u32::MAX as u64,
    1 << 32,
    u64::MAX << 32,
    u64::MAX,
    u64::MAX - 1,
    u64::MAX << 12,
    i64::MAX as u64,
    i64::MIN as u64,
    RAM,
    RAM + 1,
    RAM + 2,
    RAM - 4,
    RAM_END - 4,
    RAM_END - 2,
    RAM_END,
    ENTRY,
    ENTRY | 1 << 32,
    UART,
    DISTRIBUTOR,
    id::CPU_ON,
    id::CPU_ON | id::SMC64,
];

/// Identifiers of other functions: of the convention itself, of workarounds, of random numbers, of every owner, calls that
/// yield, and none.
const OTHERS: [u64; 34] = [
    0x8000_0000,
    0x8000_0001,
    0x8000_0002,
    0x8000_0003,
    0x8000_0004,
    0x8000_3fff,
    0x8000_7fff,
    0x8000_8000,
    0x8000_ffff,
    0xc000_0000,
    0xc000_0001,
    0xc000_0002,
    0x8100_0000,
    0x8200_0000,
    0x8300_0000,
    0x8400_0050, // random numbers: version, features, UUID, and the numbers
    0x8400_0051,
    0x8400_0052,
    0x8400_0053,
    0xc400_0053,
    0x8400_0060,
    0x8400_ff00,
    0x8400_ff01,
    0x8500_0000,
    0xc500_0020, // stolen time
    0x8600_ff01,
    0xbf00_ff01,
    0xf000_0000,
    0xffff_ffff,
    0,
    0x0100_0000,
    0x3fff_ffff,
    0x4400_0003,
    0x7fff_ffff,
];

/// Bits above the 32 that are the identifier.
const HIGH: u64 = 0xdead_beef << 32;

/// All calls that return, on a machine with so many CPUs, the others of which do this.
fn calls(cpus: u32, others: Others) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut add = |function: u64, [x1, x2, x3]: [u64; 3], [x4, x5, x6, x7]: [u64; 4]| {
        let registers = [function, x1, x2, x3, x4, x5, x6, x7];
        if let Some(expect) = model::expected(registers, cpus, others) {
            // HVC and SMC in turn. Each function comes often enough for both.
            let second = calls.len() % 2 != 0;
            calls.push(Call { registers, second, expect });
        }
    };
    let psci = (0..0x20).map(|number| 0x8400_0000 + number);
    let both = psci.flat_map(|function| [function, function | id::SMC64]);
    for function in both.chain(OTHERS) {
        for value in ARGUMENTS {
            for high in [0, HIGH] {
                add(high | function, [value; 3], [value; 4]);
                add(high | function, [value, 0, 0], [0; 4]);
            }
        }
        if !model::takes_several(function) {
            continue;
        }
        for ([x1, x2], [x3, x4, x5, x6, x7]) in pairs(&ARGUMENTS) {
            add(function, [x1, x2, x3], [x4, x5, x6, x7]);
        }
    }
    // Features of everything.
    for function in [id::PSCI_FEATURES, id::ARCH_FEATURES] {
        for number in 0..0x20 {
            for asked in [0x8400_0000 + number, 0xc400_0000 + number, HIGH | (0x8400_0000 + number)]
            {
                add(function, [asked, 0, 0], [0; 4]);
            }
        }
        for asked in OTHERS {
            add(function, [asked, u64::MAX, u64::MAX], [u64::MAX; 4]);
        }
    }
    calls
}

/// The calls that end the machine, and whether by SMC, with what its status is then.
fn ends() -> Vec<(String, [u64; 8], bool, u8)> {
    const X: u64 = u64::MAX;
    let mut ends = Vec::new();
    for (way, second) in [("hvc", false), ("smc", true)] {
        for (what, function, first, ended) in [
            ("off", id::SYSTEM_OFF, X, status::POWER_OFF),
            ("off-with-high-bits", HIGH | id::SYSTEM_OFF, 0, status::POWER_OFF),
            ("reset", id::SYSTEM_RESET, X, status::RESET),
            ("reset-2", id::SYSTEM_RESET2, 0, status::RESET),
            ("reset-2-with-high-bits", id::SYSTEM_RESET2, HIGH, status::RESET),
            ("reset-2-of-64-bits", id::SYSTEM_RESET2 | id::SMC64, 0, status::RESET),
            ("the-last-cpu-off", id::CPU_OFF, X, status::CRASH),
        ] {
            let call = [function, first, X, X, X, X, X, X];
            ends.push((format!("{what}-by-{way}"), call, second, ended));
        }
    }
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
    let image = Program::new(cpus, &calls).storm(false)?;
    guests.push(Guest::sweep("storm-cut-short".into(), cpus, image, made).of(&calls, REGISTERS));
    for (name, call, second, ended) in ends() {
        for cpus in [1, 4] {
            guests.push(Guest::end(format!("{name}-{cpus}"), cpus, end(call, second)?, ended));
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
        for (name, call, ..) in ends() {
            assert_eq!(model::expected(call, 1, Others::Off), None, "{name}");
        }
    }

    #[test]
    fn every_function_is_called_both_ways() {
        let calls = calls(4, Others::Off);
        for function in (0x8400_0000..0x8400_0020).chain(OTHERS) {
            let ends = [id::CPU_OFF, id::SYSTEM_OFF, id::SYSTEM_RESET].contains(&function);
            for second in [false, true] {
                let of_it = |call: &&Call| call.registers[0] == function && call.second == second;
                assert_ne!(calls.iter().any(|call| of_it(&call)), ends, "{function:#x} {second}");
            }
        }
    }

    #[test]
    fn every_answer_of_the_specification_is_expected_somewhere() {
        let calls = calls(4, Others::Off);
        for code in [0, -1i64, -2, -4, -9] {
            let code = code as u64;
            let found = calls.iter().any(|call| match call.expect {
                Expect::Any => false,
                Expect::One(one) => one == code,
                Expect::Either(one, other) => one == code || other == code,
            });
            assert!(found, "{code:#x}");
        }
        let any = calls.iter().filter(|call| call.expect == Expect::Any).count();
        assert!(any * 20 < calls.len(), "{any} of {}", calls.len());
    }
}
