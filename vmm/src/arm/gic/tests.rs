//! The interrupt controller as its drivers, its devices and the CPU interfaces see it.

use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::Mutex;
use std::thread;

use super::*;
use crate::NoDevice;

const UART: u32 = 33;
const SGI_BASE: u64 = 0x1_0000;
const CTLR: u64 = 0;
const IROUTER: u64 = 0x6000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Edge(usize, u32),
    Level(usize, u32, bool),
    Refresh(usize),
}

use Told::{Edge, Level, Refresh};

/// Writes down what it is told.
#[derive(Default)]
struct Log(Mutex<Vec<Told>>);

impl CpuInterfaces for Log {
    fn raise_edge(&self, cpu: usize, intid: u32) {
        self.0.lock().unwrap().push(Edge(cpu, intid));
    }

    fn set_level(&self, cpu: usize, intid: u32, asserted: bool) {
        self.0.lock().unwrap().push(Level(cpu, intid, asserted));
    }

    fn refresh(&self, cpu: usize) {
        self.0.lock().unwrap().push(Refresh(cpu));
    }
}

struct Bench {
    log: Arc<Log>,
    state: Arc<State>,
    gic: Arc<Gic>,
    distributor: Arc<dyn MmioDevice>,
    redistributors: Arc<dyn MmioDevice>,
}

impl Bench {
    fn new(cpus: usize) -> Self {
        let (log, state) = (Arc::new(Log::default()), State::new(cpus));
        let gic = Arc::new(Gic::new(state.clone(), log.clone()));
        let (distributor, redistributors) = (gic.distributor(), gic.redistributors());
        Self { log, state, gic, distributor, redistributors }
    }

    fn told(&self) -> Vec<Told> {
        core::mem::take(&mut *self.log.0.lock().unwrap())
    }

    fn get(&self, offset: u64) -> u32 {
        self.distributor.read(offset, AccessWidth::Dword).unwrap() as u32
    }

    fn set(&self, offset: u64, value: u32) {
        self.distributor.write(offset, AccessWidth::Dword, value.into()).unwrap();
    }

    fn get_cpu(&self, cpu: u64, offset: u64) -> u32 {
        let offset = cpu * REDISTRIBUTOR_SIZE + offset;
        self.redistributors.read(offset, AccessWidth::Dword).unwrap() as u32
    }

    fn set_cpu(&self, cpu: u64, offset: u64, value: u32) {
        let offset = cpu * REDISTRIBUTOR_SIZE + offset;
        self.redistributors.write(offset, AccessWidth::Dword, value.into()).unwrap();
    }

    fn route(&self, intid: u32, route: u64) {
        let offset = IROUTER + 8 * u64::from(intid);
        self.distributor.write(offset, AccessWidth::Qword, route).unwrap();
    }

    fn level(&self, intid: u32, asserted: bool) {
        self.gic.line(intid).unwrap().set(asserted);
    }
}

fn bit(intid: u32) -> u32 {
    1 << (intid % 32)
}

#[test]
fn what_a_driver_finds() {
    let b = Bench::new(20);
    assert_eq!(b.get(CTLR), 0x50);
    assert_eq!(b.get(4) & 0x7ff, 1); // 64 interrupts, one security state
    assert_eq!((b.get(0xffe8) >> 4 & 0xf, b.get_cpu(19, 0xffe8) >> 4 & 0xf), (3, 3));
    for cpu in 0..20u64 {
        let typer = b.redistributors.read(cpu * REDISTRIBUTOR_SIZE + 8, AccessWidth::Qword);
        let last = if cpu == 19 { 0x10 } else { 0 };
        assert_eq!(typer, Ok((cpu / 16) << 40 | (cpu % 16) << 32 | cpu << 8 | last));
        assert_eq!(u64::from(b.get_cpu(cpu, 12)), typer.unwrap() >> 32);
        assert_eq!(u64::from(b.get_cpu(cpu, 8)), typer.unwrap() & 0xffff_ffff);
    }
    // Waking a CPU's redistributor.
    assert_eq!(b.get_cpu(3, 0x14), 6);
    b.set_cpu(3, 0x14, 0);
    assert_eq!((b.get_cpu(3, 0x14), b.get_cpu(4, 0x14)), (0, 6));
    b.set_cpu(3, 0x14, 2);
    assert_eq!(b.get_cpu(3, 0x14), 6);
    b.set(CTLR, u32::MAX);
    assert_eq!(b.get(CTLR), 0x53); // and never a write in progress
    assert_eq!(b.get_cpu(0, SGI_BASE + 0xc00), 0xaaaa_aaaa);
    assert_eq!(b.get_cpu(0, SGI_BASE + 0xc04), 0);
}

