//! Interrupt controllers by themselves, with lines that go up and down.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use axvcpu::AccessWidth;
use axvcpu_arm::gic::{Forwarding, PRIVATE};
use axvcpu_vmm::MmioDevice;
use axvcpu_vmm::arm::{CpuInterfaces, DISTRIBUTOR_SIZE, Gic, GicState, REDISTRIBUTOR_SIZE, SPIS};
use axvcpu_vmm::riscv::{Harts, PLIC_SOURCES, Plic};

use super::machines::{Window, address, width};
use crate::input::Input;

const CPUS: usize = 2;

/// What the PLIC has told the harts.
#[derive(Default)]
struct External([AtomicBool; CPUS]);

impl Harts for External {
    fn count(&self) -> usize {
        CPUS
    }

    fn set_external(&self, hart: usize, asserted: bool) {
        assert_ne!(self.0[hart].swap(asserted, Ordering::SeqCst), asserted, "told for nothing");
    }
}

/// The PLIC as its specification has it, for harts in S mode alone.
#[derive(Default)]
struct Model {
    level: u32,
    pending: u32,
    service: u32,
    priority: [u32; PLIC_SOURCES as usize + 1],
    enabled: [u32; CPUS],
    threshold: [u32; CPUS],
}

impl Model {
    fn line(&mut self, source: u32, asserted: bool) {
        if asserted {
            self.level |= 1 << source;
            self.pending |= self.level & 1 << source & !self.service;
        } else {
            self.level &= !(1 << source);
        }
    }

    /// The pending and enabled source that comes first, and its priority. Priority 0 never interrupts.
    fn best(&self, hart: usize) -> Option<(u32, u32)> {
        let candidates = self.pending & self.enabled[hart];
        (1..=PLIC_SOURCES)
            .filter(|source| candidates >> source & 1 != 0)
            .map(|source| (source, self.priority[source as usize]))
            .filter(|&(_, priority)| priority != 0)
            .min_by_key(|&(source, priority)| (!priority, source))
    }

    fn claim(&mut self, hart: usize) -> u32 {
        let Some((source, _)) = self.best(hart) else { return 0 };
        self.pending &= !(1 << source);
        self.service |= 1 << source;
        source
    }

    fn complete(&mut self, hart: usize, source: u32) {
        let bit = if source <= PLIC_SOURCES { 1 << source } else { 0 };
        if bit & self.enabled[hart] & self.service != 0 {
            self.service &= !bit;
            self.pending |= self.level & bit;
        }
    }
}

pub(super) fn plic(bytes: &[u8]) {
    const WIDTH: AccessWidth = AccessWidth::Dword;
    let mut input = Input::new(bytes);
    let external = Arc::new(External::default());
    let plic = Arc::new(Plic::new(external.clone()));
    let mut model = Model::default();
    let write = |offset, value: u32| plic.write(offset, WIDTH, value.into()).expect("a register");
    let read = |offset| plic.read(offset, WIDTH).expect("a register") as u32;
    while !input.is_empty() {
        let (kind, value) = (input.u8(), input.u8());
        let hart = usize::from(kind >> 7);
        // The S mode of a hart is the odd one of its contexts.
        let context = 2 * hart as u64 + 1;
        let (registers, enables) = (0x20_0000 + 0x1000 * context, 0x2000 + 0x80 * context);
        let source = u32::from(value) % (PLIC_SOURCES + 2);
        match kind & 7 {
            0 | 1 => match plic.line(source) {
                Some(line) => {
                    line.set(kind & 1 != 0);
                    model.line(source, kind & 1 != 0);
                }
                None => assert!(source == 0 || source > PLIC_SOURCES),
            },
            2 => {
                let priority = input.u8();
                write(4 * u64::from(source), priority.into());
                if (1..=PLIC_SOURCES).contains(&source) {
                    model.priority[source as usize] = u32::from(priority) % 8;
                }
            }
            3 => {
                let word = input.u32();
                write(enables, word);
                model.enabled[hart] = word & !1;
            }
            4 => {
                write(registers, value.into());
                model.threshold[hart] = u32::from(value) % 8;
            }
            5 => assert_eq!(read(registers + 4), model.claim(hart), "a claim"),
            6 => {
                let source = if value & 0x80 == 0 { source } else { input.u32() };
                write(registers + 4, source);
                model.complete(hart, source);
            }
            // A mask of harts that has not changed is no news.
            _ => write(enables, model.enabled[hart]),
        }
        assert_eq!(read(0x1000), model.pending, "what is pending");
        for hart in 0..CPUS {
            let best = model.best(hart).map_or(0, |(_, priority)| priority);
            let expected = best > model.threshold[hart];
            assert_eq!(external.0[hart].load(Ordering::SeqCst), expected, "hart {hart}");
        }
    }
}

/// What the GIC has told the CPU interfaces.
#[derive(Default)]
struct Interfaces {
    /// The levels, a bit for each shared interrupt and a list for each CPU.
    levels: [Mutex<Vec<bool>>; CPUS],
    /// Where the last edge of each went.
    edges: Mutex<Vec<Option<usize>>>,
    refreshed: [AtomicU64; CPUS],
}

