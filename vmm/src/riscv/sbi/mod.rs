//! The Supervisor Binary Interface, version 2.0: what a guest in S mode asks its firmware for.
//!
//! Present are BASE, TIME (carried out inside the backends), IPI, RFENCE, HSM, SRST, DBCN and the legacy
//! console and shutdown calls. Everything else is answered with `SBI_ERR_NOT_SUPPORTED`.

mod console;
mod hsm;
mod remote;
mod reset;

use alloc::sync::Arc;

use axvcpu::{AxArchVCpu, AxResult, AxVCpu, GuestPhysAddr};
use sbi_spec::{base, binary, dbcn, hsm as hsm_spec, legacy, rfnc, spi, srst, time};

use crate::devices::Uart16550;
use crate::{Call, ConsoleSink, Cpu, Firmware, Next, Vm, VmHost};

/// Register numbers of the calling convention.
mod gpr {
    pub(super) const A0: usize = 10;
    pub(super) const A1: usize = 11;
}

/// "AXVC": numbers are assigned to implementations on request, and this one has made none.
const IMPLEMENTATION_ID: u64 = 0x4158_5643;
/// The version of this crate: major, minor, patch, a byte each.
const IMPLEMENTATION_VERSION: u64 = 0x00_01_00;
const SPEC_VERSION: u64 = 2 << 24;
/// Extensions up to this follow the legacy convention, which has no second result.
const LAST_LEGACY: usize = 0xf;

/// Error codes of the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Error {
    Failed,
    NotSupported,
    InvalidParam,
    InvalidAddress,
    AlreadyAvailable,
}

impl Error {
    fn code(self) -> u64 {
        // The constants are two's complements in a machine word.
        let code = match self {
            Self::Failed => binary::RET_ERR_FAILED,
            Self::NotSupported => binary::RET_ERR_NOT_SUPPORTED,
            Self::InvalidParam => binary::RET_ERR_INVALID_PARAM,
            Self::InvalidAddress => binary::RET_ERR_INVALID_ADDRESS,
            Self::AlreadyAvailable => binary::RET_ERR_ALREADY_AVAILABLE,
        };
        code as isize as i64 as u64
    }
}

/// What is left to do after a call.
enum Reply {
    /// Both result registers: the call succeeded with this value.
    Value(u64),
    /// A legacy call: `a0` alone.
    Legacy(u64),
    /// The vCPU succeeded with nothing and waits.
    Wait(u64),
    /// The call does not return.
    Never,
}

type Answer = Result<Reply, Error>;

const OK: Answer = Ok(Reply::Value(0));

/// The firmware of a RISC-V machine.
pub struct Sbi {
    uart: Arc<Uart16550>,
    console: Arc<dyn ConsoleSink>,
}

/// Everything a call works with.
struct Context<'a, A: AxArchVCpu, H> {
    vm: &'a Vm<A, Sbi>,
    host: &'a H,
    this: &'a Cpu<A>,
    call: Call,
}

impl Sbi {
    pub(super) fn new(uart: Arc<Uart16550>, console: Arc<dyn ConsoleSink>) -> Self {
        Self { uart, console }
    }

    /// The serial port, whose input the console calls read.
    pub(super) fn uart(&self) -> &Uart16550 {
        &self.uart
    }
}

impl<A: AxArchVCpu> Firmware<A> for Sbi {
    fn call(&self, vm: &Vm<A, Self>, host: &impl VmHost, call: Call) -> AxResult<Next> {
        let Some(this) = vm.cpus.get(call.cpu as u64) else { return Ok(Next::Run) };
        let cx = Context { vm, host, this, call };
        let vcpu = this.vcpu();
        match cx.answer() {
            Ok(Reply::Value(value)) => {
                vcpu.set_return_value(0)?;
                vcpu.set_gpr(gpr::A1, value)?;
            }
            Err(error) => {
                vcpu.set_return_value(error.code())?;
                if extension(call.nr) > LAST_LEGACY {
                    vcpu.set_gpr(gpr::A1, 0)?;
                }
            }
            Ok(Reply::Legacy(value)) => vcpu.set_return_value(value)?,
            Ok(Reply::Wait(deadline_ns)) => {
                vcpu.set_return_value(0)?;
                vcpu.set_gpr(gpr::A1, 0)?;
                vcpu.block()?;
                return Ok(Next::Wait { deadline_ns: Some(deadline_ns) });
            }
            Ok(Reply::Never) => return Ok(Next::Wait { deadline_ns: None }),
        }
        Ok(Next::Run)
    }

    fn start(&self, vcpu: &AxVCpu<A>, entry: u64, arg: u64) -> AxResult {
        vcpu.set_entry(GuestPhysAddr::new(entry))?;
        vcpu.set_gpr(gpr::A0, vcpu.vcpu_id() as u64)?;
        vcpu.set_gpr(gpr::A1, arg)
    }
}

/// Extension ids are 32 bits wide; a number with more is no extension.
fn extension(nr: u64) -> usize {
    u32::try_from(nr).map_or(usize::MAX, |nr| nr as usize)
}

fn function(call: &Call) -> usize {
    u32::try_from(call.function).map_or(usize::MAX, |function| function as usize)
}

impl<A: AxArchVCpu, H: VmHost> Context<'_, A, H> {
    fn answer(&self) -> Answer {
        match extension(self.call.nr) {
            base::EID_BASE => self.base(),
            spi::EID_SPI => self.ipi(),
            rfnc::EID_RFNC => self.remote_fence(),
            hsm_spec::EID_HSM => self.hart_state(),
            srst::EID_SRST => self.system_reset(),
            dbcn::EID_DBCN => self.debug_console(),
            legacy::LEGACY_CONSOLE_PUTCHAR
            | legacy::LEGACY_CONSOLE_GETCHAR
            | legacy::LEGACY_SHUTDOWN => self.legacy(),
            // Backends answer TIME and the legacy timer themselves; what arrives here is a function there
            // is not.
            _ => Err(Error::NotSupported),
        }
    }

    fn base(&self) -> Answer {
        let value = match function(&self.call) {
            base::GET_SBI_SPEC_VERSION => SPEC_VERSION,
            base::GET_SBI_IMPL_ID => IMPLEMENTATION_ID,
            base::GET_SBI_IMPL_VERSION => IMPLEMENTATION_VERSION,
            base::PROBE_EXTENSION => probe(self.call.args[0]).into(),
            // "Not implemented", which is a legal value of these CSRs.
            base::GET_MVENDORID | base::GET_MARCHID | base::GET_MIMPID => 0,
            _ => return Err(Error::NotSupported),
        };
        Ok(Reply::Value(value))
    }
}

fn probe(id: u64) -> bool {
    matches!(
        extension(id),
        base::EID_BASE
            | time::EID_TIME
            | spi::EID_SPI
            | rfnc::EID_RFNC
            | hsm_spec::EID_HSM
            | srst::EID_SRST
            | dbcn::EID_DBCN
            | legacy::LEGACY_SET_TIMER
            | legacy::LEGACY_CONSOLE_PUTCHAR
            | legacy::LEGACY_CONSOLE_GETCHAR
            | legacy::LEGACY_SHUTDOWN
    )
}

#[cfg(test)]
mod tests;
