//! What a PC has besides its devices: registers that switch it off and reset it.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

use axvcpu::{AccessWidth, AxArchVCpu, AxResult, AxVCpu, AxVCpuExitReason as Exit, GuestPhysAddr};

use super::acpi::SOFT_OFF;
use super::boot::First;
use super::layout::{KEYBOARD, PM1_CONTROL, PM1_EVENT, POST, RESET};
use crate::devices::Uart16550;
use crate::{Call, Firmware, Next, Outcome, Vm, VmHost};

/// What KVM answers to hypercalls it does not have (Linux, Documentation/virt/kvm/x86/hypercalls.rst), which is what
/// guests that call at all ask for.
const KVM_ENOSYS: u64 = 1000u64.wrapping_neg();

/// The board: ACPI's fixed registers, the reset control register, and the line by which the keyboard controller resets
/// a PC. As firmware it is silent: there are no services to call, only tables in memory.
pub struct Board {
    uart: Arc<Uart16550>,
    first: First,
    enabled: [AtomicU8; 2],
    control: [AtomicU8; 2],
    reset: AtomicU8,
}

/// What a write does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    /// Nothing but what can be read back.
    Kept,
    /// Ends the machine.
    Ends(Outcome),
}

/// PM1 enable (ACPI 6.5, 4.8.3.1.2): the bits that are not reserved, in its two bytes. Nothing ever happens, but who
/// enables an event wants to see that it is enabled.
const ENABLES: [u8; 2] = [0x21, 0x47];
/// PM1 control (4.8.3.2.1), in its two bytes: ACPI is on, always; what is kept; and what sends the machine to sleep.
const SCI_EN: u8 = 1 << 0;
const KEPT: [u8; 2] = [1 << 1, 7 << 2];
const SLP_TYP_SHIFT: u8 = 2;
const SLP_EN: u8 = 1 << 5;

/// Reset control (Intel I/O controller hubs, "RST_CNT"): hard or soft, do it, and with power off and on.
const RESET_HARD: u8 = 1 << 1;
const RESET_NOW: u8 = 1 << 2;
const RESET_FULL: u8 = 1 << 3;

impl Board {
    pub(super) fn new(uart: Arc<Uart16550>, first: First) -> Self {
        let bytes = || [AtomicU8::new(0), AtomicU8::new(0)];
        Self { uart, first, enabled: bytes(), control: bytes(), reset: AtomicU8::new(0) }
    }

    pub(super) fn uart(&self) -> &Uart16550 {
        &self.uart
    }

    /// What is at a port; `None` if there is nothing.
    fn read(&self, port: u16, width: AccessWidth) -> Option<u64> {
        match (port, width) {
            (PM1_EVENT.., _) if port < PM1_CONTROL + 2 => {
                // The registers are bytes in a row; behind them is nothing.
                let bytes = (0..width.bytes() as u16).map(|i| self.pm1(port + i));
                Some(bytes.rev().fold(0, |value, byte| value << 8 | u64::from(byte)))
            }
            (RESET, AccessWidth::Byte) => Some(self.reset.load(Relaxed).into()),
            // Ready for commands, and nothing to say.
            (KEYBOARD, AccessWidth::Byte) => Some(0),
            (POST, AccessWidth::Byte) => Some(0xff),
            _ => None,
        }
    }

    fn pm1(&self, port: u16) -> u8 {
        match port - PM1_EVENT {
            // Status: no event has come, and no sleep has ended.
            0 | 1 => 0,
            2 => self.enabled[0].load(Relaxed),
            3 => self.enabled[1].load(Relaxed),
            4 => self.control[0].load(Relaxed) | SCI_EN,
            5 => self.control[1].load(Relaxed),
            _ => 0xff,
        }
    }

