//! A machine to try a backend on: memory, vCPUs, and what is expected of their exits.
#![allow(unsafe_code)] // promises that the tables outlive the vCPUs

use alloc::vec::Vec;
use core::fmt::Debug;

use axvcpu::{
    AccessKind, AccessWidth, AxArchVCpu, AxError, AxResult, AxVCpu, AxVCpuExitReason, AxVCpuHal,
    Fence, GuestPhysAddr, VCpuState,
};
use axvcpu_stage2::{Format, Perms};

use crate::memory::Space;
use crate::report::{Failure, Place, Stop, Verdict, fail};
use crate::subject::Subject;

pub(crate) type Exit = AxVCpuExitReason;
/// The host memory that a subject's guests live in.
pub type Mm<S> = <<<S as Subject>::Arch as AxArchVCpu>::Hal as AxVCpuHal>::MmHal;
type CreateConfig<S> = <<S as Subject>::Arch as AxArchVCpu>::CreateConfig;
/// What a subject's vCPUs are set up with.
pub type SetupConfig<S> = <<S as Subject>::Arch as AxArchVCpu>::SetupConfig;

/// Exits that concern nobody (host interrupts, an interpreter's turns) after which a guest must have got
/// somewhere.
const PATIENCE: usize = 200_000;

/// A guest program in the making: what the guests of every architecture do. Each has its own instructions besides, those
/// that cases for every architecture need are [`Instructions`](crate::generic::Instructions).
///
/// Implemented by an assembler for guests. The suite calls the methods to append to the program what they name, in the
/// order in which the guest does it. A method may use any register, except those that an implementation of
/// [`Instructions`](crate::generic::Instructions) promises to keep.
pub trait Program: Sized {
    /// Assembles `body` between what every guest begins with, which installs its handler, and the program's end, which
    /// makes the call [`END`](Isa::END) for ever.
    ///
    /// The handler reports every trap with the call [`TRAP`](Isa::TRAP), and goes on where the guest was interrupted. The
    /// program starts at [`CODE`](Isa::CODE). What begins it keeps the register [`NUMBER`](Isa::NUMBER).
    ///
    /// # Errors
    ///
    /// The case fails with what is wrong with the program.
    fn assemble(body: impl FnOnce(&mut Self)) -> Verdict<Vec<u8>>;

    /// Reports a number that tells one place in the program from another: the call [`REPORT`](Isa::REPORT).
    fn mark(&mut self, number: u64);

    /// Waits for an interrupt, once: the vCPU halts unless one is pending, whether or not the program lets any in, and goes on
    /// behind the wait when it runs again, whatever for.
    fn wfi(&mut self);

    /// Waits for interrupts, for ever.
    fn wait_for_ever(&mut self);

    /// Reports the 64 bits at an address, for ever.
    fn report_for_ever(&mut self, address: u64);

    /// Executes for ever without leaving the guest, counting in the first 64 bits of [`DATA`](Isa::DATA).
    fn count_for_ever(&mut self);
}

/// A guest's call to the suite: its number and its arguments.
pub type Call = (u64, [u64; 6]);

/// What is special about the guests of an architecture: where they live, and how they call the suite. Implemented by a type
/// that needs no value.
///
/// Addresses are guest physical ones and multiples of 4096, and pages have that size. Each of the places is apart from all
/// others, those of [`Architecture`](crate::generic::Architecture) included.
pub trait Isa {
    /// The stage-2 tables: their entries, and values for their shapes.
    type Format: Format + Send + Sync;
    /// A guest program in the making.
    type Guest: Program;

    /// Where guests start: pages that may be read, written and executed.
    const CODE: u64;
    /// How many pages of code there are. Programs are short; 16 are plenty for instructions of 4 bytes.
    const CODE_PAGES: u64;
    /// Pages of data, which may be read and written.
    const DATA: u64;
    /// How many pages of data there are. One is enough for what the cases do there, the first 512 bytes; more is for whatever
    /// guests keep besides, stacks for one.
    const DATA_PAGES: u64;
    /// Addresses at which there is nothing: a page, where some cases put memory in the end. Below 4 GiB.
    const DEVICE: u64;
    /// A page whose mapping changes: `DATA + 0x10_5000`, unless it is said to be another. Not a round number: a TLB that picks its entries by the lower bits of addresses, and has
    /// few of them, would drop this one's for the code's or the data's, and be right without a fence.
    const WINDOW: u64 = Self::DATA + 0x10_5000;
    /// By what the suite knows memory that it leads to: `DATA + 0x20_0000`, unless it is said to be another. The guest finds
    /// nothing there.
    const FIRST: u64 = Self::DATA + 0x20_0000;
    /// By what the suite knows other memory that it leads to: `DATA + 0x20_1000`, unless it is said to be another.
    const SECOND: u64 = Self::DATA + 0x20_1000;

