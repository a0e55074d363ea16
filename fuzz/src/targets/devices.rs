//! Whole machines under a guest that accesses registers and calls its firmware at random.

use std::sync::Arc;

use axvcpu::{AccessKind, AxVCpuExitReason as Exit, GuestPhysAddr};
use axvcpu_vmm::arm::{
    ArmVm, ArmVmConfig, DISTRIBUTOR_SIZE, REDISTRIBUTOR_SIZE, layout as arm_map,
};
use axvcpu_vmm::devices::Unconnected;
use axvcpu_vmm::riscv::{PLIC_SIZE, RiscvVm, RiscvVmConfig, layout as riscv_map};
use axvcpu_vmm::x86::{X86Vm, X86VmConfig, layout as x86_map};

use super::machines::{Shared, Typed, Window, access, address, width};
use crate::input::Input;
use crate::platform::{Fake, Ram, Silent};

const CPUS: usize = 2;
const MEMORY: usize = 4 << 20;

/// What a guest does besides what the target is about.
fn other(input: &mut Input<'_>, typed: Typed<'_>) -> Exit {
    match input.u8() % 8 {
        0..=3 => {
            typed.set(input.u8().into());
            Exit::Nothing
        }
        4 => Exit::Halt { wake_after_ns: Some(input.number()) },
        5 => Exit::Halt { wake_after_ns: None },
        6 => Exit::NestedPageFault {
            addr: GuestPhysAddr::new(input.number()),
            access: AccessKind::Execute,
        },
        _ => match input.u8() & 1 {
            0 => Exit::SysRegRead { addr: input.number() },
            _ => Exit::SysRegWrite { addr: input.number(), value: input.number() },
        },
    }
}

fn run_riscv(shared: &Shared) {
    let config = RiscvVmConfig { cpus: CPUS, kernel: b"kernel", ..Default::default() };
    let ram = Box::new(Ram::new(MEMORY));
    let create = |_| shared.script.clone();
    let vm = RiscvVm::<Fake<10>>::new(&config, ram, Arc::new(Silent), create, |_| ());
    let vm = vm.expect("a machine like any other");
    shared.drive(&vm, &|bytes| vm.push_console_input(bytes));
}

fn run_arm(shared: &Shared) {
    let config = ArmVmConfig { cpus: CPUS, kernel: b"kernel", ..Default::default() };
    let ram = Box::new(Ram::new(MEMORY));
    let create = |_, _| shared.script.clone();
    let vm = ArmVm::<Fake<0>>::new(&config, ram, Arc::new(Silent), create, |_| ());
    let vm = vm.expect("a machine like any other");
    shared.drive(&vm, &|bytes| vm.push_console_input(bytes));
}

const RISCV: &[Window] = &[
    (riscv_map::UART_BASE, 8),
    (riscv_map::UART_BASE, riscv_map::UART_SIZE),
    // Priorities, pending, enabled, and what the contexts have.
    (riscv_map::PLIC_BASE, 0x100),
    (riscv_map::PLIC_BASE + 0x1000, 0x10),
    (riscv_map::PLIC_BASE + 0x2000, 0x200),
    (riscv_map::PLIC_BASE + 0x20_0000, 0x4000),
    (riscv_map::PLIC_BASE, PLIC_SIZE),
];

pub(super) fn riscv(bytes: &[u8]) {
    run_riscv(&Shared::new(bytes, |input, typed| {
        let kind = input.u8();
        if kind >= 0xe0 { other(input, typed) } else { access(input, kind, RISCV) }
    }));
}

const ARM: &[Window] = &[
    (arm_map::UART_BASE, 0x50),
    (arm_map::UART_BASE, arm_map::UART_SIZE),
    (arm_map::DISTRIBUTOR_BASE, 0x20),
    (arm_map::DISTRIBUTOR_BASE, 0x1000),
    (arm_map::DISTRIBUTOR_BASE, DISTRIBUTOR_SIZE),
    (arm_map::REDISTRIBUTOR_BASE, 0x100),
    // The frame of private interrupts, of both CPUs.
    (arm_map::REDISTRIBUTOR_BASE + 0x1_0000, 0x1000),
    (arm_map::REDISTRIBUTOR_BASE + REDISTRIBUTOR_SIZE + 0x1_0000, 0x1000),
    (arm_map::REDISTRIBUTOR_BASE, CPUS as u64 * REDISTRIBUTOR_SIZE),
];

