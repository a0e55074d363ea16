//! A machine in QEMU that starts one of the hypervisor images, with files for a
//! guest in its memory.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, anyhow};

use crate::arch::Bare;
use crate::proc;

/// What differs between the machines.
struct Kind {
    /// QEMU's arguments for it.
    arguments: &'static [&'static str],
    /// Where its memory begins.
    ram: u64,
    /// What QEMU needs at the top of the memory.
    top: u64,
}

fn kind(arch: Bare) -> Kind {
    match arch {
        // QEMU, docs/system/riscv/virt.rst. The device tree is at the very top.
        Bare::Riscv64 => {
            Kind { arguments: &["-M", "virt", "-bios", "default"], ram: 0x8000_0000, top: 4 << 20 }
        }
        // docs/system/arm/virt.rst. Without firmware an image starts at EL2, with the device tree at the start of the
        // memory, below the image. A network would want a file that not every QEMU comes with.
        Bare::Aarch64 => Kind {
            arguments: &["-M", "virt,virtualization=on,gic-version=3", "-nic", "none"],
            ram: 0x4000_0000,
            top: 0,
        },
    }
}

/// What lies in memory starts on a boundary of the largest page the firmware protects.
const STEP: u64 = 2 << 20;

/// The next larger page.
const GIGABYTE: u64 = 1 << 30;

/// For the hypervisor itself, besides its guest's memory: its heap and the
/// structures of each vCPU; the guest's page tables take a 512th of its memory
/// and less than as much again.
const OWN: u64 = 64 << 20;

/// What an image is started with.
pub(crate) struct Machine<'a> {
    pub(crate) arch: Bare,
    pub(crate) qemu: &'a Path,
    /// The processor model, with properties.
    pub(crate) cpu: &'a str,
    pub(crate) harts: u32,
    pub(crate) image: &'a Path,
    /// The image's own command line.
    pub(crate) append: &'a str,
    /// The memory its guests get, in bytes.
    pub(crate) memory: u64,
    pub(crate) guest: Option<Guest<'a>>,
}

/// Files for the guest.
pub(crate) struct Guest<'a> {
    pub(crate) kernel: &'a Path,
    pub(crate) initrd: Option<&'a Path>,
    pub(crate) append: &'a str,
}

impl Machine<'_> {
    /// QEMU's command line, up to the devices for input and output.
    ///
    /// # Errors
    ///
    /// Fails when the image or a file cannot be used.
    pub(crate) fn command(&self) -> Result<Command> {
        let mut files: Vec<(&Path, &str)> = Vec::new();
        if let Some(guest) = &self.guest {
            files.push((guest.kernel, "kernel"));
            files.extend(guest.initrd.map(|initrd| (initrd, "initrd")));
        }
        let sizes = files.iter().map(|(file, ..)| size(file)).collect::<Result<Vec<_>>>()?;
        let kind = kind(self.arch);
        let place = place(&kind, image_end(&kind, self.image)?, &sizes, self.memory)?;

        // The hypervisor is a program that the user waits for: it ends with it.
        let mut command = proc::dies_with_us(self.qemu);
        command.args(kind.arguments);
        command.args(["-cpu", self.cpu, "-display", "none", "-no-reboot"]);
        command.args(["-smp", &self.harts.to_string(), "-m", &format!("{}K", place.ram >> 10)]);
        command.args(["-append", self.append, "-kernel"]).arg(self.image);
        for ((file, role), at) in files.iter().zip(place.files) {
            let mut loader = OsString::from(format!("guest-loader,addr={at:#x},{role}="));
            loader.push(escaped(file.as_os_str()));
            if let (Some(guest), true) = (&self.guest, *role == "kernel") {
                loader.push(",bootargs=");
                loader.push(escaped(OsStr::new(guest.append)));
            }
            command.arg("-device").arg(loader);
        }
        Ok(command)
    }
}

/// An option's value with commas as QEMU wants them: doubled, or they end it.
fn escaped(value: &OsStr) -> OsString {
    let parts: Vec<_> = value.as_bytes().split(|byte| *byte == b',').collect();
    OsString::from_vec(parts.join(&b",,"[..]))
}

/// Where everything is.
#[derive(Debug, PartialEq)]
struct Place {
    /// The address of each file.
    files: Vec<u64>,
    /// How much memory the machine needs.
    ram: u64,
}

