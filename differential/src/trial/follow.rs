//! A trial on two harts, exit by exit.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use axvcpu::AxVCpuExitReason as Exit;
use axvcpu_riscv::asm::disassemble;

use super::Trial;
use super::coverage::{Coverage, ENDLESS};
use super::host::{Action, Host, instruction};
use super::layout::{BASE, CODE, offset_of};
use super::side::{Side, same};
use super::state::{State, same_exit};

/// The first exit that is not the same on both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Which one, from 0.
    pub exit: usize,
    /// What differs, and what was before.
    pub text: String,
}

/// So many exits before the one that differs are told.
const TOLD: usize = 5;

/// Does a trial on two harts, the first of which is what the other is compared with. `None`: no exit differs. The
/// trial ends where the second is known to be wrong, which `excluded` tells by the state of the first.
///
/// # Errors
///
/// What is wrong with the trial or with the first hart.
pub fn follow(
    trial: &Trial,
    first: &mut impl Side,
    second: &mut impl Side,
    excluded: impl Fn(&State) -> bool,
    coverage: &mut Coverage,
) -> Result<Option<Difference>, String> {
    coverage.note("trial");
    let mut host = Host::new(trial);
    let entry = trial.fill(first.memory())?;
    trial.fill(second.memory())?;
    first.start(entry)?;
    second.start(entry)?;
    let mut history = VecDeque::new();
    let mut actions = host.opening();
    for number in 0..trial.exits {
        let differs = |history: &VecDeque<Step>, listing: &str, what: String| {
            let text: String = history.iter().map(Step::text).collect();
            Ok(Some(Difference { exit: number, text: format!("{text}{what}{listing}") }))
        };
        for &action in &actions {
            first.act(action)?;
            if let Err(error) = second.act(action) {
                return differs(&history, "", format!("  not found: {error}\n"));
            }
        }
        let Some(expected) = first.run()? else {
            coverage.note(ENDLESS);
            return Ok(None);
        };
        let state = first.state()?;
        if excluded(&state) {
            coverage.note("trial ended early: the second hart is known to be wrong");
            return Ok(None);
        }
        let found = second.run();
        let listing = listing(&state, first.memory());
        let exit = match found {
            Ok(Some(found)) if same_exit(expected, found) => expected,
            found => {
                let found = match found {
                    Ok(Some(found)) => format!("{found:x?}"),
                    Ok(None) => "none".into(),
                    Err(error) => error,
                };
                let other = second.state().map(|other| state.differences(&other));
                let text = format!("  expected {expected:x?}\n  found    {found}\n");
                return differs(&history, &listing, text + &other.unwrap_or_default());
            }
        };
        let mut text = state.differences(&second.state()?);
        if let Some(at) = memory_differs(first.memory(), second.memory()) {
            text += &at;
        }
        if !text.is_empty() {
            return differs(&history, &listing, format!("  {exit:x?}\n{text}"));
        }
        actions = host.decide(exit, &state, first.memory(), coverage);
        history.push_back(Step {
            number,
            exit,
            pc: state.pc(),
            instruction: instruction(state.pc(), first.memory()),
            actions: actions.clone(),
        });
        if history.len() > TOLD {
            history.pop_front();
        }
    }
    Ok(None)
}

/// An exit, as it is told about later.
struct Step {
    number: usize,
    exit: Exit,
    pc: u64,
    /// 0 if it is none of the guest's steps.
    instruction: u32,
    actions: Vec<Action>,
}

impl Step {
    fn text(&self) -> String {
        let mut text = format!("  {:>4}: {:x?}, pc {:#x}", self.number, self.exit, self.pc);
        // A string takes whatever is written to it.
        if self.instruction != 0 {
            let _ = write!(text, " ({})", disassemble(self.instruction));
        }
        let shown = self.actions.iter().filter(|action| !matches!(action, Action::Tell(..)));
        for action in shown {
            let _ = write!(text, "; {action:x?}");
        }
        let told = self.actions.iter().filter_map(|action| match action {
            Action::Tell(at, value) => Some((at, value)),
            _ => None,
        });
        for (index, (_, value)) in told.enumerate() {
            let _ = write!(text, "{}{value:#x}", if index == 0 { "; told " } else { ", " });
        }
        text.push('\n');
        text
    }
}

/// Tells where the memories differ first; nothing if they do not.
fn memory_differs(expected: &[u8], found: &[u8]) -> Option<String> {
    if same(expected, found) {
        return None;
    }
    let at = expected.iter().zip(found).position(|(expected, found)| expected != found)? & !7;
    let word = |bytes: &[u8]| {
        let bytes = bytes.get(at..at + 8).unwrap_or_default();
        bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte))
    };
    let (expected, found) = (word(expected), word(found));
    let at = BASE + at as u64;
    Some(format!("  memory {at:#x}: expected {expected:#018x}, found {found:#018x}\n"))
}

/// The instructions around the program counter.
fn listing(state: &State, memory: &[u8]) -> String {
    /// Bytes before it; where an instruction begins there is not known, but soon falls into place.
    const BEFORE: u64 = 24;
    const AFTER: u64 = 16;
    let pc = state.pc();
    let mut text = format!("  {} at {pc:#x}:\n", if state.user() { "U-mode" } else { "S-mode" });
    // In the handler what has led there tells more.
    let pc = if offset_of(pc).is_some() { pc } else { state.sepc() };
    let Some(offset) = offset_of(pc) else { return text };
    let mut at = offset.saturating_sub(BEFORE);
    while at < offset + AFTER {
        let word = instruction(CODE + at, memory);
        let len = if word & 3 == 3 { 4 } else { 2 };
        let len = if at < offset && at + len > offset { offset - at } else { len };
        let mark = if at == offset { '>' } else { ' ' };
        let _ = writeln!(text, "  {mark} {:x}: {}", pc - offset + at, disassemble(word));
        at += len;
    }
    text
}
