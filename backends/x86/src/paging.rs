//! The guest's own page tables, as 64-bit code needs them (SDM volume 3, 5.5 "4-Level Paging and 5-Level Paging").

use alloc::vec::Vec;

use axvcpu::{AxError, AxResult};

/// The bits of an entry.
pub mod entry {
    /// There is something.
    pub const PRESENT: u64 = 1 << 0;
    /// Writable.
    pub const WRITE: u64 = 1 << 1;
    /// For programs too, and not only for the supervisor.
    pub const USER: u64 = 1 << 2;
    /// Writes go through the cache.
    pub const WRITE_THROUGH: u64 = 1 << 3;
    /// Not cached.
    pub const NO_CACHE: u64 = 1 << 4;
    /// Used; the CPU sets it.
    pub const ACCESSED: u64 = 1 << 5;
    /// Written to; the CPU sets it in entries of pages.
    pub const DIRTY: u64 = 1 << 6;
    /// Above the last level: a page, and not a table.
    pub const PAGE: u64 = 1 << 7;
    /// Stays in the TLB when CR3 changes.
    pub const GLOBAL: u64 = 1 << 8;
    /// Not executable; reserved without EFER.NXE.
    pub const NO_EXECUTE: u64 = 1 << 63;
    /// The physical address.
    pub const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
}

use entry::*;

/// Entries in a table.
pub const ENTRIES: usize = 512;

/// How much a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Size {
    /// 4 KiB, in tables of level 0.
    Small,
    /// 2 MiB, in tables of level 1.
    Large,
    /// 1 GiB, in tables of level 2. Not every CPU has them (CPUID 0x8000_0001, EDX bit 26).
    Huge,
}

impl Size {
    /// The level of the tables that hold such pages: 0 is the last.
    pub const fn level(self) -> u32 {
        self as u32
    }

    /// In bytes.
    pub const fn bytes(self) -> u64 {
        1 << (12 + 9 * self.level())
    }
}

/// Where in a table of level 0 to 3 the entry for an address is.
pub const fn index(address: u64, level: u32) -> usize {
    (address >> (12 + 9 * level)) as usize % ENTRIES
}

/// Page tables under construction, for memory that the guest finds at `base`: the root first, and then every table as
/// it was needed.
///
/// ```
/// use axvcpu_x86::paging::{Size, Tables, entry};
///
/// let mut tables = Tables::identity(0x8000, 4, Size::Large, entry::WRITE | entry::USER)?;
/// tables.map(0xffff_8000_0000_0000, 0x10_0000, Size::Small, entry::WRITE)?;
/// assert_eq!((tables.root(), tables.as_slice().len()), (0x8000, 9));
/// let mut memory = Vec::new();
/// tables.write(|address, entry| Ok::<_, ()>(memory.push((address, entry)))).unwrap();
/// assert_eq!(memory[0], (0x8000, 0x9007));
/// # Ok::<(), axvcpu::AxError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Tables {
    base: u64,
    tables: Vec<[u64; ENTRIES]>,
}

impl Tables {
    /// Tables that map nothing. `base` is a multiple of 4 KiB.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](AxError::InvalidInput) when it is not.
    pub fn new(base: u64) -> AxResult<Self> {
        if base & !ADDRESS != 0 {
            return Err(AxError::InvalidInput);
        }
        Ok(Self { base, tables: Vec::from([[0; ENTRIES]]) })
    }

