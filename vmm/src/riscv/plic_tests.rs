//! The interrupt controller as its drivers and devices see it.

use alloc::vec::Vec;
use core::sync::atomic::AtomicBool;
use std::thread;

use super::*;

struct Inputs(Vec<AtomicBool>);

impl Harts for Inputs {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn set_external(&self, hart: usize, asserted: bool) {
        self.0[hart].store(asserted, Ordering::SeqCst);
    }
}

struct Bench {
    inputs: Arc<Inputs>,
    plic: Arc<Plic>,
}

const UART: u32 = 10;

impl Bench {
    fn new(harts: usize) -> Self {
        let inputs = Arc::new(Inputs((0..harts).map(|_| AtomicBool::new(false)).collect()));
        Self { plic: Arc::new(Plic::new(inputs.clone())), inputs }
    }

    fn get(&self, offset: u64) -> u32 {
        self.plic.read(offset, AccessWidth::Dword).unwrap() as u32
    }

    fn set(&self, offset: u64, value: u32) {
        self.plic.write(offset, AccessWidth::Dword, value.into()).unwrap();
    }

    fn enable(&self, hart: u64, sources: &[u32], threshold: u32) {
        let mask = sources.iter().fold(0, |mask, source| mask | 1 << source);
        self.set(ENABLE + (2 * hart + 1) * ENABLE_STRIDE, mask);
        self.set(CONTEXT + (2 * hart + 1) * CONTEXT_STRIDE, threshold);
    }

    fn claim_register(hart: u64) -> u64 {
        CONTEXT + (2 * hart + 1) * CONTEXT_STRIDE + 4
    }

    fn claim(&self, hart: u64) -> u32 {
        self.get(Self::claim_register(hart))
    }

    fn complete(&self, hart: u64, source: u32) {
        self.set(Self::claim_register(hart), source);
    }

    fn priority(&self, source: u32, priority: u32) {
        self.set(4 * u64::from(source), priority);
    }

    fn level(&self, source: u32, asserted: bool) {
        self.plic.line(source).unwrap().set(asserted);
    }

    fn inputs(&self) -> Vec<bool> {
        self.inputs.0.iter().map(|input| input.load(Ordering::SeqCst)).collect()
    }
}

#[test]
fn one_interrupt_from_device_to_completion() {
    let b = Bench::new(1);
    b.priority(UART, 1);
    b.enable(0, &[UART], 0);
    b.level(UART, true);
    assert_eq!((b.inputs(), b.get(PENDING)), ([true].to_vec(), 1 << UART));
    assert_eq!(b.claim(0), UART);
    assert_eq!((b.inputs(), b.get(PENDING), b.claim(0)), ([false].to_vec(), 0, 0));
    // The level is still high, so that completion brings it back.
    b.complete(0, UART);
    assert_eq!(b.inputs(), [true]);
    assert_eq!(b.claim(0), UART);
    b.level(UART, false);
    b.complete(0, UART);
    assert_eq!((b.inputs(), b.claim(0)), ([false].to_vec(), 0));
}

#[test]
fn a_level_that_rises_in_service_is_passed_on_by_completion() {
    let b = Bench::new(1);
    b.priority(UART, 1);
    b.enable(0, &[UART], 0);
    b.level(UART, true);
    assert_eq!(b.claim(0), UART);
    b.level(UART, false);
    b.level(UART, true);
    assert_eq!(b.inputs(), [false]);
    b.complete(0, UART);
    assert_eq!(b.inputs(), [true]);
}

#[test]
fn a_request_outlives_its_level_until_it_is_claimed() {
    let b = Bench::new(1);
    b.priority(UART, 1);
    b.enable(0, &[UART], 0);
    b.level(UART, true);
    b.level(UART, false);
    assert_eq!(b.inputs(), [true]);
    assert_eq!(b.claim(0), UART);
    b.complete(0, UART);
    assert_eq!(b.inputs(), [false]);
}

