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
            let mut state = state & 0x3f | random.next() & if state < 64 { 0 } else { !0x3f };
            let mut target = if random.once_in(2) { WINDOW } else { sandbox.address(random) };
            if state & 1 << 4 != 0 {
                // A32, and nothing but what is in the window: see `word32`.
                (state, target) = (state & !(1 << 5), WINDOW);
            }
            sandbox.clear_window()?;
            sandbox.start(&[(super::TABLES, 0), (super::STATE, state), (super::TARGET, target)])?;
            sandbox.let_go(random, |_, random| random.once_in(3).then_some(WINDOW))?;
        }
        Ok(())
    })
}

/// Where the CPU has programs of 32 bits, they are executed. Elsewhere the return to them is illegal.
pub(super) fn aarch32<S: Subject>(subject: &S) -> Verdict {
    const ROUNDS: usize = 60;
    /// User mode, A32.
    const USER: u64 = 0x10;
    attack::<S, Arm>(subject, 223, Pressure::Storm, Guest::go_to_target, |sandbox, random| {
        sandbox.may_end_with(is_failed_entry);
        for _ in 0..ROUNDS {
            for at in (WINDOW..WINDOW + 4 * PAGE_SIZE).step_by(8) {
                let (low, high) = (word32(random), word32(random));
                sandbox.bench.space.write(at, u64::from(high) << 32 | u64::from(low))?;
            }
            sandbox.vcpu().request_fence(Fence::INSTRUCTION);
            sandbox.start(&[(super::TABLES, 0), (super::STATE, USER), (super::TARGET, WINDOW)])?;
            // What comes from there, and what comes instead of going there.
            sandbox.let_go(random, |trap, random| match trap.vector {
                5 | 9 | 13 => Some(0),
                _ => Some(WINDOW + (random.next() & 0x3ffc)),
            })?;
        }
        Ok(())
    })
}

/// Something for these programs, always executed and without a way to go anywhere else: loads and stores of one register and of
/// several, coprocessors 14 and 15 by one register and by two, and system calls. With anything at all QEMU 10.0 ends now and
/// then, by its assertion `s->pc_save != -1` (`target/arm/tcg/translate.c`, `gen_pc_plus_diff`).
fn word32(random: &mut Random) -> u32 {
    let any = random.next() as u32;
    let (first, second) = ((random.next() % 13) as u32, (random.next() % 13) as u32);
    match random.next() % 8 {
        0..=2 => 0xe400_0000 | any & 0x01f0_0fff | first << 16 | second << 12,
        3 => 0xe800_0001 | any & 0x01b0_1fff | first << 16,
        4 | 5 => 0xee00_0e10 | any & 0x00ff_01ef | second << 12,
        6 => 0xec40_0e00 | any & 0x0010_01ff | first << 16 | second << 12,
        _ => 0xef00_0000 | any & 0x00ff_ffff,
    }
}
