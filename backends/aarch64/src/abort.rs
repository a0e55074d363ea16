//! Accesses that stage 2 refused.
#![allow(unsafe_code)] // reads the guest's code

use axvcpu::{AccessKind, AccessWidth, AxMmHal, AxVCpuHal, HostPhysAddr};
use axvcpu_arm::esr::abort;
use axvcpu_arm::sysreg::*;

use crate::asm::{Stages, translate};
use crate::decode::{self, Operand};
use crate::exit::Left;
use crate::open::Open;
use crate::raise::Exception;
use crate::sys;
use crate::vcpu::ArmVCpu;

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
            return Some(self.walk_fault(cause, va, kind));
        }
        match abort::status(cause) & !3 {
            abort::TRANSLATION | abort::PERMISSION => {}
            // Something else failed: the memory below, or the tables.
            _ => return Some(Left::FailEntry { reason: cause }),
        }
        let addr = self.guest_address(cause, va)?;
        if cause & abort::DESCRIBED != 0 && !self.fetch_always {
            let open = Open::described(self.context.pc, va, cause);
            if !self.may_begin_before(va, open.width()) {
                return self.device_access(open, addr);
            }
        }
        // Another vCPU may have changed the instruction since.
        let bits = self.fetch();
        let access = bits.and_then(decode::instruction).filter(|access| {
            let store =
                matches!(access.operand, Operand::Store { .. } | Operand::StoreFloat { .. });
            (kind == AccessKind::Write) == store
        });
        let (Some(bits), Some(access)) = (bits, access) else {
            return Some(self.nested_fault(addr, kind, va));
        };
        let first = decode::address(bits, |register| match register {
            31 => self.stack_pointer(),
            register => self.x(register),
        });
        let open = Open::decoded(self.context.pc, va, access);
        if first % access.width.bytes() as u64 != 0 {
            self.misaligned(&open, first);
            return None;
        }
        self.device_access(open, addr)
    }

    /// Whether an access that fails at `va` may have begun on the page before: a misaligned one, which is possible in normal
    /// memory only (Arm ARM, B2.15.3). What fails is told, not where the access begins.
    pub(crate) fn may_begin_before(&self, va: u64, width: AccessWidth) -> bool {
        if va % 4096 != 0 || width == AccessWidth::Byte {
            return false;
        }
        let stages = if self.in_user_mode() { Stages::GuestAtEl0 } else { Stages::GuestAtEl1 };
        let result = translate(va, stages);
        // Attributes as MAIR_EL1 has them; the upper four bits are zeros for device memory.
        result & PAR_FAILED != 0 || result >> 60 != 0
    }

    fn misaligned(&mut self, open: &Open, va: u64) {
        let mut fault = open.fault();
        fault.syndrome += abort::ALIGNMENT - abort::EXTERNAL;
        self.raise(Exception { address: Some(va), ..fault });
    }

    pub(crate) fn fetch_abort(&mut self, cause: u64) -> Option<Left> {
        let va = sys::read::<FAR_EL2>();
        if cause & abort::WALK != 0 {
            return Some(self.walk_fault(cause, va, AccessKind::Execute));
        }
        match abort::status(cause) & !3 {
            abort::TRANSLATION | abort::PERMISSION => {}
            _ => return Some(Left::FailEntry { reason: cause }),
        }
        let addr = self.guest_address(cause, va)?;
        Some(self.nested_fault(addr, AccessKind::Execute, va))
    }

    /// Stage 2 refused an access to the guest's own tables, on behalf of an access of kind `behalf`. Hardware that notes accesses in
    /// them may have been about to write.
    fn walk_fault(&mut self, cause: u64, va: u64, behalf: AccessKind) -> Left {
        let write = cause & abort::WRITE != 0 && abort::status(cause) & !3 == abort::PERMISSION;
        let access = if write { AccessKind::Write } else { AccessKind::Read };
        let fetch = behalf == AccessKind::Execute;
        let open =
            Open::refused(self.context.pc, va, behalf == AccessKind::Write, fetch, Some(cause));
        self.open = open;
        // Where in the table it was is not told, only the page.
        Left::NestedPageFault { addr: fault_page(), access }
    }

    fn nested_fault(&mut self, addr: u64, access: AccessKind, va: u64) -> Left {
        let (write, fetch) = (access == AccessKind::Write, access == AccessKind::Execute);
        self.open = Open::refused(self.context.pc, va, write, fetch, None);
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

    pub(crate) fn device_access(&mut self, open: Open, addr: u64) -> Option<Left> {
        let width = open.width();
        if addr % width.bytes() as u64 != 0 {
            // Devices are accessed naturally aligned or not at all.
            self.misaligned(&open, open.va);
            return None;
        }
        self.open = open;
        if !open.is_done() {
            return Some(Left::MmioRead { addr, width });
        }
        let data = if open.is_float() {
            self.on_cpu().image_with_fp().fp_register(open.register())
        } else {
            self.x(open.register())
        };
        if let Some((register, delta)) = open.write_back() {
            self.add_to_base(register, delta);
        }
        self.advance();
        Some(Left::MmioWrite { addr, width, data: data & width.mask() })
    }
}

/// The page of the last stage-2 fault.
pub(crate) fn fault_page() -> u64 {
    (sys::read::<HPFAR_EL2>() & 0xfff_ffff_fff0) << 8
}
