//! A RISC-V machine in software.

use std::sync::Arc;

use axvcpu_soft::{Clock as SoftClock, SoftConfig, SoftVCpu, VirtualClock};
use axvcpu_vmm::riscv::{RiscvVm, RiscvVmConfig};
use axvcpu_vmm::summary::Repeatable;
use axvcpu_vmm::{ConsoleSink, CpuStats, Outcome};

use super::{Board, refused};
use crate::args::{Clock, Run};
use crate::files::Kernel;
use crate::fingerprint::Fingerprint;
use crate::hal::{LinuxHal, monotonic_ns};
use crate::host::{Host, random};
use crate::memory::GuestRam;
use crate::report::Failure;
use crate::touched::{PAGE, Touched};

/// Linux on RISC-V cuts longer command lines off (its `COMMAND_LINE_SIZE`, with a NUL at the end).
const COMMAND_LINE: usize = 1023;

/// The seed of a run that is to be repeatable.
const FIXED_SEED: u64 = 0x4178_5643_7075_2121;

/// The machine.
pub(super) struct Soft {
    vm: RiscvVm<SoftVCpu<LinuxHal>>,
    /// `None`: guest time is the host's.
    clock: Option<Arc<VirtualClock>>,
}

impl Soft {
    pub(super) fn new(
        args: &Run,
        kernel: &Kernel,
        initrd: Option<&[u8]>,
        ram: GuestRam,
        console: Arc<dyn ConsoleSink>,
    ) -> Result<Self, Failure> {
        if args.append.len() > COMMAND_LINE {
            return Err(Failure::Usage(format!(
                "--append has {} bytes, but Linux reads no more than {COMMAND_LINE}; shorten it",
                args.append.len()
            )));
        }
        let (clock, soft_clock, seed) = match args.clock {
            Clock::Host => (None, SoftClock::Host(monotonic_ns), random()),
            Clock::Instructions => {
                let clock = VirtualClock::new();
                (Some(Arc::clone(&clock)), SoftClock::Instructions(clock), Some(FIXED_SEED))
            }
        };
        let config = RiscvVmConfig {
            cpus: args.cpus.into(),
            isa: axvcpu_soft::ISA,
            mmu_type: axvcpu_soft::MMU_TYPE,
            timebase: 1_000_000_000 / axvcpu_soft::NS_PER_TICK,
            kernel: &kernel.file,
            initrd,
            bootargs: &args.append,
            seed,
            ..Default::default()
        };
        let create = |_| SoftConfig::new(soft_clock.clone());
        let vm = RiscvVm::new(&config, Box::new(ram), console, create, |_| ());
        Ok(Self { vm: vm.map_err(|error| refused(args, error))?, clock })
    }

    /// The final state: every vCPU's registers, and all memory.
    fn fingerprint(&self) -> u64 {
        let mut fingerprint = Fingerprint::new();
        for cpu in self.vm.cpus() {
            // A vCPU that failed has no state any more, which is a state as well.
            let _ =
                cpu.vcpu().with_arch(|arch| arch.visit_state(|value| fingerprint.number(value)));
        }
        let memory = self.vm.memory();
        let touched = Touched::open();
        let mut content = [0; PAGE as usize];
        for (range, host) in memory.mappings() {
            touched.for_each(host.as_u64(), range.size / PAGE, |page| {
                let addr = range.base + page * PAGE;
                if memory.read(addr, &mut content).is_ok() {
                    fingerprint.page(addr, &content);
                }
            });
        }
        fingerprint.value()
    }
}

impl Board for Soft {
    fn backend(&self) -> &'static str {
        "soft"
    }

    fn threads(&self) -> usize {
        if self.clock.is_some() { 1 } else { self.vm.cpus().len() }
    }

    fn run(&self, thread: usize) -> Result<(), String> {
        let host = Host::new(self.clock.clone()).map_err(|error| error.to_string())?;
        match self.clock {
            None => self.vm.run_vcpu(thread, &host),
            Some(_) => self.vm.run_in_turn(&host),
        };
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

    fn instructions(&self) -> Option<Vec<u64>> {
        let count = |cpu: &axvcpu_vmm::Cpu<SoftVCpu<LinuxHal>>| {
            cpu.vcpu().with_arch(|arch| arch.instructions()).unwrap_or_default()
        };
        Some(self.vm.cpus().iter().map(count).collect())
    }

    fn repeatable(&self) -> Option<Repeatable> {
        let clock = self.clock.as_ref()?;
        Some(Repeatable { guest_ns: clock.now_ns(), state: self.fingerprint() })
    }
}
