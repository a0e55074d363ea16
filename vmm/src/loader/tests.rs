//! Good files, wrong files, and files made to hurt.

use alloc::boxed::Box;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use axvcpu::GuestPhysAddr;

use super::*;
use crate::testing::files::{Segment, elf, file};
use crate::testing::{Heap, Mm};
use crate::{GuestMemory, RamRange};
use crate::{arm, riscv};

const BASE: u64 = 0x8000_0000;
const SIZE: u64 = 4 << 20;

struct Guest {
    memory: GuestMemory,
    ram: RamRange,
}

impl Guest {
    fn new() -> Self {
        let mut memory = GuestMemory::new();
        memory.add::<Mm>(GuestPhysAddr::new(BASE), Box::new(Heap::new(SIZE as usize))).unwrap();
        let ram = memory.ranges().next().unwrap();
        Self { memory, ram }
    }

    fn load(&self, file: &[u8]) -> Result<Loaded, LoadError> {
        riscv::load_kernel(&self.memory, self.ram, file)
    }

    fn load_arm(&self, file: &[u8]) -> Result<Loaded, LoadError> {
        arm::load_kernel(&self.memory, self.ram, file)
    }

    fn bytes(&self, addr: u64, len: usize) -> Vec<u8> {
        let mut buf = vec![0; len];
        self.memory.read(addr, &mut buf).unwrap();
        buf
    }
}

fn load(file: &[u8]) -> Result<Loaded, LoadError> {
    Guest::new().load(file)
}

fn message(file: &[u8]) -> alloc::string::String {
    load(file).unwrap_err().to_string()
}

fn image(offset: u64, size: u64, flags: u64, version: u32, len: usize) -> Vec<u8> {
    file(
        len,
        &[
            (0, b"MZ"), // as with an EFI stub
            (8, &offset.to_le_bytes()),
            (16, &size.to_le_bytes()),
            (24, &flags.to_le_bytes()),
            (32, &version.to_le_bytes()),
            (48, b"RISCV\0\0\0"),
            (56, b"RSC\x05"),
        ],
    )
}

fn arm_image(offset: u64, size: u64, flags: u64, len: usize) -> Vec<u8> {
    let [offset, size, flags] = [offset, size, flags].map(u64::to_le_bytes);
    file(len, &[(0, b"MZ"), (8, &offset), (16, &size), (24, &flags), (56, b"ARM\x64")])
}

#[test]
fn linux_image_for_arm() {
    let guest = Guest::new();
    for offset in [0, 0x8_0000, 0x12_3000] {
        let file = arm_image(offset, 0x10_0000, 0xa, 128);
        let start = BASE + offset;
        let loaded = Loaded { entry: start, start, end: start + 0x10_0000 };
        assert_eq!(guest.load_arm(&file), Ok(loaded));
        assert_eq!(guest.bytes(start, 128), file);
    }
    let start = BASE + 0x8_0000;
    let old = Loaded { entry: start, start, end: start + 200 };
    assert_eq!(guest.load_arm(&arm_image(u64::MAX, 0, 0, 200)), Ok(old));
    // Relative to the first 2 MiB that are whole.
    let ram = RamRange { base: BASE + 0x1000, size: SIZE - 0x1000 };
    let loaded = arm::load_kernel(&guest.memory, ram, &arm_image(0, 16, 0, 64));
    assert_eq!(loaded.map(|loaded| loaded.entry), Ok(BASE + (2 << 20)));
    for (bad, word) in [
        (arm_image(0, 5 << 20, 0, 128), "needs 5 MiB"),
        (arm_image(0, u64::MAX, 0, 128), "raise --memory"),
        (arm_image(!0xfff, u64::MAX, 0, 128), "raise --memory"),
        (arm_image(0x800, 16, 0, 128), "multiple of 4 KiB"),
        (arm_image(0, 16, 1, 128), "big-endian"),
    ] {
        let message = guest.load_arm(&bad).unwrap_err().to_string();
        assert!(message.contains(word), "{message:?} lacks {word:?}");
    }
}