    /// Writes to a port; `None` if there is nothing.
    fn write(&self, port: u16, width: AccessWidth, data: u64) -> Option<Written> {
        match (port, width) {
            (PM1_EVENT.., _) if port < PM1_CONTROL + 2 => {
                let bytes = data.to_le_bytes();
                let ports = (port..).zip(bytes).take(width.bytes());
                // All of them: a sleep type and what is with it are one access.
                Some(ports.fold(Written::Kept, |before, (port, byte)| {
                    match self.write_pm1(port, byte) {
                        Written::Kept => before,
                        ends => ends,
                    }
                }))
            }
            (RESET, AccessWidth::Byte) => {
                let data = data as u8;
                self.reset.store(data & (RESET_HARD | RESET_FULL), Relaxed);
                Some(if data & RESET_NOW == 0 {
                    Written::Kept
                } else {
                    // A soft one resets the CPUs alone.
                    Written::Ends(Outcome::Reboot { warm: data & RESET_HARD == 0 })
                })
            }
            // The controller's command to pulse its output lines, of which the lowest is the reset.
            (KEYBOARD, AccessWidth::Byte) if data & 0xf1 == 0xf0 => {
                Some(Written::Ends(Outcome::Reboot { warm: false }))
            }
            (KEYBOARD | POST, AccessWidth::Byte) => Some(Written::Kept),
            _ => None,
        }
    }

    fn write_pm1(&self, port: u16, data: u8) -> Written {
        let kept = |byte: &AtomicU8, mask: u8| byte.store(data & mask, Relaxed);
        match port - PM1_EVENT {
            2 => kept(&self.enabled[0], ENABLES[0]),
            3 => kept(&self.enabled[1], ENABLES[1]),
            4 => kept(&self.control[0], KEPT[0]),
            5 => {
                kept(&self.control[1], KEPT[1]);
                if data & SLP_EN != 0 && (data & KEPT[1]) >> SLP_TYP_SHIFT == SOFT_OFF {
                    return Written::Ends(Outcome::PowerOff);
                }
            }
            // Status bits that are not set cannot be cleared.
            _ => {}
        }
        Written::Kept
    }
}

impl<A: AxArchVCpu> Firmware<A> for Board {
    /// There is nothing to call. The guest is told so in the way that guests of KVM know.
    fn call(&self, vm: &Vm<A, Self>, _: &impl VmHost, call: Call) -> AxResult<Next> {
        if let Some(this) = vm.cpus().get(call.cpu as u64) {
            this.vcpu().set_return_value(KVM_ENOSYS)?;
        }
        Ok(Next::Run)
    }

    /// The registers at I/O ports.
    fn exit(
        &self,
        vm: &Vm<A, Self>,
        _: &impl VmHost,
        cpu: usize,
        exit: &Exit,
    ) -> AxResult<Option<Next>> {
        match *exit {
            Exit::IoRead { port, width } => {
                let (Some(value), Some(this)) = (self.read(port, width), vm.cpus().get(cpu as u64))
                else {
                    return Ok(None);
                };
                this.vcpu().set_return_value(value)?;
                Ok(Some(Next::Run))
            }
            Exit::IoWrite { port, width, data } => Ok(match self.write(port, width, data) {
                Some(Written::Ends(outcome)) => {
                    vm.stop(outcome);
                    Some(Next::Yield)
                }
                Some(Written::Kept) => Some(Next::Run),
                None => None,
            }),
            _ => Ok(None),
        }
    }

    /// The first CPU begins with the kernel. The others stay in their reset state, in which the local APIC holds them
    /// until the guest sends the interrupts that start them (SDM volume 3, 10.4.4).
    fn start(&self, vcpu: &AxVCpu<A>, entry: u64, arg: u64) -> AxResult {
        if vcpu.vcpu_id() != 0 {
            return Ok(());
        }
        vcpu.set_entry(GuestPhysAddr::new(entry))?;
        vcpu.set_gpr(self.first.register, arg)
    }
}

#[cfg(test)]
#[path = "board_tests.rs"]
mod tests;
