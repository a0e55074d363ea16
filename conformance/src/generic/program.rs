//! What guests of any architecture are written with.

use alloc::vec::Vec;

use axvcpu::{AccessKind, AccessWidth, AxArchVCpu, AxVCpu};

use crate::bench::{Isa, Program};
use crate::report::Verdict;

/// One of the three general-purpose registers of 64 bits that guests use by name. Which ones they are the
/// [architecture](Architecture::gpr) says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reg {
    /// What most is done with.
    A,
    /// An address, mostly.
    B,
    /// Another one.
    C,
}

impl Reg {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::A, Self::B, Self::C];
}

/// What becomes of [`Instructions::atomic_add`] where stage 2 does not let it read and write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Atomic {
    /// It is a nested page fault, and is tried again when the vCPU runs: a fault of this kind where there is nothing, and for
    /// writing where there is memory that may only be read.
    Fault(AccessKind),
    /// It is a device's: 64 bits are read, and then the sum is written.
    Device,
}

/// The instructions that cases for any architecture are made of. Implemented by the assembler that implements [`Program`].
///
/// Every [`Reg`] keeps its value through every method of this trait, through [`Program::mark`] and [`Program::wfi`], and
/// through a trap to the handler, except where a method's text names it as changed. Other registers are the
/// implementation's. A method may stand for several instructions unless its text asks for one.
pub trait Instructions: Program {
    /// The address of the next instruction.
    fn here(&self) -> u64;

    /// Makes the call [`END`](Isa::END), for ever, as the end of a program does.
    fn end(&mut self);

    /// Copies the register [`NUMBER`](Isa::NUMBER) to `into`. Comes before anything else in a program.
    fn number(&mut self, into: Reg);

    /// Loads a number into a register.
    fn set(&mut self, register: Reg, value: u64);

    /// Adds a number below 256 to a register; what exceeds 64 bits is lost.
    fn add(&mut self, register: Reg, value: u64);

    /// One instruction that loads from memory, `offset` (below 256) behind the address in `base`. Bits beyond the width
    /// become zero; if the architecture has loads that keep or copy them, this is not such a one. `target` and `base` may
    /// be the same.
    fn load(&mut self, target: Reg, width: AccessWidth, base: Reg, offset: u64);

    /// One instruction that stores the lower bits of a register to memory.
    fn store(&mut self, source: Reg, width: AccessWidth, base: Reg, offset: u64);

    /// Adds `source` to the 64 bits at the address in `base`, at once for every other CPU. What becomes of it where stage 2
    /// does not let it, the [architecture](Architecture::ATOMIC) says: mostly it is an instruction that a device cannot carry
    /// out. If it stands for several, the guest goes on behind them all when the access fails and is
    /// [stepped over](Architecture::step_over).
    fn atomic_add(&mut self, source: Reg, base: Reg);

    /// Reports the value of a register with the call [`REPORT`](Isa::REPORT).
    fn report(&mut self, register: Reg);

    /// Calls the function at an address, which is made of [`Architecture::function`], and goes on behind it. Changes
    /// [`Reg::A`] as the function does.
    fn call(&mut self, address: u64);

    /// Repeats what `body` appends for ever.
    fn for_ever(&mut self, body: impl FnOnce(&mut Self));

    /// Repeats what `body` appends, without leaving the guest in between. No other `repeat` is in the body.
    fn repeat(&mut self, times: u64, body: impl FnOnce(&mut Self));

    /// Writes a register to one that is the guest's and not general-purpose. Whatever the architecture has: a scratch
    /// register of its supervisor, a thread pointer.
    fn write_system(&mut self, from: Reg);

    /// Reads it back.
    fn read_system(&mut self, into: Reg);

    /// Lets the interrupts of all [`VECTORS`](Architecture::VECTORS) in. From here on they are reported as traps, and are
    /// no longer pending once they are. One may come between any two instructions: the handler keeps every register, those
    /// in which a report is being prepared included.
    fn enable_interrupts(&mut self);

