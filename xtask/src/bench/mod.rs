//! `cargo xtask bench`: what guests cost here, next to QEMU on the same machine
//! with the same guests.

mod count;
mod hardware;
mod kvm;
mod soft;
mod summary;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::arch::Bare;

/// What the benchmark can be told.
#[derive(Args)]
pub(crate) struct Options {
    /// What executes the guests
    #[arg(long, short, value_name = "NAME", value_enum, default_value_t = Backend::Soft)]
    backend: Backend,
    /// How often each measurement of time is repeated; the best counts
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Also write the numbers to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fail if a target is missed
    #[arg(long)]
    strict: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Backend {
    /// The RISC-V hart in software: processor time
    Soft,
    /// RISC-V's hypervisor extension: instructions, counted by QEMU
    Riscv64,
    /// AArch64's EL2: instructions, counted by QEMU
    Aarch64,
    /// Linux's KVM: instructions between exits, counted by the processor or by valgrind;
    /// and Debian's boot in a virtual machine
    Kvm,
}

/// Measures, prints a table, and says whether the targets are met.
pub(crate) fn command(options: &Options) -> Result<ExitCode> {
    match options.backend {
        Backend::Soft => soft::measure(options),
        Backend::Riscv64 => hardware::measure(options, Bare::Riscv64),
        Backend::Aarch64 => hardware::measure(options, Bare::Aarch64),
        Backend::Kvm => kvm::measure(options),
    }
}
