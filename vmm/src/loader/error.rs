//! Why a program could not be loaded, in words that say what to do.

use core::fmt;

use super::Target;
use crate::OutsideRam;

/// Why a program could not be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoadError {
    /// The file has no content.
    Empty,
    /// The file has a known format that cannot be loaded.
    WrongFormat {
        /// What it is.
        found: &'static str,
        /// What to do about it.
        advice: &'static str,
    },
    /// An ELF file for another machine.
    WrongMachine {
        /// `e_machine`.
        machine: u16,
        /// Its name, where it is a common one.
        name: Option<&'static str>,
        /// What the guest is.
        target: Target,
    },
    /// The file contradicts itself, or ends too early.
    Damaged {
        /// What does not fit.
        what: &'static str,
    },
    /// The file uses something this loader does not do.
    Unsupported {
        /// What it uses, and what to do about it.
        what: &'static str,
    },
    /// The program wants to be loaded where there is no memory.
    OutsideRam {
        /// The first address it wants.
        start: u64,
        /// The first address behind it.
        end: u64,
        /// Where memory begins.
        ram_start: u64,
        /// Where memory ends.
        ram_end: u64,
    },
    /// The guest does not have enough memory.
    TooSmall {
        /// What did not fit.
        what: &'static str,
        /// The size of memory, in bytes, that would do.
        needed: u64,
        /// The size of memory, in bytes, that there is.
        available: u64,
    },
    /// The copy to guest memory failed.
    Copy(OutsideRam),
}

impl From<OutsideRam> for LoadError {
    fn from(error: OutsideRam) -> Self {
        Self::Copy(error)
    }
}

/// Bytes, in MiB, rounded up.
struct MiB(u64);

impl fmt::Display for MiB {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MiB", self.0.div_ceil(1 << 20))
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Empty => f.write_str("the file is empty"),
            Self::WrongFormat { found, advice } => write!(f, "the file is {found}: {advice}"),
            Self::WrongMachine { machine, name, target } => {
                match name {
                    Some(name) => write!(f, "the file is an ELF program for {name}")?,
                    None => write!(f, "the file is an ELF program for machine type {machine}")?,
                }
                write!(f, ": the guest is {}, so it needs a program built for that", target.name())
            }
            Self::Damaged { what } => {
                write!(f, "the file is damaged: {what}; get or build it again")
            }
            Self::Unsupported { what } => write!(f, "cannot load the file: {what}"),
            Self::OutsideRam { start, end, ram_start, ram_end } => write!(
                f,
                "the program wants to be loaded at {start:#x} to {end:#x}, but the guest has memory from \
                 {ram_start:#x} to {ram_end:#x}: link it to an address in there, or, if it ends too high, \
                 raise --memory"
            ),
            Self::TooSmall { what, needed, available } => write!(
                f,
                "{what} needs {} of memory, the guest has {}: raise --memory",
                MiB(needed),
                MiB(available)
            ),
            Self::Copy(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for LoadError {}
