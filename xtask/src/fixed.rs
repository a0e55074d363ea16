//! Programs of this repository that need nothing of the machine they run on: linked statically, for an initial file
//! system that has no libraries.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::arch::Arch;
use crate::assets::store;
use crate::cargo::cargo;
use crate::proc;
use crate::progress::Step;

/// The compiler's name for Linux on the processor.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Whether such programs can be built here.
///
/// # Errors
///
/// Fails, with the reason, when they cannot.
pub(crate) fn can_build() -> Result<()> {
    let here = std::env::consts::ARCH;
    let wanted = Arch::X86_64.name();
    ensure!(
        here == wanted,
        "this is a {here} machine; programs for {wanted} are built on {wanted}"
    );
    Ok(())
}

/// Builds `package` and returns its program called `name`.
pub(crate) fn program(package: &str, name: &str) -> Result<PathBuf> {
    let step = Step::new(format!("build `{name}`, linked statically"));
    let mut command = command("build")?;
    let artifacts = build(command.args(["--package", package, "--bin", name]), &step)?;
    step.done("ready");
    executable(&artifacts, "bin", name)
}

/// Builds the tests called `name` of `package` and returns the program that runs them.
pub(crate) fn test(package: &str, name: &str) -> Result<PathBuf> {
    let step = Step::new(format!("build the tests `{name}` of {package}, linked statically"));
    let mut command = command("test")?;
    let artifacts = build(command.args(["--no-run", "--package", package, "--test", name]), &step)?;
    step.done("ready");
    executable(&artifacts, "test", name)
}

/// cargo's `subcommand` with the options for it. The flags mean a target folder of their own, so that the usual one is
/// not rebuilt each time; naming the target keeps them away from build scripts.
fn command(subcommand: &str) -> Result<Command> {
    can_build()?;
    let mut command = cargo();
    command.args([
        subcommand,
        "--release",
        "--target",
        TARGET,
        "--message-format=json-render-diagnostics",
    ]);
    command.env("RUSTFLAGS", "-C target-feature=+crt-static");
    // It would win over the other.
    command.env_remove("CARGO_ENCODED_RUSTFLAGS");
    command.env("CARGO_TARGET_DIR", store().join("static"));
    Ok(command)
}

fn build(command: &mut Command, step: &Step) -> Result<String> {
    let built = step.follow(command)?;
    if !built.status.success() {
        bail!(
            "`{}` failed; if the static C library is missing, install `libc6-dev`:\n{}",
            proc::line(command),
            proc::tail(&built.stderr, 40)
        );
    }
    Ok(built.stdout)
}

/// The file that cargo says it made: `artifacts` has a JSON object a line (the Cargo Book, "External tools").
fn executable(artifacts: &str, kind: &str, name: &str) -> Result<PathBuf> {
    let wanted = [
        "\"reason\":\"compiler-artifact\"",
        &format!("\"kind\":[\"{kind}\"]"),
        &format!("\"name\":\"{name}\""),
    ];
    let mut lines = artifacts.lines();
    let line = lines.find(|line| wanted.iter().all(|part| line.contains(part)));
    let file = line
        .and_then(|line| line.split_once("\"executable\":\""))
        .and_then(|(_, rest)| rest.split_once('"'))
        .with_context(|| format!("cargo names no program for `{name}`"))?;
    let file = PathBuf::from(file.0);
    ensure!(file.is_file(), "the build left no {}", file.display());
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_the_one_cargo_names() {
        let own = std::env::current_exe().unwrap();
        let own = own.display();
        let artifacts = format!(
            "{{\"reason\":\"compiler-artifact\",\"target\":{{\"kind\":[\"lib\"],\"name\":\"kvm\"}},\
             \"executable\":null}}\n\
             {{\"reason\":\"compiler-artifact\",\"target\":{{\"kind\":[\"test\"],\"name\":\"soft\"}},\
             \"executable\":\"/soft\"}}\n\
             {{\"reason\":\"compiler-artifact\",\"target\":{{\"kind\":[\"test\"],\"name\":\"kvm\"}},\
             \"executable\":\"{own}\",\"fresh\":true}}\n\
             {{\"reason\":\"build-finished\",\"success\":true}}\n"
        );
        assert_eq!(executable(&artifacts, "test", "kvm").unwrap(), PathBuf::from(own.to_string()));
        assert!(executable(&artifacts, "lib", "kvm").is_err());
        assert!(executable(&artifacts, "test", "soft").is_err());
        assert!(executable("", "bin", "kvm").is_err());
    }
}
