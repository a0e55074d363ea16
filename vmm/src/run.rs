//! The run loop: enter the guest, do what it left for, again. On each physical CPU or thread runs one vCPU, or
//! several that share it.

use alloc::vec::Vec;
use core::sync::atomic::{Ordering, fence};

use axvcpu::{AxArchVCpu, AxError, AxResult, AxVCpuExitReason as Exit, AxVCpuHal, VCpuState};

use crate::bus::NoDevice;
use crate::cpus::{Cpu, PowerState};
use crate::schedule::{Share, Shares, Slice};
use crate::stats::ExitKind;
use crate::vm::{Call, Firmware, Next, Vm};
use crate::{Outcome, VmHost};

impl<A: AxArchVCpu, F: Firmware<A>> Vm<A, F> {
    /// Runs vCPU `cpu` on the calling thread until the machine ends, and tells how it ended. The vCPU is
    /// bound to the thread's physical CPU meanwhile. Call it once for each vCPU, each on a thread of its
    /// own; one that is off waits until the guest starts it.
    ///
    /// A number without a vCPU, or one that is being run already, ends the machine with
    /// [`CpuFailed`](Outcome::CpuFailed).
    pub fn run_vcpu(&self, cpu: usize, host: &impl VmHost) -> Outcome {
        self.run_vcpus(&[cpu], host)
    }

    /// Runs all vCPUs on the calling thread, as [`run_vcpus`](Self::run_vcpus) does. On a host without slices,
    /// with a clock that counts instructions, a run is exactly repeatable.
    pub fn run_in_turn(&self, host: &impl VmHost) -> Outcome {
        let all: Vec<_> = (0..self.cpus.len()).collect();
        self.run_vcpus(&all, host)
    }

    /// Like [`run_vcpu`](Self::run_vcpu), for several vCPUs that share the calling physical CPU. Those that
    /// can run get it in turn, each for the [slice](VmHost::begin_slice) of time that the host's timer
    /// measures; those that wait cost nothing. One that is woken goes first, as long as it has not used more
    /// of the physical CPU than the others.
    ///
    /// No vCPUs at all are as wrong as one that does not exist: nothing would ever end the wait for the
    /// machine's end.
    pub fn run_vcpus(&self, cpus: &[usize], host: &impl VmHost) -> Outcome {
        let mut shares = Shares::with_capacity(cpus.len());
        for &cpu in cpus {
            let this = self.cpus.get(cpu as u64).ok_or(AxError::InvalidInput);
            match this.and_then(|this| this.vcpu().bind().map(|()| this)) {
                Ok(this) => shares.add(cpu, this),
                Err(error) => self.fail(cpu, error),
            }
        }
        if cpus.is_empty() {
            self.fail(0, AxError::InvalidInput);
        }
        fence(Ordering::SeqCst); // pairs with `Cpu::start` and `Vm::stop`
        let outcome = loop {
            if let Some(outcome) = self.ending() {
                break outcome;
            }
            match shares.next(host, |share| self.can_run(share, host)) {
                Some((share, slice)) => self.run_slice(share, slice, host),
                None => {
                    self.console.flush();
                    host.wait(shares.deadline_ns());
                }
            }
        };
        self.console.flush();
        shares.iter().for_each(|share| take_off(share.this));
        outcome
    }

    fn fail(&self, cpu: usize, error: AxError) {
        self.stop(Outcome::CpuFailed { cpu, error });
    }

    /// Whether a vCPU has something to do. Starts one that was told to start, and wakes one that has waited
    /// long enough.
    fn can_run(&self, share: &mut Share<'_, A>, host: &impl VmHost) -> bool {
        let this = share.this;
        match this.power() {
            PowerState::On | PowerState::Suspended => {}
            PowerState::Off => return false,
            PowerState::Starting => {
                // If the starter has not said where yet: it kicks this physical CPU when it has.
                let Some((entry, arg)) = this.take_start() else { return false };
                if let Err(error) = self.firmware.start(this.vcpu(), entry, arg) {
                    self.fail(share.cpu, error);
                    return false;
                }
            }
        }
        if this.vcpu().state() == VCpuState::Blocked {
            if share.deadline_ns.is_none_or(|deadline| host.now_ns() < deadline) {
                return false;
            }
            this.vcpu().wake_here();
        }
        share.deadline_ns = None;
        if this.power() == PowerState::Suspended {
            this.set_power(PowerState::On);
        }
        true
    }

    /// Runs a vCPU until it waits, somebody else may have to run, or the machine may have ended.
    #[inline(never)] // what happens between two entries gets the registers to itself
    fn run_slice(&self, share: &mut Share<'_, A>, slice: Slice, host: &impl VmHost) {
        let (cpu, this) = (share.cpu, share.this);
        loop {
            let before = host.exit_clock_ns();
            let result = this.vcpu().run();
            let between = host.exit_clock_ns();
            // By reference: an exit is large.
            let next = match &result {
                Ok(exit) => self.handle(cpu, this, host, exit),
                Err(error) => Err(*error),
            };
            if let (Some(before), Some(between), Ok(exit)) = (before, between, &result) {
                this.counters.in_guest(between.saturating_sub(before));
                let after = host.exit_clock_ns().unwrap_or(between);
                this.counters.outside(ExitKind::of(exit), after.saturating_sub(between));
            }
            match next {
                Ok(Next::Run) if slice != Slice::OneRun => {}
                Ok(Next::Yield) if slice == Slice::Endless && !self.has_ended() => {}
                Ok(Next::Run | Next::Yield) => return,
                Ok(Next::Wait { deadline_ns }) => {
                    share.deadline_ns = deadline_ns;
                    return;
                }
                Err(error) => return self.fail(cpu, error),
            }
        }
    }

