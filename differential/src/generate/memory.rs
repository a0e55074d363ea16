//! Loads, stores and atomics, all within the data area.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use axvcpu_riscv::asm::{Instruction, OperandKind};

use super::{Generator, on_stack};
use crate::layout::DATA_SIZE;
use crate::program::{DATA, Item, Step};

const HALF: i64 = DATA_SIZE as i64 / 2;
const SP: i64 = 2;

impl Generator {
    /// An offset from the data area's middle at which `size` bytes fit; sometimes not a multiple of it, and
    /// sometimes across the page boundary in the middle.
    pub(super) fn place(&mut self, size: i64) -> i64 {
        match self.rng.below(8) {
            0 => self.rng.between(-HALF, HALF - size),
            1 => self.rng.between(-size, size),
            _ => self.rng.between(-HALF / size, HALF / size - 1) * size,
        }
    }

    pub(super) fn load_or_store(&mut self) -> Item {
        let insn = *self.rng.pick(&self.loads);
        let mut step = self.random(insn);
        let kinds = |wanted: &[OperandKind]| {
            insn.operands().iter().position(|o| wanted.contains(&o.kind()))
        };
        let offset = kinds(&[OperandKind::Signed, OperandKind::Unsigned]).unwrap_or(0);
        let base = kinds(&[OperandKind::Base, OperandKind::BasePrime]).unwrap_or(0);
        if is_store(insn) && insn.len() == 4 && self.rng.chance(10) {
            step.values[0] = self.source(); // reading the reserved registers is harmless
        }
        let place = self.place(8);
        if insn.len() == 4 && self.rng.chance(50) {
            step.values[offset] = place;
            step.values[base] = DATA;
            return vec![step];
        }
        // Another base register: its value and the offset meet at the place.
        let register = match insn.operands()[base].kind() {
            OperandKind::BasePrime => self.rng.between(8, 15),
            _ => self.temporary(),
        };
        step.values[base] = register;
        let mut start = place - step.values[offset];
        if !(-2048..2048).contains(&start) {
            step.values[offset] = 0;
            start = place;
        }
        vec![Step::new("addi", &[register, DATA, start]), step]
    }

    /// A compressed load or store relative to the stack pointer.
    pub(super) fn stack(&mut self) -> Item {
        let insns: Vec<_> =
            axvcpu_riscv::asm::instructions().filter(|insn| on_stack(insn)).collect();
        let insn = *self.rng.pick(&insns);
        let step = self.random(insn);
        let start = self.place(8) - step.values[1];
        let start = start.max(-HALF); // offsets are below 512, so the end is inside as well
        vec![Step::new("addi", &[SP, DATA, start]), step]
    }

    pub(super) fn atomic(&mut self) -> Item {
        let insn = *self.rng.pick(&self.atomics);
        let mut step = self.random(insn);
        let register = self.temporary();
        let size = if insn.name().ends_with(".w") { 4 } else { 8 };
        let place = self.place(size) & -size;
        step.values[2] = register;
        vec![Step::new("addi", &[register, DATA, place.min(HALF - size)]), step]
    }

    /// LR and SC in the combinations whose outcome the manual leaves no choice about.
    pub(super) fn reservation(&mut self) -> Item {
        let (suffix, size) = *self.rng.pick(&[(".w", 4), (".d", 8)]);
        let (lr, sc) = (format!("lr{suffix}"), format!("sc{suffix}"));
        let base = self.temporary();
        let other = |generator: &mut Self| {
            loop {
                let register = generator.destination();
                if register != base {
                    return register;
                }
            }
        };
        let (loaded, result) = (other(self), other(self));
        let source = if self.rng.chance(50) { loaded } else { self.source() };
        let place = self.rng.between(-HALF / size, HALF / size - 1) * size;
        let order = |generator: &mut Self| generator.rng.between(0, 3);
        let address = Step::new("addi", &[base, DATA, place]);
        let load = Step::new(&lr, &[loaded, base, order(self)]);
        let store = Step::new(&sc, &[result, source, base, order(self)]);
        match self.rng.below(6) {
            // A second SC finds no reservation.
            0 => vec![address, load, store.clone(), store],
            // The reservation is for another address, far away.
            1 => {
                let away = if place < 0 { place + HALF } else { place - HALF };
                vec![address, load, Step::new("addi", &[base, DATA, away]), store]
            }
            // What a compiler makes of an atomic operation.
            2 | 3 if loaded != 0 => {
                let name = *self.rng.pick(&["add", "xor", "maxu", "andn"]);
                let operate = Step::new(name, &[loaded, loaded, self.source()]);
                let store = Step::new(&sc, &[result, loaded, base, order(self)]);
                vec![address, load, operate, store]
            }
            _ => vec![address, load, store],
        }
    }
}

fn is_store(insn: &Instruction) -> bool {
    matches!(insn.name(), "sb" | "sh" | "sw" | "sd")
}
