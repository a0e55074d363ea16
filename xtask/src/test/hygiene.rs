//! Stages that build the source in every way it has to build.

use anyhow::Result;

use super::{Report, succeeded};
use crate::arch::Bare;
use crate::bare::Target;
use crate::cargo::cargo;
use crate::progress::Step;

/// Targets without an operating system, and the libraries that must build for them.
const NO_STD: &[(&str, &[&str])] = &[
    (
        Bare::Riscv64.target(),
        &["axvcpu", "axvcpu-riscv", "axvcpu-riscv64", "axvcpu-soft", "axvcpu-vmm"],
    ),
    (
        Bare::Aarch64.target(),
        &["axvcpu", "axvcpu-stage2", "axvcpu-arm", "axvcpu-aarch64", "axvcpu-vmm"],
    ),
    ("x86_64-unknown-none", &["axvcpu", "axvcpu-soft", "axvcpu-x86", "axvcpu-vmm"]),
];

/// Packages of which bare metal sees more than other machines do.
fn bare_metal(arch: Bare) -> [&'static str; 2] {
    match arch {
        Bare::Riscv64 => ["axvcpu-riscv64", "axvcpu-baremetal"],
        Bare::Aarch64 => ["axvcpu-aarch64", "axvcpu-baremetal"],
    }
}

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

    for arch in Bare::ALL {
        bare_metal_clippy(report, arch)?;
    }
    Ok(())
}

/// Most of these is left out of a build for this machine.
fn bare_metal_clippy(report: &mut Report, arch: Bare) -> Result<()> {
    let name = format!("no warnings for {}", arch.target());
    let target = Target::new(arch.target())?;
    if !target.is_installed() {
        report.skip(&name, "the toolchain that has this target has no clippy");
        return Ok(());
    }
    let step = Step::new(format!("cargo clippy for bare metal, {arch}"));
    let mut command = target.cargo("clippy")?;
    for package in bare_metal(arch) {
        command.args(["--package", package]);
    }
    let done = step.follow(command.args(["--", "-D", "warnings"]))?;
    step.done(&done.ended());
    report.check(&name, succeeded(&format!("clippy-{arch}"), &done));
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
