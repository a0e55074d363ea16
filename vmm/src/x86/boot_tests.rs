//! What kernels are told, read back.

use alloc::boxed::Box;

use axvcpu::GuestPhysAddr;

use super::super::layout::{HIGH, HOLE, LOW_END};
use super::super::memory_map::memory_map;
use super::*;
use crate::loader::{u16_at, u32_at, u64_at};
use crate::testing::{Heap, Mm};

const INITRD: RamRange = RamRange { base: 0x1_7fff_f000, size: 0x1_0000_0123 };

fn memory() -> GuestMemory {
    let mut memory = GuestMemory::new();
    memory.add::<Mm>(GuestPhysAddr::new(0), Box::new(Heap::new(2 << 20))).unwrap();
    memory
}

/// As of a machine with 5 GiB.
fn map() -> Vec<Entry> {
    let ranges = [(0, HOLE), (4 << 30, 2 << 30)];
    memory_map(ranges.into_iter().map(|(base, size)| RamRange { base, size }))
}

const MAP: [(u64, u64, u32); 4] =
    [(0, LOW_END, 1), (LOW_END, HIGH - LOW_END, 2), (HIGH, HOLE - HIGH, 1), (4 << 30, 2 << 30, 1)];

fn read(memory: &GuestMemory, addr: u64, len: usize) -> Vec<u8> {
    let mut buf = vec![0; len];
    memory.read(addr, &mut buf).unwrap();
    buf
}

fn boot<'a>(map: &'a [Entry]) -> Boot<'a> {
    Boot { bootargs: "console=ttyS0 quiet", initrd: Some(INITRD), map, seed: Some(1) }
}

#[test]
fn the_zero_page() {
    let memory = memory();
    let mut header = SetupHeader::of_program();
    header.bytes[0] = 0x27; // as if of a kernel
    header.bytes[field::KERNEL_ALIGNMENT - HEADER] = 0x55;
    let map = map();
    let protocol = Protocol::Linux(header);
    let first = write(&memory, &protocol, 0x100_0000, &boot(&map)).unwrap();
    assert_eq!((first.register, first.argument), (6, BOOT_PARAMS));
    let page = read(&memory, BOOT_PARAMS, 4096);
    let word = |at| u32_at(&page, at).unwrap();
    assert_eq!((page[0x1f1], page[0x230]), (0x27, 0x55));
    assert_eq!((u16_at(&page, 0x1fe), &page[0x202..0x206]), (Some(0xaa55), &b"HdrS"[..]));
    assert_eq!(u16_at(&page, 0x206), Some(0x20c));
    assert_eq!(page[0x1ef], 0, "the sentinel of loaders that do not clear the page");
    assert_eq!((page[0x210], page[0x211]), (0xff, 1));
    assert_eq!(word(0x214), 0x100_0000);
    assert_eq!((word(0x218), word(0x0c0)), (0x7fff_f000, 1));
    assert_eq!((word(0x21c), word(0x0c4)), (0x123, 1));
    assert_eq!(u64_at(&page, 0x070), Some(ACPI));
    assert_eq!(read(&memory, word(0x228).into(), 20), b"console=ttyS0 quiet\0");
    assert_eq!(word(0x0c8), 0);
    assert_eq!(page[0x1e8], 4);
    for (i, (base, size, kind)) in MAP.into_iter().enumerate() {
        let line = &page[0x2d0 + 20 * i..][..20];
        let found = (u64_at(line, 0), u64_at(line, 8), u32_at(line, 16));
        assert_eq!(found, (Some(base), Some(size), Some(kind)));
    }
    assert_eq!(page[0x2d0 + 80..][..20], [0; 20]);
    let seed = u64_at(&page, 0x250).unwrap();
    let data = read(&memory, seed, 48);
    assert_eq!(
        (u64_at(&data, 0), u32_at(&data, 8), u32_at(&data, 12)),
        (Some(0), Some(9), Some(32))
    );
    assert!(data[16..].chunks(8).all(|word| word != [0; 8]));
}

#[test]
fn what_is_not_there_is_not_told() {
    let memory = memory();
    let map = map();
    let nothing = Boot { bootargs: "", initrd: None, map: &map, seed: None };
    write(&memory, &Protocol::Linux(SetupHeader::of_program()), HIGH, &nothing).unwrap();
    let page = read(&memory, BOOT_PARAMS, 4096);
    for field in [0x0c0, 0x0c4, 0x218, 0x21c, 0x250] {
        assert_eq!(u32_at(&page, field), Some(0), "{field:#x}");
    }
    write(&memory, &Protocol::Pvh, HIGH, &nothing).unwrap();
    let info = read(&memory, START_INFO, 56);
    assert_eq!((u32_at(&info, 12), u64_at(&info, 16)), (Some(0), Some(0)));
}

