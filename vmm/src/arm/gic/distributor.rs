//! The distributor's registers (Arm IHI 0069, 12.9).

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use axvcpu::AccessWidth;
use axvcpu_arm::gic::PRIVATE;

use super::state::{EDGE, LEVEL};
use super::{ARCHITECTURE, Gic, PIDR2, Register, SPIS, bits, is_word_or_priority, part};
use crate::{MmioDevice, NoDevice};

const CTLR: u64 = 0x0000;
/// `GICD_CTLR`: affinity routing is on, and there is a single security state. Both always.
const ARE_AND_DS: u64 = 1 << 4 | 1 << 6;
const TYPER: u64 = 0x0004;
/// `GICD_TYPER`: 32 × (1 + 1) interrupts, with numbers of 10 bits; every one goes to the CPU it is routed to (No1N).
const TYPE: u64 = 1 | 9 << 19 | 1 << 25;
/// The routes of the shared interrupts, 8 bytes each.
const IROUTER: u64 = 0x6000 + 8 * 32;
const IROUTER_END: u64 = IROUTER + 8 * SPIS as u64;

pub(super) struct Distributor(pub(super) Arc<Gic>);

impl Distributor {
    fn read_bank(&self, register: Register, width: AccessWidth) -> u32 {
        let state = &self.0.state;
        let gather = |indices: core::ops::Range<usize>, f: fn(u8) -> bool| {
            let spis = state.spis.iter().enumerate().skip(indices.start).take(indices.len());
            spis.fold(0u64, |word, (i, spi)| {
                word | u64::from(f(spi.bits.load(Ordering::SeqCst))) << (i - indices.start)
            })
        };
        match register {
            Register::SetPending | Register::ClearPending => {
                gather(0..32, |bits| bits & (EDGE | LEVEL) == LEVEL) as u32
            }
            Register::Config(half) => {
                let first = 16 * half as usize;
                let edges = gather(first..first + 16, |bits| bits & EDGE != 0);
                bits(edges as u32).fold(0, |word, i| word | 0b10 << (2 * i))
            }
            _ => state.bank.read(register, width).unwrap_or(0),
        }
    }

    fn write_bank(&self, register: Register, width: AccessWidth, data: u32) {
        let gic = &self.0;
        match register {
            Register::SetPending => bits(data).for_each(|index| gic.raise_edge(index)),
            // Forwarded, and not to be taken back.
            Register::ClearPending => {}
            // Wherever it is active.
            Register::ClearActive if data == 0 => {}
            Register::ClearActive => (0..gic.state.cpus.len()).for_each(|cpu| {
                gic.state.end(cpu, u64::from(data) << PRIVATE);
                gic.changed_for(cpu);
            }),
            Register::Config(half) => (0..16).for_each(|i| {
                self.set_trigger(16 * half as usize + i, data >> (2 * i) & 0b10 != 0);
            }),
            _ => {
                let changed = gic.state.bank.write(register, width, data).unwrap_or(0);
                bits(changed).for_each(|index| gic.changed(index));
            }
        }
    }

    fn set_trigger(&self, index: usize, edge: bool) {
        let Some(spi) = self.0.state.spis.get(index) else { return };
        let before = if edge {
            spi.bits.fetch_or(EDGE, Ordering::SeqCst)
        } else {
            spi.bits.fetch_and(!EDGE, Ordering::SeqCst)
        };
        if (before & EDGE != 0) != edge {
            self.0.update(index);
        }
    }
}

impl MmioDevice for Distributor {
    fn name(&self) -> &str {
        "interrupt distributor"
    }

    fn read(&self, offset: u64, width: AccessWidth) -> Result<u64, NoDevice> {
        if let IROUTER..IROUTER_END = offset {
            if width >= AccessWidth::Dword {
                let route = self.0.state.route(((offset - IROUTER) / 8) as usize);
                return Ok(part(route, offset, width));
            }
        }
        if !is_word_or_priority(offset, width) {
            return Err(NoDevice);
        }
        Ok(match offset {
            CTLR => ARE_AND_DS | u64::from(self.0.state.control()),
            TYPER => TYPE,
            PIDR2 => ARCHITECTURE,
            // Private interrupts are the redistributors', everything else does not exist.
            _ => {
                Register::at(offset, 1).map_or(0, |register| self.read_bank(register, width).into())
            }
        })
    }

    fn write(&self, offset: u64, width: AccessWidth, data: u64) -> Result<(), NoDevice> {
        let gic = &self.0;
        if let IROUTER..IROUTER_END = offset {
            if width >= AccessWidth::Dword {
                let index = ((offset - IROUTER) / 8) as usize;
                // Of the upper half nothing exists.
                if offset % 8 == 0 && gic.state.set_route(index, data as u32) {
                    gic.changed(index);
                    gic.update(index);
                }
                return Ok(());
            }
        }
        if !is_word_or_priority(offset, width) {
            return Err(NoDevice);
        }
        if offset == CTLR {
            if gic.state.set_control(data as u32) {
                (0..gic.state.cpus.len()).for_each(|cpu| gic.changed_for(cpu));
            }
        } else if let Some(register) = Register::at(offset, 1) {
            self.write_bank(register, width, data as u32);
        }
        Ok(())
    }
}
