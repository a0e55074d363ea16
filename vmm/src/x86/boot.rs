//! What a kernel finds when it starts: descriptors, page tables, and what it is told of its machine.

use alloc::vec;
use alloc::vec::Vec;

use axvcpu::AxResult;
use axvcpu_x86::paging::{Size, Tables, entry};
use axvcpu_x86::reg::gpr;
use axvcpu_x86::start;
use axvcpu_x86::start::{Mode, Start};

use super::bzimage::{HEADER, SetupHeader, field};
use super::kernel::Protocol;
use super::layout::{
    ACPI, BOOT_PARAMS, CMDLINE, CMDLINE_SIZE, GDT, MAPPED, PML4, SETUP_DATA, START_INFO,
};
use super::memory_map::Entry;
use crate::numbers::Numbers;
use crate::{BuildError, GuestMemory, RamRange};

/// What a boot loader knows.
pub(super) struct Boot<'a> {
    pub(super) bootargs: &'a str,
    pub(super) initrd: Option<RamRange>,
    pub(super) map: &'a [Entry],
    /// What random seeds are made of.
    pub(super) seed: Option<u64>,
}

/// How the first CPU starts, apart from where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct First {
    pub(super) start: Start,
    /// The register with the address of what the kernel is told, by the number `set_gpr` takes.
    pub(super) register: usize,
    pub(super) argument: u64,
}

/// Refuses a command line that cannot be passed on whole. `most` is what the kernel takes, without a NUL.
pub(super) fn check_bootargs(bootargs: &str, most: usize) -> Result<(), BuildError> {
    if bootargs.contains('\0') {
        return Err(BuildError::CommandLineNul);
    }
    let length = bootargs.len();
    if length > most { Err(BuildError::CommandLineTooLong { length, most }) } else { Ok(()) }
}

/// The most bytes of command line that a kernel takes, without a NUL.
pub(super) fn most_bootargs(protocol: &Protocol) -> usize {
    match protocol {
        Protocol::Linux(header) => header.cmdline_max,
        Protocol::Pvh => CMDLINE_SIZE as usize - 1,
    }
}

