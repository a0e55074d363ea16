//! An x86-64 machine on Linux's KVM.

use std::sync::Arc;

use axvcpu_kvm::{Kvm, KvmConfig, KvmMachine, KvmSetup, KvmVCpu, MachineConfig};
use axvcpu_vmm::devices::IrqLine;
use axvcpu_vmm::x86::{X86Vm, X86VmConfig};
use axvcpu_vmm::{ConsoleSink, CpuStats, Outcome};

use super::{Board, refused};
use crate::args::{Clock, Run};
use crate::backends;
use crate::files::Kernel;
use crate::hal::LinuxHal;
use crate::host::{Host, random};
use crate::memory::GuestRam;
use crate::report::Failure;

/// The machine.
pub(super) struct OnKvm {
    vm: X86Vm<KvmVCpu<LinuxHal>>,
}

/// An input of the kernel's interrupt controllers.
struct Line {
    machine: Arc<KvmMachine>,
    number: u32,
}

impl IrqLine for Line {
    fn set(&self, asserted: bool) {
        // A line that exists in a machine that exists: the kernel does not refuse that.
        let _ = self.machine.set_line(self.number, asserted);
    }
}

impl OnKvm {
    pub(super) fn new(
        args: &Run,
        kernel: &Kernel,
        initrd: Option<&[u8]>,
        ram: GuestRam,
        console: Arc<dyn ConsoleSink>,
    ) -> Result<Self, Failure> {
        if args.clock != Clock::Host {
            let why = "--clock instructions needs a backend that counts them: --backend soft";
            return Err(Failure::Usage(why.into()));
        }
        let config = MachineConfig { cpus: args.cpus.into(), ..Default::default() };
        let machine = Kvm::open().and_then(|kvm| KvmMachine::new(kvm, &config));
        let machine = machine.map_err(|error| backends::no_kvm(&error))?;
        let config = X86VmConfig {
            cpus: args.cpus.into(),
            kernel: &kernel.file,
            initrd,
            bootargs: &args.append,
            seed: random(),
            ..Default::default()
        };
        let line =
            |number| -> Arc<dyn IrqLine> { Arc::new(Line { machine: machine.clone(), number }) };
        let create = |_| KvmConfig::new(machine.clone());
        // The kernel's local APICs hold the others until the guest starts them.
        let set_up = |cpu, start| if cpu == 0 { KvmSetup::Start(start) } else { KvmSetup::Wait };
        let vm = X86Vm::new(&config, Box::new(ram), console, line, create, set_up);
        Ok(Self { vm: vm.map_err(|error| refused(args, error))? })
    }
}

impl Board for OnKvm {
    fn backend(&self) -> &'static str {
        "kvm"
    }

    fn threads(&self) -> usize {
        self.vm.cpus().len()
    }

    fn run(&self, thread: usize) -> Result<(), String> {
        let host = Host::interruptible()?;
        self.vm.run_vcpu(thread, &host);
        Ok(())
    }

    fn stop(&self, outcome: Outcome) {
        self.vm.stop(outcome);
    }

    fn outcome(&self) -> Option<Outcome> {
        self.vm.outcome()
    }

    fn push_console_input(&self, bytes: &[u8]) -> usize {
        self.vm.push_console_input(bytes)
    }

    fn stats(&self) -> Vec<CpuStats> {
        self.vm.stats()
    }
}