    /// Tables that map the first `gib` GiB to themselves, with these bits besides [`PRESENT`].
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](AxError::InvalidInput) when there is no such address, or `size` is [`Size::Small`]: that would take
    /// 2 MiB of tables for each GiB.
    pub fn identity(base: u64, gib: u64, size: Size, flags: u64) -> AxResult<Self> {
        // Upper halves of the address space are no continuation of the lower ones.
        if gib > 1 << 17 || size == Size::Small {
            return Err(AxError::InvalidInput);
        }
        let mut tables = Self::new(base)?;
        for page in 0..(gib << 30) / size.bytes() {
            let address = page * size.bytes();
            tables.map(address, address, size, flags)?;
        }
        Ok(tables)
    }

    /// Maps one page at `address` to `to`, with these bits besides [`PRESENT`]. A page that was there before is replaced.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](AxError::InvalidInput) when an address is not a multiple of the page's size or not canonical (SDM
    /// volume 1, 3.3.7.1), or when a larger page, or a table of smaller ones, is there.
    pub fn map(&mut self, address: u64, to: u64, size: Size, flags: u64) -> AxResult {
        let canonical = (address as i64) << 16 >> 16 == address as i64;
        if !canonical || (address | to) & (size.bytes() - 1) != 0 || to & !ADDRESS != 0 {
            return Err(AxError::InvalidInput);
        }
        let mut table = 0;
        for level in (size.level() + 1..4).rev() {
            table = self.descend(table, index(address, level))?;
        }
        let page = if size == Size::Small { 0 } else { PAGE };
        let entry = self.entry_mut(table, index(address, size.level()))?;
        if size != Size::Small && *entry & (PRESENT | PAGE) == PRESENT {
            return Err(AxError::InvalidInput);
        }
        *entry = to | flags & !ADDRESS | page | PRESENT;
        Ok(())
    }

    fn entry_mut(&mut self, table: usize, index: usize) -> AxResult<&mut u64> {
        let table = self.tables.get_mut(table).ok_or(AxError::InvalidInput)?;
        table.get_mut(index).ok_or(AxError::InvalidInput)
    }

    /// The table an entry leads to, which is made if there is none.
    fn descend(&mut self, table: usize, index: usize) -> AxResult<usize> {
        let (base, next) = (self.base, self.tables.len());
        let entry = self.entry_mut(table, index)?;
        if *entry & PAGE != 0 {
            return Err(AxError::InvalidInput);
        }
        if *entry & PRESENT != 0 {
            return Ok(((*entry & ADDRESS) - base) as usize / 4096);
        }
        // What pages may be used for, the pages' own entries say.
        *entry = (base + 4096 * next as u64) | PRESENT | WRITE | USER;
        self.tables.push([0; ENTRIES]);
        Ok(next)
    }

    /// The root's address, as CR3 holds it.
    pub const fn root(&self) -> u64 {
        self.base
    }

    /// The tables, as they are in memory one behind the other.
    pub fn as_slice(&self) -> &[[u64; ENTRIES]] {
        &self.tables
    }

    /// Where the entry of a level for an address is. `None` when the tables before it do not lead there.
    pub fn entry(&self, address: u64, level: u32) -> Option<u64> {
        let mut table = 0;
        for above in (level + 1..4).rev() {
            let entry = *self.tables.get(table)?.get(index(address, above))?;
            if entry & (PRESENT | PAGE) != PRESENT {
                return None;
            }
            table = ((entry & ADDRESS) - self.base) as usize / 4096;
        }
        Some(self.base + 4096 * table as u64 + 8 * index(address, level) as u64)
    }

    /// Gives the address and the value of every entry that is not zero: for memory that is zero.
    ///
    /// # Errors
    ///
    /// The first that `write` answers.
    pub fn write<E>(&self, mut write: impl FnMut(u64, u64) -> Result<(), E>) -> Result<(), E> {
        let entries = (self.base..).step_by(8).zip(self.tables.iter().flatten());
        entries.filter(|&(_, &entry)| entry != 0).try_for_each(|(at, &entry)| write(at, entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paging::entry;

    const ALL: u64 = WRITE | USER;

    /// Walks as the CPU does; the physical address and the entry of the page.
    fn walk(tables: &Tables, address: u64) -> Option<(u64, u64)> {
        for level in (0..4).rev() {
            let at = tables.entry(address, level)?;
            let offset = (at - tables.root()) as usize;
            let entry = tables.as_slice()[offset / 4096][offset % 4096 / 8];
            if entry & PRESENT == 0 {
                return None;
            }
            if level == 0 || entry & PAGE != 0 {
                let within = (1 << (12 + 9 * level)) - 1;
                return Some((entry & ADDRESS & !within | address & within, entry));
            }
        }
        None
    }

    #[test]
    fn the_identity_maps_every_address_to_itself_and_nothing_else() {
        for (size, count) in [(Size::Large, 2 + 5), (Size::Huge, 2)] {
            let tables = Tables::identity(0x7000, 5, size, ALL).unwrap();
            assert_eq!(tables.as_slice().len(), count);
            for address in [0, 1, 0x1f_ffff, 0x20_0000, 0x4000_0000, 0xffff_ffff, (5 << 30) - 1] {
                let (to, entry) = walk(&tables, address).unwrap();
                assert_eq!((to, entry & 0x87), (address, 0x87), "{address:#x}");
            }
            for address in [5 << 30, 1 << 39, u64::MAX] {
                assert_eq!(walk(&tables, address), None, "{address:#x}");
            }
        }
        // More than a table of level 2 has room for.
        let tables = Tables::identity(0, 1025, Size::Huge, ALL).unwrap();
        assert_eq!(tables.as_slice().len(), 4);
        assert_eq!(walk(&tables, 1024 << 30).unwrap().0, 1024 << 30);
        assert!(Tables::identity(0, (1 << 17) + 1, Size::Huge, ALL).is_err());
        assert!(Tables::identity(0, 1, Size::Small, ALL).is_err());
        assert!(Tables::identity(0x800, 1, Size::Huge, ALL).is_err());
    }

    #[test]
    fn pages_of_every_size_with_flags() {
        let mut tables = Tables::new(0x1_0000).unwrap();
        let high = 0xffff_8000_0000_0000;
        tables.map(high, 0x1000, Size::Small, WRITE | entry::NO_EXECUTE).unwrap();
        tables.map(high + 0x20_0000, 0x4000_0000, Size::Large, USER).unwrap();
        tables.map(high + 0x4000_0000, 0x8000_0000, Size::Huge, GLOBAL).unwrap();
        assert_eq!(tables.as_slice().len(), 4);
        let no_execute = 1 << 63;
        assert_eq!(walk(&tables, high + 0xabc), Some((0x1abc, no_execute | 0x1003)));
        assert_eq!(walk(&tables, high + 0x3f_ffff), Some((0x401f_ffff, 0x4000_0085)));
        assert_eq!(walk(&tables, high + 0x4000_0001), Some((0x8000_0001, 0x8000_0181)));
        assert_eq!(walk(&tables, high + 0x1000), None);
        // Replaced by one of the same size, and by no other.
        tables.map(high, 0x2000, Size::Small, 0).unwrap();
        assert_eq!(walk(&tables, high), Some((0x2000, 0x2001)));
        for (address, to, size) in [
            (high, 0, Size::Large),
            (high, 0, Size::Huge),
            (high + 0x20_1000, 0, Size::Small),
            (high + 0x4000_0000, 0, Size::Large),
            (1 << 47, 0, Size::Small),
            (0x800, 0, Size::Small),
            (0, 0x1000, Size::Large),
            (0, 1 << 52, Size::Huge),
        ] {
            let refused = tables.map(address, to, size, 0);
            assert_eq!(refused, Err(AxError::InvalidInput), "{address:#x} to {to:#x}, {size:?}");
        }
    }

    #[test]
    fn entries_are_found_where_they_are_written() {
        let tables = Tables::identity(0x3000, 2, Size::Large, ALL).unwrap();
        let mut memory = alloc::collections::BTreeMap::new();
        let result = tables.write(|at, entry| match memory.insert(at, entry) {
            None => Ok(()),
            Some(_) => Err(at),
        });
        assert_eq!(result, Ok(()));
        assert_eq!(memory.len(), 1 + 2 + 2 * 512);
        let at = tables.entry(0x4020_0000, 1).unwrap();
        assert_eq!((at, memory[&at]), (0x6008, 0x4020_0087));
        assert_eq!(tables.entry(0x4020_0000, 0), None, "a page");
        assert_eq!(tables.entry(0x8000_0000, 2), Some(0x4010), "nothing yet, but a place for it");
        let mut count = 0;
        let stopped = tables.write(|_, _| {
            count += 1;
            if count == 3 { Err("full") } else { Ok(()) }
        });
        assert_eq!((stopped, count), (Err("full"), 3));
    }
}
