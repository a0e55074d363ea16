//! The hypervisor's part: what is done at each exit. It follows from the trial, from what the guest does and from the
//! state it is seen in, so that it is the same for both harts.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use axvcpu::{AccessKind, AxVCpuExitReason as Exit};
use axvcpu_riscv::csr::{CAUSE_INTERRUPT, cause, irq, sstatus};
use axvcpu_riscv::paging::PAGE_SIZE;
use axvcpu_riscv::stage2::Perms;

use super::coverage::Coverage;
use super::driver::{
    A7_AT, CSRS, NO_STORE, SIP_CLEAR, SIP_SET, SSCRATCH, STORES, T4_AT, T5_AT, T6_AT, TOLD, TRAP,
    VECTORS,
};
use super::layout::{
    BASE, CODE, HANDLER, PAGES, SAVE, SUPERVISOR_CODE, USER_CODE, offset_of, page_of,
};
use super::state::State;
use super::steps::{Interrupts, NEVER, PAST};
use super::{Trial, tables};
use crate::rng::Rng;

/// What is done with a vCPU or its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// `set_return_value`.
    Answer(u64),
    /// `fail_access`.
    Fail,
    /// `retry`.
    Retry,
    /// `wake`.
    Wake,
    /// `inject_interrupt`.
    Inject(usize),
    /// `set_interrupt_line`, of the external interrupt.
    Line(bool),
    /// `set_gpr`.
    Register(usize, u64),
    /// Stage 2 for a page of guest memory, and a fence.
    Map(usize, Option<Perms>),
    /// 64 bits of guest memory, at an address that the guest does not know translations or instructions from.
    Tell(u64, u64),
    /// An entry of the guest's page tables, and a fence.
    Table(u64, u64),
    /// 16 bits of the guest's instructions, and a fence.
    Instruction(u64, u16),
}

/// The interrupts that are edges when they are injected.
const EDGES: u64 = 1 << irq::TIMER | 1 << irq::EXTERNAL;

const PERMS: [Perms; 5] = [
    Perms::RWX,
    Perms { read: true, write: true, execute: false },
    Perms { read: true, write: false, execute: true },
    Perms { read: true, write: false, execute: false },
    Perms { read: false, write: false, execute: true },
];

/// Decides.
pub(super) struct Host<'a> {
    trial: &'a Trial,
    interrupts: Interrupts,
    /// How often each instruction has left. With that, a decision hangs on few others: what is left of a trial that
    /// is made shorter goes the same way.
    visits: BTreeMap<u64, u64>,
    pages: [Option<Perms>; PAGES],
    line: bool,
    /// A timer or external interrupt was injected and may not have been taken yet. Until it is, the backend on hardware
    /// has a vector of its own in the place of the guest's, so that a guest that then writes `stvec` may see its
    /// interrupt pending for longer than it is: guests here do not.
    edge: bool,
}

impl<'a> Host<'a> {
    pub(super) fn new(trial: &'a Trial) -> Self {
        let interrupts = trial.interrupts();
        let pages = [Some(Perms::RWX); PAGES];
        Self { trial, interrupts, visits: BTreeMap::new(), pages, line: false, edge: false }
    }

    /// What is done before the guest starts, with all of its memory mapped and told where to go.
    pub(super) fn opening(&mut self) -> Vec<Action> {
        let mut rng = Rng::new(self.trial.seed ^ 0x6f70_656e);
        let mut actions = Vec::new();
        for page in 0..PAGES {
            let perms = if rng.chance(30) { random_perms(&mut rng) } else { Some(Perms::RWX) };
            self.map(&mut actions, page, perms);
        }
        actions
    }

