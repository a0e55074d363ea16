//! PSCI 1.1 (Arm DEN 0022, "Power State Coordination Interface"), under the SMC calling convention 1.2 (Arm DEN 0028):
//! what a guest at EL1 asks its firmware for.
//!
//! Present is what PSCI 1.1 demands, and `MIGRATE_INFO_TYPE` and `SYSTEM_RESET2`. Everything else is answered with
//! `NOT_SUPPORTED`, among it `SYSTEM_SUSPEND` and the calls that ask for workarounds.

use alloc::sync::Arc;

use axvcpu::{AxArchVCpu, AxResult, AxVCpu, AxVCpuExitReason, GuestPhysAddr};
use axvcpu_arm::affinity;
use axvcpu_arm::gic::SGIS;

use super::gic::CpuInterfaces;
use crate::devices::Pl011;
use crate::{Call, Cpu, Firmware, Next, Outcome, PowerState, Vm, VmHost};

/// `x0`: the argument of a CPU that starts.
const X0: usize = 0;

/// Function identifiers, those with arguments of 32 bits. Bit 30 makes their arguments 64 bits wide.
mod id {
    pub(super) const SMC64: u32 = 1 << 30;

    pub(super) const SMCCC_VERSION: u32 = 0x8000_0000;
    pub(super) const SMCCC_ARCH_FEATURES: u32 = 0x8000_0001;

    pub(super) const PSCI_VERSION: u32 = 0x8400_0000;
    pub(super) const CPU_SUSPEND: u32 = 0x8400_0001;
    pub(super) const CPU_OFF: u32 = 0x8400_0002;
    pub(super) const CPU_ON: u32 = 0x8400_0003;
    pub(super) const AFFINITY_INFO: u32 = 0x8400_0004;
    pub(super) const MIGRATE_INFO_TYPE: u32 = 0x8400_0006;
    pub(super) const SYSTEM_OFF: u32 = 0x8400_0008;
    pub(super) const SYSTEM_RESET: u32 = 0x8400_0009;
    pub(super) const PSCI_FEATURES: u32 = 0x8400_000a;
    pub(super) const SYSTEM_RESET2: u32 = 0x8400_0012;
}

/// Version 1.2: calls preserve every register but those with results.
const SMCCC_1_2: u64 = 1 << 16 | 2;
const PSCI_1_1: u64 = 1 << 16 | 1;
/// `MIGRATE_INFO_TYPE`: there is no trusted operating system that would have to migrate.
const NO_TRUSTED_OS: u64 = 2;
/// `AFFINITY_INFO`.
const ON: u64 = 0;
const OFF: u64 = 1;
const ON_PENDING: u64 = 2;
/// `SYSTEM_RESET2`: the only type of reset that is not a vendor's.
const WARM_RESET: u64 = 0;

/// `CPU_SUSPEND`, in the original format of states, which `PSCI_FEATURES` announces with 0: the bits of a state that
/// stands by, which are its own number and the level it extends to. Bit 16 would be to power down.
const STANDBY: u64 = 0x0300_ffff;

/// How long a CPU stands by at most.
///
/// Its timers are the backend's secret, so that the machine does not know when they fire. A standby may end for no
/// reason.
const STANDBY_NS: u64 = 1_000_000;

/// Error codes of both specifications.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Error {
    NotSupported = -1,
    InvalidParameters = -2,
    AlreadyOn = -4,
    OnPending = -5,
    InternalFailure = -6,
    InvalidAddress = -9,
}

/// What is left to do after a call.
enum Reply {
    /// The call returns this.
    Value(u64),
    /// The vCPU succeeded and waits.
    Wait(u64),
    /// The call does not return.
    Never,
}

type Answer = Result<Reply, Error>;

/// The firmware of an AArch64 machine.
pub struct Psci {
    uart: Arc<Pl011>,
}

/// Everything a call works with.
struct Context<'a, A: AxArchVCpu, H> {
    vm: &'a Vm<A, Psci>,
    host: &'a H,
    this: &'a Cpu<A>,
    function: u32,
    args: [u64; 3],
}

impl Psci {
    pub(super) fn new(uart: Arc<Pl011>) -> Self {
        Self { uart }
    }

    /// The serial port, to which the host sends input.
    pub(super) fn uart(&self) -> &Pl011 {
        &self.uart
    }
}

impl<A: AxArchVCpu + Send> Firmware<A> for Psci {
    fn call(&self, vm: &Vm<A, Self>, host: &impl VmHost, call: Call) -> AxResult<Next> {
        let Some(this) = vm.cpus.get(call.cpu as u64) else { return Ok(Next::Run) };
        // The convention looks at w0 alone, and with it at the size of the arguments.
        let function = call.nr as u32;
        let width = if function & id::SMC64 == 0 { 0xffff_ffff } else { u64::MAX };
        let [first, second, third, ..] = call.args;
        let args = [first, second, third].map(|arg| arg & width);
        let vcpu = this.vcpu();
        match (Context { vm, host, this, function, args }).answer() {
            Ok(Reply::Value(value)) => vcpu.set_return_value(value)?,
            Err(error) => vcpu.set_return_value(error as i64 as u64)?,
            Ok(Reply::Wait(deadline_ns)) => {
                vcpu.set_return_value(0)?;
                vcpu.block()?;
                return Ok(Next::Wait { deadline_ns: Some(deadline_ns) });
            }
            Ok(Reply::Never) => return Ok(Next::Wait { deadline_ns: None }),
        }
        Ok(Next::Run)
    }

