//! Kernels for AArch64: the Linux `Image` (Documentation/arch/arm64/booting.rst), ELF, and flat binaries.

use crate::loader::{
    Format, LOAD_OFFSET, LoadError, Loaded, Target, identify, load_elf, load_flat, u64_at,
};
use crate::{GuestMemory, RamRange};

/// What an `Image` is placed relative to: a multiple of this.
const ALIGN: u64 = 2 << 20;
/// Where kernels go that are too old to say.
const OLD_OFFSET: u64 = 0x8_0000;

/// Loads the kernel in `file`, whose format is found out, to `ram`.
pub fn load_kernel(memory: &GuestMemory, ram: RamRange, file: &[u8]) -> Result<Loaded, LoadError> {
    match identify(file, Target::Arm64)? {
        Format::Image => {
            let (offset, size) = image_header(file)?;
            let up = ram.base.wrapping_neg() % ALIGN;
            load_flat(memory, ram, file, up.saturating_add(offset), size)
        }
        Format::Elf => {
            let independent = ram.base.saturating_add(LOAD_OFFSET);
            load_elf(memory, ram, file, Target::Arm64, independent)
        }
        Format::Flat => load_flat(memory, ram, file, LOAD_OFFSET, file.len() as u64),
    }
}

/// The offset from a multiple of 2 MiB and the size in memory that an `Image` asks for.
fn image_header(file: &[u8]) -> Result<(u64, u64), LoadError> {
    const CUT: LoadError = LoadError::Damaged { what: "it ends within the Image header" };
    const BIG_ENDIAN: u64 = 1;
    const PAGE: u64 = 4096;
    let offset = u64_at(file, 8).ok_or(CUT)?;
    let size = u64_at(file, 16).ok_or(CUT)?;
    let flags = u64_at(file, 24).ok_or(CUT)?;
    let length = file.len() as u64;
    if flags & BIG_ENDIAN != 0 {
        return Err(LoadError::Unsupported { what: "it is a big-endian kernel" });
    }
    if size == 0 {
        // Before Linux 3.17: neither the size nor the byte order of the offset is known.
        return Ok((OLD_OFFSET, length));
    }
    if offset % PAGE != 0 {
        return Err(LoadError::Damaged { what: "its load offset is not a multiple of 4 KiB" });
    }
    // The size includes memory that is not in the file. Some tools pad the file beyond it.
    Ok((offset, size.max(length)))
}
