//! Kernel modules out of a kernel's package: those that one needs, in the order they are loaded in.
//!
//! The package has no list of who needs whom, that is made where it is installed; but each module says whom it needs,
//! among other strings in a section of its own (the kernel's `include/linux/moduleparam.h`).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::proc;

/// How the package's modules are packed.
const PACKED: &str = ".ko.xz";

/// Puts the module called `name` from below `unpacked`, and all that it needs, into the folder `into`, unpacked, and
/// answers their file names, those first that others need. `busybox` unpacks them on a machine without the tool.
///
/// # Errors
///
/// Fails when one is missing or cannot be unpacked.
pub(super) fn extract(
    unpacked: &Path,
    name: &str,
    into: &Path,
    busybox: &Path,
) -> Result<Vec<String>> {
    fs::create_dir_all(into).with_context(|| format!("cannot make {}", into.display()))?;
    let mut files = BTreeMap::new();
    find(unpacked, &mut files)?;
    let mut order = Vec::new();
    add(name, &files, into, busybox, &mut order)?;
    Ok(order)
}

/// Adds the module called `name`, unless it is there, behind those that it needs.
fn add(
    name: &str,
    files: &BTreeMap<String, PathBuf>,
    into: &Path,
    busybox: &Path,
    order: &mut Vec<String>,
) -> Result<()> {
    let file_name = format!("{name}.ko");
    if order.contains(&file_name) {
        return Ok(());
    }
    let packed = files.get(name).with_context(|| format!("the kernel has no module `{name}`"))?;
    let module = unpack(packed, busybox)?;
    for needed in dependencies(&module)? {
        // No module needs itself, whichever way around: the kernel could not load it.
        add(&needed, files, into, busybox, order)?;
    }
    let file = into.join(&file_name);
    fs::write(&file, module).with_context(|| format!("cannot write {}", file.display()))?;
    order.push(file_name);
    Ok(())
}

/// All modules below `folder`, by name. Names of files may have `-` where the names of modules have `_`.
fn find(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            find(&path, files)?;
        } else if let Some(name) = name.to_string_lossy().strip_suffix(PACKED) {
            files.insert(name.replace('-', "_"), path);
        }
    }
    Ok(())
}

fn unpack(packed: &Path, busybox: &Path) -> Result<Vec<u8>> {
    let mut command = match proc::find("xz") {
        Some(xz) => Command::new(xz),
        None => {
            let mut command = Command::new(busybox);
            command.arg("xz");
            command
        }
    };
    command.args(["-d", "-c"]).arg(packed).stdin(Stdio::null());
    let done = command
        .output()
        .context("kernel modules cannot be unpacked here: install the package `xz-utils`")?;
    ensure!(
        done.status.success(),
        "cannot unpack {}: {}",
        packed.display(),
        String::from_utf8_lossy(&done.stderr).trim()
    );
    Ok(done.stdout)
}

/// The names of the modules that a module says it needs.
fn dependencies(module: &[u8]) -> Result<Vec<String>> {
    let key = b"\0depends=";
    let Some(at) = module.windows(key.len()).position(|bytes| bytes == key) else {
        bail!("a kernel module does not say what it needs");
    };
    let rest = &module[at + key.len()..];
    let end = rest.iter().position(|byte| *byte == 0).context("a kernel module ends too early")?;
    let names = std::str::from_utf8(&rest[..end]).context("a kernel module's name is no text")?;
    Ok(names
        .split(',')
        .filter(|name| !name.is_empty())
        .map(|name| name.replace('-', "_"))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_say_what_they_need() {
        let needs = |text: &[u8]| dependencies(text);
        assert_eq!(needs(b"x\0depends=kvm,ccp-x\0name=y\0").unwrap(), ["kvm", "ccp_x"]);
        assert_eq!(needs(b"x\0depends=\0name=y\0").unwrap(), [""; 0]);
        assert!(needs(b"x\0name=y\0").is_err());
        assert!(needs(b"x\0depends=kvm").is_err());
    }
}
