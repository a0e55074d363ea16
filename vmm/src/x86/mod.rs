//! x86-64 machines: [`X86Vm`] and its parts.
//!
//! A PC as far as kernels need one (see [`layout`]), for hypervisors that have the interrupt controllers and timers
//! themselves, as Linux KVM does: local APICs, I/O APIC, PICs and PIT are theirs. The machine has memory, a serial port,
//! ACPI tables, and the registers that switch it off and reset it. There is no PCI, no graphics, no keyboard and no
//! clock of the CMOS.
//!
//! A guest starts where a boot loader would have left it, and never sees a BIOS:
//!
//! * a Linux `bzImage` at its 64-bit entry, with `boot_params` in `rsi`;
//! * an ELF program with a PVH entry there, in protected mode, with `hvm_start_info` in `ebx`;
//! * any other ELF program at its entry, and a flat binary at its first byte, like the `bzImage`: in long mode, with
//!   the first 4 GiB mapped to themselves and `boot_params` in `rsi`. That is what Linux's `vmlinux` wants.

mod acpi;
mod board;
mod boot;
mod bzimage;
mod kernel;
pub mod layout;
mod machine;
mod memory_map;

pub use crate::loader::LOAD_OFFSET;
pub use crate::machine::BuildError;
pub use board::Board;
pub use machine::{MAX_CPUS, X86Vm, X86VmConfig};
