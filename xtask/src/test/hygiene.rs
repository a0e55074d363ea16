//! Stages that build the source in every way it has to build.

use std::process::Command;

use anyhow::Result;

use super::{Report, succeeded};
use crate::cargo::cargo;
use crate::proc;
use crate::progress::Step;

/// Libraries that must build without an operating system, and the targets they
/// must build for. Hypervisors are built without floating-point registers.
const NO_STD: &[(&str, &[&str])] = &[
    ("axvcpu", &["riscv64imac-unknown-none-elf", "x86_64-unknown-none"]),
    ("axvcpu-riscv", &["riscv64imac-unknown-none-elf"]),
    ("axvcpu-soft", &["riscv64imac-unknown-none-elf", "x86_64-unknown-none"]),
    ("axvcpu-vmm", &["riscv64imac-unknown-none-elf", "x86_64-unknown-none"]),
];

pub(super) fn fmt(report: &mut Report, _quick: bool) -> Result<()> {
    let step = Step::new("cargo fmt --check");
    let done = step.follow(cargo().args(["fmt", "--all", "--check"]))?;
    step.done(&done.ended());
    report.check("formatting", succeeded("fmt", &done));
    Ok(())
}

pub(super) fn clippy(report: &mut Report, _quick: bool) -> Result<()> {
    let step = Step::new("cargo clippy");
    let mut command = cargo();
    command.args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]);
    let done = step.follow(&mut command)?;
    step.done(&done.ended());
    report.check("no warnings", succeeded("clippy", &done));
    Ok(())
}

pub(super) fn doc(report: &mut Report, _quick: bool) -> Result<()> {
    let step = Step::new("cargo doc");
    let mut command = cargo();
    command.args(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings");
    let done = step.follow(&mut command)?;
    step.done(&done.ended());
    report.check("documentation", succeeded("doc", &done));
    Ok(())
}

pub(super) fn no_std(report: &mut Report, _quick: bool) -> Result<()> {
    for (package, targets) in NO_STD {
        for target in *targets {
            let name = format!("{package} for {target}");
            if let Err(reason) = ensure_target(target) {
                report.skip(&name, &format!("{reason:#}").replace('\n', " "));
                continue;
            }
            let step = Step::new(format!("build {name}"));
            let mut command = cargo();
            command.args(["build", "--package", package, "--target", target]);
            let done = step.follow(&mut command)?;
            step.done(&done.ended());
            report.check(&name, succeeded(&format!("no_std-{package}"), &done));
        }
    }
    Ok(())
}

/// Makes sure the compiler has `target`'s libraries, installing them where
/// rustup can.
fn ensure_target(target: &str) -> Result<()> {
    let rustc =
        Command::new("rustc").args(["--print", "target-libdir", "--target", target]).output();
    if let Ok(done) = rustc {
        let folder = String::from_utf8_lossy(&done.stdout).trim().to_owned();
        if done.status.success() && std::path::Path::new(&folder).is_dir() {
            return Ok(());
        }
    }
    let step = Step::new(format!("rustup target add {target}"));
    proc::output(Command::new("rustup").args(["target", "add", target]))?;
    step.done("installed");
    Ok(())
}
