//! Every class of instructions, in every state.

use alloc::vec::Vec;

use axvcpu::Fence;
use axvcpu_stage2::PAGE_SIZE;

use super::super::Subject;
use super::super::bench::Arm;
use super::super::guest::*;
use crate::bench::{Exit, Isa};
use crate::hostile::{Hostile, Mode, Pressure, Sandbox, Slots, attack, slots};
use crate::random::Random;
use crate::report::Verdict;

const WINDOW: u64 = Arm::WINDOW;

/// Executes `count` instructions in each of these modes, with operands of all kinds.
pub(super) fn everywhere<S: Subject>(
    sandbox: &Sandbox<'_, S, Arm>,
    random: &mut Random,
    modes: &[Mode],
    count: usize,
    code: &mut dyn FnMut(usize, &mut Random) -> Vec<u8>,
) -> Verdict {
    for mode in modes {
        let mut all = Slots {
            count,
            write: code,
            register: &mut |_, register, random| match register {
                super::BINARY_POINT => random.next() % 8,
                _ => sandbox.operand(random),
            },
            exit: &mut |_, _: &Exit| Ok(()),
        };
        slots(sandbox, mode, random, &mut all)?;
    }
    Ok(())
}

/// Instructions by the upper 11 bits, of which each group of the encoding's has some (Arm ARM, C4.1), with all else at random;
/// and exceptions and returns of every kind.
pub(super) fn instructions<S: Subject>(subject: &S) -> Verdict {
    /// Exceptions of every kind, without their numbers; `ERET`, `ERETAA`, `ERETAB`, `DRPS`; and waits until a time.
    const OTHERS: [u32; 15] = [
        0xd400_0001,
        0xd400_0002,
        0xd400_0003,
        0xd420_0000,
        0xd440_0000,
        0xd4a0_0001,
        0xd4a0_0002,
        0xd4a0_0003,
        0xd460_0000,
        0xd69f_03e0,
        0xd69f_0bff,
        0xd69f_0fff,
        0xd6bf_03e0,
        0xd503_1000,
        0xd503_1020,
    ];
    let by_group = 2048;
    attack::<S, Arm>(subject, 220, Pressure::Kicks, Guest::go_to_target, |sandbox, random| {
        let modes = <Arm as Hostile<S>>::MODES;
        everywhere(sandbox, random, modes, by_group + 4 * OTHERS.len(), &mut |index, random| {
            let word = match index.checked_sub(by_group) {
                None => (index as u32) << 21 | random.next() as u32 & 0x1f_ffff,
                // Exceptions with the number 0, and with others.
                Some(other) => {
                    let word = OTHERS[other / 4];
                    let number = if other % 4 == 0 { 0 } else { random.next() as u32 & 0x1f_ffe0 };
                    if word >> 24 == 0xd4 { word | number } else { word }
                }
            };
            word.to_le_bytes().to_vec()
        })
    })
}

/// All of `op0` 0 and CRn 2 to 4 (Arm ARM, C4.1.66): with no register, as they are meant.
pub(super) fn hints<S: Subject>(subject: &S) -> Verdict {
    attack::<S, Arm>(subject, 221, Pressure::Kicks, Guest::go_to_target, |sandbox, random| {
        let modes = &<Arm as Hostile<S>>::MODES[..2];
        everywhere(sandbox, random, modes, 8 * 3 * 16 * 8, &mut |index, _| {
            let (op1, crn, rest) =
                (index as u32 / 384, 2 + index as u32 / 128 % 3, index as u32 % 128);
            (0xd500_001f | op1 << 16 | crn << 12 | rest << 5).to_le_bytes().to_vec()
        })
    })
}

/// A backend that knows AArch64 only may give up on a guest that is in AArch32 when it exits.
fn is_failed_entry(exit: &Exit) -> bool {
    matches!(exit, Exit::FailEntry { .. })
}

/// `ERET` to every value of the state's lower bits, AArch32's modes among them, and to any of the upper ones.
pub(super) fn returns<S: Subject>(subject: &S) -> Verdict {
    attack::<S, Arm>(subject, 222, Pressure::Kicks, Guest::go_to_target, |sandbox, random| {
        sandbox.may_end_with(is_failed_entry);
        for state in 0..128 {
            let state = state & 0x3f | random.next() & if state < 64 { 0 } else { !0x3f };
            let target = if random.once_in(2) { WINDOW } else { sandbox.address(random) };
            sandbox.clear_window()?;
            sandbox.start(&[(super::TABLES, 0), (super::STATE, state), (super::TARGET, target)])?;
            sandbox.let_go(random, |_, random| random.once_in(3).then_some(WINDOW))?;
        }
        Ok(())
    })
}

/// Where the CPU has programs of 32 bits, they are executed, in both of their instruction sets. Elsewhere the return to them is
/// illegal.
pub(super) fn aarch32<S: Subject>(subject: &S) -> Verdict {
    const ROUNDS: usize = 60;
    /// User mode; the same in T32.
    const STATES: [u64; 2] = [0x10, 0x30];
    attack::<S, Arm>(subject, 223, Pressure::Storm, Guest::go_to_target, |sandbox, random| {
        sandbox.may_end_with(is_failed_entry);
        for round in 0..ROUNDS {
            for at in (WINDOW..WINDOW + 4 * PAGE_SIZE).step_by(8) {
                let (low, high) = (word32(random), word32(random));
                sandbox.bench.space.write(at, u64::from(high) << 32 | u64::from(low))?;
            }
            sandbox.vcpu().request_fence(Fence::INSTRUCTION);
            let state = STATES[round % 2];
            let registers = [(super::TABLES, 0), (super::STATE, state), (super::TARGET, WINDOW)];
            sandbox.start(&registers)?;
            // The sixteen registers of these programs are the first of this CPU's (Arm ARM, D1.8.2).
            for register in (0..15).filter(|register| ![0, 5, 6].contains(register)) {
                sandbox.vcpu().set_gpr(register, sandbox.address(random) & 0xffff_ffff)?;
            }
            sandbox.let_go(random, |trap, random| match trap.vector {
                5 | 9 | 13 => Some(0),
                // What comes from there, and what comes instead of going there.
                _ => Some(WINDOW + (random.next() & 0x3ffc)),
            })?;
        }
        Ok(())
    })
}

/// Something for these programs: loads and stores of a device, of one and several registers, as often as anything, and
/// coprocessors'.
fn word32(random: &mut Random) -> u32 {
    let any = random.next() as u32;
    match random.next() % 8 {
        // A32, always, with an immediate offset: one register, and many.
        0 | 1 => 0xe400_0000 | any & 0x01ff_ffff,
        2 => 0xe800_0000 | any & 0x01ff_ffff,
        // Coprocessors 14 and 15: `mrc` and `mcr`, `mrrc` and `mcrr`.
        3 => 0xee00_0e10 | any & 0x00ff_f1ef,
        4 => 0xec40_0e00 | any & 0x001f_f1ff,
        // T32, twice: `ldr` and `str` with an immediate offset.
        5 => (0x6000_6000 | any & 0x1fff_1fff).rotate_left(16),
        _ => any,
    }
}
