//! Putting a RISC-V machine together.

use alloc::boxed::Box;
use alloc::sync::Arc;

use axvcpu::AxArchVCpu;
use axvcpu_riscv::paging::{Mode, SV39X4};

use super::layout::{PLIC_BASE, RAM_BASE, UART_BASE, UART_IRQ, UART_SIZE};
use super::plic::{self, Plic};
use super::sbi::Sbi;
use super::{fdt, image};
use crate::devices::{Uart16550, Unconnected};
use crate::fdt::Boot;
use crate::machine::{BuildError, CpuPlan, make_memory, place_files};
use crate::{Bus, ConsoleSink, RamBacking, Vm};

/// A RISC-V machine: harts in S mode, SBI firmware, an interrupt controller and a serial port.
pub type RiscvVm<A> = Vm<A, Sbi>;

/// The most harts a machine can have.
pub const MAX_CPUS: usize = 512;

/// What a machine is made of.
#[derive(Clone, Copy, Debug)]
pub struct RiscvVmConfig<'a> {
    /// The machine's number, for the host's own use.
    pub vm_id: usize,
    /// How many harts, 1 to [`MAX_CPUS`].
    pub cpus: usize,
    /// What the harts can do, as an ISA string (`rv64imafdc_zicntr_sstc`).
    pub isa: &'a str,
    /// The largest translation mode of the harts: `riscv,sv39`, `riscv,sv48` or `riscv,sv57`.
    pub mmu_type: &'a str,
    /// The rate of the harts' `time` counter in ticks per second, from 1 to [`u32::MAX`].
    pub timebase: u64,
    /// The format of the stage-2 table.
    pub stage2_mode: Mode,
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

impl Default for RiscvVmConfig<'_> {
    fn default() -> Self {
        Self {
            vm_id: 0,
            cpus: 1,
            isa: "rv64imafdc_zicsr_zifencei",
            mmu_type: "riscv,sv39",
            timebase: 10_000_000,
            stage2_mode: SV39X4,
            kernel: &[],
            initrd: None,
            bootargs: "",
            seed: None,
        }
    }
}

impl<A: AxArchVCpu + Send> RiscvVm<A> {
    /// Makes a machine whose memory is `ram`, which the host has zeroed, with everything loaded and hart 0
    /// about to start. `create` and `set_up` say with what each vCPU is made; it prefers the physical CPU of
    /// its own number.
    pub fn new(
        config: &RiscvVmConfig<'_>,
        ram: Box<dyn RamBacking>,
        console: Arc<dyn ConsoleSink>,
        create: impl FnMut(usize) -> A::CreateConfig,
        set_up: impl FnMut(usize) -> A::SetupConfig,
    ) -> Result<Self, BuildError> {
        let RiscvVmConfig { vm_id, cpus, stage2_mode: format, .. } = *config;
        let plan = CpuPlan { vm_id, cpus, most: MAX_CPUS, format };
        plan.check()?;
        // The device tree has room for more, Linux reads 32 bits.
        let timebase = u32::try_from(config.timebase).ok().filter(|&hz| hz != 0);
        let timebase = timebase.ok_or(BuildError::Timebase(config.timebase))?;
        let (memory, ram) = make_memory::<A>(RAM_BASE, ram)?;
        let kernel = image::load_kernel(&memory, ram, config.kernel).map_err(BuildError::Kernel)?;
        let dtb = place_files(&memory, ram, kernel, config.initrd, |initrd| {
            let RiscvVmConfig { isa, mmu_type, bootargs, seed, .. } = *config;
            let boot = Boot { ram, bootargs, initrd, seed };
            Ok(fdt::build(&fdt::Machine { cpus, isa, mmu_type, timebase, boot })?)
        })?;
        let memory = Arc::new(memory);
        let cpus = Arc::new(plan.make(&memory, |_| kernel.entry, create, set_up)?);

        let plic = Arc::new(Plic::new(cpus.clone()));
        let irq = plic.line(UART_IRQ).unwrap_or_else(|| Arc::new(Unconnected));
        let uart = Arc::new(Uart16550::new(console.clone(), irq));
        let mut bus = Bus::new();
        bus.add(PLIC_BASE, plic::SIZE, plic).map_err(BuildError::Device)?;
        bus.add(UART_BASE, UART_SIZE, uart.clone()).map_err(BuildError::Device)?;

        if let Some(first) = cpus.get(0) {
            // It was made a moment ago, and is off.
            let _ = first.start(kernel.entry, dtb);
        }
        let firmware = Sbi::new(uart, console.clone());
        Ok(Self::assemble(cpus, memory, bus, Bus::new(), firmware, console))
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
