//! Random programs: any instruction of user mode, any operands, and a certain end.

mod control;
mod memory;
mod values;

use alloc::vec;
use alloc::vec::Vec;

use axvcpu_riscv::asm::{Instruction, OperandKind, instructions};

use crate::layout;
use crate::program::{DATA, FUEL, Item, Program, Step};
use crate::rng::Rng;

/// At most this many backward jumps.
const FUEL_LEVEL: u64 = 24;

/// What to choose from, and the state of the choice.
struct Generator {
    rng: Rng,
    /// Registers that this program prefers, so that results are used soon.
    hot: [i64; 6],
    integer: Vec<&'static Instruction>,
    float: Vec<&'static Instruction>,
    loads: Vec<&'static Instruction>,
    atomics: Vec<&'static Instruction>,
}

/// Instructions with register operands that are generated on purpose only.
fn special(insn: &Instruction) -> bool {
    ["csr", "sfence", "lr.", "sc.", "c.jr", "c.jalr", "jalr"]
        .iter()
        .any(|p| insn.name().starts_with(p))
}

fn on_stack(insn: &Instruction) -> bool {
    insn.name().starts_with("c.") && insn.name().ends_with("sp") && !insn.name().contains("addi")
}

impl Generator {
    fn new(seed: u64) -> Self {
        use OperandKind::*;
        let mut rng = Rng::new(seed);
        let hot = core::array::from_fn(|_| rng.between(1, 29));
        let with = |wanted: &dyn Fn(&Instruction) -> bool| {
            instructions().filter(|i| !special(i) && !on_stack(i) && wanted(i)).collect::<Vec<_>>()
        };
        let has = |insn: &Instruction, kinds: &[OperandKind]| {
            insn.operands().iter().any(|o| kinds.contains(&o.kind()))
        };
        let only = |insn: &Instruction, kinds: &[OperandKind]| {
            !insn.operands().is_empty() && insn.operands().iter().all(|o| kinds.contains(&o.kind()))
        };
        Self {
            rng,
            hot,
            integer: with(&|i| only(i, &[X, XPrime, Signed, Unsigned])),
            float: with(&|i| has(i, &[F, FPrime]) && !has(i, &[Base, BasePrime])),
            loads: with(&|i| has(i, &[Base, BasePrime]) && !has(i, &[Order])),
            atomics: with(&|i| has(i, &[Base]) && has(i, &[Order])),
        }
    }

    /// A register that may be read.
    fn source(&mut self) -> i64 {
        if self.rng.chance(60) { *self.rng.pick(&self.hot) } else { self.rng.between(0, 31) }
    }

    /// A register that may be written; sometimes `x0`.
    fn destination(&mut self) -> i64 {
        if self.rng.chance(60) { *self.rng.pick(&self.hot) } else { self.rng.between(0, 29) }
    }

    /// A register that is written in order to be used by the instructions that follow.
    fn temporary(&mut self) -> i64 {
        self.rng.between(1, 29)
    }

    /// A value for the operand at `index` of `insn`.
    fn operand(&mut self, insn: &Instruction, index: usize) -> i64 {
        let operand = insn.operands()[index];
        let (low, high, step) = operand.range();
        loop {
            let value = match operand.kind() {
                OperandKind::X if index == 0 => self.destination(),
                OperandKind::X | OperandKind::Base => self.source(),
                OperandKind::Rounding if self.rng.chance(50) => high, // as frm says
                OperandKind::F if self.rng.chance(60) => *self.rng.pick(&self.hot),
                _ => match self.rng.below(8) {
                    0 => low,
                    1 => high,
                    2 => self.rng.between(-2, 2) * step,
                    _ => low + self.rng.between(0, (high - low) / step) * step,
                },
            };
            if operand.allows(value) {
                return value;
            }
        }
    }

    /// `insn` with random operands.
    fn random(&mut self, insn: &'static Instruction) -> Step {
        let values = (0..insn.operands().len()).map(|index| self.operand(insn, index)).collect();
        Step { insn, values, target: None }
    }

    fn integer(&mut self) -> Item {
        let insn = *self.rng.pick(&self.integer);
        vec![self.random(insn)]
    }

