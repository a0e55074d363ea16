//! Building what runs without an operating system: libraries for any such
//! target, and the hypervisor images.
//!
//! rustup has the targets' libraries. A toolchain without rustup may have the
//! source of its library, which cargo then builds (`-Zbuild-std`); where that is
//! missing too, a toolchain of Debian's that has it is fetched. The switch that
//! makes a stable compiler accept this (`RUSTC_BOOTSTRAP`) is set for these
//! builds only.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::arch::Bare;
use crate::assets::{store, toolchain};
use crate::progress::Step;
use crate::{cargo, proc};

/// The package with the images, and the profile they are built with.
const PACKAGE: &str = "axvcpu-baremetal";
const PROFILE: &str = "baremetal";

/// A target that can be built for.
pub(crate) struct Target {
    name: &'static str,
    route: Route,
}

/// Where the target's library comes from.
enum Route {
    /// It is installed.
    Installed,
    /// From the source that the toolchain brings along.
    Source,
    /// From the source in a toolchain of its own.
    Fetched(toolchain::Toolchain),
}

impl Target {
    /// Finds a way to build for the target called `name`, and prepares it.
    ///
    /// # Errors
    ///
    /// Fails when there is none; the message says what to install.
    pub(crate) fn new(name: &'static str) -> Result<Self> {
        let route = if is_installed(name) {
            Route::Installed
        } else if let Err(refused) = install(name) {
            if can_build_library() {
                Route::Source
            } else {
                let fetched = toolchain::fetch();
                Route::Fetched(fetched.with_context(|| format!("{refused:#}")).with_context(
                    || format!("the Rust target {name} is missing: `rustup target add {name}`"),
                )?)
            }
        } else {
            Route::Installed
        };
        Ok(Self { name, route })
    }

    /// cargo's `subcommand` for this target.
    pub(crate) fn cargo(&self, subcommand: &str) -> Result<Command> {
        let mut command = match &self.route {
            Route::Installed | Route::Source => cargo::cargo(),
            Route::Fetched(toolchain) => cargo::other(&toolchain.cargo),
        };
        command.args([subcommand, "--target", self.name]);
        if let Route::Source | Route::Fetched(_) = self.route {
            command.env("RUSTC_BOOTSTRAP", "1");
            command.arg("-Zbuild-std=core,alloc");
            command.arg("-Zbuild-std-features=compiler-builtins-mem");
        }
        if let Route::Fetched(toolchain) = &self.route {
            let linker = format!("CARGO_TARGET_{}_LINKER", self.name.replace('-', "_"));
            command.env(linker.to_uppercase(), &toolchain.linker);
            command.env("RUSTC", &toolchain.rustc);
            command.env("CARGO_TARGET_DIR", self.folder()?);
        }
        Ok(command)
    }

    /// Where cargo puts what it builds. Another toolchain has a folder of its
    /// own, so that the usual one is not rebuilt each time.
    fn folder(&self) -> Result<PathBuf> {
        match self.route {
            Route::Installed | Route::Source => cargo::target_folder(),
            Route::Fetched(_) => Ok(store().join("bare")),
        }
    }

    /// Whether the machine's own toolchain is used, with all its tools.
    pub(crate) fn is_installed(&self) -> bool {
        matches!(self.route, Route::Installed)
    }
}

/// Builds the hypervisor image called `name` for `arch` and returns the file.
pub(crate) fn image(name: &str, arch: Bare) -> Result<PathBuf> {
    let target = Target::new(arch.target())?;
    let step = Step::new(format!("build the image `{name}` for {arch}"));
    let mut command = target.cargo("build")?;
    let built =
        step.follow(command.args(["--profile", PROFILE, "--package", PACKAGE, "--bin", name]))?;
    if !built.status.success() {
        bail!("the image `{name}` for {arch} does not build:\n{}", proc::tail(&built.stderr, 40));
    }
    let image = target.folder()?.join(arch.target()).join(PROFILE).join(name);
    if !image.is_file() {
        bail!("the build left no {}", image.display());
    }
    step.done("ready");
    Ok(image)
}

fn rustc() -> Command {
    Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
}

/// Whether the compiler has the target's libraries.
fn is_installed(target: &str) -> bool {
    let folder = proc::output(rustc().args(["--print", "target-libdir", "--target", target]));
    // A compiler from a distribution names a folder even if nothing is there.
    folder.is_ok_and(|folder| {
        let files = fs::read_dir(folder.trim()).into_iter().flatten().flatten();
        files.into_iter().any(|file| file.file_name().to_string_lossy().starts_with("libcore-"))
    })
}

fn install(target: &str) -> Result<()> {
    let step = Step::new(format!("rustup target add {target}"));
    proc::output(Command::new("rustup").args(["target", "add", target]))?;
    // rustup may serve another compiler than the one in use.
    if !is_installed(target) {
        bail!("the compiler in use is not the one that rustup serves");
    }
    step.done("installed");
    Ok(())
}

/// Whether the compiler brings its library's source, and a linker for any target.
fn can_build_library() -> bool {
    let Ok(sysroot) = proc::output(rustc().args(["--print", "sysroot"])) else { return false };
    let library = Path::new(sysroot.trim()).join("lib/rustlib");
    let linkers = fs::read_dir(&library).into_iter().flatten().flatten();
    let linker = proc::find("rust-lld").is_some()
        || linkers.into_iter().any(|host| host.path().join("bin/rust-lld").is_file());
    linker && library.join("src/rust/library/Cargo.lock").is_file()
}
