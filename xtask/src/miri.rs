//! `cargo xtask miri`: tests under Miri, which finds undefined behaviour that does not show.
//!
//! Miri is slow, so that these are the tests that come to their end in minutes, of the code that has pointers.

use std::process::{Command, ExitCode};

use anyhow::{Result, bail};

use crate::cargo;
use crate::proc;

/// What a machine without Miri needs.
const MISSING: &str = "skipped: there is no nightly toolchain with Miri here: \
                       rustup toolchain install nightly --component miri,rust-src";

/// How Miri is told to judge: a test of the core leaks a vCPU on purpose; guests know the addresses of memory as numbers; and
/// guest memory is accessed by atomics of several widths, which its model of weak memory does not know.
const FLAGS: &str = "-Zmiri-ignore-leaks -Zmiri-permissive-provenance \
                     -Zmiri-disable-weak-memory-emulation";

/// What is run: a package, what of it, and the tests' names.
const PARTS: [(&str, &[&str], &[&str]); 3] = [
    ("axvcpu", &["--lib"], &[]),
    ("axvcpu-vmm", &["--lib"], &["memory::", "cpus::"]),
    ("axvcpu-soft", &["--test", "hart"], &["basics::"]),
];

/// Runs all of it.
pub(crate) fn command() -> Result<ExitCode> {
    let miri = || {
        // rustup's, which chooses the toolchain; the one that started this program has chosen already.
        let mut command = cargo::other("cargo");
        command.env_remove("RUSTUP_TOOLCHAIN").args(["+nightly", "miri"]);
        command
    };
    let works = |mut command: Command| {
        proc::run(command.arg("--version"), &[], None).is_ok_and(|done| done.status.success())
    };
    if !works(miri()) {
        eprintln!("miri: {MISSING}");
        return Ok(ExitCode::SUCCESS);
    }
    for (package, what, names) in PARTS {
        println!("== miri: {package} {}", names.join(" "));
        let mut command = miri();
        command.args(["test", "--package", package]).args(what).arg("--").args(names);
        if !proc::spawn(command.env("MIRIFLAGS", FLAGS))?.wait()?.success() {
            bail!("`{}` failed", proc::line(&command));
        }
    }
    Ok(ExitCode::SUCCESS)
}
