//! Telling the formats of kernels apart by their first bytes.

use super::{LoadError, Target, u16_at, u32_at};

/// A format that can be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Linux for the guest's architecture, as its boot loaders take it: `Image`, or on x86 `bzImage`.
    Image,
    /// An ELF program.
    Elf,
    /// No format known: a flat binary, run from its first byte.
    Flat,
}

const DECOMPRESS: &str = "decompress it first";

/// Formats that are recognized by bytes at a fixed offset and cannot be loaded by any machine.
const WRONG: &[(usize, &[u8], &str, &str)] = &[
    (0, &[0x1f, 0x8b], "compressed with gzip", "decompress it first (gzip -d)"),
    (0, b"\xfd7zXZ\0", "compressed with xz", "decompress it first (xz -d)"),
    (0, &[0x28, 0xb5, 0x2f, 0xfd], "compressed with zstd", "decompress it first (zstd -d)"),
    (0, &[0x04, 0x22, 0x4d, 0x18], "compressed with lz4", "decompress it first (lz4 -d)"),
    (0, &[0x02, 0x21, 0x4c, 0x18], "compressed with lz4", "decompress it first (lz4 -d)"),
    (0, b"BZh", "compressed with bzip2", "decompress it first (bzip2 -d)"),
    (0, &[0x5d, 0, 0], "compressed with lzma", DECOMPRESS),
    (0, b"\x89LZO\0", "compressed with lzop", DECOMPRESS),
    (
        0,
        &[0x27, 0x05, 0x19, 0x56],
        "a U-Boot image (uImage)",
        "use the kernel it was made from (Image)",
    ),
    (0, &[0xd0, 0x0d, 0xfe, 0xed], "a device tree or a FIT image", "use the kernel itself (Image)"),
    (0, b"070701", "a cpio archive", "it looks like an initrd: use --initrd for it"),
    (0, b"!<arch>\n", "an archive of object files or a Debian package", "use the kernel in it"),
    (0, b"QFI\xfb", "a qcow2 disk image", "use the kernel in it"),
];

/// The format of `file`, or an error that names what it is instead of a kernel for `target`.
pub fn identify(file: &[u8], target: Target) -> Result<Format, LoadError> {
    if file.is_empty() {
        return Err(LoadError::Empty);
    }
    let has = |at: usize, magic: &[u8]| file.get(at..).is_some_and(|rest| rest.starts_with(magic));
    let wrong = |found, advice| Err(LoadError::WrongFormat { found, advice });
    // Before what says little: kernels with an EFI stub also start with the signature of a PE file.
    for (magic, of, found) in [
        (b"RSC\x05", Target::Riscv64, "a Linux Image for RISC-V"),
        (b"ARM\x64", Target::Arm64, "a Linux Image for arm64"),
    ] {
        if has(56, magic) {
            return if of == target { Ok(Format::Image) } else { wrong(found, target.advice()) };
        }
    }
    if has(48, b"RISCV\0\0\0") {
        return match target {
            Target::Riscv64 => wrong(
                "a RISC-V Image with a header older than version 0.2",
                "use a kernel from 2019 or later",
            ),
            Target::Arm64 | Target::X86_64 => wrong("a Linux Image for RISC-V", target.advice()),
        };
    }
    if has(0, b"\x7fELF") {
        return Ok(Format::Elf);
    }
    if has(0x202, b"HdrS") {
        return match target {
            Target::X86_64 => Ok(Format::Image),
            Target::Riscv64 | Target::Arm64 => wrong("a Linux bzImage for x86", target.advice()),
        };
    }
    if has(4, b"zimg") {
        return wrong(
            "a compressed EFI kernel (vmlinuz.efi)",
            match target {
                Target::Riscv64 => {
                    "it unpacks itself under EFI firmware only; use the kernel's arch/riscv/boot/Image"
                }
                Target::Arm64 => {
                    "it unpacks itself under EFI firmware only; use the kernel's arch/arm64/boot/Image"
                }
                Target::X86_64 => {
                    "no kernel for x86 looks like that; use the kernel's arch/x86/boot/bzImage"
                }
            },
        );
    }
    for &(at, magic, found, advice) in WRONG {
        if has(at, magic) {
            return wrong(found, advice);
        }
    }
    // A DOS header that points to the header of a PE file.
    if has(0, b"MZ") {
        let pe = u32_at(file, 0x3c).map_or(usize::MAX, |at| at as usize);
        if has(pe, b"PE\0\0") {
            let found = match u16_at(file, pe.saturating_add(4)) {
                Some(0x8664) => "an EFI or Windows program for x86-64",
                Some(0xaa64) => "an EFI or Windows program for arm64",
                Some(0x5064) => "an EFI program for RISC-V",
                _ => "an EFI or Windows program",
            };
            return wrong(
                found,
                match target {
                    Target::Riscv64 | Target::Arm64 => {
                        "it needs firmware that this machine does not have; use a kernel Image"
                    }
                    Target::X86_64 => {
                        "it needs firmware that this machine does not have; use a kernel's bzImage"
                    }
                },
            );
        }
    }
    if is_text(file) {
        return wrong(
            "a text",
            match target {
                Target::Riscv64 | Target::Arm64 => {
                    "a kernel is a program (Image, ELF, or a flat binary)"
                }
                Target::X86_64 => "a kernel is a program (bzImage, ELF, or a flat binary)",
            },
        );
    }
    Ok(Format::Flat)
}

/// Whether a file starts with so much text that it is no machine code.
fn is_text(file: &[u8]) -> bool {
    const ENOUGH: usize = 64;
    let printable = |byte: &u8| matches!(byte, b' '..=b'~' | b'\t' | b'\n' | b'\r');
    file.get(..ENOUGH).is_some_and(|start| start.iter().all(printable))
}
