//! Stages that build the source in every way it has to build.

use anyhow::Result;

use super::{Report, succeeded};
use crate::bare::{self, Target};
use crate::cargo::cargo;
use crate::progress::Step;

/// Targets without an operating system, and the libraries that must build for them.
const NO_STD: &[(&str, &[&str])] = &[
    (bare::HYPERVISOR, &["axvcpu", "axvcpu-riscv", "axvcpu-riscv64", "axvcpu-soft", "axvcpu-vmm"]),
    ("x86_64-unknown-none", &["axvcpu", "axvcpu-soft", "axvcpu-vmm"]),
];

/// Packages of which bare metal sees more than other machines do.
const BARE_METAL: &[&str] = &["axvcpu-riscv64", "axvcpu-baremetal"];

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

    // Most of these is left out of a build for this machine.
    let name = format!("no warnings for {}", bare::HYPERVISOR);
    let target = Target::new(bare::HYPERVISOR)?;
    if !target.is_installed() {
        report.skip(&name, "the toolchain that has this target has no clippy");
        return Ok(());
    }
    let step = Step::new("cargo clippy for bare metal");
    let mut command = target.cargo("clippy")?;
    for package in BARE_METAL {
        command.args(["--package", package]);
    }
    let done = step.follow(command.args(["--", "-D", "warnings"]))?;
    step.done(&done.ended());
    report.check(&name, succeeded("clippy-bare", &done));
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
    for (name, packages) in NO_STD {
        let target = Target::new(name)?;
        for package in *packages {
            let name = format!("{package} for {name}");
            let step = Step::new(format!("build {name}"));
            let mut command = target.cargo("build")?;
            let done = step.follow(command.args(["--package", package]))?;
            step.done(&done.ended());
            report.check(&name, succeeded(&format!("no_std-{package}"), &done));
        }
    }
    Ok(())
}
