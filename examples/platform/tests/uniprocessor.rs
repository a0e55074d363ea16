//! One physical CPU. All of it is one test: a second one would be a second thread, and so a second CPU.

mod suite;

use axvcpu::AxVCpuHal;
use axvcpu_example_platform::{OneCpu, handled, raise};

#[test]
fn everything_on_one_cpu() {
    interrupts_are_dispatched_and_over();
    the_suite();
}

// ANCHOR: interrupts
fn interrupts_are_dispatched_and_over() {
    raise(5);
    raise(9);
    assert_eq!(OneCpu::irq_fetch(), 5);
    assert_eq!(OneCpu::irq_fetch(), 5, "asking does not take it");
    OneCpu::irq_hanlder();
    assert_eq!((handled(5), handled(9)), (1, 1));
    OneCpu::irq_hanlder();
    assert_eq!((handled(5), handled(9)), (1, 1), "dispatched once");
}
// ANCHOR_END: interrupts

// ANCHOR: suite
fn the_suite() {
    let report = suite::run::<OneCpu>(false);
    println!("{report}");
    assert!(report.is_passed(), "{} of the cases above failed", report.failed());
    assert_ne!(report.skipped(), 0, "there are cases about two CPUs");
}
// ANCHOR_END: suite
