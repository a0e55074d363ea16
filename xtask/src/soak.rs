//! `cargo xtask soak`: vast numbers of exits under requests from other threads (`axvcpu-soak`).

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::Args;

use crate::cargo;

/// How long to soak.
#[derive(Args)]
pub(crate) struct Options {
    /// How often the guest on the software hart leaves; the one on KVM leaves a hundredth of that
    #[arg(long, default_value_t = 100_000_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    exits: u64,
}

/// Soaks every backend that works here.
pub(crate) fn command(options: &Options) -> Result<ExitCode> {
    let program = cargo::build("axvcpu-soak", "soak")?;
    let status = Command::new(&program)
        .arg(options.exits.to_string())
        .status()
        .with_context(|| format!("cannot start {}", program.display()))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
