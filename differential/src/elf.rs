//! The smallest ELF file that Linux, or an emulator of it, runs (System V ABI, chapters 4 and 5).

const EHDR_SIZE: usize = 64;
const PHDR_SIZE: usize = 56;

/// Where the first segment's bytes begin in the file. A page, so that file offset and address agree modulo
/// the page size, as loaders demand.
const FIRST: usize = 4096;

const EM_RISCV: u16 = 243;
/// `EF_RISCV_RVC | EF_RISCV_FLOAT_ABI_DOUBLE`
const FLAGS: u32 = 0x1 | 0x4;

/// A static executable for RISC-V Linux: `image` at `address` (a multiple of 4096), followed by zeroes up to
/// `memory` bytes, all of it readable, writable and executable.
pub(crate) fn executable(address: u64, entry: u64, image: &[u8], memory: u64) -> Vec<u8> {
    let mut file = Vec::with_capacity(FIRST + image.len());
    file.extend_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let half = |file: &mut Vec<u8>, value: u16| file.extend_from_slice(&value.to_le_bytes());
    let word = |file: &mut Vec<u8>, value: u32| file.extend_from_slice(&value.to_le_bytes());
    let quad = |file: &mut Vec<u8>, value: u64| file.extend_from_slice(&value.to_le_bytes());

    half(&mut file, 2); // ET_EXEC
    half(&mut file, EM_RISCV);
    word(&mut file, 1); // version
    quad(&mut file, entry);
    quad(&mut file, EHDR_SIZE as u64); // program headers follow
    quad(&mut file, 0); // no section headers
    word(&mut file, FLAGS);
    half(&mut file, EHDR_SIZE as u16);
    half(&mut file, PHDR_SIZE as u16);
    half(&mut file, 1); // program headers
    half(&mut file, 64); // section header size
    half(&mut file, 0);
    half(&mut file, 0);

    word(&mut file, 1); // PT_LOAD
    word(&mut file, 7); // R, W, X
    quad(&mut file, FIRST as u64);
    quad(&mut file, address);
    quad(&mut file, address);
    quad(&mut file, image.len() as u64);
    quad(&mut file, memory.max(image.len() as u64));
    quad(&mut file, 4096);

    file.resize(FIRST, 0);
    file.extend_from_slice(image);
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_headers_say_what_the_loader_needs() {
        let file = executable(0x8000_0000, 0x8000_0010, &[1, 2, 3], 8192);
        let quad = |at: usize| u64::from_le_bytes(file[at..at + 8].try_into().unwrap());
        assert_eq!(&file[..4], b"\x7fELF");
        assert_eq!(u16::from_le_bytes([file[18], file[19]]), EM_RISCV);
        assert_eq!(quad(24), 0x8000_0010);
        let header = quad(32) as usize;
        assert_eq!(header, EHDR_SIZE);
        let offset = quad(header + 8) as usize;
        assert_eq!(&file[offset..], [1, 2, 3]);
        assert_eq!(
            (quad(header + 16), quad(header + 32), quad(header + 40)),
            (0x8000_0000, 3, 8192)
        );
        assert_eq!(offset as u64 % 4096, quad(header + 16) % 4096);
    }
}
