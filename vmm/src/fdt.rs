//! What device trees say on every architecture (Devicetree Specification 0.4).

use alloc::format;

use vm_fdt::{Error, FdtWriter};

use crate::RamRange;

/// What a boot loader knows.
pub(crate) struct Boot<'a> {
    pub(crate) ram: RamRange,
    pub(crate) bootargs: &'a str,
    pub(crate) initrd: Option<RamRange>,
    /// What random seeds are made of.
    pub(crate) seed: Option<u64>,
}

impl Boot<'_> {
    /// Writes the nodes `chosen`, with the console at `stdout`, and `memory`.
    pub(crate) fn write(&self, fdt: &mut FdtWriter, stdout: &str) -> Result<(), Error> {
        self.chosen(fdt, stdout)?;
        let memory = fdt.begin_node(&format!("memory@{:x}", self.ram.base))?;
        fdt.property_string("device_type", "memory")?;
        fdt.property_array_u64("reg", &[self.ram.base, self.ram.size])?;
        fdt.end_node(memory)
    }

    fn chosen(&self, fdt: &mut FdtWriter, stdout: &str) -> Result<(), Error> {
        let chosen = fdt.begin_node("chosen")?;
        fdt.property_string("bootargs", self.bootargs)?;
        fdt.property_string("stdout-path", stdout)?;
        if let Some(RamRange { base, size }) = self.initrd {
            fdt.property_u64("linux,initrd-start", base)?;
            fdt.property_u64("linux,initrd-end", base + size)?;
        }
        if let Some(seed) = self.seed {
            let mut numbers = Numbers(seed);
            fdt.property_u64("kaslr-seed", numbers.next())?;
            let seed: [u64; 8] = core::array::from_fn(|_| numbers.next());
            fdt.property_array_u64("rng-seed", &seed)?;
        }
        fdt.end_node(chosen)
    }
}

/// Numbers that look random and depend on the seed alone (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    }
}
