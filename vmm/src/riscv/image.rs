//! Kernels for RISC-V: the Linux `Image` (Documentation/arch/riscv/boot-image-header.rst), ELF, and flat
//! binaries.

use crate::loader::{Format, LoadError, Loaded, identify, load_elf, u32_at, u64_at};
use crate::{GuestMemory, RamRange};

/// Where programs without an address of their own go: this far into memory. The first 2 MiB belong to the
/// firmware on real machines.
pub const LOAD_OFFSET: u64 = 2 << 20;

/// Images are aligned to a large page, so that the kernel can map itself with those.
const ALIGN: u64 = 2 << 20;

/// Loads the kernel in `file`, whose format is found out, to `ram`.
pub fn load_kernel(memory: &GuestMemory, ram: RamRange, file: &[u8]) -> Result<Loaded, LoadError> {
    match identify(file)? {
        Format::RiscvImage => {
            let (offset, size) = image_header(file)?;
            copy(memory, ram, file, offset, size)
        }
        Format::Elf => load_elf(memory, ram, ram.base.saturating_add(LOAD_OFFSET), file),
        Format::Flat => copy(memory, ram, file, LOAD_OFFSET, file.len() as u64),
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

fn copy(
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
