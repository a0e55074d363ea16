//! What differs between the architectures.

use crate::arch::Bare;

/// What is measured on an architecture.
pub(super) struct Kind {
    pub(super) arch: Bare,
    /// The processors to measure round trips on.
    pub(super) cpus: &'static [Cpu],
    /// The one to boot on.
    pub(super) boots_on: &'static str,
    /// QEMU's machine for a kernel without a hypervisor.
    pub(super) alone: &'static [&'static str],
}

/// A processor model.
pub(super) struct Cpu {
    /// As the tables call it.
    pub(super) name: &'static str,
    /// Properties besides, with a comma in front.
    pub(super) properties: &'static str,
    pub(super) goals: &'static [Goal],
}

/// What to compare a figure with.
pub(super) struct Goal {
    /// The beginning of its line: the part, and what is done.
    pub(super) part: &'static str,
    pub(super) what: &'static str,
    /// The most instructions it may take.
    pub(super) target: Option<u64>,
    /// What it takes under Linux KVM on the same QEMU.
    pub(super) kvm: Option<u64>,
}

pub(super) fn of(arch: Bare) -> Kind {
    let (cpus, boots_on, alone): (&[_], _, &[_]) = match arch {
        Bare::Riscv64 => (RISCV64, Bare::Riscv64.cpu(), &["-M", "virt"]),
        // What `max` has besides takes QEMU long, and a guest does without. As in a machine for the hypervisor there
        // is no network.
        Bare::Aarch64 => (AARCH64, "neoverse-n1", &["-M", "virt,gic-version=3", "-nic", "none"]),
    };
    Kind { arch, cpus, boots_on, alone }
}

/// The usual one, and one whose guests have no timer of their own.
const RISCV64: &[Cpu] = &[
    Cpu { name: Bare::Riscv64.cpu(), properties: "", goals: &[] },
    Cpu { name: "rv64,sstc=off", properties: "", goals: &[] },
];

/// Everything there is, host extensions included; Armv8.2, with them as well; and Armv8.0, without. Their counters
/// would stand still for 16 instructions where they are not made to count each of them.
const AARCH64: &[Cpu] = &[
    Cpu { name: Bare::Aarch64.cpu(), properties: NANOSECONDS, goals: HOST_EXTENSIONS },
    Cpu { name: "neoverse-n1", properties: NANOSECONDS, goals: HOST_EXTENSIONS },
    Cpu { name: "cortex-a57", properties: NANOSECONDS, goals: NO_HOST_EXTENSIONS },
];

const NANOSECONDS: &str = ",cntfrq=1000000000";

const CALL: Goal = goal("axvcpu:", "null call: exit and entry", None, None);
const WRITE: Goal = goal("axvcpu-vmm:", "MMIO write to a device and back", Some(500), None);
const READ: Goal = goal("axvcpu-vmm:", "MMIO read from a device and back", Some(500), None);
const INSIDE: Goal = goal("axvcpu-aarch64:", "null call: exit and entry", Some(75), None);

const HOST_EXTENSIONS: &[Goal] = &[
    Goal { target: Some(190), kvm: Some(1275), ..CALL },
    Goal { kvm: Some(6224), ..WRITE },
    READ,
    INSIDE,
];

const NO_HOST_EXTENSIONS: &[Goal] =
    &[Goal { kvm: Some(1653), ..CALL }, Goal { kvm: Some(5707), ..WRITE }, READ, INSIDE];

const fn goal(
    part: &'static str,
    what: &'static str,
    target: Option<u64>,
    kvm: Option<u64>,
) -> Goal {
    Goal { part, what, target, kvm }
}
