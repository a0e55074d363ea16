//! Good kernels, wrong ones, and files made to hurt.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use axvcpu::GuestPhysAddr;

use super::super::bzimage::{HEADER, field};
use super::*;
use crate::testing::files::{Segment, elf, file};
use crate::testing::{Heap, Mm};

const SIZE: u64 = 32 << 20;
const X86: [u8; 2] = 62u16.to_le_bytes();

struct Guest {
    memory: GuestMemory,
    ram: RamRange,
}

impl Guest {
    fn new() -> Self {
        let mut memory = GuestMemory::new();
        memory.add::<Mm>(GuestPhysAddr::new(0), Box::new(Heap::new(SIZE as usize))).unwrap();
        let ram = memory.ranges().next().unwrap();
        Self { memory, ram }
    }

    fn load(&self, file: &[u8]) -> Result<Kernel, LoadError> {
        load_kernel(&self.memory, self.ram, file)
    }

    fn bytes(&self, addr: u64, len: usize) -> Vec<u8> {
        let mut buf = vec![0; len];
        self.memory.read(addr, &mut buf).unwrap();
        buf
    }
}

fn load(file: &[u8]) -> Result<Kernel, LoadError> {
    Guest::new().load(file)
}

fn message(file: &[u8]) -> String {
    load(file).unwrap_err().to_string()
}

/// A `bzImage` with one sector of real-mode code, 1 KiB of kernel, and a signature behind it.
fn bzimage(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = file(
        1024,
        &[
            (0, b"MZ"),
            (field::SETUP_SECTS, &[1]),
            (field::SYSSIZE, &64u32.to_le_bytes()),
            (field::BOOT_FLAG, &[0x55, 0xaa]),
            (field::JUMP - 1, &[0xeb, 0x6a]),
            (field::MAGIC, b"HdrS"),
            (field::VERSION, &0x020fu16.to_le_bytes()),
            (field::LOADFLAGS, &[1]),
            (field::INITRD_ADDR_MAX, &0x7fff_ffffu32.to_le_bytes()),
            (field::KERNEL_ALIGNMENT, &0x20_0000u32.to_le_bytes()),
            (field::RELOCATABLE_KERNEL, &[1]),
            (field::XLOADFLAGS, &0x7fu16.to_le_bytes()),
            (field::CMDLINE_SIZE, &2047u32.to_le_bytes()),
            (field::PREF_ADDRESS, &0x100_0000u64.to_le_bytes()),
            (field::INIT_SIZE, &0x10_0000u32.to_le_bytes()),
        ],
    );
    out.extend((0..1024u32).map(|i| (i / 4) as u8));
    out.extend(b"signature");
    change(&mut out);
    out
}

fn put(at: usize, value: u32) -> impl Fn(&mut Vec<u8>) {
    move |file| file[at..at + 4].copy_from_slice(&value.to_le_bytes())
}

#[test]
fn bzimages() {
    let guest = Guest::new();
    let file = bzimage(|_| ());
    let kernel = guest.load(&file).unwrap();
    let start = 0x100_0000;
    assert_eq!(kernel.loaded, Loaded { entry: start + 0x200, start, end: start + 0x10_0000 });
    assert_eq!(guest.bytes(start, 1024), file[1024..2048]);
    assert_eq!(guest.bytes(start + 1024, 9), [0; 9], "what is appended is not loaded");
    let Protocol::Linux(header) = kernel.protocol else { panic!("{:?}", kernel.protocol) };
    assert_eq!(header.bytes, file[HEADER..0x26c]);
    assert_eq!((header.initrd_max, header.cmdline_max), (0x7fff_ffff, 2047));
    let start = |change: &dyn Fn(&mut Vec<u8>)| load(&bzimage(change)).unwrap().loaded.start;
    // One that does not say, and ones that are aligned to what they prefer or are not moved at all.
    assert_eq!(start(&put(field::PREF_ADDRESS, 0)), 0x20_0000);
    assert_eq!(start(&put(field::PREF_ADDRESS, 0x50_0000)), 0x60_0000);
    assert_eq!(
        start(&|f| {
            put(field::PREF_ADDRESS, 0x50_0000)(f);
            f[field::RELOCATABLE_KERNEL] = 0;
        }),
        0x50_0000
    );
    // Four sectors of real-mode code if it says none: there would be 512 bytes of kernel.
    let four = bzimage(|f| {
        f[field::SETUP_SECTS] = 0;
        put(field::SYSSIZE, 33)(f);
        f.resize(2560 + 33 * 16, 7);
    });
    let guest = Guest::new();
    let kernel = guest.load(&four).unwrap();
    assert_eq!(guest.bytes(kernel.loaded.start, 528), [7; 528]);
    // Nothing is cleared beyond what is loaded, and the larger size counts.
    let kernel = load(&bzimage(put(field::INIT_SIZE, 0))).unwrap();
    assert_eq!(kernel.loaded.end, 0x100_0000 + 1024);
}

