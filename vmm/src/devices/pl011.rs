//! The PL011 UART (Arm DDI 0183, "PrimeCell UART (PL011) Technical Reference Manual", r1p5).
//!
//! The transmitter is infinitely fast, and always on: a byte written is at the [`ConsoleSink`] before the store
//! has finished. Guests print before they have switched the port on, as if firmware had done so for them.
//!
//! The receiver gets its bytes from a bounded queue, and only when the guest [wants](Input) them. A driver does
//! when it unmasks receiver interrupts while its receiver is on. Drivers that unmask them first and then switch
//! the receiver on still clean up, and get their bytes when the next ones come.
//!
//! Time passes between any two accesses, so that whatever has been received and not been read has waited for
//! long enough to be reported by the receive timeout.

use alloc::collections::VecDeque;
use alloc::sync::Arc;

use axvcpu::AccessWidth;
use spin::Mutex;

use super::IrqLine;
use super::input::Input;
use crate::{ConsoleSink, MmioDevice, NoDevice};

/// The depth of the FIFOs.
const FIFO: usize = 32;

mod reg {
    pub(super) const DR: u64 = 0x00;
    pub(super) const RSR_ECR: u64 = 0x04;
    pub(super) const FR: u64 = 0x18;
    pub(super) const ILPR: u64 = 0x20;
    pub(super) const IBRD: u64 = 0x24;
    pub(super) const FBRD: u64 = 0x28;
    pub(super) const LCR_H: u64 = 0x2c;
    pub(super) const CR: u64 = 0x30;
    pub(super) const IFLS: u64 = 0x34;
    pub(super) const IMSC: u64 = 0x38;
    pub(super) const RIS: u64 = 0x3c;
    pub(super) const MIS: u64 = 0x40;
    pub(super) const ICR: u64 = 0x44;
    pub(super) const DMACR: u64 = 0x48;
    /// UARTPeriphID0 to 3 and UARTPCellID0 to 3, a byte each.
    pub(super) const ID: u64 = 0xfe0;
    pub(super) const END: u64 = 0x1000;
}

/// Part 0x011 of designer 0x41 (Arm), revision 3: r1p5, which has FIFOs of 32 bytes; and a PrimeCell.
const IDS: [u8; 8] = [0x11, 0x10, 0x34, 0x00, 0x0d, 0xf0, 0x05, 0xb1];

mod dr {
    pub(super) const OVERRUN: u16 = 1 << 11;
}

mod rsr {
    pub(super) const OVERRUN: u16 = 1 << 3;
}

mod fr {
    pub(super) const CTS: u16 = 1 << 0;
    pub(super) const DSR: u16 = 1 << 1;
    pub(super) const DCD: u16 = 1 << 2;
    pub(super) const RX_EMPTY: u16 = 1 << 4;
    pub(super) const RX_FULL: u16 = 1 << 6;
    pub(super) const TX_EMPTY: u16 = 1 << 7;
    pub(super) const RI: u16 = 1 << 8;
    /// The other side is there and ready.
    pub(super) const CONNECTED: u16 = CTS | DSR | DCD;
}

mod lcr {
    pub(super) const FIFO_ON: u16 = 1 << 4;
    pub(super) const ALL: u16 = 0xff;
}

mod cr {
    pub(super) const UART_ON: u16 = 1 << 0;
    pub(super) const LOOPBACK: u16 = 1 << 7;
    pub(super) const TX_ON: u16 = 1 << 8;
    pub(super) const RX_ON: u16 = 1 << 9;
    pub(super) const DTR: u16 = 1 << 10;
    pub(super) const RTS: u16 = 1 << 11;
    pub(super) const OUT1: u16 = 1 << 12;
    pub(super) const OUT2: u16 = 1 << 13;
    pub(super) const ALL: u16 = 0xff87;
}

mod int {
    pub(super) const RI: u16 = 1 << 0;
    pub(super) const CTS: u16 = 1 << 1;
    pub(super) const DCD: u16 = 1 << 2;
    pub(super) const DSR: u16 = 1 << 3;
    pub(super) const RX: u16 = 1 << 4;
    pub(super) const TX: u16 = 1 << 5;
    pub(super) const RX_TIMEOUT: u16 = 1 << 6;
    pub(super) const OVERRUN: u16 = 1 << 10;
    /// That there is something to receive.
    pub(super) const RECEIVED: u16 = RX | RX_TIMEOUT;
    pub(super) const ALL: u16 = 0x7ff;
}

