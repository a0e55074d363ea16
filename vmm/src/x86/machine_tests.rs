//! Whole machines, on vCPUs that run Rust functions.

use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, mpsc};
use std::thread;

use axvcpu::{AccessWidth, AxVCpuExitReason as Exit};
use axvcpu_x86::start::Mode;

use super::super::layout::{BOOT_PARAMS, GDT, HOLE_END, PML4, START_INFO};
use super::*;
use crate::loader::{u32_at, u64_at};
use crate::numbers::Numbers;
use crate::testing::files::elf;
use crate::testing::{ArmFake, Console, Heap, Program, Threads, Virtual};
use crate::{ExitKind, Outcome, PowerState};

/// A vCPU that runs a Rust function; the register for results is `rax`.
type Fake = ArmFake;

const MIB: usize = 1 << 20;
const RSI: usize = 6;
const RBX: usize = 3;

/// An interrupt line that remembers all it was told.
#[derive(Default)]
struct Line(Mutex<Vec<bool>>);

impl IrqLine for Line {
    fn set(&self, asserted: bool) {
        self.0.lock().unwrap().push(asserted);
    }
}

/// A machine, and what happened when it was made.
struct Made {
    vm: X86Vm<Fake>,
    console: Arc<Console>,
    line: Arc<Line>,
    starts: Vec<(usize, Start)>,
}

fn build(config: &X86VmConfig<'_>, ram: usize, programs: Vec<Program>) -> Result<Made, BuildError> {
    let (console, line) = (Arc::new(Console::default()), Arc::new(Line::default()));
    let mut programs = programs.into_iter();
    let (mut starts, mut inputs) = (Vec::new(), Vec::new());
    let vm = X86Vm::new(
        config,
        Box::new(Heap::new(ram)),
        console.clone(),
        |gsi| {
            inputs.push(gsi);
            line.clone()
        },
        |_| programs.next().expect("a program for each CPU"),
        |cpu, start| starts.push((cpu, start)),
    )?;
    assert_eq!(inputs, [4]);
    Ok(Made { vm, console, line, starts })
}

/// A machine with 8 MiB of memory and a tiny kernel.
fn machine(programs: Vec<Program>) -> Made {
    let config = X86VmConfig { cpus: programs.len(), kernel: b"kernel", ..Default::default() };
    build(&config, 8 * MIB, programs).unwrap()
}

fn read(port: u16, width: AccessWidth) -> Exit {
    Exit::IoRead { port, width }
}

fn write(port: u16, width: AccessWidth, data: u64) -> Exit {
    Exit::IoWrite { port, width, data }
}

fn power_off() -> Exit {
    write(0x604, AccessWidth::Word, 5 << 10 | 1 << 13)
}

/// Where and with what a machine's CPU 0 begins, as its registers say.
fn first(config: &X86VmConfig<'_>, ram: usize, register: usize) -> (Made, u64, u64) {
    let (sender, seen) = mpsc::channel();
    let program: Program = Box::new(move |regs| {
        let others = regs.gpr.iter().enumerate().filter(|&(reg, _)| reg != register);
        assert!(others.map(|(_, &value)| value).all(|value| value == 0));
        sender.send((regs.pc, regs.gpr[register])).unwrap();
        power_off()
    });
    let made = build(config, ram, vec![program]).unwrap();
    assert_eq!(made.vm.run_in_turn(&Virtual::default()), Outcome::PowerOff);
    let (pc, argument) = seen.recv().unwrap();
    (made, pc, argument)
}

fn bytes(made: &Made, addr: u64, len: usize) -> Vec<u8> {
    let mut buf = vec![0; len];
    made.vm.memory().read(addr, &mut buf).unwrap();
    buf
}

#[test]
fn a_flat_binary_starts_in_long_mode() {
    let initrd = [0x5a; 10_000];
    let config = X86VmConfig {
        kernel: b"flat kernel",
        initrd: Some(&initrd),
        bootargs: "quiet",
        seed: Some(3),
        ..Default::default()
    };
    let (made, pc, argument) = first(&config, 4 * MIB, RSI);
    assert_eq!((pc, argument), (HIGH, BOOT_PARAMS));
    assert_eq!(made.starts, [(0, Start { mode: Mode::Long, gdt: GDT, cr3: PML4 })]);
    assert_eq!(bytes(&made, HIGH, 11), b"flat kernel");
    assert_eq!(bytes(&made, ACPI, 8), b"RSD PTR ");
    let page = bytes(&made, BOOT_PARAMS, 4096);
    let at = u64::from(u32_at(&page, 0x218).unwrap());
    assert_eq!((at, u32_at(&page, 0x21c)), ((4 * MIB as u64 - 10_000) & !0xfff, Some(10_000)));
    assert_eq!(bytes(&made, at, 10_000), initrd);
    assert!(u64_at(&page, 0x250).unwrap() != 0);
}

