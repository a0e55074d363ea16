//! Putting an AArch64 machine together.

use alloc::boxed::Box;
use alloc::sync::Arc;

use axvcpu::AxArchVCpu;
use axvcpu_arm::gic::Forwarding;
use axvcpu_arm::stage2::{IPA40, Ipa};

use super::gic::{DISTRIBUTOR_SIZE, Gic, REDISTRIBUTOR_SIZE, State};
use super::layout::{
    DISTRIBUTOR_BASE, RAM_BASE, REDISTRIBUTOR_BASE, UART_BASE, UART_INTID, UART_SIZE,
};
use super::psci::Psci;
use super::{fdt, image};
use crate::devices::{Pl011, Unconnected};
use crate::fdt::Boot;
use crate::machine::{BuildError, CpuPlan, make_memory, place_files};
use crate::{Bus, ConsoleSink, RamBacking, Vm};

/// An AArch64 machine: CPUs at EL1, PSCI firmware, an interrupt controller and a serial port.
pub type ArmVm<A> = Vm<A, Psci>;

/// The most CPUs a machine can have.
pub const MAX_CPUS: usize = 64;

/// The largest device tree that kernels take.
const MAX_TREE: usize = 2 << 20;

/// What a machine is made of.
#[derive(Clone, Copy, Debug)]
pub struct ArmVmConfig<'a> {
    /// The machine's number, for the host's own use.
    pub vm_id: usize,
    /// How many CPUs, 1 to [`MAX_CPUS`].
    pub cpus: usize,
    /// The size of the guest's physical address space, one that the host's CPUs can do.
    pub stage2: Ipa,
    /// The kernel: a Linux `Image`, an ELF program, or a flat binary that is loaded 2 MiB into memory.
    pub kernel: &'a [u8],
    /// The initial file system for a Linux kernel.
    pub initrd: Option<&'a [u8]>,
    /// The kernel's command line.
    pub bootargs: &'a str,
    /// If given, the guest gets random seeds made from it, so that it need not wait for entropy. The same
    /// number makes the same seeds.
    pub seed: Option<u64>,
}

impl Default for ArmVmConfig<'_> {
    fn default() -> Self {
        Self {
            vm_id: 0,
            cpus: 1,
            stage2: IPA40,
            kernel: &[],
            initrd: None,
            bootargs: "",
            seed: None,
        }
    }
}

impl<A: AxArchVCpu + Send> ArmVm<A> {
    /// Makes a machine whose memory is `ram`, which the host has zeroed, with everything loaded and CPU 0 about to
    /// start. `create` and `set_up` say with what each vCPU is made, `create` out of what its CPU interface has to
    /// know; it prefers the physical CPU of its own number.
    pub fn new(
        config: &ArmVmConfig<'_>,
        ram: Box<dyn RamBacking>,
        console: Arc<dyn ConsoleSink>,
        mut create: impl FnMut(usize, Arc<dyn Forwarding>) -> A::CreateConfig,
        set_up: impl FnMut(usize) -> A::SetupConfig,
    ) -> Result<Self, BuildError> {
        let ArmVmConfig { vm_id, cpus, stage2: format, .. } = *config;
        let plan = CpuPlan { vm_id, cpus, most: MAX_CPUS, format };
        plan.check()?;
        let (memory, ram) = make_memory::<A>(RAM_BASE, ram)?;
        let kernel = image::load_kernel(&memory, ram, config.kernel).map_err(BuildError::Kernel)?;
        let dtb = place_files(&memory, ram, kernel, config.initrd, |initrd| {
            let ArmVmConfig { bootargs, seed, .. } = *config;
            let boot = Boot { ram, bootargs, initrd, seed };
            let tree = fdt::build(&fdt::Machine { cpus, boot })?;
            if tree.len() > MAX_TREE {
                let what = "kernels take 2 MiB at most; the command line is too long";
                return Err(BuildError::DeviceTree(what.into()));
            }
            Ok(tree)
        })?;
        let memory = Arc::new(memory);
        let state = State::new(cpus);
        let create = |cpu| create(cpu, state.forwarding(cpu));
        let all = Arc::new(plan.make(&memory, |_| kernel.entry, create, set_up)?);

        let gic = Arc::new(Gic::new(state, all.clone()));
        let irq = gic.line(UART_INTID).unwrap_or_else(|| Arc::new(Unconnected));
        let uart = Arc::new(Pl011::new(console.clone(), irq));
        let redistributors = REDISTRIBUTOR_SIZE * cpus as u64;
        let mut bus = Bus::new();
        for (base, size, device) in [
            (DISTRIBUTOR_BASE, DISTRIBUTOR_SIZE, gic.distributor()),
            (REDISTRIBUTOR_BASE, redistributors, gic.redistributors()),
            (UART_BASE, UART_SIZE, uart.clone()),
        ] {
            bus.add(base, size, device).map_err(BuildError::Device)?;
        }

        if let Some(first) = all.get(0) {
            // It was made a moment ago, and is off.
            let _ = first.start(kernel.entry, dtb);
        }
        Ok(Self::assemble(all, memory, bus, Bus::new(), Psci::new(uart), console))
    }

    /// Sends `bytes` to the guest's console. Answers how many of them there was room for; if not all,
    /// [`ConsoleSink::input_wanted`] tells when there is more.
    pub fn push_console_input(&self, bytes: &[u8]) -> usize {
        self.firmware.uart().push_input(bytes)
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
