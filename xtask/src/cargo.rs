//! Calls of cargo and what this workspace's programs are called.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::assets::workspace;
use crate::proc;
use crate::progress::Step;

/// cargo in the root of the workspace, the one this command was started by.
pub(crate) fn cargo() -> Command {
    other(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Another cargo in the root of the workspace.
pub(crate) fn other(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(workspace());
    // Set by `cargo run` for this program; a cargo below it sets its own.
    for (name, _) in std::env::vars_os() {
        let known = name.to_string_lossy();
        if known.starts_with("CARGO_PKG_") || known.starts_with("CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    command
}

/// Builds `axvcpu`, the command-line host, and returns the program.
pub(crate) fn build_cli() -> Result<PathBuf> {
    build("axvcpu-cli", "axvcpu")
}

/// Builds `package` with optimization and returns its program called `name`.
pub(crate) fn build(package: &str, name: &str) -> Result<PathBuf> {
    build_one(package, name, &[], name)
}

/// Builds `package` with optimization and returns its example called `name`.
pub(crate) fn build_example(package: &str, name: &str) -> Result<PathBuf> {
    build_one(package, name, &["--example", name], &format!("examples/{name}"))
}

fn build_one(package: &str, name: &str, options: &[&str], place: &str) -> Result<PathBuf> {
    let step = Step::new(format!("build `{name}`"));
    let mut command = cargo();
    command.args(["build", "--release", "--package", package]).args(options);
    let built = step.follow(&mut command)?;
    if !built.status.success() {
        bail!("`{name}` does not build:\n{}", proc::tail(&built.stderr, 40));
    }
    let program = target_folder()?.join("release").join(place);
    if !program.is_file() {
        bail!("the build left no {}", program.display());
    }
    step.done("ready");
    Ok(program)
}

/// Where cargo puts what it builds; the environment or a configuration file may
/// have moved it.
pub(crate) fn target_folder() -> Result<PathBuf> {
    let text = proc::output(cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let key = "\"target_directory\":\"";
    let start = text.find(key).context("cargo names no target folder")? + key.len();
    let rest = &text[start..];
    let end = rest.find('"').context("cargo names no target folder")?;
    Ok(PathBuf::from(&rest[..end]))
}
