//! The toy backend keeps the contract, and the suite notices when it does not.

mod cases;
mod guests;
mod least;
mod mistakes;
#[path = "../../../conformance/tests/platform/mod.rs"]
mod platform;
#[path = "../../../conformance/tests/watch/mod.rs"]
mod watch;

use std::thread;

use axvcpu::AxResult;
use axvcpu_conformance::{Outcome, Report, Subject, generic, run_per_cpu};
use axvcpu_riscv::paging::Mode;
use axvcpu_toy::{FORMAT, ToyPerCpu, ToyVCpu};
use guests::Toy;
use mistakes::Mistake;
use platform::Threads;

// ANCHOR: subject
/// The backend on threads, each of which is a physical CPU.
struct Backend;

impl Subject for Backend {
    type Arch = ToyVCpu<Threads>;
    type Machine = ();

    fn name(&self) -> &str {
        "toy"
    }
    fn machine(&self) -> AxResult {
        Ok(())
    }
    fn create_config(&self, (): &()) -> AxResult {
        Ok(())
    }
    fn setup_config(&self) {}
    fn sleep(&self, _: u64) {} // guests have no time
    fn look_again(looks: u64) -> bool {
        thread::yield_now();
        looks < 1_000_000
    }
    fn without_virtualization(&self, f: &mut dyn FnMut()) -> bool {
        f(); // there is nothing to switch off
        true
    }
    fn on_two_cpus(&self, here: &mut dyn FnMut(), there: &mut (dyn FnMut() + Send)) -> bool {
        thread::scope(|scope| {
            scope.spawn(there);
            here();
        });
        true
    }
}

impl generic::Subject for Backend {
    type Guests = Toy;
}

impl generic::GuestsOf<Backend> for Toy {
    fn format(_: &Backend) -> Mode {
        FORMAT
    }
}
// ANCHOR_END: subject

// ANCHOR: run
fn run(subject: &impl generic::Subject, filter: &str) -> Report {
    let watch = watch::Watch::start();
    generic::run_matching(subject, filter, |name| watch.case(name))
}

#[test]
fn toy() {
    let report = run(&Backend, "");
    println!("\n{report}");
    assert!(report.is_passed(), "{} of the cases above failed", report.failed());
    assert_eq!(report.skipped(), 0, "cases skipped");
}
// ANCHOR_END: run

/// Not printed: what is skipped deliberately is nothing that anybody has to know of.
#[test]
fn least() {
    let report = generic::run(&least::Backend::<false>);
    assert!(report.is_passed(), "{report}");
    let lacks = |reason: &str| {
        let skipped =
            |outcome: &Outcome| matches!(outcome, Outcome::Skipped(r) if r.starts_with(reason));
        report.cases().iter().filter(|case| skipped(&case.outcome)).count()
    };
    assert_eq!(
        (lacks("the backend"), lacks("needs a second"), lacks("")),
        (11, 13, 26),
        "{report}"
    );
}

/// Cases about one thing that a backend need not have do without the others.
#[test]
fn least_that_resets() {
    let report = generic::run_matching(&least::Backend::<true>, "reset", |_| ());
    assert!(report.is_passed(), "{report}");
    assert!(report.passed() > 0, "{report}");
}

#[test]
fn own_cases() {
    let report = generic::run_cases(&Backend, cases::CASES, "", |_| ());
    println!("\n{report}");
    assert!(report.is_passed(), "{} of the cases above failed", report.failed());
}

#[test]
fn per_cpu() {
    let report = run_per_cpu::<ToyPerCpu>("toy, a physical CPU", 0);
    println!("\n{report}");
    assert!(report.is_passed(), "{} of the cases above failed", report.failed());
}

/// What is the platform's.
const THE_PLATFORMS: &str = "cpu: each has a number and a current vCPU of its own";

/// Cases that no mistake of a backend's can be put before. What they are about is kept by the core, as its own tests show;
/// or, the last one, it is between the interpreter and memory.
const NOBODYS: [&str; 4] = [
    "life: the current vCPU is none between calls",
    "kick: before a run, nothing is executed",
    "kick: between runs, and while blocked",
    "running: additions of two vCPUs all count",
];

