//! A random program: its instructions, its data, and how both become bytes.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use axvcpu_riscv::asm::{Instruction, OperandKind, disassemble, lookup};

use crate::layout;

/// The register that holds the address of the data area's middle. Only read by the program.
pub(crate) const DATA: i64 = 30;
/// The register that counts the backward jumps left. Only changed by the program where it jumps backwards.
pub(crate) const FUEL: i64 = 31;

/// Where a step's distance leads.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    /// The item it leads to; the item behind the last one is the program's end.
    pub(crate) item: usize,
    /// How many steps before this one the distance begins: 0 for branches, 1 for the second half of a pair
    /// that began with `auipc`.
    pub(crate) back: usize,
    /// Added to the distance.
    pub(crate) extra: i64,
}

/// One instruction.
#[derive(Clone)]
pub(crate) struct Step {
    pub(crate) insn: &'static Instruction,
    pub(crate) values: Vec<i64>,
    pub(crate) target: Option<Target>,
}

impl Step {
    /// The instruction called `name`, which the assembler knows.
    pub(crate) fn new(name: &str, values: &[i64]) -> Self {
        let insn = lookup(name).unwrap_or_else(|| panic!("the assembler has no {name}"));
        Self { insn, values: values.to_vec(), target: None }
    }

    pub(crate) fn to(mut self, item: usize) -> Self {
        self.target = Some(Target { item, back: 0, extra: 0 });
        self
    }

    /// The operand that holds the distance of a step with a target.
    fn distance(&self) -> Option<usize> {
        let kind = |kind| self.insn.operands().iter().position(|o| o.kind() == kind);
        kind(OperandKind::Target).or_else(|| kind(OperandKind::Signed))
    }
}

/// Instructions that belong together: shrinking takes all or none of them.
pub(crate) type Item = Vec<Step>;

/// A program and the state it starts in.
#[derive(Clone)]
pub struct Program {
    /// What it was made from.
    pub seed: u64,
    pub(crate) items: Vec<Item>,
    /// `x1` to `x31`.
    pub(crate) x: [u64; 31],
    /// `f0` to `f31`.
    pub(crate) f: [u64; 32],
    pub(crate) fcsr: u64,
    /// The data area.
    pub(crate) data: Vec<u8>,
}

impl Program {
    pub(crate) fn instructions(&self) -> usize {
        self.items.iter().map(Vec::len).sum()
    }

    /// Offsets of the items and of the end.
    fn offsets(&self) -> Vec<u64> {
        let mut offsets = vec![0];
        let mut offset = 0;
        for item in &self.items {
            offset += item.iter().map(|step| step.insn.len() as u64).sum::<u64>();
            offsets.push(offset);
        }
        offsets
    }

    /// Every instruction with its address and encoding.
    fn encoded(&self) -> Result<Vec<(u64, u32, usize)>, String> {
        let offsets = self.offsets();
        let mut code = Vec::new();
        for (item, &start) in self.items.iter().zip(&offsets) {
            let mut at = start;
            let mut places = Vec::new();
            for (index, step) in item.iter().enumerate() {
                places.push(at);
                let mut values = step.values.clone();
                if let Some(target) = step.target {
                    let (from, to) = (places.get(index - target.back), offsets.get(target.item));
                    let (Some(&from), Some(&to), Some(operand)) = (from, to, step.distance())
                    else {
                        return Err(format!("{} leads nowhere", step.insn.name()));
                    };
                    values[operand] = to as i64 - from as i64 + target.extra;
                }
                let word = step
                    .insn
                    .encode(&values)
                    .ok_or_else(|| format!("{} cannot take {values:?}", step.insn.name()))?;
                code.push((layout::CODE + at, word, step.insn.len()));
                at += step.insn.len() as u64;
            }
        }
        Ok(code)
    }

    /// The program's code, to be placed at [`layout::CODE`].
    ///
    /// # Errors
    ///
    /// When a distance is too large or an operand impossible, with the instruction: a generator's mistake.
    pub(crate) fn code(&self) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        for (_, word, len) in self.encoded()? {
            bytes.extend_from_slice(&word.to_le_bytes()[..len]);
        }
        Ok(bytes)
    }

    /// What the registers that the program's instructions name hold at first, as text.
    pub fn initial(&self) -> String {
        let mut text = format!("  fcsr = {:#x}\n", self.fcsr);
        let names = |kinds: &[OperandKind], number: i64| {
            self.items.iter().flatten().any(|step| {
                let mut operands = step.insn.operands().iter().zip(&step.values);
                operands.any(|(o, &value)| kinds.contains(&o.kind()) && value == number)
            })
        };
        use OperandKind::*;
        for (number, value) in (1..).zip(self.x) {
            if names(&[X, XPrime, Base, BasePrime], number) {
                text.push_str(&format!("  x{number} = {value:#x}\n"));
            }
        }
        for (number, value) in (0..).zip(self.f) {
            if names(&[F, FPrime], number) {
                text.push_str(&format!("  f{number} = {value:#x}\n"));
            }
        }
        text
    }

    /// The program as text, an instruction a line.
    pub fn listing(&self) -> String {
        match self.encoded() {
            Ok(code) => code
                .iter()
                .map(|&(at, word, len)| {
                    let digits = 2 * len;
                    format!(
                        "  {at:x}: {word:0digits$x}{:w$} {}\n",
                        "",
                        disassemble(word),
                        w = 8 - digits
                    )
                })
                .collect(),
            Err(error) => format!("  {error}\n"),
        }
    }
}
