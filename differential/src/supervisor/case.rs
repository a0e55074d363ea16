//! Cases: a few instructions, and the page-table entries and the status they run with.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use axvcpu_riscv::asm::{disassemble, instructions, lookup};
use axvcpu_riscv::paging::{Mode, PAGE_SIZE, pte};

use super::layout::{
    BEHIND, DATA_PAGES, PAGES, SUPERVISOR_CODE, TEST, TEST_HUGE, TEST_LARGE, USER, USER_CODE,
    USER_DATA, WORDS, slot,
};
use crate::rng::Rng;

/// Offsets in a case of: two entries' addresses with what is written there before the case …
pub(super) const SLOTS: [(i32, i32); 2] = [(0, 8), (16, 24)];
/// … and after it.
pub(super) const RESTORED: [(i32, i32); 2] = [(0, 32), (16, 40)];
pub(super) const SSTATUS: i32 = 48;
/// Where it starts; 0 ends the cases.
pub(super) const ENTRY_POINT: i32 = 56;
/// 32 bytes of instructions.
pub(super) const CODE: i32 = 64;
/// What `a0` and `a1` hold.
pub(super) const ADDRESS: i32 = 96;
pub(super) const VALUE: i32 = 104;
pub(super) const FCSR: i32 = 112;

const SPP: u64 = 1 << 8;
const FS: u32 = 13;
const SUM: u64 = 1 << 18;
const MXR: u64 = 1 << 19;

const EBREAK: u32 = 0x0010_0073;
const A0: i64 = 10;
const A1: i64 = 11;
const A2: i64 = 12;
const A3: i64 = 13;

/// One case.
pub(super) struct Case {
    /// Two entries: where, what, and what is there otherwise.
    slots: [(u64, u64, u64); 2],
    sstatus: u64,
    code: Vec<u8>,
    address: u64,
    value: u64,
    fcsr: u64,
}

impl Case {
    /// As the driver reads it.
    pub(super) fn words(&self) -> [u64; WORDS] {
        let mut code = self.code.clone();
        code.resize(32, 0);
        let code = |word: usize| {
            code.iter()
                .skip(8 * word)
                .take(8)
                .rev()
                .fold(0, |value, &byte| value << 8 | u64::from(byte))
        };
        let entry = if self.sstatus & SPP == 0 { USER_CODE } else { SUPERVISOR_CODE };
        let [(at, new, old), (at2, new2, old2)] = self.slots;
        [
            at,
            new,
            at2,
            new2,
            old,
            old2,
            self.sstatus,
            entry,
            code(0),
            code(1),
            code(2),
            code(3),
            self.address,
            self.value,
            self.fcsr,
            0,
        ]
    }

    /// As people read it.
    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "  a0 = {:#x}, a1 = {:#x}, fcsr = {:#x}\n",
            self.address, self.value, self.fcsr
        );
        let mode = if self.sstatus & SPP == 0 { "U" } else { "S" };
        text.push_str(&format!("  {mode}-mode, sstatus = {:#x}\n", self.sstatus));
        for (at, new, old) in self.slots.iter().filter(|(_, new, old)| new != old) {
            text.push_str(&format!(
                "  page-table entry at {at:#x} = {new:#x}, otherwise {old:#x}\n"
            ));
        }
        let mut code = self.code.as_slice();
        while let [low, high, ..] = *code {
            let rest = |at: usize| u32::from(code.get(at).copied().unwrap_or(0));
            let word = u32::from(low) | u32::from(high) << 8 | rest(2) << 16 | rest(3) << 24;
            let len = if low & 3 == 3 { 4 } else { 2 };
            let bits = if len == 4 { word } else { word & 0xffff };
            text.push_str(&format!("  {bits:0w$x} {}\n", disassemble(word), w = 2 * len));
            code = code.get(len..).unwrap_or_default();
        }
        text
    }

    /// A case without instructions, and nothing else special about it.
    fn new(rng: &mut Rng, mode: Mode) -> Self {
        let unchanged = (slot(mode, TEST, 0), 0, 0);
        let behind =
            (slot(mode, BEHIND, 0), pte::new(DATA_PAGES[0], USER), pte::new(DATA_PAGES[0], USER));
        Self {
            slots: [unchanged, behind],
            sstatus: rng.below(4) << FS,
            code: Vec::new(),
            address: register(rng),
            value: rng.word(),
            fcsr: if rng.chance(20) { rng.below(256) } else { rng.below(5) << 5 },
        }
    }

    fn push(&mut self, name: &str, values: &[i64]) {
        let word = lookup(name).and_then(|insn| Some((insn.encode(values)?, insn.len())));
        let (word, len) = word.unwrap_or_else(|| panic!("{name} cannot take {values:?}"));
        self.code.extend_from_slice(&word.to_le_bytes()[..len]);
    }

    fn end(mut self) -> Self {
        self.code.extend_from_slice(&EBREAK.to_le_bytes());
        self
    }
}