    /// SGIs: edges for CPUs that the guest names, those that do not exist aside.
    fn exit(
        &self,
        vm: &Vm<A, Self>,
        _: &impl VmHost,
        _: usize,
        exit: &AxVCpuExitReason,
    ) -> AxResult<Option<Next>> {
        let AxVCpuExitReason::SendIpi { base, mask, vector } = *exit else { return Ok(None) };
        let Some(sgi) = u32::try_from(vector).ok().filter(|&sgi| sgi < SGIS) else {
            return Ok(None);
        };
        let mut rest = mask;
        while rest != 0 {
            let cpu = base.saturating_add(rest.trailing_zeros().into());
            rest &= rest - 1;
            if let Ok(cpu) = usize::try_from(cpu) {
                vm.cpus.raise_edge(cpu, sgi);
            }
        }
        Ok(Some(Next::Run))
    }

    fn start(&self, vcpu: &AxVCpu<A>, entry: u64, arg: u64) -> AxResult {
        vcpu.set_entry(GuestPhysAddr::new(entry))?;
        vcpu.set_gpr(X0, arg)
    }
}

impl<A: AxArchVCpu + Send, H: VmHost> Context<'_, A, H> {
    fn answer(&self) -> Answer {
        let [first, second, third] = self.args;
        let value = match function(self.function).ok_or(Error::NotSupported)? {
            id::SMCCC_VERSION => SMCCC_1_2,
            id::SMCCC_ARCH_FEATURES => match first as u32 {
                id::SMCCC_VERSION | id::SMCCC_ARCH_FEATURES => 0,
                _ => return Err(Error::NotSupported),
            },
            id::PSCI_VERSION => PSCI_1_1,
            id::PSCI_FEATURES => match function(first as u32) {
                // `SMCCC_VERSION` is what says that the convention has a version at all.
                Some(id::SMCCC_ARCH_FEATURES) | None => return Err(Error::NotSupported),
                Some(_) => 0,
            },
            id::CPU_SUSPEND => return self.cpu_suspend(first),
            id::CPU_OFF => return self.cpu_off(),
            id::CPU_ON => return self.cpu_on(first, second, third),
            id::AFFINITY_INFO => return self.affinity_info(first, second),
            id::MIGRATE_INFO_TYPE => NO_TRUSTED_OS,
            id::SYSTEM_OFF => return Ok(self.end(Outcome::PowerOff)),
            id::SYSTEM_RESET => return Ok(self.end(Outcome::Reboot { warm: false })),
            id::SYSTEM_RESET2 if first == WARM_RESET => {
                return Ok(self.end(Outcome::Reboot { warm: true }));
            }
            _ => return Err(Error::InvalidParameters),
        };
        Ok(Reply::Value(value))
    }

    fn end(&self, outcome: Outcome) -> Reply {
        self.vm.stop(outcome);
        Reply::Never
    }

    /// The CPU a guest names by its affinity.
    fn target(&self, affinity: u64) -> Result<&Cpu<A>, Error> {
        let cpu = affinity::cpu(affinity).and_then(|cpu| self.vm.cpus.get(cpu as u64));
        cpu.ok_or(Error::InvalidParameters)
    }

    /// Only standby exists, which is a wait for an interrupt. Powering down would lose the timers with the rest of
    /// the CPU's state.
    fn cpu_suspend(&self, state: u64) -> Answer {
        if state & !STANDBY != 0 {
            return Err(Error::InvalidParameters);
        }
        self.this.set_power(PowerState::Suspended);
        Ok(Reply::Wait(self.host.now_ns().saturating_add(STANDBY_NS)))
    }

    fn cpu_off(&self) -> Answer {
        // Now, on the CPU's own thread: the next start finds it in its reset state.
        self.this.vcpu().reset().map_err(|_| Error::InternalFailure)?;
        self.this.set_power(PowerState::Off);
        if self.vm.cpus.iter().all(|cpu| cpu.power() == PowerState::Off) {
            self.vm.stop(Outcome::AllCpusStopped);
        }
        Ok(Reply::Never)
    }

    fn cpu_on(&self, target: u64, entry: u64, context: u64) -> Answer {
        let cpu = self.target(target)?;
        if entry % 4 != 0 || !self.vm.memory.contains(entry, 4) {
            return Err(Error::InvalidAddress);
        }
        match cpu.start(entry, context) {
            Ok(()) => Ok(Reply::Value(0)),
            Err(_) if cpu.power() == PowerState::Starting => Err(Error::OnPending),
            Err(_) => Err(Error::AlreadyOn),
        }
    }

    /// Of affinity levels above a CPU's own nothing is known, which version 1.0 allows.
    fn affinity_info(&self, target: u64, level: u64) -> Answer {
        let cpu = self.target(target)?;
        if level != 0 {
            return Err(Error::InvalidParameters);
        }
        Ok(Reply::Value(match cpu.power() {
            PowerState::On | PowerState::Suspended => ON,
            PowerState::Off => OFF,
            PowerState::Starting => ON_PENDING,
        }))
    }
}

/// The function behind an identifier, without the size of its arguments; `None` if there is none here.
fn function(id: u32) -> Option<u32> {
    let function = id & !id::SMC64;
    let has_both =
        matches!(function, id::CPU_SUSPEND | id::CPU_ON | id::AFFINITY_INFO | id::SYSTEM_RESET2);
    let is_known = has_both
        || id == function
            && matches!(
                function,
                id::SMCCC_VERSION
                    | id::SMCCC_ARCH_FEATURES
                    | id::PSCI_VERSION
                    | id::CPU_OFF
                    | id::MIGRATE_INFO_TYPE
                    | id::SYSTEM_OFF
                    | id::SYSTEM_RESET
                    | id::PSCI_FEATURES
            );
    is_known.then_some(function)
}

#[cfg(test)]
#[path = "psci_tests.rs"]
mod tests;
