//! What a vCPU has in the hart's registers beyond the integer ones, and the memory for it while another vCPU
//! has them.
#![allow(unsafe_code)] // reads and writes guest registers, follows the slots' pointers

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use axvcpu::{AxError, AxResult};
use axvcpu_riscv::csr::{irq, num as snum, sstatus as sbits};

use crate::hext::{self, num, sstatus};
use crate::slot::{Slot, Vmid};
use crate::{asm, csr};

/// What has to be done before the guest is entered again.
pub(crate) mod todo {
    /// Load the registers: another vCPU has them, or nobody.
    pub(crate) const LOAD: u32 = 1 << 0;
    /// Go back to the reset state.
    pub(crate) const RESET: u32 = 1 << 1;
    /// Write the value an exit asked for to a floating-point register.
    pub(crate) const FP_VALUE: u32 = 1 << 2;
    /// Make the guest take an exception.
    pub(crate) const EXCEPTION: u32 = 1 << 3;
    /// Make interrupts pending, or not pending.
    pub(crate) const INTERRUPTS: u32 = 1 << 4;
    /// See whether the guest's time has come, and arm the host's timer.
    pub(crate) const TIMER: u32 = 1 << 5;
    /// `fence.i`.
    pub(crate) const FENCE_INSTRUCTIONS: u32 = 1 << 6;
    /// Drop the guest's own translations.
    pub(crate) const FENCE_GUEST: u32 = 1 << 7;
    /// Drop stage 2's translations.
    pub(crate) const FENCE_STAGE2: u32 = 1 << 8;
}

/// The part of a vCPU that other vCPUs of the same physical CPU reach.
pub(crate) type Shared = axvcpu_hw::Shared<Image>;

macro_rules! vs_registers {
    ($($field:ident = $csr:expr,)*) => {
        /// The registers that VS-mode sees as its supervisor's, plus the two of HS-mode that it shares with it.
        #[derive(Clone, Copy, Debug, Default)]
        pub(crate) struct VsRegisters { $(pub(crate) $field: u64,)* }

        impl VsRegisters {
            fn save() -> Self {
                Self { $($field: csr::read::<{ $csr }>(),)* }
            }

            /// # Safety
            ///
            /// No guest runs but the one these belong to.
            unsafe fn load(&self) {
                // SAFETY: registers of the guest, for the guest.
                unsafe { $(csr::write::<{ $csr }>(self.$field);)* }
            }
        }
    };
}

vs_registers! {
    vsstatus = num::VSSTATUS,
    vsie = num::VSIE,
    vstvec = num::VSTVEC,
    vsscratch = num::VSSCRATCH,
    vsepc = num::VSEPC,
    vscause = num::VSCAUSE,
    vstval = num::VSTVAL,
    vsatp = num::VSATP,
    hvip = num::HVIP,
    scounteren = snum::SCOUNTEREN,
    senvcfg = snum::SENVCFG,
}

impl VsRegisters {
    fn reset() -> Self {
        Self {
            vsstatus: sbits::UXL_64,
            // The manual leaves it open. Firmware shows users the counters before it starts a kernel, and Linux
            // relies on that: it gives its users a clock that reads `time`.
            scounteren: 0b111,
            ..Self::default()
        }
    }
}

/// A vCPU's registers while they are not in the hart, and what stays the same in it.
pub(crate) struct Image {
    vs: VsRegisters,
    /// `vstimecmp`; only with a timer of its own.
    timer: u64,
    /// `f0` to `f31` and `fcsr`.
    pub(crate) fp: [u64; 33],
    /// `vstart`, `vcsr`, `vl`, `vtype`.
    vector_control: [u64; 5],
    /// `v0` to `v31`; empty if the guest has none.
    vector: Vec<u64>,
    /// The VMID it had on the CPU of this slot.
    vmid: Option<(Vmid, *const Slot)>,
    /// `hgatp` without a VMID.
    pub(crate) stage2: u64,
    pub(crate) time_offset: u64,
    pub(crate) own_timer: bool,
}

// SAFETY: the pointer is only compared.
unsafe impl Send for Image {}

/// `vtype` before the first `vsetvl`: illegal.
const VILL: u64 = 1 << 63;

impl Image {
    /// In the reset state, not loaded anywhere.
    pub(crate) fn shared(own_timer: bool, time_offset: u64, vlenb: usize) -> AxResult<Box<Shared>> {
        let mut vector = Vec::new();
        vector.try_reserve_exact(32 * vlenb / 8).map_err(|_| AxError::NoMemory)?;
        vector.resize(32 * vlenb / 8, 0);
        let image = Self {
            vs: VsRegisters::reset(),
            timer: u64::MAX,
            fp: [0; 33],
            vector_control: [0, 0, 0, VILL, 0],
            vector,
            vmid: None,
            stage2: 0,
            time_offset,
            own_timer,
        };
        Ok(Box::new(Shared::new(image, todo::LOAD)))
    }
}

