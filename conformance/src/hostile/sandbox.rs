//! A guest that starts over with every attempt, and what is around it.

use alloc::vec::Vec;
use core::cell::Cell;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axvcpu::{AxError, AxResult, AxVCpu, Fence, GuestPhysAddr, VCpuState};
use axvcpu_stage2::{PAGE_SIZE, Perms};

use super::{Hostile, Mode};
use crate::bench::{Bench, Exit, Program, dispatch, pattern};
use crate::memory::Space;
use crate::random::Random;
use crate::report::{Verdict, ensure, ensure_eq, fail};
use crate::requests::{two_cpus, wait_for};
use crate::subject::Subject;

/// Pages at the window, where the programs are that are tried out. Behind them is nothing.
pub(super) const WINDOW_PAGES: u64 = 4;
/// Exits after which a guest has had its chance,
const ENOUGH: usize = 60;
/// and kicks.
pub(super) const KICKS: usize = 3;
/// What the first mark of every guest is.
const STARTED: u64 = 1;
/// Attempts between two looks at the other guest.
const OFTEN: usize = 32;
/// The host memory that may come into use while a guest runs, besides the caches of its backend: less than a few bytes for
/// each of its exits.
const GROWTH: usize = 64 << 10;
/// And what may be left when it is gone: not even a frame. Threads, where they are the physical CPUs, may leave something
/// when they end.
const LEFT: usize = 2 << 10;

/// A guest that starts over with every attempt.
pub(crate) struct Sandbox<'s, S: Subject, I: Hostile<S>> {
    subject: &'s S,
    pub(crate) bench: Bench<S, I>,
    program: Vec<u8>,
    /// A guest that minds its own business.
    other: Bench<S, I>,
    starts: Cell<usize>,
    /// In use when the guest had run once.
    memory: Cell<Option<usize>>,
    /// What may be the guest's end besides.
    end: Cell<fn(&Exit) -> bool>,
    /// Whether the guest is doing what it likes, and a storm may come; the suite's own program has to get that far.
    is_let_go: AtomicBool,
    /// Whether the storm is under way.
    is_storming: AtomicBool,
    /// How many exits there were that no kick made: by these who kicks knows that the guest gets on.
    exits: AtomicUsize,
}

impl<'s, S: Subject, I: Hostile<S>> Sandbox<'s, S, I> {
    /// A guest that marks 1 and does `body`, which finds in its registers what [`start`](Self::start) puts there.
    fn new(subject: &'s S, body: impl FnOnce(&mut I::Guest)) -> Verdict<Self> {
        let program = I::Guest::assemble(|g| {
            g.mark(STARTED);
            body(g);
        })?;
        let mut bench = Bench::with_space(subject, Space::guarded(I::format(subject))?)?;
        ensure!(
            program.len() as u64 <= I::CODE_PAGES * PAGE_SIZE,
            "the suite's own guest is too long: {} bytes",
            program.len()
        );
        bench.space.add(I::WINDOW, WINDOW_PAGES, Some(Perms::RWX))?;
        bench.space.fill(I::CODE, &program)?;
        I::repair(&bench.space)?;
        bench.add_bound(subject, 1)?;
        let mut other = Bench::with_space(subject, Space::guarded(I::format(subject))?)?;
        other.space.write(I::DATA, pattern(I::DATA))?;
        other.load(|g: &mut I::Guest| g.report_for_ever(I::DATA))?;
        other.add_bound(subject, 1)?;
        Ok(Self {
            subject,
            bench,
            program,
            other,
            starts: Cell::new(0),
            memory: Cell::new(None),
            end: Cell::new(|_| false),
            is_let_go: AtomicBool::new(false),
            is_storming: AtomicBool::new(false),
            exits: AtomicUsize::new(0),
        })
    }

    pub(crate) fn vcpu(&self) -> &AxVCpu<S::Arch> {
        self.bench.vcpu()
    }

    /// From now on these exits are the guest's end, too.
    pub(crate) fn may_end_with(&self, exits: fn(&Exit) -> bool) {
        self.end.set(exits);
    }

    /// Starts the guest over, with these registers, and runs it to its first mark.
    pub(crate) fn start(&self, registers: &[(usize, u64)]) -> Verdict {
        if self.try_start(registers, false)?.is_none() {
            return Ok(());
        }
        match self.try_start(registers, true)? {
            None => Ok(()),
            Some(exit) => fail!("it does not start any more: {exit:x?}"),
        }
    }

