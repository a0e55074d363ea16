//! The software hart under random code, registers, CSRs and page tables.
//!
//! Each input runs twice, and has to end the same way both times: with the same exits, registers and memory.
#![allow(unsafe_code)] // gives memory to a vCPU, and looks at it when the vCPU is gone

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use axvcpu::{AxMmHal, AxVCpu, AxVCpuExitReason as Exit, Fence, GuestPhysAddr, HostPhysAddr};
use axvcpu_riscv::asm::csrs::*;
use axvcpu_riscv::asm::{Asm, T0, ZERO};
use axvcpu_riscv::csr::irq;
use axvcpu_riscv::csr::num::SENVCFG;
use axvcpu_riscv::paging::{Mode, SV39X4, SV48X4, SV57X4};
use axvcpu_riscv::stage2::{Perms, Stage2};
use axvcpu_soft::{Clock, SoftConfig, SoftVCpu, VirtualClock};

use crate::input::Input;
use crate::platform::{Hal, Mm};

const RAM: u64 = 0x8000_0000;
const PAGE: usize = 4096;
/// Code, then tables, then nothing in particular.
const PAGES: usize = 16;
const SIZE: usize = PAGES * PAGE;
/// The first table; it comes again at higher levels in a table of its own.
const TABLES: usize = 8;

/// How many exits an input is worth, and how many turns of code that does not leave.
const EXITS: usize = 64;
const TURNS: usize = 2;
/// How many instructions or traps a turn has. Most inputs come to what they are about within a few, and then go in circles: in a
/// trap without a handler, above all, for as long as they are let. So few inputs are given much. These are slices of the
/// hart's, one, some, or as many as it takes by itself.
const SHORT: u64 = 1 << 10;
const LONGER: u64 = 1 << 12;
const LONGEST: u64 = 1 << 16;

/// Guest memory, zeroed.
struct Memory(HostPhysAddr);

impl Memory {
    fn new() -> Self {
        Self(Mm::alloc_contiguous(PAGES).expect("memory"))
    }

    fn write(&self, offset: usize, bytes: &[u8]) {
        let bytes = &bytes[..bytes.len().min(SIZE.saturating_sub(offset))];
        let to = (self.0.as_usize() + offset) as *mut u8;
        // SAFETY: inside of memory that no vCPU runs on at the moment, and no reference points to.
        unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    }

