//! A machine to try a backend on: memory, vCPUs, and what is expected of their exits.
#![allow(unsafe_code)] // promises that the tables outlive the vCPUs

use alloc::vec::Vec;

use axvcpu::{
    AccessKind, AccessWidth, AxArchVCpu, AxError, AxResult, AxVCpu, AxVCpuExitReason, AxVCpuHal,
    GuestPhysAddr, VCpuState,
};
use axvcpu_riscv::stage2::Perms;

use super::guest::*;
use crate::memory::Space;
use crate::report::{Place, Stop, Verdict, fail};
use crate::{Failure, Subject};

pub(super) type Exit = AxVCpuExitReason;
type Mm<S> = <<<S as Subject>::Arch as AxArchVCpu>::Hal as AxVCpuHal>::MmHal;

/// Exits that concern nobody (host interrupts, an interpreter's turns) after which a guest must have got
/// somewhere.
const PATIENCE: usize = 200_000;

/// A machine. Fields are dropped in this order: the memory outlives the vCPUs.
pub(super) struct Bench<S: Subject> {
    pub(super) harts: Vec<Hart<S>>,
    pub(super) space: Space<Mm<S>>,
}

/// A vCPU and what is expected of it.
pub(super) struct Hart<S: Subject> {
    pub(super) vcpu: AxVCpu<S::Arch>,
}

/// A trap that the guest's handler reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trap {
    pub(super) cause: u64,
    pub(super) epc: u64,
    pub(super) value: u64,
    pub(super) status: u64,
    pub(super) pending: u64,
}

impl<S: Subject> Bench<S> {
    /// A machine with memory and without vCPUs.
    pub(super) fn empty(subject: &S) -> Verdict<Self> {
        let mut space = Space::new(subject.stage2_mode())?;
        space.add(CODE, CODE_PAGES, Some(Perms::RWX))?;
        space.add(DATA, DATA_PAGES, Some(Perms::RW))?;
        Ok(Self { harts: Vec::new(), space })
    }

    /// A machine whose one vCPU is bound to this physical CPU and about to start with `body`.
    pub(super) fn boot(subject: &S, body: impl FnOnce(&mut Guest)) -> Verdict<Self> {
        Self::boot_many(subject, 1, body)
    }

    /// The same with several vCPUs, all bound here, which find their number in `a0`.
    pub(super) fn boot_many(
        subject: &S,
        count: usize,
        body: impl FnOnce(&mut Guest),
    ) -> Verdict<Self> {
        let mut bench = Self::empty(subject)?;
        bench.load(body)?;
        for id in 0..count {
            bench.add_hart(subject, id)?;
            let vcpu = &bench.harts[id].vcpu;
            vcpu.set_gpr(10, id as u64)?;
            vcpu.bind()?;
        }
        Ok(bench)
    }

    /// Puts a program where guests start.
    pub(super) fn load(&mut self, body: impl FnOnce(&mut Guest)) -> Verdict {
        let program = Guest::assemble(body)?;
        if program.len() as u64 > CODE_PAGES * 4096 {
            fail!("the suite's own guest is too long: {} bytes", program.len());
        }
        Ok(self.space.fill(CODE, &program)?)
    }

    /// Makes a vCPU and sets it up.
    pub(super) fn add_hart(&mut self, subject: &S, id: usize) -> Verdict {
        let vcpu = AxVCpu::new(1, id, 0, None, subject.create_config()?)?;
        self.harts.push(Hart { vcpu });
        self.setup(subject, id)?;
        Ok(())
    }

    pub(super) fn setup(&self, subject: &S, index: usize) -> AxResult {
        let (entry, root) = (GuestPhysAddr::new(CODE), self.space.root());
        // SAFETY: `space` keeps the table well formed, maps frames of the guest only, and is dropped after the
        // vCPUs are. Cases that take a mapping away keep the frame.
        unsafe { self.harts[index].vcpu.setup(entry, root, subject.setup_config()) }
    }

    /// The first vCPU.
    pub(super) fn hart(&self) -> &Hart<S> {
        &self.harts[0]
    }

    /// The first vCPU's vCPU.
    pub(super) fn vcpu(&self) -> &AxVCpu<S::Arch> {
        &self.harts[0].vcpu
    }
}