/// Writes it all to memory. The command line was checked.
pub(super) fn write(
    memory: &GuestMemory,
    protocol: &Protocol,
    kernel: u64,
    boot: &Boot<'_>,
) -> Result<First, BuildError> {
    let put = |addr, bytes: &[u8]| {
        memory.write(addr, bytes).map_err(|error| BuildError::Kernel(error.into()))
    };
    put(GDT, &words(&start::GDT))?;
    put(CMDLINE, boot.bootargs.as_bytes())?;
    put(CMDLINE + boot.bootargs.len() as u64, &[0])?;
    match protocol {
        Protocol::Linux(header) => {
            let tables = page_tables().map_err(|error| BuildError::Cpu { cpu: 0, error })?;
            for (table, at) in tables.as_slice().iter().zip((tables.root()..).step_by(4096)) {
                put(at, &words(table))?;
            }
            let setup_data = match boot.seed {
                Some(seed) => {
                    put(SETUP_DATA, &rng_seed(seed))?;
                    SETUP_DATA
                }
                None => 0,
            };
            put(BOOT_PARAMS, &boot_params(header, kernel, setup_data, boot))?;
            let start = Start { mode: Mode::Long, gdt: GDT, cr3: tables.root() };
            Ok(First { start, register: gpr::RSI, argument: BOOT_PARAMS })
        }
        Protocol::Pvh => {
            put(START_INFO, &start_info(boot))?;
            let start = Start { mode: Mode::Protected, gdt: GDT, cr3: 0 };
            Ok(First { start, register: gpr::RBX, argument: START_INFO })
        }
    }
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// The tables that long mode starts with: the first 4 GiB mapped to themselves, with the pages of 2 MiB that every CPU with
/// long mode has (SDM volume 3, 5.5). They are the supervisor's, so that kernels may switch on SMEP and SMAP before they
/// have tables of their own.
fn page_tables() -> AxResult<Tables> {
    Tables::identity(PML4, MAPPED >> 30, Size::Large, entry::WRITE)
}

/// A `setup_data` with a seed for the kernel's random numbers (boot.rst; kernels that do not know it skip it).
fn rng_seed(seed: u64) -> Vec<u8> {
    const SETUP_RNG_SEED: u32 = 9;
    let mut numbers = Numbers(seed);
    let seed: [u64; 4] = core::array::from_fn(|_| numbers.next());
    let seed = words(&seed);
    let mut data = words(&[0]); // there is no other
    data.extend(SETUP_RNG_SEED.to_le_bytes());
    data.extend((seed.len() as u32).to_le_bytes());
    data.extend(seed);
    data
}

/// Offsets in `boot_params` outside of the setup header (zero-page.rst).
mod zero_page {
    pub(super) const ACPI_RSDP_ADDR: usize = 0x070;
    pub(super) const EXT_RAMDISK_IMAGE: usize = 0x0c0;
    pub(super) const EXT_RAMDISK_SIZE: usize = 0x0c4;
    pub(super) const E820_ENTRIES: usize = 0x1e8;
    pub(super) const E820_TABLE: usize = 0x2d0;
    pub(super) const SIZE: usize = 4096;
}

fn boot_params(header: &SetupHeader, kernel: u64, setup_data: u64, boot: &Boot<'_>) -> Vec<u8> {
    /// A boot loader that has no number.
    const UNDEFINED_LOADER: u8 = 0xff;
    let mut page = vec![0; zero_page::SIZE];
    let mut put = |at: usize, bytes: &[u8]| page[at..at + bytes.len()].copy_from_slice(bytes);
    let initrd = boot.initrd.unwrap_or(RamRange { base: 0, size: 0 });
    put(HEADER, &header.bytes);
    put(field::TYPE_OF_LOADER, &[UNDEFINED_LOADER]);
    put(field::CODE32_START, &(kernel as u32).to_le_bytes());
    put(field::RAMDISK_IMAGE, &(initrd.base as u32).to_le_bytes());
    put(field::RAMDISK_SIZE, &(initrd.size as u32).to_le_bytes());
    put(zero_page::EXT_RAMDISK_IMAGE, &((initrd.base >> 32) as u32).to_le_bytes());
    put(zero_page::EXT_RAMDISK_SIZE, &((initrd.size >> 32) as u32).to_le_bytes());
    put(field::CMD_LINE_PTR, &(CMDLINE as u32).to_le_bytes());
    put(field::SETUP_DATA, &setup_data.to_le_bytes());
    put(zero_page::ACPI_RSDP_ADDR, &ACPI.to_le_bytes());
    // There are a handful, and room for 128.
    put(zero_page::E820_ENTRIES, &[boot.map.len() as u8]);
    let map = boot.map.iter().flat_map(|entry| {
        let mut line = words(&[entry.base, entry.size]);
        line.extend((entry.kind as u32).to_le_bytes());
        line
    });
    put(zero_page::E820_TABLE, &map.collect::<Vec<_>>());
    page
}

/// `hvm_start_info` (Xen, include/public/arch-x86/hvm/start_info.h), the list of modules and the map of memory.
fn start_info(boot: &Boot<'_>) -> Vec<u8> {
    const MAGIC: u32 = 0x336e_c578;
    const VERSION: u32 = 1;
    const SIZE: u64 = 56;
    const MODULE: u64 = 32;
    let half = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    let modules = u32::from(boot.initrd.is_some());
    let module_list = START_INFO + SIZE;
    let map = module_list + u64::from(modules) * MODULE;
    let mut info = words(&[
        half(MAGIC, VERSION),
        half(0, modules), // no flags
        if modules == 0 { 0 } else { module_list },
        CMDLINE,
        ACPI,
        map,
        half(boot.map.len() as u32, 0),
    ]);
    if let Some(RamRange { base, size }) = boot.initrd {
        info.extend(words(&[base, size, 0, 0])); // without a command line of its own
    }
    for entry in boot.map {
        info.extend(words(&[entry.base, entry.size, half(entry.kind as u32, 0)]));
    }
    info
}

#[cfg(test)]
#[path = "boot_tests.rs"]
mod tests;
