//! Guest memory: where it is, and copies in and out that a hostile guest cannot turn against the host.
#![allow(unsafe_code)] // declares what a backing must promise, and relies on it

mod copy;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use axvcpu::{AxMmHal, GuestPhysAddr, HostPhysAddr};

/// Host memory that becomes the guest's RAM.
///
/// # Safety
///
/// From the moment it is handed over until it is dropped, the `size` bytes at `host_phys` are mapped,
/// readable and writable at [`phys_to_virt`](AxMmHal::phys_to_virt) of that address, contiguous there, and
/// nobody else's: no reference to them exists anywhere. Address and size always stay the same.
pub unsafe trait RamBacking: Send + Sync + 'static {
    /// The first byte; 4 KiB aligned. Where it is 2 MiB or 1 GiB aligned, stage 2 uses pages of that size.
    fn host_phys(&self) -> HostPhysAddr;

    /// The size in bytes, a multiple of 4 KiB.
    fn size(&self) -> u64;

    /// The monitor has written `len` bytes at `offset`. For hosts whose guests may look at memory past the
    /// caches, as guests do that start with theirs off: the host cleans its own.
    fn written(&self, offset: u64, len: u64) {
        let _ = (offset, len);
    }
}

/// A range of guest RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RamRange {
    /// The guest physical address of the first byte.
    pub base: u64,
    /// The size in bytes.
    pub size: u64,
}

impl RamRange {
    /// Whether `len` bytes from `addr` on lie inside.
    pub fn contains(&self, addr: u64, len: u64) -> bool {
        addr >= self.base && addr - self.base <= self.size && len <= self.size - (addr - self.base)
    }
}

/// An access that is not entirely inside guest RAM. Nothing was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutsideRam {
    /// The guest physical address of the first byte asked for.
    pub addr: u64,
    /// The number of bytes asked for.
    pub len: u64,
}

impl fmt::Display for OutsideRam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes at guest address {:#x} are not inside RAM", self.len, self.addr)
    }
}

impl core::error::Error for OutsideRam {}

/// Why a range of RAM could not be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RamError {
    /// An address or the size is not a multiple of 4 KiB, or the size is 0.
    Unaligned,
    /// The range does not fit into the address space.
    TooLarge,
    /// The range overlaps RAM that is already there.
    Overlap,
}

impl fmt::Display for RamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unaligned => "RAM must start and end on 4 KiB boundaries and not be empty",
            Self::TooLarge => "RAM reaches beyond the end of the address space",
            Self::Overlap => "RAM overlaps other RAM",
        })
    }
}

impl core::error::Error for RamError {}

struct Region {
    range: RamRange,
    host: HostPhysAddr,
    /// `phys_to_virt` of `host`.
    virt: *mut u8,
    backing: Arc<dyn RamBacking>,
    /// Where the range begins in the backing.
    offset: u64,
}

// SAFETY: `virt` is used for atomic accesses only, and the backing itself can be sent and shared.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

/// The RAM of one guest.
///
/// All access is by copy and bounds-checked. The guest may change the memory at any moment, also between
/// two reads of the same byte: whoever checks what was read must check the copy that is used.
#[derive(Default)]
pub struct GuestMemory {
    regions: Vec<Region>,
}

impl GuestMemory {
    /// No memory at all.
    pub const fn new() -> Self {
        Self { regions: Vec::new() }
    }

    /// Makes `backing` the guest's RAM from `base` on. `M` is the platform the backing belongs to.
    pub fn add<M: AxMmHal>(
        &mut self,
        base: GuestPhysAddr,
        backing: Box<dyn RamBacking>,
    ) -> Result<(), RamError> {
        let range = RamRange { base: base.as_u64(), size: backing.size() };
        self.check(range, backing.host_phys())?;
        self.insert::<M>(range, backing.into(), 0);
        Ok(())
    }

    /// Like [`add`](Self::add), but nothing is put into `hole`: what would be there, and what comes after it, goes
    /// behind the hole. So one backing makes the memory of machines whose devices are in the middle of it.
    pub fn add_around<M: AxMmHal>(
        &mut self,
        base: GuestPhysAddr,
        hole: RamRange,
        backing: Box<dyn RamBacking>,
    ) -> Result<(), RamError> {
        let (base, size) = (base.as_u64(), backing.size());
        let below = hole.base.saturating_sub(base).min(size);
        if below == size {
            return self.add::<M>(GuestPhysAddr::new(base), backing);
        }
        let behind = hole.base.checked_add(hole.size).ok_or(RamError::TooLarge)?;
        let parts = [
            (RamRange { base, size: below }, 0),
            (RamRange { base: behind.max(base), size: size - below }, below),
        ];
        let used = || parts.into_iter().filter(|(range, _)| range.size != 0);
        let host = backing.host_phys();
        for (range, _) in used() {
            self.check(range, host)?;
        }
        let backing: Arc<dyn RamBacking> = backing.into();
        for (range, offset) in used() {
            self.insert::<M>(range, backing.clone(), offset);
        }
        Ok(())
    }

