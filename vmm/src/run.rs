//! The run loop: enter the guest, do what it left for, again. One thread for each vCPU, or all vCPUs in
//! turn on one.

use alloc::vec;
use core::sync::atomic::{Ordering, fence};

use axvcpu::{
    AccessWidth, AxArchVCpu, AxError, AxResult, AxVCpuExitReason as Exit, AxVCpuHal, VCpuState,
};

use crate::bus::NoDevice;
use crate::cpus::{Cpu, PowerState};
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
        let Some(this) = self.cpus.get(cpu as u64) else {
            return self.stop(Outcome::CpuFailed { cpu, error: AxError::InvalidInput });
        };
        if let Err(error) = this.vcpu().bind() {
            return self.stop(Outcome::CpuFailed { cpu, error });
        }
        fence(Ordering::SeqCst); // pairs with `Cpu::start` and `Vm::stop`
        let outcome = self.until_the_end(cpu, this, host);
        self.console.flush();
        take_off(this);
        outcome
    }

    fn until_the_end(&self, cpu: usize, this: &Cpu<A>, host: &impl VmHost) -> Outcome {
        loop {
            if let Some(outcome) = self.ending() {
                return outcome;
            }
            match self.turn(cpu, this, host) {
                Ok(Next::Run) => {}
                Ok(Next::Wait { deadline_ns }) => {
                    self.console.flush();
                    self.wait(this, host, deadline_ns);
                }
                Err(error) => return self.stop(Outcome::CpuFailed { cpu, error }),
            }
        }
    }

    /// Waits until a blocked vCPU, or one that is off, has something to do again.
    fn wait(&self, this: &Cpu<A>, host: &impl VmHost, deadline_ns: Option<u64>) {
        let waiting = || match this.power() {
            PowerState::Off => true,
            _ => this.vcpu().state() == VCpuState::Blocked,
        };
        while waiting() && !self.has_ended() {
            if deadline_ns.is_some_and(|deadline| host.now_ns() >= deadline) {
                this.vcpu().wake();
            } else {
                host.wait(deadline_ns);
            }
        }
    }

    /// Runs all vCPUs on the calling thread, one after the other, until the machine ends, and tells how it
    /// ended. With a clock that counts instructions a run is exactly repeatable.
    ///
    /// The backend must end a run after a while by itself (with [`Nothing`](Exit::Nothing)), or a guest
    /// that waits for another of its CPUs in a loop waits forever.
    pub fn run_in_turn(&self, host: &impl VmHost) -> Outcome {
        for (cpu, this) in self.cpus.iter().enumerate() {
            if let Err(error) = this.vcpu().bind() {
                self.stop(Outcome::CpuFailed { cpu, error });
            }
        }
        fence(Ordering::SeqCst);
        let mut deadlines = vec![None; self.cpus.len()];
        let outcome = loop {
            if let Some(outcome) = self.ending() {
                break outcome;
            }
            let mut ran = false;
            for ((cpu, this), deadline) in self.cpus.iter().enumerate().zip(&mut deadlines) {
                if self.has_ended() {
                    break;
                }
                if this.power() == PowerState::Off {
                    continue;
                }
                if this.vcpu().state() == VCpuState::Blocked {
                    if deadline.is_none_or(|at| host.now_ns() < at) {
                        continue;
                    }
                    this.vcpu().wake();
                }
                *deadline = None;
                ran = true;
                match self.turn(cpu, this, host) {
                    Ok(Next::Run) => {}
                    Ok(Next::Wait { deadline_ns }) => *deadline = deadline_ns,
                    Err(error) => {
                        self.stop(Outcome::CpuFailed { cpu, error });
                    }
                }
            }
            if !ran {
                self.console.flush();
                host.wait(deadlines.iter().flatten().min().copied());
            }
        };
        self.console.flush();
        self.cpus.iter().for_each(take_off);
        outcome
    }

    #[inline]
    fn ending(&self) -> Option<Outcome> {
        if self.has_ended() { self.outcome() } else { None }
    }

    /// One entry into the guest and what it was left for.
    #[inline]
    fn turn(&self, cpu: usize, this: &Cpu<A>, host: &impl VmHost) -> AxResult<Next> {
        match this.power() {
            PowerState::On => {}
            PowerState::Off => return Ok(Next::Wait { deadline_ns: None }),
            PowerState::Starting => {
                let Some((entry, arg)) = this.take_start() else {
                    host.relax(0); // the starter is about to say where
                    return Ok(Next::Run);
                };
                self.firmware.start(this.vcpu(), entry, arg)?;
            }
            PowerState::Suspended => this.set_power(PowerState::On),
        }
        if this.vcpu().state() == VCpuState::Blocked {
            return Ok(Next::Wait { deadline_ns: None });
        }
        let before = host.exit_clock_ns();
        let exit = this.vcpu().run()?;
        let between = host.exit_clock_ns();
        let kind = ExitKind::of(&exit);
        this.counters.count(kind);
        let next = self.handle(cpu, this, host, exit);
        if let (Some(before), Some(between)) = (before, between) {
            this.counters.in_guest(between.saturating_sub(before));
            let after = host.exit_clock_ns().unwrap_or(between);
            this.counters.outside(kind, after.saturating_sub(between));
        }
        next
    }

    #[inline]
    fn handle(&self, cpu: usize, this: &Cpu<A>, host: &impl VmHost, exit: Exit) -> AxResult<Next> {
        match exit {
            Exit::MmioRead { addr, width } => match self.bus.read(addr.as_u64(), width) {
                Ok(value) => this.vcpu().set_return_value(value)?,
                Err(NoDevice) => self.unclaimed(this, Some(width))?,
            },
            Exit::MmioWrite { addr, width, data } => {
                if let Err(NoDevice) = self.bus.write(addr.as_u64(), width, data) {
                    self.unclaimed(this, None)?;
                }
            }
            Exit::Hypercall { nr, function, args } => {
                return self.firmware.call(self, host, Call { cpu, nr, function, args });
            }
            Exit::Halt { wake_after_ns } => {
                let deadline_ns = wake_after_ns.map(|ns| host.now_ns().saturating_add(ns));
                return Ok(Next::Wait { deadline_ns });
            }
            Exit::Nothing => {}
            // What can be neither mapped nor emulated fails in the guest like any access to nothing.
            Exit::NestedPageFault { .. } => {
                this.counters.count(ExitKind::Unclaimed);
                this.vcpu().fail_access()?;
            }
            Exit::ExternalInterrupt { .. } => A::Hal::irq_handler(),
            // No machine here has ports: reads find the bus floating high.
            Exit::IoRead { width, .. } => {
                this.counters.count(ExitKind::Unclaimed);
                this.vcpu().set_return_value(width.mask())?;
            }
            Exit::IoWrite { .. } => this.counters.count(ExitKind::Unclaimed),
            Exit::SystemDown => {
                self.stop(Outcome::PowerOff);
            }
            Exit::SystemReset => {
                self.stop(Outcome::Reboot { warm: false });
            }
            exit => {
                self.stop(Outcome::UnknownExit { cpu, exit });
            }
        }
        Ok(Next::Run)
    }

    /// Answers an access to nothing. `read` is its width if it asks for a value.
    #[cold]
    fn unclaimed(&self, this: &Cpu<A>, read: Option<AccessWidth>) -> AxResult {
        this.counters.count(ExitKind::Unclaimed);
        match (this.vcpu().fail_access(), read) {
            // Backends that cannot fail an access: what an undriven bus looks like.
            (Err(AxError::Unsupported), Some(width)) => this.vcpu().set_return_value(width.mask()),
            (Err(AxError::Unsupported), None) => Ok(()),
            (result, _) => result,
        }
    }
}

/// Takes a vCPU off its physical CPU after the machine has ended. There is nobody left to whom a failure
/// would matter: the vCPU is not run again.
fn take_off<A: AxArchVCpu>(this: &Cpu<A>) {
    if this.vcpu().state() == VCpuState::Blocked {
        this.vcpu().wake();
    }
    let _ = this.vcpu().unbind();
}
