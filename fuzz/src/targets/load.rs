//! Kernels, by themselves and in machines.
//!
//! The first byte of an input is no part of the file: it says how much memory there is, and how the file comes there.

use std::sync::Arc;
use std::sync::Mutex;

use axvcpu::{AxVCpuExitReason as Exit, GuestPhysAddr};
use axvcpu_vmm::arm::{self, ArmVm, ArmVmConfig};
use axvcpu_vmm::devices::{IrqLine, Unconnected};
use axvcpu_vmm::loader::{LoadError, Loaded};
use axvcpu_vmm::riscv::{self, RiscvVm, RiscvVmConfig};
use axvcpu_vmm::x86::{X86Vm, X86VmConfig};
use axvcpu_vmm::{BuildError, Firmware, GuestMemory, Outcome, RamRange, Vm};

use super::machines::Shared;
use crate::input::Input;
use crate::platform::{Fake, Mm, Ram, Silent};

/// What the first byte says.
struct How<'a> {
    memory: usize,
    /// The file is an initrd as well.
    initrd: Option<&'a [u8]>,
    /// In a machine, and not by itself.
    machine: bool,
    file: &'a [u8],
}

fn how(bytes: &[u8]) -> How<'_> {
    let mut input = Input::new(bytes);
    let first = input.u8();
    let file = input.rest();
    let memory =
        [4 << 20, 2 << 20, 8 << 20, 64 << 20, 4096, (1 << 20) + 4096][usize::from(first >> 2) % 6];
    How { memory, initrd: (first & 2 != 0).then_some(file), machine: first & 1 != 0, file }
}

type Load = fn(&GuestMemory, RamRange, &[u8]) -> Result<Loaded, LoadError>;

/// Loads the file at `base`. What it writes is what it says it has loaded, and that is in memory.
fn alone(how: &How<'_>, base: u64, load: Load) {
    let ram = Ram::new(how.memory);
    let written = ram.written();
    let range = RamRange { base, size: how.memory as u64 };
    let mut memory = GuestMemory::new();
    memory.add::<Mm>(GuestPhysAddr::new(base), Box::new(ram)).expect("memory like any other");
    match load(&memory, range, how.file) {
        Ok(Loaded { entry, start, end }) => {
            assert!(start <= end && range.contains(start, end - start), "{start:#x} to {end:#x}");
            assert!((start..end).contains(&entry), "{entry:#x}");
            for &(offset, len) in &*written.lock().expect("nobody panics with it") {
                let loaded = RamRange { base: start, size: end - start };
                assert!(loaded.contains(base + offset, len), "{offset:#x} was written");
            }
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert!(!error.to_string().contains('\0'));
        }
    }
}

/// Starts the machine, if there is one.
fn start<const RESULT: usize, F: Firmware<Fake<RESULT>>>(
    shared: &Shared,
    machine: Result<Vm<Fake<RESULT>, F>, BuildError>,
) {
    match machine {
        Ok(vm) => assert_eq!(shared.drive(&vm, &|_| 0), Outcome::PowerOff),
        Err(error @ (BuildError::Kernel(_) | BuildError::Initrd(_))) => {
            assert!(!error.to_string().is_empty());
        }
        Err(error) => panic!("not what a file can be wrong with: {error}"),
    }
}

/// vCPUs that switch the machine off.
fn shared() -> Shared {
    let script = Arc::new(Mutex::new(|| Exit::SystemDown));
    Shared { script, typed: Arc::default() }
}

pub(super) fn riscv(bytes: &[u8]) {
    let how = how(bytes);
    if !how.machine {
        return alone(&how, riscv::layout::RAM_BASE, riscv::load_kernel);
    }
    let config = RiscvVmConfig { kernel: how.file, initrd: how.initrd, ..Default::default() };
    let (shared, ram) = (shared(), Box::new(Ram::new(how.memory)));
    let create = |_| shared.script.clone();
    start(&shared, RiscvVm::<Fake<10>>::new(&config, ram, Arc::new(Silent), create, |_| ()));
}

pub(super) fn arm(bytes: &[u8]) {
    let how = how(bytes);
    if !how.machine {
        return alone(&how, arm::layout::RAM_BASE, arm::load_kernel);
    }
    let config = ArmVmConfig { kernel: how.file, initrd: how.initrd, ..Default::default() };
    let (shared, ram) = (shared(), Box::new(Ram::new(how.memory)));
    let create = |_, _| shared.script.clone();
    start(&shared, ArmVm::<Fake<0>>::new(&config, ram, Arc::new(Silent), create, |_| ()));
}

pub(super) fn x86(bytes: &[u8]) {
    let how = how(bytes);
    let config = X86VmConfig { kernel: how.file, initrd: how.initrd, ..Default::default() };
    let (shared, ram) = (shared(), Box::new(Ram::new(how.memory)));
    let create = |_| shared.script.clone();
    let line = |_| -> Arc<dyn IrqLine> { Arc::new(Unconnected) };
    let console = Arc::new(Silent);
    start(&shared, X86Vm::<Fake<0>>::new(&config, ram, console, line, create, |_, _| ()));
}
