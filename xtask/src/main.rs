//! `cargo xtask`: every developer command of this repository.

mod arch;
mod assets;
mod bare;
mod bench;
mod book;
mod cargo;
mod demo;
mod fixed;
mod fuzz;
mod l1;
mod machine;
mod miri;
mod proc;
mod progress;
mod run;
mod soak;
mod test;
mod trials;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Developer commands of AxVCpu", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Fetch the guests and QEMU, and say where they are
    Assets,
    /// Boot Debian in a virtual machine, its console on this terminal
    Demo(demo::Options),
    /// Run a guest of your choice on a backend of your choice
    Run(run::Options),
    /// Run the tests, stage by stage
    Test(test::Options),
    /// Write the chapter that says which backend passes which case of the contract
    ConformanceTable(test::table::Options),
    /// Run the fuzz targets with libFuzzer
    Fuzz(fuzz::Options),
    /// Hold hardware virtualization to the software hart, in random trials
    Trials(trials::Options),
    /// Run tests under Miri, if it is here
    Miri,
    /// Let guests leave very often while other threads want everything of them
    Soak(soak::Options),
    /// Measure speed, next to QEMU's
    Bench(bench::Options),
    /// Build the book, and the documentation of all crates
    Book(book::Options),
}

fn main() -> ExitCode {
    match execute(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn execute(command: Command) -> Result<ExitCode> {
    match command {
        Command::Assets => assets::command(),
        Command::Demo(options) => demo::command(&options),
        Command::Run(options) => Ok(run::command(&options)),
        Command::Test(options) => test::command(&options),
        Command::ConformanceTable(options) => test::table::command(&options),
        Command::Fuzz(options) => fuzz::command(&options),
        Command::Trials(options) => trials::command(&options),
        Command::Miri => miri::command(),
        Command::Soak(options) => soak::command(&options),
        Command::Bench(options) => bench::command(&options),
        Command::Book(options) => book::command(&options),
    }
}
