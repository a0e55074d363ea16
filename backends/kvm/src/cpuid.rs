//! The CPU that guests see: the host's, as far as KVM can give it to them (`KVM_GET_SUPPORTED_CPUID`), in a machine of one
//! socket with as many cores as there are vCPUs.

use kvm_bindings::{KVM_CAP_TSC_DEADLINE_TIMER, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};

use crate::kvm::Kvm;
use crate::machine::{Irqchip, MachineConfig};
use crate::sys::{Errno, request};

/// What KVM can give to guests.
pub(crate) fn supported(kvm: &Kvm) -> Result<Vec<kvm_cpuid_entry2>, Errno> {
    let mut list = request::Cpuid::room();
    request::GET_SUPPORTED_CPUID.call(kvm.fd(), &mut list)?;
    Ok(list.entries().to_vec())
}

/// Features of leaf 1 (SDM volume 2, "CPUID").
mod leaf1 {
    pub(super) const ECX_VMX: u32 = 1 << 5;
    pub(super) const ECX_X2APIC: u32 = 1 << 21;
    pub(super) const ECX_TSC_DEADLINE: u32 = 1 << 24;
    pub(super) const ECX_HYPERVISOR: u32 = 1 << 31;
    pub(super) const EDX_APIC: u32 = 1 << 9;
    pub(super) const EDX_HTT: u32 = 1 << 28;
}

/// AMD's virtualization, in leaf 0x8000_0001.
const EXTENDED_ECX_SVM: u32 = 1 << 2;
/// AMD's virtualization in detail.
const SVM_LEAF: u32 = 0x8000_000a;

/// Where hypervisors describe themselves.
const HYPERVISOR_LEAVES: std::ops::RangeInclusive<u32> = 0x4000_0000..=0x4000_ffff;
/// Leaves that describe the topology, or the whole CPU's caches and with them how many share one.
const EXTENDED_TOPOLOGY: [u32; 3] = [0xb, 0x1f, 0x8000_0026];

/// What is the same for all vCPUs of a machine.
pub(crate) fn model(
    kvm: &Kvm,
    mut entries: Vec<kvm_cpuid_entry2>,
    config: &MachineConfig,
) -> Vec<kvm_cpuid_entry2> {
    let cores = config.cpus.clamp(1, 255) as u32;
    let apic = config.irqchip == Irqchip::Kernel;
    let deadline = kvm.capability(KVM_CAP_TSC_DEADLINE_TIMER) != 0;
    if !apic {
        // All of what KVM offers there needs its APIC, or a guest that believes there is one.
        entries.retain(|entry| !HYPERVISOR_LEAVES.contains(&entry.function));
    }
    for entry in &mut entries {
        adapt(entry, cores, apic, deadline);
    }
    // A guest's own guests are state that this backend neither resets nor keeps.
    entries.retain(|entry| entry.function != SVM_LEAF);
    let topology = entries.iter().any(|entry| entry.function == 0xb);
    entries.retain(|entry| !EXTENDED_TOPOLOGY.contains(&entry.function));
    if topology && apic {
        entries.extend((0..3).map(|level| extended_topology(level, cores)));
    }
    entries
}

fn adapt(entry: &mut kvm_cpuid_entry2, cores: u32, apic: bool, deadline: bool) {
    match entry.function {
        0x1 => {
            entry.ebx = entry.ebx & 0xffff | cores << 16;
            entry.ecx |= leaf1::ECX_HYPERVISOR;
            entry.ecx &= !leaf1::ECX_VMX;
            entry.edx &= !leaf1::EDX_HTT;
            if cores > 1 {
                entry.edx |= leaf1::EDX_HTT;
            }
            entry.ecx &= !leaf1::ECX_TSC_DEADLINE;
            if !apic {
                entry.ecx &= !leaf1::ECX_X2APIC;
                entry.edx &= !leaf1::EDX_APIC;
            } else if deadline {
                entry.ecx |= leaf1::ECX_TSC_DEADLINE;
            }
        }
        // Caches: of one core each, in a package of so many.
        0x4 => {
            let others = cores.next_power_of_two() - 1;
            entry.eax = entry.eax & 0x3fff | others << 26;
        }
        0x8000_0001 => {
            entry.ecx &= !EXTENDED_ECX_SVM;
            if !apic {
                // AMD: the APIC is in a feature word of its own too.
                entry.edx &= !leaf1::EDX_APIC;
            }
        }
        // AMD: how many cores, and the bits of the APIC's number that tell them apart.
        0x8000_0008 => {
            let bits = cores.next_power_of_two().trailing_zeros();
            entry.ecx = entry.ecx & !0xf0ff | bits << 12 | (cores - 1);
        }
        // AMD: caches are of one core each.
        0x8000_001d => entry.eax &= 0x3fff,
        _ => {}
    }
}

