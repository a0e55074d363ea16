//! vCPUs that do not run: what may be asked of them between two runs, and what must not come of it.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod common;

use axvcpu::AccessWidth::{Byte, Dword};
use axvcpu::{AccessKind, AxError, AxVCpuExitReason as Exit, Fence, GuestPhysAddr};
use axvcpu_kvm::{Irqchip, KvmSetup, MachineConfig};
use axvcpu_x86::asm::*;
use axvcpu_x86::ept::Perms;
use axvcpu_x86::reg::gpr;
use common::{Bench, assemble, cpu, kvm, long_mode};

/// Where there is no memory.
const DEVICE: u64 = 0xd000_0000;

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

#[test]
fn a_reset_in_the_middle_of_a_long_string_works() {
    let Some(kvm) = kvm("reset in a string") else { return };
    let _cpu = cpu();
    let code = assemble(|a| {
        a.li(RSI, DEVICE);
        a.li(RDI, 0x5_0000);
        a.li(RCX, 1000);
        a.cld();
        a.rep().movsb();
    });
    let mut bench = Bench::new(kvm, &bare(), &code);
    let vcpu = bench.add(KvmSetup::Start(long_mode()));
    vcpu.bind().unwrap();
    let addr = GuestPhysAddr::new(DEVICE);
    for _ in 0..2 {
        assert_eq!(vcpu.run(), Ok(Exit::MmioRead { addr, width: Byte }));
        assert_eq!(vcpu.reset(), Ok(()));
    }
    vcpu.unbind().unwrap();
}

#[test]
fn a_store_can_be_undone_after_registers_were_read() {
    let Some(kvm) = kvm("registers and a store") else { return };
    let _cpu = cpu();
    const PAGE: u64 = 0x5_0000;
    let code = assemble(|a| {
        a.li(RAX, 0x1234_5678);
        a.li(RBX, PAGE);
        a.mov(mem(RBX), EAX);
        a.out_imm(0x11, AL);
    });
    let mut bench = Bench::new(kvm, &bare(), &code);
    let page = GuestPhysAddr::new(PAGE);
    let host = bench.table.query(page).unwrap().host;
    bench.table.unmap(page, 0x1000).unwrap();
    bench.add(KvmSetup::Start(long_mode()));
    let vcpu = &bench.vcpus[0];
    vcpu.bind().unwrap();
    let store = Exit::MmioWrite { addr: page, width: Dword, data: 0x1234_5678 };
    assert_eq!(vcpu.run(), Ok(store));
    assert_eq!(vcpu.get_gpr(gpr::RBX), Ok(PAGE));
    bench.table.map(page, host, 0x1000, Perms::RWX).unwrap();
    vcpu.request_fence(Fence::STAGE2_TLB);
    assert_eq!(vcpu.retry(), Ok(()));
    assert_eq!(vcpu.set_gpr(gpr::RAX, 7), Ok(()));
    assert_eq!(vcpu.run(), Ok(Exit::IoWrite { port: 0x11, width: Byte, data: 7 }));
    assert_eq!(bench.read(PAGE), 0x78);
    vcpu.unbind().unwrap();
}

#[test]
fn a_register_s_write_can_fail_after_registers_were_read() {
    let Some(kvm) = kvm("registers and a write to a register") else { return };
    let _cpu = cpu();
    const NOBODY_S: u64 = 0x1234_5678;
    let code = assemble(|a| {
        a.li(RCX, NOBODY_S);
        a.li(RAX, 1);
        a.li(RDX, 0);
        a.wrmsr();
        a.out_imm(0x11, AL);
    });
    let mut bench = Bench::new(kvm, &bare(), &code);
    let vcpu = bench.add(KvmSetup::Start(long_mode()));
    vcpu.bind().unwrap();
    let write = Ok(Exit::SysRegWrite { addr: NOBODY_S, value: 1 });
    assert_eq!(vcpu.run(), write);
    assert_eq!(vcpu.get_gpr(gpr::RCX), Ok(NOBODY_S));
    assert_eq!(vcpu.set_gpr(gpr::RBX, 1), Ok(()));
    assert_eq!(vcpu.fail_access(), Ok(()));
    assert_eq!(vcpu.fail_access(), Err(AxError::NotAsked));
    // The guest has no handlers.
    assert_eq!(vcpu.run(), Ok(Exit::SystemCrash));
    vcpu.reset().unwrap();
    // If it does not fail it is over as ever, and a new entry is where it was said to be.
    assert_eq!(vcpu.run(), write);
    assert_eq!(vcpu.get_gpr(gpr::RCX), Ok(NOBODY_S));
    assert_eq!(vcpu.set_gpr(gpr::RAX, 3), Ok(()));
    assert_eq!(vcpu.run(), Ok(Exit::IoWrite { port: 0x11, width: Byte, data: 3 }));
    vcpu.reset().unwrap();
    assert_eq!(vcpu.run(), write);
    vcpu.set_entry(GuestPhysAddr::new(common::CODE)).unwrap();
    assert_eq!(vcpu.run(), write);
    vcpu.unbind().unwrap();
}

