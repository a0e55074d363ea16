//! Random RISC-V programs, run by the software hart and by QEMU's user-mode emulation, must leave every
//! register and every byte of memory the same.
//!
//! The programs are the library's ([`axvcpu_differential`]). An image of many is a Linux executable for QEMU
//! ([`qemu`]) and a guest for the software hart ([`guest`]). A program on which the two differ is made short and
//! printed with the command that repeats it.

mod compare;
mod elf;
mod guest;
mod qemu;
mod supervise;

use std::ops::Range;
use std::process::ExitCode;

use axvcpu_differential::program::Program;
use axvcpu_differential::{generate, shrink};
use clap::Parser;

use compare::compare;
use guest::Mode;
use qemu::Qemu;

/// Programs in one image.
const BATCH: usize = 200;

/// The status that tells that nothing was tested.
const SKIPPED: u8 = 77;

#[derive(Parser)]
#[command(
    about = "Runs random RISC-V programs on the software hart and on QEMU, and compares how they end"
)]
struct Arguments {
    /// The programs to run, from the first seed up to, but without, the second
    #[arg(long, value_name = "A..B", value_parser = seeds, default_value = "0..2000")]
    seeds: Range<u64>,
    /// One program only
    #[arg(long, value_name = "N", conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Instructions in a program
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=2000))]
    length: u64,
    /// Run the guest's programs in U-mode behind page tables, interrupted by a timer
    #[arg(long)]
    paging: bool,
    /// Cases for the supervisor instead of programs, 1000 to a seed, run by an emulated machine
    #[arg(long, conflicts_with = "paging")]
    supervisor: bool,
    /// How to call QEMU 10; older ones get some instructions wrong (7.2: `ctzw`) [default: qemu-riscv64, or qemu-system-riscv64 for --supervisor]
    #[arg(long, value_name = "CMD")]
    qemu: Option<String>,
    /// Print the program of --seed, and run nothing
    #[arg(long, requires = "seed")]
    list: bool,
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let parse = |number: &str| number.parse().map_err(|_| format!("{number:?} is not a number"));
    let (first, end) = text.split_once("..").ok_or("two numbers with \"..\" between them")?;
    let (first, end) = (parse(first)?, parse(end)?);
    if first < end { Ok(first..end) } else { Err("the range is empty".to_owned()) }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let length = arguments.length as usize;
    let seeds = match arguments.seed {
        Some(seed) => seed..seed.saturating_add(1),
        None => arguments.seeds.clone(),
    };
    if arguments.list {
        let program = generate::program(seeds.start, length);
        print!("{}{}", program.initial(), program.listing());
        return ExitCode::SUCCESS;
    }
    let default = if arguments.supervisor { "qemu-system-riscv64" } else { "qemu-riscv64" };
    let qemu = Qemu::new(arguments.qemu.as_deref().unwrap_or(default));
    match qemu.version() {
        Ok(version) => eprintln!("comparing with {version}"),
        Err(error) => {
            eprintln!("SKIPPED: nothing was compared: {error:#}");
            eprintln!("QEMU 10 is needed; --qemu says where it is");
            return ExitCode::from(SKIPPED);
        }
    }
    let result =
        if arguments.supervisor { supervise(&qemu, seeds) } else { run(&arguments, &qemu, seeds) };
    match result {
        Ok((passed, failed)) => {
            println!("{passed} passed, {failed} failed");
            if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// After so many failures, more would only be the same again.
const ENOUGH: u64 = 10;

/// Carries out the supervisor's cases of all seeds, and answers how many seeds passed and failed.
fn supervise(qemu: &Qemu, seeds: Range<u64>) -> anyhow::Result<(u64, u64)> {
    let (mut passed, mut failed) = (0, 0);
    for seed in seeds {
        let Some(text) = supervise::compare(qemu, seed)? else {
            passed += 1;
            continue;
        };
        failed += 1;
        println!("seed {seed}: {text}");
        println!(
            "repeat with: cargo run --release -p axvcpu-differential -- --supervisor --seed {seed}\n"
        );
        if failed == ENOUGH {
            break;
        }
    }
    Ok((passed, failed))
}

/// Runs all programs, and answers how many passed and failed.
fn run(arguments: &Arguments, qemu: &Qemu, seeds: Range<u64>) -> anyhow::Result<(u64, u64)> {
    let mode = if arguments.paging { Mode::Paging } else { Mode::Bare };
    let length = arguments.length as usize;
    let (mut passed, mut failed) = (0, 0);
    let mut next = seeds.start;
    while next < seeds.end && failed < ENOUGH {
        let end = next.saturating_add(BATCH as u64).min(seeds.end);
        let programs: Vec<_> = (next..end).map(|seed| generate::program(seed, length)).collect();
        match compare(qemu, &programs, mode)? {
            None => {
                passed += end - next;
                next = end;
            }
            Some(difference) => {
                passed += difference.index as u64;
                failed += 1;
                next += difference.index as u64 + 1;
                if let Some(program) = programs.get(difference.index) {
                    report(qemu, program, mode, length, &difference.text)?;
                }
            }
        }
    }
    Ok((passed, failed))
}

fn report(
    qemu: &Qemu,
    program: &Program,
    mode: Mode,
    length: usize,
    difference: &str,
) -> anyhow::Result<()> {
    let seed = program.seed;
    println!("seed {seed} ends differently:\n{difference}");
    let paging = if mode == Mode::Paging { " --paging" } else { "" };
    println!(
        "repeat with: cargo run --release -p axvcpu-differential -- --seed {seed} --length {length}{paging}"
    );
    let alone = |program: &Program| compare(qemu, std::slice::from_ref(program), mode);
    if alone(program)?.is_none() {
        println!(
            "it does not when it runs alone: what differs was left by the programs before it\n"
        );
        return Ok(());
    }
    let shrunk = shrink::shrink(program, |program| alone(program).map(|found| found.is_some()))?;
    let text = alone(&shrunk)?.map(|difference| difference.text).unwrap_or_default();
    println!("made short:\n{}{}{text}", shrunk.initial(), shrunk.listing());
    Ok(())
}
