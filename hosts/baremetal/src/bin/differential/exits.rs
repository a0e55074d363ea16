//! Guests that do little but leave, on both: every exit, every register at each, and every trap they take must be
//! the same, whatever is answered.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use axvcpu::AxVCpuExitReason as Exit;
use axvcpu_baremetal::Hal;
use axvcpu_differential::rng::Rng;
use axvcpu_differential::{exits, layout};
use axvcpu_riscv::csr::{CAUSE_INTERRUPT, cause, irq};
use axvcpu_riscv64::RiscvVCpu;
use axvcpu_soft::SoftVCpu;

use crate::pair::{Pair, register_differences};
use crate::side::Side;

/// More exits than a guest has steps.
const ENOUGH: usize = 100_000;

/// What is done with an exit, on both sides.
#[derive(Clone, Copy, Debug)]
enum Action {
    Nothing,
    Answer(u64),
    Fail,
    Retry,
    Wake,
    Inject(usize),
    Line(bool),
    GoOn(u64),
}

impl Pair {
    /// Runs the guest of `seed` on both, and tells the first difference.
    pub(crate) fn exits(&mut self, seed: u64, length: usize) -> Result<Option<String>, String> {
        let image = exits::guest(seed, length)?;
        // Every other one as on harts that do not tell which instruction it was.
        self.config.fetch_always = seed % 2 != 0;
        let result =
            self.with(&image, 0, |_| Ok(layout::BASE), |soft, hard| follow(seed, soft, hard));
        self.config.fetch_always = false;
        result
    }
}

fn follow(
    seed: u64,
    soft: &mut Side<'_, SoftVCpu<Hal>>,
    hard: &mut Side<'_, RiscvVCpu<Hal>>,
) -> Result<Option<String>, String> {
    let mut rng = Rng::new(!seed);
    // One interrupt for each guest, because QEMU's harts choose among several by their numbers.
    let vector = *rng.pick(&[irq::SOFTWARE, irq::TIMER, irq::EXTERNAL]);
    let mut history: Vec<(Exit, Action)> = Vec::new();
    for count in 0..ENOUGH {
        let differs = |text: String, history: &[(Exit, Action)]| {
            let last = history.iter().rev().take(4).rev();
            let last: String =
                last.map(|(exit, action)| format!("  {exit:x?}, then {action:x?}\n")).collect();
            Ok(Some(format!("exit {count} is different, after\n{last}{text}")))
        };
        let exit = match (soft.run()?, hard.run()) {
            (expected, Ok(found)) if expected == found => expected,
            (expected, found) => {
                return differs(
                    format!("  expected {expected:x?}\n  found    {found:x?}\n"),
                    &history,
                );
            }
        };
        let (expected, found) = (soft.registers()?, hard.registers()?);
        if expected != found {
            return differs(
                format!("{exit:x?}\n{}", register_differences(&expected, &found)),
                &history,
            );
        }
        let (expected, found) = (seen(soft)?, seen(hard)?);
        if !same(&expected, &found) {
            return differs(
                format!(
                    "  scause, sepc, stval, sstatus, sip:\n  expected {expected:x?}\n  found    {found:x?}\n"
                ),
                &history,
            );
        }
        let action = match exit {
            Exit::Hypercall { nr: exits::END, .. } => return Ok(None),
            Exit::Hypercall { nr: exits::TRAP, .. } => {
                let [code, epc, ..] = expected;
                Action::GoOn(go_on(soft, code, epc)?)
            }
            Exit::Hypercall { .. } => match rng.below(6) {
                0 => Action::Answer(rng.word()),
                1 => Action::Inject(vector),
                2 if vector == irq::EXTERNAL => Action::Line(true),
                _ => Action::Nothing,
            },
            Exit::MmioRead { .. } => match rng.below(8) {
                0 => Action::Fail,
                1 => Action::Retry,
                _ => Action::Answer(rng.word()),
            },
            Exit::MmioWrite { .. } => match rng.below(8) {
                0 => Action::Fail,
                1 => Action::Retry,
                _ => Action::Nothing,
            },
            Exit::NestedPageFault { .. } => Action::Fail,
            Exit::Halt { .. } => Action::Wake,
            exit => return differs(format!("  both: unexpected exit {exit:x?}\n"), &history),
        };
        act(soft, action)?;
        act(hard, action)?;
        if code_is_external(&expected, exit) {
            // The device is content: one trap for each time the line was raised.
            act(soft, Action::Line(false))?;
            act(hard, Action::Line(false))?;
        }
        history.push((exit, action));
    }
    Err(format!("seed {seed} does not end"))
}

