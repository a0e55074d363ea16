//! Putting an x86-64 machine together.

use alloc::boxed::Box;
use alloc::sync::Arc;

use axvcpu::{AxArchVCpu, AxVCpuHal, GuestPhysAddr};
use axvcpu_x86::ept::Ept;
use axvcpu_x86::start::{RESET_VECTOR, Start};

use super::acpi;
use super::board::Board;
use super::boot::{self, Boot};
use super::kernel::{Kernel, Protocol, load_kernel};
use super::layout::{ACPI, HIGH, HOLE, UART_GSI, UART_PORT, UART_PORTS};
use super::memory_map::{DEVICES, memory_map};
use crate::devices::{IrqLine, Uart16550};
use crate::loader::LoadError;
use crate::machine::{BuildError, CpuPlan};
use crate::{Bus, ConsoleSink, GuestMemory, RamBacking, RamRange, Vm};

/// An x86-64 machine: CPUs whose interrupt controllers the hypervisor has, a serial port, and the registers of a PC
/// that switch it off and reset it.
pub type X86Vm<A> = Vm<A, Board>;

/// The most CPUs a machine can have: the numbers of local APICs are bytes, and the last means all of them.
pub const MAX_CPUS: usize = 255;

const PAGE: u64 = 4096;

/// What a machine is made of.
#[derive(Clone, Copy, Debug)]
pub struct X86VmConfig<'a> {
    /// The machine's number, for the host's own use.
    pub vm_id: usize,
    /// How many CPUs, 1 to [`MAX_CPUS`].
    pub cpus: usize,
    /// The kernel: a Linux `bzImage`, an ELF program, with a PVH entry or without, or a flat binary of 64-bit code that
    /// is loaded to [`HIGH`].
    pub kernel: &'a [u8],
    /// The initial file system for a Linux kernel.
    pub initrd: Option<&'a [u8]>,
    /// The kernel's command line.
    pub bootargs: &'a str,
    /// If given, the guest gets a random seed made from it, so that it need not wait for entropy. The same number makes
    /// the same seed. The PVH protocol has no place for one.
    pub seed: Option<u64>,
}

impl Default for X86VmConfig<'_> {
    fn default() -> Self {
        Self { vm_id: 0, cpus: 1, kernel: &[], initrd: None, bootargs: "", seed: None }
    }
}

impl<A: AxArchVCpu + Send> X86Vm<A> {
    /// Makes a machine whose memory is `ram`, which the host has zeroed, with everything loaded and CPU 0 about to
    /// start. `lines` gives the inputs of the hypervisor's interrupt controllers, by their numbers in ACPI (GSIs), where
    /// the PIT has to be input 2 of the I/O APIC. `create` and `set_up` say with what each vCPU is made, `set_up` out of how
    /// the CPU begins; it prefers the physical CPU of its own number.
    ///
    /// CPUs other than the first are run from the beginning, too: it is the hypervisor's local APICs that hold them
    /// until the guest starts them. So each has to have a thread of its own, with
    /// [`run_vcpu`](Vm::run_vcpu).
    pub fn new(
        config: &X86VmConfig<'_>,
        ram: Box<dyn RamBacking>,
        console: Arc<dyn ConsoleSink>,
        mut lines: impl FnMut(u32) -> Arc<dyn IrqLine>,
        create: impl FnMut(usize) -> A::CreateConfig,
        mut set_up: impl FnMut(usize, Start) -> A::SetupConfig,
    ) -> Result<Self, BuildError> {
        let X86VmConfig { vm_id, cpus, bootargs, seed, .. } = *config;
        let plan = CpuPlan { vm_id, cpus, most: MAX_CPUS, format: Ept };
        plan.check()?;
        let (memory, low) = make_memory::<A>(ram)?;
        let Kernel { loaded: kernel, protocol } =
            load_kernel(&memory, low, config.kernel).map_err(BuildError::Kernel)?;
        boot::check_bootargs(bootargs, boot::most_bootargs(&protocol))?;
        let initrd = match config.initrd.filter(|file| !file.is_empty()) {
            Some(file) => {
                let at = place_initrd(low, kernel.end, &protocol, file.len() as u64);
                let range = at.map_err(BuildError::Initrd)?;
                memory.write(range.base, file).map_err(|e| BuildError::Initrd(e.into()))?;
                Some(range)
            }
            None => None,
        };
        let map = memory_map(memory.ranges());
        let told = Boot { bootargs, initrd, map: &map, seed };
        let first = boot::write(&memory, &protocol, kernel.start, &told)?;
        memory
            .write(ACPI, &acpi::build(cpus as u8))
            .map_err(|error| BuildError::Kernel(error.into()))?;

        let memory = Arc::new(memory);
        let entry = |cpu| if cpu == 0 { kernel.entry } else { RESET_VECTOR };
        let set_up = |cpu| set_up(cpu, if cpu == 0 { first.start } else { Start::REAL });
        let all = Arc::new(plan.make(&memory, entry, create, set_up)?);

        let uart = Arc::new(Uart16550::new(console.clone(), lines(UART_GSI)));
        let mut ports = Bus::new();
        ports.add(UART_PORT.into(), UART_PORTS.into(), uart.clone()).map_err(BuildError::Device)?;

        for (cpu, this) in all.iter().enumerate() {
            // It was made a moment ago, and is off.
            let _ = this.start(entry(cpu), first.argument);
        }
        Ok(Self::assemble(all, memory, Bus::new(), ports, Board::new(uart, first), console))
    }

    /// Sends `bytes` to the guest's console. Answers how many of them there was room for; if not all,
    /// [`ConsoleSink::input_wanted`] tells when there is more.
    pub fn push_console_input(&self, bytes: &[u8]) -> usize {
        self.firmware.uart().push_input(bytes)
    }
}

/// A guest's memory: `ram` from 0 on, around the hole for devices. Answers also what of it is below that.
fn make_memory<A: AxArchVCpu>(
    ram: Box<dyn RamBacking>,
) -> Result<(GuestMemory, RamRange), BuildError> {
    let mut memory = GuestMemory::new();
    let size = ram.size();
    memory
        .add_around::<<A::Hal as AxVCpuHal>::MmHal>(GuestPhysAddr::new(0), DEVICES, ram)
        .map_err(BuildError::Ram)?;
    if size <= HIGH {
        let what = "a PC, whose programs begin at 1 MiB,";
        let error = LoadError::TooSmall { what, needed: HIGH + PAGE, available: size };
        return Err(BuildError::Kernel(error));
    }
    Ok((memory, RamRange { base: 0, size: size.min(HOLE) }))
}

/// Where an initrd goes: as high as memory below the hole and the kernel allow, so that the kernel has room to grow.
fn place_initrd(
    low: RamRange,
    kernel_end: u64,
    protocol: &Protocol,
    size: u64,
) -> Result<RamRange, LoadError> {
    let highest = match protocol {
        Protocol::Linux(header) => header.initrd_max.saturating_add(1),
        Protocol::Pvh => u64::MAX,
    };
    let base = low.size.min(highest).checked_sub(size).map(|base| base & !(PAGE - 1));
    if let Some(base) = base.filter(|&base| base >= kernel_end) {
        return Ok(RamRange { base, size });
    }
    let needed = kernel_end.saturating_add(size).saturating_add(PAGE);
    if needed > highest.min(HOLE) {
        let what = "it does not fit between the kernel and the highest address that an initrd can \
                    have; make it smaller";
        return Err(LoadError::Unsupported { what });
    }
    let what = "the kernel together with its initrd";
    Err(LoadError::TooSmall { what, needed, available: low.size })
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