    /// Whether it takes a fence that a vCPU finds memory that was mapped where there was none.
    const ANNOUNCES: bool = false;

    /// The register in which a guest finds the number of its vCPU, from 0 to 3, as [`set_gpr`](AxVCpu::set_gpr) numbers it.
    const NUMBER: usize;

    /// The call whose first argument is a value to report.
    const REPORT: u64;
    /// The call with which the guest's own handler reports what it took; [`trap`](Self::trap) reads the arguments.
    const TRAP: u64;
    /// The call at the program's end.
    const END: u64;

    /// The number and the arguments of the guest's call to the suite, if `exit`, the last of `vcpu`, is one. The number is
    /// [`REPORT`](Self::REPORT), [`TRAP`](Self::TRAP) or [`END`](Self::END). Guests make hypercalls, whose number is `nr` and
    /// whose arguments are `args`, unless those of their architecture do not always arrive.
    ///
    /// # Errors
    ///
    /// The case fails with what reading the arguments failed with.
    fn call<A: AxArchVCpu>(exit: &Exit, vcpu: &AxVCpu<A>) -> Verdict<Option<Call>> {
        let _ = vcpu;
        Ok(match *exit {
            Exit::Hypercall { nr, args, .. } => Some((nr, args)),
            _ => None,
        })
    }

    /// What the handler reports: whatever the architecture tells of a trap. Failures show it.
    type Trap: Copy + Debug + PartialEq;

    /// Reads the arguments of [`TRAP`](Self::TRAP).
    fn trap(args: [u64; 6]) -> Self::Trap;
}

/// The guests of an architecture on a subject: what depends on the backend under test.
pub trait GuestsOf<S: Subject>: Isa {
    /// The shape of the stage-2 tables that the backend is given.
    fn format(subject: &S) -> Self::Format;

    /// Puts what guests need besides their program and their data into memory; called for every machine, before its
    /// vCPUs are made.
    ///
    /// # Errors
    ///
    /// The case fails with them.
    fn furnish(space: &mut Space<Mm<S>, Self::Format>) -> Verdict {
        let _ = space;
        Ok(())
    }

    /// What a vCPU is set up with.
    fn setup_config(subject: &S) -> SetupConfig<S> {
        subject.setup_config()
    }

    /// Whether memory that stage 2 maps without permission to execute cannot be executed. If not, what may be read may be
    /// executed, and cases about the difference are skipped once they have seen that.
    fn enforces_execute(subject: &S) -> bool {
        let _ = subject;
        true
    }
}

/// A machine. Fields are dropped in this order: the machine outlives the vCPUs, and the memory both.
pub struct Bench<S: Subject, I: Isa> {
    /// Its vCPUs.
    pub harts: Vec<Hart<S, I>>,
    /// What they share.
    pub machine: S::Machine,
    /// Their memory, [`CODE`](Isa::CODE) and [`DATA`](Isa::DATA) of it mapped from the beginning.
    pub space: Space<Mm<S>, I::Format>,
}

/// A vCPU and what is expected of it.
pub struct Hart<S: Subject, I: Isa> {
    /// The vCPU.
    pub vcpu: AxVCpu<S::Arch>,
    isa: core::marker::PhantomData<fn() -> I>,
}

impl<S: Subject, I: GuestsOf<S>> Bench<S, I> {
    /// A machine with memory and without vCPUs.
    pub fn empty(subject: &S) -> Verdict<Self> {
        Self::with_space(subject, Space::new(I::format(subject))?)
    }

    /// The same in an address space that has nothing in it yet.
    pub(crate) fn with_space(subject: &S, mut space: Space<Mm<S>, I::Format>) -> Verdict<Self> {
        space.add(I::CODE, I::CODE_PAGES, Some(Perms::RWX))?;
        space.add(I::DATA, I::DATA_PAGES, Some(Perms::RW))?;
        I::furnish(&mut space)?;
        Ok(Self { harts: Vec::new(), machine: subject.machine()?, space })
    }