#[test]
fn seeds_repeat() {
    assert_eq!(rng_seed(1), rng_seed(1));
    assert_ne!(rng_seed(1), rng_seed(2));
}

#[test]
fn pvh_start_info() {
    let memory = memory();
    let map = map();
    let first = write(&memory, &Protocol::Pvh, HIGH, &boot(&map)).unwrap();
    let start = Start { mode: Mode::Protected, gdt: GDT, cr3: 0 };
    assert_eq!(first, First { start, register: 3, argument: START_INFO });
    let info = read(&memory, START_INFO, 56);
    let word = |at| u32_at(&info, at).unwrap();
    let long = |at| u64_at(&info, at).unwrap();
    assert_eq!((word(0), word(4), word(8), word(12)), (0x336e_c578, 1, 0, 1));
    let module = read(&memory, long(16), 32);
    let module: Vec<_> = (0..4).map(|i| u64_at(&module, 8 * i).unwrap()).collect();
    assert_eq!(module, [INITRD.base, INITRD.size, 0, 0]);
    assert_eq!(read(&memory, long(24), 20), b"console=ttyS0 quiet\0");
    assert_eq!(long(32), ACPI);
    assert_eq!((word(48), word(52)), (4, 0));
    let lines = read(&memory, long(40), 4 * 24);
    for (line, (base, size, kind)) in lines.chunks(24).zip(MAP) {
        let found = (u64_at(line, 0), u64_at(line, 8), u64_at(line, 16));
        assert_eq!(found, (Some(base), Some(size), Some(kind.into())));
    }
    assert!(long(40) + 4 * 24 <= BOOT_PARAMS, "before what comes next");
}

/// Walks the tables as the CPU does.
fn translate(memory: &GuestMemory, root: u64, addr: u64) -> Option<u64> {
    let mut table = root;
    for level in (0..4).rev() {
        let shift = 12 + 9 * level;
        let entry = u64_at(&read(memory, table + 8 * (addr >> shift & 0x1ff), 8), 0).unwrap();
        if entry & 3 != 3 {
            return None;
        }
        let is_page = level == 0 || entry & 0x80 != 0;
        assert!(!is_page || entry & 4 == 0, "programs have nothing here: {entry:#x}");
        let base = entry & 0x000f_ffff_ffff_f000;
        if is_page {
            return Some(base | addr & ((1 << shift) - 1));
        }
        table = base;
    }
    None
}

#[test]
fn long_mode_starts_with_memory_mapped_to_itself() {
    let memory = memory();
    let map = map();
    let protocol = Protocol::Linux(SetupHeader::of_program());
    let First { start, .. } = write(&memory, &protocol, HIGH, &boot(&map)).unwrap();
    assert_eq!((start.mode, start.gdt), (Mode::Long, GDT));
    for addr in [0, 0x1234, 0x1f_ffff, 0x20_0000, HOLE - 1, 0xfee0_0020, 0xffff_ffff] {
        assert_eq!(translate(&memory, start.cr3, addr), Some(addr), "{addr:#x}");
    }
    for addr in [1 << 32, 1 << 39, 0xffff_ffff_8000_0000] {
        assert_eq!(translate(&memory, start.cr3, addr), None, "{addr:#x}");
    }
    assert_eq!(read(&memory, GDT, 56), words(&axvcpu_x86::start::GDT));
}

#[test]
fn command_lines() {
    assert_eq!(check_bootargs("12345", 5), Ok(()));
    let long = BuildError::CommandLineTooLong { length: 6, most: 5 };
    assert_eq!(check_bootargs("123456", 5), Err(long));
    assert_eq!(check_bootargs("1\0", 5), Err(BuildError::CommandLineNul));
    // The longest fills its place, NUL included.
    let most = most_bootargs(&Protocol::Pvh);
    let bootargs = "x".repeat(most);
    assert_eq!(check_bootargs(&bootargs, most), Ok(()));
    assert_eq!(most as u64 + 1, CMDLINE_SIZE);
}

/// What is written below 1 MiB keeps clear of each other.
#[test]
fn places_do_not_overlap() {
    let tables = 4096 * (2 + (MAPPED >> 30));
    let places = [
        (GDT, size_of_val(&axvcpu_x86::start::GDT) as u64),
        (START_INFO, 4096),
        (BOOT_PARAMS, 4096),
        (SETUP_DATA, rng_seed(0).len() as u64),
        (PML4, tables),
        (CMDLINE, CMDLINE_SIZE),
        (LOW_END, 0),
    ];
    for pair in places.windows(2) {
        assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{pair:x?}");
    }
}