    /// The same; what it does instead, if it does something else.
    fn try_start(&self, registers: &[(usize, u64)], repair: bool) -> Verdict<Option<Exit>> {
        if self.starts.get() % OFTEN == 0 {
            ensure_eq!(self.other.hart().report()?, pattern(I::DATA), "what another guest found");
        }
        self.starts.set(self.starts.get() + 1);
        self.is_let_go.store(false, Ordering::SeqCst);
        // What comes after the reset is taken before there is a handler.
        wait_for::<S>("the storm to be over", || Ok(!self.is_storming.load(Ordering::SeqCst)))?;
        let (hart, vcpu) = (self.bench.hart(), self.vcpu());
        if repair || !self.is_intact()? {
            // The guest has written over itself.
            I::repair(&self.bench.space)?;
            self.bench.space.fill(I::CODE, &self.program)?;
            vcpu.request_fence(Fence::all());
        }
        vcpu.reset()?;
        vcpu.wake_here();
        vcpu.set_entry(GuestPhysAddr::new(I::CODE))?;
        for &(register, value) in registers {
            vcpu.set_gpr(register, value)?;
        }
        // Kicks may come, and do not count.
        let exit = match hart.try_run() {
            Ok(exit) => exit,
            Err(error) => fail!("running after a reset: {error:?}"),
        };
        self.exits.fetch_add(1, Ordering::SeqCst);
        if !matches!(hart.call(&exit)?, Some((nr, [STARTED, ..])) if nr == I::REPORT) {
            return Ok(Some(exit));
        }
        if self.memory.get().is_none() {
            self.memory.set(self.subject.memory_in_use());
        }
        Ok(None)
    }

