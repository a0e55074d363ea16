//! Calls of cargo and what this workspace's programs are called.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::assets::workspace;
use crate::proc;
use crate::progress::Step;

/// The package of the command-line host and the program it builds.
const CLI_PACKAGE: &str = "axvcpu-cli";
const CLI_PROGRAM: &str = "axvcpu";

/// cargo in the root of the workspace, the one this command was started by.
pub(crate) fn cargo() -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
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

/// Builds the command-line host with optimization and returns the program.
pub(crate) fn build_cli() -> Result<PathBuf> {
    let step = Step::new("build `axvcpu`");
    let built = step.follow(cargo().args(["build", "--release", "--package", CLI_PACKAGE]))?;
    if !built.status.success() {
        bail!("`axvcpu` does not build:\n{}", proc::tail(&built.stderr, 40));
    }
    let program = target_folder()?.join("release").join(CLI_PROGRAM);
    if !program.is_file() {
        bail!("the build left no {}", program.display());
    }
    step.done("ready");
    Ok(program)
}

/// Where cargo puts what it builds; the environment or a configuration file may
/// have moved it.
fn target_folder() -> Result<PathBuf> {
    let text = proc::output(cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let key = "\"target_directory\":\"";
    let start = text.find(key).context("cargo names no target folder")? + key.len();
    let rest = &text[start..];
    let end = rest.find('"').context("cargo names no target folder")?;
    Ok(PathBuf::from(&rest[..end]))
}