/// A level of leaf 0xb: threads, of which a core has one; cores; the end.
fn extended_topology(level: u32, cores: u32) -> kvm_cpuid_entry2 {
    let bits = cores.next_power_of_two().trailing_zeros();
    let (eax, ebx, kind) = match level {
        0 => (0, 1, 1),
        1 => (bits, cores, 2),
        _ => (0, 0, 0),
    };
    kvm_cpuid_entry2 {
        function: 0xb,
        index: level,
        flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        eax,
        ebx,
        ecx: kind << 8 | level,
        ..Default::default()
    }
}

/// What tells a vCPU from the others: the number of its APIC.
pub(crate) fn for_cpu(entries: &[kvm_cpuid_entry2], apic: u32) -> Vec<kvm_cpuid_entry2> {
    let mut entries = entries.to_vec();
    for entry in &mut entries {
        match entry.function {
            0x1 => entry.ebx = entry.ebx & 0x00ff_ffff | (apic & 0xff) << 24,
            0xb => entry.edx = apic,
            // AMD: the APIC's number, and the core's.
            0x8000_001e => {
                entry.eax = apic;
                entry.ebx = apic & 0xff;
                entry.ecx = 0;
            }
            _ => {}
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(function: u32) -> kvm_cpuid_entry2 {
        let all = u32::MAX;
        kvm_cpuid_entry2 { function, eax: all, ebx: all, ecx: all, edx: all, ..Default::default() }
    }

    #[test]
    fn a_guest_without_an_apic_is_told_so() {
        let mut entry = leaf(1);
        adapt(&mut entry, 4, false, true);
        assert_eq!(entry.edx & leaf1::EDX_APIC, 0);
        assert_eq!(entry.ecx & (leaf1::ECX_X2APIC | leaf1::ECX_TSC_DEADLINE), 0);
        assert_ne!(entry.ecx & leaf1::ECX_HYPERVISOR, 0);
        assert_eq!(entry.ecx & leaf1::ECX_VMX, 0);
        let mut entry = leaf(1);
        adapt(&mut entry, 1, true, true);
        assert_ne!(entry.ecx & leaf1::ECX_TSC_DEADLINE, 0);
        assert_eq!(entry.edx & leaf1::EDX_HTT, 0, "one core");
        adapt(&mut entry, 1, true, false);
        assert_eq!(entry.ecx & leaf1::ECX_TSC_DEADLINE, 0);
    }

    #[test]
    fn the_topology_is_one_socket_of_cores() {
        let mut entry = leaf(1);
        adapt(&mut entry, 6, true, true);
        assert_eq!(entry.ebx >> 16 & 0xff, 6);
        let mut entry = leaf(0x8000_0008);
        adapt(&mut entry, 6, true, true);
        assert_eq!((entry.ecx & 0xff, entry.ecx >> 12 & 0xf), (5, 3));
        let levels: Vec<_> = (0..3).map(|level| extended_topology(level, 6)).collect();
        let seen: Vec<_> = levels.iter().map(|l| (l.eax, l.ebx, l.ecx)).collect();
        assert_eq!(seen, [(0, 1, 0x100), (3, 6, 0x201), (0, 0, 2)]);
        for apic in [0, 5] {
            let entries = for_cpu(&[leaf(1), levels[1], leaf(0x8000_001e)], apic);
            assert_eq!(entries.iter().map(|e| e.edx).nth(1), Some(apic));
            assert_eq!((entries[0].ebx >> 24, entries[2].eax), (apic, apic));
        }
    }
}