impl CpuInterfaces for Interfaces {
    fn raise_edge(&self, cpu: usize, intid: u32) {
        assert!(cpu < CPUS && intid < PRIVATE + SPIS, "edge {intid} of CPU {cpu}");
        self.edges.lock().expect("nobody panics with it")[intid as usize] = Some(cpu);
    }

    fn set_level(&self, cpu: usize, intid: u32, asserted: bool) {
        let index = intid.checked_sub(PRIVATE).expect("lines are of shared interrupts");
        self.levels[cpu].lock().expect("nobody panics with it")[index as usize] = asserted;
    }

    fn refresh(&self, cpu: usize) {
        self.refreshed[cpu].fetch_add(1, Ordering::SeqCst);
    }
}

impl Interfaces {
    /// What a CPU has reason to ask about: interrupts of its own, and those that were forwarded to it.
    fn concerns(&self, cpu: usize) -> Vec<u32> {
        let levels = self.levels[cpu].lock().expect("nobody panics with it");
        let edges = self.edges.lock().expect("nobody panics with it");
        let is_here = |&intid: &u32| match intid.checked_sub(PRIVATE) {
            None => true,
            Some(index) => levels[index as usize] || edges[intid as usize] == Some(cpu),
        };
        (0..PRIVATE + SPIS).filter(is_here).collect()
    }
}

fn answers(forwarding: &dyn Forwarding, intids: &[u32]) -> Vec<Option<u8>> {
    intids.iter().map(|&intid| forwarding.priority(intid)).collect()
}

const FRAMES: &[Window] = &[
    (0, 0x20),
    (0x80, 0x300),
    (0x400, 0x400),
    (0xc00, 0x100),
    (0x6000, 0x2000),
    (0, DISTRIBUTOR_SIZE),
];

const REDISTRIBUTORS: &[Window] = &[
    (0, 0x100),
    (0x1_0000, 0x1000),
    (REDISTRIBUTOR_SIZE + 0x1_0000, 0x1000),
    (0, CPUS as u64 * REDISTRIBUTOR_SIZE),
];

pub(super) fn gic(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let state = GicState::new(CPUS);
    let interfaces = Interfaces::default();
    for levels in &interfaces.levels {
        levels.lock().expect("nobody has it").resize(SPIS as usize, false);
    }
    interfaces.edges.lock().expect("nobody has it").resize((PRIVATE + SPIS) as usize, None);
    let interfaces = Arc::new(interfaces);
    let forwarding: [_; CPUS] = core::array::from_fn(|cpu| state.forwarding(cpu));
    let gic = Arc::new(Gic::new(state, interfaces.clone()));
    let (distributor, redistributors) = (gic.distributor(), gic.redistributors());
    let mut lines = vec![false; SPIS as usize];
    while !input.is_empty() {
        let kind = input.u8();
        let before: [_; CPUS] = core::array::from_fn(|cpu| {
            let refreshed = interfaces.refreshed[cpu].load(Ordering::SeqCst);
            let concerns = interfaces.concerns(cpu);
            let known = answers(&*forwarding[cpu], &concerns);
            (forwarding[cpu].generation(), concerns, known, refreshed)
        });
        match kind >> 6 {
            0 => {
                let intid = PRIVATE + u32::from(input.u8()) % SPIS;
                gic.line(intid).expect("a shared interrupt").set(kind & 1 != 0);
                lines[(intid - PRIVATE) as usize] = kind & 1 != 0;
            }
            1 | 2 => access(&*distributor, &mut input, kind, FRAMES, DISTRIBUTOR_SIZE),
            _ => {
                let size = CPUS as u64 * REDISTRIBUTOR_SIZE;
                access(&*redistributors, &mut input, kind, REDISTRIBUTORS, size);
            }
        }
        for (cpu, (generation, concerns, known, refreshed)) in before.into_iter().enumerate() {
            if answers(&*forwarding[cpu], &concerns) != known {
                assert_ne!(forwarding[cpu].generation(), generation, "CPU {cpu} cannot know");
                let now = interfaces.refreshed[cpu].load(Ordering::SeqCst);
                assert_ne!(now, refreshed, "CPU {cpu} was not told");
            }
        }
        // A level is at one CPU at most, and only while its line is up.
        let told = interfaces
            .levels
            .each_ref()
            .map(|levels| levels.lock().expect("nobody panics with it").clone());
        for (index, &line) in lines.iter().enumerate() {
            let count = told.iter().filter(|levels| levels[index]).count();
            assert!(count <= usize::from(line), "interrupt {} at {count} CPUs", index + 32);
        }
    }
}

/// An access that the bus would let through.
fn access(device: &dyn MmioDevice, input: &mut Input<'_>, kind: u8, windows: &[Window], size: u64) {
    let width = width(kind >> 1 & 3);
    let bytes = width.bytes() as u64;
    let offset = address(input, windows, width) % size;
    let offset = offset - offset % bytes;
    // What does not answer is a fault in the guest.
    let _ = match kind & 1 {
        0 => device.read(offset, width).map(drop),
        _ => device.write(offset, width, input.number() & width.mask()),
    };
}
