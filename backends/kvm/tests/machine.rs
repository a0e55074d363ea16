//! The backend on this machine's KVM: what its own interface adds to the contract.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod common;

use axvcpu::AccessWidth::{Byte, Word};
use axvcpu::{AxVCpuExitReason as Exit, GuestPhysAddr};
use axvcpu_kvm::{Irqchip, KvmSetup, MachineConfig};
use axvcpu_x86::start::Start;
use common::{Bench, cpu, kvm};

const ENTRY: u64 = 0x1000;

fn bare() -> MachineConfig {
    MachineConfig { irqchip: Irqchip::None, ..Default::default() }
}

#[test]
fn a_real_mode_guest_uses_ports() {
    let Some(kvm) = kvm("ports") else { return };
    let _cpu = cpu();
    // mov al, 0x41; out 0x10, al; in ax, 0x20; out 0x11, al; mov al, ah; out 0x11, al; hlt
    let code = [0xb0, 0x41, 0xe6, 0x10, 0xe5, 0x20, 0xe6, 0x11, 0x88, 0xe0, 0xe6, 0x11, 0xf4];
    let mut bench = Bench::new(kvm, &bare(), ENTRY, &code);
    let vcpu = bench.add(ENTRY, KvmSetup::Start(Start::REAL));
    vcpu.bind().unwrap();
    assert_eq!(vcpu.run(), Ok(Exit::IoWrite { port: 0x10, width: Byte, data: 0x41 }));
    assert_eq!(vcpu.get_gpr(0), Ok(0x41));
    assert_eq!(vcpu.run(), Ok(Exit::IoRead { port: 0x20, width: Word }));
    vcpu.set_return_value(0xff_1234).unwrap();
    assert_eq!(vcpu.get_gpr(0), Ok(0x1234));
    assert_eq!(vcpu.run(), Ok(Exit::IoWrite { port: 0x11, width: Byte, data: 0x34 }));
    assert_eq!(vcpu.run(), Ok(Exit::IoWrite { port: 0x11, width: Byte, data: 0x12 }));
    assert_eq!(vcpu.run(), Ok(Exit::Halt { wake_after_ns: None }));
    vcpu.wake();
    vcpu.unbind().unwrap();
}

#[test]
fn a_guest_that_does_not_stop_is_kicked() {
    let Some(kvm) = kvm("kick") else { return };
    let _cpu = cpu();
    // inc word [0x2000]; jmp back
    let code = [0xff, 0x06, 0x00, 0x20, 0xeb, 0xfa];
    let mut bench = Bench::new(kvm, &bare(), ENTRY, &code);
    bench.add(ENTRY, KvmSetup::Start(Start::REAL));
    let vcpu = &bench.vcpus[0];
    vcpu.bind().unwrap();
    for round in 0..200 {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                if round % 2 == 0 {
                    std::thread::sleep(std::time::Duration::from_micros(round * 10));
                }
                vcpu.kick();
            });
            assert_eq!(vcpu.run(), Ok(Exit::Nothing), "round {round}");
        });
    }
    assert_ne!((bench.read(0x2000), bench.read(0x2001)), (0, 0));
    vcpu.set_entry(GuestPhysAddr::new(ENTRY)).unwrap();
    vcpu.unbind().unwrap();
}
