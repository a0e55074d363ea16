//! The guest on the software hart: it prints what it should, and its instructions are as many as it says.
#![allow(unsafe_code)] // gives a vCPU its memory

use std::slice;

use axvcpu::{AxVCpu, AxVCpuExitReason, GuestPhysAddr};
use axvcpu_cli::hal::{Frames, LinuxHal};
use axvcpu_cli::memory::GuestRam;
use axvcpu_guest_compute::{BANNER, ENTRY, checksum, image, instructions};
use axvcpu_riscv::paging::SV39X4;
use axvcpu_riscv::stage2::{Perms, Stage2};
use axvcpu_soft::{Clock, SoftConfig, SoftVCpu, VirtualClock};

const SIZE: usize = 2 << 20;

/// What the guest prints, and how many instructions it took.
fn run(rounds: u32) -> (String, u64) {
    let ram = GuestRam::new(SIZE).unwrap();
    // SAFETY: the memory was just mapped with this size, and nobody else knows it until the vCPU runs.
    let memory = unsafe { slice::from_raw_parts_mut(ram.base().as_ptr(), SIZE) };
    let image = image(rounds).unwrap();
    memory[..image.len()].copy_from_slice(&image);
    let mut table = Stage2::<Frames>::new(SV39X4).unwrap();
    table.map(GuestPhysAddr::new(ENTRY), ram.host_address(), SIZE as u64, Perms::RWX).unwrap();
    let config = SoftConfig::new(Clock::Instructions(VirtualClock::new()));
    let vcpu = AxVCpu::<SoftVCpu<LinuxHal>>::new(0, 0, 0, None, config).unwrap();
    // SAFETY: the table maps the guest's memory only, and is older than the vCPU like the memory.
    unsafe { vcpu.setup(GuestPhysAddr::new(ENTRY), table.root(), ()) }.unwrap();
    vcpu.bind().unwrap();
    let mut text = String::new();
    loop {
        match vcpu.run().unwrap() {
            AxVCpuExitReason::Hypercall {
                nr: 0x4442_434e,
                function: 0,
                args: [length, at, 0, ..],
            } => {
                let start = (at - ENTRY) as usize;
                // SAFETY: the vCPU does not run while the slice lives.
                let memory = unsafe { slice::from_raw_parts(ram.base().as_ptr(), SIZE) };
                let bytes = &memory[start..start + length as usize];
                text.push_str(std::str::from_utf8(bytes).unwrap());
                vcpu.set_return_value(0).unwrap();
                vcpu.set_gpr(11, length).unwrap();
            }
            AxVCpuExitReason::Hypercall { nr: 0x5352_5354, function: 0, args: [0, 0, ..] } => {
                let count = vcpu.with_arch(|arch| arch.instructions()).unwrap();
                vcpu.unbind().unwrap();
                return (text, count);
            }
            AxVCpuExitReason::Nothing => {} // another vCPU's turn, if there were one
            exit => panic!("unexpected {exit:?}"),
        }
    }
}

#[test]
fn the_guest_computes_what_rust_does() {
    for rounds in [0, 1, 3] {
        let (text, _) = run(rounds);
        let numbers = text.strip_prefix(BANNER).unwrap().strip_suffix('\n').unwrap();
        let (sum, count) = numbers.split_once(' ').unwrap();
        assert_eq!(u64::from_str_radix(sum, 16), Ok(checksum(rounds)), "{rounds} rounds: {text}");
        // All but what stands between the two readings of the counter.
        let count = u64::from_str_radix(count, 16).unwrap();
        assert!(count.abs_diff(instructions(rounds) - instructions(0)) < 8, "{count}");
    }
}

#[test]
fn the_instructions_are_as_many_as_promised() {
    for rounds in [0, 1, 2, 5] {
        let (_, count) = run(rounds);
        assert_eq!(count, instructions(rounds), "{rounds} rounds");
    }
}
