//! What a machine tells its guest of strings that come from outside.

use std::sync::{Arc, Mutex};

use axvcpu::AxVCpuExitReason as Exit;
use axvcpu_vmm::arm::{ArmVm, ArmVmConfig};
use axvcpu_vmm::devices::{IrqLine, Unconnected};
use axvcpu_vmm::riscv::layout::RAM_BASE;
use axvcpu_vmm::riscv::{RiscvVm, RiscvVmConfig};
use axvcpu_vmm::x86::{X86Vm, X86VmConfig};
use axvcpu_vmm::{BuildError, GuestMemory, arm};

use crate::input::Input;
use crate::platform::{Fake, Ram, Script, Silent};

#[path = "../../../vmm/src/testing/tree.rs"]
#[allow(dead_code, unreachable_pub)] // the tests there use more of it
mod read_back;

const MEMORY: usize = 4 << 20;

fn script() -> Script {
    Arc::new(Mutex::new(|| Exit::SystemDown))
}

/// A string of up to `most` bytes.
fn text(input: &mut Input<'_>) -> String {
    let length = usize::from(input.u8());
    // Some lengths no input of a fuzzer has.
    let times = if input.u8() == 0 { 1 << (input.u8() % 12) } else { 1 };
    String::from_utf8_lossy(input.take(length)).repeat(times)
}

pub(super) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (cpus, seed) = (usize::from(input.u8() % 9), input.u8());
    let seed = (seed != 0).then_some(seed.into());
    let timebase = input.number();
    let (isa, mmu_type, bootargs) = (text(&mut input), text(&mut input), text(&mut input));
    let clean = ![&isa, &mmu_type, &bootargs].iter().any(|text| text.contains('\0'));
    let initrd = input.rest();
    riscv(
        &RiscvVmConfig {
            cpus,
            isa: &isa,
            mmu_type: &mmu_type,
            timebase,
            kernel: b"kernel",
            initrd: Some(initrd),
            bootargs: &bootargs,
            seed,
            ..Default::default()
        },
        clean,
    );
    on_arm(&ArmVmConfig {
        cpus,
        kernel: b"kernel",
        initrd: Some(initrd),
        bootargs: &bootargs,
        seed,
        ..Default::default()
    });
    x86(&X86VmConfig {
        vm_id: 0,
        cpus,
        kernel: b"kernel",
        initrd: Some(initrd),
        bootargs: &bootargs,
        seed,
    });
}

/// The device tree: what is written last.
fn tree(memory: &GuestMemory, base: u64, written: &Mutex<Vec<(u64, u64)>>) -> Vec<u8> {
    let (offset, len) =
        *written.lock().expect("nobody panics with it").last().expect("a machine with a tree");
    let mut blob = vec![0; len as usize];
    memory.read(base + offset, &mut blob).expect("it was written there");
    blob
}

fn with_nul(text: &str) -> Vec<u8> {
    [text.as_bytes(), b"\0"].concat()
}

fn riscv(config: &RiscvVmConfig<'_>, clean: bool) {
    let ram = Ram::new(MEMORY);
    let written = ram.written();
    let create = |_| script();
    let vm = RiscvVm::<Fake<10>>::new(config, Box::new(ram), Arc::new(Silent), create, |_| ());
    let vm = match vm {
        Ok(vm) => vm,
        Err(error) => return refused(&error),
    };
    assert!(clean, "a text with a NUL byte in a device tree");
    assert!((1..=u64::from(u32::MAX)).contains(&config.timebase));
    let properties = read_back::read(&tree(vm.memory(), RAM_BASE, &written));
    assert_eq!(properties["/chosen/bootargs"], with_nul(config.bootargs));
    for cpu in 0..config.cpus {
        assert_eq!(properties[&format!("/cpus/cpu@{cpu:x}/riscv,isa")], with_nul(config.isa));
        let mmu_type = &properties[&format!("/cpus/cpu@{cpu:x}/mmu-type")];
        assert_eq!(mmu_type, &with_nul(config.mmu_type));
    }
    assert!(!properties.contains_key(&format!("/cpus/cpu@{:x}/reg", config.cpus)));
}

fn on_arm(config: &ArmVmConfig<'_>) {
    let ram = Ram::new(MEMORY);
    let written = ram.written();
    let create = |_, _| script();
    match ArmVm::<Fake<0>>::new(config, Box::new(ram), Arc::new(Silent), create, |_| ()) {
        Ok(vm) => {
            let blob = tree(vm.memory(), arm::layout::RAM_BASE, &written);
            let properties = read_back::read(&blob);
            assert_eq!(properties["/chosen/bootargs"], with_nul(config.bootargs));
        }
        Err(error) => refused(&error),
    }
}

fn x86(config: &X86VmConfig<'_>) {
    let line = |_| -> Arc<dyn IrqLine> { Arc::new(Unconnected) };
    let (ram, create) = (Box::new(Ram::new(MEMORY)), |_| script());
    match X86Vm::<Fake<0>>::new(config, ram, Arc::new(Silent), line, create, |_, _| ()) {
        Ok(vm) => {
            let mut found = vec![0; config.bootargs.len() + 1];
            let at = axvcpu_vmm::x86::layout::CMDLINE;
            vm.memory().read(at, &mut found).expect("memory");
            assert_eq!(found, with_nul(config.bootargs));
        }
        Err(error) => refused(&error),
    }
}

/// There is no machine, and a reason for it that can be shown.
fn refused(error: &BuildError) {
    let text = error.to_string();
    assert!(!text.is_empty() && !text.contains('\0'), "{text:?}");
    assert!(!matches!(error, BuildError::Kernel(_) | BuildError::Device(_)), "{text}");
}