/// A vCPU on its physical CPU. Made for the length of one call.
#[derive(Clone, Copy)]
pub(crate) struct OnCpu<'a> {
    slot: &'static Slot,
    me: &'a Shared,
}

impl<'a> OnCpu<'a> {
    /// # Safety
    ///
    /// `me` is bound to the physical CPU of `slot`, which is the one this is called on, with host interrupts
    /// masked; nobody uses its image otherwise.
    pub(crate) unsafe fn new(slot: &'static Slot, me: &'a Shared) -> Self {
        Self { slot, me }
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

    /// The registers, wherever they are.
    pub(crate) fn registers(mut self) -> Registers {
        let fp = self.slot.features().fp;
        let resident = self.is_resident();
        let image = self.image();
        if !resident {
            return image.registers();
        }
        if fp {
            image.save_fp();
        }
        image.take_vs();
        Registers { vsip: csr::read::<{ num::VSIP }>(), ..image.registers() }
    }

    /// Puts this vCPU's registers and stage 2 into the hart, in the place of whoever's are there.
    pub(crate) fn load(mut self) {
        self.evict_resident();
        let slot = self.slot;
        let image = self.image();
        let kept = image.vmid.filter(|&(vmid, of)| {
            vmid.number != 0 && core::ptr::eq(of, slot) && slot.is_current(vmid)
        });
        let vmid = kept.map_or_else(|| slot.new_vmid(), |(vmid, _)| vmid);
        image.vmid = Some((vmid, slot));
        let (vs, own_timer) = (image.vs, image.own_timer);
        self.load_units();
        let image = self.image();
        // SAFETY: this vCPU is about to run here; its stage 2 is its owner's promise, its VMID nobody else's.
        unsafe {
            // First: the hart may translate ahead with the old tables, under the new VMID.
            csr::write::<{ num::VSATP }>(0);
            csr::write::<{ num::HGATP }>(image.stage2 | vmid.number << crate::percpu::VMID_SHIFT);
            csr::write::<{ num::HTIMEDELTA }>(image.time_offset);
            csr::write::<{ num::HENVCFG }>(if own_timer { hext::HENVCFG_STCE } else { 0 });
            if own_timer {
                csr::write::<{ num::VSTIMECMP }>(image.timer);
            }
            vs.load();
        }
        if kept.is_none() {
            // The number may have been another vCPU's in an earlier generation.
            asm::fence_gstage(vmid.number);
            asm::fence_vsstage();
            asm::fence_instructions(); // the guest's own `fence.i` was for the hart it came from
        }
        slot.resident.set(Some(self.me));
    }

    /// Takes the resident vCPU's registers out of the hart.
    fn evict_resident(self) {
        let resident = self.slot.resident.get();
        // SAFETY: a vCPU in a slot is bound to this CPU and alive, as unbinding removes it from there; its image
        // is free for whoever runs here. If it is `me`, `image` is not borrowed at this moment.
        let Some(shared) = (unsafe { resident.as_ref() }) else { return };
        // SAFETY: as above.
        let image = unsafe { shared.image() };
        // The guest's last exit has left here which units it has written to.
        let status = csr::read::<{ snum::SSTATUS }>();
        if status & sbits::FS == sbits::FS {
            image.save_fp();
        } else if status & sbits::FS != 0 {
            image.save_fcsr();
        }
        if status & sstatus::VS != 0 && !image.vector.is_empty() {
            image.save_vector();
        }
        image.take_vs();
        shared.ask(todo::LOAD);
        self.slot.resident.set(None);
    }

    /// Takes everything of this vCPU out of the hart.
    pub(crate) fn unload(self) {
        if self.is_resident() {
            self.evict_resident();
            let host = &self.slot.host;
            // SAFETY: no guest is in the hart any more: nothing to translate for, and the host's own values for
            // its users.
            unsafe {
                csr::write::<{ num::VSATP }>(0);
                csr::write::<{ num::HGATP }>(0);
                csr::write::<{ num::HVIP }>(0);
                csr::write::<{ snum::SCOUNTEREN }>(host.scounteren.load(Ordering::Relaxed));
                csr::write::<{ snum::SENVCFG }>(host.senvcfg.load(Ordering::Relaxed));
            }
        }
    }

    /// Puts the vCPU, which is resident, into the reset state.
    pub(crate) fn reset(mut self) {
        let image = self.image();
        image.fp = [0; 33];
        image.vector_control = [0, 0, 0, VILL, 0];
        image.vector.fill(0);
        image.vs = VsRegisters::reset();
        image.timer = u64::MAX;
        let (vs, own_timer) = (image.vs, image.own_timer);
        self.load_units();
        // SAFETY: this vCPU's own registers.
        unsafe {
            vs.load();
            if own_timer {
                csr::write::<{ num::VSTIMECMP }>(u64::MAX);
            }
        }
        asm::fence_vsstage();
        asm::fence_instructions();
    }

    pub(crate) fn fence_stage2(mut self) {
        if let Some((vmid, _)) = self.image().vmid {
            asm::fence_gstage(vmid.number);
            asm::fence_vsstage(); // translations may be kept of both stages together
        }
    }

    /// The bits of `sstatus` that switch the guest's units on, all of them clean.
    pub(crate) fn units(mut self) -> u64 {
        let features = self.slot.features();
        let fp = if features.fp { sstatus::FS_CLEAN } else { 0 };
        // Registers of another size would not be the guest's.
        let has_vector = features.vlenb != 0 && self.image().vector.len() == 4 * features.vlenb;
        fp | if has_vector { sstatus::VS_CLEAN } else { 0 }
    }

    /// Puts this vCPU's floating-point and vector registers into the hart.
    fn load_units(&mut self) {
        let units = self.units();
        let image = self.image();
        if units & sbits::FS != 0 {
            image.load_fp();
        }
        if units & sstatus::VS != 0 {
            image.load_vector();
        }
    }
}

/// A copy of a vCPU's registers, to be looked at.
pub(crate) struct Registers {
    pub(crate) vs: VsRegisters,
    pub(crate) vsip: u64,
    pub(crate) timer: u64,
    /// `f0` to `f31` and `fcsr`.
    pub(crate) fp: [u64; 33],
}

impl Image {
    /// As they are in memory.
    pub(crate) fn registers(&self) -> Registers {
        let Self { vs, timer, fp, .. } = *self;
        let now = csr::read::<{ snum::TIME }>().wrapping_add(self.time_offset);
        let fired = if self.own_timer && timer <= now { hext::guest_level(irq::TIMER) } else { 0 };
        let vsip = (vs.hvip & hext::GUEST_INTERRUPTS | fired) >> 1;
        Registers { vs, vsip, timer, fp }
    }

