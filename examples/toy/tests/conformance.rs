//! The toy backend keeps the contract, and the suite notices when it does not.

mod cases;
mod guests;
mod least;
#[path = "../../../conformance/tests/platform/mod.rs"]
mod platform;
#[path = "../../../conformance/tests/watch/mod.rs"]
mod watch;

use std::thread;

use axvcpu::AxResult;
use axvcpu_conformance::{Outcome, Report, Subject, generic, run_per_cpu};
use axvcpu_riscv::paging::Mode;
use axvcpu_toy::{FORMAT, Mistake, ToyPerCpu, ToyVCpu};
use guests::Toy;
use platform::Threads;

/// The backend with a mistake, or without.
struct Backend(Option<Mistake>);

impl Subject for Backend {
    type Arch = ToyVCpu<Threads>;
    type Machine = ();

    fn name(&self) -> &str {
        "toy"
    }
    fn machine(&self) -> AxResult {
        Ok(())
    }
    fn create_config(&self, (): &()) -> AxResult<Option<Mistake>> {
        Ok(self.0)
    }
    fn setup_config(&self) {}
    fn sleep(&self, _: u64) {} // guests have no time
    fn look_again(looks: u64) -> bool {
        thread::yield_now();
        looks < 1_000_000
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

fn run(backend: &Backend, filter: &str) -> Report {
    let watch = watch::Watch::start();
    generic::run_matching(backend, filter, |name| watch.case(name))
}

#[test]
fn toy() {
    let report = run(&Backend(None), "");
    println!("\n{report}");
    assert!(report.is_passed(), "{} of the cases above failed", report.failed());
    assert_eq!(report.skipped(), 0, "cases skipped");
}

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
    assert_eq!((lacks("the backend"), lacks("needs a second"), lacks("")), (9, 10, 19), "{report}");
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
    let report = generic::run_cases(&Backend(None), cases::CASES, "", |_| ());
    println!("\n{report}");
    assert!(report.is_passed(), "{} of the cases above failed", report.failed());
}

#[test]
fn per_cpu() {
    let report = run_per_cpu::<ToyPerCpu>("toy, a physical CPU", 0);
    println!("\n{report}");
    assert!(report.is_passed(), "{} of the cases above failed", report.failed());
}

/// Each mistake, and the cases that find it.
const FOUND: &[(Mistake, &[&str])] = &[
    (
        Mistake::ForgetsStage2Fence,
        &[
            "fence: memory taken away from stage 2",
            "fence: write permission taken away in stage 2",
            "fence: execute permission taken away in stage 2",
            "fence: another page behind the same address",
            "fence: a running guest stops using a page",
            "migration: pages are exchanged between two CPUs",
        ],
    ),
    (Mistake::ForgetsInstructionFence, &["fence: the host writes instructions"]),
    (Mistake::LosesInterrupts, &["interrupt: several at once, each of them is taken"]),
    (Mistake::IgnoresTheWidth, &["mmio: loads of every width into every register"]),
    (
        Mistake::GoesOnWithoutTheAnswer,
        &[
            "mmio: loads of every width into every register",
            "answer: entering without it is refused",
        ],
    ),
    (Mistake::SleepsThroughInterrupts, &["interrupt: the wait does not halt while one is pending"]),
    (Mistake::DoesNotRetryStores, &["retry: a store to memory that was mapped meanwhile"]),
    (
        Mistake::FailsSilently,
        &["fail: loads and stores become traps", "fail: a fetch becomes a trap"],
    ),
    (Mistake::ResetKeepsInterrupts, &["life: reset forgets interrupts and the open exit"]),
    (Mistake::IgnoresPermissions, &["fault: memory that may only be read"]),
];

#[test]
fn mistakes_are_found() {
    for &(mistake, cases) in FOUND {
        for name in cases {
            let report = run(&Backend(Some(mistake)), name);
            let [case] = report.cases() else { panic!("{name}: not the name of one case") };
            let Outcome::Failed(failure) = &case.outcome else {
                panic!("{mistake:?} is not found by the case `{name}`");
            };
            println!("{mistake:?}: {name}: {failure}");
        }
    }
}
