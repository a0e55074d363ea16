//! Guest programs: telling formats apart, and copying what is to be loaded to guest memory.
//!
//! Image files are not trusted: every size and offset in them is checked against the file and the memory.

mod elf;
mod error;
mod format;
mod target;

pub use error::LoadError;
pub use format::{Format, identify};
pub use target::Target;

pub(crate) use elf::{Elf, load_elf};

use crate::{GuestMemory, RamRange};

/// A program in guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The guest physical address of its first instruction.
    pub entry: u64,
    /// The first guest physical address it occupies.
    pub start: u64,
    /// The first guest physical address behind it, memory that it clears itself included.
    pub end: u64,
}

/// Where programs without an address of their own go: this far into memory. The first 2 MiB belong to the
/// firmware on real machines.
pub const LOAD_OFFSET: u64 = 2 << 20;

/// Copies `file` to `offset` in `ram`, where it has `size` bytes, and starts at the first.
pub(crate) fn load_flat(
    memory: &GuestMemory,
    ram: RamRange,
    file: &[u8],
    offset: u64,
    size: u64,
) -> Result<Loaded, LoadError> {
    let needed = offset.saturating_add(size);
    if needed > ram.size {
        let what = "the kernel";
        return Err(LoadError::TooSmall { what, needed, available: ram.size });
    }
    let start = ram.base + offset;
    memory.write(start, file)?;
    Ok(Loaded { entry: start, start, end: start + size })
}

/// Little-endian numbers out of a file; `None` where it is too short.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(array_at(bytes, at)?))
}

/// As [`u16_at`].
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(array_at(bytes, at)?))
}

/// As [`u16_at`].
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(array_at(bytes, at)?))
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
mod tests;