    /// A machine whose one vCPU is bound to this physical CPU and about to start with `body`.
    pub fn boot(subject: &S, body: impl FnOnce(&mut I::Guest)) -> Verdict<Self> {
        Self::boot_many(subject, 1, body)
    }

    /// The same with several vCPUs, all bound here, which find their number in a register.
    pub fn boot_many(subject: &S, count: usize, body: impl FnOnce(&mut I::Guest)) -> Verdict<Self> {
        let mut bench = Self::empty(subject)?;
        bench.load(body)?;
        bench.add_bound(subject, count)?;
        Ok(bench)
    }

    /// Makes vCPUs, all bound here.
    pub fn add_bound(&mut self, subject: &S, count: usize) -> Verdict {
        for id in 0..count {
            self.add_hart(subject, id)?;
            self.harts[id].vcpu.bind()?;
        }
        Ok(())
    }

    /// Makes a vCPU and sets it up. It finds its number in a register.
    pub fn add_hart(&mut self, subject: &S, id: usize) -> Verdict {
        self.add_hart_with(subject, id, subject.create_config(&self.machine)?)
    }

    /// The same, made with something special.
    pub fn add_hart_with(&mut self, subject: &S, id: usize, config: CreateConfig<S>) -> Verdict {
        self.harts.push(Hart::new(AxVCpu::new(1, id, 0, None, config)?));
        let index = self.harts.len() - 1;
        self.setup(subject, index)?;
        Ok(self.harts[index].vcpu.set_gpr(I::NUMBER, id as u64)?)
    }

    /// Sets a vCPU up that starts where guests do.
    pub fn setup(&self, subject: &S, index: usize) -> AxResult {
        self.setup_with(index, I::CODE, I::setup_config(subject))
    }
}

impl<S: Subject, I: Isa> Bench<S, I> {
    /// Puts a program where guests start.
    pub fn load(&mut self, body: impl FnOnce(&mut I::Guest)) -> Verdict {
        let program = I::Guest::assemble(body)?;
        if program.len() as u64 > I::CODE_PAGES * 4096 {
            fail!("the suite's own guest is too long: {} bytes", program.len());
        }
        Ok(self.space.fill(I::CODE, &program)?)
    }

    /// Tells the vCPUs that memory was mapped where there was none, if they have to be told.
    pub fn announce(&self) {
        if I::ANNOUNCES {
            self.harts.iter().for_each(|hart| hart.vcpu.request_fence(Fence::STAGE2_TLB));
        }
    }

    /// Sets a vCPU up that starts at an address of the guest's, in a way of its own.
    pub fn setup_with(&self, index: usize, entry: u64, config: SetupConfig<S>) -> AxResult {
        let (entry, root) = (GuestPhysAddr::new(entry), self.space.root());
        // SAFETY: `space` keeps the table well formed, maps frames of the guest only, and is dropped after the
        // vCPUs are. Cases that take a mapping away keep the frame.
        unsafe { self.harts[index].vcpu.setup(entry, root, config) }
    }

    /// The first vCPU.
    pub fn hart(&self) -> &Hart<S, I> {
        &self.harts[0]
    }

    /// The first vCPU's vCPU.
    pub fn vcpu(&self) -> &AxVCpu<S::Arch> {
        &self.harts[0].vcpu
    }
}

impl<S: Subject, I: Isa> Hart<S, I> {
    /// A vCPU that [`Bench::setup`] has still to set up.
    pub fn new(vcpu: AxVCpu<S::Arch>) -> Self {
        Self { vcpu, isa: core::marker::PhantomData }
    }

    /// Runs until an exit that concerns the suite.
    #[track_caller]
    pub fn run(&self) -> Verdict<Exit> {
        match self.try_run() {
            Ok(exit) => Ok(exit),
            Err(Some(error)) => Err(self.unexpected(&alloc::format!("running failed: {error}"))),
            Err(None) => Err(self.unexpected("the guest got nowhere")),
        }
    }

    /// The same; an error is the backend's, or `None` if nothing ever happens.
    pub fn try_run(&self) -> Result<Exit, Option<AxError>> {
        for _ in 0..PATIENCE {
            match self.vcpu.run()? {
                Exit::Nothing => {}
                Exit::ExternalInterrupt { .. } => dispatch::<S>(),
                exit => return Ok(exit),
            }
        }
        Err(None)
    }