    /// Waits for an interrupt of the first of the [`VECTORS`](Architecture::VECTORS), and takes it without leaving the
    /// guest for anything but the wait. Comes in programs that do not [enable](Self::enable_interrupts) interrupts.
    fn await_interrupt(&mut self);

    /// Replaces the handler by one that adds 1 to 64 bits of data for each interrupt, those at [`DATA`](Isa::DATA)` + 8` for
    /// the first of the [`VECTORS`](Architecture::VECTORS), at `+ 16` for the second, at `+ 24` for the third; and lets them in.
    /// [`Program::count_for_ever`] and [`Program::wait_for_ever`] follow it.
    fn count_interrupts(&mut self);

    /// Replaces the handler by one whose first instruction traps to itself, and traps. Nothing follows it. It goes on for ever,
    /// so it must not need more memory with each trap.
    fn trap_for_ever(&mut self);
}

/// The registers, vectors and traps of an architecture. Implemented by the type that implements [`Isa`].
pub trait Architecture: Isa<Guest: Instructions> {
    /// How many registers [`set_gpr`](AxVCpu::set_gpr) knows, from 0 on. Below 63.
    const REGISTERS: usize;
    /// The register that is always zero, if there is one.
    const ZERO: Option<usize>;
    /// The register that [`store_registers`](Self::store_registers) keeps its address in.
    const BASE: usize;
    /// A register that [`Program::count_for_ever`] does not use.
    const SPARE: usize;
    /// Interrupts that can be injected, are told apart by the guest, and can be pending all at once.
    const VECTORS: [usize; 3];
    /// A vector below [`MAX_VECTORS`](axvcpu::MAX_VECTORS) that cannot be injected: the highest, unless it is said to be
    /// another. `None` if all can.
    const NO_VECTOR: Option<usize> = Some(axvcpu::MAX_VECTORS - 1);
    /// What becomes of [`Instructions::atomic_add`] where stage 2 does not let it.
    const ATOMIC: Atomic = Atomic::Fault(AccessKind::Write);
    /// Whether a load or a store that the hypervisor fails is a trap of the guest's. If not, it is as on a bus where nobody
    /// answers: a load finds ones, and what is stored goes nowhere. A fetch that it fails is a trap in any case.
    const FAILURES_TRAP: bool = true;
    /// A page for code that the guest calls, near enough for whatever is the nearest kind of call. As little a round number
    /// as [`WINDOW`](Isa::WINDOW) is: `CODE + 0x8_3000`, unless it is said to be another. It is apart from all other places.
    const NEAR: u64 = Self::CODE + 0x8_3000;

    /// The number of a register.
    fn gpr(register: Reg) -> usize;

    /// A program at [`CODE`](Isa::CODE) whose first instructions store every register one after the other at the address in
    /// [`BASE`](Self::BASE), 8 bytes for each, and that makes the call [`END`](Isa::END) then. It may leave out `BASE` and
    /// [`ZERO`](Self::ZERO), not their places.
    ///
    /// # Errors
    ///
    /// The case fails with what is wrong with the program.
    fn store_registers() -> Verdict<Vec<u8>>;

    /// A function of at most 16 bytes, for any address: it loads `value`, which is below 256, into [`Reg::A`] and returns.
    ///
    /// # Errors
    ///
    /// The case fails with what is wrong with it.
    fn function(value: u64) -> Verdict<Vec<u8>>;

    /// The vector of the interrupt that a trap was taken for, if it was for one.
    fn interrupt(trap: &Self::Trap) -> Option<usize>;

    /// Has the guest go on behind the load, the store or the [atomic addition](Instructions::atomic_add) that was failed,
    /// rather than at it; called after the handler reported the trap and before the vCPU runs again, if
    /// [failures trap](Self::FAILURES_TRAP).
    ///
    /// # Errors
    ///
    /// The case fails with what the vCPU refused.
    fn step_over<A: AxArchVCpu>(vcpu: &AxVCpu<A>, trap: &Self::Trap) -> Verdict;
}
