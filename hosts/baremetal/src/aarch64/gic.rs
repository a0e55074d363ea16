//! The interrupt controller, a GICv3 (Arm IHI 0069): its distributor, this CPU's redistributor and CPU interface.
#![allow(unsafe_code)] // device and system registers

use core::sync::atomic::{AtomicUsize, Ordering};

use axvcpu_arm::gic::{
    HYPERVISOR_TIMER, MAINTENANCE, PHYSICAL_TIMER, PRIVATE, SPECIAL, VIRTUAL_TIMER,
};
use fdt::Fdt;
use fdt::node::FdtNode;

use super::sysreg::{barrier, read, write};
use crate::machine;

/// The SGI that is a kick.
pub(super) const KICK: u32 = 0;

/// The private interrupts in use.
const OWN: u32 =
    1 << KICK | 1 << MAINTENANCE | 1 << HYPERVISOR_TIMER | 1 << VIRTUAL_TIMER | 1 << PHYSICAL_TIMER;

/// One priority for all.
const PRIORITY: u8 = 0xa0;

/// Registers of the distributor, and of a redistributor's second frame.
const GROUP: usize = 0x80;
const SET_ENABLE: usize = 0x100;
const CLEAR_ENABLE: usize = 0x180;
const CLEAR_ACTIVE: usize = 0x380;
const PRIORITIES: usize = 0x400;
/// The distributor's only.
const CONTROL: usize = 0;
const TYPE: usize = 4;
const CONFIGURATION: usize = 0xc00;
const ROUTER: usize = 0x6000;

/// `GICD_CTLR`: affinity routing, group 1 (of a machine with one security state, or the non-secure one).
const AFFINITY: u32 = 1 << 4;
const GROUP_1: u32 = 1 << 1;
/// A write has not reached everybody yet.
const WRITE_PENDING: u32 = 1 << 31;

/// Of a redistributor's first frame.
const REDISTRIBUTOR_CONTROL: usize = 0;
const REDISTRIBUTOR_TYPE: usize = 8;
const WAKER: usize = 0x14;
/// `GICR_CTLR`: as [`WRITE_PENDING`].
const REDISTRIBUTOR_WRITE_PENDING: u32 = 1 << 3;
/// `GICR_TYPER`: there are two more frames (virtual LPIs); it is the last of its region.
const FOUR_FRAMES: u64 = 1 << 1;
const LAST: u64 = 1 << 4;
/// `GICR_WAKER`: asleep; not awake yet.
const PROCESSOR_SLEEP: u32 = 1 << 1;
const CHILDREN_ASLEEP: u32 = 1 << 2;
const FRAME: usize = 64 << 10;

/// The most regions of redistributors that are looked at.
const REGIONS: usize = 4;

static DISTRIBUTOR: AtomicUsize = AtomicUsize::new(0);
/// Where each region begins; 0 for none.
static REDISTRIBUTORS: [AtomicUsize; REGIONS] = [const { AtomicUsize::new(0) }; REGIONS];

/// The controller's node.
pub(super) fn node<'b, 'a>(tree: &'b Fdt<'a>) -> Option<FdtNode<'b, 'a>> {
    tree.find_compatible(&["arm,gic-v3"])
}

/// Devices' registers, at addresses from the device tree.
fn read32(at: usize) -> u32 {
    // SAFETY: as said; reading those used here has no effect.
    unsafe { (at as *const u32).read_volatile() }
}

fn write32(at: usize, value: u32) {
    // SAFETY: as said; interrupts are dealt with whenever they come.
    unsafe { (at as *mut u32).write_volatile(value) };
}

fn wait_while(at: usize, bit: u32) {
    while read32(at) & bit != 0 {
        core::hint::spin_loop();
    }
}

/// Finds the controller and switches it on, with no interrupt enabled. `false` if there is none of this kind.
pub(super) fn init(tree: &Fdt<'_>) -> bool {
    let exists = read!("ID_AA64PFR0_EL1") >> 24 & 15 != 0;
    let Some(node) = node(tree).filter(|_| exists) else { return false };
    let Some(mut places) = node.reg() else { return false };
    let Some(distributor) = places.next() else { return false };
    let regions = node.property("#redistributor-regions").and_then(|count| count.as_usize());
    for (slot, region) in REDISTRIBUTORS.iter().zip(places.take(regions.unwrap_or(1))) {
        slot.store(region.starting_address as usize, Ordering::Relaxed);
    }
    let at = distributor.starting_address as usize;
    DISTRIBUTOR.store(at, Ordering::Relaxed);
    write32(at + CONTROL, 0);
    wait_while(at + CONTROL, WRITE_PENDING);
    let words = (read32(at + TYPE) & 31) as usize + 1;
    for word in 1..words {
        write32(at + CLEAR_ENABLE + 4 * word, !0);
        write32(at + CLEAR_ACTIVE + 4 * word, !0);
        write32(at + GROUP + 4 * word, !0);
    }
    wait_while(at + CONTROL, WRITE_PENDING);
    write32(at + CONTROL, AFFINITY | GROUP_1);
    wait_while(at + CONTROL, WRITE_PENDING);
    true
}

/// The first frame of this CPU's redistributor.
fn redistributor() -> Option<usize> {
    let own = affinity(super::affinity() as u64);
    let regions = REDISTRIBUTORS.iter().map(|region| region.load(Ordering::Relaxed));
    for region in regions.filter(|&region| region != 0) {
        let mut at = region;
        loop {
            // SAFETY: a redistributor's register; regions have one after the other up to the last.
            let kind = unsafe { ((at + REDISTRIBUTOR_TYPE) as *const u64).read_volatile() };
            if (kind >> 32) as u32 == own {
                return Some(at);
            }
            if kind & LAST != 0 {
                break;
            }
            at += if kind & FOUR_FRAMES != 0 { 4 * FRAME } else { 2 * FRAME };
        }
    }
    None
}