    /// What ends the case: the vCPU did that, which it should not, here.
    #[track_caller]
    pub fn unexpected(&self, what: &str) -> Stop {
        let place = Place(core::panic::Location::caller());
        Failure::new(alloc::format!("{place}: {what}")).into()
    }

    #[track_caller]
    fn mismatch(&self, expected: &str, found: Exit) -> Stop {
        match self.trap_of(found) {
            Ok(Some(trap)) => {
                self.unexpected(&alloc::format!("expected {expected}, found {trap:x?}"))
            }
            _ => self.unexpected(&alloc::format!("expected {expected}, found {found:x?}")),
        }
    }

    /// The number and the arguments of the guest's call, if the last exit was one.
    pub fn call(&self, exit: &Exit) -> Verdict<Option<Call>> {
        I::call(exit, &self.vcpu)
    }

    /// The trap that the last exit reports.
    pub fn trap_of(&self, exit: Exit) -> Verdict<Option<I::Trap>> {
        let call = self.call(&exit)?;
        Ok(call.filter(|(nr, _)| *nr == I::TRAP).map(|(_, args)| I::trap(args)))
    }

    /// Runs until the guest reports a value.
    #[track_caller]
    pub fn report(&self) -> Verdict<u64> {
        let exit = self.run()?;
        match self.call(&exit)? {
            Some((nr, args)) if nr == I::REPORT => Ok(args[0]),
            _ => Err(self.mismatch("a report", exit)),
        }
    }

    /// Runs until the guest reports this number.
    #[track_caller]
    pub fn mark(&self, number: u64) -> Verdict {
        match self.report()? {
            found if found == number => Ok(()),
            found => {
                Err(self.unexpected(&alloc::format!("expected mark {number:#x}, found {found:#x}")))
            }
        }
    }

    /// Runs until the guest's program is over.
    #[track_caller]
    pub fn end(&self) -> Verdict {
        let exit = self.run()?;
        match self.call(&exit)? {
            Some((nr, _)) if nr == I::END => Ok(()),
            _ => Err(self.mismatch("the guest's end", exit)),
        }
    }

    /// Runs until the guest takes a trap. The guest goes on where it was unless the trap is answered.
    #[track_caller]
    pub fn trap(&self) -> Verdict<I::Trap> {
        let exit = self.run()?;
        self.trap_of(exit)?.ok_or_else(|| self.mismatch("a trap", exit))
    }

    /// Runs until the guest reads from a device.
    #[track_caller]
    pub fn mmio_read(&self, addr: u64, width: AccessWidth) -> Verdict {
        let expected = Exit::MmioRead { addr: GuestPhysAddr::new(addr), width };
        match self.run()? {
            found if found == expected => Ok(()),
            found => Err(self.mismatch(&alloc::format!("{expected:x?}"), found)),
        }
    }

    /// Runs until the guest writes this to a device.
    #[track_caller]
    pub fn mmio_write(&self, addr: u64, width: AccessWidth, data: u64) -> Verdict {
        let expected = Exit::MmioWrite { addr: GuestPhysAddr::new(addr), width, data };
        match self.run()? {
            found if found == expected => Ok(()),
            found => Err(self.mismatch(&alloc::format!("{expected:x?}"), found)),
        }
    }

    /// Runs until stage 2 refuses this.
    #[track_caller]
    pub fn nested_fault(&self, addr: u64, access: AccessKind) -> Verdict {
        let expected = Exit::NestedPageFault { addr: GuestPhysAddr::new(addr), access };
        match self.run()? {
            found if found == expected => Ok(()),
            found => Err(self.mismatch(&alloc::format!("{expected:x?}"), found)),
        }
    }

    /// Runs until the guest halts with nothing to wake it, and is `Blocked`.
    #[track_caller]
    pub fn halt(&self) -> Verdict<Option<u64>> {
        match self.run()? {
            Exit::Halt { wake_after_ns } if self.vcpu.state() == VCpuState::Blocked => {
                Ok(wake_after_ns)
            }
            Exit::Halt { .. } => Err(self.unexpected("it halted, but did not block")),
            exit => Err(self.mismatch("a halt", exit)),
        }
    }
}

/// A pattern that differs in every byte from that of any other number.
pub fn pattern(number: u64) -> u64 {
    (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Lets the host handle the interrupt that ended a run.
pub(crate) fn dispatch<S: Subject>() {
    <S::Arch as AxArchVCpu>::Hal::irq_handler();
}
