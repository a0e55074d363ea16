//! Writes the guest as a flat binary.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use axvcpu_guest_compute::{DEFAULT_ROUNDS, image, instructions};
use clap::Parser;

#[derive(Parser)]
#[command(
    about = "Writes a RISC-V guest that computes, prints a checksum and switches its machine off"
)]
struct Arguments {
    /// How often it computes everything
    #[arg(long, default_value_t = DEFAULT_ROUNDS)]
    rounds: u32,
    /// The flat binary, to be loaded at 0x80200000
    file: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let Arguments { rounds, file } = Arguments::parse();
    fs::write(&file, image(rounds)?).with_context(|| format!("cannot write {}", file.display()))?;
    println!("{} instructions", instructions(rounds));
    Ok(())
}
