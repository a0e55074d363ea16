//! Every system register and every system instruction: all encodings there are, at EL1 and at EL0.
//!
//! Most of them are undefined. So that this does not take longer than all else, the guest has vectors of its own here, which
//! step over what is undefined without anybody's help. A program that does not come to its end, because it has lost itself, is
//! tried once more in halves, and in the end one by one.

use alloc::vec::Vec;

use axvcpu::Fence;
use axvcpu_arm::asm::*;
use axvcpu_stage2::PAGE_SIZE;

use super::super::Subject;
use super::super::bench::Arm;
use super::super::guest::*;
use super::encodings::everywhere;
use super::{STATE, TABLES, TARGET, mode};
use crate::bench::{Exit, Isa};
use crate::hostile::{Mode, Pressure, Sandbox, attack};
use crate::random::Random;
use crate::report::Verdict;

const WINDOW: u64 = Arm::WINDOW;

/// All encodings: op0 1, 2 and 3.
const ENCODINGS: core::ops::Range<u32> = 1 << 14..4 << 14;
/// Those that lead a guest astray as often as not: where its vectors are, and how it finds its memory.
const NOTORIOUS: [u16; 2] = [sys::VBAR_EL1, sys::SCTLR_EL1];
/// What must not be written with anything.
const BINARY_POINT: u32 = sys::ICC_BPR1_EL1 as u32;
/// How many instructions a program has. The window begins with one that traps, and ends with some.
const LENGTH: usize = 4 * PAGE_SIZE as usize / 4 - 4;

/// `MRS`, or `SYSL`.
const READ: u32 = 0xd520_0000;
/// `MSR`, or `SYS`.
const WRITE: u32 = 0xd500_0000;

/// Without interrupts: the vectors take all for something to step over.
const MODES: [Mode; 2] = [
    mode(
        "EL1",
        &[(TABLES, 0), (STATE, pstate::DAIF | pstate::EL1H), (TARGET, WINDOW)],
        WINDOW,
        false,
    ),
    mode("EL0", &[(TABLES, 0), (STATE, pstate::DAIF), (TARGET, WINDOW)], WINDOW, true),
];

pub(super) fn reads<S: Subject>(subject: &S) -> Verdict {
    every(subject, 230, READ)
}

pub(super) fn writes<S: Subject>(subject: &S) -> Verdict {
    every(subject, 231, WRITE)
}

fn every<S: Subject>(subject: &S, number: u64, direction: u32) -> Verdict {
    let body = |g: &mut Guest| {
        g.stepping_vectors();
        g.go_to_target();
    };
    attack::<S, Arm>(subject, number, Pressure::Kicks, body, |sandbox, random| {
        for mode in &MODES {
            let part = |encodings: &mut dyn Iterator<Item = u32>, random: &mut Random| {
                // The vectors have the last three registers.
                let word = |encoding| {
                    let register = match encoding {
                        BINARY_POINT => super::BINARY_POINT as u64,
                        _ => random.next() % 28,
                    };
                    direction | encoding << 5 | register as u32
                };
                encodings.map(word).collect::<Vec<_>>()
            };
            let notorious = NOTORIOUS.map(u32::from);
            for first in ENCODINGS.step_by(LENGTH) {
                let end = ENCODINGS.end.min(first + LENGTH as u32);
                let mut all = (first..end).filter(|encoding| !notorious.contains(encoding));
                let program = part(&mut all, random);
                halves(sandbox, mode, random, &program)?;
            }
            let program = part(&mut notorious.into_iter(), random);
            one_by_one(sandbox, mode, random, &program)?;
        }
        Ok(())
    })
}

fn one_by_one<S: Subject>(
    sandbox: &Sandbox<'_, S, Arm>,
    mode: &Mode,
    random: &mut Random,
    program: &[u32],
) -> Verdict {
    let modes = core::slice::from_ref(mode);
    everywhere(sandbox, random, modes, program.len(), &mut |index, _| {
        program[index].to_le_bytes().to_vec()
    })
}

/// All of it, in as many parts as it takes.
fn halves<S: Subject>(
    sandbox: &Sandbox<'_, S, Arm>,
    mode: &Mode,
    random: &mut Random,
    program: &[u32],
) -> Verdict {
    if program.len() < 8 {
        one_by_one(sandbox, mode, random, program)
    } else if !ends(sandbox, mode, random, program)? {
        let (first, second) = program.split_at(program.len() / 2);
        halves(sandbox, mode, random, first)?;
        halves(sandbox, mode, random, second)
    } else {
        Ok(())
    }
}

/// Whether the guest comes to the end of it.
fn ends<S: Subject>(
    sandbox: &Sandbox<'_, S, Arm>,
    mode: &Mode,
    random: &mut Random,
    program: &[u32],
) -> Verdict<bool> {
    let (hart, vcpu) = (sandbox.bench.hart(), sandbox.vcpu());
    sandbox.clear_window()?;
    sandbox.bench.space.fill(
        WINDOW + 8,
        &program.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>(),
    )?;
    vcpu.request_fence(Fence::INSTRUCTION);
    sandbox.start_in(mode)?;
    for register in 7..28 {
        let value = match register {
            super::BINARY_POINT => random.next() % 8,
            _ => sandbox.operand(random),
        };
        vcpu.set_gpr(register, value)?;
    }
    vcpu.set_return_value(WINDOW + 8)?;
    // Most of them exit once at most, and a kick comes after more time than it takes for one.
    let (mut exits, mut kicks) = (2 * program.len() + 100, 20 + program.len() / 4);
    while exits > 0 && kicks > 0 {
        exits -= 1;
        let exit = vcpu.run()?;
        kicks -= usize::from(exit == Exit::Nothing);
        match hart.trap_of(exit)? {
            Some(trap) => return Ok(trap.elr == WINDOW + 8 + 4 * program.len() as u64),
            None if !sandbox.shrug(exit, random)? => return Ok(false),
            None => {}
        }
    }
    Ok(false)
}

impl Guest {
    /// Exchanges the vectors for those that step over whatever traps, but for `BRK`, which is reported. They use the last three
    /// registers.
    fn stepping_vectors(&mut self) {
        let (start, table, report) = (self.label(), self.label(), self.label());
        self.mrs(X28, sys::VBAR_EL1);
        self.b(start);
        self.table(table, |g, number| {
            g.mrs(X29, sys::ESR_EL1);
            g.lsr(X29, X29, 26);
            g.cmp_imm(X29, class::BRK as u32);
            g.movz(X29, 0x80 * number, 0);
            g.b_cond(Cond::Eq, report);
            g.mrs(X29, sys::ELR_EL1);
            g.add_imm(X29, X29, 4);
            g.msr(sys::ELR_EL1, X29);
            g.eret();
        });
        // To the other vectors, which expect nothing in registers.
        self.bind(report);
        self.add(X29, X28, X29);
        self.br(X29);
        self.bind(start);
        self.set_vectors(table);
    }
}