    #[inline]
    fn ending(&self) -> Option<Outcome> {
        if self.has_ended() { self.outcome() } else { None }
    }

    /// Does what the guest was left for: here what is frequent.
    #[inline]
    fn handle(&self, cpu: usize, this: &Cpu<A>, host: &impl VmHost, exit: &Exit) -> AxResult<Next> {
        match *exit {
            Exit::MmioRead { addr, width } => {
                this.counters.count(ExitKind::MmioRead);
                match self.bus.read(addr.as_u64(), width) {
                    Ok(value) => this.vcpu().set_return_value(value)?,
                    Err(NoDevice) => self.unclaimed(this, Some(width.mask()))?,
                }
                Ok(Next::Run)
            }
            Exit::MmioWrite { addr, width, data } => {
                this.counters.count(ExitKind::MmioWrite);
                if let Err(NoDevice) = self.bus.write(addr.as_u64(), width, data) {
                    self.unclaimed(this, None)?;
                }
                Ok(Next::Run)
            }
            Exit::IoRead { .. } | Exit::IoWrite { .. } => self.handle_port(cpu, this, host, exit),
            Exit::Hypercall { nr, function, args } => {
                this.counters.count(ExitKind::Hypercall);
                self.firmware.call(self, host, Call { cpu, nr, function, args })
            }
            _ => self.handle_others(cpu, this, host, exit),
        }
    }

    #[inline(never)]
    fn handle_others(
        &self,
        cpu: usize,
        this: &Cpu<A>,
        host: &impl VmHost,
        exit: &Exit,
    ) -> AxResult<Next> {
        this.counters.count(ExitKind::of(exit));
        match *exit {
            Exit::Halt { wake_after_ns } => {
                let deadline_ns = wake_after_ns.map(|ns| host.now_ns().saturating_add(ns));
                return Ok(Next::Wait { deadline_ns });
            }
            Exit::Nothing => return Ok(Next::Yield),
            // What can be neither mapped nor emulated fails in the guest like any access to nothing.
            Exit::NestedPageFault { .. } => {
                this.counters.count(ExitKind::Unclaimed);
                this.vcpu().fail_access()?;
            }
            Exit::ExternalInterrupt { .. } => {
                A::Hal::irq_handler();
                return Ok(Next::Yield);
            }
            _ => return self.handle_special(cpu, this, host, exit),
        }
        Ok(Next::Run)
    }

    /// Does an access to a port. Those that no device has are the firmware's, or nobody's: then the access does not
    /// fail, as there is no fault for it, but reads find the bus floating high, and writes go nowhere.
    #[inline(never)] // frequent, but on architectures without ports it is not to be in the way
    fn handle_port(
        &self,
        cpu: usize,
        this: &Cpu<A>,
        host: &impl VmHost,
        exit: &Exit,
    ) -> AxResult<Next> {
        this.counters.count(ExitKind::of(exit));
        match *exit {
            Exit::IoRead { port, width } => {
                if let Ok(value) = self.ports.read(port.into(), width) {
                    this.vcpu().set_return_value(value)?;
                    return Ok(Next::Run);
                }
            }
            Exit::IoWrite { port, width, data } => {
                if let Ok(()) = self.ports.write(port.into(), width, data) {
                    return Ok(Next::Run);
                }
            }
            _ => {}
        }
        if let Some(next) = self.firmware.exit(self, host, cpu, exit)? {
            return Ok(next);
        }
        this.counters.count(ExitKind::Unclaimed);
        if let Exit::IoRead { width, .. } = *exit {
            this.vcpu().set_return_value(width.mask())?;
        }
        Ok(Next::Run)
    }

    /// Does what few backends report, or none often.
    fn handle_special(
        &self,
        cpu: usize,
        this: &Cpu<A>,
        host: &impl VmHost,
        exit: &Exit,
    ) -> AxResult<Next> {
        if let Some(next) = self.firmware.exit(self, host, cpu, exit)? {
            return Ok(next);
        }
        match *exit {
            Exit::SysRegRead { .. } => self.unclaimed(this, Some(0))?,
            Exit::SysRegWrite { .. } => self.unclaimed(this, None)?,
            exit => {
                self.stop(match exit {
                    Exit::SystemDown => Outcome::PowerOff,
                    Exit::SystemReset => Outcome::Reboot { warm: false },
                    Exit::SystemCrash => Outcome::Crashed { reboot: false },
                    exit => Outcome::UnknownExit { cpu, exit },
                });
                return Ok(Next::Yield);
            }
        }
        Ok(Next::Run)
    }

    /// Answers an access to nothing, one that asks for a value with `floating` if the backend cannot make it fail:
    /// what an undriven bus looks like.
    #[cold]
    #[inline(never)]
    fn unclaimed(&self, this: &Cpu<A>, floating: Option<u64>) -> AxResult {
        this.counters.count(ExitKind::Unclaimed);
        match (this.vcpu().fail_access(), floating) {
            (Err(AxError::Unsupported), Some(value)) => this.vcpu().set_return_value(value),
            (Err(AxError::Unsupported), None) => Ok(()),
            (result, _) => result,
        }
    }
}

/// Takes a vCPU off its physical CPU after the machine has ended. There is nobody left to whom a failure
/// would matter: the vCPU is not run again.
fn take_off<A: AxArchVCpu>(this: &Cpu<A>) {
    if this.vcpu().state() == VCpuState::Blocked {
        this.vcpu().wake_here();
    }
    let _ = this.vcpu().unbind();
}