/// `MPIDR_EL1`'s affinity as `GICR_TYPER` has it: without the gap.
fn affinity(mpidr: u64) -> u32 {
    (mpidr & 0xff_ffff | mpidr >> 8 & 0xff00_0000) as u32
}

/// Lets the interrupts that this CPU deals with end waits and runs. `false` if the controller does not know the CPU.
pub(super) fn init_cpu() -> bool {
    let Some(at) = redistributor() else { return false };
    write32(at + WAKER, read32(at + WAKER) & !PROCESSOR_SLEEP);
    wait_while(at + WAKER, CHILDREN_ASLEEP);
    let own = at + FRAME;
    write32(own + CLEAR_ENABLE, !0);
    wait_while(at + REDISTRIBUTOR_CONTROL, REDISTRIBUTOR_WRITE_PENDING);
    write32(own + CLEAR_ACTIVE, !0);
    write32(own + GROUP, !0);
    for word in 0..PRIVATE as usize / 4 {
        write32(own + PRIORITIES + 4 * word, u32::from_ne_bytes([PRIORITY; 4]));
    }
    write32(own + SET_ENABLE, OWN);
    // The system registers, here and below (SRE, Enable), without bypass (DFB, DIB).
    // SAFETY: interrupts become pending only: they stay masked.
    unsafe { write!("ICC_SRE_EL2", 0b1111) };
    barrier!("isb"); // the others exist only then
    // SAFETY: as above.
    unsafe {
        write!("ICC_AP1R0_EL1", 0); // whatever somebody before has not ended
        write!("ICC_PMR_EL1", 0xff);
        write!("ICC_BPR1_EL1", 0);
        write!("ICC_CTLR_EL1", 1 << 1); // EOImode: the end of an interrupt is not its deactivation
        write!("ICC_IGRPEN1_EL1", 1);
    }
    barrier!("isb");
    true
}

/// Enables an interrupt of a device for this CPU: one that stays for as long as there is a reason for it.
pub(super) fn enable_shared(intid: u32) {
    let at = DISTRIBUTOR.load(Ordering::Relaxed);
    let number = intid as usize;
    let (word, bit) = (4 * (number / 32), 1 << (number % 32));
    let configuration = at + CONFIGURATION + 4 * (number / 16);
    write32(configuration, read32(configuration) & !(0b10 << (2 * (number % 16))));
    // SAFETY: the distributor's registers; the number is that of a shared interrupt.
    unsafe {
        ((at + PRIORITIES + number) as *mut u8).write_volatile(PRIORITY);
        ((at + ROUTER + 8 * number) as *mut u64).write_volatile(super::affinity() as u64);
    }
    write32(at + SET_ENABLE + word, bit);
}

/// The number of a shared interrupt as the device tree has it (Linux, Documentation/devicetree/bindings/
/// interrupt-controller/arm,gic-v3.yaml): kind 0, the number without the private ones, flags.
pub(super) fn shared(node: &FdtNode<'_, '_>) -> Option<u32> {
    let mut cells = machine::cells(node, "interrupts")?;
    let (kind, number) = (cells.next()?, cells.next()?);
    (kind == 0 && number < SPECIAL - PRIVATE).then_some(PRIVATE + number)
}

/// Makes the kick of the CPU with this affinity pending.
pub(super) fn kick(mpidr: u64) {
    let level = |number: u32| mpidr >> (8 * number) & 0xff;
    let aff3 = mpidr >> 32 & 0xff;
    let value = aff3 << 48
        | (level(0) >> 4) << 44 // range selector
        | level(2) << 32
        | u64::from(KICK) << 24
        | level(1) << 16
        | 1 << (level(0) & 15);
    // What it is told by memory comes first.
    barrier!("dsb ishst");
    // SAFETY: an interrupt that is dealt with whenever it comes.
    unsafe { write!("ICC_SGI1R_EL1", value) };
    barrier!("isb");
}

/// The interrupt that is pending, [`SPURIOUS`](axvcpu_arm::gic::SPURIOUS) if none is.
#[inline]
pub(super) fn pending() -> u32 {
    read!("ICC_HPPIR1_EL1") as u32 & 0xff_ffff
}

/// Takes the interrupt that is pending.
pub(super) fn acknowledge() -> Option<u32> {
    let intid = read!("ICC_IAR1_EL1") as u32 & 0xff_ffff;
    // Its priority counts before anything else happens.
    barrier!("dsb sy");
    (intid < SPECIAL).then_some(intid)
}

/// The end of an interrupt: others are pending again, this one is not before it is deactivated.
pub(super) fn drop_priority(intid: u32) {
    // SAFETY: of an interrupt that was acknowledged.
    unsafe { write!("ICC_EOIR1_EL1", intid.into()) };
    barrier!("isb");
}

/// Lets an interrupt become pending again.
pub(super) fn deactivate(intid: u32) {
    // SAFETY: of an interrupt that was acknowledged.
    unsafe { write!("ICC_DIR_EL1", intid.into()) };
    barrier!("isb");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn affinities_have_no_gap() {
        assert_eq!(affinity(0x12_8034_5678 & 0xff_00ff_ffff), 0x1234_5678);
        assert_eq!(affinity(3), 3);
    }
}
