//! The guest's files, where the machine's loader has put them.
#![allow(unsafe_code)] // reads memory the device tree tells of

use fdt::Fdt;

/// What the guest is made of.
#[derive(Clone, Copy, Debug)]
pub struct GuestFiles {
    /// The kernel.
    pub kernel: &'static [u8],
    /// The initial file system.
    pub initrd: Option<&'static [u8]>,
    /// The kernel's command line.
    pub bootargs: &'static str,
}

/// Where a file is: first byte and size.
pub(crate) type Place = (u64, u64);

/// A module's `reg`: two cells each for address and size, although `/chosen` does not say so.
fn place(reg: &[u8]) -> Option<Place> {
    let number = |bytes: &[u8]| bytes.try_into().ok().map(u64::from_be_bytes);
    Some((number(reg.get(..8)?)?, number(reg.get(8..16)?)?))
}

/// The modules the loader tells of (`/chosen/module@…`, "multiboot" bindings): kernel, its command line, initrd.
pub(crate) fn modules(tree: &Fdt<'static>) -> (Option<(Place, &'static str)>, Option<Place>) {
    let (mut kernel, mut initrd) = (None, None);
    let Some(chosen) = tree.find_node("/chosen") else { return (None, None) };
    for node in chosen.children() {
        let Some(compatible) = node.compatible() else { continue };
        let place = node.property("reg").and_then(|reg| place(reg.value));
        let bootargs = node.property("bootargs").and_then(|text| text.as_str()).unwrap_or("");
        for kind in compatible.all() {
            match kind {
                "multiboot,kernel" => kernel = place.map(|place| (place, bootargs)),
                "multiboot,ramdisk" => initrd = place,
                _ => {}
            }
        }
    }
    (kernel, initrd)
}

impl GuestFiles {
    /// # Safety
    ///
    /// The places are memory that nobody writes.
    pub(crate) unsafe fn new(
        (kernel, bootargs): (Place, &'static str),
        initrd: Option<Place>,
    ) -> Self {
        // SAFETY: the caller's promise.
        let bytes = |(at, size): Place| unsafe {
            core::slice::from_raw_parts(at as *const u8, size as usize)
        };
        Self { kernel: bytes(kernel), initrd: initrd.map(bytes), bootargs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_two_numbers() {
        let mut reg = [0; 16];
        reg[3] = 1;
        reg[15] = 2;
        assert_eq!(place(&reg), Some((1 << 32, 2)));
        assert_eq!(place(&reg[..12]), None);
    }
}
