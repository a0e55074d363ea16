//! Linux's KVM keeps the contract, where it is.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod usage;
mod watch;

use std::io::Write;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use axvcpu::{AxError, AxResult};
use axvcpu_cli::hal::{Cpu, LinuxHal};
use axvcpu_conformance::{Subject, run_per_cpu, x86};
use axvcpu_kvm::{
    Irqchip, Kvm, KvmConfig, KvmMachine, KvmPerCpu, KvmSetup, KvmVCpu, MachineConfig,
};
use axvcpu_x86::start::Start;

/// Machines without interrupt controllers of the kernel's: what is between a vCPU and its interrupts is the backend.
struct OnKvm;

impl Subject for OnKvm {
    type Arch = KvmVCpu<LinuxHal>;
    type Machine = Arc<KvmMachine>;

    fn name(&self) -> &str {
        "kvm"
    }
    fn machine(&self) -> AxResult<Arc<KvmMachine>> {
        let config = MachineConfig { cpus: 4, irqchip: Irqchip::None, ..Default::default() };
        let machine = Kvm::open().and_then(|kvm| KvmMachine::new(kvm, &config));
        machine.map_err(|error| AxError::from(&error))
    }
    fn create_config(&self, machine: &Arc<KvmMachine>) -> AxResult<KvmConfig> {
        Ok(KvmConfig::new(machine.clone()))
    }
    fn setup_config(&self) -> KvmSetup {
        KvmSetup::Start(Start::REAL)
    }
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
        thread::scope(|scope| {
            scope.spawn(|| {
                let _cpu = cpu();
                there();
            });
            here();
        });
        true
    }
    fn pass() {
        thread::sleep(Duration::from_micros(100));
    }
    fn memory_in_use(&self) -> Option<usize> {
        Some(usage::bytes()) // what the kernel has taken it does not say
    }
    fn crowd(&self) -> usize {
        10 // the kernel tells translations apart, for all machines there are
    }
}

impl x86::Subject for OnKvm {
    fn setup_for(&self, start: Start) -> KvmSetup {
        KvmSetup::Start(start)
    }
    fn enforces_execute(&self) -> bool {
        false // memory slots cannot say it
    }
    fn reports_walks(&self) -> bool {
        false
    }
    fn has_hypercalls(&self) -> bool {
        false // the kernel answers them
    }
    fn emulates(&self) -> bool {
        true
    }
}

/// The calling thread as a physical CPU that can be kicked.
fn cpu() -> Cpu {
    Cpu::register().expect("a CPU").interruptible().expect("signals")
}

// The tests have a name in common by which whoever tests backends that need nothing of the machine leaves them out.

/// Whether there is a KVM; says so if not.
fn is_here() -> bool {
    match Kvm::open() {
        Ok(_) => true,
        Err(error) => {
            // Past the harness, which shows what a test prints only if it fails.
            let _ = writeln!(std::io::stdout(), "\n  kvm: all cases  skipped: {error}");
            false
        }
    }
}

#[test]
fn kvm_without_interrupt_controllers() {
    if !is_here() {
        return;
    }
    let _cpu = cpu();
    let watch = watch::Watch::start();
    let filter = std::env::var("CASES").unwrap_or_default();
    let report = x86::run_matching(&OnKvm, &filter, |name| watch.case(name));
    drop(watch);
    println!("\n{report}");
    assert!(report.is_passed(), "{} of the cases above failed", report.failed());
}

#[test]
fn kvm_per_cpu() {
    if !is_here() {
        return;
    }
    let report = run_per_cpu::<KvmPerCpu>("kvm, a thread", 0);
    println!("\n{report}");
    assert!(report.is_passed(), "{} of the cases above failed", report.failed());
}
