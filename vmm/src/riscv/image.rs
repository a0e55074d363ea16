//! Kernels for RISC-V: the Linux `Image` (Documentation/arch/riscv/boot-image-header.rst), ELF, and flat
//! binaries.

use crate::loader::{
    Format, LOAD_OFFSET, LoadError, Loaded, Target, identify, load_elf, load_flat, u32_at, u64_at,
};
use crate::{GuestMemory, RamRange};

/// Images are aligned to a large page, so that the kernel can map itself with those.
const ALIGN: u64 = 2 << 20;

/// Loads the kernel in `file`, whose format is found out, to `ram`.
pub fn load_kernel(memory: &GuestMemory, ram: RamRange, file: &[u8]) -> Result<Loaded, LoadError> {
    match identify(file, Target::Riscv64)? {
        Format::Image => {
            let (offset, size) = image_header(file)?;
            load_flat(memory, ram, file, offset, size)
        }
        Format::Elf => {
            let independent = ram.base.saturating_add(LOAD_OFFSET);
            load_elf(memory, ram, file, Target::Riscv64, independent)
        }
        Format::Flat => load_flat(memory, ram, file, LOAD_OFFSET, file.len() as u64),
    }
}

/// The offset from the start of memory and the size in memory that an `Image` asks for.
fn image_header(file: &[u8]) -> Result<(u64, u64), LoadError> {
    const CUT: LoadError = LoadError::Damaged { what: "it ends within the Image header" };
    const BIG_ENDIAN: u64 = 1;
    let offset = u64_at(file, 8).ok_or(CUT)?;
    let size = u64_at(file, 16).ok_or(CUT)?;
    let flags = u64_at(file, 24).ok_or(CUT)?;
    let version = u32_at(file, 32).ok_or(CUT)?;
    if flags & BIG_ENDIAN != 0 {
        return Err(LoadError::Unsupported { what: "it is a big-endian kernel" });
    }
    if version >> 16 != 0 {
        return Err(LoadError::Unsupported {
            what: "its Image header has a major version that this loader does not know",
        });
    }
    if offset % ALIGN != 0 {
        return Err(LoadError::Damaged { what: "its load offset is not a multiple of 2 MiB" });
    }
    // The size includes memory that is not in the file. Some tools pad the file beyond it.
    Ok((offset, size.max(file.len() as u64)))
}
