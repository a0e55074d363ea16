//! Random instruction programs, run by the software hart and by the hardware through the same interface, must
//! leave every register and every byte of memory the same, and come to the same exits with the same registers.
//!
//! On its command line: `mode=bare` (programs in S-mode), `mode=paging` (in U-mode behind page tables, with timer
//! interrupts), `mode=exits` (guests that do little but leave, in S-mode), `mode=supervisor` (cases for the supervisor,
//! 1000 to a seed) or `mode=trials` (guests with a random state of their supervisor, faults and interrupts, compared
//! as a whole at every exit); `seed=N`, the first; `cases=N`, how many seeds; `length=N`, instructions in a program,
//! and exits in a trial. Without a mode, all of them.
//!
//! The software hart is the reference for what both must agree on. Not compared is what an implementation chooses:
//! counters and time, which no program reads, and cases that a timer had to end.
#![cfg_attr(target_os = "none", no_std)]
#![cfg_attr(target_os = "none", no_main)]

extern crate alloc;

mod exits;
mod pair;
mod side;
mod trials;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use axvcpu_baremetal::{Machine, print, println, status};
use axvcpu_differential::{generate, shrink};

use pair::Pair;
use trials::Trials;

axvcpu_baremetal::main!(differential);

/// Programs in one image.
const BATCH: u64 = 100;

/// After so many failures, more would only be the same again.
const ENOUGH: u64 = 10;

/// How the guest's programs are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// In S-mode without translation.
    Bare,
    /// In U-mode behind page tables, with timer interrupts.
    Paging,
    /// Guests that do little but leave.
    Exits,
    /// Cases for the supervisor instead of programs.
    Supervisor,
    /// Guests with a random state of their supervisor.
    Trials,
}

const MODES: [(&str, Mode); 5] = [
    ("bare", Mode::Bare),
    ("paging", Mode::Paging),
    ("exits", Mode::Exits),
    ("supervisor", Mode::Supervisor),
    ("trials", Mode::Trials),
];

/// What the command line says.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    mode: Option<Mode>,
    seed: u64,
    /// `None`: what the mode has by default.
    cases: Option<u64>,
    length: usize,
}

impl Options {
    fn parse(line: &str) -> Result<Self, String> {
        let mut options = Self { mode: None, seed: 0, cases: None, length: 300 };
        for word in line.split_ascii_whitespace() {
            let wrong = || format!("'{word}' is no option of the comparison, or has no such value");
            let (name, value) = word.split_once('=').ok_or_else(wrong)?;
            let number = || value.parse::<u64>().map_err(|_| wrong());
            match name {
                "mode" => {
                    let known = MODES.into_iter().find(|&(name, _)| name == value);
                    options.mode = Some(known.ok_or_else(wrong)?.1);
                }
                "seed" => options.seed = number()?,
                "cases" => options.cases = Some(number()?),
                "length" => {
                    let length = number()?;
                    options.length = (1..=2000)
                        .contains(&length)
                        .then_some(length as usize)
                        .ok_or_else(wrong)?;
                }
                _ => return Err(wrong()),
            }
        }
        Ok(options)
    }
}

