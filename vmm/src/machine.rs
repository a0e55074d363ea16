//! Putting a machine together: what is the same on every architecture.
#![allow(unsafe_code)] // gives the stage-2 table to the vCPUs

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use axvcpu::{AxArchVCpu, AxError, AxVCpu, AxVCpuHal, GuestPhysAddr};
use axvcpu_stage2::{Format, Perms, Stage2};

use crate::loader::{LoadError, Loaded};
use crate::{Cpus, GuestMemory, RamBacking, RamError, RamRange, RangeTaken};

const PAGE: u64 = 4096;

/// Why a machine could not be made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildError {
    /// The number of CPUs is out of range.
    CpuCount {
        /// The number asked for.
        cpus: usize,
        /// The most the machine can have.
        most: usize,
    },
    /// [`RiscvVmConfig::timebase`](crate::riscv::RiscvVmConfig::timebase) is out of range.
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
    /// The command line has a NUL byte, at which the kernel would stop to read.
    CommandLineNul,
    /// The command line is longer than the kernel takes.
    CommandLineTooLong {
        /// Its bytes.
        length: usize,
        /// How many the kernel takes.
        most: usize,
    },
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
            Self::CpuCount { cpus, most } => {
                write!(f, "{cpus} CPUs: a guest can have 1 to {most}")
            }
            Self::Timebase(hz) => {
                write!(f, "a clock of {hz} Hz: a guest can be told of 1 to {} Hz", u32::MAX)
            }
            Self::Ram(error) => write!(f, "guest memory: {error}"),
            Self::Kernel(error) => write!(f, "kernel: {error}"),
            Self::Initrd(error) => write!(f, "initrd: {error}"),
            Self::Device(error) => error.fmt(f),
            Self::DeviceTree(error) => write!(f, "device tree: {error}"),
            Self::CommandLineNul => f.write_str("command line: it has a NUL byte; remove it"),
            Self::CommandLineTooLong { length, most } => {
                write!(f, "command line: {length} bytes, but the kernel takes {most}; shorten it")
            }
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

/// A guest's memory: `ram` alone, at `base`.
pub(crate) fn make_memory<A: AxArchVCpu>(
    base: u64,
    ram: Box<dyn RamBacking>,
) -> Result<(GuestMemory, RamRange), BuildError> {
    let mut memory = GuestMemory::new();
    let range = RamRange { base, size: ram.size() };
    memory.add::<Mm<A>>(GuestPhysAddr::new(base), ram).map_err(BuildError::Ram)?;
    Ok((memory, range))
}

/// The vCPUs of a machine before they are made.
pub(crate) struct CpuPlan<F> {
    pub(crate) vm_id: usize,
    pub(crate) cpus: usize,
    /// The most there can be.
    pub(crate) most: usize,
    /// The format of their stage-2 table.
    pub(crate) format: F,
}

impl<F: Format + Send + Sync> CpuPlan<F> {
    /// Refuses what is no number of CPUs.
    pub(crate) fn check(&self) -> Result<(), BuildError> {
        let Self { cpus, most, .. } = *self;
        if (1..=most).contains(&cpus) { Ok(()) } else { Err(BuildError::CpuCount { cpus, most }) }
    }

    /// Makes the vCPUs and the stage-2 table they share, and ties their lives together. Each prefers the physical
    /// CPU of its own number. `entry` says where each begins.
    pub(crate) fn make<A: AxArchVCpu + Send>(
        &self,
        memory: &Arc<GuestMemory>,
        entry: impl Fn(usize) -> u64,
        mut create: impl FnMut(usize) -> A::CreateConfig,
        mut set_up: impl FnMut(usize) -> A::SetupConfig,
    ) -> Result<Cpus<A>, BuildError> {
        let mut stage2 = Stage2::<Mm<A>, F>::new(self.format).map_err(BuildError::Stage2)?;
        for (range, host) in memory.mappings() {
            stage2
                .map(GuestPhysAddr::new(range.base), host, range.size, Perms::RWX)
                .map_err(BuildError::Stage2)?;
        }
        let root = stage2.root();
        let vcpus = (0..self.cpus)
            .map(|cpu| {
                AxVCpu::new(self.vm_id, cpu, cpu, None, create(cpu))
                    .map_err(|error| BuildError::Cpu { cpu, error })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let cpus = Cpus::new(vcpus, Box::new((stage2, memory.clone())));
        for (cpu, this) in cpus.iter().enumerate() {
            // SAFETY: the table maps RAM backings and nothing else, whose promise is that they are the guest's
            // alone. It is never changed, and `Cpus` drops it and the memory after the vCPUs.
            unsafe { this.vcpu().setup(GuestPhysAddr::new(entry(cpu)), root, set_up(cpu)) }
                .map_err(|error| BuildError::Cpu { cpu, error })?;
        }
        Ok(cpus)
    }
}

/// Puts the initrd and the device tree above the loaded kernel, from the top of memory downwards: the device tree,
/// whose size does not depend on the numbers in it, then the initrd. What is between the kernel and them is the
/// kernel's to use. Answers where the device tree is.
pub(crate) fn place_files(
    memory: &GuestMemory,
    ram: RamRange,
    kernel: Loaded,
    initrd: Option<&[u8]>,
    tree: impl Fn(Option<RamRange>) -> Result<Vec<u8>, BuildError>,
) -> Result<u64, BuildError> {
    let initrd = initrd.filter(|file| !file.is_empty());
    let initrd_size = initrd.map(|file| file.len() as u64);
    let tree_with_initrd_at = |base| tree(initrd_size.map(|size| RamRange { base, size }));
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
    Ok(tree_at)
}