#[test]
fn messages_name_what_the_guest_needs() {
    let guest = Guest::new();
    for (bad, of, word) in [
        (image(0, 0, 0, 2, 128), "a Linux Image for RISC-V", "Image of an arm64 kernel"),
        (file(64, &[(48, b"RISCV\0\0\0")]), "a Linux Image for RISC-V", "arm64"),
        (file(0x300, &[(0x202, b"HdrS")]), "x86", "Image of an arm64 kernel"),
        (file(64, &[(0, b"MZ"), (4, b"zimg")]), "EFI", "arch/arm64/boot/Image"),
        (elf(&[], |_| ()), "an ELF program for RISC-V", "the guest is AArch64 (arm64)"),
        (elf(&[], |f| f[18] = 62), "x86-64", "the guest is AArch64 (arm64)"),
    ] {
        let message = guest.load_arm(&bad).unwrap_err().to_string();
        assert!(message.contains(of) && message.contains(word), "{message}");
    }
    let message = message(&arm_image(0, 0, 0, 128));
    assert!(message.contains("arm64: the guest is RISC-V"), "{message}");
    for (bad, of, word) in [
        (image(0, 0, 0, 2, 128), "a Linux Image for RISC-V", "bzImage of an x86 kernel"),
        (file(64, &[(48, b"RISCV\0\0\0")]), "a Linux Image for RISC-V", "bzImage"),
        (arm_image(0, 0, 0, 128), "a Linux Image for arm64", "bzImage of an x86 kernel"),
        (file(64, &[(0, b"MZ"), (4, b"zimg")]), "EFI", "arch/x86/boot/bzImage"),
        (file(256, &[(0, b"MZ"), (0x3c, &[0x80]), (0x80, b"PE\0\0\x64\x86")]), "EFI", "bzImage"),
        (vec![b'#'; 64], "text", "bzImage"),
    ] {
        let message = identify(&bad, Target::X86_64).unwrap_err().to_string();
        assert!(message.contains(of) && message.contains(word), "{message}");
    }
    let linux = file(0x300, &[(0, b"MZ"), (0x202, b"HdrS")]);
    assert_eq!(identify(&linux, Target::X86_64), Ok(Format::Image));
    let program = elf(&[(1, BASE, BASE, b"code", 4)], |f| f[18] = 183);
    assert_eq!(guest.load_arm(&program).map(|loaded| loaded.entry), Ok(BASE));
    let odd = elf(&[(1, BASE, BASE, b"code", 4)], |f| (f[18], f[24]) = (183, 2));
    assert!(guest.load_arm(&odd).unwrap_err().to_string().contains("address of an instruction"));
}

#[test]
fn linux_image() {
    let guest = Guest::new();
    let file = image(2 << 20, 0x10_0000, 0, 2, 128);
    let start = BASE + (2 << 20);
    assert_eq!(guest.load(&file), Ok(Loaded { entry: start, start, end: start + 0x10_0000 }));
    assert_eq!(guest.bytes(start, 128), file);
    // Padded beyond its own size.
    assert_eq!(
        load(&image(0, 16, 0, 2, 128)),
        Ok(Loaded { entry: BASE, start: BASE, end: BASE + 128 })
    );
}

#[test]
fn linux_images_that_do_not_fit() {
    assert_eq!(
        load(&image(2 << 20, 46 << 20, 0, 2, 128)).unwrap_err().to_string(),
        "the kernel needs 48 MiB of memory, the guest has 4 MiB: raise --memory"
    );
    for (offset, size) in [(2 << 20, u64::MAX), (!0x1f_ffff, u64::MAX), (4 << 20, 1)] {
        let error = load(&image(offset, size, 0, 2, 128)).unwrap_err();
        assert!(matches!(error, LoadError::TooSmall { .. }), "{error}");
        assert!(!error.to_string().is_empty());
    }
    for (bad, word) in [
        (image(0x1000, 0, 0, 2, 128), "multiple of 2 MiB"),
        (image(0, 0, 1, 2, 128), "big-endian"),
        (image(0, 0, 0, 1 << 16, 128), "version"),
    ] {
        assert!(message(&bad).contains(word), "{}", message(&bad));
    }
    assert_eq!(load(&image(0, 0, 0, 2, 60)).map(|l| l.end), Ok(BASE + 60));
}

#[test]
fn flat_binary() {
    let guest = Guest::new();
    let start = BASE + (2 << 20);
    assert_eq!(guest.load(b"\x13\0\0\0"), Ok(Loaded { entry: start, start, end: start + 4 }));
    assert_eq!(guest.bytes(start, 5), b"\x13\0\0\0\0");
    let large = vec![0x13; SIZE as usize];
    assert!(message(&large).contains("needs 6 MiB"));
}

