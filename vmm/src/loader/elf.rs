//! ELF64 programs for a machine without an operating system (System V ABI, chapters 4 and 5).

use alloc::vec::Vec;

use super::{LoadError, Loaded, Target, u16_at, u32_at, u64_at};
use crate::{GuestMemory, RamRange};

const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;
const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const PT_NOTE: u32 = 4;
const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
/// More loadable segments than any kernel has.
const MAX_SEGMENTS: usize = 64;

fn damaged<T>(what: &'static str) -> Result<T, LoadError> {
    Err(LoadError::Damaged { what })
}

/// A loadable segment; the file range was checked.
struct Segment<'a> {
    data: &'a [u8],
    /// Where it goes, relative to the load bias.
    addr: u64,
    /// Where the program's own addresses see it.
    virt: u64,
    size: u64,
}

/// An ELF program whose headers were checked.
pub(crate) struct Elf<'a> {
    segments: Vec<Segment<'a>>,
    notes: Vec<&'a [u8]>,
    /// What is added to all addresses.
    bias: u64,
    entry: u64,
    align: u64,
}

/// Loads an ELF program for `target`. Segments go to their physical addresses; a position-independent program
/// without relocations goes to `independent`.
pub(crate) fn load_elf(
    memory: &GuestMemory,
    ram: RamRange,
    file: &[u8],
    target: Target,
    independent: u64,
) -> Result<Loaded, LoadError> {
    Elf::parse(file, target, independent)?.load(memory, ram)
}

impl<'a> Elf<'a> {
    /// Reads the headers of a program for `target`. If it is position-independent, it is for the address
    /// `independent`.
    pub(crate) fn parse(
        file: &'a [u8],
        target: Target,
        independent: u64,
    ) -> Result<Self, LoadError> {
        let cut = LoadError::Damaged { what: "it ends within the ELF header" };
        if file.len() < HEADER {
            return Err(cut);
        }
        match (file.get(4), file.get(5)) {
            (Some(2), Some(1)) => {}
            (Some(1), _) => {
                return Err(LoadError::Unsupported {
                    what: "it is a 32-bit ELF program; the guest is 64-bit",
                });
            }
            (_, Some(2)) => {
                return Err(LoadError::Unsupported { what: "it is a big-endian ELF program" });
            }
            _ => return damaged("unknown ELF class or byte order"),
        }
        let machine = u16_at(file, 18).ok_or(cut)?;
        if machine != target.elf_machine() {
            return Err(LoadError::WrongMachine { machine, name: machine_name(machine), target });
        }
        let kind = u16_at(file, 16).ok_or(cut)?;
        let bias = match kind {
            ET_EXEC => 0,
            ET_DYN => independent,
            _ => {
                return Err(LoadError::Unsupported {
                    what: "it is an object or core file, not a program: link it first",
                });
            }
        };
        let entry = u64_at(file, 24).ok_or(cut)?;
        let Contents { segments, notes, is_dynamic } = contents(file)?;
        if is_dynamic && kind == ET_EXEC {
            return Err(LoadError::Unsupported {
                what: "it needs a dynamic linker: link it statically",
            });
        }
        Ok(Self { segments, notes, bias, entry, align: target.instruction_align() })
    }

    /// What the first note says that has this name, a NUL included, and this type.
    pub(crate) fn note(&self, name: &[u8], kind: u32) -> Option<&'a [u8]> {
        self.notes.iter().find_map(|notes| find_note(notes, name, kind))
    }

    /// Where the byte goes that has this physical address in the file; `None` if there is none.
    pub(crate) fn loaded_to(&self, addr: u64) -> Option<u64> {
        let is_loaded = self.segments.iter().any(|s| addr >= s.addr && addr - s.addr < s.size);
        if is_loaded { addr.checked_add(self.bias) } else { None }
    }
}

/// Looks through the notes of one segment, as far as they are whole.
fn find_note<'a>(mut notes: &'a [u8], name: &[u8], kind: u32) -> Option<&'a [u8]> {
    const HEADER: usize = 12;
    /// Names and descriptions take a multiple of four bytes.
    fn padded(size: usize) -> Option<usize> {
        size.checked_next_multiple_of(4)
    }
    loop {
        let size = |at| u32_at(notes, at).and_then(|size| usize::try_from(size).ok());
        let (name_size, size, found) = (size(0)?, size(4)?, u32_at(notes, 8)?);
        let at = HEADER.checked_add(padded(name_size)?)?;
        let description = notes.get(at..at.checked_add(size)?)?;
        if found == kind && notes.get(HEADER..HEADER + name_size) == Some(name) {
            return Some(description);
        }
        notes = notes.get(at.checked_add(padded(size)?)?..)?;
    }
}

/// What the program headers say.
#[derive(Default)]
struct Contents<'a> {
    segments: Vec<Segment<'a>>,
    notes: Vec<&'a [u8]>,
    is_dynamic: bool,
}