#[test]
fn registers_hold_what_is_implemented() {
    let b = Bench::new(2);
    for (offset, kept) in [(0x084, u32::MAX), (0x104, u32::MAX), (0x420, 0xf8f8_f8f8)] {
        b.set(offset, u32::MAX);
        assert_eq!(b.get(offset), kept, "{offset:#x}");
        let offset = SGI_BASE
            + match offset {
                0x420 => 0x400,
                offset => offset - 4,
            };
        b.set_cpu(1, offset, u32::MAX);
        assert_eq!((b.get_cpu(0, offset), b.get_cpu(1, offset)), (0, kept), "{offset:#x}");
    }
    assert_eq!(b.get(0x184), u32::MAX);
    b.set(0x184, 0xffff_0000);
    assert_eq!((b.get(0x104), b.get(0x184)), (0xffff, 0xffff));
    b.set(0xc08, u32::MAX);
    b.set(0xc0c, 0x8000_0001);
    assert_eq!((b.get(0xc08), b.get(0xc0c)), (0xaaaa_aaaa, 0x8000_0000));
    // Priorities by the byte.
    b.distributor.write(0x422, AccessWidth::Byte, 0xa7).unwrap();
    assert_eq!(b.distributor.read(0x422, AccessWidth::Byte), Ok(0xa0));
    assert_eq!(b.get(0x420), 0xf8a0_f8f8);
    b.redistributors.write(SGI_BASE + 0x41f, AccessWidth::Byte, 0x80).unwrap();
    assert_eq!(b.get_cpu(0, SGI_BASE + 0x41c), 0x8000_0000);
    // Routes, whole and in halves.
    let at = IROUTER + 8 * 40;
    b.route(40, 0xff_8012_3401);
    assert_eq!(b.distributor.read(at, AccessWidth::Qword), Ok(0x12_3401));
    assert_eq!((b.get(at), b.get(at + 4)), (0x12_3401, 0));
    b.set(at + 4, 1);
    b.set(at, 1);
    assert_eq!(b.distributor.read(at, AccessWidth::Qword), Ok(1));
}

#[test]
fn what_does_not_exist_reads_as_zero() {
    let b = Bench::new(1);
    b.told();
    for absent in [
        0x00c, 0x010, 0x040, 0x080, 0x100, 0x200, 0x108, 0x304, 0x388, 0x400, 0x41c, 0x440, 0x804,
        0xc00, 0xc04, 0xc10, 0xd04, 0xe04, 0xf00, 0x6000, 0x60f8, 0x6200, 0x7fd8, 0xfffc,
    ] {
        b.set(absent, u32::MAX);
        assert_eq!(b.get(absent), 0, "{absent:#x}");
    }
    for absent in [
        0x000, 0x010, 0x040, 0x070, 0x080, 0x100, 0xfffc, 0x1_0000, 0x1_0084, 0x1_0104, 0x1_0300,
        0x1_0384, 0x1_0420, 0x1_0c04, 0x1_0c08, 0x1_0d00, 0x1_fffc,
    ] {
        b.set_cpu(0, absent, u32::MAX);
        assert_eq!(b.get_cpu(0, absent), 0, "{absent:#x}");
    }
    assert_eq!(b.told(), []);
    for (device, end) in
        [(&b.distributor, DISTRIBUTOR_SIZE), (&b.redistributors, REDISTRIBUTOR_SIZE)]
    {
        for width in [AccessWidth::Byte, AccessWidth::Word, AccessWidth::Qword] {
            assert_eq!(device.read(0x80, width), Err(NoDevice));
            assert_eq!(device.write(end - 0x100, width, 0), Err(NoDevice));
        }
    }
    assert_eq!(b.redistributors.read(REDISTRIBUTOR_SIZE, AccessWidth::Dword), Err(NoDevice));
    assert_eq!(b.redistributors.write(1 << 40, AccessWidth::Dword, 0), Err(NoDevice));
    assert!(b.gic.line(31).is_none() && b.gic.line(64).is_none() && b.gic.line(63).is_some());
}

