//! Kernels for x86-64: Linux's `bzImage`, ELF with and without a PVH entry, and flat binaries.

use super::bzimage::{self, SetupHeader};
use super::layout::HIGH;
use crate::loader::{
    Elf, Format, LOAD_OFFSET, LoadError, Loaded, Target, identify, load_flat, u32_at, u64_at,
};
use crate::{GuestMemory, RamRange};

/// The type of the note that has a PVH entry, and who defines it (Xen, include/public/elfnote.h).
const PHYS32_ENTRY: u32 = 18;
const XEN: &[u8] = b"Xen\0";

/// How a kernel wants to be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// In long mode with `boot_params`: Linux's 64-bit boot protocol.
    Linux(SetupHeader),
    /// In protected mode with `hvm_start_info`.
    Pvh,
}

/// A kernel in guest memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kernel {
    pub(super) loaded: Loaded,
    pub(super) protocol: Protocol,
}

/// Loads the kernel in `file`, whose format is found out. `ram` begins at 0 and ends below the hole.
pub(super) fn load_kernel(
    memory: &GuestMemory,
    ram: RamRange,
    file: &[u8],
) -> Result<Kernel, LoadError> {
    let program = |loaded| Kernel { loaded, protocol: Protocol::Linux(SetupHeader::of_program()) };
    match identify(file, Target::X86_64)? {
        Format::Image => {
            let (loaded, header) = bzimage::load(memory, ram, file)?;
            Ok(Kernel { loaded, protocol: Protocol::Linux(header) })
        }
        Format::Elf => {
            // What is below is taken: tables, and what the kernel is told.
            let ram = RamRange { base: HIGH, size: ram.size.saturating_sub(HIGH) };
            let elf = Elf::parse(file, Target::X86_64, LOAD_OFFSET)?;
            let Some(entry) = elf.note(XEN, PHYS32_ENTRY) else {
                return Ok(program(elf.load(memory, ram)?));
            };
            let entry = pvh_entry(entry, &elf)?;
            let loaded = Loaded { entry, ..elf.load(memory, ram)? };
            Ok(Kernel { loaded, protocol: Protocol::Pvh })
        }
        Format::Flat => Ok(program(load_flat(memory, ram, file, HIGH, file.len() as u64)?)),
    }
}

/// The address in a note, which is of 32 or 64 bits.
fn pvh_entry(note: &[u8], elf: &Elf<'_>) -> Result<u64, LoadError> {
    let entry = match note.len() {
        4 => u32_at(note, 0).map(u64::from),
        8 => u64_at(note, 0),
        _ => None,
    };
    entry
        .and_then(|entry| elf.loaded_to(entry))
        .filter(|&entry| entry <= u32::MAX.into())
        .ok_or(LoadError::Damaged { what: "its PVH entry point lies outside of what it loads" })
}

#[cfg(test)]
#[path = "kernel_tests.rs"]
mod tests;