    /// A few of the instructions that compilers emit most, in a row: a fast hart may execute them together.
    fn common(&mut self) -> Item {
        const COMMON: [&str; 26] = [
            "addi", "addi", "ld", "ld", "sd", "add", "add", "slli", "srli", "lw", "lbu", "sw",
            "addiw", "addw", "and", "andi", "or", "xor", "sub", "sltu", "auipc", "lui", "slliw",
            "srliw", "c.mv", "c.li",
        ];
        (0..self.rng.between(2, 4))
            .map(|_| {
                let name = *self.rng.pick(&COMMON);
                let insn = Step::new(name, &[]).insn;
                let mut step = self.random(insn);
                if let [_, offset, base] = step.values.as_mut_slice() {
                    match insn.name() {
                        "ld" | "sd" | "lw" | "sw" | "lbu" => {
                            *base = DATA;
                            *offset = self.place(8);
                        }
                        // Moves and constants that are not compressed.
                        "addi" if self.rng.chance(30) => *base = 0,
                        "addi" if self.rng.chance(30) => *offset = 0,
                        _ => {}
                    }
                }
                step
            })
            .collect()
    }

    fn float(&mut self) -> Item {
        let insn = *self.rng.pick(&self.float);
        let step = self.random(insn);
        let mut item = Vec::new();
        // Without fresh operands everything would soon be NaN or infinite.
        for (operand, &value) in insn.operands().iter().zip(&step.values).skip(1) {
            if operand.kind() == OperandKind::F && self.rng.chance(40) {
                let single = insn.name().contains(".s");
                let (name, size) =
                    if single && self.rng.chance(70) { ("flw", 4) } else { ("fld", 8) };
                let half = layout::DATA_SIZE as i64 / 2;
                let offset = self.rng.between(-half / size, half / size - 1) * size;
                item.push(Step::new(name, &[value, offset, DATA]));
            }
        }
        item.push(step);
        item
    }

    /// Reads and writes of `fflags`, `frm` and `fcsr` that leave a valid rounding mode.
    fn csr(&mut self) -> Item {
        const FFLAGS: i64 = 1;
        const FRM: i64 = 2;
        const FCSR: i64 = 3;
        let (rd, rs) = (self.destination(), self.source());
        let any = *self.rng.pick(&[FFLAGS, FRM, FCSR]);
        match self.rng.below(8) {
            0 | 1 => vec![Step::new("csrrs", &[rd, any, 0])],
            2 => {
                let name = *self.rng.pick(&["csrrw", "csrrs", "csrrc"]);
                vec![Step::new(name, &[rd, FFLAGS, rs])]
            }
            3 => {
                let name = *self.rng.pick(&["csrrwi", "csrrsi", "csrrci"]);
                vec![Step::new(name, &[rd, FFLAGS, self.rng.between(0, 31)])]
            }
            4 | 5 => vec![Step::new("csrrwi", &[rd, FRM, self.rng.between(0, 4)])],
            6 => vec![Step::new("csrrci", &[rd, any, self.rng.between(0, 31)])],
            _ => {
                let register = self.temporary();
                let mask = if any == FRM { 3 } else { 0x7f };
                vec![
                    Step::new("andi", &[register, rs, mask]),
                    Step::new("csrrw", &[rd, any, register]),
                ]
            }
        }
    }

    fn item(&mut self, index: usize) -> Item {
        match self.rng.below(100) {
            0..=11 => self.common(),
            12..=35 => self.integer(),
            36..=61 => self.float(),
            62..=76 => self.load_or_store(),
            77..=80 => self.stack(),
            81..=85 => self.atomic(),
            86..=87 => self.reservation(),
            88..=91 => self.csr(),
            92..=96 => self.forward(index),
            97..=98 => self.backward(index),
            _ => self.barrier(),
        }
    }

    fn barrier(&mut self) -> Item {
        if self.rng.chance(30) {
            return vec![Step::new("fence.i", &[])];
        }
        vec![Step::new("fence", &[self.rng.between(0, 15), self.rng.between(0, 15)])]
    }
}

/// The program that `seed` stands for, of about `length` instructions.
pub fn program(seed: u64, length: usize) -> Program {
    let mut generator = Generator::new(seed);
    let mut items = Vec::new();
    let mut instructions = 0;
    while instructions < length {
        let item = generator.item(items.len());
        instructions += item.len();
        items.push(item);
    }
    // What leads past the last item leads to the end.
    let count = items.len();
    for step in items.iter_mut().flatten() {
        if let Some(target) = &mut step.target {
            target.item = target.item.min(count);
        }
    }

    let rng = &mut generator.rng;
    let mut x = core::array::from_fn(|_| values::integer(rng));
    x[DATA as usize - 1] = layout::DATA_MIDDLE;
    x[FUEL as usize - 1] = FUEL_LEVEL;
    let f = core::array::from_fn(|_| values::float(rng));
    let fcsr = rng.below(5) << 5 | rng.below(32);
    let data = (0..layout::DATA_SIZE / 8).flat_map(|_| values::data(rng).to_le_bytes()).collect();
    Program { seed, items, x, f, fcsr, data }
}

#[cfg(test)]
mod tests;
