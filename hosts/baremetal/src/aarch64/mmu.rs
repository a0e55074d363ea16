//! The hypervisor's own translation: every address is the same physical and virtual. It is there for the caches,
//! without which exclusive accesses need not work, and to tell devices from memory.
#![allow(unsafe_code)] // writes a register

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use fdt::Fdt;
use fdt::node::FdtNode;

use super::sysreg::{barrier, read, write};

/// What the CPUs' registers get before translation is on, in memory for the assembly.
#[repr(C)]
pub(super) struct Settings {
    pub(super) hcr: AtomicU64,
    pub(super) mair: AtomicU64,
    pub(super) tcr: AtomicU64,
    pub(super) ttbr: AtomicU64,
    pub(super) sctlr: AtomicU64,
}

pub(super) static SETTINGS: Settings = Settings {
    hcr: AtomicU64::new(0),
    mair: AtomicU64::new(0),
    tcr: AtomicU64::new(0),
    ttbr: AtomicU64::new(0),
    sctlr: AtomicU64::new(0),
};

/// `HCR_EL2`: EL1 is AArch64; physical interrupts and SErrors are this level's.
const HCR: u64 = 1 << 31 | 1 << 5 | 1 << 4 | 1 << 3;
const HCR_E2H: u64 = 1 << 34;

/// `MAIR_EL2`: attribute 0 is Device-nGnRnE, 1 is Device-nGnRE, 2 is normal write-back memory.
const MAIR: u64 = 0xff_04_00;

/// `SCTLR_EL2`: translation, caches, stack alignment; and what is reserved as one.
const SCTLR: u64 = 0x30c5_0830 | 1 << 12 | 1 << 3 | 1 << 2 | 1;

/// The bits of a virtual address: one table of the first level, with blocks of 1 GiB.
const BITS: u32 = 39;

/// `TCR_EL2` but for the size of physical addresses: 39 bits, tables in write-back inner-shareable memory, granules
/// of 4 KiB.
const TCR: u64 = (64 - BITS) as u64 | 0b01 << 8 | 0b01 << 10 | 0b11 << 12;
/// Without E2H: reserved as one.
const TCR_RES1: u64 = 1 << 31 | 1 << 23;
const TCR_PS: u32 = 16;
/// With E2H: no lookups for the upper half of the addresses; its granule is valid nevertheless.
const TCR_E2H_EPD1: u64 = 1 << 23 | 0b10 << 30 | (64 - BITS as u64) << 16;
const TCR_E2H_IPS: u32 = 32;

const GIGABYTE: u64 = 1 << 30;
const MEGABYTES: u64 = 2 << 20;
const ENTRIES: usize = 512;

/// Descriptor bits (Arm ARM, D8.3).
mod descriptor {
    pub(super) const BLOCK: u64 = 0b01;
    pub(super) const TABLE: u64 = 0b11;
    pub(super) const ATTRIBUTE: u32 = 2;
    /// AP\[1\]: reserved as one where translation has no EL0; else it would be accessible there.
    pub(super) const AP1: u64 = 1 << 6;
    pub(super) const INNER_SHAREABLE: u64 = 0b11 << 8;
    pub(super) const ACCESSED: u64 = 1 << 10;
    /// Not executable: XN, with E2H that for EL0.
    pub(super) const XN: u64 = 1 << 54;
    /// With E2H: not executable at EL2.
    pub(super) const PXN: u64 = 1 << 53;
    pub(super) const ADDRESS: u64 = 0x0000_ffff_ffff_f000;
}

use descriptor::*;

/// What is at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Device,
    Memory,
}

impl Kind {
    fn block(self, e2h: bool) -> u64 {
        let common = BLOCK | ACCESSED | if e2h { 0 } else { AP1 };
        match self {
            Self::Device => common | 1 << ATTRIBUTE | XN | if e2h { PXN } else { 0 },
            Self::Memory => common | 2 << ATTRIBUTE | INNER_SHAREABLE,
        }
    }
}