    fn hash(&self, hasher: &mut impl Hasher) {
        // SAFETY: initialized memory of our own, page by page; no vCPU runs while this refers to it.
        let words =
            unsafe { std::slice::from_raw_parts(self.0.as_usize() as *const u64, SIZE / 8) };
        // Quicker than the hasher where every comparison is instrumented. No step of it loses anything: the factor is odd.
        let step = |hash: u64, word: &u64| {
            (hash.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        };
        hasher.write_u64(words.iter().fold(0, step));
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated in `new`; the vCPU is dropped before, or does not run any more.
        unsafe { Mm::dealloc_contiguous(self.0, PAGES) };
    }
}

/// A value for a register: often an address in memory.
fn value(input: &mut Input<'_>) -> u64 {
    match input.u8() {
        kind @ 0..0x40 => RAM + (u64::from(kind) << 10) + u64::from(input.u8()) * 4,
        0x40..0x48 => RAM + SIZE as u64 - u64::from(input.u8()),
        0x48..0x50 => RAM - u64::from(input.u8()),
        _ => input.number(),
    }
}

/// A `satp` that finds its tables in memory, as a rule.
fn satp(input: &mut Input<'_>) -> u64 {
    match input.u8() {
        kind @ 0..0xf0 => {
            let mode = [0, 8, 9, 10][usize::from(kind & 3)];
            mode << 60 | RAM >> 12 | (TABLES as u64 + u64::from(kind >> 2 & 3))
        }
        _ => input.u64(),
    }
}

/// An entry of a page table: of a page of memory, or a table, or anything.
fn entry(input: &mut Input<'_>) -> u64 {
    let (page, flags) = (input.u8(), input.u8());
    let frame = (RAM >> 12) + u64::from(page & 0x1f);
    match page >> 5 {
        0..=4 => frame << 10 | u64::from(flags),
        // A table.
        5 => ((RAM >> 12) + TABLES as u64 + u64::from(page & 3)) << 10 | 1,
        // A large page.
        6 => (RAM >> 12) << 10 | u64::from(flags),
        _ => input.u64(),
    }
}

const CSRS: [u16; 14] = [
    STVEC, SSTATUS, SIE, SIP, SCOUNTEREN, SENVCFG, FCSR, SEPC, SSCRATCH, STIMECMP, SCAUSE, STVAL,
    FRM, FFLAGS,
];

/// What the host does beside running the guest, number after number.
struct Host(u64);

impl Host {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// How long a turn is: what the input has for the host's numbers says it.
fn turn(host: &Host) -> u64 {
    match host.0 >> 56 {
        0xff => LONGEST,
        0xf0..0xff => LONGER,
        _ => SHORT,
    }
}

/// Runs it, and hashes what came of it.
fn once(bytes: &[u8]) -> u64 {
    let mut input = Input::new(bytes);
    let flags = input.u8();
    let mode: Mode = [SV39X4, SV48X4, SV57X4][usize::from(flags) % 3];
    let memory = Memory::new();
    let mut stage2 = Stage2::<Mm>::new(mode).expect("a table");
    let map = |stage2: &mut Stage2<Mm>, page: usize, count: usize, perms| {
        let guest = GuestPhysAddr::new(RAM + (page * PAGE) as u64);
        let host = HostPhysAddr::new(memory.0.as_u64() + (page * PAGE) as u64);
        stage2.map(guest, host, (count * PAGE) as u64, perms).expect("a mapping");
    };
    // The last pages are not all that the guest would like them to be.
    map(&mut stage2, 0, PAGES - 3, Perms::RWX);
    map(&mut stage2, PAGES - 3, 1, Perms::R);
    map(&mut stage2, PAGES - 2, 1, Perms::RW);

    let mut code = Asm::new(RAM);
    for _ in 0..input.u8() % 16 {
        let csr = CSRS[usize::from(input.u8()) % CSRS.len()];
        code.li(T0, value(&mut input) as i64);
        code.csrw(csr, T0);
    }
    if flags & 0x40 != 0 {
        code.li(T0, satp(&mut input) as i64);
        code.csrw(SATP, T0);
        code.sfence_vma(ZERO, ZERO);
    }
    if flags & 0x80 != 0 {
        code.sret();
    }
    let entries: Vec<_> = (0..input.u8() % 32)
        .map(|_| (usize::from(input.u16()) % (4 * PAGE / 8), entry(&mut input)))
        .collect();
    for (index, entry) in entries {
        memory.write(TABLES * PAGE + 8 * index, &entry.to_le_bytes());
    }

    let registers: [u64; 31] =
        std::array::from_fn(|_| if input.is_empty() { 0 } else { value(&mut input) });
    let mut host = Host(input.u64() | 1);
    let clock = VirtualClock::new();
    let turn = turn(&host);
    let config = SoftConfig { clock: Clock::Instructions(clock.clone()), stage2: mode, turn };
    let vcpu = AxVCpu::<SoftVCpu<Hal>>::new(1, 0, 0, None, config).expect("a vCPU");
    // SAFETY: table and memory are dropped after the vCPU's last run, and it is dropped in this function.
    unsafe { vcpu.setup(GuestPhysAddr::new(RAM), stage2.root(), ()) }.expect("a set-up");
    vcpu.bind().expect("this thread has no other vCPU");
    for (reg, value) in (1..).zip(registers) {
        vcpu.set_gpr(reg, value).expect("registers");
    }
    let code = code.finish().expect("a program without labels");
    memory.write(0, &code);
    memory.write(code.len(), input.rest());

    let mut hasher = DefaultHasher::new();
    let mut turns = 0;
    for _ in 0..EXITS {
        let exit = vcpu.run().expect("the hart does not fail");
        format!("{exit:?}").hash(&mut hasher);
        match exit {
            Exit::MmioRead { width, .. } => match host.next() % 4 {
                0 => vcpu.fail_access().expect("an access that waits"),
                1 => vcpu.retry().expect("an access that waits"),
                _ => vcpu.set_return_value(host.next() & width.mask()).expect("it asks"),
            },
            Exit::MmioWrite { .. } | Exit::NestedPageFault { .. } if host.next() % 4 == 0 => {
                vcpu.fail_access().expect("an access that was refused");
            }
            Exit::Halt { wake_after_ns } => {
                if let Some(ns) = wake_after_ns {
                    clock.advance_to_ns(clock_now(&clock).saturating_add(ns));
                }
                vcpu.wake();
            }
            Exit::Nothing => {
                turns += 1;
                if turns == TURNS {
                    break;
                }
            }
            _ => {}
        }
        match host.next() % 16 {
            0 => vcpu.inject_interrupt(irq::SOFTWARE).expect("there is such"),
            1 => vcpu.inject_interrupt(irq::EXTERNAL).expect("there is such"),
            2 => vcpu.set_interrupt_line(irq::EXTERNAL, true).expect("there is such"),
            3 => vcpu.set_interrupt_line(irq::EXTERNAL, false).expect("there is such"),
            4 => vcpu.request_fence(Fence::all()),
            5 => vcpu.kick(),
            _ => {}
        }
    }
    vcpu.with_arch(|arch| arch.visit_state(|value| value.hash(&mut hasher))).expect("not running");
    vcpu.unbind().expect("bound here");
    memory.hash(&mut hasher);
    hasher.finish()
}

fn clock_now(clock: &VirtualClock) -> u64 {
    clock.now_ns()
}

pub(super) fn run(bytes: &[u8]) {
    assert_eq!(once(bytes), once(bytes), "the second run is not like the first");
}