/// Goes to this address in ring 3, where it has no stack and nobody handles exceptions.
fn user(a: &mut Asm, to: u64) {
    const EFER: u64 = 0xc000_0080;
    const STAR: u64 = 0xc000_0081;
    a.li(RCX, EFER);
    a.rdmsr();
    a.or(EAX, 1);
    a.wrmsr();
    a.li(RCX, STAR);
    a.li(RAX, 0);
    a.li(RDX, 0x0013_0010);
    a.wrmsr();
    a.li(RCX, to);
    a.li(R11, 0x3002); // with the right to use ports
    a.sysretq();
}

#[test]
fn memory_for_a_user_s_code_can_be_mapped_when_it_is_wanted() {
    let Some(kvm) = kvm("a user's code") else { return };
    let _cpu = cpu();
    const PAGE: u64 = 0x5_0000;
    let code = assemble(|a| user(a, PAGE));
    let mut bench = Bench::new(kvm, &bare(), &code);
    bench.write(PAGE, &[0xe6, 0x10]); // out 0x10, al
    let page = GuestPhysAddr::new(PAGE);
    let host = bench.table.query(page).unwrap().host;
    bench.table.unmap(page, 0x1000).unwrap();
    bench.add(KvmSetup::Start(long_mode()));
    let vcpu = &bench.vcpus[0];
    vcpu.bind().unwrap();
    let fault = Exit::NestedPageFault { addr: page, access: AccessKind::Execute };
    assert_eq!(vcpu.run(), Ok(fault));
    assert_eq!(vcpu.run(), Ok(fault));
    bench.table.map(page, host, 0x1000, Perms::RWX).unwrap();
    vcpu.request_fence(Fence::STAGE2_TLB);
    assert!(matches!(vcpu.run(), Ok(Exit::IoWrite { port: 0x10, .. })));
    vcpu.unbind().unwrap();
}

#[test]
fn what_the_kernel_cannot_emulate_ends_a_user_and_not_the_machine() {
    let Some(kvm) = kvm("a user's x87 load from a device") else { return };
    let _cpu = cpu();
    const USER: u64 = 0x5_0000;
    let load = |a: &mut Asm| {
        a.li(RBX, DEVICE);
        a.fld(mem(RBX).of(Width::Qword));
        a.hlt();
    };
    let mut asm = Asm::new(USER);
    load(&mut asm);
    let mut bench = Bench::new(kvm, &bare(), &assemble(|a| user(a, USER)));
    bench.write(USER, &asm.finish().unwrap());
    let vcpu = bench.add(KvmSetup::Start(long_mode()));
    vcpu.bind().unwrap();
    // An undefined instruction, which nobody handles.
    assert_eq!(vcpu.run(), Ok(Exit::SystemCrash));
    vcpu.unbind().unwrap();
    bench.vcpus.clear();
    // Of a kernel it is the machine's end.
    bench.write(common::CODE, &assemble(load));
    let vcpu = bench.add(KvmSetup::Start(long_mode()));
    vcpu.bind().unwrap();
    let exit = vcpu.run();
    assert!(matches!(exit, Ok(Exit::InternalError { .. })), "{exit:x?}");
    vcpu.unbind().unwrap();
}

#[test]
fn a_reset_clears_the_task_priority() {
    let Some(kvm) = kvm("task priority") else { return };
    let _cpu = cpu();
    let code = assemble(|a| {
        a.mov_from_cr(RAX, 8);
        a.out_imm(0x11, AL);
        a.li(RAX, 5);
        a.mov_to_cr(8, RAX);
        a.out_imm(0x11, AL);
    });
    let mut bench = Bench::new(kvm, &bare(), &code);
    let vcpu = bench.add(KvmSetup::Start(long_mode()));
    vcpu.bind().unwrap();
    for _ in 0..2 {
        assert_eq!(vcpu.run(), Ok(Exit::IoWrite { port: 0x11, width: Byte, data: 0 }));
        assert_eq!(vcpu.run(), Ok(Exit::IoWrite { port: 0x11, width: Byte, data: 5 }));
        vcpu.reset().unwrap();
    }
    vcpu.unbind().unwrap();
}