/// Each mistake, and cases that find it.
const FOUND: &[(Mistake, &[&str])] = &[
    (Mistake::RunsOutOfNumbers, &["isolation: vCPUs of two machines come and go"]),
    (Mistake::IgnoresSetEntry, &["life: set_entry moves the guest"]),
    (Mistake::SetEntryKeepsTheStore, &["life: set_entry ends what the last exit left open"]),
    (Mistake::HasARegisterTooMany, &["life: all registers can be written, and read if at all"]),
    (Mistake::DropsRegistersBeforeTheAnswer, &["answer: other registers can be written first"]),
    (Mistake::SharesARegister, &["isolation: two vCPUs on one CPU have registers of their own"]),
    (Mistake::StaysOnTheCpu, &["life: dropped while bound, in every state"]),
    (
        Mistake::UnbindDropsRegisters,
        &[
            "life: unbinding between exits changes nothing",
            "migration: registers move between two CPUs",
            "unplug: vCPUs outlive a CPU that is switched off and on",
            "unplug: a vCPU goes on elsewhere while its CPU is off",
        ],
    ),
    (
        Mistake::UnbindDropsInterrupts,
        &["interrupt: stays pending while the vCPU is bound to no CPU"],
    ),
    (Mistake::UnbindForgetsTheAccess, &["life: an unanswered exit survives unbinding"]),
    (Mistake::ResetDoesNothing, &["life: reset starts the guest afresh"]),
    (Mistake::ResetGoesToTheLastEntry, &["life: reset goes back to the entry of the setup"]),
    (Mistake::ResetKeepsInterrupts, &["life: reset forgets interrupts and the open exit"]),
    (
        Mistake::LosesTheAnswer,
        &[
            "mmio: loads of every width into every register",
            "answer: entering without it is refused",
            "block: the hypervisor waits, and is woken",
        ],
    ),
    (Mistake::AnswersTwoRegisters, &["mmio: a load changes its register only"]),
    (Mistake::ReportsWholeRegisters, &["mmio: stores of every width from every register"]),
    (
        Mistake::SwallowsStores,
        &["mmio: stores of every width from every register", "fault: memory that may only be read"],
    ),
    (
        Mistake::CallsFaultsReads,
        &[
            "answer: nothing that did not ask takes one",
            "fault: an atomic repeats until memory is there",
            "fault: memory that may not be executed",
        ],
    ),
    (
        Mistake::AnswersInsteadOfRetrying,
        &[
            "retry: a load from memory that was mapped meanwhile",
            "retry: without a change the exit comes again",
        ],
    ),
    (Mistake::DoesNotRetryStores, &["retry: a store to memory that was mapped meanwhile"]),
    (Mistake::RefusesToRetryFaults, &["retry: after a nested page fault it changes nothing"]),
    (
        Mistake::FailsSilently,
        &["fail: loads and stores become traps, or find nobody", "fail: a fetch becomes a trap"],
    ),
    (Mistake::FailsAnything, &["fail: nothing to fail or to retry"]),
    (
        Mistake::ForgetsStage2Fence,
        &[
            "fence: memory taken away from stage 2",
            "fence: write permission taken away in stage 2",
            "fence: execute permission taken away in stage 2",
            "fence: another page behind the same address",
            "fence: a running guest stops using a page",
            "migration: pages are exchanged between two CPUs",
            "unplug: vCPUs outlive a CPU that is switched off and on",
        ],
    ),
    (Mistake::ForgetsInstructionFence, &["fence: the host writes instructions"]),
    (Mistake::LosesInterrupts, &["interrupt: several at once, each of them is taken"]),
    (
        Mistake::LosesFewInterrupts,
        &[
            "running: an interrupt from another CPU goes in at once",
            "running: interrupts from another CPU to a halting guest",
            "running: interrupts between two vCPUs on two CPUs",
        ],
    ),
    (Mistake::TakesInterruptsTwice, &["interrupt: stays pending until enabled, and is taken once"]),
    (Mistake::InterruptsTakeARegister, &["running: interrupts leave the guest's registers alone"]),
    (Mistake::WaitsForTheHalt, &["interrupt: the wait does not halt while one is pending"]),
    (Mistake::SwallowsUnknownVectors, &["interrupt: one that there is not is refused alone"]),
    (
        Mistake::NeverHalts,
        &[
            "life: every state, and what is refused in it",
            "interrupt: ends the wait of a blocked vCPU",
            "wake: kept for the next halt, once",
            "wake: from another CPU races with the halt",
        ],
    ),
    (
        Mistake::HaltsWhenKicked,
        &[
            "kick: from another CPU ends every run",
            "kick: ends the run of a guest that only traps",
            "running: everything that needs the backend is refused",
        ],
    ),
];

/// What is said of the case with this name, which fails on this subject.
fn failure(subject: &impl generic::Subject, name: &str) -> String {
    let report = run(subject, name);
    let [case] = report.cases() else { panic!("{name}: not the name of one case") };
    match &case.outcome {
        Outcome::Failed(failure) => failure.to_string(),
        found => panic!("{}: the case `{name}` finds nothing: {found:?}", report),
    }
}

#[test]
fn mistakes_are_found() {
    for &(mistake, cases) in FOUND {
        for name in cases {
            println!("{mistake:?}: {name}: {}", failure(&mistakes::Backend(mistake), name));
        }
    }
}

#[test]
fn mistakes_of_platforms_are_found() {
    use mistakes::platform::On;
    let number = failure(&On::<true, false>, THE_PLATFORMS);
    assert!(number.contains("number"), "{number}");
    let word = failure(&On::<false, true>, THE_PLATFORMS);
    assert!(word.contains("current vCPU"), "{word}");
}

#[test]
fn each_case_finds_a_mistake() {
    for case in run(&Backend, "").cases() {
        let finds = FOUND.iter().filter(|(_, cases)| cases.contains(&case.name)).count();
        let exempt = case.name == THE_PLATFORMS || NOBODYS.contains(&case.name);
        assert!((finds > 0) != exempt, "{finds} mistakes are found by the case `{}`", case.name);
    }
}
