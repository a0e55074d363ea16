//! The files the user names, read and checked before anything starts.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use axvcpu_vmm::loader;

use crate::args::Backend;
use crate::board::Engine;
use crate::report::{Failure, quoted};
use crate::size::Size;

/// A kernel's file.
pub(crate) struct Kernel {
    pub(crate) file: Vec<u8>,
}

/// Reads a kernel, and chooses what runs it if the user did not. Checks that that can.
pub(crate) fn kernel(
    path: &Path,
    backend: Backend,
    memory: Size,
) -> Result<(Kernel, Engine), Failure> {
    let file = read("kernel", path, memory)?;
    let engine = match backend {
        Backend::Soft => Engine::Soft,
        Backend::Kvm => Engine::Kvm,
        Backend::Auto if is_x86(&file) => Engine::Kvm,
        Backend::Auto => Engine::Soft,
    };
    let target = match engine {
        Engine::Soft => loader::Target::Riscv64,
        Engine::Kvm => loader::Target::X86_64,
    };
    match loader::identify(&file, target) {
        Ok(_) => Ok((Kernel { file }, engine)),
        Err(error) => Err(Failure::Usage(format!("kernel {}: {error}", quoted(path)))),
    }
}

/// Reads an initial RAM disk.
pub(crate) fn initrd(path: &Path, memory: Size) -> Result<Vec<u8>, Failure> {
    read("initrd", path, memory)
}

/// Whether a kernel is for the processors that only KVM runs: a Linux boot image (Linux,
/// Documentation/arch/x86/boot.rst) or an ELF file for x86-64 (System V gABI, chapter 4).
fn is_x86(file: &[u8]) -> bool {
    let has = |at: usize, bytes: &[u8]| file.get(at..).is_some_and(|rest| rest.starts_with(bytes));
    has(0x202, b"HdrS") && has(0x1fe, &[0x55, 0xaa])
        || has(0, b"\x7fELF") && has(0x12, &62u16.to_le_bytes())
}

/// Reads a whole file that has to fit into the guest's memory.
fn read(role: &str, path: &Path, memory: Size) -> Result<Vec<u8>, Failure> {
    let usage = |text: String| Failure::Usage(format!("{role} {}{text}", quoted(path)));
    let unreadable = |error: io::Error| {
        usage(match error.kind() {
            io::ErrorKind::NotFound => " does not exist".into(),
            io::ErrorKind::PermissionDenied => {
                " cannot be read: permission denied; check its access rights".into()
            }
            _ => format!(" cannot be read: {error}"),
        })
    };
    let too_large = |size: Option<u64>| {
        let size = size.map_or(String::new(), |size| format!(" ({size} bytes)"));
        usage(format!("{size} does not fit into {memory} of memory: raise --memory"))
    };
    // Opened only once it is known that opening does something sensible.
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if let Some(kind) = unusable(&metadata) {
        return Err(usage(format!(" is {kind}; give a file")));
    }
    if metadata.is_file() && metadata.len() > memory.0 {
        return Err(too_large(Some(metadata.len())));
    }
    let mut content = Vec::new();
    // A pipe, or a file that grows, says its size only at its end.
    let file = File::open(path).map_err(unreadable)?;
    file.take(memory.0 + 1).read_to_end(&mut content).map_err(unreadable)?;
    if content.is_empty() {
        return Err(usage(" is empty".into()));
    }
    if content.len() as u64 > memory.0 {
        return Err(too_large(None));
    }
    Ok(content)
}

fn unusable(metadata: &Metadata) -> Option<&'static str> {
    let kind = metadata.file_type();
    if kind.is_file() || kind.is_fifo() {
        None
    } else if kind.is_dir() {
        Some("a directory")
    } else {
        Some("a device or socket")
    }
}
