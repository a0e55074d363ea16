//! Programs unpacked from packages, started through the dynamic loader from the
//! same packages: they run on any machine with the same processor.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The dynamic loader among unpacked packages.
pub(super) struct Loader {
    /// The name of the folder below `usr/lib` that holds the C library.
    libraries: String,
    /// The loader's own name: it is the architecture's.
    name: String,
}

impl Loader {
    /// Finds the loader below `root`.
    pub(super) fn find(root: &Path) -> Result<Self> {
        let libraries = library_folder(root)?;
        let name = fs::read_dir(root.join("usr/lib").join(&libraries))
            .context("cannot list the unpacked libraries")?
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .find(|name| name.starts_with("ld-linux"))
            .context("the unpacked C library has no loader")?;
        Ok(Self { libraries, name })
    }

    /// The folder of the libraries it loads, below `root`.
    pub(super) fn folder(&self, root: &Path) -> PathBuf {
        root.join("usr/lib").join(&self.libraries)
    }

    /// The loader itself.
    pub(super) fn file(&self, root: &Path) -> PathBuf {
        self.folder(root).join(&self.name)
    }

    /// Writes the script `folder/name` that starts `folder/root/usr/bin/name`.
    /// `before` is shell for what it needs around it, `arguments` come before
    /// its own; both may use `$here`, the folder, and `$lib`, its libraries.
    pub(super) fn script(
        &self,
        folder: &Path,
        name: &str,
        before: &str,
        arguments: &str,
    ) -> Result<()> {
        let Self { libraries, name: loader } = self;
        script(
            &folder.join(name),
            &format!(
                "lib=\"$here/root/usr/lib/{libraries}\"\n{before}\
                 exec \"$lib/{loader}\" --library-path \"$lib\" \
                 \"$here/root/usr/bin/{name}\" {arguments} \"$@\"\n"
            ),
        )
    }
}

/// Writes an executable shell script that knows its own folder as `$here`. The
/// script replaces itself by the program, so a signal sent to it arrives there.
pub(super) fn script(file: &Path, body: &str) -> Result<()> {
    let text = format!("#!/bin/sh\nhere=$(cd \"$(dirname \"$0\")\" && pwd) || exit\n{body}");
    fs::write(file, text)
        .and_then(|()| fs::set_permissions(file, fs::Permissions::from_mode(0o755)))
        .with_context(|| format!("cannot write {}", file.display()))
}

fn library_folder(root: &Path) -> Result<String> {
    let entries = fs::read_dir(root.join("usr/lib")).context("nothing was unpacked")?;
    for entry in entries.flatten() {
        if entry.path().join("libc.so.6").exists() {
            return Ok(entry.file_name().to_string_lossy().into_owned());
        }
    }
    bail!("the C library is missing among the unpacked packages")
}
