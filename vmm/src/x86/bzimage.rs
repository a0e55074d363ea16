//! Linux's `bzImage`: the setup header, and where the kernel goes (Linux, Documentation/arch/x86/boot.rst).

use alloc::vec::Vec;

use super::layout::{CMDLINE_SIZE, HIGH, HOLE};
use crate::loader::{LoadError, Loaded, u16_at, u32_at, u64_at};
use crate::{GuestMemory, RamRange};

/// Offsets of fields, in the file as in `boot_params`.
pub(super) mod field {
    pub(crate) const SETUP_SECTS: usize = 0x1f1;
    pub(crate) const SYSSIZE: usize = 0x1f4;
    pub(crate) const BOOT_FLAG: usize = 0x1fe;
    /// The offset in a jump over the header, from [`MAGIC`]: that is where the header ends.
    pub(crate) const JUMP: usize = 0x201;
    pub(crate) const MAGIC: usize = 0x202;
    pub(crate) const VERSION: usize = 0x206;
    pub(crate) const TYPE_OF_LOADER: usize = 0x210;
    pub(crate) const LOADFLAGS: usize = 0x211;
    pub(crate) const CODE32_START: usize = 0x214;
    pub(crate) const RAMDISK_IMAGE: usize = 0x218;
    pub(crate) const RAMDISK_SIZE: usize = 0x21c;
    pub(crate) const CMD_LINE_PTR: usize = 0x228;
    pub(crate) const INITRD_ADDR_MAX: usize = 0x22c;
    pub(crate) const KERNEL_ALIGNMENT: usize = 0x230;
    pub(crate) const RELOCATABLE_KERNEL: usize = 0x234;
    pub(crate) const XLOADFLAGS: usize = 0x236;
    pub(crate) const CMDLINE_SIZE: usize = 0x238;
    pub(crate) const SETUP_DATA: usize = 0x250;
    pub(crate) const PREF_ADDRESS: usize = 0x258;
    pub(crate) const INIT_SIZE: usize = 0x260;
}

/// The first byte of the header.
pub(super) const HEADER: usize = field::SETUP_SECTS;
/// The first byte in `boot_params` that is not the header's, however long it gets (zero-page.rst).
const HEADER_END: usize = 0x290;
/// The first version that says whether a kernel has a 64-bit entry.
const VERSION: u16 = 0x020c;
const BOOT_FLAG: u16 = 0xaa55;
const MAGIC: &[u8; 4] = b"HdrS";
/// In `loadflags`: the kernel goes above 1 MiB.
const LOADED_HIGH: u8 = 1 << 0;
/// In `xloadflags`: the kernel has a 64-bit entry.
const XLF_KERNEL_64: u16 = 1 << 0;
/// Where that entry is in the loaded kernel.
const ENTRY64: u64 = 0x200;
const SECTOR: usize = 512;

/// The setup header of a kernel, as far as others than the loader need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SetupHeader {
    /// From [`HEADER`] on, for `boot_params`.
    pub(super) bytes: Vec<u8>,
    /// The highest address that an initrd may have bytes at.
    pub(super) initrd_max: u64,
    /// The most bytes that a command line may have, without a NUL.
    pub(super) cmdline_max: usize,
}

impl SetupHeader {
    /// What stands in for the header of a program that has none: a version, so that `vmlinux` knows which fields to
    /// look at, and nothing that a kernel asks its loader for.
    pub(super) fn of_program() -> Self {
        let mut bytes = alloc::vec![0; field::INIT_SIZE + 4 - HEADER];
        let mut put = |at: usize, value: &[u8]| {
            bytes[at - HEADER..][..value.len()].copy_from_slice(value);
        };
        put(field::BOOT_FLAG, &BOOT_FLAG.to_le_bytes());
        put(field::MAGIC, MAGIC);
        put(field::VERSION, &VERSION.to_le_bytes());
        put(field::LOADFLAGS, &[LOADED_HIGH]);
        put(field::XLOADFLAGS, &XLF_KERNEL_64.to_le_bytes());
        Self { bytes, initrd_max: u64::MAX, cmdline_max: CMDLINE_SIZE as usize - 1 }
    }
}