#[test]
fn a_pvh_kernel_starts_in_protected_mode() {
    let note = [&4u32.to_le_bytes()[..], &[4, 0, 0, 0, 18, 0, 0, 0], b"Xen\0", &[8, 0, 0x20, 0]];
    let note = note.concat();
    let kernel = elf(
        &[(1, 0x20_0000, 0x20_0000, b"a kernel with notes", 4096), (4, 0, 0, &note, 0)],
        |file| file[18..20].copy_from_slice(&62u16.to_le_bytes()),
    );
    let config = X86VmConfig { kernel: &kernel, ..Default::default() };
    let (made, pc, argument) = first(&config, 4 * MIB, RBX);
    assert_eq!((pc, argument), (0x20_0008, START_INFO));
    assert_eq!(made.starts, [(0, Start { mode: Mode::Protected, gdt: GDT, cr3: 0 })]);
    assert_eq!(bytes(&made, START_INFO, 4), 0x336e_c578u32.to_le_bytes());
}

#[test]
fn large_memory_goes_around_the_devices() {
    let size = (HOLE as usize) + 16 * MIB;
    let initrd = [0x5a; 5000];
    let config = X86VmConfig { kernel: b"kernel", initrd: Some(&initrd), ..Default::default() };
    let (made, ..) = first(&config, size, RSI);
    let ranges: Vec<_> = made.vm.memory().ranges().map(|range| (range.base, range.size)).collect();
    assert_eq!(ranges, [(0, HOLE), (HOLE_END, 16 * MIB as u64)]);
    let page = bytes(&made, BOOT_PARAMS, 4096);
    let line = &page[0x2d0 + 60..][..20];
    assert_eq!((u64_at(line, 0), u64_at(line, 8)), (Some(HOLE_END), Some(16 * MIB as u64)));
    assert_eq!((page[0x1e8], u32_at(&page, 0x218)), (4, Some(HOLE as u32 - 8192)));
    // Two parts of one piece of host memory.
    let host: Vec<_> = made.vm.memory().mappings().map(|(_, host)| host.as_u64()).collect();
    assert_eq!(host[1] - host[0], HOLE);
}

#[test]
fn exits_are_answered_and_counted() {
    let (sender, seen) = mpsc::channel();
    let (byte, word, long) = (AccessWidth::Byte, AccessWidth::Word, AccessWidth::Dword);
    let program: Program = Box::new(move |regs| match regs.step {
        0 => write(0x3f8, byte, b'x'.into()),
        1 => read(0x3fd, byte),
        2 => read(0x604, word),
        3 => write(0x80, byte, 1),
        4 => read(0xcf8, long),
        5 => write(0xcf8, long, 0x8000_0000),
        6 => read(0x3f8, word), // its registers are bytes
        7 => read(0xffff, byte),
        8 => Exit::Hypercall { nr: 5, function: 0, args: [0; 6] },
        9 => Exit::SysRegRead { addr: 0xc001_0015 },
        10 => Exit::MmioRead { addr: GuestPhysAddr::new(0xfed0_0000), width: long },
        _ => {
            sender.send((regs.answers.clone(), regs.failed_accesses)).unwrap();
            power_off()
        }
    });
    let Made { vm, console, .. } = machine(vec![program]);
    assert_eq!(vm.run_vcpu(0, &Threads::new()), Outcome::PowerOff);
    let enosys = -1000i64 as u64;
    let (answers, failed) = seen.recv().unwrap();
    assert_eq!(answers, [0x60, 1, 0xffff_ffff, 0xffff, 0xff, enosys]);
    assert_eq!(failed, 2);
    assert_eq!(*console.0.lock().unwrap(), b"x");
    assert_eq!(vm.ports().name_at(0x3ff), Some("serial port"));
    assert_eq!((vm.ports().name_at(0x400), vm.bus().name_at(0x3f8)), (None, None));
    let stats = vm.total_stats();
    for (kind, count) in [
        (ExitKind::IoRead, 5),
        (ExitKind::IoWrite, 4),
        (ExitKind::Hypercall, 1),
        (ExitKind::SysReg, 1),
        (ExitKind::MmioRead, 1),
        (ExitKind::Unclaimed, 6),
    ] {
        assert_eq!(stats.count(kind), count, "{kind:?}");
    }
}