    /// Whether there can be RAM at `range` that is at `host`, or a multiple of 4 KiB from there.
    fn check(&self, range: RamRange, host: HostPhysAddr) -> Result<(), RamError> {
        if range.size == 0 || (range.base | range.size | host.as_u64()) % 4096 != 0 {
            return Err(RamError::Unaligned);
        }
        if range.base.checked_add(range.size).is_none() || usize::try_from(range.size).is_err() {
            return Err(RamError::TooLarge);
        }
        let apart = |other: &RamRange| {
            range.base + range.size <= other.base || other.base + other.size <= range.base
        };
        if self.ranges().all(|other| apart(&other)) { Ok(()) } else { Err(RamError::Overlap) }
    }

    /// Adds a range that was checked; it is `offset` bytes into the backing.
    fn insert<M: AxMmHal>(&mut self, range: RamRange, backing: Arc<dyn RamBacking>, offset: u64) {
        let start = backing.host_phys();
        let host = HostPhysAddr::new(start.as_u64() + offset);
        // The backing's promise is about what follows its first byte.
        let virt = (M::phys_to_virt(start).as_usize() as *mut u8).wrapping_add(offset as usize);
        self.regions.push(Region { range, host, virt, backing, offset });
        self.regions.sort_by_key(|region| region.range.base);
    }