/// Loads a `bzImage`. `ram` begins at 0 and ends below the hole.
pub(super) fn load(
    memory: &GuestMemory,
    ram: RamRange,
    file: &[u8],
) -> Result<(Loaded, SetupHeader), LoadError> {
    const CUT: LoadError = LoadError::Damaged { what: "it ends within the setup header" };
    let unsupported = |what| Err(LoadError::Unsupported { what });
    let byte = |at: usize| file.get(at).copied().ok_or(CUT);
    let word = |at| u16_at(file, at).ok_or(CUT);
    let long = |at| u32_at(file, at).ok_or(CUT);

    if word(field::BOOT_FLAG)? != BOOT_FLAG {
        return Err(LoadError::Damaged { what: "its boot sector lacks the signature 0xaa55" });
    }
    if word(field::VERSION)? < VERSION {
        return unsupported(
            "its boot protocol is older than 2.12, without a 64-bit entry; use Linux 3.8 or later",
        );
    }
    if byte(field::LOADFLAGS)? & LOADED_HIGH == 0 {
        return unsupported("it is a zImage, which is loaded below 1 MiB; use the bzImage");
    }
    if word(field::XLOADFLAGS)? & XLF_KERNEL_64 == 0 {
        return unsupported("it is a 32-bit kernel; use that of a 64-bit distribution (amd64)");
    }
    let end = field::MAGIC + usize::from(byte(field::JUMP)?);
    if !(field::INIT_SIZE + 4..=HEADER_END).contains(&end) {
        return Err(LoadError::Damaged { what: "its setup header has an impossible size" });
    }
    let bytes = file.get(HEADER..end).ok_or(CUT)?.to_vec();

    let code = code(file, byte(field::SETUP_SECTS)?, long(field::SYSSIZE)?)?;
    let start = address(file)?;
    // What the kernel needs from there on, to unpack itself among others.
    let size = u64::from(long(field::INIT_SIZE)?).max(code.len() as u64);
    let needed = start.saturating_add(size);
    if needed > HOLE {
        return unsupported("it needs memory above 3 GiB, where the machine has its devices");
    }
    if needed > ram.size {
        let (what, available) = ("the kernel", ram.size);
        return Err(LoadError::TooSmall { what, needed, available });
    }
    memory.write(start, code)?;
    let header = SetupHeader {
        bytes,
        initrd_max: long(field::INITRD_ADDR_MAX)?.into(),
        cmdline_max: (long(field::CMDLINE_SIZE)? as usize).min(CMDLINE_SIZE as usize - 1),
    };
    Ok((Loaded { entry: start + ENTRY64, start, end: needed }, header))
}

/// What of the file is loaded: all that follows the boot sector and the real-mode code, without what is appended to it.
fn code(file: &[u8], setup_sects: u8, syssize: u32) -> Result<&[u8], LoadError> {
    let setup_sects = if setup_sects == 0 { 4 } else { usize::from(setup_sects) };
    let start = (1 + setup_sects) * SECTOR;
    let size = usize::try_from(syssize).ok().and_then(|size| size.checked_mul(16));
    let code = size
        .and_then(|size| file.get(start..start.checked_add(size)?))
        .ok_or(LoadError::Damaged { what: "it ends before the kernel in it does" })?;
    if code.len() as u64 <= ENTRY64 {
        return Err(LoadError::Damaged { what: "the kernel in it is too short to have an entry" });
    }
    Ok(code)
}

/// Where the kernel goes: to the address it prefers. One that can be elsewhere, too, would still not unpack itself to
/// below that address, so that it is the best for both.
fn address(file: &[u8]) -> Result<u64, LoadError> {
    const CUT: LoadError = LoadError::Damaged { what: "it ends within the setup header" };
    let preferred = match u64_at(file, field::PREF_ADDRESS).ok_or(CUT)? {
        0 => HIGH,
        address if address < HIGH => {
            return Err(LoadError::Damaged { what: "it wants to be loaded below 1 MiB" });
        }
        address => address,
    };
    if file.get(field::RELOCATABLE_KERNEL) == Some(&0) {
        return Ok(preferred);
    }
    let align = u64::from(u32_at(file, field::KERNEL_ALIGNMENT).ok_or(CUT)?);
    if !align.is_power_of_two() {
        return Err(LoadError::Damaged { what: "its alignment is not a power of two" });
    }
    Ok(preferred.checked_next_multiple_of(align).unwrap_or(u64::MAX))
}
