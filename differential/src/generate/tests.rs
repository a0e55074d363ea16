use std::collections::HashSet;

use super::*;

const SEEDS: std::ops::Range<u64> = 0..200;

#[test]
fn a_seed_is_always_the_same_program() {
    for seed in SEEDS {
        let (one, two) = (program(seed, 100), program(seed, 100));
        assert_eq!(one.code().unwrap(), two.code().unwrap());
        assert_eq!((one.x, one.f, one.data), (two.x, two.f, two.data));
    }
    assert_ne!(program(1, 100).code(), program(2, 100).code());
}

#[test]
fn every_program_can_be_encoded() {
    for seed in SEEDS {
        for length in [1, 10, 300, 1000] {
            let program = program(seed, length);
            assert!(program.instructions() >= length);
            program.code().unwrap_or_else(|error| panic!("seed {seed}, length {length}: {error}"));
        }
    }
}

/// Every instruction of user mode that ends where it should turns up.
#[test]
fn every_instruction_is_generated() {
    let mut seen = HashSet::new();
    for seed in SEEDS {
        seen.extend(program(seed, 500).items.iter().flatten().map(|step| step.insn.name()));
    }
    let left_out = ["ecall", "ebreak", "c.ebreak", "sret", "mret", "wfi", "sfence.vma", "c.nop"];
    let missing: Vec<_> = instructions()
        .map(Instruction::name)
        .filter(|name| !seen.contains(name) && !left_out.contains(name))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// The registers that keep the program in bounds change only where they should.
#[test]
fn reserved_registers_are_left_alone() {
    let writes = |step: &Step, register: i64| {
        let stores = ["sb", "sh", "sw", "sd", "beq", "bne", "blt", "bge", "bltu", "bgeu"];
        let integer = matches!(step.insn.operands().first(), Some(o) if o.kind() == OperandKind::X);
        integer && !stores.contains(&step.insn.name()) && step.values[0] == register
    };
    for seed in SEEDS {
        for step in program(seed, 300).items.iter().flatten() {
            assert!(!writes(step, DATA), "seed {seed}");
            let burns = step.insn.name() == "addi" && step.values == [FUEL, FUEL, -1];
            assert!(burns || !writes(step, FUEL), "seed {seed}");
        }
    }
}

/// Jumps back stand behind a look at the fuel; everything else leads forwards.
#[test]
fn only_fuel_leads_backwards() {
    for seed in SEEDS {
        let program = program(seed, 300);
        for (index, item) in program.items.iter().enumerate() {
            for step in item {
                let Some(target) = step.target else { continue };
                assert!(target.item <= program.items.len());
                let guarded = item[0].values == [FUEL, FUEL, -1] && item[1].insn.name() == "bge";
                assert!(target.item > index || guarded, "seed {seed}, item {index}");
            }
        }
    }
}
