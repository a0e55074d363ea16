//! Trials on two software harts: that they end and that everything happens in them, and that a hart which is not
//! right in one thing is found out.
#![allow(unsafe_code)] // gives vCPUs their memory

use axvcpu::{AxResult, AxVCpuExitReason as Exit};
use axvcpu_cli::hal::LinuxHal;
use axvcpu_cli::memory::GuestRam;
use axvcpu_differential::trial::{
    Action, Coverage, Difference, Machine, SIZE, Side, State, Trial, WORDS, follow, name,
};
use axvcpu_soft::{Clock, SoftConfig, SoftVCpu, VirtualClock};

const EXITS: usize = 150;

type Soft = Machine<SoftVCpu<LinuxHal>>;

fn visit(arch: &SoftVCpu<LinuxHal>, f: &mut dyn FnMut(u64)) -> AxResult {
    arch.visit_state(f);
    Ok(())
}

/// A software hart with memory. The memory is dropped last.
struct Hart {
    machine: Soft,
    _ram: GuestRam,
}

fn hart() -> Hart {
    let ram = GuestRam::new(SIZE).unwrap();
    let config = SoftConfig::new(Clock::Instructions(VirtualClock::new()));
    // SAFETY: the memory is new, aligned to a large page, and dropped after the machine.
    let machine = unsafe { Machine::new(config, ram.host_address(), visit, || {}) }.unwrap();
    Hart { machine, _ram: ram }
}

/// Kinds of actions.
type Which = fn(&Action) -> bool;

/// What a hart does wrong.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// A bit of a word of the state, seen at an exit.
    Seen { exit: usize, word: usize, bit: u32 },
    /// A register, in fact.
    Register { exit: usize, number: usize },
    /// A bit of memory, in fact.
    Memory { exit: usize, at: usize },
    /// The exit is told as another.
    Exit { exit: usize },
    /// All of the hypervisor's actions of a kind are forgotten.
    Forgets(Which),
    /// The run after an exit does not end.
    Hangs { exit: usize },
}

struct Faulty {
    hart: Hart,
    fault: Fault,
    exits: usize,
    forgot: bool,
}

impl Faulty {
    fn is(&self, exit: usize) -> bool {
        self.exits == exit + 1
    }
}

impl Side for Faulty {
    fn start(&mut self, entry: u64) -> Result<(), String> {
        self.hart.machine.start(entry)
    }

    fn run(&mut self) -> Result<Option<Exit>, String> {
        let exit = self.hart.machine.run()?;
        self.exits += 1;
        match self.fault {
            Fault::Register { exit, number } if self.is(exit) => {
                let value = self.hart.machine.state()?.0[number];
                self.hart.machine.act(Action::Register(number, value ^ 1 << 40))?;
            }
            Fault::Memory { exit, at } if self.is(exit) => self.hart.machine.memory()[at] ^= 4,
            Fault::Exit { exit } if self.is(exit) => return Ok(Some(Exit::SystemDown)),
            Fault::Hangs { exit } if self.is(exit) => return Ok(None),
            _ => {}
        }
        Ok(exit)
    }

    fn state(&self) -> Result<State, String> {
        let mut state = self.hart.machine.state()?;
        match self.fault {
            Fault::Seen { exit, word, bit } if self.is(exit) => state.0[word] ^= 1 << bit,
            _ => {}
        }
        Ok(state)
    }

    fn memory(&mut self) -> &mut [u8] {
        self.hart.machine.memory()
    }

    fn act(&mut self, action: Action) -> Result<(), String> {
        match (self.fault, action) {
            (Fault::Forgets(which), action) if which(&action) => self.forgot = true,
            _ => self.hart.machine.act(action)?,
        }
        Ok(())
    }
}

fn faulty(fault: Fault) -> Faulty {
    Faulty { hart: hart(), fault, exits: 0, forgot: false }
}

fn found(seed: u64, fault: Fault) -> Option<Difference> {
    let trial = Trial::new(seed, EXITS).unwrap();
    follow(&trial, &mut hart().machine, &mut faulty(fault), |_| false, &mut Coverage::default())
        .unwrap()
}

#[test]
fn everything_happens_and_two_software_harts_agree() {
    let mut coverage = Coverage::default();
    let (mut first, mut second) = (hart(), hart());
    for seed in 0..120 {
        let trial = Trial::new(seed, EXITS).unwrap();
        let result =
            follow(&trial, &mut first.machine, &mut second.machine, |_| false, &mut coverage);
        let difference = result.unwrap().map(|difference| difference.text);
        assert_eq!(difference, None, "seed {seed}");
    }
    println!("{}", coverage.text());
    coverage.check().unwrap();
}