/// Puts files of these sizes behind the image, which ends at `image_end`, clear
/// of it and of each other, and `memory` bytes for guests behind them.
fn place(kind: &Kind, image_end: u64, sizes: &[u64], memory: u64) -> Result<Place> {
    let too_much = || anyhow!("the machine would need more memory than there are addresses");
    let up = |address: u64| address.checked_next_multiple_of(STEP).ok_or_else(too_much);
    let mut free = up(image_end)?;
    let mut files = Vec::new();
    for size in sizes {
        files.push(free);
        free = up(free.checked_add(*size).ok_or_else(too_much)?)?;
    }
    // So that the guest's memory can begin on a boundary of a large page.
    let aligned = if memory >= GIGABYTE { GIGABYTE } else { STEP };
    let end = [memory, aligned, memory / 64, OWN, kind.top]
        .iter()
        .try_fold(free, |end, more| end.checked_add(*more))
        .ok_or_else(too_much)?;
    Ok(Place { files, ram: up(end)? - kind.ram })
}

fn size(file: &Path) -> Result<u64> {
    let metadata = fs::metadata(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(metadata.len())
}

/// The end of what the image occupies in memory.
fn image_end(kind: &Kind, image: &Path) -> Result<u64> {
    let bytes = fs::read(image).with_context(|| format!("cannot read {}", image.display()))?;
    elf_end(&bytes)
        .filter(|end| *end > kind.ram)
        .with_context(|| format!("{} is no image for this machine", image.display()))
}

/// The highest address of a segment in a 64-bit little-endian ELF file (System V
/// gABI, chapter 5).
fn elf_end(file: &[u8]) -> Option<u64> {
    /// Program headers of this type are loaded.
    const PT_LOAD: u64 = 1;
    let number = |at: usize, length: usize| {
        let mut bytes = [0; 8];
        bytes[..length].copy_from_slice(file.get(at..)?.get(..length)?);
        Some(u64::from_le_bytes(bytes))
    };
    // Class 64, little-endian.
    if file.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let (table, entry, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    let mut end = None;
    for index in 0..count {
        let header = usize::try_from(table.checked_add(index * entry)?).ok()?;
        if number(header, 4)? == PT_LOAD {
            let (address, size) = (number(header + 24, 8)?, number(header + 40, 8)?);
            end = end.max(Some(address.checked_add(size)?));
        }
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_overlaps() {
        for arch in Bare::ALL {
            let kind = kind(arch);
            let (image, memory) = (kind.ram + 0x34_5678, 512 << 20);
            let found = place(&kind, image, &[5 << 20, 1, 2 << 20], memory).unwrap();
            assert_eq!(
                found.files.iter().map(|file| file - kind.ram).collect::<Vec<_>>(),
                [0x40_0000, 0xa0_0000, 0xc0_0000]
            );
            assert!(found.ram >= 0xe0_0000 + memory + OWN + kind.top);
            assert_eq!(found.ram % STEP, 0);
            assert_eq!(place(&kind, kind.ram, &[], 0).unwrap().files, [0u64; 0]);
        }
    }

    #[test]
    fn what_no_machine_has_is_refused() {
        let place = |end, sizes: &[u64], memory| place(&kind(Bare::Riscv64), end, sizes, memory);
        assert!(place(0x8020_0000, &[u64::MAX - 5], 0).is_err());
        assert!(place(0x8020_0000, &[], u64::MAX - 5).is_err());
        assert!(place(u64::MAX, &[], 0).is_err());
    }

    #[test]
    fn options_keep_their_commas() {
        let escaped = |text: &str| escaped(OsStr::new(text));
        assert_eq!(escaped("a,b,,c"), "a,,b,,,,c");
        assert_eq!(escaped(""), "");
        assert_eq!(super::escaped(OsStr::from_bytes(b"\xff,")), OsStr::from_bytes(b"\xff,,"));
    }

    /// A file with these segments: type, address, size.
    fn elf(segments: &[(u32, u64, u64)]) -> Vec<u8> {
        let mut file = vec![0; 64];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[32] = 64;
        (file[54], file[56]) = (56, segments.len() as u8);
        for (kind, address, size) in segments {
            file.extend(kind.to_le_bytes());
            file.extend([0; 20]);
            file.extend(address.to_le_bytes());
            file.extend([0; 8]);
            file.extend(size.to_le_bytes());
            file.extend([0; 8]);
        }
        file
    }

    #[test]
    fn an_image_ends_where_its_last_segment_does() {
        let segments = [(1, 0x8030_0000, 0x5000), (1, 0x8020_0000, 0x100), (7, u64::MAX - 1, 1)];
        assert_eq!(elf_end(&elf(&segments)), Some(0x8030_5000));
        assert_eq!(elf_end(&elf(&[(1, u64::MAX, 2)])), None);
        assert_eq!(elf_end(&elf(&[])), None);
        let whole = elf(&segments);
        assert_eq!(elf_end(&whole[..64 + 2 * 56 - 9]), None);
        assert_eq!(elf_end(b"#!/bin/sh\n"), None);
    }
}
