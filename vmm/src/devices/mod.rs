//! Devices that are the same on every architecture.

mod input;
mod pl011;
mod uart16550;

pub use pl011::Pl011;
pub use uart16550::Uart16550;

/// The wire from a device to an interrupt controller.
pub trait IrqLine: Send + Sync {
    /// Raises or lowers the line. May be called with the device's lock held, so it takes none.
    fn set(&self, asserted: bool);
}

/// A line that leads nowhere.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unconnected;

impl IrqLine for Unconnected {
    fn set(&self, _: bool) {}
}
