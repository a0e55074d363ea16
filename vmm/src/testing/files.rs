//! Files to load, made by hand.

use alloc::vec;
use alloc::vec::Vec;

/// A file with bytes at certain offsets.
pub(crate) fn file(len: usize, parts: &[(usize, &[u8])]) -> Vec<u8> {
    let mut file = vec![0; len];
    for (at, bytes) in parts {
        file[*at..*at + bytes.len()].copy_from_slice(bytes);
    }
    file
}

/// A segment: type, physical and virtual address, data, size in memory.
pub(crate) type Segment<'a> = (u32, u64, u64, &'a [u8], u64);

/// An ELF program with these segments, which starts at the first one's virtual address. It is for
/// RISC-V, unless `change` changes that.
pub(crate) fn elf(segments: &[Segment<'_>], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let entry = segments.first().map_or(0, |segment| segment.2);
    let mut out = file(
        64,
        &[
            (0, b"\x7fELF\x02\x01\x01"),
            (16, &2u16.to_le_bytes()),
            (18, &243u16.to_le_bytes()),
            (24, &entry.to_le_bytes()),
            (32, &64u64.to_le_bytes()),
            (54, &56u16.to_le_bytes()),
            (56, &(segments.len() as u16).to_le_bytes()),
        ],
    );
    let mut data_at = 64 + 56 * segments.len() as u64;
    for &(kind, phys, virt, data, size) in segments {
        out.extend(kind.to_le_bytes());
        out.extend(7u32.to_le_bytes());
        for field in [data_at, virt, phys, data.len() as u64, size, 4096] {
            out.extend(field.to_le_bytes());
        }
        data_at += data.len() as u64;
    }
    for segment in segments {
        out.extend(segment.3);
    }
    change(&mut out);
    out
}