fn contents(file: &[u8]) -> Result<Contents<'_>, LoadError> {
    const CUT: LoadError = LoadError::Damaged { what: "it ends within the program headers" };
    let table = u64_at(file, 32).and_then(|at| usize::try_from(at).ok()).ok_or(CUT)?;
    let size = usize::from(u16_at(file, 54).ok_or(CUT)?);
    let count = usize::from(u16_at(file, 56).ok_or(CUT)?);
    if size < PROGRAM_HEADER {
        return damaged("its program headers are too short");
    }
    let mut contents = Contents::default();
    // Notes that do not overlap are no more than the file. So looking through them takes no longer than reading it.
    let mut room_for_notes = file.len();
    for index in 0..count {
        // At most 2^16 of at most 2^16 bytes, so only the sum with `table` can overflow.
        let at = table.checked_add(index * size).ok_or(CUT)?;
        let header = at.checked_add(PROGRAM_HEADER).and_then(|end| file.get(at..end)).ok_or(CUT)?;
        let field = |at| u64_at(header, at).ok_or(CUT);
        let (offset, virt, phys, file_size, size) =
            (field(8)?, field(16)?, field(24)?, field(32)?, field(40)?);
        let range = || {
            let start = usize::try_from(offset).ok()?;
            let end = start.checked_add(usize::try_from(file_size).ok()?)?;
            file.get(start..end)
        };
        match u32_at(header, 0).ok_or(CUT)? {
            PT_LOAD if size != 0 => {
                let data =
                    range().ok_or(LoadError::Damaged { what: "a segment lies outside of it" })?;
                if file_size > size {
                    return damaged("a segment is larger in the file than in memory");
                }
                if phys.checked_add(size).is_none() || virt.checked_add(size).is_none() {
                    return damaged("a segment exceeds the address space");
                }
                if contents.segments.len() == MAX_SEGMENTS {
                    return damaged("it has more than 64 segments");
                }
                contents.segments.push(Segment { data, addr: phys, virt, size });
            }
            PT_INTERP => {
                return Err(LoadError::Unsupported {
                    what: "it is a program for Linux, not one that runs without an operating system",
                });
            }
            PT_DYNAMIC if contents.is_dynamic => {
                return damaged("it has more than one dynamic section");
            }
            PT_DYNAMIC => {
                contents.is_dynamic = true;
                let data = range()
                    .ok_or(LoadError::Damaged { what: "its dynamic section is outside of it" })?;
                if has_relocations(data) {
                    return Err(LoadError::Unsupported {
                        what: "it has relocations: link it to a fixed address (-no-pie)",
                    });
                }
            }
            // Nobody has to understand notes, so damaged ones are none.
            PT_NOTE => {
                if let Some(notes) = range().filter(|notes| notes.len() <= room_for_notes) {
                    room_for_notes -= notes.len();
                    contents.notes.push(notes);
                }
            }
            _ => {}
        }
    }
    Ok(contents)
}

/// Whether a dynamic section asks for relocations.
fn has_relocations(dynamic: &[u8]) -> bool {
    const DT_NULL: u64 = 0;
    const DT_PLTRELSZ: u64 = 2;
    const DT_RELASZ: u64 = 8;
    const DT_RELSZ: u64 = 18;
    const DT_RELRSZ: u64 = 35;
    dynamic
        .chunks_exact(16)
        .map_while(|entry| Some((u64_at(entry, 0)?, u64_at(entry, 8)?)))
        .take_while(|&(tag, _)| tag != DT_NULL)
        .any(|(tag, value)| {
            matches!(tag, DT_PLTRELSZ | DT_RELASZ | DT_RELSZ | DT_RELRSZ) && value != 0
        })
}

impl Elf<'_> {
    /// Checks the segments against memory and each other, and copies them.
    pub(crate) fn load(self, memory: &GuestMemory, ram: RamRange) -> Result<Loaded, LoadError> {
        let Self { mut segments, bias, entry, align, .. } = self;
        segments.sort_by_key(|segment| segment.addr);
        let (Some(first), Some(last)) = (segments.first(), segments.last()) else {
            return damaged("it has nothing to load");
        };
        let (low, high) = (first.addr, last.addr + last.size);
        for pair in segments.windows(2) {
            if let [a, b] = pair {
                if a.addr + a.size > b.addr {
                    return damaged("its segments overlap");
                }
            }
        }
        let start = low.saturating_add(bias);
        let end = high.saturating_add(bias);
        if !ram.contains(start, high - low) {
            let (ram_start, ram_end) = (ram.base, ram.base + ram.size);
            return Err(LoadError::OutsideRam { start, end, ram_start, ram_end });
        }
        // The entry is an address as the program sees it, which may differ from where it is loaded. Linux for x86 has
        // the latter there.
        let seen = segments.iter().find(|s| entry >= s.virt && entry - s.virt < s.size);
        let entry = match seen {
            Some(home) => home.addr + (entry - home.virt) + bias,
            None if segments.iter().any(|s| entry >= s.addr && entry - s.addr < s.size) => {
                entry + bias
            }
            None => return damaged("its entry point lies outside of what it loads"),
        };
        if entry % align != 0 {
            return damaged("its entry point is not at the address of an instruction");
        }
        for segment in &segments {
            // What is behind the data is zero already: memory starts out as zeros, and nothing overlaps.
            memory.write(segment.addr + bias, segment.data)?;
        }
        Ok(Loaded { entry, start, end })
    }
}

fn machine_name(machine: u16) -> Option<&'static str> {
    Some(match machine {
        2 | 43 => "SPARC",
        3 => "32-bit x86",
        8 => "MIPS",
        20 | 21 => "PowerPC",
        22 => "S/390",
        40 => "32-bit Arm",
        62 => "x86-64",
        183 => "AArch64 (arm64)",
        243 => "RISC-V",
        258 => "LoongArch",
        _ => return None,
    })
}
