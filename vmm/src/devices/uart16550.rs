//! The 16550A UART (National Semiconductor PC16550D data sheet): one-byte registers at offsets 0 to 7.
//!
//! The transmitter is infinitely fast: a byte written is at the [`ConsoleSink`] before the store has
//! finished.
//!
//! The receiver gets its bytes from a bounded queue, and only when the guest [wants](Input) them.

use alloc::sync::Arc;

use axvcpu::AccessWidth;
use spin::Mutex;

use super::IrqLine;
use super::input::Input;
use crate::{ConsoleSink, MmioDevice, NoDevice};

/// The depth of the receiver FIFO.
const FIFO: usize = 16;

mod reg {
    pub(super) const RBR_THR_DLL: u64 = 0;
    pub(super) const IER_DLM: u64 = 1;
    pub(super) const IIR_FCR: u64 = 2;
    pub(super) const LCR: u64 = 3;
    pub(super) const MCR: u64 = 4;
    pub(super) const LSR: u64 = 5;
    pub(super) const MSR: u64 = 6;
    pub(super) const SCR: u64 = 7;
}

mod ier {
    pub(super) const RX: u8 = 1 << 0;
    pub(super) const THRE: u8 = 1 << 1;
    pub(super) const MODEM: u8 = 1 << 3;
    pub(super) const ALL: u8 = 0xf;
}

mod iir {
    pub(super) const NONE: u8 = 0b0001;
    pub(super) const MODEM: u8 = 0b0000;
    pub(super) const THRE: u8 = 0b0010;
    pub(super) const RX: u8 = 0b0100;
    /// Fewer bytes than the trigger level, but they have waited for a while.
    pub(super) const RX_TIMEOUT: u8 = 0b1100;
    pub(super) const FIFO_ON: u8 = 0b1100_0000;
}

mod fcr {
    pub(super) const ENABLE: u8 = 1 << 0;
    pub(super) const CLEAR_RX: u8 = 1 << 1;
    pub(super) const TRIGGER_SHIFT: u32 = 6;
}

mod lcr {
    pub(super) const DLAB: u8 = 1 << 7;
}

mod mcr {
    pub(super) const DTR: u8 = 1 << 0;
    pub(super) const RTS: u8 = 1 << 1;
    pub(super) const OUT1: u8 = 1 << 2;
    pub(super) const OUT2: u8 = 1 << 3;
    pub(super) const LOOPBACK: u8 = 1 << 4;
    pub(super) const ALL: u8 = 0x1f;
}

mod lsr {
    pub(super) const DATA_READY: u8 = 1 << 0;
    pub(super) const OVERRUN: u8 = 1 << 1;
    /// Transmitter and its holding register empty: always.
    pub(super) const TX_EMPTY: u8 = 0b0110_0000;
}

mod msr {
    pub(super) const CTS: u8 = 1 << 4;
    pub(super) const DSR: u8 = 1 << 5;
    pub(super) const RI: u8 = 1 << 6;
    pub(super) const DCD: u8 = 1 << 7;
    /// The other side is there and ready.
    pub(super) const CONNECTED: u8 = CTS | DSR | DCD;
}

/// A UART whose output goes to a [`ConsoleSink`] and whose interrupt goes to an [`IrqLine`].
pub struct Uart16550 {
    state: Mutex<State>,
    sink: Arc<dyn ConsoleSink>,
    irq: Arc<dyn IrqLine>,
}

struct State {
    /// Bytes on their way to the receiver.
    input: Input,
    /// In loopback mode: the byte that the transmitter sent to the receiver.
    looped: Option<u8>,
    ier: u8,
    fifo_on: bool,
    trigger: usize,
    lcr: u8,
    mcr: u8,
    scr: u8,
    divisor: [u8; 2],
    overrun: bool,
    /// The holding register became empty, and that was not yet reported.
    thre_news: bool,
    /// The MSR status bits as the guest last read them.
    msr_seen: u8,
    irq: bool,
}

impl Uart16550 {
    /// A UART after reset.
    pub fn new(sink: Arc<dyn ConsoleSink>, irq: Arc<dyn IrqLine>) -> Self {
        let state = State {
            input: Input::new(),
            looped: None,
            ier: 0,
            fifo_on: false,
            trigger: 1,
            lcr: 0,
            mcr: 0,
            scr: 0,
            divisor: [0; 2],
            overrun: false,
            thre_news: false,
            msr_seen: msr::CONNECTED,
            irq: false,
        };
        Self { state: Mutex::new(state), sink, irq }
    }

    /// Sends `bytes` to the guest. Answers how many of them there was room for; if not all,
    /// [`ConsoleSink::input_wanted`] tells when there is more.
    pub fn push_input(&self, bytes: &[u8]) -> usize {
        let mut state = self.state.lock();
        let accepted = state.input.push(bytes);
        self.update_irq(&mut state);
        accepted
    }

    /// Takes one byte of input past the registers, for firmware calls that read the console.
    pub fn pop_input(&self) -> Option<u8> {
        let mut state = self.state.lock();
        let byte = state.input.pop();
        self.after_taking(&mut state);
        byte
    }

    /// Tells a sender that was refused that there is room, and the interrupt controller what is left.
    fn after_taking(&self, state: &mut State) {
        state.input.tell_of_room(&*self.sink);
        self.update_irq(state);
    }

    fn update_irq(&self, state: &mut State) {
        let irq = state.interrupt() != iir::NONE;
        if irq != state.irq {
            state.irq = irq;
            self.irq.set(irq);
        }
    }
}

