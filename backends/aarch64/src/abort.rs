//! Accesses that stage 2 refused.
#![allow(unsafe_code)] // reads the guest's code

use axvcpu::{AccessKind, AccessWidth, AxMmHal, AxVCpuHal, HostPhysAddr};
use axvcpu_arm::esr::{self, abort, class};
use axvcpu_arm::sysreg::*;

use crate::asm::{Stages, translate};
use crate::decode::{self, Access, Operand};
use crate::exit::Left;
use crate::raise::Exception;
use crate::sys;
use crate::vcpu::{ArmVCpu, Dest, Open};

/// The failure bit of `PAR_EL1`, and its address.
const PAR_FAILED: u64 = 1;
const PAR_ADDRESS: u64 = 0x000f_ffff_ffff_f000;

impl<H: AxVCpuHal> ArmVCpu<H> {
    pub(crate) fn data_abort(&mut self, cause: u64) -> Option<Left> {
        let va = sys::read::<FAR_EL2>();
        let kind = if cause & abort::WRITE != 0 { AccessKind::Write } else { AccessKind::Read };
        if cause & abort::CACHE != 0 {
            // There is nothing to maintain where there is no memory.
            self.advance();
            return None;
        }
        if cause & abort::WALK != 0 {
            return Some(self.walk_fault(cause, va, class::DATA, kind));
        }
        match abort::status(cause) & !3 {
            abort::TRANSLATION | abort::PERMISSION => {}
            // Something else failed: the memory below, or the tables.
            _ => return Some(Left::FailEntry { reason: cause }),
        }
        let addr = self.guest_address(cause, va)?;
        let described = cause & abort::DESCRIBED != 0 && !self.fetch_always;
        let width = width(abort::size(cause));
        if described && !self.may_begin_before(va, width) {
            let register = abort::register(cause);
            let operand = if kind == AccessKind::Write {
                Operand::Store { register }
            } else {
                let (signed, wide) = (cause & abort::SIGNED != 0, cause & abort::WIDE != 0);
                Operand::Load { register, signed, wide }
            };
            return self.device_access(Access { operand, width, write_back: None }, kind, addr, va);
        }
        // Another vCPU may have changed the instruction since.
        let bits = self.fetch();
        let access = bits.and_then(decode::instruction).filter(|access| {
            let store =
                matches!(access.operand, Operand::Store { .. } | Operand::StoreFloat { .. });
            (kind == AccessKind::Write) == store
        });
        let (Some(bits), Some(access)) = (bits, access) else {
            return Some(self.nested_fault(addr, kind, external(class::DATA, va, kind)));
        };
        let first = decode::address(bits, |register| match register {
            31 => self.stack_pointer(),
            register => self.x(register),
        });
        if first % access.width.bytes() as u64 != 0 {
            self.misaligned(first, kind);
            return None;
        }
        self.device_access(access, kind, addr, va)
    }

    /// Whether an access that fails at `va` may have begun on the page before: a misaligned one, which is possible in normal
    /// memory only (Arm ARM, B2.15.3). What fails is told, not where the access begins.
    fn may_begin_before(&self, va: u64, width: AccessWidth) -> bool {
        if va % 4096 != 0 || width == AccessWidth::Byte {
            return false;
        }
        let stages = if self.in_user_mode() { Stages::GuestAtEl0 } else { Stages::GuestAtEl1 };
        let result = translate(va, stages);
        // Attributes as MAIR_EL1 has them; the upper four bits are zeros for device memory.
        result & PAR_FAILED != 0 || result >> 60 != 0
    }

    fn misaligned(&mut self, va: u64, kind: AccessKind) {
        let mut fault = external(class::DATA, va, kind);
        fault.syndrome += abort::ALIGNMENT - abort::EXTERNAL;
        self.raise(fault);
    }

    pub(crate) fn fetch_abort(&mut self, cause: u64) -> Option<Left> {
        let va = sys::read::<FAR_EL2>();
        if cause & abort::WALK != 0 {
            return Some(self.walk_fault(cause, va, class::FETCH, AccessKind::Read));
        }
        match abort::status(cause) & !3 {
            abort::TRANSLATION | abort::PERMISSION => {}
            _ => return Some(Left::FailEntry { reason: cause }),
        }
        let addr = self.guest_address(cause, va)?;
        let fault = external(class::FETCH, va, AccessKind::Read);
        Some(self.nested_fault(addr, AccessKind::Execute, fault))
    }

