//! The toy backend with a mistake put between it and whoever uses it. A suite that notices none is worth nothing.
#![allow(unsafe_code)] // implements `set_ept_root`, which is an unsafe function

pub(crate) mod platform;

use std::cell::Cell;

use axvcpu::AccessKind::Read;
use axvcpu::AxVCpuExitReason::{
    self, Halt, Hypercall, MmioRead, MmioWrite, NestedPageFault, Nothing,
};
use axvcpu::{
    AxArchVCpu, AxError, AxResult, Fence, GuestPhysAddr, HostPhysAddr, Requests, VCpuId, VmId,
};
use axvcpu_conformance::generic::{Architecture, Isa, Reg};
use axvcpu_conformance::{Subject, generic};
use axvcpu_riscv::paging::Mode;
use axvcpu_toy::isa::REGISTERS;
use axvcpu_toy::{FORMAT, ToyVCpu};

use crate::guests::Toy;
use crate::platform::Threads;

/// What it does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mistake {
    /// There are only so many vCPUs, and dropped ones count.
    RunsOutOfNumbers,
    /// A guest that has started cannot be sent elsewhere.
    IgnoresSetEntry,
    /// A guest that is sent elsewhere after a store goes on behind the first instruction there.
    SetEntryKeepsTheStore,
    /// Writes a register that there is not.
    HasARegisterTooMany,
    /// A register cannot be written while an answer is waited for.
    DropsRegistersBeforeTheAnswer,
    /// All vCPUs have one register in common.
    SharesARegister,
    /// A vCPU that is dropped with an access open leaves its physical CPU unusable.
    StaysOnTheCpu,
    /// A vCPU that is taken off its physical CPU loses its registers,
    UnbindDropsRegisters,
    /// the interrupts that it was told of,
    UnbindDropsInterrupts,
    /// or what its access waits for.
    UnbindForgetsTheAccess,
    /// A reset leaves everything as it was.
    ResetDoesNothing,
    /// A reset guest goes on where it was sent last.
    ResetGoesToTheLastEntry,
    /// A reset leaves pending interrupts.
    ResetKeepsInterrupts,
    /// Loads find zeroes.
    LosesTheAnswer,
    /// An answer goes to two registers.
    AnswersTwoRegisters,
    /// What a store writes has more bits than the store.
    ReportsWholeRegisters,
    /// Stores come to nothing.
    SwallowsStores,
    /// Whatever stage 2 refuses is a read.
    CallsFaultsReads,
    /// A load to be done again finds zeroes.
    AnswersInsteadOfRetrying,
    /// A store to be done again is not.
    DoesNotRetryStores,
    /// A nested page fault is nothing that could be retried.
    RefusesToRetryFaults,
    /// A failed access is done again.
    FailsSilently,
    /// Fails what is not there.
    FailsAnything,
    /// Keeps translations that a fence says are stale.
    ForgetsStage2Fence,
    /// Keeps instructions that a fence says are stale.
    ForgetsInstructionFence,
    /// The last interrupt takes the place of the others.
    LosesInterrupts,
    /// Each tenth interrupt is lost.
    LosesFewInterrupts,
    /// Interrupts are taken twice.
    TakesInterruptsTwice,
    /// A register is lost with every interrupt.
    InterruptsTakeARegister,
    /// Interrupts arrive when the guest halts, and not before.
    WaitsForTheHalt,
    /// Interrupts that there are not come to nothing.
    SwallowsUnknownVectors,
    /// Waits do not.
    NeverHalts,
    /// A guest that is kicked halts.
    HaltsWhenKicked,
}
use Mistake::*;

thread_local! {
    // A thread is a physical CPU, and this is what a backend could leave on one.
    static REGISTER: Cell<Option<u64>> = const { Cell::new(None) };
    static BOUND: Cell<bool> = const { Cell::new(false) };
    static MADE: Cell<u64> = const { Cell::new(0) };
}

pub(crate) struct Mistaken {
    toy: ToyVCpu<Threads>,
    makes: Mistake,
    /// The last exit, until something was done with it.
    exit: Option<AxVCpuExitReason>,
    /// The guest was entered.
    started: bool,
    /// Where it was sent last.
    entry: GuestPhysAddr,
    /// Interrupts to be told later, or again.
    kept: Vec<usize>,
    /// How many interrupts there were.
    injected: u64,
    /// The next interrupt that is taken is not to be seen.
    hides: bool,
}

/// Whether the guest's handler reports an interrupt.
fn is_interrupt(exit: &AxVCpuExitReason) -> bool {
    matches!(*exit, Hypercall { nr: Toy::TRAP, args, .. } if Toy::interrupt(&Toy::trap(args)).is_some())
}