    /// The ranges of RAM, in the order of their addresses.
    pub fn ranges(&self) -> impl Iterator<Item = RamRange> + '_ {
        self.regions.iter().map(|region| region.range)
    }

    /// The ranges of RAM with the host memory behind each.
    pub fn mappings(&self) -> impl Iterator<Item = (RamRange, HostPhysAddr)> + '_ {
        self.regions.iter().map(|region| (region.range, region.host))
    }

    /// Whether `len` bytes from `addr` on are RAM, of one range.
    pub fn contains(&self, addr: u64, len: u64) -> bool {
        self.ranges().any(|range| range.contains(addr, len))
    }

    /// Copies guest memory at `addr` to `buf`.
    pub fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), OutsideRam> {
        let (from, _) = self.locate(addr, buf.len())?;
        // SAFETY: `locate` found the range inside a backing, whose promise is the one asked for.
        unsafe { copy::read(from, buf) };
        Ok(())
    }

    /// Copies `buf` to guest memory at `addr`. Whoever writes code also requests
    /// [`Fence::INSTRUCTION`](axvcpu::Fence::INSTRUCTION) of the vCPUs that may run it.
    pub fn write(&self, addr: u64, buf: &[u8]) -> Result<(), OutsideRam> {
        let (to, region) = self.locate(addr, buf.len())?;
        // SAFETY: as in `read`.
        unsafe { copy::write(to, buf) };
        let offset = region.offset + (addr - region.range.base);
        region.backing.written(offset, buf.len() as u64);
        Ok(())
    }

    /// The first of `len` bytes, if they are all in one range, and the range.
    fn locate(&self, addr: u64, len: usize) -> Result<(*mut u8, &Region), OutsideRam> {
        let len = len as u64;
        let region = self.regions.iter().find(|region| region.range.contains(addr, len));
        let region = region.ok_or(OutsideRam { addr, len })?;
        Ok((region.virt.wrapping_add((addr - region.range.base) as usize), region))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Heap, Mm};
    use alloc::vec;

    fn memory() -> GuestMemory {
        let mut memory = GuestMemory::new();
        memory.add::<Mm>(GuestPhysAddr::new(0x8000_0000), Box::new(Heap::new(8192))).unwrap();
        memory.add::<Mm>(GuestPhysAddr::new(0x1000), Box::new(Heap::new(4096))).unwrap();
        memory
    }

    #[test]
    fn copies_at_every_alignment() {
        let memory = memory();
        let data: Vec<u8> = (1..=64).collect();
        for offset in 0..16 {
            for len in 0..40 {
                let addr = 0x8000_0000 + offset;
                memory.write(0x8000_0000, &[0; 64]).unwrap();
                memory.write(addr, &data[..len]).unwrap();
                let mut back = vec![0xee; len];
                memory.read(addr, &mut back).unwrap();
                assert_eq!(back, data[..len]);
                let mut around = [0xee; 1];
                memory.read(addr + len as u64, &mut around).unwrap();
                assert_eq!(around, [0]);
            }
        }
    }

    #[test]
    fn bounds() {
        let memory = memory();
        let mut buf = [0; 16];
        for addr in
            [0, 0xff8, 0x1ff8, 0x7fff_fff8, 0x8000_1ff1, 0x8000_2000, u64::MAX - 7, u64::MAX]
        {
            assert_eq!(memory.read(addr, &mut buf), Err(OutsideRam { addr, len: 16 }));
            assert_eq!(memory.write(addr, &buf), Err(OutsideRam { addr, len: 16 }));
        }
        memory.read(0x8000_1ff0, &mut buf).unwrap();
        memory.write(0x8000_2000, &[]).unwrap();
        assert!(memory.contains(0x1000, 4096) && !memory.contains(0x1000, 4097));
        assert!(!memory.contains(u64::MAX, u64::MAX));
    }

    #[test]
    fn backings_hear_of_what_was_written() {
        let heap = Heap::new(8192);
        let written = heap.written.clone();
        let mut memory = GuestMemory::new();
        memory.add::<Mm>(GuestPhysAddr::new(0x8000_0000), Box::new(heap)).unwrap();
        memory.write(0x8000_0010, &[1; 5]).unwrap();
        memory.write(0x8000_1ff0, &[1; 17]).unwrap_err();
        memory.read(0x8000_0020, &mut [0; 4]).unwrap();
        assert_eq!(*written.lock().unwrap(), [(0x10, 5)]);
    }

    #[test]
    fn one_backing_goes_around_a_hole() {
        let hole = RamRange { base: 0x3000, size: 0x5000 };
        let around = |base, size| {
            let heap = Heap::new(size);
            let (start, written) = (heap.host_phys().as_u64(), heap.written.clone());
            let mut memory = GuestMemory::new();
            memory.add_around::<Mm>(GuestPhysAddr::new(base), hole, Box::new(heap)).unwrap();
            let parts: Vec<_> = memory
                .mappings()
                .map(|(range, host)| (range.base, range.size, host.as_u64() - start))
                .collect();
            (memory, parts, written)
        };
        assert_eq!(around(0x1000, 0x1000).1, [(0x1000, 0x1000, 0)]);
        assert_eq!(around(0x1000, 0x2000).1, [(0x1000, 0x2000, 0)]);
        assert_eq!(around(0x3000, 0x2000).1, [(0x8000, 0x2000, 0)]);
        assert_eq!(around(0x9000, 0x2000).1, [(0x9000, 0x2000, 0)]);
        let (memory, parts, written) = around(0, 0x7000);
        assert_eq!(parts, [(0, 0x3000, 0), (0x8000, 0x4000, 0x3000)]);
        memory.write(0x2ffe, b"ab").unwrap();
        memory.write(0x8001, b"cd").unwrap();
        memory.write(0x2fff, b"no").unwrap_err();
        memory.write(0x7fff, b"no").unwrap_err();
        assert_eq!(*written.lock().unwrap(), [(0x2ffe, 2), (0x3001, 2)]);
        let mut back = [0; 2];
        memory.read(0x8001, &mut back).unwrap();
        assert_eq!(&back, b"cd");
    }

    #[test]
    fn nothing_is_added_around_a_hole_by_halves() {
        let mut memory = GuestMemory::new();
        let top = GuestPhysAddr::new(0x8000);
        memory.add::<Mm>(top, Box::new(Heap::new(4096))).unwrap();
        let odd = RamRange { base: 0x800, size: 0x1000 };
        let endless = RamRange { base: 0x1000, size: u64::MAX };
        let taken = RamRange { base: 0x1000, size: 0x7000 };
        for (hole, error) in
            [(odd, RamError::Unaligned), (endless, RamError::TooLarge), (taken, RamError::Overlap)]
        {
            let backing = Box::new(Heap::new(8192));
            let result = memory.add_around::<Mm>(GuestPhysAddr::new(0), hole, backing);
            assert_eq!(result, Err(error));
        }
        assert_eq!(memory.ranges().count(), 1);
    }

    #[test]
    fn ranges_that_are_refused() {
        let mut memory = memory();
        for (base, size, error) in [
            (0x123, 4096, RamError::Unaligned),
            (0x4000, 0, RamError::Unaligned),
            (u64::MAX - 4095, 4096, RamError::TooLarge),
            (0x8000_1000, 4096, RamError::Overlap),
            (0x7fff_f000, 8192, RamError::Overlap),
            (0x8000_0000, 4096, RamError::Overlap),
        ] {
            let backing = Box::new(Heap::new(size));
            assert_eq!(memory.add::<Mm>(GuestPhysAddr::new(base), backing), Err(error));
        }
        assert_eq!(memory.ranges().map(|r| r.base).collect::<Vec<_>>(), [0x1000, 0x8000_0000]);
    }
}
