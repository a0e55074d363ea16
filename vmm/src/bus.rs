//! The MMIO bus: which device answers at which address.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use axvcpu::AccessWidth;

/// A device with registers in the guest's physical address space.
///
/// Methods take `&self` because several vCPUs reach a device at once; what a device changes is its own to
/// protect, with one lock at most, and it calls nothing that may come back to it while it holds that.
pub trait MmioDevice: Send + Sync {
    /// What to call it in messages.
    fn name(&self) -> &str;

    /// Reads `width` bytes at `offset` from the device's base. `offset + width` is inside the device and
    /// `offset` a multiple of `width`. Bits of the answer beyond `width` are ignored.
    fn read(&self, offset: u64, width: AccessWidth) -> Result<u64, NoDevice>;

    /// Writes `width` bytes at `offset`; rules as for [`read`](Self::read). Bits of `data` beyond `width`
    /// are zero.
    fn write(&self, offset: u64, width: AccessWidth, data: u64) -> Result<(), NoDevice>;
}

/// Nothing answers: no device at the address, or the device knows no such register or width. The guest gets
/// an access fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoDevice;

/// A device overlaps another, or does not fit into the address space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeTaken {
    /// The device that was to be added.
    pub device: String,
    /// The guest physical address it was to have.
    pub base: u64,
    /// How many bytes it was to have.
    pub size: u64,
}

impl fmt::Display for RangeTaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { device, base, size } = self;
        write!(f, "no room for {device} at guest address {base:#x} ({size:#x} bytes)")
    }
}

impl core::error::Error for RangeTaken {}

struct Slot {
    base: u64,
    size: u64,
    device: Arc<dyn MmioDevice>,
}

/// The devices of a machine, by address. Complete before the first vCPU runs; a lookup is a binary search
/// without lock or allocation.
#[derive(Default)]
pub struct Bus {
    slots: Vec<Slot>,
}

impl Bus {
    /// A bus without devices.
    pub const fn new() -> Self {
        Self { slots: Vec::new() }
    }

    /// Gives `device` the `size` bytes from `base` on.
    pub fn add(
        &mut self,
        base: u64,
        size: u64,
        device: Arc<dyn MmioDevice>,
    ) -> Result<(), RangeTaken> {
        let index = self.slots.partition_point(|slot| slot.base < base);
        let free = match base.checked_add(size) {
            None => false,
            Some(end) => {
                let before = index.checked_sub(1).and_then(|i| self.slots.get(i));
                size != 0
                    && before.is_none_or(|slot| slot.base + slot.size <= base)
                    && self.slots.get(index).is_none_or(|slot| end <= slot.base)
            }
        };
        if !free {
            return Err(RangeTaken { device: device.name().into(), base, size });
        }
        self.slots.insert(index, Slot { base, size, device });
        Ok(())
    }

    /// Reads from whatever is at `addr`. Not naturally aligned accesses reach no device.
    pub fn read(&self, addr: u64, width: AccessWidth) -> Result<u64, NoDevice> {
        let (device, offset) = self.find(addr, width).ok_or(NoDevice)?;
        Ok(device.read(offset, width)? & width.mask())
    }

    /// Writes to whatever is at `addr`. Not naturally aligned accesses reach no device.
    pub fn write(&self, addr: u64, width: AccessWidth, data: u64) -> Result<(), NoDevice> {
        let (device, offset) = self.find(addr, width).ok_or(NoDevice)?;
        device.write(offset, width, data & width.mask())
    }

    /// The name of the device at `addr`.
    pub fn name_at(&self, addr: u64) -> Option<&str> {
        self.find(addr, AccessWidth::Byte).map(|(device, _)| device.name())
    }

    #[inline]
    fn find(&self, addr: u64, width: AccessWidth) -> Option<(&dyn MmioDevice, u64)> {
        // Half as many candidates each time: the last one at or below the address remains, or the first.
        let mut candidates = &self.slots[..];
        while candidates.len() > 1 {
            let (low, high) = candidates.split_at(candidates.len() / 2);
            let below = high.first().is_some_and(|slot| slot.base <= addr);
            candidates = if below { high } else { low };
        }
        let slot = candidates.first()?;
        let offset = addr.wrapping_sub(slot.base); // below the slot: far outside of it
        let low = width.bytes() as u64 - 1;
        // Of an aligned access these are the bits that its last byte has besides.
        (offset & low == 0 && offset | low < slot.size).then_some((&*slot.device, offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers its number and the offset, and takes nothing at offset 8.
    struct Echo(u64);

    impl MmioDevice for Echo {
        fn name(&self) -> &str {
            "echo"
        }

        fn read(&self, offset: u64, _: AccessWidth) -> Result<u64, NoDevice> {
            Ok(self.0 << 8 | offset | 0xffff_0000)
        }

        fn write(&self, offset: u64, _: AccessWidth, data: u64) -> Result<(), NoDevice> {
            assert_eq!(data, 0x34);
            if offset == 8 { Err(NoDevice) } else { Ok(()) }
        }
    }

    #[test]
    fn dispatches_by_address() {
        let mut bus = Bus::new();
        for (i, base) in [0x3000, 0x1000, 0x2000, 0x1010].into_iter().enumerate() {
            bus.add(base, 0x10, Arc::new(Echo(i as u64))).unwrap();
        }
        let read = |addr| bus.read(addr, AccessWidth::Word);
        assert_eq!(read(0x1000), Ok(0x100));
        assert_eq!(read(0x100e), Ok(0x10e));
        assert_eq!(read(0x1010), Ok(0x300));
        assert_eq!(read(0x2004), Ok(0x204));
        assert_eq!(read(0x3000), Ok(0x000));
        for hole in [0, 0xffe, 0x1020, 0x1ffe, 0x2010, 0x3010, u64::MAX - 1] {
            assert_eq!(read(hole), Err(NoDevice));
            assert_eq!(bus.name_at(hole), None);
        }
        assert_eq!(bus.read(0x1001, AccessWidth::Word), Err(NoDevice)); // not aligned
        assert_eq!(bus.read(0x1000, AccessWidth::Byte), Ok(0)); // cut to the width
        assert_eq!(bus.write(0x1000, AccessWidth::Byte, 0x1234), Ok(()));
        assert_eq!(bus.write(0x1008, AccessWidth::Byte, 0x34), Err(NoDevice));
        assert_eq!(bus.name_at(0x1000), Some("echo"));
    }

    #[test]
    fn accesses_do_not_reach_over_the_end() {
        let mut bus = Bus::new();
        bus.add(0x1000, 0xc, Arc::new(Echo(1))).unwrap();
        assert_eq!(bus.read(0x1008, AccessWidth::Qword), Err(NoDevice));
        assert_eq!(bus.read(0x1008, AccessWidth::Dword), Ok(0xffff_0108));
    }

    #[test]
    fn overlaps_are_refused() {
        let mut bus = Bus::new();
        bus.add(0x1000, 0x100, Arc::new(Echo(0))).unwrap();
        for (base, size) in
            [(0x1000, 1), (0x10ff, 1), (0xfff, 2), (0, 0x2000), (0x2000, 0), (u64::MAX, 2)]
        {
            let refused = bus.add(base, size, Arc::new(Echo(1))).unwrap_err();
            assert_eq!((refused.base, refused.size), (base, size));
        }
        bus.add(0xfff, 1, Arc::new(Echo(1))).unwrap();
        bus.add(0x1100, 1, Arc::new(Echo(1))).unwrap();
    }
}
