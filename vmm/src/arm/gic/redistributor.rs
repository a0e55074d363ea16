//! The redistributors' registers (Arm IHI 0069, 12.10 and 12.11): for each CPU a frame for itself, and one for its
//! SGIs and private peripheral interrupts.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use axvcpu::AccessWidth;
use axvcpu_arm::affinity;

use super::state::Private;
use super::{
    ARCHITECTURE, Gic, PIDR2, REDISTRIBUTOR_SIZE, Register, bits, is_word_or_priority, part,
};
use crate::{MmioDevice, NoDevice};

/// Where the second frame begins.
const SGI_BASE: u64 = 0x1_0000;
const TYPER: u64 = 0x0008;
const TYPER_END: u64 = 0x0010;
const WAKER: u64 = 0x0014;
/// `GICR_WAKER`: software wants the CPU left alone. It is not, for lack of a power controller that would mind.
const PROCESSOR_SLEEP: u32 = 1 << 1;
/// `GICR_WAKER`: it is left alone.
const CHILDREN_ASLEEP: u32 = 1 << 2;

/// `GICR_ICFGR0`: SGIs are edges. Private peripherals have levels, always.
const EDGES: u32 = 0xaaaa_aaaa;

pub(super) struct Redistributors(pub(super) Arc<Gic>);

impl Redistributors {
    /// The CPU an offset belongs to, and the offset within its frames.
    fn find(&self, offset: u64) -> Result<(usize, &Private, u64), NoDevice> {
        let cpu = (offset / REDISTRIBUTOR_SIZE) as usize;
        let private = self.0.state.cpus.get(cpu).ok_or(NoDevice)?;
        Ok((cpu, private, offset % REDISTRIBUTOR_SIZE))
    }

    /// `GICR_TYPER`: affinity, number, and whether it is the last one in this region.
    fn typer(&self, cpu: usize) -> u64 {
        let last = cpu + 1 == self.0.state.cpus.len();
        affinity::of(cpu) << 32 | (cpu as u64) << 8 | u64::from(last) << 4
    }

    fn write_bank(
        &self,
        cpu: usize,
        private: &Private,
        register: Register,
        width: AccessWidth,
        data: u32,
    ) {
        match register {
            Register::SetPending => {
                for intid in bits(data) {
                    self.0.cpus.raise_edge(cpu, intid as u32);
                }
            }
            // Forwarded, and not to be taken back.
            Register::ClearPending => {}
            Register::ClearActive => {
                self.0.state.end(cpu, data.into());
                self.0.changed_for(cpu);
            }
            Register::Config(_) => {}
            _ => {
                if private.bank.write(register, width, data).is_some_and(|changed| changed != 0) {
                    self.0.changed_for(cpu);
                }
            }
        }
    }
}

impl MmioDevice for Redistributors {
    fn name(&self) -> &str {
        "interrupt redistributor"
    }

    fn read(&self, offset: u64, width: AccessWidth) -> Result<u64, NoDevice> {
        let (cpu, private, offset) = self.find(offset)?;
        if let (TYPER..TYPER_END, AccessWidth::Dword | AccessWidth::Qword) = (offset, width) {
            return Ok(part(self.typer(cpu), offset, width));
        }
        let Some(offset) = offset.checked_sub(SGI_BASE) else {
            if width != AccessWidth::Dword {
                return Err(NoDevice);
            }
            return Ok(match offset {
                PIDR2 => ARCHITECTURE,
                WAKER if !private.awake.load(Ordering::Relaxed) => {
                    (PROCESSOR_SLEEP | CHILDREN_ASLEEP).into()
                }
                _ => 0,
            });
        };
        if !is_word_or_priority(offset, width) {
            return Err(NoDevice);
        }
        let value = match Register::at(offset, 0) {
            None | Some(Register::Config(1..)) => 0,
            Some(Register::Config(0)) => EDGES,
            // What is pending has been forwarded; levels are the CPU's own.
            Some(Register::SetPending | Register::ClearPending | Register::ClearActive) => 0,
            Some(register) => private.bank.read(register, width).unwrap_or(0),
        };
        Ok(value.into())
    }

    fn write(&self, offset: u64, width: AccessWidth, data: u64) -> Result<(), NoDevice> {
        let (cpu, private, offset) = self.find(offset)?;
        if let (TYPER..TYPER_END, AccessWidth::Qword) = (offset, width) {
            return Ok(()); // read-only
        }
        let Some(offset) = offset.checked_sub(SGI_BASE) else {
            if width != AccessWidth::Dword {
                return Err(NoDevice);
            }
            if offset == WAKER {
                private.awake.store(data as u32 & PROCESSOR_SLEEP == 0, Ordering::Relaxed);
            }
            return Ok(());
        };
        if !is_word_or_priority(offset, width) {
            return Err(NoDevice);
        }
        if let Some(register) = Register::at(offset, 0) {
            self.write_bank(cpu, private, register, width, data as u32);
        }
        Ok(())
    }
}
