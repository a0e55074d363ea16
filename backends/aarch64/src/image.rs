//! What a vCPU has in the CPU's registers beyond the general-purpose ones, and the memory for it while another vCPU
//! has them.
#![allow(unsafe_code)] // reads and writes guest registers, follows the slots' pointers

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

use axvcpu::{AxError, AxResult};
use axvcpu_arm::sysreg::*;

use crate::control::{cptr, timer};
use crate::el1::{self, El1, Keys};
use crate::interface::Interface;
use crate::slot::Slot;
use crate::vmid::{Space, VMIDS};
use crate::{asm, sys};

/// What has to be done before the guest is entered again.
pub(crate) mod todo {
    /// Load the registers: another vCPU has them, or nobody.
    pub(crate) const LOAD: u32 = 1 << 0;
    /// Go back to the reset state.
    pub(crate) const RESET: u32 = 1 << 1;
    /// Write the value an exit asked for to a floating-point register.
    pub(crate) const FP_VALUE: u32 = 1 << 2;
    /// Add to the stack pointer what an access with write-back has left.
    pub(crate) const STACK_POINTER: u32 = 1 << 3;
    /// Make the guest take an exception.
    pub(crate) const EXCEPTION: u32 = 1 << 4;
    /// Show interrupts, or take them back.
    pub(crate) const INTERRUPTS: u32 = 1 << 5;
    /// Forget fetched instructions.
    pub(crate) const FENCE_INSTRUCTIONS: u32 = 1 << 6;
    /// Forget the guest's own translations.
    pub(crate) const FENCE_GUEST: u32 = 1 << 7;
    /// Forget stage 2's translations.
    pub(crate) const FENCE_STAGE2: u32 = 1 << 8;
    /// The virtual timer's physical interrupt has become active.
    pub(crate) const VIRTUAL_TIMER: u32 = 1 << 9;
    /// The physical timer's has.
    pub(crate) const PHYSICAL_TIMER: u32 = 1 << 10;
    /// Something is in a list register, or waits to be: look after it before each entry.
    pub(crate) const WATCH: u32 = 1 << 11;
    /// Either.
    pub(crate) const TIMERS: u32 = VIRTUAL_TIMER | PHYSICAL_TIMER;
}

/// The part of a vCPU that other vCPUs of the same physical CPU reach.
pub(crate) type Shared = axvcpu_hw::Shared<Image>;

/// The two timers of a guest.
#[derive(Clone, Copy, Debug, Default)]
struct Timers {
    cntv_ctl: u64,
    cntv_cval: u64,
    cntp_ctl: u64,
    cntp_cval: u64,
}

/// A vCPU's registers while they are not in the CPU, and what stays the same in it.
pub(crate) struct Image {
    el1: El1,
    keys: Keys,
    timers: Timers,
    pub(crate) interface: Interface,
    /// Without SVE: `q0` to `q31`, then FPCR and FPSR.
    fp: [u128; 33],
    /// With SVE: the vectors, the predicates, FFR. Empty without.
    sve: Vec<u8>,
    zcr: u64,
    /// A number of this vCPU's own.
    id: u32,
    pub(crate) space: Option<Arc<Space>>,
    /// What goes into `VTCR_EL2`.
    pub(crate) stage2_control: u64,
    pub(crate) hcr: u64,
    pub(crate) mpidr: u64,
    pub(crate) time_offset: u64,
}

