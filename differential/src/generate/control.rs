//! Branches, jumps and calls, forwards and, as long as there is fuel, backwards.

use alloc::vec;

use super::Generator;
use crate::program::{FUEL, Item, Step, Target};

/// Distances in items that every branch can bridge: an item has at most 24 bytes, `c.beqz` reaches 254 and
/// the others at least 2046.
const NEAR: i64 = 8;
const FAR: i64 = 40;

const BRANCHES: [&str; 8] = ["beq", "bne", "blt", "bge", "bltu", "bgeu", "c.beqz", "c.bnez"];

impl Generator {
    /// A conditional branch with random operands, the distance left open.
    fn branch(&mut self) -> (Step, i64) {
        let name = *self.rng.pick(&BRANCHES);
        let insn = Step::new(name, &[]).insn;
        let mut step = self.random(insn);
        if insn.operands().len() == 3 {
            step.values[0] = self.source();
            if self.rng.chance(10) {
                step.values[1] = step.values[0];
            }
        }
        (step, if name.starts_with("c.") { NEAR } else { FAR })
    }

    pub(super) fn forward(&mut self, index: usize) -> Item {
        let near = |generator: &mut Self, far: i64| {
            let distance = if generator.rng.chance(80) { 4 } else { far };
            index + generator.rng.between(1, distance) as usize
        };
        match self.rng.below(8) {
            0 => {
                let target = near(self, FAR);
                vec![Step::new("jal", &[self.destination(), 0]).to(target)]
            }
            1 => {
                let target = near(self, FAR);
                vec![Step::new("c.j", &[0]).to(target)]
            }
            2 | 3 => self.indirect(index),
            _ => {
                let (step, far) = self.branch();
                let target = near(self, far);
                vec![step.to(target)]
            }
        }
    }

    /// A jump through a register, in each of its forms.
    fn indirect(&mut self, index: usize) -> Item {
        let register = self.temporary();
        let item = index + self.rng.between(1, 4) as usize;
        let link = self.destination();
        let address = Step::new("auipc", &[register, 0]);
        let target = |extra| Some(Target { item, back: 1, extra });
        match self.rng.below(3) {
            // The lowest bit of the sum is dropped.
            0 => {
                let mut jump = Step::new("jalr", &[link, 0, register]);
                jump.target = target(self.rng.between(0, 1));
                vec![address, jump]
            }
            form => {
                let mut add = Step::new("addi", &[register, register, 0]);
                add.target = target(0);
                vec![
                    address,
                    add,
                    Step::new(if form == 1 { "c.jr" } else { "c.jalr" }, &[register]),
                ]
            }
        }
    }

    /// A jump to an earlier item, taken only while there is fuel.
    pub(super) fn backward(&mut self, index: usize) -> Item {
        let mut burn = vec![Step::new("addi", &[FUEL, FUEL, -1])];
        let (step, far) = self.branch();
        let back = self.rng.between(0, far.min(index as i64).min(12)) as usize;
        let step = match self.rng.below(6) {
            0 => Step::new("jal", &[self.destination(), 0]),
            1 => Step::new("c.j", &[0]),
            _ => step,
        };
        let step = step.to(index - back);
        // Out of fuel: over the jump.
        let over = 4 + step.insn.len() as i64;
        burn.push(Step::new("bge", &[0, FUEL, over]));
        burn.push(step);
        burn
    }
}