/// A UART whose output goes to a [`ConsoleSink`] and whose interrupt goes to an [`IrqLine`].
pub struct Pl011 {
    state: Mutex<State>,
    sink: Arc<dyn ConsoleSink>,
    irq: Arc<dyn IrqLine>,
}

struct State {
    /// Bytes on their way to the receiver.
    input: Input,
    /// The driver has unmasked receiver interrupts for good.
    open: bool,
    /// In loopback mode: the bytes that the transmitter sent to the receiver, at most `FIFO`, which it has room for
    /// from the start.
    looped: VecDeque<u8>,
    /// A byte was lost, to be reported with the next one that is read.
    overrun: bool,
    /// RSR, which reports it until it is cleared.
    rsr: u16,
    cr: u16,
    lcr: u16,
    ifls: u16,
    /// Infrared counter, integer and fractional divisor, DMA control: remembered, and not used.
    ilpr: u16,
    divisor: [u16; 2],
    dma: u16,
    /// Interrupts that are not masked.
    imsc: u16,
    /// Interrupts that happened and were not cleared. Those of the receiver are levels, and not among them.
    happened: u16,
    irq: bool,
}

impl Pl011 {
    /// A UART after reset.
    pub fn new(sink: Arc<dyn ConsoleSink>, irq: Arc<dyn IrqLine>) -> Self {
        let state = State {
            input: Input::new(),
            open: false,
            looped: VecDeque::with_capacity(FIFO),
            overrun: false,
            rsr: 0,
            cr: cr::TX_ON | cr::RX_ON,
            lcr: 0,
            ifls: 0b010_010,
            ilpr: 0,
            divisor: [0; 2],
            dma: 0,
            imsc: 0,
            happened: 0,
            irq: false,
        };
        Self { state: Mutex::new(state), sink, irq }
    }

    /// Sends `bytes` to the guest. Answers how many of them there was room for; if not all,
    /// [`ConsoleSink::input_wanted`] tells when there is more.
    pub fn push_input(&self, bytes: &[u8]) -> usize {
        let mut state = self.state.lock();
        let accepted = state.input.push(bytes);
        state.open |= state.can_interrupt();
        self.update_irq(&mut state);
        accepted
    }

    fn update_irq(&self, state: &mut State) {
        let irq = state.raw() & state.imsc != 0;
        if irq != state.irq {
            state.irq = irq;
            self.irq.set(irq);
        }
    }
}

impl State {
    fn loops(&self) -> bool {
        self.cr & cr::LOOPBACK != 0
    }

    fn depth(&self) -> usize {
        if self.lcr & lcr::FIFO_ON != 0 { FIFO } else { 1 }
    }

    /// Whether what is received makes an interrupt: the receiver is on, and that is unmasked.
    fn can_interrupt(&self) -> bool {
        let on = cr::UART_ON | cr::RX_ON;
        self.cr & on == on && self.imsc & int::RECEIVED != 0
    }

    /// How many bytes the receiver has for the guest.
    fn received(&self) -> usize {
        let waiting = if self.loops() {
            self.looped.len()
        } else if self.input.is_wanted(self.open, self.cr & cr::RX_ON != 0) {
            self.input.len()
        } else {
            0
        };
        waiting.min(self.depth())
    }

    /// How many bytes there have to be for the receive interrupt (UARTIFLS).
    fn trigger(&self) -> usize {
        if self.lcr & lcr::FIFO_ON == 0 {
            return 1;
        }
        match self.ifls >> 3 & 0b111 {
            0 => FIFO / 8,
            1 => FIFO / 4,
            2 => FIFO / 2,
            3 => FIFO / 4 * 3,
            _ => FIFO / 8 * 7,
        }
    }

    /// The interrupts that are asserted, masked or not.
    #[inline]
    fn raw(&self) -> u16 {
        let mut raw = self.happened;
        let received = self.received();
        if received > 0 {
            raw |= int::RX_TIMEOUT;
        }
        if received >= self.trigger() {
            raw |= int::RX;
        }
        raw
    }

    /// The modem inputs: in loopback mode the outputs come back.
    fn modem(&self) -> u16 {
        if !self.loops() {
            return fr::CONNECTED;
        }
        [(cr::RTS, fr::CTS), (cr::DTR, fr::DSR), (cr::OUT1, fr::DCD), (cr::OUT2, fr::RI)]
            .into_iter()
            .fold(0, |inputs, (out, input)| inputs | if self.cr & out != 0 { input } else { 0 })
    }

    fn flags(&self) -> u16 {
        let received = self.received();
        let empty = if received == 0 { fr::RX_EMPTY } else { 0 };
        let full = if received >= self.depth() { fr::RX_FULL } else { 0 };
        self.modem() | fr::TX_EMPTY | empty | full
    }