#[test]
fn levels_are_forwarded_enabled_or_not() {
    let b = Bench::new(2);
    b.level(UART, true);
    assert_eq!(b.told(), [Level(0, UART, true)]);
    assert_eq!((b.get(0x204), b.get(0x284)), (bit(UART), bit(UART)));
    b.level(UART, true);
    assert_eq!(b.told(), []);
    b.level(UART, false);
    assert_eq!((b.told(), b.get(0x204)), (vec![Level(0, UART, false)], 0));
}

#[test]
fn deactivation_by_registers_is_told_to_the_cpus() {
    let b = Bench::new(2);
    let first = b.state.forwarding(0);
    let second = b.state.forwarding(1);
    let before = first.generation();
    b.set(0x384, bit(UART));
    assert_eq!(b.told(), [Refresh(0), Refresh(1)]);
    assert_ne!(first.generation(), before);
    assert_eq!((first.take_ended(), second.take_ended()), (1 << UART, 1 << UART));
    b.set_cpu(1, SGI_BASE + 0x380, 1 << 27);
    assert_eq!(b.told(), [Refresh(1)]);
    assert_eq!((first.take_ended(), second.take_ended(), second.take_ended()), (0, 1 << 27, 0));
    b.set(0x384, 0);
    assert_eq!((b.told(), b.get(0x384)), (vec![], 0));
}

#[test]
fn what_software_makes_pending_is_an_edge() {
    let b = Bench::new(1);
    b.set(0x204, bit(UART));
    assert_eq!((b.told(), b.get(0x204)), (vec![Edge(0, UART)], 0));
    b.level(UART, true);
    b.set(0x284, bit(UART)); // the line is still high
    assert_eq!((b.told(), b.get(0x204)), (vec![Level(0, UART, true)], bit(UART)));
    // Private ones as well.
    b.set_cpu(0, SGI_BASE + 0x200, u32::MAX);
    assert_eq!(b.told(), (0..32).map(|intid| Edge(0, intid)).collect::<Vec<_>>());
    assert_eq!(b.get_cpu(0, SGI_BASE + 0x200), 0);
    b.set_cpu(0, SGI_BASE + 0x280, u32::MAX);
    assert_eq!(b.told(), []);
}

#[test]
fn edges() {
    let b = Bench::new(3);
    b.set(0xc08, 0b10 << (2 * (UART - 32)));
    b.route(UART, 1);
    b.told();
    for _ in 0..2 {
        b.level(UART, true);
        b.level(UART, true);
        b.level(UART, false);
    }
    assert_eq!(b.told(), [Edge(1, UART); 2]);
    b.set(0x204, bit(UART));
    b.set(0x284, bit(UART)); // cannot be taken back
    assert_eq!((b.told(), b.get(0x204)), (vec![Edge(1, UART)], 0));
    // A change concerns the CPU that it went to, too.
    b.route(UART, 2);
    b.told();
    b.set(0x104, bit(UART));
    assert_eq!(b.told(), [Refresh(2), Refresh(1)]);
    b.set(0xc08, 0);
    b.level(UART, true);
    assert_eq!(b.told(), [Level(2, UART, true)]);
    b.set(0xc08, u32::MAX);
    assert_eq!(b.told(), [Level(2, UART, false)]);
}

#[test]
fn routes() {
    let b = Bench::new(18);
    b.level(UART, true);
    b.told();
    for (route, cpu, before) in [
        (0x101, Some(17), Some(0)),
        (1, Some(1), Some(17)),
        (0x102, None, Some(1)), // there is no such CPU
        (0x10, None, None),     // nor can be
        (0x1_0000, None, None),
        (0x8000_0101, Some(17), None), // that any CPU will do is not known
    ] {
        b.route(UART, route);
        let mut expected = Vec::new();
        expected.extend(cpu.map(Refresh));
        expected.extend(before.map(|cpu| Level(cpu, UART, false)));
        expected.extend(cpu.map(|cpu| Level(cpu, UART, true)));
        assert_eq!(b.told(), expected, "{route:#x}");
    }
    b.route(UART, 0x101);
    assert_eq!(b.told(), []);
    // An edge to nobody is lost.
    b.set(0xc08, u32::MAX);
    b.route(UART, 0x10);
    b.told();
    b.set(0x204, bit(UART));
    assert_eq!(b.told(), []);
}

