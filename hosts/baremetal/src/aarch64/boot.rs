//! From the loader to Rust.
#![allow(unsafe_code)] // called by assembly, reads the device tree

use axvcpu::AxVCpuHal;
use fdt::Fdt;

use super::{mmu, psci};
use crate::cpu::Cpu;
use crate::{Hal, boot, machine, mark, status, uart};

#[cfg(all(target_arch = "aarch64", target_os = "none"))]
mod entry {
    use core::arch::global_asm;
    use core::mem::offset_of;

    use super::super::mmu::{SETTINGS, Settings};
    use crate::cpu::{CPUS, Cpu, STACK_SIZE, STACKS};

    global_asm!(
        include_str!("boot.S"),
        CPUS = sym CPUS,
        CPU_SIZE = const size_of::<Cpu>(),
        STACKS = sym STACKS,
        STACK_SIZE = const STACK_SIZE,
        EMERGENCY_STACK = const offset_of!(Cpu, emergency_stack),
        SETTINGS = sym SETTINGS,
        HCR = const offset_of!(Settings, hcr),
        MAIR = const offset_of!(Settings, mair),
        TCR = const offset_of!(Settings, tcr),
        TTBR = const offset_of!(Settings, ttbr),
        SCTLR = const offset_of!(Settings, sctlr),
        VECTORS = sym axvcpu_host_vectors,
        TRAPPED = sym super::trapped,
        NOT_EL2 = sym super::not_el2,
        PREPARE = sym super::prepare,
        MAIN = sym super::main,
        SECONDARY = sym super::secondary,
    );

    unsafe extern "C" {
        pub(super) fn axvcpu_boot_secondary();
        fn axvcpu_host_vectors();
    }
}

fn secondary_entry() -> usize {
    #[cfg(all(target_arch = "aarch64", target_os = "none"))]
    return entry::axvcpu_boot_secondary as *const () as usize;
    #[cfg(not(all(target_arch = "aarch64", target_os = "none")))]
    0
}

/// Starts the CPU with this affinity, which then has this number.
pub(crate) fn start_cpu(affinity: usize, id: usize) -> Result<(), psci::Refused> {
    psci::start_cpu(affinity, secondary_entry(), id)
}

/// Where QEMU has put the device tree if it does not say: at the start of RAM (docs/system/arm/virt.rst).
const USUAL_PLACE: usize = 0x4000_0000;

/// The device tree, which the loader may have told of.
fn device_tree(told: *const u8) -> Option<(*const u8, Fdt<'static>)> {
    [told, USUAL_PLACE as *const u8]
        .into_iter()
        .filter(|place| !place.is_null())
        // SAFETY: the loader's promise, or memory of every machine this is for. Looked at for a magic number first.
        .find_map(|place| Some((place, unsafe { Fdt::from_ptr(place) }.ok()?)))
}

/// On the first CPU before translation is on: makes the tables for it. Answers where the device tree is.
extern "C" fn prepare(told: *const u8) -> *const u8 {
    Cpu::init(0, super::affinity());
    let Some((place, tree)) = device_tree(told) else {
        panic!("there is no device tree, neither where the loader says nor at {USUAL_PLACE:#x}");
    };
    let bootargs = tree.chosen().bootargs().unwrap_or("");
    mmu::prepare(&tree, !bootargs.split_ascii_whitespace().any(|word| word == "vhe=off"));
    place
}

/// The first CPU's way into Rust.
extern "C" fn main(device_tree: *const u8) -> ! {
    machine::boot(device_tree)
}

/// Another CPU's.
extern "C" fn secondary(id: usize) -> ! {
    boot::secondary(id)
}

/// Started at another exception level than EL2. There is no `Cpu::this` here, and nothing to lock with.
extern "C" fn not_el2(told: *const u8) -> ! {
    let mut mark = "";
    if let Some((_, tree)) = device_tree(told) {
        mark = mark::find(tree.chosen().bootargs().unwrap_or(""));
        uart::find(&tree);
        psci::find(&tree);
    }
    uart::send(
        b"axvcpu: this CPU did not start at EL2, where hypervisors run; QEMU's does with \
          `-M virt,virtualization=on,gic-version=3`\r\n",
    );
    super::tell_status(mark, status::HOST);
    psci::power_off();
    loop {
        core::hint::spin_loop();
    }
}

/// The hypervisor itself trapped.
extern "C" fn trapped(esr: u64, elr: u64, far: u64, sp: u64, lr: u64) -> ! {
    panic!(
        "the hypervisor trapped on CPU {}: ESR {esr:#x}, ELR {elr:#x}, FAR {far:#x}, SP {sp:#x}, LR {lr:#x}",
        Hal::cpu_id()
    )
}