#[test]
fn wrong_formats_are_named() {
    let elf_arm = elf(&[], |f| f[18] = 183);
    let elf_unknown = elf(&[], |f| f[18..20].copy_from_slice(&[0xef, 0xbe]));
    for (bad, name) in [
        (vec![], "empty"),
        (file(0x300, &[(0, b"MZ"), (0x1fe, &[0x55, 0xaa]), (0x202, b"HdrS")]), "x86"),
        (file(128, &[(0, b"MZ"), (56, b"ARM\x64")]), "arm64"),
        (file(128, &[(0, b"MZ"), (4, b"zimg")]), "EFI"),
        (file(16, &[(0, &[0x1f, 0x8b, 8])]), "gzip -d"),
        (file(16, &[(0, b"\xfd7zXZ\0")]), "xz -d"),
        (file(16, &[(0, &[0x28, 0xb5, 0x2f, 0xfd])]), "zstd -d"),
        (file(16, &[(0, b"BZh9")]), "bzip2"),
        (file(16, &[(0, &[4, 0x22, 0x4d, 0x18])]), "lz4"),
        (file(16, &[(0, &[0x27, 5, 0x19, 0x56])]), "U-Boot"),
        (file(16, &[(0, &[0xd0, 0xd, 0xfe, 0xed])]), "device tree"),
        (file(16, &[(0, b"070701")]), "--initrd"),
        (file(128, &[(48, b"RISCV\0\0\0")]), "0.2"),
        (file(256, &[(0, b"MZ"), (0x3c, &[0x80]), (0x80, b"PE\0\0\x64\x86")]), "x86-64"),
        (file(256, &[(0, b"MZ"), (0x3c, &[0x80]), (0x80, b"PE\0\0\0\0")]), "Windows"),
        (vec![b'#'; 64], "text"),
        (elf_arm, "AArch64"),
        (elf_unknown, "machine type 48879"),
    ] {
        assert!(message(&bad).contains(name), "{} lacks {name}", message(&bad));
    }
    // A DOS header that points nowhere makes no PE file.
    assert_eq!(
        identify(&file(64, &[(0, b"MZ"), (0x3c, &[0xff; 4])]), Target::Riscv64),
        Ok(Format::Flat)
    );
}

#[test]
fn elf_program() {
    let guest = Guest::new();
    let high = 0xffff_ffff_8000_0000;
    let file = elf(
        &[(1, BASE + 0x2000, high, b"text", 4), (1, BASE + 0x1000, high + 0x1000, b"data", 100)],
        |f| f[24..32].copy_from_slice(&(high + 2u64).to_le_bytes()),
    );
    let loaded = guest.load(&file).unwrap();
    assert_eq!(loaded.entry, BASE + 0x2002);
    assert_eq!((loaded.start, loaded.end), (BASE + 0x1000, BASE + 0x2004));
    assert_eq!(guest.bytes(BASE + 0x2000, 4), b"text");
    assert_eq!(guest.bytes(BASE + 0x1000, 6), b"data\0\0");
}