#[test]
fn bzimages_that_cannot_work() {
    for (bad, word) in [
        (bzimage(|f| f[field::BOOT_FLAG] = 0), "0xaa55"),
        (bzimage(|f| f[field::VERSION] = 0x0b), "2.12"),
        (bzimage(|f| f[field::LOADFLAGS] = 0), "zImage"),
        (bzimage(|f| f[field::XLOADFLAGS] = 0x7e), "amd64"),
        (bzimage(|f| f[field::JUMP] = 0x61), "impossible size"),
        (bzimage(|f| f[field::JUMP] = 0x8f), "impossible size"),
        (bzimage(|f| f[field::SETUP_SECTS] = 0xff), "ends before the kernel"),
        (bzimage(put(field::SYSSIZE, u32::MAX)), "ends before the kernel"),
        (bzimage(put(field::SYSSIZE, 65)), "ends before the kernel"),
        (bzimage(put(field::SYSSIZE, 32)), "too short"),
        (bzimage(put(field::PREF_ADDRESS, 0xf_f000)), "below 1 MiB"),
        (bzimage(put(field::KERNEL_ALIGNMENT, 0x30_0000)), "power of two"),
        (bzimage(put(field::KERNEL_ALIGNMENT, 0)), "power of two"),
        (bzimage(put(field::INIT_SIZE, 17 << 20)), "needs 33 MiB of memory, the guest has 32 MiB"),
        (bzimage(put(field::PREF_ADDRESS, 0xbf00_0000)), "needs 3057 MiB"),
        (bzimage(put(field::PREF_ADDRESS, 0xffff_f000)), "above 3 GiB"),
        (bzimage(|f| f[field::PREF_ADDRESS..][..8].fill(0xff)), "above 3 GiB"),
    ] {
        assert!(message(&bad).contains(word), "{:?} lacks {word:?}", message(&bad));
    }
    assert!(load(&bzimage(put(field::INIT_SIZE, 16 << 20))).is_ok());
    assert!(load(&bzimage(|f| f[field::JUMP] = 0x8e)).is_ok());
}

#[test]
fn bzimages_cut_anywhere() {
    let file = bzimage(|_| ());
    let guest = Guest::new();
    for len in 0..file.len() {
        let result = guest.load(&file[..len]);
        match len {
            0 => assert_eq!(result, Err(LoadError::Empty)),
            // Nothing says what it is.
            1..0x206 => assert_eq!(result.unwrap().loaded.start, HIGH),
            0x206..2048 => {
                let message = result.unwrap_err().to_string();
                assert!(message.contains("it ends"), "{len}: {message}");
            }
            _ => assert_eq!(result.unwrap().loaded.start, 0x100_0000),
        }
    }
}