    /// What is done at an exit.
    pub(super) fn decide(
        &mut self,
        exit: Exit,
        state: &State,
        memory: &[u8],
        coverage: &mut Coverage,
    ) -> Vec<Action> {
        let pc = state.pc();
        self.edge &= state.sip() & EDGES != 0;
        let visit = self.visits.entry(offset_of(pc).unwrap_or(pc)).or_default();
        *visit += 1;
        let key = offset_of(pc).unwrap_or(pc) << 16 ^ *visit;
        let mut rng = Rng::new(Rng::new(self.trial.seed ^ key).word());
        let rng = &mut rng;
        let mut actions = Vec::new();
        let in_handler = !state.user() && (HANDLER..SAVE).contains(&pc);
        match exit {
            Exit::Hypercall { nr, .. } if (TRAP..TRAP + VECTORS).contains(&nr) => {
                note_modes(state, coverage);
                note_trap(state.scause(), nr - TRAP, coverage);
                self.go_on(rng, state, memory, coverage, &mut actions);
                let between = is_fetch(state.scause()) || state.scause() & CAUSE_INTERRUPT != 0;
                self.events(rng, At { trapped: true, between }, coverage, &mut actions);
                return actions;
            }
            Exit::Hypercall { .. } => {
                coverage.note("exit: call");
                if rng.chance(30) {
                    actions.push(Action::Answer(rng.word()));
                }
            }
            Exit::Halt { .. } => {
                coverage.note("exit: halt");
                actions.push(Action::Wake);
            }
            Exit::MmioRead { addr, .. } => {
                coverage.note("exit: nothing to read there");
                let refused = Refused { at: addr.as_u64(), needs: AccessKind::Read, device: true };
                self.refused(rng, refused, in_handler, state, memory, coverage, &mut actions);
            }
            Exit::MmioWrite { addr, .. } => {
                coverage.note("exit: nothing to write there");
                let refused = Refused { at: addr.as_u64(), needs: AccessKind::Write, device: true };
                self.refused(rng, refused, in_handler, state, memory, coverage, &mut actions);
            }
            Exit::NestedPageFault { addr, access } => {
                let what = match access {
                    AccessKind::Execute => "exit: nothing may be executed there",
                    AccessKind::Write => "exit: atomic refused",
                    AccessKind::Read => "exit: walk refused",
                };
                coverage.note(what);
                let refused = Refused { at: addr.as_u64(), needs: access, device: false };
                self.refused(rng, refused, in_handler, state, memory, coverage, &mut actions);
            }
            // Both harts agree on it; nothing is known to do about it.
            _ => {}
        }
        if !in_handler {
            let fetch = matches!(exit, Exit::NestedPageFault { access: AccessKind::Execute, .. });
            self.events(rng, At { trapped: false, between: fetch }, coverage, &mut actions);
        }
        actions
    }

    fn map(&mut self, actions: &mut Vec<Action>, page: usize, mut perms: Option<Perms>) {
        // A guest that changes its instructions has to say so (`fence.i`), which one that does by mistake would not.
        if [HANDLER, CODE, CODE + PAGE_SIZE].map(page_of).contains(&Some(page)) {
            if let Some(perms) = &mut perms {
                perms.write = false;
            }
        }
        self.pages[page] = perms;
        actions.push(Action::Map(page, perms));
    }