impl Mistaken {
    fn tell_kept(&mut self) -> AxResult {
        self.kept.drain(..).try_for_each(|vector| self.toy.inject_interrupt(vector))
    }

    /// A run, but for the execution itself.
    fn go(
        &mut self,
        execute: impl Fn(&mut ToyVCpu<Threads>) -> AxResult<AxVCpuExitReason>,
        kicked: impl Fn() -> bool,
    ) -> AxResult<AxVCpuExitReason> {
        self.started = true;
        let shared = Toy::gpr(Reg::A);
        match (self.makes, REGISTER.get()) {
            (SharesARegister, Some(value)) => self.toy.set_gpr(shared, value)?,
            (LosesInterrupts, _) => {
                let last = self.kept.pop();
                self.kept.clear();
                last.map_or(Ok(()), |vector| self.toy.inject_interrupt(vector))?;
            }
            _ => {}
        }
        let mut exit = execute(&mut self.toy)?;
        match (self.makes, &mut exit) {
            (UnbindDropsInterrupts, taken) if self.hides && is_interrupt(taken) => {
                (*taken, self.hides) = (Nothing, false);
            }
            (InterruptsTakeARegister, taken) if is_interrupt(taken) => {
                self.toy.set_gpr(Toy::gpr(Reg::C), 0)?;
            }
            (SharesARegister, _) => REGISTER.set(Some(self.toy.get_gpr(shared)?)),
            (TakesInterruptsTwice, Hypercall { .. }) => self.tell_kept()?,
            (WaitsForTheHalt, Halt { .. }) => self.tell_kept()?,
            (CallsFaultsReads, NestedPageFault { access, .. }) => *access = Read,
            (ReportsWholeRegisters, MmioWrite { width, data, .. }) => *data |= !width.mask(),
            (SwallowsStores, MmioWrite { .. }) | (NeverHalts, Halt { .. }) => exit = Nothing,
            (HaltsWhenKicked, Nothing) if kicked() => exit = Halt { wake_after_ns: None },
            _ => {}
        }
        self.exit = Some(exit);
        Ok(exit)
    }
}

impl AxArchVCpu for Mistaken {
    type Hal = Threads;
    type CreateConfig = Mistake;
    type SetupConfig = ();

    fn new(vm: VmId, vcpu: VCpuId, makes: Mistake) -> AxResult<Self> {
        const NUMBERS: u64 = 50;
        MADE.set(MADE.get() + 1);
        if makes == RunsOutOfNumbers && MADE.get() > NUMBERS {
            return Err(AxError::NoMemory);
        }
        let toy = ToyVCpu::new(vm, vcpu, ())?;
        let (kept, injected) = (Vec::new(), 0);
        let entry = GuestPhysAddr::new(0);
        Ok(Self { toy, makes, exit: None, started: false, entry, kept, injected, hides: false })
    }

    fn set_entry(&mut self, entry: GuestPhysAddr) -> AxResult {
        let was_store = matches!(self.exit.take(), Some(MmioWrite { .. }));
        self.entry = entry;
        match self.makes {
            IgnoresSetEntry if self.started => Ok(()),
            SetEntryKeepsTheStore if was_store => {
                self.toy.set_entry(GuestPhysAddr::new(entry.as_u64() + 4))
            }
            _ => self.toy.set_entry(entry),
        }
    }

    unsafe fn set_ept_root(&mut self, root: HostPhysAddr) -> AxResult {
        // SAFETY: the caller's promise. It keeps whatever it unmaps until the end, and a fence that is left out changes
        // nothing for the memory itself: guests and the suite access it atomically.
        unsafe { self.toy.set_ept_root(root) }
    }

    fn setup(&mut self, (): ()) -> AxResult {
        self.toy.setup(())
    }

    fn run(&mut self) -> AxResult<AxVCpuExitReason> {
        self.go(ToyVCpu::run, || false)
    }

    fn run_watching(&mut self, requests: Requests<'_>) -> AxResult<AxVCpuExitReason> {
        self.go(|toy| toy.run_watching(requests), || requests.pending())
    }

    fn bind(&mut self) -> AxResult {
        if self.makes == StaysOnTheCpu && BOUND.replace(true) {
            return Err(AxError::ResourceBusy);
        }
        self.toy.bind()
    }

