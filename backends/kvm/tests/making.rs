//! What machines and vCPUs are made of: what is refused, what is made again, and what a reset leaves.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod common;

use axvcpu::AccessWidth::Dword;
use axvcpu::{AxError, AxVCpuExitReason as Exit, GuestPhysAddr};
use axvcpu_kvm::bindings::kvm_cpuid_entry2;
use axvcpu_kvm::{Irqchip, KvmConfig, KvmMachine, KvmSetup, MachineConfig, MsrExits};
use axvcpu_x86::asm::*;
use axvcpu_x86::ept::Perms;
use common::{Bench, CODE, VCpu, assemble, cpu, kvm, long_mode};

/// Without the kernel's interrupt controllers.
fn bare() -> MachineConfig {
    MachineConfig { irqchip: Irqchip::None, ..Default::default() }
}

#[test]
fn ranges_that_are_none_are_refused() {
    let end = 0xc000_0082;
    for (range, is_one) in [
        (std::ops::RangeInclusive::new(end, end - 1), false),
        (0..=u32::MAX, false),
        (0..=0x3000, false),
        (0..=0x2fff, true),
        (end..=end, true),
    ] {
        let Some(kvm) = kvm("ranges") else { return };
        let msr_exits = MsrExits { unknown: false, ranges: vec![range.clone()] };
        let made = KvmMachine::new(kvm, &MachineConfig { msr_exits, ..bare() });
        assert_eq!(made.is_ok(), is_one, "{range:x?}");
    }
}

#[test]
fn a_model_that_the_kernel_refuses_does_not_cost_the_vcpu() {
    let Some(kvm) = kvm("models of CPUs") else { return };
    let bench = Bench::new(kvm, &bare(), &[]);
    let make = |cpuid: Option<Vec<kvm_cpuid_entry2>>| {
        VCpu::new(1, 0, 0, None, KvmConfig { machine: bench.machine.clone(), cpuid })
    };
    let mut nonsense = bench.machine.cpuid().to_vec();
    // Addresses of so many bits there are not (`kvm_check_cpuid` in Linux, arch/x86/kvm/cpuid.c).
    nonsense.iter_mut().filter(|e| e.function == 0x8000_0008).for_each(|e| e.eax = 33 << 8);
    let long = vec![kvm_cpuid_entry2::default(); 257];
    assert_eq!(make(Some(long)).err(), Some(AxError::InvalidInput));
    for _ in 0..2 {
        assert!(matches!(make(Some(nonsense.clone())).err(), Some(AxError::Host { .. })));
        assert!(make(None).is_ok());
    }
}

#[test]
fn the_number_that_means_all_local_apics_is_no_vcpu_s() {
    let Some(kvm) = kvm("numbers of local APICs") else { return };
    let bench = Bench::new(kvm, &MachineConfig::default(), &[]);
    let make = |number| VCpu::new(1, number, 0, None, KvmConfig::new(bench.machine.clone()));
    assert!(make(254).is_ok());
    assert_eq!(make(255).err(), Some(AxError::InvalidInput));
}

#[test]
fn memory_types_are_set_up_and_reset() {
    let Some(kvm) = kvm("memory types") else { return };
    let _cpu = cpu();
    let code = assemble(|a| {
        for msr in [0x2ff, 0x200] {
            a.li(RCX, msr);
            a.rdmsr();
            a.out_imm(0x10, EAX);
        }
        a.li(RDX, 0);
        for (msr, value) in [(0x200, 0x1000_0006), (0x2ff, 0)] {
            a.li(RCX, msr);
            a.li(RAX, value);
            a.wrmsr();
        }
        a.out_imm(0x11, EAX);
    });
    let mut bench = Bench::new(kvm, &bare(), &code);
    let vcpu = bench.add(KvmSetup::Start(long_mode()));
    vcpu.bind().unwrap();
    for _ in 0..2 {
        for (port, data) in [(0x10, 0x806), (0x10, 0), (0x11, 0)] {
            assert_eq!(vcpu.run(), Ok(Exit::IoWrite { port, width: Dword, data }));
        }
        vcpu.reset().unwrap();
    }
    vcpu.unbind().unwrap();
}

#[test]
fn what_is_mapped_before_the_first_run_is_there_after_a_reset_too() {
    let Some(kvm) = kvm("memory before the first run") else { return };
    let _cpu = cpu();
    let code = assemble(|a| a.out_imm(0x10, EAX));
    let mut bench = Bench::new(kvm, &bare(), &code);
    let page = GuestPhysAddr::new(CODE);
    let host = bench.table.query(page).unwrap().host;
    bench.table.unmap(page, 0x1000).unwrap();
    bench.add(KvmSetup::Start(long_mode()));
    bench.table.map(page, host, 0x1000, Perms::RWX).unwrap();
    let vcpu = &bench.vcpus[0];
    vcpu.bind().unwrap();
    vcpu.reset().unwrap();
    assert_eq!(vcpu.run(), Ok(Exit::IoWrite { port: 0x10, width: Dword, data: 0 }));
    vcpu.unbind().unwrap();
}