    /// Stage 2 has refused an access.
    #[allow(clippy::too_many_arguments)] // each of them decides
    fn refused(
        &mut self,
        rng: &mut Rng,
        refused: Refused,
        in_handler: bool,
        state: &State,
        memory: &[u8],
        coverage: &mut Coverage,
        actions: &mut Vec<Action>,
    ) {
        let Refused { at, needs, device } = refused;
        let page = page_of(at);
        if page.is_none() {
            coverage.note("exit: outside of memory");
        }
        // A trap in the handler would be the end of the guest, which has one place for what it saves.
        if let (Some(page), true) = (page, in_handler) {
            coverage.note("answer: map for the handler");
            let perms = self.pages[page].unwrap_or(PERMS[3]);
            self.map(actions, page, Some(with(perms, needs)));
            actions.push(Action::Retry);
            return;
        }
        let word = instruction(state.pc(), memory);
        // Between the two of a reservation a hart may lose it, and so it may at an exit.
        let conditional = word & 0x7f == 0x2f && word >> 27 == 3;
        let choice = if conditional { 0 } else { rng.below(20) };
        match (choice, page) {
            (0..=3, _) => {
                let atomic = word & 0x7f == 0x2f;
                let what = match (needs, device, atomic) {
                    (AccessKind::Execute, ..) => "answer: fail a fetch",
                    (AccessKind::Read, true, _) => "answer: fail a load",
                    (AccessKind::Write, true, _) => "answer: fail a store",
                    (AccessKind::Write, false, _) => "answer: fail an atomic",
                    (AccessKind::Read, false, _) => "answer: fail a walk",
                };
                coverage.note(what);
                actions.push(Action::Fail);
            }
            (4 | 5, _) => {
                coverage.note("answer: retry, nothing changed");
                actions.push(Action::Retry);
            }
            (6 | 7, Some(page)) => {
                coverage.note("answer: map with other permissions");
                let perms = random_perms(rng);
                self.map(actions, page, perms);
                actions.push(Action::Retry);
            }
            (8..=15, Some(page)) => {
                coverage.note("answer: map with all that is needed");
                let perms = *rng.pick(&PERMS);
                self.map(actions, page, Some(with(perms, needs)));
                actions.push(Action::Retry);
            }
            _ if device => {
                coverage.note("answer: as a device");
                if needs == AccessKind::Read {
                    actions.push(Action::Answer(rng.word()));
                }
            }
            _ => actions.push(Action::Fail),
        }
    }

    /// What may happen at any exit.
    fn events(
        &mut self,
        rng: &mut Rng,
        At { trapped, between }: At,
        coverage: &mut Coverage,
        actions: &mut Vec<Action>,
    ) {
        if rng.chance(15) {
            match (self.interrupts, rng.below(2)) {
                // The guest is about to write `stvec`.
                (_, 1) if trapped && !self.edge => {}
                (Interrupts::External, 1) => {
                    self.edge = true;
                    coverage.note("interrupt: external edge");
                    actions.push(Action::Inject(irq::EXTERNAL));
                }
                (Interrupts::External, _) => {
                    coverage.note("interrupt: external line");
                    self.line = !self.line;
                    actions.push(Action::Line(self.line));
                }
                (_, 0) => {
                    coverage.note("interrupt: software injected");
                    actions.push(Action::Inject(irq::SOFTWARE));
                }
                _ => {
                    self.edge = true;
                    coverage.note("interrupt: timer edge");
                    actions.push(Action::Inject(irq::TIMER));
                }
            }
        }
        if rng.chance(20) {
            let page = rng.below(PAGES as u64) as usize;
            let before = self.pages[page];
            let perms = random_perms(rng);
            let lost = |of: fn(Perms) -> bool| before.is_some_and(of) && !perms.is_some_and(of);
            if perms.is_none() && before.is_some() {
                coverage.note("change: page taken away");
            } else if lost(|perms| perms.write) {
                coverage.note("change: write permission taken away");
            } else if lost(|perms| perms.execute) {
                coverage.note("change: execute permission taken away");
            }
            self.map(actions, page, perms);
        }
        if rng.chance(10) {
            coverage.note("change: page table by the host");
            let (at, value) = tables::entry(rng);
            actions.push(Action::Table(at, value));
        }
        if rng.chance(5) {
            coverage.note("change: instructions");
            let at = self.trial.any_step(rng);
            actions.push(Action::Instruction(CODE + at, *rng.pick(&[0x9002, 0x0001])));
        }
        if !between && rng.chance(15) {
            coverage.note("answer: another value for a register");
            let number = loop {
                let number = rng.between(1, 31);
                // The handler has its own values in these.
                if !trapped || ![17, 29, 30, 31].contains(&number) {
                    break number;
                }
            };
            actions.push(Action::Register(number as usize, rng.word()));
        }
    }