    /// Takes the hart's registers for VS-mode, which are this guest's, over into memory.
    fn take_vs(&mut self) {
        self.vs = VsRegisters::save();
        if self.own_timer {
            self.timer = csr::read::<{ num::VSTIMECMP }>();
        }
    }

    /// Takes the hart's floating-point registers, which are this guest's, over into memory.
    pub(crate) fn save_fp(&mut self) {
        let registers = self.fp.as_mut_ptr();
        // SAFETY: 33 words; the unit is on in between.
        with_unit(sbits::FS, || unsafe { asm::fp_save(registers) });
    }

    /// The same for `fcsr` alone: not every hart notes that a CSR instruction has written to it (QEMU does not).
    fn save_fcsr(&mut self) {
        with_unit(sbits::FS, || self.fp[32] = csr::read::<{ snum::FCSR }>());
    }

    pub(crate) fn load_fp(&mut self) {
        let registers = self.fp.as_ptr();
        // SAFETY: 33 words; the unit is on in between.
        with_unit(sbits::FS, || unsafe { asm::fp_load(registers) });
    }

    /// Always, written to or not: as for `fcsr`, and a guest that has vectors uses them.
    fn save_vector(&mut self) {
        let (control, registers) = (self.vector_control.as_mut_ptr(), self.vector.as_mut_ptr());
        // SAFETY: the guest could use vectors, so that the sizes are right; the unit is on in between.
        with_unit(sstatus::VS, || unsafe { asm::vector_save(control, registers.cast()) });
    }

    fn load_vector(&mut self) {
        let (control, registers) = (self.vector_control.as_ptr(), self.vector.as_ptr());
        // SAFETY: 5 words, and 32 registers of this hart's size; the unit is on in between.
        with_unit(sstatus::VS, || unsafe { asm::vector_load(control, registers.cast()) });
    }
}

/// Runs `f` with a unit of the hart switched on by its bits in `sstatus`, which are then as they were.
fn with_unit(bits: u64, f: impl FnOnce()) {
    let before = csr::read::<{ snum::SSTATUS }>() & bits;
    // SAFETY: the host is built without the unit's instructions.
    unsafe { csr::set::<{ snum::SSTATUS }>(bits) };
    f();
    // SAFETY: as above.
    unsafe { csr::clear::<{ snum::SSTATUS }>(bits & !before) };
}
