//! Virtualization on one physical CPU, and every way to misuse it.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::vec::Vec;

use crate::*;
use PerCpuState::{Disabled, Enabled, Uninitialized};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Did {
    New(usize),
    Enable,
    Disable,
}

/// What a call of the hardware does: to the switch, and to the caller.
#[derive(Clone, Copy)]
enum Act {
    Works,
    Refuses(AxError),
    /// Leaves the switch on, and fails.
    HalfWay(AxError),
    PanicsOn,
}

std::thread_local! {
    static LOG: RefCell<Vec<Did>> = const { RefCell::new(Vec::new()) };
    static NEW: Cell<Option<AxError>> = const { Cell::new(None) };
    static ENABLE: Cell<Act> = const { Cell::new(Act::Works) };
    static DISABLE: Cell<Act> = const { Cell::new(Act::Works) };
}

fn log() -> Vec<Did> {
    LOG.take()
}

#[derive(Debug)]
struct Hardware {
    on: bool,
}

impl Hardware {
    fn switch(&mut self, act: Act, to: bool) -> AxResult {
        match act {
            Act::Works => self.on = to,
            Act::Refuses(error) => return Err(error),
            Act::HalfWay(error) => {
                self.on = true;
                return Err(error);
            }
            Act::PanicsOn => {
                self.on = true;
                panic!("planned");
            }
        }
        Ok(())
    }
}

impl AxArchPerCpu for Hardware {
    fn new(cpu_id: usize) -> AxResult<Self> {
        LOG.with_borrow_mut(|log| log.push(Did::New(cpu_id)));
        match NEW.take() {
            Some(error) => Err(error),
            None => Ok(Self { on: false }),
        }
    }
    fn is_enabled(&self) -> bool {
        self.on
    }
    fn hardware_enable(&mut self) -> AxResult {
        LOG.with_borrow_mut(|log| log.push(Did::Enable));
        self.switch(ENABLE.replace(Act::Works), true)
    }
    fn hardware_disable(&mut self) -> AxResult {
        LOG.with_borrow_mut(|log| log.push(Did::Disable));
        self.switch(DISABLE.replace(Act::Works), false)
    }
}

fn in_state(state: PerCpuState) -> AxPerCpu<Hardware> {
    let mut cpu = AxPerCpu::new();
    if state != Uninitialized {
        cpu.init(5).unwrap();
    }
    if state == Enabled {
        cpu.hardware_enable().unwrap();
    }
    assert_eq!(cpu.state(), state);
    log();
    cpu
}

#[test]
fn every_call_in_every_state() {
    type Method = fn(&mut AxPerCpu<Hardware>) -> AxResult;
    let init: Method = |cpu| cpu.init(6);
    let enable: Method = AxPerCpu::hardware_enable;
    let disable: Method = AxPerCpu::hardware_disable;
    type Cell = Option<(PerCpuState, Did)>;
    let table: [(Method, [Cell; 3]); 3] = [
        (init, [Some((Disabled, Did::New(6))), None, None]),
        (enable, [None, Some((Enabled, Did::Enable)), None]),
        (disable, [None, None, Some((Disabled, Did::Disable))]),
    ];
    for (row, (method, cells)) in table.into_iter().enumerate() {
        for (found, cell) in [Uninitialized, Disabled, Enabled].into_iter().zip(cells) {
            let mut cpu = in_state(found);
            let result = method(&mut cpu);
            match cell {
                Some((then, did)) => {
                    assert_eq!((result, cpu.state()), (Ok(()), then), "row {row}, {found:?}");
                    assert_eq!(log(), [did]);
                }
                None => {
                    let refused = Err(AxError::BadCpuState { found });
                    assert_eq!((result, cpu.state()), (refused, found), "row {row}, {found:?}");
                    assert_eq!(log(), [], "refused, but reached the hardware");
                }
            }
            assert_eq!(cpu.is_enabled(), cpu.state() == Enabled);
        }
    }
}

