//! `cargo xtask book`: the book and the documentation of all crates, in one folder.

mod links;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::assets::{store, workspace};
use crate::cargo::cargo;
use crate::proc;
use crate::progress::Step;

/// What is built where there is none: the last series that compilers as old as `rust-version` build.
const VERSION: &str = "0.4.52";

/// What the book can be told.
#[derive(Args)]
pub(crate) struct Options {
    /// Check the links between chapters, and build nothing
    #[arg(long)]
    check: bool,
}

/// Checks links, builds everything, and prints where it is.
pub(crate) fn command(options: &Options) -> Result<ExitCode> {
    let broken = links::check(&workspace())?;
    if !broken.is_empty() {
        bail!("links that lead nowhere:\n  {}", broken.join("\n  "));
    }
    if options.check {
        println!("every link of the book leads somewhere");
        return Ok(ExitCode::SUCCESS);
    }
    let site = store().join("site");
    build_book(&mdbook()?, &site)?;
    build_api(&site.join("api"))?;
    let broken = links::check_api(&workspace(), &site)?;
    if !broken.is_empty() {
        bail!("links into the crates' documentation that lead nowhere:\n  {}", broken.join("\n  "));
    }
    println!("book   {}", site.join("index.html").display());
    println!("crates {}", site.join("api/index.html").display());
    Ok(ExitCode::SUCCESS)
}

/// The program `mdbook`: the machine's, or one that is built once and kept.
fn mdbook() -> Result<PathBuf> {
    if let Some(program) = proc::find("mdbook") {
        return Ok(program);
    }
    let root = store().join(format!("mdbook-{VERSION}"));
    let program = root.join("bin/mdbook");
    if program.is_file() {
        return Ok(program);
    }
    let step = Step::new(format!("build mdBook {VERSION}"));
    let work = store().join("mdbook-build");
    let mut command = cargo();
    command.args(["install", "mdbook", "--version", VERSION, "--locked", "--root"]).arg(&root);
    command.args(["--no-default-features", "--features", "search", "--target-dir"]).arg(&work);
    let done = step.follow(&mut command)?;
    if !done.status.success() || !program.is_file() {
        bail!(
            "there is no `mdbook` on PATH, and it cannot be built ({}):\n{}\n\
             install mdBook, or make the package registry reachable; \
             `cargo xtask book --check` and `cargo doc` need neither",
            done.ended(),
            proc::tail(&done.stderr, 12)
        );
    }
    // It is some hundred megabytes, and nobody looks at it again.
    let _ = fs::remove_dir_all(&work);
    step.done("ready");
    Ok(program)
}

/// Builds the book into `site`, replacing what is there. What mdBook complains about is an error.
fn build_book(mdbook: &Path, site: &Path) -> Result<()> {
    let step = Step::new("mdbook build");
    let mut command = Command::new(mdbook);
    command.arg("build").arg(workspace().join("docs")).arg("--dest-dir").arg(site);
    let done = step.follow(&mut command)?;
    let complaints = complaints(&done.stderr);
    if !done.status.success() || !complaints.is_empty() {
        bail!("the book does not build ({}):\n{}", done.ended(), proc::tail(&done.stderr, 20));
    }
    step.done(&done.ended());
    Ok(())
}

/// The lines of mdBook's log that are no mere information.
fn complaints(log: &str) -> Vec<&str> {
    let is_bad = |line: &&str| {
        line.split_whitespace().take(4).any(|word| {
            matches!(word.trim_matches(['[', ']']), "WARN" | "ERROR" | "warning:" | "error:")
        })
    };
    log.lines().filter(is_bad).collect()
}

/// Documents all crates, and copies that to `api`, with a front page.
fn build_api(api: &Path) -> Result<()> {
    let step = Step::new("cargo doc");
    // In a folder of its own there is nothing that another call of cargo has left.
    let work = store().join("api");
    let mut command = cargo();
    command.args(["doc", "--workspace", "--no-deps", "--target-dir"]).arg(&work);
    let done = step.follow(command.env("RUSTDOCFLAGS", "-D warnings"))?;
    if !done.status.success() {
        bail!("the crates' documentation does not build:\n{}", proc::tail(&done.stderr, 20));
    }
    copy_tree(&work.join("doc"), api)?;
    let front =
        "<!doctype html><meta http-equiv=\"refresh\" content=\"0; url=axvcpu/index.html\">\n";
    let file = api.join("index.html");
    fs::write(&file, front).with_context(|| format!("cannot write {}", file.display()))?;
    step.done(&done.ended());
    Ok(())
}

/// Copies a folder with all that is in it.
fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot list {}", from.display()))? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy_tree(&from, &to)?;
        } else {
            fs::copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_of_either_series_are_seen() {
        let log = "2026-01-01 00:00:00 [INFO] (mdbook::book): Book building has started\n\
                   2026-01-01 00:00:00 [ERROR] (mdbook::preprocess::links): Error updating \"x\"\n\
                   \x20WARN a new one: x\n INFO Book building has started: no error: so far\n";
        assert_eq!(complaints(log).len(), 2);
        assert!(complaints("").is_empty());
    }

    #[test]
    fn the_books_links_lead_somewhere() {
        assert_eq!(links::check(&workspace()).unwrap(), Vec::<String>::new());
    }
}