#[test]
fn ends() {
    let byte = AccessWidth::Byte;
    let end = |exit: Exit| machine(vec![Box::new(move |_| exit)]).vm.run_vcpu(0, &Threads::new());
    assert_eq!(end(power_off()), Outcome::PowerOff);
    assert_eq!(end(write(0xcf9, byte, 6)), Outcome::Reboot { warm: false });
    assert_eq!(end(write(0x64, byte, 0xfe)), Outcome::Reboot { warm: false });
    assert_eq!(end(Exit::SystemCrash), Outcome::Crashed { reboot: false });
    for exit in [
        Exit::FailEntry { reason: 7 },
        Exit::InternalError { code: 17 << 32 | 1, data: [1, 2, 3, 4, 5, 6] },
        Exit::CpuUp { target_cpu: 1, entry_point: GuestPhysAddr::new(0x1000), arg: 0 },
    ] {
        assert_eq!(end(exit), Outcome::UnknownExit { cpu: 0, exit });
    }
}

/// Whatever guests do to ports ends in nothing but what a PC does: answers that fit, and its ends.
#[test]
fn no_port_access_does_harm() {
    const STEPS: usize = 2000;
    const PORTS: [u16; 5] = [0x3f8, 0x600, 0x64, 0xcf9, 0xffff];
    const WIDTHS: [AccessWidth; 3] = [AccessWidth::Byte, AccessWidth::Word, AccessWidth::Dword];
    let mut ended = 0;
    for seed in 0..50 {
        let mut numbers = Numbers(seed);
        let mut asked = AccessWidth::Dword;
        let program: Program = Box::new(move |regs| {
            let answer = regs.answers.last().copied().unwrap_or(0);
            assert_eq!(answer & !asked.mask(), 0, "{asked:?}");
            if regs.step == STEPS {
                return Exit::SystemCrash;
            }
            let port = match numbers.next() % 4 {
                0 => numbers.next() as u16,
                _ => PORTS[numbers.next() as usize % PORTS.len()]
                    .wrapping_add(numbers.next() as u16 % 12)
                    .wrapping_sub(4),
            };
            let width = WIDTHS[numbers.next() as usize % WIDTHS.len()];
            if numbers.next() % 2 == 0 {
                asked = width;
                return read(port, width);
            }
            write(port, width, numbers.next() & width.mask())
        });
        match machine(vec![program]).vm.run_vcpu(0, &Threads::new()) {
            Outcome::Crashed { .. } => {}
            Outcome::PowerOff | Outcome::Reboot { .. } => ended += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(ended > 10, "{ended}");
}

#[test]
fn input_raises_the_line() {
    let (sender, seen) = mpsc::channel();
    let program: Program = Box::new(move |regs| match regs.step {
        0 => write(0x3f9, AccessWidth::Byte, 1),
        1 => read(0x3fd, AccessWidth::Byte),
        2 => read(0x3f8, AccessWidth::Byte),
        _ => {
            sender.send(regs.answers.clone()).unwrap();
            power_off()
        }
    });
    let Made { vm, line, .. } = machine(vec![program]);
    assert_eq!(vm.push_console_input(b"k"), 1);
    assert_eq!(vm.run_vcpu(0, &Threads::new()), Outcome::PowerOff);
    assert_eq!(seen.recv().unwrap(), [0x61, b'k'.into()]);
    assert_eq!(*line.0.lock().unwrap(), [true, false]);
}

/// The hypervisor holds them; to the machine they run, and begin where a reset leaves them.
#[test]
fn other_cpus_run_from_the_beginning() {
    const OTHERS: usize = 3;
    let (sender, seen) = mpsc::channel();
    let all_ran = Arc::new(AtomicBool::new(false));
    let flag = all_ran.clone();
    let boss: Program =
        Box::new(move |_| if flag.load(Ordering::Acquire) { power_off() } else { Exit::Nothing });
    let mut programs = vec![boss];
    for _ in 0..OTHERS {
        let sender = sender.clone();
        programs.push(Box::new(move |regs| {
            if regs.step == 0 {
                sender.send((regs.pc, regs.gpr)).unwrap();
            }
            Exit::Nothing
        }));
    }
    let Made { vm, starts, .. } = machine(programs);
    assert_eq!(starts.len(), 1 + OTHERS);
    assert_eq!(starts[0].1.mode, Mode::Long);
    for (cpu, &start) in starts.iter().enumerate().skip(1) {
        assert_eq!(start, (cpu, Start::REAL));
    }
    let host = &Threads::new();
    thread::scope(|scope| {
        let vm = &vm;
        let threads: Vec<_> =
            (0..=OTHERS).map(|cpu| scope.spawn(move || vm.run_vcpu(cpu, host))).collect();
        for _ in 0..OTHERS {
            assert_eq!(seen.recv().unwrap(), (0xffff_fff0, [0; 32]));
        }
        all_ran.store(true, Ordering::Release);
        for thread in threads {
            assert_eq!(thread.join().unwrap(), Outcome::PowerOff);
        }
    });
    assert!(vm.cpus().iter().all(|cpu| cpu.power() == PowerState::On));
}

#[test]
fn machines_that_cannot_be_built() {
    let error = |config: X86VmConfig<'_>, ram| {
        let programs = (0..2).map(|_| Box::new(|_: &mut _| power_off()) as Program).collect();
        build(&config, ram, programs).err().unwrap().to_string()
    };
    let config = X86VmConfig { kernel: b"kernel", ..Default::default() };
    for cpus in [0, 256] {
        let message = error(X86VmConfig { cpus, ..config }, 8 * MIB);
        assert_eq!(message, alloc::format!("{cpus} CPUs: a guest can have 1 to 255"));
    }
    assert!(error(config, 0).contains("4 KiB"));
    assert!(error(config, MIB).contains("needs 2 MiB of memory, the guest has 1 MiB"));
    assert!(error(X86VmConfig { kernel: b"", ..config }, 8 * MIB).contains("empty"));
    assert!(error(X86VmConfig { bootargs: "a\0", ..config }, 8 * MIB).contains("NUL"));
    let long = "x".repeat(1 << 16);
    let message = error(X86VmConfig { bootargs: &long, ..config }, 8 * MIB);
    assert_eq!(message, "command line: 65536 bytes, but the kernel takes 65535; shorten it");
    let initrd = vec![1; 3 * MIB];
    let message = error(X86VmConfig { initrd: Some(&initrd), ..config }, 4 * MIB);
    assert_eq!(
        message,
        "initrd: the kernel together with its initrd needs 5 MiB of memory, the guest has 4 MiB: \
         raise --memory"
    );
}

#[test]
fn initrds_go_as_high_as_they_may() {
    let low = RamRange { base: 0, size: 64 << 20 };
    let linux = |initrd_max| {
        let mut header = super::super::bzimage::SetupHeader::of_program();
        header.initrd_max = initrd_max;
        Protocol::Linux(header)
    };
    let place = |protocol: &Protocol, end, size| {
        let range = place_initrd(low, end, protocol, size);
        range.map(|range| range.base).map_err(|error| error.to_string())
    };
    let top = 64 << 20;
    assert_eq!(place(&Protocol::Pvh, HIGH, 1), Ok(top - PAGE));
    assert_eq!(place(&linux(0x7fff_ffff), HIGH, PAGE), Ok(top - PAGE));
    assert_eq!(place(&linux(0x7fff_ffff), HIGH, PAGE + 1), Ok(top - 2 * PAGE));
    assert_eq!(place(&linux(0x1ff_ffff), HIGH, PAGE), Ok(0x200_0000 - PAGE));
    assert_eq!(place(&Protocol::Pvh, HIGH, top - HIGH), Ok(HIGH));
    let message = place(&Protocol::Pvh, HIGH, top - HIGH + 1).unwrap_err();
    assert!(message.contains("needs 65 MiB of memory, the guest has 64 MiB"), "{message}");
    for (protocol, size) in [(linux(0x1ff_ffff), 31 << 20), (Protocol::Pvh, HOLE), (linux(0), 1)] {
        let message = place(&protocol, HIGH + 1, size).unwrap_err();
        assert!(message.contains("does not fit between"), "{message}");
    }
    assert!(place(&Protocol::Pvh, HIGH, u64::MAX).unwrap_err().contains("does not fit between"));
}