impl<S: Subject> Hart<S> {
    /// Runs until an exit that concerns the suite.
    #[track_caller]
    pub(super) fn run(&self) -> Verdict<Exit> {
        match self.try_run() {
            Ok(exit) => Ok(exit),
            Err(Some(error)) => Err(self.unexpected(&alloc::format!("running failed: {error}"))),
            Err(None) => Err(self.unexpected("the guest got nowhere")),
        }
    }

    /// The same; an error is the backend's, or `None` if nothing ever happens.
    pub(super) fn try_run(&self) -> Result<Exit, Option<AxError>> {
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
    fn unexpected(&self, what: &str) -> Stop {
        let place = Place(core::panic::Location::caller());
        Failure::new(alloc::format!("{place}: {what}")).into()
    }

    #[track_caller]
    fn mismatch(&self, expected: &str, found: Exit) -> Stop {
        match trap_of(found) {
            Some(trap) => self.unexpected(&alloc::format!("expected {expected}, found {trap:x?}")),
            None => self.unexpected(&alloc::format!("expected {expected}, found {found:x?}")),
        }
    }

    /// Runs until the guest reports a value.
    #[track_caller]
    pub(super) fn report(&self) -> Verdict<u64> {
        match self.run()? {
            Exit::Hypercall { nr: REPORT, args, .. } => Ok(args[0]),
            exit => Err(self.mismatch("a report", exit)),
        }
    }

    /// Runs until the guest reports this number.
    #[track_caller]
    pub(super) fn mark(&self, number: u64) -> Verdict {
        match self.report()? {
            found if found == number => Ok(()),
            found => {
                Err(self.unexpected(&alloc::format!("expected mark {number:#x}, found {found:#x}")))
            }
        }
    }

    /// Runs until the guest's program is over.
    #[track_caller]
    pub(super) fn end(&self) -> Verdict {
        match self.run()? {
            Exit::Hypercall { nr: END, .. } => Ok(()),
            exit => Err(self.mismatch("the guest's end", exit)),
        }
    }

    /// Runs until the guest takes a trap. The guest goes on at `sepc` unless the trap is answered.
    #[track_caller]
    pub(super) fn trap(&self) -> Verdict<Trap> {
        let exit = self.run()?;
        trap_of(exit).ok_or_else(|| self.mismatch("a trap", exit))
    }

    /// Runs until the guest takes a trap for this cause.
    #[track_caller]
    pub(super) fn trap_for(&self, cause: u64) -> Verdict<Trap> {
        let trap = self.trap()?;
        if trap.cause != cause {
            return Err(
                self.unexpected(&alloc::format!("expected cause {cause:x}, found {trap:x?}"))
            );
        }
        Ok(trap)
    }

    /// Runs until the guest reads from a device.
    #[track_caller]
    pub(super) fn mmio_read(&self, addr: u64, width: AccessWidth) -> Verdict {
        let expected = Exit::MmioRead { addr: GuestPhysAddr::new(addr), width };
        match self.run()? {
            found if found == expected => Ok(()),
            found => Err(self.mismatch(&alloc::format!("{expected:x?}"), found)),
        }
    }

    /// Runs until the guest writes this to a device.
    #[track_caller]
    pub(super) fn mmio_write(&self, addr: u64, width: AccessWidth, data: u64) -> Verdict {
        let expected = Exit::MmioWrite { addr: GuestPhysAddr::new(addr), width, data };
        match self.run()? {
            found if found == expected => Ok(()),
            found => Err(self.mismatch(&alloc::format!("{expected:x?}"), found)),
        }
    }

    /// Runs until stage 2 refuses this.
    #[track_caller]
    pub(super) fn nested_fault(&self, addr: u64, access: AccessKind) -> Verdict {
        let expected = Exit::NestedPageFault { addr: GuestPhysAddr::new(addr), access };
        match self.run()? {
            found if found == expected => Ok(()),
            found => Err(self.mismatch(&alloc::format!("{expected:x?}"), found)),
        }
    }

    /// Runs until the guest halts with nothing to wake it, and is `Blocked`.
    #[track_caller]
    pub(super) fn halt(&self) -> Verdict<Option<u64>> {
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
fn trap_of(exit: Exit) -> Option<Trap> {
    match exit {
        Exit::Hypercall { nr: TRAP, args: [_, cause, epc, value, status, pending], .. } => {
            Some(Trap { cause, epc, value, status, pending })
        }
        _ => None,
    }
}

/// Lets the host handle the interrupt that ended a run.
pub(super) fn dispatch<S: Subject>() {
    <S::Arch as AxArchVCpu>::Hal::irq_handler();
}