fn differential(machine: &'static Machine) -> u8 {
    if machine.isa().is_empty() {
        println!("axvcpu: this compares harts, and the machine's CPUs are none");
        return status::USAGE;
    }
    let (options, mut pair) = match Options::parse(machine.bootargs()) {
        Err(message) => {
            println!("axvcpu: {message}");
            return status::USAGE;
        }
        Ok(options) => match Pair::new(machine.timebase()) {
            Ok(pair) => (options, pair),
            Err(message) => {
                println!("axvcpu: {message}");
                return status::HOST;
            }
        },
    };
    let (mut passed, mut failed) = (0, 0);
    for (name, mode) in MODES {
        if options.mode.is_some_and(|wanted| wanted != mode) {
            continue;
        }
        let result = match mode {
            Mode::Supervisor | Mode::Trials => match more_than_soft(machine.isa()) {
                None if mode == Mode::Trials => trials(&options, machine.timebase()),
                None => one_by_one(&options, 10, name, |seed| pair.supervisor(seed)),
                // Instructions that are illegal for one of the two are no difference worth a report.
                Some(extension) if options.mode.is_none() => {
                    println!(
                        "{name}: skipped: these harts have {extension}, which the software hart has not"
                    );
                    continue;
                }
                Some(extension) => {
                    Err(format!("these harts have {extension}, which the software hart has not"))
                }
            },
            Mode::Exits => one_by_one(&options, 300, name, |seed| pair.exits(seed, options.length)),
            Mode::Bare | Mode::Paging => run(&mut pair, &options, mode),
        };
        match result {
            Ok((ok, wrong)) => {
                println!("{name}: {ok} passed, {wrong} failed");
                passed += ok;
                failed += wrong;
            }
            Err(message) => {
                println!("{name}: FAILED: {message}");
                failed += 1;
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    u8::from(failed != 0 || passed == 0)
}

/// An extension of these harts that brings instructions or registers which the software hart has not.
fn more_than_soft(isa: &str) -> Option<&str> {
    /// What both have, and what has no instruction or register that a guest is given.
    const KNOWN: [&str; 15] = [
        "sstc", "svade", "sdtrig", "zicntr", "zihpm", "zicsr", "zifencei", "zba", "zbb", "zbs",
        "zca", "zcd", "zmmul", "zaamo", "zalrsc",
    ];
    /// Names for how things behave that are there anyway: of caches, counters, traps and translation.
    const BEHAVIOUR: [&str; 11] = [
        "zic64b",
        "zicc",
        "za64rs",
        "shcounterenw",
        "shgatpa",
        "shtvala",
        "shv",
        "sscc",
        "sscounterenw",
        "sstv",
        "ssu64xl",
    ];
    let mut parts = isa.split('_');
    let single = parts.next().unwrap_or("").trim_start_matches("rv64");
    if let Some(at) = single.find(|letter: char| !"imafdchsu".contains(letter)) {
        return single.get(at..=at);
    }
    let known = |part: &str| {
        KNOWN.contains(&part) || BEHAVIOUR.iter().any(|prefix| part.starts_with(prefix))
    };
    parts.find(|part| !known(part))
}

/// Runs all programs, and answers how many passed and failed.
fn run(pair: &mut Pair, options: &Options, mode: Mode) -> Result<(u64, u64), String> {
    let length = options.length;
    let (mut passed, mut failed) = (0, 0);
    let mut next = options.seed;
    let end = options.seed.saturating_add(options.cases.unwrap_or(1000));
    while next < end && failed < ENOUGH {
        let last = next.saturating_add(BATCH).min(end);
        let programs: Vec<_> = (next..last).map(|seed| generate::program(seed, length)).collect();
        match pair.programs(&programs, mode)? {
            None => {
                passed += last - next;
                next = last;
            }
            Some(difference) => {
                passed += difference.index as u64;
                failed += 1;
                next += difference.index as u64 + 1;
                if let Some(program) = programs.get(difference.index) {
                    report(pair, program, mode, length, &difference.text)?;
                }
            }
        }
    }
    Ok((passed, failed))
}

fn report(
    pair: &mut Pair,
    program: &axvcpu_differential::program::Program,
    mode: Mode,
    length: usize,
    difference: &str,
) -> Result<(), String> {
    let name = MODES.into_iter().find(|&(_, known)| known == mode).map_or("", |(name, _)| name);
    println!("seed {} ends differently:\n{difference}", program.seed);
    println!("repeat with: mode={name} seed={} cases=1 length={length}", program.seed);
    let mut alone = |program: &_| {
        pair.programs(core::slice::from_ref(program), mode).map(|found| found.map(|d| d.text))
    };
    if alone(program)?.is_none() {
        println!(
            "it does not when it runs alone: what differs was left by the programs before it\n"
        );
        return Ok(());
    }
    let shrunk = shrink::shrink(program, |program| alone(program).map(|found| found.is_some()))?;
    let text = alone(&shrunk)?.unwrap_or_default();
    println!("made short:\n{}{}{text}", shrunk.initial(), shrunk.listing());
    Ok(())
}

/// Does the trials, and answers how many went the same way on both and how many did not.
fn trials(options: &Options, timebase: u64) -> Result<(u64, u64), String> {
    /// So many that everything has to have happened.
    const MANY: u64 = 200;

    let mut trials = Trials::new(timebase)?;
    let result = one_by_one(options, 200, "trials", |seed| trials.compare(seed, options.length))?;
    let coverage = trials.coverage();
    print!("{}", coverage.text());
    if coverage.count("trial") >= MANY {
        coverage.check()?;
    }
    Ok(result)
}

/// Compares what each seed stands for, and answers how many seeds passed and failed.
fn one_by_one(
    options: &Options,
    cases: u64,
    mode: &str,
    mut compare: impl FnMut(u64) -> Result<Option<String>, String>,
) -> Result<(u64, u64), String> {
    let (mut passed, mut failed) = (0, 0);
    for seed in (options.seed..).take(options.cases.unwrap_or(cases) as usize) {
        let Some(text) = compare(seed)? else {
            passed += 1;
            continue;
        };
        failed += 1;
        print!("seed {seed}: {text}");
        let length = options.length;
        println!("repeat with: mode={mode} seed={seed} cases=1 length={length}");
        if mode == "trials" {
            println!("or: cargo xtask trials --seed {seed} --cases 1 --exits {length}");
        }
        println!();
        if failed == ENOUGH {
            break;
        }
    }
    Ok((passed, failed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options() {
        let options = Options::parse("mode=paging seed=7 cases=1 length=20").unwrap();
        let expected = Options { mode: Some(Mode::Paging), seed: 7, cases: Some(1), length: 20 };
        assert_eq!(options, expected);
        assert_eq!(Options::parse("").unwrap().mode, None);
        for wrong in ["mode=fast", "seed", "cases=-1", "length=0", "length=5000", "x=1"] {
            assert!(Options::parse(wrong).unwrap_err().contains(wrong));
        }
    }

    #[test]
    fn harts_with_more_are_told() {
        assert_eq!(more_than_soft("rv64imafdch_zicntr_zba_sstc_svade"), None);
        assert_eq!(more_than_soft("rv64imafdcvh_zicntr"), Some("v"));
        for extension in ["zfa", "svinval", "ssaia", "zicboz"] {
            let isa = format!("rv64imafdch_zicntr_{extension}_sstc");
            assert_eq!(more_than_soft(&isa), Some(extension));
        }
    }
}
