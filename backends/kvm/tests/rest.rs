//! vCPUs that do not run: what may be asked of them between two runs, and what must not come of it.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod common;

use axvcpu::AccessWidth::Byte;
use axvcpu::{AxVCpuExitReason as Exit, Fence, GuestPhysAddr};
use axvcpu_kvm::{Irqchip, KvmSetup, MachineConfig};
use axvcpu_x86::asm::*;
use axvcpu_x86::reg::gpr;
use common::{Bench, assemble, cpu, kvm, long_mode};

/// Without the kernel's interrupt controllers.
fn bare() -> MachineConfig {
    MachineConfig { irqchip: Irqchip::None, ..Default::default() }
}

#[test]
fn nothing_reaches_memory_that_a_fence_has_taken_away() {
    let Some(kvm) = kvm("a fence and an unfinished access") else { return };
    let _cpu = cpu();
    const PAGE: u64 = 0x5_0000;
    let code = assemble(|a| {
        a.li(RDX, 0x10);
        a.li(RDI, PAGE);
        a.insb();
        a.out_imm(0x11, AL);
    });
    let mut bench = Bench::new(kvm, &bare(), &code);
    bench.add(KvmSetup::Start(long_mode()));
    let vcpu = &bench.vcpus[0];
    vcpu.bind().unwrap();
    assert_eq!(vcpu.run(), Ok(Exit::IoRead { port: 0x10, width: Byte }));
    vcpu.set_return_value(0x5a).unwrap();
    bench.table.unmap(GuestPhysAddr::new(PAGE), 0x1000).unwrap();
    vcpu.request_fence(Fence::STAGE2_TLB);
    // From here on the page may be anybody's.
    assert!(!vcpu.fence_outstanding(Fence::STAGE2_TLB));
    assert_eq!(vcpu.get_gpr(gpr::RDX), Ok(0x10));
    assert_eq!(bench.read(PAGE), 0);
    let addr = GuestPhysAddr::new(PAGE);
    assert_eq!(vcpu.run(), Ok(Exit::MmioWrite { addr, width: Byte, data: 0x5a }));
    vcpu.unbind().unwrap();
}
