//! The generic interrupt controller, version 3 (Arm IHI 0069): numbers, and what a vCPU's CPU interface asks the
//! rest of the controller.
//!
//! The parts are divided as in hardware. The distributor and the redistributors know which interrupts there are, whether
//! they are enabled, and how important they are; a machine emulates them. The CPU interface takes what is forwarded to
//! it and presents it to the CPU; a backend has it in hardware, with list registers for a few interrupts at a time.
//! An interrupt is forwarded as an interrupt vector of [`AxVCpu`](axvcpu::AxVCpu), whose number is its INTID: edges are
//! injected, levels are lines.

/// Software-generated interrupts are 0 to 15.
pub const SGIS: u32 = 16;
/// Interrupts below this belong to one CPU each: SGIs, then private peripherals.
pub const PRIVATE: u32 = 32;
/// The first number that is no interrupt of the kinds above or of a shared peripheral.
pub const SPECIAL: u32 = 1020;
/// What a CPU interface answers when nothing is pending.
pub const SPURIOUS: u32 = 1023;

/// The virtual timer's interrupt (BSA, "PPI assignments").
pub const VIRTUAL_TIMER: u32 = 27;
/// The EL1 physical timer's.
pub const PHYSICAL_TIMER: u32 = 30;
/// The hypervisor's own physical timer's (EL2).
pub const HYPERVISOR_TIMER: u32 = 26;
/// The maintenance interrupt, by which virtual interrupts ask for the hypervisor.
pub const MAINTENANCE: u32 = 25;

/// What a vCPU's CPU interface has to know of an interrupt that was forwarded to it.
///
/// Implemented by the distributor of a machine, an object for each vCPU. Called between the guest's exits and entries,
/// so it neither waits nor locks.
pub trait Forwarding: Send + Sync {
    /// A number that changes whenever the answer of [`priority`](Self::priority) may have changed. Whoever changes it
    /// makes the vCPU leave the guest if it runs.
    fn generation(&self) -> u32;

    /// Which of the interrupts below 64 somebody has deactivated by the controller's registers since the last call, a bit each: for
    /// the vCPU they are not active any more. The [generation](Self::generation) tells when to ask.
    fn take_ended(&self) -> u64 {
        0
    }

    /// The interrupt's priority, 0 the highest; `None` while it is disabled or its group is. It stays pending then.
    fn priority(&self, intid: u32) -> Option<u8>;
}

/// Everything enabled, with one priority: for vCPUs without a distributor.
#[derive(Clone, Copy, Debug, Default)]
pub struct ForwardAll;

impl Forwarding for ForwardAll {
    fn generation(&self) -> u32 {
        0
    }

    fn priority(&self, _: u32) -> Option<u8> {
        Some(0xa0)
    }
}