#[test]
fn priorities_thresholds_and_enables() {
    let b = Bench::new(2);
    for (source, priority) in [(1, 3), (2, 5), (3, 5), (4, 0)] {
        b.priority(source, priority);
        b.level(source, true);
    }
    assert_eq!(b.inputs(), [false, false]);
    b.enable(0, &[1, 2, 3, 4], 4);
    b.enable(1, &[1, 4], 3);
    assert_eq!(b.inputs(), [true, false]); // 3 is not above hart 1's threshold
    b.enable(1, &[1, 4], 2);
    assert_eq!(b.inputs(), [true, true]);
    assert_eq!([b.claim(0), b.claim(0)], [2, 3]); // the lower number among equals first
    assert_eq!(b.inputs(), [false, true]);
    assert_eq!(b.claim(0), 1); // claiming does not look at the threshold
    assert_eq!((b.inputs(), b.claim(1)), ([false, false].to_vec(), 0)); // priority 0 never
    b.priority(1, 7);
    b.complete(1, 1); // hart 1 may: it has it enabled
    assert_eq!(b.inputs(), [true, true]);
}

#[test]
fn completion_of_what_is_not_enabled_or_not_in_service_is_ignored() {
    let b = Bench::new(2);
    b.priority(UART, 1);
    b.enable(0, &[UART], 0);
    b.complete(0, UART);
    b.level(UART, true);
    assert_eq!(b.claim(0), UART);
    for (hart, source) in [(1, UART), (0, 0), (0, 32), (0, u32::MAX)] {
        b.complete(hart, source);
        assert_eq!(b.inputs(), [false, false]);
    }
    b.complete(0, UART);
    assert_eq!(b.inputs(), [true, false]);
}

#[test]
fn registers_hold_what_is_implemented() {
    let b = Bench::new(1);
    b.priority(UART, u32::MAX);
    b.enable(0, &[], u32::MAX);
    b.set(ENABLE + ENABLE_STRIDE, u32::MAX);
    assert_eq!(b.get(40), 7);
    assert_eq!(b.get(ENABLE + ENABLE_STRIDE), !1); // source 0 does not exist
    assert_eq!(b.get(CONTEXT + CONTEXT_STRIDE), 7);
    for absent in [
        0,
        4 * 32,
        ENABLE,                     // machine mode
        ENABLE + 3 * ENABLE_STRIDE, // hart 1
        ENABLE + ENABLE_STRIDE + 4, // sources 32 to 63
        PENDING + 4,
        CONTEXT,
        CONTEXT + CONTEXT_STRIDE + 8,
        SIZE - 4,
    ] {
        b.set(absent, u32::MAX);
        assert_eq!(b.get(absent), 0, "{absent:#x}");
    }
    for width in [AccessWidth::Byte, AccessWidth::Word, AccessWidth::Qword] {
        assert_eq!(b.plic.read(0, width), Err(NoDevice));
        assert_eq!(b.plic.write(0, width, 0), Err(NoDevice));
    }
    assert!(b.plic.line(0).is_none() && b.plic.line(32).is_none() && b.plic.line(31).is_some());
}

/// Devices on several threads, one hart that serves them: no request may get lost, however they race.
#[test]
fn nothing_is_lost_between_threads() {
    const DEVICES: u32 = 3;
    const ROUNDS: u32 = 3000;
    let b = Bench::new(1);
    let wires: Vec<AtomicBool> = (0..=DEVICES).map(|_| AtomicBool::new(false)).collect();
    for source in 1..=DEVICES {
        b.priority(source, source);
    }
    b.enable(0, &[1, 2, 3], 0);
    let mut served = [0; DEVICES as usize + 1];
    thread::scope(|scope| {
        for source in 1..=DEVICES {
            let (b, wire) = (&b, &wires[source as usize]);
            scope.spawn(move || {
                let line = b.plic.line(source).unwrap();
                for _ in 0..ROUNDS {
                    wire.store(true, Ordering::SeqCst);
                    line.set(true);
                    while wire.load(Ordering::SeqCst) {
                        thread::yield_now();
                    }
                }
            });
        }
        while served.iter().sum::<u32>() < DEVICES * ROUNDS {
            if !b.inputs()[0] {
                thread::yield_now();
                continue;
            }
            let source = b.claim(0);
            if source != 0 {
                let wire = &wires[source as usize];
                if wire.load(Ordering::SeqCst) {
                    served[source as usize] += 1;
                    // The driver quiets its device, then completes.
                    b.level(source, false);
                    wire.store(false, Ordering::SeqCst);
                }
                b.complete(0, source);
            }
        }
    });
    assert_eq!(served, [0, ROUNDS, ROUNDS, ROUNDS]);
}
