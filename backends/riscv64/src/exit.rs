//! What the guest was left for.
#![allow(unsafe_code)] // reads the guest's registers and code

use axvcpu::{AccessKind, AccessWidth, AxVCpuExitReason as Exit, AxVCpuHal, GuestPhysAddr};
use axvcpu_riscv::csr::{CAUSE_INTERRUPT, cause, num as snum, sstatus as sbits};

use crate::decode::{self, Access, Operand, Told};
use crate::hext::{cause as hcause, hstatus, num};
use crate::switch::Trap;
use crate::vcpu::{Dest, Exception, Open, RiscvVCpu};
use crate::{asm, csr};

/// The exits that are not calls. A third of the size of [`Exit`], which is to be made where it is returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    MmioRead { addr: u64, width: AccessWidth },
    MmioWrite { addr: u64, width: AccessWidth, data: u64 },
    NestedPageFault { addr: u64, access: AccessKind },
    ExternalInterrupt { vector: u64 },
    Halt { wake_after_ns: Option<u64> },
}

impl From<Left> for Exit {
    #[inline(always)]
    fn from(left: Left) -> Self {
        let at = GuestPhysAddr::new;
        match left {
            Left::MmioRead { addr, width } => Self::MmioRead { addr: at(addr), width },
            Left::MmioWrite { addr, width, data } => {
                Self::MmioWrite { addr: at(addr), width, data }
            }
            Left::NestedPageFault { addr, access } => {
                Self::NestedPageFault { addr: at(addr), access }
            }
            Left::ExternalInterrupt { vector } => Self::ExternalInterrupt { vector },
            Left::Halt { wake_after_ns } => Self::Halt { wake_after_ns },
        }
    }
}

impl<H: AxVCpuHal> RiscvVCpu<H> {
    /// Deals with every trap but environment calls, which are the hot path's. `None`: the guest goes on.
    #[inline]
    pub(crate) fn trapped(&mut self, trap: Trap) -> Option<Left> {
        self.context.pc = trap.pc;
        match trap.cause {
            interrupt if interrupt & CAUSE_INTERRUPT != 0 => {
                Some(Left::ExternalInterrupt { vector: H::irq_fetch() as u64 })
            }
            hcause::GUEST_LOAD_PAGE => self.data_fault(AccessKind::Read),
            hcause::GUEST_STORE_PAGE => self.data_fault(AccessKind::Write),
            hcause::GUEST_FETCH_PAGE => self.fetch_fault(),
            hcause::VIRTUAL_INSTRUCTION => self.virtual_instruction(),
            cause::FETCH_PAGE if self.took_hooked_trap() => None,
            // What is neither delegated nor above concerns the guest alone.
            code => {
                self.raise(Exception { code, value: csr::read::<{ snum::STVAL }>() });
                None
            }
        }
    }

    /// Whether the guest was in its supervisor mode.
    pub(crate) fn in_supervisor(&self) -> bool {
        self.context.sstatus & sbits::SPP != 0
    }

    /// The instruction at the guest's program counter; `None` if it cannot be fetched any more, because another
    /// vCPU has changed the tables. Running the guest again tells it.
    fn fetch(&self) -> Option<u32> {
        let pc = self.context.pc;
        let privilege = if self.in_supervisor() { hstatus::SPVP } else { 0 };
        let status = self.context.host_hstatus & !hstatus::SPVP | privilege;
        // SAFETY: called between a trap of this guest and the next load of another's state.
        let low = unsafe { asm::fetch_parcel(pc, status) }?;
        if low & 3 != 3 {
            return Some(low.into());
        }
        // SAFETY: as above.
        let high = unsafe { asm::fetch_parcel(pc.wrapping_add(2), status) }?;
        Some(u32::from(high) << 16 | u32::from(low))
    }

    /// The instruction of a virtual instruction trap. Harts may tell it, or leave `stval` 0.
    fn refused_instruction(&self) -> Option<u32> {
        match csr::read::<{ snum::STVAL }>() {
            0 => self.fetch(),
            bits => Some(bits as u32),
        }
    }

    fn virtual_instruction(&mut self) -> Option<Left> {
        let bits = self.refused_instruction()?;
        // In VU-mode `wfi` is as illegal as for any user.
        if bits != decode::WFI || !self.in_supervisor() {
            self.raise(Exception { code: cause::ILLEGAL, value: bits.into() });
            return None;
        }
        self.context.pc = self.context.pc.wrapping_add(4);
        self.catch_up_with_time();
        if csr::read::<{ num::VSIP }>() & csr::read::<{ num::VSIE }>() != 0 {
            return None;
        }
        Some(Left::Halt { wake_after_ns: self.ns_to_timer() })
    }