#[test]
fn a_life_with_ups_and_downs() {
    let mut cpu = AxPerCpu::<Hardware>::default();
    assert_eq!((cpu.state(), cpu.cpu_id(), cpu.is_enabled()), (Uninitialized, None, false));
    NEW.set(Some(AxError::NoMemory));
    assert_eq!(cpu.init(2), Err(AxError::NoMemory));
    assert_eq!((cpu.state(), cpu.cpu_id()), (Uninitialized, None), "as if never called");
    cpu.init(3).unwrap();
    assert_eq!(cpu.cpu_id(), Some(3));
    for _ in 0..2 {
        cpu.hardware_enable().unwrap();
        cpu.hardware_disable().unwrap();
    }
    let refused = AxError::BadCpuState { found: Disabled };
    assert_eq!(cpu.hardware_disable(), Err(refused));
    drop(cpu);
    let cycle = [Did::Enable, Did::Disable];
    assert_eq!(log(), [&[Did::New(2), Did::New(3)][..], &cycle, &cycle].concat());
}

#[test]
fn enabling_that_fails_is_undone() {
    for act in [Act::Refuses(AxError::Unsupported), Act::HalfWay(AxError::Unsupported)] {
        let mut cpu = in_state(Disabled);
        ENABLE.set(act);
        assert_eq!(cpu.hardware_enable(), Err(AxError::Unsupported));
        assert_eq!(log(), [Did::Enable, Did::Disable]);
        assert_eq!(cpu.state(), Disabled);
        cpu.hardware_enable().unwrap();
        cpu.hardware_disable().unwrap();
    }
}

#[test]
fn undoing_that_fails_leaves_the_way_back_open() {
    let mut cpu = in_state(Disabled);
    ENABLE.set(Act::HalfWay(AxError::NoMemory));
    DISABLE.set(Act::Refuses(AxError::Unsupported));
    assert_eq!(cpu.hardware_enable(), Err(AxError::NoMemory), "the first error is the one");
    assert_eq!(cpu.state(), Enabled, "it says what the hardware is, not what was wished");
    assert_eq!(cpu.hardware_disable(), Ok(()));
    assert_eq!(cpu.state(), Disabled);
}

#[test]
fn disabling_may_be_tried_again() {
    let mut cpu = in_state(Enabled);
    DISABLE.set(Act::Refuses(AxError::ResourceBusy));
    assert_eq!(cpu.hardware_disable(), Err(AxError::ResourceBusy));
    assert_eq!(cpu.state(), Enabled);
    assert_eq!(cpu.hardware_disable(), Ok(()));
}

#[test]
fn dropping_switches_off_what_is_on() {
    for state in [Uninitialized, Disabled] {
        drop(in_state(state));
        assert_eq!(log(), []);
    }
    drop(in_state(Enabled));
    assert_eq!(log(), [Did::Disable]);
    // Nobody hears of a failure; it is tried once.
    let cpu = in_state(Enabled);
    DISABLE.set(Act::Refuses(AxError::ResourceBusy));
    drop(cpu);
    assert_eq!(log(), [Did::Disable]);
    // A panic on the way on leaves it on: the drop knows.
    let mut cpu = in_state(Disabled);
    ENABLE.set(Act::PanicsOn);
    assert!(catch_unwind(AssertUnwindSafe(|| cpu.hardware_enable())).is_err());
    log();
    drop(cpu);
    assert_eq!(log(), [Did::Disable]);
}

#[test]
fn it_can_be_a_static() {
    static CPU: std::sync::Mutex<AxPerCpu<Hardware>> = std::sync::Mutex::new(AxPerCpu::new());
    let mut cpu = CPU.lock().unwrap();
    assert_eq!(cpu.state(), Uninitialized);
    cpu.init(0).unwrap();
    assert_eq!(cpu.state(), Disabled);
}