#[test]
fn answers_to_the_cpu_interfaces() {
    let b = Bench::new(2);
    let (first, second) = (b.state.forwarding(0), b.state.forwarding(1));
    assert_eq!((first.priority(UART), first.priority(0)), (None, None));
    b.set(0x104, bit(UART));
    b.set(0x420, 0xa000);
    b.set_cpu(0, SGI_BASE + 0x100, 1 << 27);
    b.set_cpu(0, SGI_BASE + 0x418, 0xb000_0000);
    // Neither group is enabled.
    assert_eq!((first.priority(UART), first.priority(27)), (None, None));
    b.set(CTLR, 0b01);
    assert_eq!((first.priority(UART), first.priority(27)), (Some(0xa0), Some(0xb0)));
    assert_eq!((second.priority(UART), second.priority(27)), (Some(0xa0), None));
    b.set(0x084, bit(UART));
    assert_eq!((first.priority(UART), first.priority(27)), (None, Some(0xb0)));
    b.set(CTLR, 0b10);
    assert_eq!((first.priority(UART), first.priority(27)), (Some(0xa0), None));
    b.set(0x184, bit(UART));
    assert_eq!(first.priority(UART), None);
    for none in [64, 1019, 1023, u32::MAX] {
        assert_eq!(first.priority(none), None);
    }
    assert_eq!(b.state.forwarding(2).priority(0), None);
}

#[test]
fn generations_change_with_the_answers() {
    let b = Bench::new(2);
    let cpus = [b.state.forwarding(0), b.state.forwarding(1)];
    let generations = || [cpus[0].generation(), cpus[1].generation()];
    b.route(UART, 1);
    b.told();
    type Access<'a> = &'a dyn Fn();
    let changes: [(Access<'_>, &[usize]); 8] = [
        (&|| b.set(CTLR, 3), &[0, 1]),
        (&|| b.set(0x104, bit(UART)), &[1]),
        (&|| b.set(0x084, bit(UART)), &[1]),
        (&|| b.set(0x420, 0x8000), &[1]),
        (&|| b.set(0x184, bit(UART)), &[1]),
        (&|| b.set_cpu(0, SGI_BASE + 0x100, 1), &[0]),
        (&|| b.set_cpu(1, SGI_BASE + 0x400, 0x80), &[1]),
        (&|| b.route(UART, 0), &[0]),
    ];
    for (i, (change, concerned)) in changes.into_iter().enumerate() {
        let before = generations();
        change();
        assert_eq!(b.told(), concerned.iter().map(|&cpu| Refresh(cpu)).collect::<Vec<_>>(), "{i}");
        let after = generations();
        for cpu in 0..2 {
            assert_eq!(before[cpu] != after[cpu], concerned.contains(&cpu), "{i}");
        }
        change();
        assert_eq!((b.told(), generations()), (vec![], after), "{i}: twice is nothing new");
    }
}

/// CPU interfaces that remember which levels are asserted.
struct Levels(Vec<AtomicU64>);

impl CpuInterfaces for Levels {
    fn raise_edge(&self, _: usize, _: u32) {}

    fn set_level(&self, cpu: usize, intid: u32, asserted: bool) {
        let before = if asserted {
            self.0[cpu].fetch_or(1 << intid, Ordering::SeqCst)
        } else {
            self.0[cpu].fetch_and(!(1 << intid), Ordering::SeqCst)
        };
        assert_ne!(before >> intid & 1 != 0, asserted, "no change");
    }

    fn refresh(&self, _: usize) {}
}

/// A device, a guest that moves its interrupt about, and one that latches it: at the end the level is where it
/// belongs, and nowhere else.
#[test]
fn levels_and_routes_race() {
    const ROUNDS: u64 = 20_000;
    let levels = Arc::new(Levels((0..4).map(|_| AtomicU64::new(0)).collect()));
    let gic = Arc::new(Gic::new(State::new(4), levels.clone()));
    let distributor = gic.distributor();
    let write = |offset, value| distributor.write(offset, AccessWidth::Dword, value).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let line = gic.line(UART).unwrap();
        scope.spawn(move || (0..=ROUNDS).for_each(|i| line.set(i % 2 == 0)));
        scope.spawn(|| {
            (0..ROUNDS).for_each(|i| write(if i % 2 == 0 { 0x204 } else { 0x284 }, 2));
            done.store(true, Ordering::SeqCst);
        });
        let mut i = 0;
        while !done.load(Ordering::SeqCst) {
            i += 1;
            write(IROUTER + 8 * u64::from(UART), i % 4);
        }
    });
    write(IROUTER + 8 * u64::from(UART), 2);
    let levels: Vec<_> = levels.0.iter().map(|level| level.load(Ordering::SeqCst)).collect();
    assert_eq!(levels, [0, 0, 1 << UART, 0]);
}