#[repr(C, align(4096))]
struct Table([AtomicU64; ENTRIES]);

impl Table {
    const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; ENTRIES])
    }
}

/// Tables of the second level, for gigabytes that are not all the same.
const POOL: usize = 8;

struct Tables {
    root: Table,
    pool: [Table; POOL],
    used: AtomicUsize,
}

static TABLES: Tables = Tables::new();

impl Tables {
    const fn new() -> Self {
        Self { root: Table::new(), pool: [const { Table::new() }; POOL], used: AtomicUsize::new(0) }
    }

    /// Maps what is from `start` to `end`, and what is with it in blocks of 2 MiB, whatever was mapped there before.
    /// What there are no tables or no addresses for is left out.
    fn map(&self, start: u64, end: u64, block: u64) {
        let end = end.min(1 << BITS).next_multiple_of(MEGABYTES);
        let mut at = start & !(MEGABYTES - 1);
        while at < end {
            let entry = &self.root.0[(at / GIGABYTE) as usize];
            if at % GIGABYTE == 0 && end - at >= GIGABYTE {
                entry.store(at | block, Ordering::Relaxed);
                at += GIGABYTE;
                continue;
            }
            let stop = end.min((at / GIGABYTE + 1) * GIGABYTE);
            if let Some(table) = self.table(entry) {
                while at < stop {
                    let entry = &table.0[(at % GIGABYTE / MEGABYTES) as usize];
                    entry.store(at | block, Ordering::Relaxed);
                    at += MEGABYTES;
                }
            }
            at = stop;
        }
    }

    /// The table that an entry leads to; one that says the same as the entry if it leads to none.
    fn table(&self, entry: &AtomicU64) -> Option<&Table> {
        let before = entry.load(Ordering::Relaxed);
        if before & TABLE == TABLE {
            let at = before & ADDRESS;
            return self.pool.iter().find(|table| address(table) == at);
        }
        // On one CPU, and without the exclusive accesses that need caches.
        let used = self.used.load(Ordering::Relaxed);
        self.used.store(used + 1, Ordering::Relaxed);
        let table = self.pool.get(used)?;
        if before & BLOCK != 0 {
            for (part, entry) in (0..).step_by(MEGABYTES as usize).zip(&table.0) {
                entry.store(before + part, Ordering::Relaxed);
            }
        }
        entry.store(address(table) | TABLE, Ordering::Relaxed);
        Some(table)
    }
}

fn address(table: &Table) -> u64 {
    core::ptr::from_ref(table).addr() as u64
}

/// Makes the tables for the machine that the device tree describes, and the settings. With translation off.
pub(super) fn prepare(tree: &Fdt<'static>, vhe_wanted: bool) {
    let e2h = e2h(vhe_wanted);
    map_all(&TABLES, tree, e2h);
    let physical = (read!("ID_AA64MMFR0_EL1") & 15).min(0b101); // 48 bits
    let tcr = TCR
        | if e2h { TCR_E2H_EPD1 | physical << TCR_E2H_IPS } else { TCR_RES1 | physical << TCR_PS };
    for (word, value) in [
        (&SETTINGS.hcr, HCR | if e2h { HCR_E2H } else { 0 }),
        (&SETTINGS.mair, MAIR),
        (&SETTINGS.tcr, tcr),
        (&SETTINGS.ttbr, address(&TABLES.root)),
        (&SETTINGS.sctlr, SCTLR),
    ] {
        word.store(value, Ordering::Relaxed);
    }
    barrier!("dsb sy", "isb");
}

/// Whether to run with virtualization host extensions. Some CPUs cannot without.
fn e2h(wanted: bool) -> bool {
    let exists = read!("ID_AA64MMFR1_EL1") >> 8 & 15 != 0;
    // SAFETY: translation is off; what is below this level does not run.
    unsafe { write!("HCR_EL2", HCR) };
    barrier!("isb");
    exists && (wanted || read!("HCR_EL2") & HCR_E2H != 0)
}