impl Image {
    /// In the reset state, not loaded anywhere. `sve_bytes` is 0 for a guest without SVE.
    pub(crate) fn shared(sve_bytes: usize) -> AxResult<Box<Shared>> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let mut sve = Vec::new();
        let size = sve_size(sve_bytes);
        sve.try_reserve_exact(size).map_err(|_| AxError::NoMemory)?;
        sve.resize(size, 0);
        let image = Self {
            el1: El1::reset(),
            keys: Keys::default(),
            timers: Timers::default(),
            interface: Interface::default(),
            fp: [0; 33],
            sve,
            zcr: 0,
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            space: None,
            stage2_control: 0,
            hcr: 0,
            mpidr: 0,
            time_offset: 0,
        };
        Ok(Box::new(Shared::new(image, todo::LOAD)))
    }

    /// A floating-point register, the lower 64 bits.
    pub(crate) fn fp_register(&self, register: u8) -> u64 {
        let at = usize::from(register & 31);
        if self.sve.is_empty() {
            return self.fp[at] as u64;
        }
        let at = at * self.vector_bytes();
        let bytes = self.sve.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u64::from_le_bytes)
    }

    /// Writes one; what is above the value becomes zero.
    pub(crate) fn set_fp_register(&mut self, register: u8, value: u64) {
        let at = usize::from(register & 31);
        self.fp[at] = value.into();
        let size = self.vector_bytes();
        if let Some(vector) = self.sve.get_mut(at * size..(at + 1) * size) {
            vector.fill(0);
            if let Some(low) = vector.get_mut(..8) {
                low.copy_from_slice(&value.to_le_bytes());
            }
        }
    }

    /// The bytes of a vector register; 0 without SVE.
    fn vector_bytes(&self) -> usize {
        self.sve.len() * 8 / SVE_EIGHTHS
    }

    fn save_fp(&mut self, vhe: bool) {
        if self.sve.is_empty() {
            // SAFETY: 33 registers; the caller has switched the unit on.
            unsafe { asm::fp_save(self.fp.as_mut_ptr()) };
            return;
        }
        let mut control = [0; 2];
        // SAFETY: sizes of this CPU, which `bind` has checked; the unit is on.
        unsafe { asm::sve_save(self.sve.as_mut_ptr(), control.as_mut_ptr()) };
        self.fp[32] = u128::from(control[0]) | u128::from(control[1]) << 64;
        self.zcr = el1::zcr(vhe);
    }

    fn load_fp(&self, vhe: bool) {
        if self.sve.is_empty() {
            // SAFETY: 33 registers; the caller has switched the unit on.
            unsafe { asm::fp_load(self.fp.as_ptr()) };
            return;
        }
        let control = [self.fp[32] as u64, (self.fp[32] >> 64) as u64];
        // SAFETY: as for `save_fp`.
        unsafe { asm::sve_load(self.sve.as_ptr(), control.as_ptr()) };
        el1::set_zcr(vhe, self.zcr);
    }
}

/// Eighths of a vector register in the whole state: 32 vectors, 16 predicates and FFR.
const SVE_EIGHTHS: usize = 32 * 8 + 17;

/// The bytes of the whole state.
fn sve_size(vector_bytes: usize) -> usize {
    vector_bytes * SVE_EIGHTHS / 8
}

/// A vCPU on its physical CPU. Made for the length of one call.
#[derive(Clone, Copy)]
pub(crate) struct OnCpu<'a> {
    slot: &'static Slot,
    me: &'a Shared,
    cpu: usize,
}

impl<'a> OnCpu<'a> {
    /// # Safety
    ///
    /// `me` is bound to physical CPU `cpu` with this `slot`, which is the one this is called on, with host interrupts
    /// masked; nobody uses its image otherwise.
    pub(crate) unsafe fn new(slot: &'static Slot, cpu: usize, me: &'a Shared) -> Self {
        Self { slot, me, cpu }
    }

    /// This vCPU's image.
    #[allow(clippy::mut_from_ref)]
    pub(crate) fn image(&mut self) -> &mut Image {
        // SAFETY: promised when this was made; `&mut self` keeps it to one reference at a time.
        unsafe { self.me.image() }
    }

    pub(crate) fn is_resident(self) -> bool {
        self.slot.resident.is(self.me)
    }

    /// Puts this vCPU's registers and stage 2 into the CPU, in the place of whoever's are there.
    pub(crate) fn load(mut self) {
        self.evict_resident();
        let (slot, cpu) = (self.slot, self.cpu);
        let features = slot.features();
        let owns_fp = slot.fp.is(self.me);
        let has_sve = !self.image().sve.is_empty();
        let image = self.image();
        let Some(space) = &image.space else { return };
        let tag = VMIDS.enter(space, cpu, features.vmid_bits);
        let changed = space.changes_on(cpu, image.id);
        let timers = image.timers;
        // SAFETY: this vCPU is about to run here; its stage 2 is its owner's promise, its VMID this table's alone.
        unsafe {
            image.el1.load(features.vhe);
            if features.pauth {
                image.keys.load();
            }
            sys::write::<VTCR_EL2>(image.stage2_control);
            sys::write::<VTTBR_EL2>(space.root() | tag.vmid() << 48);
            sys::write::<HCR_EL2>(image.hcr);
            sys::write::<VMPIDR_EL2>(image.mpidr);
            sys::write::<CNTVOFF_EL2>(image.time_offset);
            sys::write::<CPTR_EL2>(cptr::value(features.vhe, owns_fp, has_sve));
            if features.ras {
                sys::write::<VDISR_EL2>(0); // no SError of another guest's is deferred
            }
            image.interface.load(features.priority_registers);
        }
        sys::synchronize();
        el1::set_cntv_cval(features.vhe, timers.cntv_cval);
        el1::set_cntv_ctl(features.vhe, timers.cntv_ctl);
        el1::set_cntp_cval(features.vhe, timers.cntp_cval);
        el1::set_cntp_ctl(features.vhe, timers.cntp_ctl);
        if changed {
            asm::forget_here();
        }
        slot.resident.set(Some(self.me));
    }