    fn unbind(&mut self) -> AxResult {
        let asked = matches!(self.exit, Some(MmioRead { .. }));
        match self.makes {
            StaysOnTheCpu => BOUND.set(asked),
            UnbindDropsRegisters => (1..REGISTERS).try_for_each(|reg| self.toy.set_gpr(reg, 0))?,
            UnbindDropsInterrupts => self.hides = self.injected > 0,
            UnbindForgetsTheAccess if asked => self.toy.retry()?,
            _ => {}
        }
        self.toy.unbind()
    }

    fn set_gpr(&mut self, reg: usize, val: u64) -> AxResult {
        match (self.makes, self.exit) {
            (HasARegisterTooMany, _) if reg == REGISTERS => Ok(()),
            (DropsRegistersBeforeTheAnswer, Some(MmioRead { .. })) => Ok(()),
            _ => self.toy.set_gpr(reg, val),
        }
    }

    fn get_gpr(&mut self, reg: usize) -> AxResult<u64> {
        self.toy.get_gpr(reg)
    }

    fn inject_interrupt(&mut self, vector: usize) -> AxResult {
        self.injected += 1;
        match self.makes {
            LosesInterrupts | WaitsForTheHalt => {
                self.kept.push(vector);
                return Ok(());
            }
            TakesInterruptsTwice | ResetKeepsInterrupts => self.kept.push(vector),
            LosesFewInterrupts if self.injected % 10 == 0 => return Ok(()),
            SwallowsUnknownVectors if vector >= 64 => return Ok(()),
            _ => {}
        }
        self.toy.inject_interrupt(vector)
    }

    fn set_return_value(&mut self, val: u64) {
        let was_load = matches!(self.exit.take(), Some(MmioRead { .. }));
        let lost = self.makes == LosesTheAnswer && was_load;
        self.toy.set_return_value(if lost { 0 } else { val });
        if self.makes == AnswersTwoRegisters && was_load {
            let _ = self.toy.set_gpr(Toy::gpr(Reg::B), val);
        }
    }

    fn reset(&mut self) -> AxResult {
        self.exit = None;
        if self.makes == ResetDoesNothing {
            return Ok(());
        }
        self.toy.reset()?;
        match self.makes {
            ResetGoesToTheLastEntry => self.toy.set_entry(self.entry),
            ResetKeepsInterrupts => self.tell_kept(),
            _ => Ok(()),
        }
    }

    fn fence(&mut self, fence: Fence) -> AxResult {
        self.toy.fence(match self.makes {
            ForgetsStage2Fence => fence.difference(Fence::STAGE2_TLB),
            ForgetsInstructionFence => fence.difference(Fence::INSTRUCTION),
            _ => fence,
        })
    }

    fn retry(&mut self) -> AxResult {
        match (self.makes, self.exit.take()) {
            (AnswersInsteadOfRetrying, Some(MmioRead { .. })) => self.toy.set_return_value(0),
            (DoesNotRetryStores, Some(MmioWrite { .. })) => {}
            (RefusesToRetryFaults, Some(NestedPageFault { .. })) => return Err(AxError::NotAsked),
            _ => return self.toy.retry(),
        }
        Ok(())
    }

    fn fail_access(&mut self) -> AxResult {
        self.exit = None;
        match self.makes {
            FailsSilently => self.toy.retry(),
            FailsAnything => self.toy.fail_access().or(Ok(())),
            _ => self.toy.fail_access(),
        }
    }
}

/// As [`crate::Backend`], with a mistake.
pub(crate) struct Backend(pub(crate) Mistake);

impl Subject for Backend {
    type Arch = Mistaken;
    type Machine = ();

    fn name(&self) -> &str {
        "toy, with a mistake"
    }
    fn machine(&self) -> AxResult {
        Ok(())
    }
    fn create_config(&self, (): &()) -> AxResult<Mistake> {
        Ok(self.0)
    }
    fn setup_config(&self) {}
    fn sleep(&self, ns: u64) {
        crate::Backend.sleep(ns);
    }
    fn look_again(looks: u64) -> bool {
        // What is lost does not come, so the patience is all that such a case takes.
        crate::Backend::look_again(looks) && looks < 100_000
    }
    fn without_virtualization(&self, f: &mut dyn FnMut()) -> bool {
        crate::Backend.without_virtualization(f)
    }
    fn on_two_cpus(&self, here: &mut dyn FnMut(), there: &mut (dyn FnMut() + Send)) -> bool {
        crate::Backend.on_two_cpus(here, there)
    }
}

impl generic::Subject for Backend {
    type Guests = Toy;
}

impl generic::GuestsOf<Backend> for Toy {
    fn format(_: &Backend) -> Mode {
        FORMAT
    }
}
