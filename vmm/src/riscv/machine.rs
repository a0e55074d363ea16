//! Putting a RISC-V machine together.
#![allow(unsafe_code)] // gives the stage-2 table to the vCPUs

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use axvcpu::{AxArchVCpu, AxError, AxVCpu, AxVCpuHal, GuestPhysAddr};
use axvcpu_riscv::paging::{Mode, SV39X4};
use axvcpu_riscv::stage2::{Perms, Stage2};

use super::layout::{PLIC_BASE, RAM_BASE, UART_BASE, UART_IRQ, UART_SIZE};
use super::plic::{self, Plic};
use super::sbi::Sbi;
use super::{fdt, image};
use crate::devices::{Uart16550, Unconnected};
use crate::loader::{LoadError, Loaded};
use crate::{
    Bus, ConsoleSink, CpuStats, Cpus, GuestMemory, RamBacking, RamError, RamRange, RangeTaken, Vm,
};

/// A RISC-V machine: harts in S mode, SBI firmware, an interrupt controller and a serial port.
pub type RiscvVm<A> = Vm<A, Sbi>;

/// The most harts a machine can have.
pub const MAX_CPUS: usize = 512;

const PAGE: u64 = 4096;

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

/// Why a machine could not be made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildError {
    /// [`RiscvVmConfig::cpus`] is out of range.
    CpuCount(usize),
    /// [`RiscvVmConfig::timebase`] is out of range.
    Timebase(u64),
    /// The memory the host gave cannot be used.
    Ram(RamError),
    /// The kernel cannot be loaded.
    Kernel(LoadError),
    /// Kernel, initrd and device tree do not fit into memory together.
    Initrd(LoadError),
    /// Two devices want the same address.
    Device(RangeTaken),
    /// The device tree could not be written; the usual cause is a NUL byte in the command line.
    DeviceTree(String),
    /// The stage-2 table could not be made.
    Stage2(AxError),
    /// A vCPU could not be made or set up.
    Cpu {
        /// Its number.
        cpu: usize,
        /// What it answered.
        error: AxError,
    },
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CpuCount(cpus) => write!(f, "{cpus} CPUs: a guest can have 1 to {MAX_CPUS}"),
            Self::Timebase(hz) => {
                write!(f, "a clock of {hz} Hz: a guest can be told of 1 to {} Hz", u32::MAX)
            }
            Self::Ram(error) => write!(f, "guest memory: {error}"),
            Self::Kernel(error) => write!(f, "kernel: {error}"),
            Self::Initrd(error) => write!(f, "initrd: {error}"),
            Self::Device(error) => error.fmt(f),
            Self::DeviceTree(error) => write!(f, "device tree: {error}"),
            Self::Stage2(error) => write!(f, "stage-2 table: {error}"),
            Self::Cpu { cpu, error } => write!(f, "CPU {cpu}: {error}"),
        }
    }
}

impl core::error::Error for BuildError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        None // the text has it already
    }
}

impl From<vm_fdt::Error> for BuildError {
    fn from(error: vm_fdt::Error) -> Self {
        Self::DeviceTree(alloc::format!("{error}"))
    }
}

type Mm<A> = <<A as AxArchVCpu>::Hal as AxVCpuHal>::MmHal;

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
        if !(1..=MAX_CPUS).contains(&config.cpus) {
            return Err(BuildError::CpuCount(config.cpus));
        }
        // The device tree has room for more, Linux reads 32 bits.
        let timebase = u32::try_from(config.timebase).ok().filter(|&hz| hz != 0);
        let timebase = timebase.ok_or(BuildError::Timebase(config.timebase))?;
        let mut memory = GuestMemory::new();
        memory.add::<Mm<A>>(GuestPhysAddr::new(RAM_BASE), ram).map_err(BuildError::Ram)?;
        let (kernel, dtb) = load(config, timebase, &memory)?;
        let memory = Arc::new(memory);
        let cpus = Arc::new(make_cpus(config, &memory, kernel.entry, create, set_up)?);

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
        Ok(Self::assemble(cpus, memory, bus, firmware, console))
    }

    /// Sends `bytes` to the guest's console. Answers how many of them there was room for; if not all,
    /// [`ConsoleSink::input_wanted`] tells when there is more.
    pub fn push_console_input(&self, bytes: &[u8]) -> usize {
        self.firmware.uart().push_input(bytes)
    }

    /// What all vCPUs did so far, together.
    pub fn total_stats(&self) -> CpuStats {
        self.stats().into_iter().sum()
    }
}

