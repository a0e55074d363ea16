//! DBCN, and the legacy calls for the console and for shutdown.

use axvcpu::AxArchVCpu;
use sbi_spec::{dbcn, legacy};

use super::{Answer, Context, Error, Reply, extension, function};
use crate::{Outcome, VmHost};

/// The most bytes one call moves; the caller is told and asks again. Keeps a call short whatever the guest
/// asks for.
const CHUNK: usize = 256;

impl<A: AxArchVCpu, H: VmHost> Context<'_, A, H> {
    pub(super) fn debug_console(&self) -> Answer {
        let [first, low, high, ..] = self.call.args;
        let firmware = &self.vm.firmware;
        match function(&self.call) {
            dbcn::CONSOLE_WRITE => {
                let len = self.buffer(first, low, high)?;
                let mut chunk = [0; CHUNK];
                let chunk = chunk.get_mut(..len).ok_or(Error::Failed)?;
                self.vm.memory.read(low, chunk).map_err(|_| Error::InvalidParam)?;
                firmware.console.write(chunk);
                Ok(Reply::Value(len as u64))
            }
            dbcn::CONSOLE_READ => {
                let len = self.buffer(first, low, high)?;
                let mut chunk = [0; CHUNK];
                let mut count = 0;
                for slot in chunk.iter_mut().take(len) {
                    let Some(byte) = firmware.uart.pop_input() else { break };
                    *slot = byte;
                    count += 1;
                }
                let chunk = chunk.get(..count).ok_or(Error::Failed)?;
                self.vm.memory.write(low, chunk).map_err(|_| Error::InvalidParam)?;
                Ok(Reply::Value(count as u64))
            }
            dbcn::CONSOLE_WRITE_BYTE => {
                firmware.console.write(&[first as u8]);
                Ok(Reply::Value(0))
            }
            _ => Err(Error::NotSupported),
        }
    }

    /// Checks a buffer of the guest, and answers how much of it is used at once.
    fn buffer(&self, len: u64, low: u64, high: u64) -> Result<usize, Error> {
        if high != 0 || !self.vm.memory.contains(low, len) {
            return Err(Error::InvalidParam);
        }
        Ok(len.min(CHUNK as u64) as usize)
    }

    pub(super) fn legacy(&self) -> Answer {
        let firmware = &self.vm.firmware;
        match extension(self.call.nr) {
            legacy::LEGACY_CONSOLE_PUTCHAR => {
                firmware.console.write(&[self.call.args[0] as u8]);
                Ok(Reply::Legacy(0))
            }
            legacy::LEGACY_CONSOLE_GETCHAR => {
                Ok(Reply::Legacy(firmware.uart.pop_input().map_or(u64::MAX, u64::from)))
            }
            legacy::LEGACY_SHUTDOWN => {
                self.vm.stop(Outcome::PowerOff);
                Ok(Reply::Never)
            }
            _ => Err(Error::NotSupported),
        }
    }
}