    fn transmit(&mut self, byte: u8, sink: &dyn ConsoleSink) {
        if !self.loops() {
            sink.write(&[byte]);
        } else if self.looped.len() < self.depth() {
            self.looped.push_back(byte);
        } else {
            self.overrun = true;
            self.rsr |= rsr::OVERRUN;
            self.happened |= int::OVERRUN;
        }
        // The FIFO filled and emptied. Only such a transition makes the interrupt ("UARTTXINTR").
        self.happened |= int::TX;
    }

    fn receive(&mut self) -> u16 {
        if self.received() == 0 {
            // Reading without having seen that there is something: not waiting, but cleaning up.
            self.input.acted();
            return 0;
        }
        let byte = if self.loops() { self.looped.pop_front() } else { self.input.pop() };
        let overrun = if core::mem::take(&mut self.overrun) { dr::OVERRUN } else { 0 };
        u16::from(byte.unwrap_or(0)) | overrun
    }

    fn control(&mut self, data: u16) {
        let before = self.modem();
        self.cr = data & cr::ALL;
        self.open &= self.can_interrupt();
        if !self.loops() {
            self.looped.clear();
        }
        let changed = before ^ self.modem();
        for (input, interrupt) in
            [(fr::RI, int::RI), (fr::CTS, int::CTS), (fr::DCD, int::DCD), (fr::DSR, int::DSR)]
        {
            if changed & input != 0 {
                self.happened |= interrupt;
            }
        }
    }

    fn mask(&mut self, data: u16) {
        self.imsc = data & int::ALL;
        if self.imsc != 0 {
            self.input.driven();
        }
        self.open = self.can_interrupt();
    }
}

/// Registers are up to 16 bits wide and a word apart; drivers read them with any width that is enough.
fn check(offset: u64, width: AccessWidth) -> Result<(), NoDevice> {
    if offset % 4 == 0 && width != AccessWidth::Qword { Ok(()) } else { Err(NoDevice) }
}

impl MmioDevice for Pl011 {
    fn name(&self) -> &str {
        "serial port"
    }

    fn read(&self, offset: u64, width: AccessWidth) -> Result<u64, NoDevice> {
        check(offset, width)?;
        if let reg::ID..reg::END = offset {
            let id = IDS.get(((offset - reg::ID) / 4) as usize).ok_or(NoDevice)?;
            return Ok((*id).into());
        }
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let value = match offset {
            reg::DR => {
                let value = state.receive();
                state.input.tell_of_room(&*self.sink);
                value
            }
            reg::RSR_ECR => state.rsr,
            reg::FR => {
                state.input.looked();
                state.flags()
            }
            reg::ILPR => state.ilpr,
            reg::IBRD => state.divisor[0],
            reg::FBRD => state.divisor[1],
            reg::LCR_H => state.lcr,
            reg::CR => state.cr,
            reg::IFLS => state.ifls,
            reg::IMSC => state.imsc,
            reg::RIS => state.raw(),
            reg::MIS => state.raw() & state.imsc,
            // Write-only.
            reg::ICR => 0,
            reg::DMACR => state.dma,
            _ => return Err(NoDevice),
        };
        self.update_irq(state);
        Ok(value.into())
    }

    fn write(&self, offset: u64, width: AccessWidth, data: u64) -> Result<(), NoDevice> {
        check(offset, width)?;
        let data = data as u16;
        let mut guard = self.state.lock();
        let state = &mut *guard;
        state.input.acted();
        match offset {
            reg::DR => state.transmit(data as u8, &*self.sink),
            reg::RSR_ECR => state.rsr = 0,
            reg::ILPR => state.ilpr = data & 0xff,
            reg::IBRD => state.divisor[0] = data,
            reg::FBRD => state.divisor[1] = data & 0x3f,
            reg::LCR_H => state.lcr = data & lcr::ALL,
            reg::CR => state.control(data),
            reg::IFLS => state.ifls = data & 0x3f,
            reg::IMSC => state.mask(data),
            // What was received keeps its interrupts until it is read.
            reg::ICR => state.happened &= !data,
            reg::DMACR => state.dma = data & 0b111,
            // Read-only.
            reg::FR | reg::RIS | reg::MIS | reg::ID..reg::END => {}
            _ => return Err(NoDevice),
        }
        self.update_irq(state);
        Ok(())
    }
}

#[cfg(test)]
#[path = "pl011_tests.rs"]
mod tests;
