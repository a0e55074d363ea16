//! A machine to try a backend on: memory, vCPUs, and what is expected of their exits.
#![allow(unsafe_code)] // promises that the tables outlive the vCPUs

use alloc::vec::Vec;
use core::fmt::Debug;

use axvcpu::{
    AccessKind, AccessWidth, AxArchVCpu, AxError, AxResult, AxVCpu, AxVCpuExitReason, AxVCpuHal,
    GuestPhysAddr, VCpuState,
};
use axvcpu_stage2::{Format, Perms};

use crate::memory::Space;
use crate::report::{Failure, Place, Stop, Verdict, fail};
use crate::subject::Subject;

pub(crate) type Exit = AxVCpuExitReason;
type Mm<S> = <<<S as Subject>::Arch as AxArchVCpu>::Hal as AxVCpuHal>::MmHal;
type CreateConfig<S> = <<S as Subject>::Arch as AxArchVCpu>::CreateConfig;

/// Exits that concern nobody (host interrupts, an interpreter's turns) after which a guest must have got
/// somewhere.
const PATIENCE: usize = 200_000;

/// A guest program in the making: what the guests of every architecture do. Each has its own instructions besides.
pub(crate) trait Program: Sized {
    /// Assembles `body` between what every guest begins with, which installs its handler, and the program's end.
    fn assemble(body: impl FnOnce(&mut Self)) -> Verdict<Vec<u8>>;

    /// Reports a number that tells one place in the program from another.
    fn mark(&mut self, number: u64);

    /// Waits for an interrupt.
    fn wfi(&mut self);

    /// Waits for interrupts, for ever.
    fn wait_for_ever(&mut self);

    /// Reports the word at an address, for ever.
    fn report_for_ever(&mut self, address: u64);

    /// Executes for ever without leaving the guest, counting in the first word of data.
    fn count_for_ever(&mut self);
}

/// What is special about the guests of an architecture.
pub(crate) trait Isa {
    /// The stage-2 tables.
    type Format: Format + Send + Sync;
    /// A program.
    type Guest: Program;

    /// Where guests start.
    const CODE: u64;
    /// How much there is of code.
    const CODE_PAGES: u64;
    /// Pages of data, readable and writable.
    const DATA: u64;
    /// How much there is of data.
    const DATA_PAGES: u64;
    /// Addresses at which there is nothing.
    const DEVICE: u64;
    /// A page whose mapping changes.
    const WINDOW: u64 = Self::DATA + 0x10_0000;
    /// Memory that it leads to.
    const FIRST: u64 = Self::DATA + 0x20_0000;
    /// Other memory that it leads to.
    const SECOND: u64 = Self::DATA + 0x20_1000;

    /// The register in which a guest finds the number of its vCPU.
    const NUMBER: usize;

    /// The hypercall whose first argument is a value to report.
    const REPORT: u64;
    /// The hypercall with which the guest's own handler reports what it took.
    const TRAP: u64;
    /// The hypercall at the program's end.
    const END: u64;

    /// What the handler reports.
    type Trap: Copy + Debug + PartialEq;

    /// Reads the arguments of [`TRAP`](Self::TRAP).
    fn trap(args: [u64; 6]) -> Self::Trap;
}

/// The guests of an architecture on a subject.
pub(crate) trait GuestsOf<S>: Isa {
    /// The shape of the stage-2 tables that the backend is given.
    fn format(subject: &S) -> Self::Format;
}

/// A machine. Fields are dropped in this order: the memory outlives the vCPUs.
pub(crate) struct Bench<S: Subject, I: Isa> {
    pub(crate) harts: Vec<Hart<S, I>>,
    pub(crate) space: Space<Mm<S>, I::Format>,
}

/// A vCPU and what is expected of it.
pub(crate) struct Hart<S: Subject, I: Isa> {
    pub(crate) vcpu: AxVCpu<S::Arch>,
    isa: core::marker::PhantomData<fn() -> I>,
}

