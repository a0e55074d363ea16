//! The platform on AArch64: CPUs at EL2 under a PSCI firmware, with a GICv3.
#![allow(unsafe_code)] // system registers

mod boot;
mod cache;
mod gic;
mod irq;
mod mmu;
mod psci;
mod sysreg;
mod timer;

use axvcpu::AxVCpuHal;
use fdt::Fdt;

use crate::{Hal, console, mark, println, status};
use sysreg::{barrier, read};

pub(crate) use boot::start_cpu;
pub(crate) use cache::{clean, zero_pages};
pub(crate) use irq::{dispatch, init_cpu, kick, kick_self, pending, route_input};
pub(crate) use timer::{program_timer, time, timebase};

/// EL2 of a CPU.
pub(crate) type PerCpu = axvcpu_aarch64::ArmPerCpu<Hal>;

/// What a CPU without virtualization lacks.
pub(crate) const NOT_VIRTUAL: &str =
    "cannot have guests: that takes EL2 and a GICv3 with system registers";

/// What `TPIDR_EL2` points to.
#[cfg(all(target_arch = "aarch64", target_os = "none"))]
#[inline(always)]
pub(crate) fn this_cpu() -> *const crate::cpu::Cpu {
    let this;
    // SAFETY: reads a register, which never changes.
    unsafe {
        core::arch::asm!("mrs {}, tpidr_el2", out(reg) this, options(nomem, nostack, pure));
    }
    this
}

/// The affinity of the CPU this is called on, as PSCI and the device tree have it.
fn affinity() -> usize {
    (read!("MPIDR_EL1") & 0xff_00ff_ffff) as usize
}

/// Waits until an interrupt is pending; whether it may be taken makes no difference (Arm ARM, "Wait For Interrupt").
/// Also comes back for no reason.
pub(crate) fn wait_for_interrupt() {
    barrier!("dsb sy", "wfi");
}

/// What has to be known from the start on.
pub(crate) fn init(tree: &Fdt<'static>) {
    psci::find(tree);
    if !gic::init(tree) {
        println!(
            "axvcpu: the machine has no GICv3; QEMU's has with `-M virt,virtualization=on,gic-version=3`"
        );
        crate::exit(status::HOST);
    }
}

/// Virtualization is on on this CPU: nothing depends on what was found.
pub(crate) fn virtualized() {}

/// For what has to be said before the device tree is read there is no console.
pub(crate) fn write_console(_bytes: &[u8]) {}

/// Tells the status that this machine cannot end with, behind the mark.
fn tell_status(mark: &str, status: u8) {
    console::raw(format_args!("\u{1e}{mark}={status}\r\n"));
}

/// Ends the machine at once. Comes back if it cannot.
pub(crate) fn power_off(status: u8) {
    console::close(Hal::cpu_id()); // if it is not already
    tell_status(mark::get(), status);
    psci::power_off();
}