    /// Whether the program is what it was.
    fn is_intact(&self) -> Verdict<bool> {
        for (at, bytes) in (I::CODE..).step_by(8).zip(self.program.chunks_exact(8)) {
            let mut quad = [0; 8];
            quad.copy_from_slice(bytes);
            if self.bench.space.read(at)? != u64::from_le_bytes(quad) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Starts the guest over and runs it to the trap at the window's first address.
    pub(crate) fn start_in(&self, mode: &Mode) -> Verdict {
        for repair in [false, true] {
            if repair {
                self.bench.space.write(I::WINDOW, I::TRAPS)?;
            }
            if self.try_start(mode.registers, repair)?.is_none() && self.arrives(mode)? {
                return Ok(());
            }
        }
        fail!("{}: it does not come to the window any more", mode.name)
    }

    /// Whether it comes to the window's first address.
    fn arrives(&self, mode: &Mode) -> Verdict<bool> {
        // It may be lost, and for ever. Where guests are slow there are many kicks on its way.
        let (mut exits, mut kicks) = (100, 5000);
        while exits > 0 && kicks > 0 {
            let exit = self.vcpu().run()?;
            match self.bench.hart().trap_of(exit)? {
                // The storm sent it last. A line is lowered, as by a device that was asked.
                Some(trap) if I::is_interrupt(&trap) => {
                    if let Some(line) = I::LINE {
                        self.vcpu().set_interrupt_line(line, false)?;
                    }
                }
                Some(trap) => return Ok(I::is_user(&trap) == mode.user),
                None if exit == Exit::Nothing => {
                    kicks -= 1;
                    continue;
                }
                None if matches!(exit, Exit::ExternalInterrupt { .. }) => dispatch::<S>(),
                None => return Ok(false),
            }
            exits -= 1;
            self.exits.fetch_add(1, Ordering::SeqCst);
        }
        Ok(false)
    }

    /// An address where there is something to hit, or nothing, or what is not the guest's.
    pub(crate) fn address(&self, random: &mut Random) -> u64 {
        let place = match random.next() % 12 {
            0 => 0,
            1 | 2 => I::CODE,
            3 => I::CODE + I::CODE_PAGES * PAGE_SIZE,
            4 | 5 => I::DATA,
            6 => I::DATA + I::DATA_PAGES * PAGE_SIZE,
            7 => I::WINDOW,
            8 => I::DEVICE,
            9 => 1 << (random.next() % 64),
            10 => self.bench.space.root().as_u64(),
            _ => {
                let mut guards = self.bench.space.guards();
                guards.nth(random.next() as usize % 8).unwrap_or(0)
            }
        };
        match random.next() % 4 {
            0 => place.wrapping_add(random.next() & 0xfff),
            1 => place.wrapping_sub(random.next() & 7),
            _ => place,
        }
    }

    /// A value for a register: an address, or any.
    pub(crate) fn operand(&self, random: &mut Random) -> u64 {
        if random.once_in(3) { random.value() } else { self.address(random) }
    }

    /// Fills the window with instructions that trap.
    pub(crate) fn clear_window(&self) -> Verdict {
        for at in (I::WINDOW..I::WINDOW + WINDOW_PAGES * PAGE_SIZE).step_by(8) {
            self.bench.space.write(at, I::TRAPS)?;
        }
        Ok(())
    }

    /// Lets the guest go on, and does with its exits what a hypervisor may that has no idea of them. Where it goes on after
    /// a trap `on_trap` knows: somewhere else, where it was (`Some(0)`), or nowhere (`None`).
    pub(crate) fn let_go(
        &self,
        random: &mut Random,
        on_trap: impl FnMut(&I::Trap, &mut Random) -> Option<u64>,
    ) -> Verdict {
        self.let_go_for(ENOUGH, random, on_trap)
    }

    /// The same for so many exits.
    pub(crate) fn let_go_for(
        &self,
        exits: usize,
        random: &mut Random,
        mut on_trap: impl FnMut(&I::Trap, &mut Random) -> Option<u64>,
    ) -> Verdict {
        self.is_let_go.store(true, Ordering::SeqCst);
        let mut kicks = 0;
        for _ in 0..exits {
            let exit = self.vcpu().run()?;
            if exit == Exit::Nothing {
                kicks += 1;
            } else {
                self.exits.fetch_add(1, Ordering::SeqCst);
            }
            if kicks == KICKS {
                break;
            }
            if let Some(trap) = self.bench.hart().trap_of(exit)? {
                match on_trap(&trap, random) {
                    None => break,
                    Some(0) => {}
                    Some(address) => I::go_on_at(self.bench.hart(), address)?,
                }
            } else if !self.shrug(exit, random)? {
                break;
            }
        }
        Ok(())
    }

    /// Does something or other with an exit that is no report of the handler's. `false` at the guest's end.
    pub(crate) fn shrug(&self, exit: Exit, random: &mut Random) -> Verdict<bool> {
        let (hart, vcpu) = (self.bench.hart(), self.vcpu());
        self.check(exit)?;
        let state = vcpu.state();
        ensure!(state != VCpuState::Invalid, "the vCPU is {state} after {exit:x?}");
        let is_end = matches!(hart.call(&exit)?, Some((nr, _)) if nr == I::END);
        if is_end || I::is_last(&exit) || self.end.get()(&exit) {
            return Ok(false);
        }
        match exit {
            Exit::Halt { .. } => vcpu.wake_here(),
            Exit::ExternalInterrupt { .. } => dispatch::<S>(),
            Exit::NestedPageFault { .. } => vcpu.fail_access()?,
            Exit::MmioRead { .. } | Exit::MmioWrite { .. } => {
                let done = match random.next() % 8 {
                    0 => can(vcpu.retry())?,
                    1 | 2 => can(vcpu.fail_access())?,
                    _ => false,
                };
                if !done && exit.asks() {
                    vcpu.set_return_value(random.value())?;
                }
            }
            Exit::SysRegRead { .. } | Exit::SysRegWrite { .. } => {
                let done = random.once_in(2) && can(vcpu.fail_access())?;
                if !done && exit.asks() {
                    vcpu.set_return_value(random.value())?;
                }
            }
            Exit::IoRead { .. } => vcpu.set_return_value(random.value())?,
            Exit::IoWrite { .. } => {}
            Exit::Hypercall { .. } | Exit::SendIpi { .. } => {
                if random.once_in(2) {
                    vcpu.set_return_value(random.value())?;
                }
            }
            Exit::Nothing => {}
            exit => fail!("{exit:x?}"),
        }
        Ok(true)
    }

    /// Fails for an exit that cannot be.
    fn check(&self, exit: Exit) -> Verdict {
        let space = &self.bench.space;
        let in_width = |data: u64, mask: u64| data & !mask == 0;
        match exit {
            Exit::MmioRead { addr, width } | Exit::MmioWrite { addr, width, .. } => {
                let last = addr.as_u64().wrapping_add(width.bytes() as u64 - 1);
                let mapped = [addr.as_u64(), last].map(|at| space.query(at).is_some());
                ensure!(mapped == [false; 2], "the guest has memory there: {exit:x?}");
                if let Exit::MmioWrite { data, .. } = exit {
                    ensure!(in_width(data, width.mask()), "more than was written: {exit:x?}");
                }
            }
            Exit::IoWrite { width, data, .. } => {
                ensure!(in_width(data, width.mask()), "more than was written: {exit:x?}");
            }
            Exit::NestedPageFault { addr, access } => {
                let allowed = space.query(addr.as_u64()).is_some_and(|mapping| match access {
                    axvcpu::AccessKind::Read => mapping.perms.read,
                    axvcpu::AccessKind::Write => mapping.perms.write,
                    axvcpu::AccessKind::Execute => mapping.perms.execute,
                });
                ensure!(!allowed, "the guest has memory there: {exit:x?}");
            }
            _ => {}
        }
        Ok(())
    }

    /// And after all that it is a vCPU like any other, and nobody has noticed.
    fn finish(self) -> Verdict {
        let memory = self.memory.get().zip(self.subject.memory_in_use());
        if let Some((before, after)) = memory {
            let grown = after.saturating_sub(before);
            ensure!(
                grown <= GROWTH + self.subject.caches(),
                "{grown} bytes more are in use after {} starts",
                self.starts.get()
            );
        }
        I::repair(&self.bench.space)?;
        self.bench.space.fill(I::CODE, &I::Guest::assemble(|g| g.mark(7))?)?;
        let (hart, vcpu) = (self.bench.hart(), self.vcpu());
        vcpu.request_fence(Fence::all());
        vcpu.reset()?;
        vcpu.wake_here();
        vcpu.set_entry(GuestPhysAddr::new(I::CODE))?;
        hart.mark(7)?;
        hart.end()?;
        for _ in 0..2 {
            ensure_eq!(self.other.hart().report()?, pattern(I::DATA), "what another guest found");
        }
        let newcomer = Bench::<S, I>::boot(self.subject, |g| g.mark(3))?;
        newcomer.hart().mark(3)?;
        newcomer.hart().end()?;
        self.bench.space.check_guards()?;
        self.other.space.check_guards()
    }
}

/// Whether the backend did what it need not be able to.
fn can(result: AxResult) -> AxResult<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(AxError::Unsupported) => Ok(false),
        Err(error) => Err(error),
    }
}