impl<S: Subject, I: GuestsOf<S>> Bench<S, I> {
    /// A machine with memory and without vCPUs.
    pub(crate) fn empty(subject: &S) -> Verdict<Self> {
        let mut space = Space::new(I::format(subject))?;
        space.add(I::CODE, I::CODE_PAGES, Some(Perms::RWX))?;
        space.add(I::DATA, I::DATA_PAGES, Some(Perms::RW))?;
        Ok(Self { harts: Vec::new(), space })
    }

    /// A machine whose one vCPU is bound to this physical CPU and about to start with `body`.
    pub(crate) fn boot(subject: &S, body: impl FnOnce(&mut I::Guest)) -> Verdict<Self> {
        Self::boot_many(subject, 1, body)
    }

    /// The same with several vCPUs, all bound here, which find their number in a register.
    pub(crate) fn boot_many(
        subject: &S,
        count: usize,
        body: impl FnOnce(&mut I::Guest),
    ) -> Verdict<Self> {
        let mut bench = Self::empty(subject)?;
        bench.load(body)?;
        bench.add_bound(subject, count)?;
        Ok(bench)
    }
}

impl<S: Subject, I: Isa> Bench<S, I> {
    /// Puts a program where guests start.
    pub(crate) fn load(&mut self, body: impl FnOnce(&mut I::Guest)) -> Verdict {
        let program = I::Guest::assemble(body)?;
        if program.len() as u64 > I::CODE_PAGES * 4096 {
            fail!("the suite's own guest is too long: {} bytes", program.len());
        }
        Ok(self.space.fill(I::CODE, &program)?)
    }

    /// Makes vCPUs, all bound here, which find their number in a register.
    pub(crate) fn add_bound(&mut self, subject: &S, count: usize) -> Verdict {
        for id in 0..count {
            self.add_hart(subject, id)?;
            let vcpu = &self.harts[id].vcpu;
            vcpu.set_gpr(I::NUMBER, id as u64)?;
            vcpu.bind()?;
        }
        Ok(())
    }

    /// Makes a vCPU and sets it up.
    pub(crate) fn add_hart(&mut self, subject: &S, id: usize) -> Verdict {
        self.add_hart_with(subject, id, subject.create_config()?)
    }

    /// The same, made with something special.
    pub(crate) fn add_hart_with(
        &mut self,
        subject: &S,
        id: usize,
        config: CreateConfig<S>,
    ) -> Verdict {
        self.harts.push(Hart::new(AxVCpu::new(1, id, 0, None, config)?));
        self.setup(subject, self.harts.len() - 1)?;
        Ok(())
    }

    pub(crate) fn setup(&self, subject: &S, index: usize) -> AxResult {
        let (entry, root) = (GuestPhysAddr::new(I::CODE), self.space.root());
        // SAFETY: `space` keeps the table well formed, maps frames of the guest only, and is dropped after the
        // vCPUs are. Cases that take a mapping away keep the frame.
        unsafe { self.harts[index].vcpu.setup(entry, root, subject.setup_config()) }
    }

    /// The first vCPU.
    pub(crate) fn hart(&self) -> &Hart<S, I> {
        &self.harts[0]
    }

    /// The first vCPU's vCPU.
    pub(crate) fn vcpu(&self) -> &AxVCpu<S::Arch> {
        &self.harts[0].vcpu
    }
}

impl<S: Subject, I: Isa> Hart<S, I> {
    pub(crate) fn new(vcpu: AxVCpu<S::Arch>) -> Self {
        Self { vcpu, isa: core::marker::PhantomData }
    }

    /// Runs until an exit that concerns the suite.
    #[track_caller]
    pub(crate) fn run(&self) -> Verdict<Exit> {
        match self.try_run() {
            Ok(exit) => Ok(exit),
            Err(Some(error)) => Err(self.unexpected(&alloc::format!("running failed: {error}"))),
            Err(None) => Err(self.unexpected("the guest got nowhere")),
        }
    }

    /// The same; an error is the backend's, or `None` if nothing ever happens.
    pub(crate) fn try_run(&self) -> Result<Exit, Option<AxError>> {
        for _ in 0..PATIENCE {
            match self.vcpu.run()? {
                Exit::Nothing => {}
                Exit::ExternalInterrupt { .. } => dispatch::<S>(),
                exit => return Ok(exit),
            }
        }
        Err(None)
    }