pub(super) fn arm(bytes: &[u8]) {
    run_arm(&Shared::new(bytes, |input, typed| {
        let kind = input.u8();
        match kind {
            0xf0.. => interrupt(input),
            0xe0.. => other(input, typed),
            _ => access(input, kind, ARM),
        }
    }));
}

/// A software-generated interrupt. Its number has four bits in the register that makes it.
fn interrupt(input: &mut Input<'_>) -> Exit {
    Exit::SendIpi { base: input.number(), mask: input.number(), vector: u64::from(input.u8() & 15) }
}

const PORTS: &[Window] = &[
    (x86_map::UART_PORT as u64, x86_map::UART_PORTS as u64),
    (x86_map::PM1_EVENT as u64 - 4, 0x10),
    (x86_map::RESET as u64 - 1, 4),
    (x86_map::KEYBOARD as u64 - 4, 8),
    (x86_map::POST as u64, 1),
    (0, 1 << 16),
];

pub(super) fn x86(bytes: &[u8]) {
    let shared = Shared::new(bytes, |input, typed| {
        let kind = input.u8();
        if kind >= 0xe0 {
            return other(input, typed);
        }
        let width = width((kind >> 1) % 3);
        let port = address(input, PORTS, width) as u16;
        match kind & 1 {
            0 => Exit::IoRead { port, width },
            _ => Exit::IoWrite { port, width, data: input.number() & width.mask() },
        }
    });
    let config = X86VmConfig { cpus: CPUS, kernel: b"kernel", ..Default::default() };
    let ram = Box::new(Ram::new(MEMORY));
    let create = |_| shared.script.clone();
    let line = |_| -> Arc<dyn axvcpu_vmm::devices::IrqLine> { Arc::new(Unconnected) };
    let vm = X86Vm::<Fake<0>>::new(&config, ram, Arc::new(Silent), line, create, |_, _| ());
    let vm = vm.expect("a machine like any other");
    shared.drive(&vm, &|bytes| vm.push_console_input(bytes));
}

/// An argument: a number, or an address in or near memory.
fn argument(input: &mut Input<'_>, base: u64) -> u64 {
    match input.u8() {
        0 => base + input.number() % (MEMORY as u64),
        1 => (base + MEMORY as u64).wrapping_sub(u64::from(input.u8())),
        2 => base.wrapping_sub(u64::from(input.u8())),
        _ => input.number(),
    }
}

fn arguments(input: &mut Input<'_>, base: u64) -> [u64; 6] {
    let count = usize::from(input.u8() % 7);
    let mut args = [0; 6];
    args.iter_mut().take(count).for_each(|arg| *arg = argument(input, base));
    args
}

/// BASE, TIME, IPI, RFENCE, HSM, SRST, DBCN, PMU, SUSP.
const SBI: &[u64] = &[
    0x10,
    0x5449_4d45,
    0x73_5049,
    0x5246_4e43,
    0x48_534d,
    0x5352_5354,
    0x4442_434e,
    0x50_4d55,
    0x5355_5350,
];

pub(super) fn sbi(bytes: &[u8]) {
    run_riscv(&Shared::new(bytes, |input, typed| {
        let kind = input.u8();
        let nr = match kind {
            0xf0.. => return other(input, typed),
            0xe0.. => return access(input, kind, RISCV),
            0xd0.. => input.number(),
            0xc0.. => u64::from(kind & 0xf), // the legacy calls
            _ => SBI[usize::from(kind) % SBI.len()],
        };
        let function = input.number();
        Exit::Hypercall { nr, function, args: arguments(input, riscv_map::RAM_BASE) }
    }));
}

pub(super) fn psci(bytes: &[u8]) {
    run_arm(&Shared::new(bytes, |input, typed| {
        let kind = input.u8();
        let nr = match kind {
            0xf0.. => return interrupt(input),
            0xe0.. => return other(input, typed),
            0xd0.. => return access(input, kind, ARM),
            0xc0.. => input.number(),
            0x80.. => 0x8000_0000 | u64::from(kind & 0x20) << 25 | u64::from(kind & 0x1f),
            _ => 0x8400_0000 | u64::from(kind & 0x20) << 25 | u64::from(kind & 0x1f),
        };
        Exit::Hypercall { nr, function: 0, args: arguments(input, arm_map::RAM_BASE) }
    }));
}
