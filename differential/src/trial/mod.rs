//! Trials: a guest with a random state of its supervisor, whose instructions fault and are interrupted where they are
//! told to, and a hypervisor that answers at random. Two harts that do the same trial must be in the same state at
//! every exit, and so must their memories.
//!
//! A seed stands for a trial: for the guest's instructions (`steps`), its page tables (`tables`) and all that the
//! hypervisor does (`host`): what stage 2 maps, how faults are answered, when interrupts come, and in what state the
//! guest goes on after each trap, which its own handler (`driver`) puts it into. Nothing hangs on the time: timers are
//! set to the past or to never, and nobody reads a clock. [`follow`] does a trial on two harts.

mod coverage;
mod driver;
mod follow;
mod host;
mod layout;
mod side;
mod state;
mod steps;
mod tables;

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ops::Range;

pub use coverage::{Coverage, EXPECTED};
pub use follow::{Difference, follow};
pub use host::Action;
pub use layout::{PAGES, SIZE};
pub use side::{Machine, Side, Visit};
pub use state::{State, WORDS, name};

use crate::rng::Rng;
use driver::POOL;
use host::Host;
use layout::{BASE, CODE, DATA, DATA_PAGES, HANDLER, SAVE};
use steps::Interrupts;

/// Steps of a guest, if they fit.
const STEPS: usize = 160;

/// A guest and what is done with it.
#[derive(Clone, Debug)]
pub struct Trial {
    /// What it was made from.
    pub seed: u64,
    /// After so many exits it is over.
    pub exits: usize,
    code: Vec<u8>,
    steps: Vec<Range<usize>>,
    /// Steps that do nothing.
    blank: Vec<bool>,
}

impl Trial {
    /// The trial that `seed` stands for, of at most `exits` exits.
    ///
    /// # Errors
    ///
    /// When its guest cannot be assembled: a mistake in here.
    pub fn new(seed: u64, exits: usize) -> Result<Self, String> {
        let steps = steps::steps(&mut Rng::new(seed), STEPS, interrupts(seed))?;
        let blank = steps.ranges.iter().map(|_| false).collect();
        Ok(Self { seed, exits, code: steps.code, steps: steps.ranges, blank })
    }

    fn interrupts(&self) -> Interrupts {
        interrupts(self.seed)
    }

    /// Whether interrupts have vectors of their own.
    fn vectored(&self) -> bool {
        self.seed / 4 % 4 == 0
    }

    /// How far behind the first instruction some step is.
    fn any_step(&self, rng: &mut Rng) -> u64 {
        rng.pick(&self.steps).start as u64
    }

    /// Whether there is something `offset` bytes behind the first instruction.
    fn has(&self, offset: u64) -> bool {
        offset < self.code.len() as u64
    }

    /// Fills guest memory, and answers where the guest starts.
    fn fill(&self, memory: &mut [u8]) -> Result<u64, String> {
        const C_NOP: [u8; 2] = [0x01, 0x00];
        let mut rng = Rng::new(!self.seed);
        // `ebreak` at every even address: what is executed by mistake ends.
        memory.chunks_exact_mut(2).for_each(|half| half.copy_from_slice(&[0x02, 0x90]));
        let (handler, entry) = driver::code().map_err(|error| error.to_string())?;
        let mut fits = true;
        let mut put = |at: u64, bytes: &[u8]| {
            let start = (at - BASE) as usize;
            match memory.get_mut(start..start + bytes.len()) {
                Some(place) => place.copy_from_slice(bytes),
                None => fits = false,
            }
        };
        put(HANDLER, &handler);
        put(CODE, &self.code);
        for (range, _) in self.steps.iter().zip(&self.blank).filter(|&(_, &blank)| blank) {
            range.clone().step_by(2).for_each(|at| put(CODE + at as u64, &C_NOP));
        }
        put(SAVE, &[0; 4096]);
        (0..5).for_each(|level| put(layout::table(level), &[0; 4096]));
        let mut word = |at: u64, value: u64| put(at, &value.to_le_bytes());
        tables::write(&mut rng, &mut word);
        for register in 0..64 {
            word(SAVE + POOL as u64 + 8 * register, rng.word());
        }
        word(SAVE + POOL as u64 + 512, rng.below(5) << 5 | rng.below(32));
        // Some data is data.
        for _ in 0..200 {
            word(DATA + rng.below(DATA_PAGES * 512) * 8, rng.word());
        }
        Host::new(self).tell_start(&mut rng, word);
        if fits { Ok(entry) } else { Err("the guest does not fit into its memory".to_string()) }
    }

    /// A shorter trial, if there is one of which `differs` still holds; it holds of this one, whose last exit is the
    /// one that differs.
    ///
    /// # Errors
    ///
    /// Those of `differs`.
    pub fn shrink<E>(&self, mut differs: impl FnMut(&Self) -> Result<bool, E>) -> Result<Self, E> {
        let mut best = self.clone();
        let mut size = best.blank.len().next_power_of_two();
        while size > 0 {
            for start in (0..best.blank.len()).step_by(size) {
                let mut candidate = best.clone();
                candidate.blank.iter_mut().skip(start).take(size).for_each(|blank| *blank = true);
                if candidate.blank != best.blank && differs(&candidate)? {
                    best = candidate;
                }
            }
            size /= 2;
        }
        Ok(best)
    }

    /// How many steps are left of it.
    pub fn steps(&self) -> usize {
        self.blank.iter().filter(|&&blank| !blank).count()
    }
}

/// Half of all guests have each kind.
fn interrupts(seed: u64) -> Interrupts {
    if seed % 2 == 0 { Interrupts::SoftwareAndTimer } else { Interrupts::External }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trials_are_always_the_same_and_fit() {
        for seed in 0..100 {
            let fill = || {
                let mut memory = alloc::vec![0; SIZE];
                let entry = Trial::new(seed, 100).unwrap().fill(&mut memory).unwrap();
                (memory, entry)
            };
            assert!(fill() == fill(), "seed {seed}");
        }
        assert!(Trial::new(1, 1).unwrap().fill(&mut [0; 4096]).is_err());
    }

    #[test]
    fn what_is_not_needed_goes() {
        let trial = Trial::new(3, 100).unwrap();
        let wanted = |trial: &Trial| !trial.blank[7] && !trial.blank[50];
        let shrunk = trial.shrink(|trial| Ok::<_, ()>(wanted(trial))).unwrap();
        assert!(wanted(&shrunk));
        assert_eq!(shrunk.steps(), 2);
    }
}