    #[track_caller]
    pub(crate) fn unexpected(&self, what: &str) -> Stop {
        let place = Place(core::panic::Location::caller());
        Failure::new(alloc::format!("{place}: {what}")).into()
    }

    #[track_caller]
    fn mismatch(&self, expected: &str, found: Exit) -> Stop {
        match trap_of::<I>(found) {
            Some(trap) => self.unexpected(&alloc::format!("expected {expected}, found {trap:x?}")),
            None => self.unexpected(&alloc::format!("expected {expected}, found {found:x?}")),
        }
    }

    /// Runs until the guest reports a value.
    #[track_caller]
    pub(crate) fn report(&self) -> Verdict<u64> {
        match self.run()? {
            Exit::Hypercall { nr, args, .. } if nr == I::REPORT => Ok(args[0]),
            exit => Err(self.mismatch("a report", exit)),
        }
    }

    /// Runs until the guest reports this number.
    #[track_caller]
    pub(crate) fn mark(&self, number: u64) -> Verdict {
        match self.report()? {
            found if found == number => Ok(()),
            found => {
                Err(self.unexpected(&alloc::format!("expected mark {number:#x}, found {found:#x}")))
            }
        }
    }

    /// Runs until the guest's program is over.
    #[track_caller]
    pub(crate) fn end(&self) -> Verdict {
        match self.run()? {
            Exit::Hypercall { nr, .. } if nr == I::END => Ok(()),
            exit => Err(self.mismatch("the guest's end", exit)),
        }
    }

    /// Runs until the guest takes a trap. The guest goes on where it was unless the trap is answered.
    #[track_caller]
    pub(crate) fn trap(&self) -> Verdict<I::Trap> {
        let exit = self.run()?;
        trap_of::<I>(exit).ok_or_else(|| self.mismatch("a trap", exit))
    }

    /// Runs until the guest reads from a device.
    #[track_caller]
    pub(crate) fn mmio_read(&self, addr: u64, width: AccessWidth) -> Verdict {
        let expected = Exit::MmioRead { addr: GuestPhysAddr::new(addr), width };
        match self.run()? {
            found if found == expected => Ok(()),
            found => Err(self.mismatch(&alloc::format!("{expected:x?}"), found)),
        }
    }

    /// Runs until the guest writes this to a device.
    #[track_caller]
    pub(crate) fn mmio_write(&self, addr: u64, width: AccessWidth, data: u64) -> Verdict {
        let expected = Exit::MmioWrite { addr: GuestPhysAddr::new(addr), width, data };
        match self.run()? {
            found if found == expected => Ok(()),
            found => Err(self.mismatch(&alloc::format!("{expected:x?}"), found)),
        }
    }

    /// Runs until stage 2 refuses this.
    #[track_caller]
    pub(crate) fn nested_fault(&self, addr: u64, access: AccessKind) -> Verdict {
        let expected = Exit::NestedPageFault { addr: GuestPhysAddr::new(addr), access };
        match self.run()? {
            found if found == expected => Ok(()),
            found => Err(self.mismatch(&alloc::format!("{expected:x?}"), found)),
        }
    }

    /// Runs until the guest halts with nothing to wake it, and is `Blocked`.
    #[track_caller]
    pub(crate) fn halt(&self) -> Verdict<Option<u64>> {
        match self.run()? {
            Exit::Halt { wake_after_ns } if self.vcpu.state() == VCpuState::Blocked => {
                Ok(wake_after_ns)
            }
            Exit::Halt { .. } => Err(self.unexpected("it halted, but did not block")),
            exit => Err(self.mismatch("a halt", exit)),
        }
    }
}

/// The trap an exit reports.
fn trap_of<I: Isa>(exit: Exit) -> Option<I::Trap> {
    match exit {
        Exit::Hypercall { nr, args, .. } if nr == I::TRAP => Some(I::trap(args)),
        _ => None,
    }
}

/// A pattern that differs in every byte from that of any other number.
pub(crate) fn pattern(number: u64) -> u64 {
    (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Lets the host handle the interrupt that ended a run.
pub(crate) fn dispatch<S: Subject>() {
    <S::Arch as AxArchVCpu>::Hal::irq_handler();
}
