//! The software hart on a platform, as a subject of the conformance suite.

// ANCHOR: subject
use std::marker::PhantomData;
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use axvcpu::{AxResult, AxVCpuHal};
use axvcpu_conformance::{Report, Subject, riscv};
use axvcpu_soft::{Clock, SoftConfig, SoftVCpu};

fn now_ns() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed().as_nanos() as u64
}

struct On<H> {
    /// Whether another thread may be another CPU.
    multiprocessor: bool,
    hal: PhantomData<H>,
}

impl<H: AxVCpuHal> Subject for On<H> {
    type Arch = SoftVCpu<H>;
    type Machine = ();

    fn name(&self) -> &str {
        "the software hart on the example platform"
    }

    fn machine(&self) -> AxResult {
        Ok(())
    }

    fn create_config(&self, (): &()) -> AxResult<SoftConfig> {
        Ok(SoftConfig::new(Clock::Host(now_ns)))
    }

    fn setup_config(&self) {}

    fn sleep(&self, ns: u64) {
        thread::sleep(Duration::from_nanos(ns));
    }

    fn look_again(looks: u64) -> bool {
        thread::yield_now();
        looks < 5_000_000
    }

    fn without_virtualization(&self, f: &mut dyn FnMut()) -> bool {
        f(); // there is nothing to switch off
        true
    }

    fn on_two_cpus(&self, here: &mut dyn FnMut(), there: &mut (dyn FnMut() + Send)) -> bool {
        if self.multiprocessor {
            thread::scope(|scope| {
                scope.spawn(there);
                here();
            });
        }
        self.multiprocessor
    }
}

impl<H: AxVCpuHal> riscv::Subject for On<H> {}

/// Holds the software hart on this platform to the contract.
pub(crate) fn run<H: AxVCpuHal>(multiprocessor: bool) -> Report {
    riscv::run(&On::<H> { multiprocessor, hal: PhantomData })
}
// ANCHOR_END: subject