    /// Where the guest goes on after a trap, and in what state.
    fn go_on(
        &mut self,
        rng: &mut Rng,
        state: &State,
        memory: &[u8],
        coverage: &mut Coverage,
        actions: &mut Vec<Action>,
    ) {
        let interrupt = state.scause() & CAUSE_INTERRUPT != 0;
        let number = (state.scause() & !CAUSE_INTERRUPT) as usize;
        let offset = match offset_of(state.sepc()) {
            // What could not be fetched is not left out either: it may guard what comes next.
            Some(offset) if interrupt || is_fetch(state.scause()) => Some(offset),
            Some(offset) => {
                let len = if instruction(state.sepc(), memory) & 3 == 3 { 4 } else { 2 };
                offset_of(CODE + offset + len)
            }
            None => offset_of(state.x(1)).filter(|_| !interrupt && rng.chance(80)),
        };
        let known = offset.filter(|&offset| rng.chance(92) && self.trial.has(offset));
        let offset = known.map_or_else(|| self.trial.any_step(rng), |offset| offset & !1);
        let satp = if rng.chance(15) { *rng.pick(&tables::satps()) } else { state.satp() };
        let mut user = state.sstatus() & sstatus::SPP == 0;
        if rng.chance(25) {
            user = !user;
        }
        let right = if satp == 0 {
            CODE
        } else if user {
            USER_CODE
        } else {
            SUPERVISOR_CODE
        };
        let start =
            if rng.chance(96) { right } else { *rng.pick(&[CODE, USER_CODE, SUPERVISOR_CODE]) };
        let told = Told { pc: start + offset, user, satp };
        self.tell(rng, told, interrupt.then_some(number), coverage, &mut |at, value| {
            actions.push(Action::Tell(at, value));
        });
        if interrupt && number == irq::EXTERNAL && self.line {
            self.line = false;
            actions.push(Action::Line(false));
        }
    }

    /// What the guest finds at its start.
    pub(super) fn tell_start(&self, rng: &mut Rng, mut place: impl FnMut(u64, u64)) {
        for register in [A7_AT, T4_AT, T5_AT, T6_AT] {
            place(SAVE + register as u64, rng.word());
        }
        let (user, satp) = (rng.chance(50), *rng.pick(&tables::satps()));
        let start = match (satp, user) {
            (0, _) => CODE,
            (_, true) => USER_CODE,
            (_, false) => SUPERVISOR_CODE,
        };
        let told = Told { pc: start, user, satp };
        self.tell(rng, told, None, &mut Coverage::default(), &mut place);
    }

    /// Values for everything that the handler asks for. `interrupt` is the one that was taken.
    fn tell(
        &self,
        rng: &mut Rng,
        told: Told,
        interrupt: Option<usize>,
        coverage: &mut Coverage,
        place: &mut dyn FnMut(u64, u64),
    ) {
        let some = |rng: &mut Rng, percent, bit| if rng.chance(percent) { bit } else { 0 };
        let status = sstatus::UXL_64
            | some(rng, 75, sstatus::SPIE)
            | some(rng, 50, sstatus::SUM)
            | some(rng, 30, sstatus::MXR)
            | if told.user { 0 } else { sstatus::SPP }
            | if rng.chance(12) { 0 } else { rng.between(1, 3) as u64 * (1 << 13) };
        let enabled =
            if rng.chance(60) { u64::MAX } else { rng.word() } & self.interrupts.enabled();
        let time = if interrupt != Some(irq::TIMER) && rng.chance(20) {
            coverage.note("interrupt: timer in the past");
            PAST
        } else {
            *rng.pick(&NEVER)
        };
        let csrs: [u64; CSRS.len()] = [
            told.pc,
            status,
            enabled,
            if self.edge { 0 } else { HANDLER | rng.below(2) & u64::from(self.trial.vectored()) },
            time,
            rng.below(8),
            rng.below(2),
            rng.word() >> 1, // not as if an interrupt had been taken
            rng.word(),
            told.satp,
        ];
        for (index, value) in csrs.into_iter().enumerate() {
            place(SAVE + TOLD as u64 + 8 * index as u64, value);
        }
        let set = interrupt != Some(irq::SOFTWARE) && rng.chance(15);
        if set {
            coverage.note("interrupt: software by the guest");
        }
        let clear = if rng.chance(80) || interrupt.is_some() { 1 << irq::SOFTWARE } else { 0 };
        place(SAVE + SIP_CLEAR as u64, clear);
        place(SAVE + SIP_SET as u64, u64::from(set) << irq::SOFTWARE);
        place(SAVE + SSCRATCH as u64, rng.word());
        for (at, value) in STORES {
            let (entry, new) = if rng.chance(15) {
                coverage.note("change: page table by the guest");
                tables::entry(rng)
            } else {
                (NO_STORE, rng.word())
            };
            place(SAVE + at as u64, entry);
            place(SAVE + value as u64, new);
        }
    }
}

