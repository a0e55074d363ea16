//! How a CPU starts: modes, and the registers that make them.
//!
//! A hypervisor need not begin at the reset vector. It can put a CPU where firmware would have left it: in protected
//! mode for kernels with a PVH entry (Xen, docs/misc/pvh.pandoc), in long mode for Linux's 64-bit boot protocol (Linux,
//! Documentation/arch/x86/boot.rst) and for programs that are 64-bit code from their first byte.

use crate::reg::{cr0, cr4, efer};

/// A mode of the CPU (SDM volume 3, 2.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// 16 bits, addresses below 1 MiB: what a reset leaves.
    #[default]
    Real,
    /// 32 bits, flat segments, paging off.
    Protected,
    /// 64 bits, paging on.
    Long,
}

/// How a CPU starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Start {
    /// Its mode.
    pub mode: Mode,
    /// Where in guest memory [`GDT`] is; has no meaning in real mode.
    pub gdt: u64,
    /// The root of its page tables; has a meaning in long mode only.
    pub cr3: u64,
}

/// Where a CPU begins after a reset: the one place above 1 MiB that real mode reaches (SDM volume 3, 11.1.4).
pub const RESET_VECTOR: u64 = 0xffff_fff0;

/// The selector of the code segment in [`GDT`] of 64 bits.
pub const CODE64: u16 = 0x10;
/// The selector of the data segment.
pub const DATA: u16 = 0x18;
/// The selector of the code segment of 32 bits.
pub const CODE32: u16 = 0x20;
/// The selector of the task state.
pub const TASK: u16 = 0x28;

/// The descriptors a CPU starts with (SDM volume 3, 3.4.5): nothing twice, then code of 64 bits and data where Linux
/// wants them, code of 32 bits, and a task state that takes two.
pub const GDT: [u64; 7] = [
    0,
    0,
    0x00af_9b00_0000_ffff,
    0x00cf_9300_0000_ffff,
    0x00cf_9b00_0000_ffff,
    0x0000_8b00_0000_0067,
    0,
];

/// A segment register with what it hides (SDM volume 3, 3.4.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Segment {
    /// What programs see.
    pub selector: u16,
    /// The first address.
    pub base: u64,
    /// The last offset in bytes.
    pub limit: u32,
    /// Type, in four bits.
    pub kind: u8,
    /// Code or data, and not of the system.
    pub is_code_or_data: bool,
    /// Code of 64 bits.
    pub long: bool,
    /// Operands of 32 bits.
    pub big: bool,
}

/// Type of an executable, readable segment that was used.
const CODE: u8 = 0xb;
/// Type of a writable segment that was used.
const WRITABLE: u8 = 0x3;

impl Start {
    /// Real mode.
    pub const REAL: Self = Self { mode: Mode::Real, gdt: 0, cr3: 0 };

    /// The code segment, for a program that starts at `entry`, and the instruction pointer in it. `None` when the mode
    /// has no way to begin there.
    pub const fn code(&self, entry: u64) -> Option<(Segment, u64)> {
        let flat = Segment {
            selector: CODE32,
            base: 0,
            limit: u32::MAX,
            kind: CODE,
            is_code_or_data: true,
            long: false,
            big: true,
        };
        Some(match self.mode {
            Mode::Real => {
                let (selector, base) = match entry {
                    RESET_VECTOR => (0xf000, 0xffff_0000),
                    0..=0xf_ffff => ((entry >> 4 & 0xf000) as u16, entry & 0xf_0000),
                    _ => return None,
                };
                let segment = Segment { selector, base, limit: 0xffff, big: false, ..flat };
                (segment, entry - base)
            }
            Mode::Protected if entry <= u32::MAX as u64 => (flat, entry),
            Mode::Protected => return None,
            Mode::Long => (Segment { selector: CODE64, long: true, big: false, ..flat }, entry),
        })
    }

    /// The data segments, the stack's included.
    pub const fn data(&self) -> Segment {
        let real = matches!(self.mode, Mode::Real);
        Segment {
            selector: if real { 0 } else { DATA },
            base: 0,
            limit: if real { 0xffff } else { u32::MAX },
            kind: WRITABLE,
            is_code_or_data: true,
            long: false,
            big: !real,
        }
    }

    /// The task state: of 64 or 32 bits, in use.
    pub const fn task(&self) -> Segment {
        let real = matches!(self.mode, Mode::Real);
        Segment {
            selector: if real { 0 } else { TASK },
            base: 0,
            limit: if real { 0xffff } else { 0x67 },
            kind: 0xb,
            is_code_or_data: false,
            long: false,
            big: false,
        }
    }

    /// The base and the limit of the descriptor table.
    pub const fn gdtr(&self) -> (u64, u16) {
        match self.mode {
            Mode::Real => (0, 0xffff),
            _ => (self.gdt, (size_of_val(&GDT) - 1) as u16),
        }
    }

    /// CR0. Caches are on: guests of a hypervisor need not switch them on.
    pub const fn cr0(&self) -> u64 {
        match self.mode {
            Mode::Real => cr0::ET,
            Mode::Protected => cr0::ET | cr0::PE,
            Mode::Long => cr0::ET | cr0::PE | cr0::NE | cr0::PG,
        }
    }

    /// CR4.
    pub const fn cr4(&self) -> u64 {
        match self.mode {
            Mode::Long => cr4::PAE,
            _ => 0,
        }
    }

    /// IA32_EFER.
    pub const fn efer(&self) -> u64 {
        match self.mode {
            Mode::Long => efer::LME | efer::LMA,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a descriptor says (SDM volume 3, figure 3-8).
    fn described(selector: u16) -> Segment {
        let entry = GDT[usize::from(selector / 8)];
        let limit = (entry & 0xffff | entry >> 32 & 0xf_0000) as u32;
        let pages = entry >> 55 & 1 != 0;
        assert_eq!(entry >> 47 & 1, 1, "present");
        Segment {
            selector,
            base: entry >> 16 & 0xff_ffff | entry >> 32 & 0xff00_0000,
            limit: if pages { limit << 12 | 0xfff } else { limit },
            kind: (entry >> 40 & 0xf) as u8,
            is_code_or_data: entry >> 44 & 1 != 0,
            long: entry >> 53 & 1 != 0,
            big: entry >> 54 & 1 != 0,
        }
    }

    #[test]
    fn the_table_says_what_the_registers_hold() {
        for mode in [Mode::Protected, Mode::Long] {
            let start = Start { mode, ..Start::default() };
            let (code, _) = start.code(0x1000).unwrap();
            for segment in [code, start.data(), start.task()] {
                assert_eq!(described(segment.selector), segment, "{mode:?}");
            }
            assert_eq!(start.gdtr().1, 55);
        }
    }

    #[test]
    fn every_mode_begins_where_it_can() {
        let at = |mode, entry| {
            let code = Start { mode, ..Start::default() }.code(entry);
            code.map(|(segment, ip)| (segment.selector, segment.base + ip))
        };
        assert_eq!(at(Mode::Real, 0xffff_fff0), Some((0xf000, 0xffff_fff0)));
        assert_eq!(at(Mode::Real, 0x8_1234), Some((0x8000, 0x8_1234)));
        assert_eq!(at(Mode::Real, 0x7c00), Some((0, 0x7c00)));
        assert_eq!(at(Mode::Real, 0x10_0000), None);
        assert_eq!(at(Mode::Protected, 0x10_0000), Some((CODE32, 0x10_0000)));
        assert_eq!(at(Mode::Protected, 1 << 32), None);
        assert_eq!(at(Mode::Long, 1 << 40), Some((CODE64, 1 << 40)));
    }
}