fn code_is_external(seen: &[u64; exits::SEEN_WORDS], exit: Exit) -> bool {
    matches!(exit, Exit::Hypercall { nr: exits::TRAP, .. })
        && seen[0] == CAUSE_INTERRUPT | irq::EXTERNAL as u64
}

fn act<A: axvcpu::AxArchVCpu<Hal = Hal, SetupConfig = ()>>(
    side: &mut Side<'_, A>,
    action: Action,
) -> Result<(), String> {
    let vcpu = &side.vcpu;
    let done = match action {
        Action::Nothing => Ok(()),
        Action::Answer(value) => vcpu.set_return_value(value),
        Action::Fail => vcpu.fail_access(),
        Action::Retry => vcpu.retry(),
        Action::Wake => {
            vcpu.wake();
            Ok(())
        }
        Action::Inject(vector) => vcpu.inject_interrupt(vector),
        Action::Line(level) => vcpu.set_interrupt_line(irq::EXTERNAL, level),
        Action::GoOn(at) => {
            let place = (exits::GO_ON - layout::BASE) as usize;
            side.bytes()[place..place + 8].copy_from_slice(&at.to_le_bytes());
            Ok(())
        }
    };
    done.map_err(|error| format!("{action:x?}: {error}"))
}

/// What the guest's trap handler has last seen.
fn seen<A: axvcpu::AxArchVCpu<Hal = Hal, SetupConfig = ()>>(
    side: &mut Side<'_, A>,
) -> Result<[u64; exits::SEEN_WORDS], String> {
    let place = (exits::SEEN - layout::BASE) as usize;
    let bytes = side.bytes().get(place..place + 8 * exits::SEEN_WORDS).ok_or("no such memory")?;
    Ok(core::array::from_fn(|index| {
        bytes[8 * index..8 * index + 8]
            .iter()
            .rev()
            .fold(0, |word, &byte| word << 8 | u64::from(byte))
    }))
}

/// Whether two accounts of a trap agree. Either hart may call floating-point state dirty that is not.
fn same(expected: &[u64; exits::SEEN_WORDS], found: &[u64; exits::SEEN_WORDS]) -> bool {
    const STATUS: usize = 3;
    const DIRTY: u64 = 3 << 13 | 1 << 63;
    let differ =
        |index: usize| (expected[index] ^ found[index]) & if index == STATUS { !DIRTY } else { !0 };
    (0..exits::SEEN_WORDS).all(|index| differ(index) == 0)
}

/// Where the guest goes on after a trap: behind the instruction, where it came from, or where it was.
fn go_on<A: axvcpu::AxArchVCpu<Hal = Hal, SetupConfig = ()>>(
    side: &mut Side<'_, A>,
    code: u64,
    epc: u64,
) -> Result<u64, String> {
    if code & CAUSE_INTERRUPT != 0 {
        return Ok(epc);
    }
    if code == cause::FETCH_ACCESS {
        return Ok(side.registers()?[1]);
    }
    let at = epc.wrapping_sub(layout::BASE) as usize;
    let low =
        side.bytes().get(at).copied().ok_or_else(|| "a trap outside of memory".to_string())?;
    Ok(epc + if low & 3 == 3 { 4 } else { 2 })
}