/// Makes the vCPUs and the stage-2 table they share, and ties their lives together.
fn make_cpus<A: AxArchVCpu + Send>(
    config: &RiscvVmConfig<'_>,
    memory: &Arc<GuestMemory>,
    entry: u64,
    mut create: impl FnMut(usize) -> A::CreateConfig,
    mut set_up: impl FnMut(usize) -> A::SetupConfig,
) -> Result<Cpus<A>, BuildError> {
    let mut stage2 = Stage2::<Mm<A>>::new(config.stage2_mode).map_err(BuildError::Stage2)?;
    for (range, host) in memory.mappings() {
        stage2
            .map(GuestPhysAddr::new(range.base), host, range.size, Perms::RWX)
            .map_err(BuildError::Stage2)?;
    }
    let root = stage2.root();
    let vcpus = (0..config.cpus)
        .map(|cpu| {
            AxVCpu::new(config.vm_id, cpu, cpu, None, create(cpu))
                .map_err(|error| BuildError::Cpu { cpu, error })
        })
        .collect::<Result<Vec<_>, _>>()?;
    let cpus = Cpus::new(vcpus, Box::new((stage2, memory.clone())));
    for (cpu, this) in cpus.iter().enumerate() {
        // SAFETY: the table maps RAM backings and nothing else, whose promise is that they are the guest's
        // alone. It is never changed, and `Cpus` drops it and the memory after the vCPUs.
        unsafe { this.vcpu().setup(GuestPhysAddr::new(entry), root, set_up(cpu)) }
            .map_err(|error| BuildError::Cpu { cpu, error })?;
    }
    Ok(cpus)
}

/// Loads kernel, initrd and device tree. Answers where the kernel is, and where the device tree.
fn load(
    config: &RiscvVmConfig<'_>,
    timebase: u32,
    memory: &GuestMemory,
) -> Result<(Loaded, u64), BuildError> {
    let ram = memory.ranges().next().unwrap_or(RamRange { base: RAM_BASE, size: 0 });
    let kernel = image::load_kernel(memory, ram, config.kernel).map_err(BuildError::Kernel)?;
    let initrd = config.initrd.filter(|file| !file.is_empty());
    let initrd_size = initrd.map(|file| file.len() as u64);
    let tree_with_initrd_at = |base| {
        fdt::build(&fdt::Machine {
            cpus: config.cpus,
            isa: config.isa,
            mmu_type: config.mmu_type,
            timebase,
            ram,
            bootargs: config.bootargs,
            initrd: initrd_size.map(|size| RamRange { base, size }),
            seed: config.seed,
        })
    };
    // From the top of memory downwards: the device tree, whose size does not depend on the numbers in it,
    // then the initrd. What is between the kernel and them is the kernel's to use.
    let tree_size = tree_with_initrd_at(0)?.len() as u64;
    let above_kernel = |top: u64, size: u64| {
        let base = top.checked_sub(size)? & !(PAGE - 1);
        (base >= kernel.end).then_some(base)
    };
    let too_small = BuildError::Initrd(LoadError::TooSmall {
        what: match initrd {
            Some(_) => "the kernel together with its initrd and device tree",
            None => "the kernel together with its device tree",
        },
        needed: (kernel.end - ram.base)
            .saturating_add(initrd_size.unwrap_or(0))
            .saturating_add(tree_size + 2 * PAGE),
        available: ram.size,
    });
    let tree_at = above_kernel(ram.base + ram.size, tree_size).ok_or(too_small.clone())?;
    let initrd_at = above_kernel(tree_at, initrd_size.unwrap_or(0)).ok_or(too_small)?;
    let copied = |result: Result<(), _>| result.map_err(|e| BuildError::Initrd(LoadError::Copy(e)));
    if let Some(file) = initrd {
        copied(memory.write(initrd_at, file))?;
    }
    copied(memory.write(tree_at, &tree_with_initrd_at(initrd_at)?))?;
    Ok((kernel, tree_at))
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