    /// Takes the resident vCPU's registers out of the CPU, and stage 2 with them.
    fn evict_resident(self) {
        let resident = self.slot.resident.get();
        // SAFETY: a vCPU in a slot is bound to this CPU and alive, as unbinding removes it from there; its image
        // is free for whoever runs here. If it is `me`, `image` is not borrowed at this moment.
        let Some(shared) = (unsafe { resident.as_ref() }) else { return };
        let features = self.slot.features();
        // SAFETY: as above.
        let image = unsafe { shared.image() };
        image.timers = Timers {
            cntv_ctl: el1::cntv_ctl(features.vhe) & (timer::ENABLE | timer::IMASK),
            cntv_cval: el1::cntv_cval(features.vhe),
            cntp_ctl: el1::cntp_ctl(features.vhe) & (timer::ENABLE | timer::IMASK),
            cntp_cval: el1::cntp_cval(features.vhe),
        };
        // Before their interrupts are ended, or they would come again, for nobody.
        el1::set_cntv_ctl(features.vhe, 0);
        el1::set_cntp_ctl(features.vhe, 0);
        sys::synchronize();
        let fired = shared.todo() & todo::TIMERS;
        if fired != 0 {
            let others = shared.take_todo() & !todo::TIMERS;
            shared.ask(others);
            crate::gic::deactivate_timers(fired);
        }
        image.interface.save(features.priority_registers);
        image.el1 = El1::save(features.vhe);
        if features.pauth {
            image.keys = Keys::save();
        }
        shared.ask(todo::LOAD);
        self.slot.resident.set(None);
        // The number may be another guest's as soon as it is known to be unused; until then nothing may be
        // looked up under it.
        // SAFETY: an empty table.
        unsafe {
            sys::write::<VTTBR_EL2>(self.slot.nothing.load(Ordering::Relaxed));
            sys::write::<VTCR_EL2>(crate::percpu::empty_vtcr());
        }
        sys::synchronize();
        VMIDS.leave(self.cpu);
    }

    /// Takes everything of this vCPU out of the CPU.
    pub(crate) fn unload(self) {
        if self.is_resident() {
            self.evict_resident();
        }
        if self.slot.fp.is(self.me) {
            self.release_fp();
        }
        asm::complete();
    }

    /// Puts the vCPU into the reset state. It is not loaded then.
    pub(crate) fn reset(mut self) {
        self.unload();
        let image = self.image();
        image.fp = [0; 33];
        image.sve.fill(0);
        image.zcr = 0;
        image.el1 = El1::reset();
        image.keys = Keys::default();
        image.timers = Timers::default();
        image.interface = Interface::default();
    }

    /// Gives the guest, which is resident, the floating-point unit.
    pub(crate) fn take_fp(mut self) {
        let vhe = self.slot.features().vhe;
        let has_sve = !self.image().sve.is_empty();
        if self.slot.fp.is(self.me) {
            self.switch_fp(true, has_sve);
            return;
        }
        self.release_fp();
        self.switch_fp(true, has_sve);
        self.image().load_fp(vhe);
        self.slot.fp.set(Some(self.me));
    }

    /// Takes the registers of whoever has the unit out of the CPU. It is left switched off.
    fn release_fp(self) {
        let owner = self.slot.fp.get();
        // SAFETY: as in `evict_resident`.
        let Some(shared) = (unsafe { owner.as_ref() }) else { return };
        // SAFETY: as in `evict_resident`.
        let image = unsafe { shared.image() };
        self.switch_fp(true, !image.sve.is_empty());
        image.save_fp(self.slot.features().vhe);
        self.slot.fp.set(None);
        self.switch_fp(false, false);
    }

    /// This vCPU's image with its floating-point registers in it.
    pub(crate) fn image_with_fp(&mut self) -> &mut Image {
        if self.slot.fp.is(self.me) {
            self.release_fp(); // the next use of the guest's traps
        }
        self.image()
    }

    fn switch_fp(self, on: bool, sve: bool) {
        // SAFETY: the host is built without the unit's instructions.
        unsafe { sys::write::<CPTR_EL2>(cptr::value(self.slot.features().vhe, on, sve)) };
        sys::synchronize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floating_point_registers_are_found_with_and_without_sve() {
        for sve_bytes in [0, 16, 256] {
            let shared = Image::shared(sve_bytes).unwrap();
            // SAFETY: nobody else has it.
            let image = unsafe { shared.image() };
            assert_eq!(image.vector_bytes(), sve_bytes);
            for register in 0..32 {
                image.set_fp_register(register, u64::from(register) << 40 | 1);
            }
            for register in 0..32 {
                assert_eq!(image.fp_register(register), u64::from(register) << 40 | 1);
            }
        }
    }
}