/// A register's value: an address in the data, more often than not.
pub(super) fn register(rng: &mut Rng) -> u64 {
    match rng.below(4) {
        0 => rng.word(),
        1 => *rng.pick(&[0, 1, 2, 4, u64::MAX - 1, u64::MAX << 2]), // not -1, where QEMU sees a reservation
        _ => USER_DATA + (rng.below(PAGE_SIZE - 256) & !7),
    }
}

/// A random case. Of `sie` only these bits are written.
pub(super) fn random(rng: &mut Rng, mode: Mode, sie: u64) -> Case {
    match rng.below(10) {
        0..=4 => access(rng, mode),
        5 | 6 => word(rng, mode),
        7 => known(rng, mode),
        8 => csr(rng, mode, sie),
        _ => privileged(rng, mode),
    }
}

/// An access to a page with a random entry, at a random level.
fn access(rng: &mut Rng, mode: Mode) -> Case {
    let mut case = Case::new(rng, mode);
    let (page, level, physical) = match rng.below(6) {
        0 => (TEST_LARGE, 1, PAGES),
        1 => (TEST_HUGE, 2, 0x8000_0000),
        _ => (TEST, 0, *rng.pick(&DATA_PAGES)),
    };
    let mut flags = rng.below(256);
    if rng.chance(80) {
        flags |= pte::V;
    }
    if rng.chance(60) {
        flags |= pte::A | pte::D;
    }
    if rng.chance(40) {
        flags |= pte::R;
    }
    flags |= rng.below(4) << 8; // for software
    if rng.chance(8) {
        flags |= 1 << rng.between(54, 63);
    }
    let mut entry = pte::new(physical, flags);
    if level > 0 && entry & pte::RWX == 0 {
        // A pointer to a table whose entries, being data, nobody knows.
        entry &= !pte::V;
    } else if level > 0 && rng.chance(15) {
        entry ^= 1 << (10 + rng.below(9)); // a misaligned large page
    }
    case.slots[0] = (slot(mode, page, level), entry, 0);
    if rng.chance(20) {
        case.slots[1].1 = 0; // the page behind is missing
    }
    let offset = match rng.below(4) {
        0 => PAGE_SIZE - 8 + rng.below(8),
        1 => rng.below(PAGE_SIZE - 8),
        _ => rng.below(PAGE_SIZE - 8) & !7,
    };
    let distance =
        if level == 2 { DATA_PAGES[1] - 0x8000_0000 } else { u64::from(level) * PAGE_SIZE };
    case.address = page + distance + offset;
    if rng.chance(5) {
        case.address |= 1 << rng.between(mode.bits.into(), 63); // not canonical
    } else if rng.chance(3) {
        case.address ^= 1 << (mode.bits - 1);
    }
    if rng.chance(50) {
        case.sstatus |= SPP;
    }
    if rng.chance(50) {
        case.sstatus |= SUM;
    }
    if rng.chance(30) {
        case.sstatus |= MXR;
    }
    const ACCESSES: [&str; 27] = [
        "lb",
        "lbu",
        "lh",
        "lhu",
        "lw",
        "lwu",
        "ld",
        "sb",
        "sh",
        "sw",
        "sd",
        "flw",
        "fld",
        "fsw",
        "fsd",
        "lr.w",
        "lr.d",
        "sc.w",
        "sc.d",
        "amoadd.w",
        "amoor.d",
        "amomaxu.w",
        "amoswap.d",
        "jalr",
        "c.jalr",
        "c.ld",
        "c.sw",
    ];
    neighbour(rng, &mut case);
    match *rng.pick(&ACCESSES) {
        name @ ("lr.w" | "lr.d") => case.push(name, &[A2, A0, 0]),
        name if name.starts_with("sc.") || name.starts_with("amo") => {
            if rng.chance(50) && name.starts_with("sc") {
                case.push(if name == "sc.w" { "lr.w" } else { "lr.d" }, &[A3, A0, 0]);
            }
            case.push(name, &[A2, A1, A0, 0]);
        }
        "c.jalr" => case.push("c.jalr", &[A0]),
        "c.ld" => case.push("c.ld", &[A2, 8, A0]),
        "c.sw" => case.push("c.sw", &[A1, 4, A0]),
        "jalr" => case.push("jalr", &[1, rng.between(-2, 2), A0]),
        name if name.contains('s') => case.push(name, &[A1, 0, A0]),
        name => case.push(name, &[A2, 0, A0]),
    }
    neighbour(rng, &mut case);
    case.end()
}

/// An instruction before or behind the one that counts, with which a fast hart may execute it together.
fn neighbour(rng: &mut Rng, case: &mut Case) {
    match rng.below(8) {
        0 => case.push("addi", &[A3, A3, 1]),
        1 => case.push("add", &[A3, A1, A0]),
        2 => case.push("c.mv", &[A3, A0]),
        3 => case.push("slli", &[A3, A0, 3]),
        _ => {}
    }
}