#[test]
fn flat_binaries() {
    let guest = Guest::new();
    let kernel = guest.load(b"\xf4\xeb\xfd").unwrap();
    assert_eq!(kernel.loaded, Loaded { entry: HIGH, start: HIGH, end: HIGH + 3 });
    assert_eq!(kernel.protocol, Protocol::Linux(SetupHeader::of_program()));
    assert_eq!(guest.bytes(HIGH, 3), b"\xf4\xeb\xfd");
    let large = vec![0x90; SIZE as usize];
    assert!(message(&large).contains("needs 33 MiB"));
}

/// A note with name and description, padded.
fn note(name: &[u8], kind: u32, description: &[u8]) -> Vec<u8> {
    let mut note = Vec::new();
    for word in [name.len() as u32, description.len() as u32, kind] {
        note.extend(word.to_le_bytes());
    }
    for part in [name, description] {
        note.extend(part);
        note.resize(note.len().next_multiple_of(4), 0);
    }
    note
}

/// A program at 2 MiB, seen at the top of the address space, with these notes.
fn program(notes: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let segments: [Segment<'_>; 2] =
        [(1, 0x20_0000, 0xffff_ffff_8020_0000, b"some code", 4096), (4, 0, 0, notes, 0)];
    elf(&segments, |f| {
        f[18..20].copy_from_slice(&X86);
        change(f);
    })
}

#[test]
fn elf_programs() {
    let guest = Guest::new();
    let start = 0x20_0000;
    let kernel = guest.load(&program(b"", |_| ())).unwrap();
    assert_eq!(kernel.loaded, Loaded { entry: start, start, end: start + 4096 });
    assert_eq!(kernel.protocol, Protocol::Linux(SetupHeader::of_program()));
    assert_eq!(guest.bytes(start, 10), b"some code\0");
    // Linux gives a physical address, and instructions have any length.
    let physical = program(b"", |f| f[24..32].copy_from_slice(&(start + 7).to_le_bytes()));
    assert_eq!(load(&physical).unwrap().loaded.entry, start + 7);
    let nowhere = program(b"", |f| f[24..32].copy_from_slice(&(start + 4096).to_le_bytes()));
    assert!(message(&nowhere).contains("entry point lies outside"));
    // Position-independent.
    let segments: [Segment<'_>; 1] = [(1, 0, 0, b"code", 4)];
    let independent = elf(&segments, |f| {
        f[16] = 3;
        f[18..20].copy_from_slice(&X86);
    });
    assert_eq!(load(&independent).unwrap().loaded.entry, LOAD_OFFSET);
    // Below 1 MiB are the tables.
    let low = elf(&[(1, 0xf_0000, 0xf_0000, b"code", 4)], |f| f[18..20].copy_from_slice(&X86));
    assert!(message(&low).contains("has memory from 0x100000 to 0x2000000"), "{}", message(&low));
    assert!(message(&elf(&[], |_| ())).contains("ELF program for RISC-V: the guest is x86-64"));
    assert!(message(&program(b"", |f| f[4] = 1)).contains("32-bit"));
}

#[test]
fn pvh_entries() {
    let other = note(b"GNU\0", 3, b"identification");
    for description in [&0x20_0010u32.to_le_bytes()[..], &0x20_0010u64.to_le_bytes()[..]] {
        let notes = [&other[..], &note(XEN, 6, b"x"), &note(XEN, 18, description)].concat();
        let kernel = load(&program(&notes, |_| ())).unwrap();
        assert_eq!(kernel.protocol, Protocol::Pvh);
        assert_eq!((kernel.loaded.entry, kernel.loaded.start), (0x20_0010, 0x20_0000));
    }
    // What moves takes its entry along.
    let moved = program(&note(XEN, 18, &0x20_0010u32.to_le_bytes()), |f| f[16] = 3);
    let loaded = load(&moved).unwrap().loaded;
    assert_eq!((loaded.entry, loaded.start), (0x40_0010, 0x40_0000));
    for entry in [0, 0x1f_ffff, 0x20_1000, u64::MAX, 1 << 32 | 0x20_0010] {
        let notes = note(XEN, 18, &entry.to_le_bytes());
        assert!(message(&program(&notes, |_| ())).contains("PVH entry"), "{entry:#x}");
    }
    for odd in [&b""[..], &[0; 3], &[0; 5], &[0; 12]] {
        assert!(message(&program(&note(XEN, 18, odd), |_| ())).contains("PVH entry"));
    }
    // Notes that are not whole are none, and so are those of others.
    let whole = note(XEN, 18, &0x20_0010u32.to_le_bytes());
    for len in 0..whole.len() {
        let kernel = load(&program(&whole[..len], |_| ())).unwrap();
        assert!(matches!(kernel.protocol, Protocol::Linux(_)), "{len}");
    }
    for others in [note(b"Xem\0", 18, &[0; 4]), note(XEN, 19, &[0; 4]), note(b"Xen", 18, &[0; 4])] {
        let kernel = load(&program(&others, |_| ())).unwrap();
        assert!(matches!(kernel.protocol, Protocol::Linux(_)));
    }
    let mut endless = whole.clone();
    endless[..4].fill(0xff);
    assert!(matches!(load(&program(&endless, |_| ())).unwrap().protocol, Protocol::Linux(_)));
    let outside = program(&whole, |f| f[64 + 56 + 8..][..8].fill(0xff));
    assert!(matches!(load(&outside).unwrap().protocol, Protocol::Linux(_)));
}

/// Each of some thousand headers for the same notes: they are looked at once.
#[test]
fn notes_that_overlap_take_no_time() {
    const HEADERS: u16 = 0x4000;
    let table = 64 + 56 * usize::from(HEADERS);
    let mut file = program(b"", |_| ());
    let (header, code) = (file[..64].to_vec(), file.split_off(64 + 2 * 56));
    let mut segment = file[64..64 + 56].to_vec();
    segment[8..16].copy_from_slice(&(table as u64).to_le_bytes());
    let size = 4 << 20;
    let mut note = 4u32.to_le_bytes().to_vec();
    note.resize(56, 0);
    note[8..16].copy_from_slice(&(table as u64 + 64).to_le_bytes());
    note[32..40].copy_from_slice(&(size as u64).to_le_bytes());
    let mut file = [header, segment].concat();
    (1..HEADERS).for_each(|_| file.extend(&note));
    file.extend(code);
    file.resize(table + 64 + size, 0);
    file[56..58].copy_from_slice(&HEADERS.to_le_bytes());
    let start = std::time::Instant::now();
    assert!(matches!(load(&file).unwrap().protocol, Protocol::Linux(_)));
    assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
}

#[test]
fn damaged_files_never_panic() {
    let mut numbers = crate::numbers::Numbers(7);
    let pvh = note(XEN, 18, &0x20_0010u32.to_le_bytes());
    let originals = [bzimage(|_| ()), program(&pvh, |_| ()), program(b"", |_| ())];
    let guest = Guest::new();
    let (mut loaded, mut refused) = (0, 0);
    for round in 0..30_000 {
        let mut file = originals[round % originals.len()].clone();
        // Where the headers are.
        let area = file.len().min(0x270);
        for _ in 0..1 + numbers.next() % 4 {
            let at = numbers.next() as usize % area;
            file[at] = match numbers.next() % 3 {
                0 => 0xff,
                1 => 0,
                _ => numbers.next() as u8,
            };
        }
        if numbers.next() % 8 == 0 {
            file.truncate(numbers.next() as usize % file.len());
        }
        match guest.load(&file) {
            Ok(Kernel { loaded: Loaded { entry, start, end }, .. }) => {
                loaded += 1;
                assert!(start >= HIGH && guest.ram.contains(start, end - start));
                assert!((start..end).contains(&entry));
            }
            Err(error) => {
                refused += 1;
                assert!(!error.to_string().is_empty());
            }
        }
    }
    assert!(loaded > 1000 && refused > 1000, "{loaded} {refused}");
}