impl State {
    /// How many bytes the receiver has for the guest.
    fn received(&self) -> usize {
        if self.mcr & mcr::LOOPBACK != 0 {
            return self.looped.iter().len();
        }
        if !self.input.is_wanted(self.ier & ier::RX != 0, true) {
            return 0;
        }
        self.input.len().min(if self.fifo_on { FIFO } else { 1 })
    }

    /// The identification of the pending interrupt with the highest priority.
    #[inline]
    fn interrupt(&self) -> u8 {
        if self.ier == 0 { iir::NONE } else { self.enabled_interrupt() }
    }

    fn enabled_interrupt(&self) -> u8 {
        let received = self.received();
        if self.ier & ier::RX != 0 && received > 0 {
            if received >= self.trigger { iir::RX } else { iir::RX_TIMEOUT }
        } else if self.ier & ier::THRE != 0 && self.thre_news {
            iir::THRE
        } else if self.ier & ier::MODEM != 0 && self.msr() & 0xf != 0 {
            iir::MODEM
        } else {
            iir::NONE
        }
    }

    /// The modem status: in loopback mode the outputs come back as inputs.
    fn msr(&self) -> u8 {
        let status = if self.mcr & mcr::LOOPBACK == 0 {
            msr::CONNECTED
        } else {
            [
                (mcr::RTS, msr::CTS),
                (mcr::DTR, msr::DSR),
                (mcr::OUT1, msr::RI),
                (mcr::OUT2, msr::DCD),
            ]
            .into_iter()
            .fold(0, |status, (out, input)| status | if self.mcr & out != 0 { input } else { 0 })
        };
        let changed = status ^ self.msr_seen;
        // The ring indicator reports its trailing edge only.
        let changed = changed & !msr::RI | changed & self.msr_seen & msr::RI;
        status | changed >> 4
    }

    fn transmit(&mut self, byte: u8, sink: &dyn ConsoleSink) {
        if self.mcr & mcr::LOOPBACK == 0 {
            sink.write(&[byte]);
        } else {
            self.overrun |= self.looped.replace(byte).is_some();
        }
        self.thre_news = true;
    }

    fn receive(&mut self) -> u8 {
        if self.received() == 0 {
            return 0;
        }
        let looped = self.mcr & mcr::LOOPBACK != 0;
        let byte = if looped { self.looped.take() } else { self.input.pop() };
        byte.unwrap_or(0)
    }

    fn control_fifo(&mut self, data: u8) {
        let on = data & fcr::ENABLE != 0;
        if data & fcr::CLEAR_RX != 0 {
            self.input.discard(self.received());
            self.looped = None;
        }
        self.fifo_on = on;
        self.trigger = match (on, data >> fcr::TRIGGER_SHIFT) {
            (false, _) | (_, 0) => 1,
            (_, 1) => 4,
            (_, 2) => 8,
            _ => 14,
        };
    }
}

impl MmioDevice for Uart16550 {
    fn name(&self) -> &str {
        "serial port"
    }

    fn read(&self, offset: u64, width: AccessWidth) -> Result<u64, NoDevice> {
        if width != AccessWidth::Byte {
            return Err(NoDevice);
        }
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let dlab = state.lcr & lcr::DLAB != 0;
        match offset {
            reg::LSR => state.input.looked(),
            // Reading without having seen that there is something: not waiting, but cleaning up.
            reg::RBR_THR_DLL if state.received() == 0 => state.input.acted(),
            _ => {}
        }
        let value = match offset {
            reg::RBR_THR_DLL if dlab => state.divisor[0],
            reg::IER_DLM if dlab => state.divisor[1],
            reg::RBR_THR_DLL => {
                let byte = state.receive();
                self.after_taking(state);
                byte
            }
            reg::IER_DLM => state.ier,
            reg::IIR_FCR => {
                let pending = state.interrupt();
                if pending == iir::THRE {
                    state.thre_news = false;
                }
                pending | if state.fifo_on { iir::FIFO_ON } else { 0 }
            }
            reg::LCR => state.lcr,
            reg::MCR => state.mcr,
            reg::LSR => {
                let mut value = lsr::TX_EMPTY;
                if state.received() > 0 {
                    value |= lsr::DATA_READY;
                }
                if core::mem::take(&mut state.overrun) {
                    value |= lsr::OVERRUN;
                }
                value
            }
            reg::MSR => {
                let value = state.msr();
                state.msr_seen = value & 0xf0;
                value
            }
            reg::SCR => state.scr,
            _ => return Err(NoDevice),
        };
        self.update_irq(state);
        Ok(value.into())
    }

    fn write(&self, offset: u64, width: AccessWidth, data: u64) -> Result<(), NoDevice> {
        if width != AccessWidth::Byte {
            return Err(NoDevice);
        }
        let data = data as u8;
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let dlab = state.lcr & lcr::DLAB != 0;
        state.input.acted();
        match offset {
            reg::RBR_THR_DLL if dlab => state.divisor[0] = data,
            reg::IER_DLM if dlab => state.divisor[1] = data,
            reg::RBR_THR_DLL => state.transmit(data, &*self.sink),
            reg::IER_DLM => {
                let new = data & ier::ALL;
                // Asking to be told while the register is empty is answered at once.
                state.thre_news |= new & !state.ier & ier::THRE != 0;
                if new != 0 {
                    state.input.driven();
                }
                state.ier = new;
            }
            reg::IIR_FCR => state.control_fifo(data),
            reg::LCR => state.lcr = data,
            reg::MCR => state.mcr = data & mcr::ALL,
            // Read-only; a write is a factory test.
            reg::LSR | reg::MSR => {}
            reg::SCR => state.scr = data,
            _ => return Err(NoDevice),
        }
        self.update_irq(state);
        Ok(())
    }
}

#[cfg(test)]
#[path = "uart16550_tests.rs"]
mod tests;