#[test]
fn position_independent_elf() {
    let guest = Guest::new();
    let dynamic: Vec<u8> = [6u64, 0x100, 0, 0].iter().flat_map(|w| w.to_le_bytes()).collect();
    let segments: [Segment<'_>; 2] = [(1, 0, 0, b"code", 4), (2, 0, 0, &dynamic, 32)];
    let loaded = guest.load(&elf(&segments, |f| f[16] = 3)).unwrap();
    assert_eq!(loaded.entry, BASE + (2 << 20));
    assert_eq!(guest.bytes(loaded.entry, 4), b"code");
    // With relocations, or asking for a fixed place while dynamic.
    let relocated: Vec<u8> = [8u64, 24, 0, 0].iter().flat_map(|w| w.to_le_bytes()).collect();
    let segments: [Segment<'_>; 2] = [(1, 0, 0, b"code", 4), (2, 0, 0, &relocated, 32)];
    assert!(message(&elf(&segments, |f| f[16] = 3)).contains("relocations"));
    let segments: [Segment<'_>; 2] = [(1, BASE, BASE, b"code", 4), (2, 0, 0, &dynamic, 32)];
    assert!(message(&elf(&segments, |_| ())).contains("statically"));
}

#[test]
fn hostile_elf_files() {
    let good: Segment<'_> = (1, BASE, BASE, b"code", 64);
    let phdr = |field: usize, value: u64| {
        move |f: &mut Vec<u8>| f[64 + field..72 + field].copy_from_slice(&value.to_le_bytes())
    };
    assert!(load(&elf(&[good], |_| ())).is_ok());
    for (bad, word) in [
        (elf(&[good], |f| f.truncate(63)), "ends within the ELF header"),
        (elf(&[good], |f| f.truncate(100)), "ends within the program headers"),
        (elf(&[good], |f| f[4] = 1), "32-bit"),
        (elf(&[good], |f| f[5] = 2), "big-endian"),
        (elf(&[good], |f| f[4] = 9), "unknown ELF class"),
        (elf(&[good], |f| f[16] = 1), "link it first"),
        (elf(&[good], |f| f[32..40].fill(0xff)), "program headers"),
        (elf(&[good], |f| f[54] = 8), "too short"),
        (elf(&[good], |f| f[56..58].fill(0xff)), "program headers"),
        (elf(&[], |_| ()), "nothing to load"),
        (elf(&[(3, 0, 0, b"", 0), good], |_| ()), "program for Linux"),
        (elf(&[good], phdr(8, u64::MAX)), "lies outside"),
        (elf(&[good], phdr(8, 1 << 40)), "lies outside"),
        (elf(&[good], phdr(32, 65)), "lies outside"),
        (elf(&[good], phdr(40, 3)), "larger in the file"),
        (elf(&[good], phdr(40, u64::MAX)), "exceeds the address space"),
        (elf(&[good], phdr(24, u64::MAX - 8)), "exceeds the address space"),
        (elf(&[good], phdr(16, u64::MAX - 8)), "exceeds the address space"),
        (elf(&[good], phdr(24, 0x1000)), "has memory from 0x80000000 to 0x80400000"),
        (elf(&[good], phdr(24, BASE + SIZE - 63)), "raise --memory"),
        (elf(&[good], phdr(40, SIZE + 1)), "raise --memory"),
        (elf(&[good], |f| f[24] = 64), "entry point lies outside"),
        (elf(&[good], |f| f[24] = 1), "not at the address of an instruction"),
        (elf(&[good, (1, BASE + 63, BASE + 63, b"x", 1)], |_| ()), "overlap"),
        (elf(&[good; 65], |_| ()), "64 segments"),
        (elf(&[good, (2, 0, 0, b"", 0), (2, 0, 0, b"", 0)], |_| ()), "more than one dynamic"),
        // A position-independent one whose place overflows.
        (elf(&[(1, u64::MAX - 64, 0, b"x", 64)], |f| f[16] = 3), "raise --memory"),
        (elf(&[(1, u64::MAX - (1 << 31), 0, b"x", 1 << 30)], |f| f[16] = 3), "raise --memory"),
    ] {
        assert!(message(&bad).contains(word), "{:?} lacks {word:?}", message(&bad));
    }
}

#[test]
fn damaged_files_never_panic() {
    let mut random = 0x2545_f491_4f6c_dd1du64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let originals = [
        elf(
            &[(1, BASE, BASE, b"some code", 64), (1, BASE + 4096, BASE + 4096, b"data", 4)],
            |_| (),
        ),
        image(2 << 20, 4096, 0, 2, 256),
        arm_image(0x8_0000, 4096, 0xa, 256),
        elf(&[(1, BASE, BASE, b"some code", 64)], |f| f[18] = 183),
        file(0x300, &[(0, b"MZ"), (0x3c, &[0x80]), (0x80, b"PE\0\0")]),
    ];
    let guest = Guest::new();
    let (mut loaded, mut refused) = (0, 0);
    for round in 0..30_000 {
        let mut file = originals[round % originals.len()].clone();
        for _ in 0..1 + next() % 4 {
            let at = next() as usize % file.len();
            file[at] = match next() % 3 {
                0 => 0xff,
                1 => 0,
                _ => next() as u8,
            };
        }
        if next() % 8 == 0 {
            file.truncate(next() as usize % file.len());
        }
        let result = if round / originals.len() % 2 == 0 {
            guest.load(&file)
        } else {
            guest.load_arm(&file)
        };
        match result {
            Ok(program) => {
                loaded += 1;
                assert!(guest.ram.contains(program.start, program.end - program.start));
                assert!((program.start..program.end).contains(&program.entry));
            }
            Err(error) => {
                refused += 1;
                assert!(!error.to_string().is_empty());
            }
        }
    }
    assert!(loaded > 1000 && refused > 1000, "{loaded} {refused}");
}