/// What comes from another CPU meanwhile.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pressure {
    /// Kicks: guests that go round in circles are let go on only so long.
    Kicks,
    /// All interrupts there are, and fences, too.
    Storm,
}

/// Does `attempts` here on a guest with the program `body`, under `pressure` from another CPU. `number` makes the random
/// values different from those of other cases.
pub(crate) fn attack<'s, S: Subject, I: Hostile<S>>(
    subject: &'s S,
    number: u64,
    pressure: Pressure,
    body: impl FnOnce(&mut I::Guest),
    mut attempts: impl FnMut(&Sandbox<'s, S, I>, &mut Random) -> Verdict,
) -> Verdict {
    let before = subject.memory_in_use();
    let sandbox = Sandbox::<S, I>::new(subject, body)?;
    let mut random = Random::new(number);
    let done = AtomicBool::new(false);
    let vcpu = sandbox.vcpu();
    let flags = (&sandbox.is_let_go, &sandbox.is_storming, &sandbox.exits);
    two_cpus(
        subject,
        || {
            let result = attempts(&sandbox, &mut random);
            done.store(true, Ordering::SeqCst);
            result
        },
        || press::<S, I>(vcpu, pressure, &flags, &done),
    )?;
    if let Some(line) = I::LINE {
        vcpu.set_interrupt_line(line, false)?;
    }
    sandbox.finish()?;
    if let Some((before, after)) = before.zip(subject.memory_in_use()) {
        let left = after.saturating_sub(before);
        ensure!(left <= LEFT, "{left} bytes are still in use when all guests are gone");
    }
    Ok(())
}

fn press<S: Subject, I: Hostile<S>>(
    vcpu: &AxVCpu<S::Arch>,
    pressure: Pressure,
    (is_let_go, is_storming, exits): &(&AtomicBool, &AtomicBool, &AtomicUsize),
    done: &AtomicBool,
) -> Verdict {
    /// Of every interrupt, between two kicks.
    const ROUNDS: usize = 2;
    /// The longest pause between two kicks, in moments.
    const LONGEST: usize = 64;
    let (mut pause, mut before) = (1, 0);
    for turn in 0.. {
        if pressure == Pressure::Storm {
            is_storming.store(true, Ordering::SeqCst);
            for _ in 0..ROUNDS {
                if !is_let_go.load(Ordering::SeqCst) {
                    break;
                }
                for &vector in I::VECTORS {
                    vcpu.inject_interrupt(vector)?;
                }
                if let Some(line) = I::LINE {
                    vcpu.set_interrupt_line(line, turn % 3 == 0)?;
                }
                S::look_again(0);
            }
            is_storming.store(false, Ordering::SeqCst);
            vcpu.request_fence(Fence::all());
        }
        vcpu.kick();
        if done.load(Ordering::SeqCst) {
            break;
        }
        // A guest that is entered and kicked out faster than it can execute an instruction would never get anywhere: that is
        // how it is on emulators of emulators.
        for _ in 0..pause {
            S::pass();
        }
        let now = exits.load(Ordering::SeqCst);
        pause = if now == before { LONGEST.min(2 * pause) } else { 1 };
        before = now;
    }
    Ok(())
}
