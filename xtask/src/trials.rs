//! `cargo xtask trials`: as many trials of the software hart and hardware
//! virtualization as one likes, or one of them again. The stage `differential`
//! does a few.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::arch::{Arch, Bare};
use crate::assets::qemu;
use crate::machine::Machine;
use crate::{bare, proc};

/// Which trials.
#[derive(Args)]
pub(crate) struct Options {
    /// The first seed
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// How many seeds from there on
    #[arg(long, default_value_t = 2000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    cases: u64,
    /// Exits in a trial
    #[arg(long, default_value_t = EXITS, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=2000))]
    exits: u64,
}

/// As many as the stage's trials have, so that a seed means the same there.
const EXITS: u64 = 150;

/// A processor without what the software hart has not: where instructions that
/// are illegal on one of the two matter, they must be on both.
pub(crate) const NO_MORE_THAN_SOFT: &str = "rv64,zfa=off,zbc=off,zicbom=off,zicbop=off,zicboz=off,zawrs=off,\
                                            zihintntl=off,zihintpause=off,svadu=off,svvptc=off,pmu-mask=0";

/// With one hart only, QEMU reads for an atomic before it asks whether it may
/// write, and takes the wrong one of two faults.
pub(crate) const HARTS: u32 = 2;

/// What the program needs for its guests.
const MEMORY: u64 = 64 << 20;

/// Does the trials, on this terminal.
pub(crate) fn command(options: &Options) -> Result<ExitCode> {
    let qemu = qemu::fetch(Arch::Riscv64)?;
    let image = bare::image("differential", Bare::Riscv64)?;
    let Options { seed, cases, exits } = options;
    let machine = Machine {
        arch: Bare::Riscv64,
        qemu: &qemu.system,
        cpu: NO_MORE_THAN_SOFT,
        harts: HARTS,
        image: &image,
        append: &format!("mode=trials seed={seed} cases={cases} length={exits}"),
        memory: MEMORY,
        guest: None,
    };
    let mut command = machine.command()?;
    command.args(["-serial", "stdio", "-monitor", "none"]);
    let status = proc::spawn(&mut command)?.wait()?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