#[test]
fn every_bit_of_the_state_is_compared_at_every_exit() {
    for (index, exit) in (0..WORDS).zip((0..40).cycle()) {
        let fault = Fault::Seen { exit, word: index, bit: 1 + index as u32 % 12 };
        let Some(difference) = found(index as u64, fault) else {
            panic!("{fault:?} is not found");
        };
        assert_eq!(difference.exit, exit, "{fault:?}: {}", difference.text);
        assert!(difference.text.contains(&format!("{}: expected ", name(index))));
    }
}

#[test]
fn a_register_that_is_wrong_is_found() {
    for number in 1..32 {
        let difference = found(5, Fault::Register { exit: 20, number }).expect("a difference");
        assert_eq!(difference.exit, 20, "{}", difference.text);
        assert!(difference.text.contains(&format!("x{number}: expected ")));
    }
}

#[test]
fn memory_that_is_wrong_is_found() {
    for at in (0..SIZE).step_by(4000) {
        let difference = found(6, Fault::Memory { exit: 10, at }).expect("a difference");
        assert_eq!(difference.exit, 10, "{}", difference.text);
        assert!(difference.text.contains("memory 0x8"), "{}", difference.text);
    }
}

#[test]
fn another_exit_or_none_is_found() {
    let difference = found(7, Fault::Exit { exit: 3 }).expect("a difference");
    assert_eq!(difference.exit, 3);
    assert!(difference.text.contains("found    SystemDown"), "{}", difference.text);
    let difference = found(7, Fault::Hangs { exit: 4 }).expect("a difference");
    assert_eq!(difference.exit, 4);
    assert!(difference.text.contains("found    none"), "{}", difference.text);
}

/// Of each kind of action: a hart to which it does not come is found out, within a few trials.
#[test]
fn actions_that_are_forgotten_are_found() {
    let kinds: [(&str, Which); 10] = [
        ("answer", |action| matches!(action, Action::Answer(_))),
        ("fail", |action| matches!(action, Action::Fail)),
        ("retry", |action| matches!(action, Action::Retry)),
        ("inject", |action| matches!(action, Action::Inject(_))),
        ("line", |action| matches!(action, Action::Line(_))),
        ("register", |action| matches!(action, Action::Register(..))),
        ("map", |action| matches!(action, Action::Map(..))),
        ("tell", |action| matches!(action, Action::Tell(..))),
        ("table", |action| matches!(action, Action::Table(..))),
        ("instruction", |action| matches!(action, Action::Instruction(..))),
    ];
    for (kind, which) in kinds {
        let result = (0..20).find_map(|seed| {
            let trial = Trial::new(seed, EXITS).unwrap();
            let mut second = faulty(Fault::Forgets(which));
            // A vCPU that was not answered cannot be run: that is a difference too.
            follow(&trial, &mut hart().machine, &mut second, |_| false, &mut Coverage::default())
                .unwrap()
                .filter(|_| second.forgot)
        });
        assert!(result.is_some(), "without '{kind}' nothing differs");
    }
}

/// What is printed is enough to see what has happened: exits before it, what was done, and the instructions.
#[test]
fn a_difference_can_be_read_and_made_short() {
    let fault = Fault::Seen { exit: 60, word: 68, bit: 5 };
    let trial = Trial::new(11, EXITS).unwrap();
    let difference = found(11, fault).expect("a difference");
    assert!(difference.text.lines().count() > 6, "{}", difference.text);
    assert!(difference.text.contains("sip: expected "), "{}", difference.text);
    assert!(difference.text.contains("mode at 0x"), "{}", difference.text);
    let mut short = trial.clone();
    short.exits = difference.exit + 1;
    let differs = |trial: &Trial| {
        let result = follow(
            trial,
            &mut hart().machine,
            &mut faulty(fault),
            |_| false,
            &mut Coverage::default(),
        );
        result.map(|difference| difference.is_some())
    };
    let shrunk = short.shrink(differs).unwrap();
    assert!(shrunk.steps() < trial.steps() / 4, "{} of {}", shrunk.steps(), trial.steps());
    assert!(differs(&shrunk).unwrap());
}