/// The first gigabyte and the devices used here are devices, RAM is memory. There is nothing else.
fn map_all(tables: &Tables, tree: &Fdt<'static>, e2h: bool) {
    tables.map(0, GIGABYTE, Kind::Device.block(e2h));
    let regions = |node: FdtNode<'_, 'static>| {
        node.reg()
            .into_iter()
            .flatten()
            .map(|region| (region.starting_address as u64, region.size.unwrap_or(0) as u64))
    };
    let devices = [crate::uart::node(tree), super::gic::node(tree)];
    for (start, size) in devices.into_iter().flatten().flat_map(regions) {
        // The rest is mapped already.
        if start >= GIGABYTE {
            tables.map(start, start.saturating_add(size), Kind::Device.block(e2h));
        }
    }
    for region in tree.memory().regions() {
        let start = region.starting_address as u64;
        let end = start.saturating_add(region.size.unwrap_or(0) as u64);
        tables.map(start, end, Kind::Memory.block(e2h));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::boxed::Box;

    /// The descriptor for an address, with the size of its block.
    fn find(tables: &Tables, at: u64) -> (u64, u64) {
        let entry = tables.root.0[(at / GIGABYTE) as usize].load(Ordering::Relaxed);
        if entry & TABLE != TABLE {
            return (entry, GIGABYTE);
        }
        let table = tables.pool.iter().find(|table| address(table) == entry & ADDRESS).unwrap();
        (table.0[(at % GIGABYTE / MEGABYTES) as usize].load(Ordering::Relaxed), MEGABYTES)
    }

    #[test]
    fn large_blocks_where_all_is_the_same() {
        let tables = Box::new(Tables::new());
        let (device, memory) = (Kind::Device.block(true), Kind::Memory.block(true));
        tables.map(0, GIGABYTE, device);
        tables.map(GIGABYTE, 2 * GIGABYTE + 5 * MEGABYTES - 1, memory);
        assert_eq!(find(&tables, 0x900_0000), (device, GIGABYTE));
        assert_eq!(find(&tables, GIGABYTE), (GIGABYTE | memory, GIGABYTE));
        let last = 2 * GIGABYTE + 4 * MEGABYTES;
        assert_eq!(find(&tables, last), (last | memory, MEGABYTES));
        assert_eq!(find(&tables, last + MEGABYTES), (0, MEGABYTES));
        assert_eq!(find(&tables, 3 * GIGABYTE), (0, GIGABYTE));
    }

    #[test]
    fn memory_among_devices() {
        let tables = Box::new(Tables::new());
        let (device, memory) = (Kind::Device.block(false), Kind::Memory.block(false));
        tables.map(0, GIGABYTE, device);
        tables.map(4 * MEGABYTES, 6 * MEGABYTES, memory);
        tables.map(8 * MEGABYTES, 8 * MEGABYTES + 1, memory);
        for (at, block) in [(3, device), (4, memory), (6, device), (8, memory), (10, device)] {
            let at = at * MEGABYTES;
            assert_eq!(find(&tables, at), (at | block, MEGABYTES));
        }
        assert_eq!(tables.used.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn there_are_no_addresses_beyond_the_last() {
        let tables = Box::new(Tables::new());
        tables.map((1 << BITS) - GIGABYTE, u64::MAX, Kind::Memory.block(true));
        tables.map(1 << BITS, u64::MAX, Kind::Memory.block(true));
        assert_eq!(find(&tables, (1 << BITS) - 1).1, GIGABYTE);
    }

    #[test]
    fn descriptors() {
        assert_eq!(Kind::Memory.block(false), 0x749);
        assert_eq!(Kind::Memory.block(true), 0x709);
        assert_eq!(Kind::Device.block(false), 0x0040_0000_0000_0445);
        assert_eq!(Kind::Device.block(true), 0x0060_0000_0000_0405);
    }
}
