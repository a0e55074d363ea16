//! A first look: a guest computes, calls its hypervisor and uses a device.

use crate::machine::{Machine, RAM};
use axvcpu::{AccessWidth, AxVCpuExitReason, GuestPhysAddr};
use axvcpu_riscv::asm::*;

fn hypercall(nr: u64, a0: u64) -> impl Fn(AxVCpuExitReason) -> bool {
    move |exit| matches!(exit, AxVCpuExitReason::Hypercall { nr: n, args, .. } if n == nr && args[0] == a0)
}

#[test]
fn computes_and_calls() {
    let mut asm = Asm::new(RAM);
    asm.li(A0, 0);
    asm.li(T0, 1000);
    let top = asm.here_label();
    asm.add(A0, A0, T0);
    asm.addi(T0, T0, -1);
    asm.bnez(T0, top);
    asm.li(A7, 77);
    asm.ecall();
    let machine = Machine::new(asm);
    let exit = machine.run();
    assert!(hypercall(77, 500_500)(exit), "{exit:?}");
}

#[test]
fn devices_are_asked_and_told() {
    let mut asm = Asm::new(RAM);
    asm.li(T0, 0x1000_0000);
    asm.li(T1, 0x1234_5678_9abc_def0);
    asm.sh(T1, 6, T0);
    asm.lb(A0, 5, T0);
    asm.li(A7, 77);
    asm.ecall();
    let machine = Machine::new(asm);
    let addr = |offset: u64| GuestPhysAddr::new(0x1000_0000 + offset);
    assert_eq!(
        machine.run(),
        AxVCpuExitReason::MmioWrite { addr: addr(6), width: AccessWidth::Word, data: 0xdef0 }
    );
    assert_eq!(
        machine.run(),
        AxVCpuExitReason::MmioRead { addr: addr(5), width: AccessWidth::Byte }
    );
    machine.vcpu.set_return_value(0xabcd_ef80).unwrap();
    assert!(matches!(machine.run(), AxVCpuExitReason::Hypercall { .. }));
    assert_eq!(machine.x(10), 0xffff_ffff_ffff_ff80);
}