    fn fetch_fault(&mut self) -> Option<Left> {
        if self.took_hooked_trap() {
            return None;
        }
        let (page, va) = (csr::read::<{ num::HTVAL }>() << 2, csr::read::<{ snum::STVAL }>());
        match decode::told(csr::read::<{ num::HTINST }>()) {
            Told::Walk { write } => self.walk_fault(page, write, va, AccessKind::Execute),
            _ => self.nested_fault(page | va & 3, AccessKind::Execute, va, AccessKind::Execute),
        }
    }

    /// Stage 2 refused an access to the guest's own page tables, made for an access of kind `on_behalf`.
    fn walk_fault(&mut self, at: u64, write: bool, va: u64, on_behalf: AccessKind) -> Option<Left> {
        let access = if write { AccessKind::Write } else { AccessKind::Read };
        self.nested_fault(at, access, va, on_behalf)
    }

    fn nested_fault(
        &mut self,
        addr: u64,
        access: AccessKind,
        va: u64,
        on_behalf: AccessKind,
    ) -> Option<Left> {
        let fault = access_fault(on_behalf);
        self.open = Open { pc: self.context.pc, va, fault, ..Open::NOTHING };
        Some(Left::NestedPageFault { addr, access })
    }

    fn data_fault(&mut self, kind: AccessKind) -> Option<Left> {
        // `htval` has all but the two lowest bits of the guest physical address.
        let (page, va) = (csr::read::<{ num::HTVAL }>() << 2, csr::read::<{ snum::STVAL }>());
        let addr = page | va & 3;
        let (access, first) = match decode::told(csr::read::<{ num::HTINST }>()) {
            Told::Walk { write } => return self.walk_fault(page, write, va, kind),
            Told::Access { access, offset } if !self.fetch_always => {
                (access, va.wrapping_sub(offset))
            }
            Told::Other if !self.fetch_always => return self.nested_fault(addr, kind, va, kind),
            _ => {
                let bits = self.fetch()?;
                // Another vCPU may have changed it since: to what this hart does not even have.
                match decode::instruction(bits).filter(|access| self.has_unit_of(access)) {
                    Some(access) => (access, decode::address(bits, &self.context.x)),
                    None => return self.nested_fault(addr, kind, va, kind),
                }
            }
        };
        if first % access.width.bytes() as u64 != 0 {
            // Devices are accessed naturally aligned or not at all.
            let code = match kind {
                AccessKind::Write => cause::STORE_MISALIGNED,
                _ => cause::LOAD_MISALIGNED,
            };
            self.raise(Exception { code, value: first });
            return None;
        }
        Some(self.device_access(access, kind, addr, first))
    }

    fn has_unit_of(&self, access: &Access) -> bool {
        let float =
            matches!(access.operand, Operand::LoadFloat { .. } | Operand::StoreFloat { .. });
        !float || self.slot().features().fp
    }

    fn device_access(&mut self, access: Access, kind: AccessKind, addr: u64, va: u64) -> Left {
        let Access { operand, width, len } = access;
        let pc = self.context.pc;
        let next = pc.wrapping_add(len.into());
        let fault = access_fault(kind);
        self.open = Open { pc, next, va, fault, dest: Dest::None, width };
        let data = match operand {
            Operand::Load { register, signed } => {
                self.open.dest = Dest::Integer { register, signed };
                return Left::MmioRead { addr, width };
            }
            Operand::LoadFloat { register } => {
                self.open.dest = Dest::Float { register };
                return Left::MmioRead { addr, width };
            }
            Operand::Store { register } => self.context.x[usize::from(register & 31)],
            Operand::StoreFloat { register } => self.fp_register(register),
        };
        self.context.pc = next;
        Left::MmioWrite { addr, width, data: data & width.mask() }
    }

    /// The bits of a floating-point register.
    fn fp_register(&mut self, register: u8) -> u64 {
        let mut on_cpu = self.on_cpu();
        let image = on_cpu.image();
        image.save_fp();
        image.fp[usize::from(register & 31)]
    }
}

/// What an access that nothing answers to is for the guest.
fn access_fault(kind: AccessKind) -> u64 {
    match kind {
        AccessKind::Read => cause::LOAD_ACCESS,
        AccessKind::Write => cause::STORE_ACCESS,
        AccessKind::Execute => cause::FETCH_ACCESS,
    }
}