/// At what exit something may happen.
#[derive(Clone, Copy)]
struct At {
    /// The guest's handler tells of a trap.
    trapped: bool,
    /// The exit may be between any two instructions. What the first has put into a register is there for the second:
    /// there are values that steps must not write to some CSRs.
    between: bool,
}

/// Where the guest goes on.
struct Told {
    pc: u64,
    user: bool,
    satp: u64,
}

/// What stage 2 has refused.
struct Refused {
    at: u64,
    needs: AccessKind,
    /// Whether a device can answer.
    device: bool,
}

fn is_fetch(code: u64) -> bool {
    [cause::FETCH_ACCESS, cause::FETCH_PAGE].contains(&code)
}

fn random_perms(rng: &mut Rng) -> Option<Perms> {
    rng.chance(65).then(|| *rng.pick(&PERMS))
}

/// `perms`, and what an access needs.
fn with(mut perms: Perms, needs: AccessKind) -> Perms {
    match needs {
        AccessKind::Read => perms.read = true,
        AccessKind::Write => (perms.read, perms.write) = (true, true),
        AccessKind::Execute => perms.execute = true,
    }
    perms
}

/// The instruction at `pc`; 0 if none of the guest's steps is there.
pub(super) fn instruction(pc: u64, memory: &[u8]) -> u32 {
    let Some(offset) = offset_of(pc) else { return 0 };
    let at = (CODE - BASE + offset) as usize;
    let bytes = memory.get(at..).unwrap_or_default().iter().take(4);
    bytes.rev().fold(0, |word, &byte| word << 8 | u32::from(byte))
}

fn note_modes(state: &State, coverage: &mut Coverage) {
    let status = state.sstatus();
    coverage.note(match state.satp() >> 60 {
        0 => "mode: bare",
        8 => "mode: Sv39",
        9 => "mode: Sv48",
        _ => "mode: Sv57",
    });
    coverage.note(if status & sstatus::SPP == 0 { "mode: user" } else { "mode: supervisor" });
    for (bit, what) in [
        (sstatus::SUM, "mode: supervisor may access user pages"),
        (sstatus::MXR, "mode: loads from what may be executed"),
    ] {
        if status & bit != 0 {
            coverage.note(what);
        }
    }
    if status & sstatus::FS == 0 {
        coverage.note("mode: floating point off");
    }
}

fn note_trap(code: u64, vector: u64, coverage: &mut Coverage) {
    const SOFTWARE: u64 = CAUSE_INTERRUPT | irq::SOFTWARE as u64;
    const TIMER: u64 = CAUSE_INTERRUPT | irq::TIMER as u64;
    const EXTERNAL: u64 = CAUSE_INTERRUPT | irq::EXTERNAL as u64;
    coverage.note(match code {
        cause::FETCH_ACCESS => "trap: fetch access fault",
        cause::ILLEGAL => "trap: illegal instruction",
        cause::BREAKPOINT => "trap: breakpoint",
        cause::LOAD_MISALIGNED => "trap: load misaligned",
        cause::LOAD_ACCESS => "trap: load access fault",
        cause::STORE_MISALIGNED => "trap: store misaligned",
        cause::STORE_ACCESS => "trap: store access fault",
        cause::USER_ECALL => "trap: call of a user",
        cause::FETCH_PAGE => "trap: fetch page fault",
        cause::LOAD_PAGE => "trap: load page fault",
        cause::STORE_PAGE => "trap: store page fault",
        SOFTWARE => "trap: software interrupt",
        TIMER => "trap: timer interrupt",
        EXTERNAL => "trap: external interrupt",
        _ => "trap: of another kind",
    });
    if vector != 0 {
        coverage.note("trap: vectored");
    }
}