/// Random bits, in U-mode, where they can do no harm.
fn word(rng: &mut Rng, mode: Mode) -> Case {
    let mut case = Case::new(rng, mode);
    if rng.chance(50) {
        case.code.extend_from_slice(&(rng.word() as u16).to_le_bytes());
    } else {
        case.code.extend_from_slice(&(rng.word() as u32 | 3).to_le_bytes());
    }
    case.end()
}

/// An instruction that exists, with one bit changed or none.
fn known(rng: &mut Rng, mode: Mode) -> Case {
    let mut case = Case::new(rng, mode);
    let all: Vec<_> = instructions().collect();
    let insn = *rng.pick(&all);
    let values: Vec<_> = insn
        .operands()
        .iter()
        .map(|operand| {
            let (low, high, step) = operand.range();
            loop {
                let value = low + rng.between(0, (high - low) / step) * step;
                if operand.allows(value) {
                    return value;
                }
            }
        })
        .collect();
    let mut word = insn.encode(&values).unwrap_or(0);
    if rng.chance(60) {
        word ^= 1 << rng.below(8 * insn.len() as u64);
    }
    case.code.extend_from_slice(&word.to_le_bytes()[..insn.len()]);
    case.end()
}

/// A CSR, written and read back in S-mode, or tried in U-mode.
fn csr(rng: &mut Rng, mode: Mode, sie: u64) -> Case {
    /// Registers of S-mode that may hold anything for a moment.
    const HARMLESS: [i64; 12] =
        [0x001, 0x002, 0x003, 0x100, 0x104, 0x105, 0x106, 0x10a, 0x140, 0x141, 0x142, 0x143];
    let mut case = Case::new(rng, mode);
    if rng.chance(50) {
        case.value = rng.word() >> rng.below(64);
    }
    let counter = |number: i64| (0xc00..0xc20).contains(&number);
    let number = loop {
        let number = rng.between(0, 0xfff);
        // Machines differ in the counters they have.
        if !counter(number) {
            break number;
        }
    };
    if rng.chance(30) {
        let name = *rng.pick(&["csrrw", "csrrs", "csrrc", "csrrwi", "csrrsi", "csrrci"]);
        case.push(name, &[A2, number, rng.between(0, 31)]);
        return case.end();
    }
    case.sstatus |= SPP;
    if rng.chance(30) {
        // Without H, machines with it have some registers more.
        let supervisor = number >> 8 & 3 == 1 || number >> 8 == 0;
        let number = if supervisor { number } else { 0x100 | number & 0xff };
        // What an interrupt hangs on, and the address space, only to be read by those that know them.
        case.push("csrrs", &[A2, if matches!(number, 0x144 | 0x14d) { 0x140 } else { number }, 0]);
        return case.end();
    }
    let number = *rng.pick(&HARMLESS);
    let name = *rng.pick(&["csrrw", "csrrs", "csrrc"]);
    // Fields that may be read-only on one machine and not on another keep their values.
    match number {
        0x100 => {
            let uxl = if name == "csrrw" { 2 << 32 } else { 0 };
            case.value = case.value & !(3 << 32) & !2 | uxl; // nor do interrupts come on
        }
        0x104 => case.value &= sie,
        0x105 => case.value &= !2, // reserved modes
        0x10a => case.value &= 1,
        0x141 => case.value &= !1, // QEMU keeps the bit that is always 0
        _ => {}
    }
    case.push(name, &[A2, number, A1]);
    case.push("csrrw", &[A3, number, A2]);
    case.end()
}

/// Instructions of the supervisor, in either mode.
fn privileged(rng: &mut Rng, mode: Mode) -> Case {
    let mut case = Case::new(rng, mode);
    let supervisor = rng.chance(60);
    if supervisor {
        case.sstatus |= SPP;
    }
    match rng.below(6) {
        0 => case.push("sfence.vma", &[rng.between(0, 31), rng.between(0, 31)]),
        // Back to where it came from, with whatever the status says.
        1 if supervisor => {
            case.address = USER_CODE + 16;
            case.push("csrrw", &[0, 0x141, A0]);
            case.push("sret", &[]);
            // U-mode then finds zeroes, which are no instruction.
        }
        1 => case.push("sret", &[]),
        2 => case.push("mret", &[]),
        3 if !supervisor => case.push("wfi", &[]),
        3 => case.push("ebreak", &[]),
        4 if !supervisor => case.push("ecall", &[]),
        4 => case.push("c.ebreak", &[]),
        _ => {
            // Floating point, with the unit on, off, clean or dirty.
            let name = *rng.pick(&["fadd.d", "fmul.s", "fdiv.d", "fsub.s"]);
            case.push(name, &[1, 2, 3, *rng.pick(&[0, 7])]);
        }
    }
    case.end()
}
