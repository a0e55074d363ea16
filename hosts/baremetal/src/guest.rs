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

/// The modules the loader tells of (`/chosen/module@…`, "multiboot" bindings): kernel, its command line, initrd.
pub(crate) fn modules(tree: &Fdt<'static>) -> (Option<(Place, &'static str)>, Option<Place>) {
    let (mut kernel, mut initrd) = (None, None);
    let Some(chosen) = tree.find_node("/chosen") else { return (None, None) };
    for node in chosen.children() {
        let Some(compatible) = node.compatible() else { continue };
        let place = node
            .reg()
            .and_then(|mut reg| reg.next())
            .map(|reg| (reg.starting_address as u64, reg.size.unwrap_or(0) as u64));
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
