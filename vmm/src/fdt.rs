//! What device trees say on every architecture (Devicetree Specification 0.4).

use alloc::format;

use vm_fdt::{Error, FdtWriter};

use crate::RamRange;
use crate::numbers::Numbers;

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