    /// Stage 2 refused an access to the guest's own tables. Hardware that notes accesses in them may have been about to write.
    fn walk_fault(&mut self, cause: u64, va: u64, class: u64, kind: AccessKind) -> Left {
        let write = cause & abort::WRITE != 0 && abort::status(cause) & !3 == abort::PERMISSION;
        let access = if write { AccessKind::Write } else { AccessKind::Read };
        let mut fault = external(class, va, kind);
        fault.syndrome += abort::EXTERNAL_ON_WALK - abort::EXTERNAL + (cause & 3);
        // Where in the table it was is not told, only the page.
        self.nested_fault(fault_page(), access, fault)
    }

    fn nested_fault(&mut self, addr: u64, access: AccessKind, fault: Exception) -> Left {
        self.open = Open { pc: self.context.pc, fault: Some(fault), ..Open::NOTHING };
        Left::NestedPageFault { addr, access }
    }

    /// The guest physical address of an access to `va`. `None`: the guest's tables have changed meanwhile, and running it
    /// again tells.
    fn guest_address(&self, cause: u64, va: u64) -> Option<u64> {
        // HPFAR_EL2 is not valid for permission faults (Arm ARM, D24.2.70).
        let page = if abort::status(cause) & !3 == abort::PERMISSION {
            let stages = if self.in_user_mode() { Stages::GuestAtEl0 } else { Stages::GuestAtEl1 };
            let result = translate(va, stages);
            if result & PAR_FAILED != 0 {
                return None;
            }
            result & PAR_ADDRESS
        } else {
            fault_page()
        };
        Some(page | va & 0xfff)
    }

    /// The instruction at the guest's program counter; `None` if it cannot be read.
    fn fetch(&self) -> Option<u32> {
        let pc = self.context.pc;
        let stages = if self.in_user_mode() { Stages::BothAtEl0 } else { Stages::BothAtEl1 };
        let result = translate(pc, stages);
        if result & PAR_FAILED != 0 || pc % 4 != 0 {
            return None;
        }
        let host = HostPhysAddr::new(result & PAR_ADDRESS | pc & 0xffc);
        let at = H::MmHal::phys_to_virt(host).as_usize() as *const u32;
        // SAFETY: both stages have just led there, so it is the guest's memory, which stays allocated until this vCPU
        // has carried out a fence; aligned. The guest may write it at this moment, so the access is a volatile one.
        Some(u32::from_le(unsafe { at.read_volatile() }))
    }

    pub(crate) fn device_access(
        &mut self,
        access: Access,
        kind: AccessKind,
        addr: u64,
        va: u64,
    ) -> Option<Left> {
        let Access { operand, width, write_back } = access;
        if addr % width.bytes() as u64 != 0 {
            // Devices are accessed naturally aligned or not at all.
            self.misaligned(va, kind);
            return None;
        }
        let fault = Some(external(class::DATA, va, kind));
        let pc = self.context.pc;
        self.open = Open { pc, fault, dest: Dest::None, width, done: false, write_back };
        let data = match operand {
            Operand::Load { register, signed, wide } => {
                self.open.dest = Dest::Integer { register, signed, wide };
                return Some(Left::MmioRead { addr, width });
            }
            Operand::LoadFloat { register } => {
                self.open.dest = Dest::Float { register };
                return Some(Left::MmioRead { addr, width });
            }
            Operand::Store { register } => self.x(register),
            Operand::StoreFloat { register } => self.on_cpu().image_with_fp().fp_register(register),
        };
        self.open.done = true;
        if let Some((register, delta)) = write_back {
            self.add_to_base(register, delta);
        }
        self.advance();
        Some(Left::MmioWrite { addr, width, data: data & width.mask() })
    }
}

/// The page of the last stage-2 fault.
fn fault_page() -> u64 {
    (sys::read::<HPFAR_EL2>() & 0xfff_ffff_fff0) << 8
}

/// What an access that nothing answers is for the guest.
fn external(class: u64, va: u64, kind: AccessKind) -> Exception {
    let write = if kind == AccessKind::Write { abort::WRITE } else { 0 };
    Exception { syndrome: esr::of_class(class) | write | abort::EXTERNAL, address: Some(va) }
}

fn width(log2: u64) -> AccessWidth {
    match log2 {
        0 => AccessWidth::Byte,
        1 => AccessWidth::Word,
        2 => AccessWidth::Dword,
        _ => AccessWidth::Qword,
    }
}
