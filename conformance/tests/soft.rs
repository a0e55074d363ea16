//! The software backend keeps the contract.

mod platform;
mod usage;
mod watch;

use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::{Duration, Instant};

use axvcpu::AxResult;
use axvcpu_conformance::{Report, Subject, riscv, run_per_cpu};
use axvcpu_soft::{Clock, SoftConfig, SoftPerCpu, SoftVCpu, VirtualClock};
use platform::Threads;

fn now_ns() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed().as_nanos() as u64
}

enum Soft {
    HostClock,
    InstructionClock(Arc<VirtualClock>),
}

impl riscv::Subject for Soft {}

impl Subject for Soft {
    type Arch = SoftVCpu<Threads>;
    type Machine = ();

    fn name(&self) -> &str {
        match self {
            Self::HostClock => "soft, host clock",
            Self::InstructionClock(_) => "soft, instruction clock",
        }
    }
    fn machine(&self) -> AxResult {
        Ok(())
    }
    fn create_config(&self, (): &()) -> AxResult<SoftConfig> {
        Ok(SoftConfig::new(match self {
            Self::HostClock => Clock::Host(now_ns),
            Self::InstructionClock(clock) => Clock::Instructions(clock.clone()),
        }))
    }
    fn setup_config(&self) {}
    fn sleep(&self, ns: u64) {
        match self {
            Self::HostClock => thread::sleep(Duration::from_nanos(ns)),
            Self::InstructionClock(clock) => {
                clock.advance_to_ns(clock.now_ns() + ns);
            }
        }
    }
    fn look_again(looks: u64) -> bool {
        thread::yield_now();
        looks < 5_000_000
    }
    fn without_virtualization(&self, f: &mut dyn FnMut()) -> bool {
        f(); // there is nothing to switch off
        true
    }
    fn pass() {
        thread::sleep(Duration::from_micros(100));
    }
    fn memory_in_use(&self) -> Option<usize> {
        Some(usage::bytes())
    }
    fn caches(&self) -> usize {
        8 << 20 // decoded blocks, and what they were decoded from
    }
    fn on_two_cpus(&self, here: &mut dyn FnMut(), there: &mut (dyn FnMut() + Send)) -> bool {
        thread::scope(|scope| {
            scope.spawn(there);
            here();
        });
        true
    }
}

fn check(subject: &Soft) {
    let watch = watch::Watch::start();
    let filter = std::env::var("CASES").unwrap_or_default();
    let report = riscv::run_matching(subject, &filter, |name| watch.case(name));
    drop(watch);
    judge(&report);
}

fn judge(report: &Report) {
    println!("\n{report}");
    assert!(report.is_passed(), "{} of the cases above failed", report.failed());
    assert_eq!(report.skipped(), 0, "cases skipped");
}

#[test]
fn on_the_host_clock() {
    check(&Soft::HostClock);
}

#[test]
fn on_the_instruction_clock() {
    check(&Soft::InstructionClock(VirtualClock::new()));
}

#[test]
fn per_cpu() {
    let report = run_per_cpu::<SoftPerCpu>("soft, a physical CPU", 0);
    println!("\n{report}");
    assert!(report.is_passed(), "{} of the cases above failed", report.failed());
    assert_eq!(report.to_string().lines().last(), Some("3 passed, 0 failed"));
}
