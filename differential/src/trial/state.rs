//! What a guest can read of its hart, and what differs in two of them.

use alloc::format;
use alloc::string::String;

use axvcpu::AxVCpuExitReason as Exit;
use axvcpu_riscv::csr::sstatus;

/// Words of a state.
pub const WORDS: usize = 80;

/// The names of those behind the registers.
const NAMES: [&str; WORDS - 64] = [
    "pc",
    "user mode",
    "sstatus",
    "sie",
    "sip",
    "stvec",
    "scounteren",
    "senvcfg",
    "sscratch",
    "sepc",
    "scause",
    "stval",
    "stimecmp",
    "satp",
    "fflags",
    "frm",
];

const PC: usize = 64;
const USER: usize = 65;
const SSTATUS: usize = 66;
const SIP: usize = 68;
const STVEC: usize = 69;
const SEPC: usize = 73;
const SCAUSE: usize = 74;
const SATP: usize = 77;

/// All of a hart's state, in the order of the backends' `visit_state`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State(pub [u64; WORDS]);

impl State {
    /// What `visit` hands out.
    ///
    /// # Errors
    ///
    /// Those of `visit`, and when it hands out too little.
    pub fn of(
        visit: impl FnOnce(&mut dyn FnMut(u64)) -> Result<(), String>,
    ) -> Result<Self, String> {
        let mut words = [0; WORDS];
        let mut count = 0;
        visit(&mut |value| {
            // The software hart counts instructions behind all this, which hardware does not.
            if let Some(word) = words.get_mut(count) {
                *word = value;
            }
            count += 1;
        })?;
        if count < WORDS {
            return Err(format!("a state has {WORDS} words, and this one {count}"));
        }
        words[SSTATUS] &= !sstatus::SD; // follows from the rest
        Ok(Self(words))
    }

    pub(super) fn x(&self, number: usize) -> u64 {
        self.0[number & 31]
    }

    pub(super) fn pc(&self) -> u64 {
        self.0[PC]
    }

    pub(super) fn user(&self) -> bool {
        self.0[USER] != 0
    }

    pub(super) fn sstatus(&self) -> u64 {
        self.0[SSTATUS]
    }

    pub(super) fn sip(&self) -> u64 {
        self.0[SIP]
    }

    pub(super) fn sepc(&self) -> u64 {
        self.0[SEPC]
    }

    /// `scause`.
    pub fn scause(&self) -> u64 {
        self.0[SCAUSE]
    }

    /// `stvec`.
    pub fn stvec(&self) -> u64 {
        self.0[STVEC]
    }

    pub(super) fn satp(&self) -> u64 {
        self.0[SATP]
    }

    /// Names what differs, a line for each word; empty if nothing does.
    pub fn differences(&self, found: &Self) -> String {
        let pairs = self.0.iter().zip(&found.0).enumerate();
        pairs
            .filter(|&(index, (expected, found))| !agree(index, *expected, *found))
            .map(|(index, (expected, found))| {
                let name = name(index);
                format!("  {name:>12}: expected {expected:#018x}, found {found:#018x}\n")
            })
            .collect()
    }
}

/// What the word at `index` is.
pub fn name(index: usize) -> String {
    match index {
        0..32 => format!("x{index}"),
        32..64 => format!("f{}", index - 32),
        _ => NAMES.get(index - 64).map_or_else(String::new, |&name| name.into()),
    }
}

/// Whether two words say the same. A hart may call floating-point state dirty that is not (privileged architecture,
/// "Extension Context Status in mstatus Register"), but not state off that is on.
fn agree(index: usize, expected: u64, found: u64) -> bool {
    let differ = expected ^ found;
    let dirty = |value: u64| value & sstatus::FS == sstatus::FS;
    let on = |value: u64| value & sstatus::FS != 0;
    differ == 0
        || index == SSTATUS
            && differ & !sstatus::FS == 0
            && on(expected)
            && on(found)
            && (dirty(expected) || dirty(found))
}

/// Whether two exits are the same. A timer that is centuries away may be told or not.
pub(super) fn same_exit(expected: Exit, found: Exit) -> bool {
    const FAR: u64 = 100_000_000_000_000_000;
    let near = |exit| match exit {
        Exit::Halt { wake_after_ns } => {
            Exit::Halt { wake_after_ns: wake_after_ns.filter(|&ns| ns < FAR) }
        }
        exit => exit,
    };
    near(expected) == near(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_counts() {
        let state = State([1 << 13; WORDS]);
        assert_eq!(state.differences(&state), "");
        for index in 0..WORDS {
            for bit in 0..64 {
                let mut other = state.clone();
                other.0[index] ^= 1 << bit;
                // Clean and dirty are both right; off is not.
                let text = state.differences(&other);
                if index == SSTATUS && bit == 14 {
                    assert_eq!(text, "", "dirty");
                } else {
                    assert!(text.trim_start().starts_with(&format!("{}: ", name(index))), "{text}");
                    assert_eq!(text.lines().count(), 1);
                }
            }
        }
    }

    #[test]
    fn exits_differ_but_in_times_far_away() {
        let halt = |wake_after_ns| Exit::Halt { wake_after_ns };
        assert!(same_exit(halt(None), halt(Some(u64::MAX))));
        assert!(!same_exit(halt(None), halt(Some(0))));
        assert!(!same_exit(halt(Some(5)), halt(Some(6))));
        assert!(!same_exit(halt(None), Exit::Nothing));
    }

    #[test]
    fn too_little_is_no_state() {
        let of = |count: usize| {
            State::of(|f| {
                (0..count).for_each(|_| f(0));
                Ok(())
            })
        };
        assert!(of(WORDS - 1).is_err());
        assert!(of(WORDS).is_ok() && of(WORDS + 1).is_ok());
    }
}
