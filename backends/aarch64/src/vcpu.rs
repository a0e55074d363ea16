//! The backend: one CPU at EL1, run from EL2.
#![allow(unsafe_code)] // takes over the promises behind the guest's tables, enters the guest

use alloc::sync::Arc;
use core::marker::PhantomData;
use core::sync::atomic::Ordering;

use axvcpu::{
    AxArchVCpu, AxError, AxResult, AxVCpuExitReason as Exit, AxVCpuHal, Fence, GuestPhysAddr,
    HostPhysAddr, MAX_LINES, PerCpuState, VCpuId, VmId,
};
use axvcpu_arm::affinity;
use axvcpu_arm::esr::{self, abort};
use axvcpu_arm::gic;
use axvcpu_arm::gic::{ForwardAll, SGIS, SPECIAL};
use axvcpu_arm::stage2::Ipa;
use axvcpu_arm::sysreg::FAR_EL2;
use axvcpu_hw::Owned;
use axvcpu_stage2::Format;

use crate::abort::fault_page;
use crate::control::{VTCR, VTCR_VS, hcr};
use crate::gic::Interrupts;
use crate::image::{Image, OnCpu, Shared, todo};
use crate::open::{Dest, Open, Place};
use crate::percpu::{Features, features, guest_hcr};
use crate::raise::Exception;
use crate::slot::{self, Slot};
use crate::switch::{Context, Trap, enter};
use crate::vmid::Space;
use crate::{ArmConfig, sys};

/// A CPU at EL1.
///
/// General-purpose registers are `x0` to `x30`; 31 is the zero register. Interrupt vectors are INTIDs of the GIC, of which 16 to 63
/// are also lines. `HVC` and `SMC` are [`Hypercall`](Exit::Hypercall)s. The timers are the CPU's own, and their interrupts come by themselves.
///
/// The guest's registers stay in the CPU for as long as no other vCPU is run there, floating point for as long as no
/// other vCPU uses it.
pub struct ArmVCpu<H> {
    pub(crate) context: Context,
    shared: Owned<Image>,
    /// The physical CPU it is bound to.
    cpu: Option<usize>,
    /// The access of the last exit.
    pub(crate) open: Open,
    /// To be taken at the next entry.
    pub(crate) exception: Option<Exception>,
    /// To be written at the next entry.
    pub(crate) fp_value: Option<(u8, u64)>,
    /// To be added to the stack pointer at the next entry.
    pub(crate) stack_delta: u64,
    pub(crate) interrupts: Interrupts,
    pub(crate) debug: crate::sysreg::Debug,
    pub(crate) fetch_always: bool,
    pub(crate) sve_bytes: usize,
    /// Of the CPU it was made on, and of every one it may be bound to.
    features: Features,
    /// The same as the image's, for the end.
    space: Option<Arc<Space>>,
    pub(crate) time_offset: u64,
    stage2: Ipa,
    entry: u64,
    hal: PhantomData<fn() -> H>,
}

/// The syndromes of `HVC #0` and `SMC #0`.
const HVC_0: u64 = esr::of_class(esr::class::HVC);
const SMC_0: u64 = esr::of_class(esr::class::SMC);

/// What is told instead of a syndrome if there was no entry: no syndrome has this bit. The exit is a
/// [`FailEntry`](Exit::FailEntry).
const NOT_BOUND: u64 = 1 << 61;

/// The processor state a guest starts with: EL1 with its own stack pointer, interrupts masked.
pub(crate) const EL1H_MASKED: u64 = 0x3c5;

/// A call of the guest.
#[inline(always)]
fn hypercall([nr, a0, a1, a2, a3, a4, a5]: [u64; 7]) -> Exit {
    Exit::Hypercall { nr, function: 0, args: [a0, a1, a2, a3, a4, a5] }
}

/// A data abort of a lower level that the syndrome describes, of a translation that is missing: in these bits of the syndrome,
/// which are the class, ISV, CM, S1PTW and the fault status without the level.
const PLAIN_BITS: u64 = 0x3f << 26 | abort::DESCRIBED | abort::CACHE | abort::WALK | 0x3c;
const PLAIN: u64 = esr::class::DATA_LOWER << 26 | abort::DESCRIBED | abort::TRANSLATION;

impl<H: AxVCpuHal> ArmVCpu<H> {
    /// Whether it is on a physical CPU.
    pub(crate) fn is_bound(&self) -> bool {
        self.cpu.is_some()
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The vCPU on its physical CPU. For the methods that run there: [`run`](AxArchVCpu::run) and what it calls.
    pub(crate) fn on_cpu(&self) -> OnCpu<'_> {
        // SAFETY: `AxVCpu` runs a vCPU on the CPU it is bound to only, and the host keeps its interrupts masked.
        unsafe { OnCpu::new(self.slot(), self.cpu.unwrap_or(usize::MAX), self.shared()) }
    }

    /// That of the physical CPU it is bound to.
    pub(crate) fn slot(&self) -> &'static Slot {
        self.cpu.and_then(Slot::of).unwrap_or(&slot::NOWHERE)
    }

    /// Enters the guest, after what has been asked for.
    #[inline(always)]
    fn enter(&mut self) -> Trap {
        if self.shared().todo() != 0 && !self.prepare() {
            return Trap { cause: NOT_BOUND, x: [0; 7] };
        }
        // SAFETY: `prepare` has loaded this vCPU here, or it was still loaded: whoever takes its place asks for
        // LOAD. The host has masked its interrupts, as the contract of `AxVCpuHal::kick_cpu` says.
        unsafe { enter(&mut self.context) }
    }

    /// Deals with a trap, and with those after it, until there is an exit.
    #[inline(never)]
    fn run_on(&mut self, mut cause: u64) -> AxResult<Exit> {
        loop {
            if cause == SMC_0 {
                self.advance(); // unlike HVC, it has not been executed
                cause = HVC_0;
            }
            if cause == HVC_0 {
                let [x0, x1, x2, x3, x4, x5, x6, ..] = self.context.x;
                return Ok(hypercall([x0, x1, x2, x3, x4, x5, x6]));
            }
            if let Some(left) = self.trapped(cause) {
                return Ok(left.into());
            }
            cause = self.enter().cause;
        }
    }

    /// The most frequent accesses, on a way of their own; the rest has more to do.
    #[inline(never)]
    fn plain_access(&mut self, cause: u64) -> AxResult<Exit> {
        let va = sys::read::<FAR_EL2>();
        let addr = fault_page() | va & 0xfff;
        let open = Open::described(self.place(), va, cause);
        let width = open.width();
        let aligned = addr & (width.bytes() as u64 - 1) == 0;
        if !aligned || self.fetch_always || va & 0xfff == 0 && self.may_begin_before(va, width) {
            return self.run_on(cause);
        }
        self.open = open;
        let addr = GuestPhysAddr::new(addr);
        if !open.is_done() {
            return Ok(Exit::MmioRead { addr, width });
        }
        self.advance();
        let data = self.x(open.register()) & width.mask();
        Ok(Exit::MmioWrite { addr, width, data })
    }

    /// Back to the reset state, at the entry; the registers in the CPU follow at the next entry.
    fn reset_context(&mut self) {
        let context = &mut self.context;
        context.x = [0; 31];
        context.pc = self.entry;
        context.pstate = EL1H_MASKED;
        self.open = Open::NOTHING;
        self.exception = None;
        self.fp_value = None;
        self.stack_delta = 0;
        self.interrupts.reset();
        self.debug = crate::sysreg::Debug::default();
        self.shared().ask(todo::RESET);
    }

    /// Where the guest is.
    #[inline(always)]
    pub(crate) fn place(&self) -> Place {
        Place { pc: self.context.pc, pstate: self.context.pstate }
    }

    pub(crate) fn set_x(&mut self, register: u8, value: u64) {
        if let Some(x) = self.context.x.get_mut(usize::from(register)) {
            *x = value;
        }
    }

    pub(crate) fn x(&self, register: u8) -> u64 {
        self.context.x.get(usize::from(register)).copied().unwrap_or(0)
    }

    /// Adds to a base register, of which 31 is the stack pointer.
    pub(crate) fn add_to_base(&mut self, register: u8, delta: u64) {
        if register == 31 {
            self.stack_delta = self.stack_delta.wrapping_add(delta);
            self.shared().ask(todo::STACK_POINTER);
        } else {
            self.set_x(register, self.x(register).wrapping_add(delta));
        }
    }

    /// Puts everything back to where the access of the last exit begins.
    fn undo(&mut self) -> AxResult<Open> {
        let open = self.open;
        if !open.is_open() {
            return Err(AxError::NotAsked);
        }
        if let (true, Some((register, delta))) = (open.is_done(), open.write_back()) {
            self.add_to_base(register, delta.wrapping_neg());
        }
        self.context.pc = open.at.pc;
        self.context.pstate = open.at.pstate;
        self.open = Open::NOTHING;
        Ok(open)
    }
}

impl<H: AxVCpuHal> AxArchVCpu for ArmVCpu<H> {
    type Hal = H;
    type CreateConfig = ArmConfig;
    type SetupConfig = ();

    /// [`Unsupported`](AxError::Unsupported) unless virtualization is enabled on the CPU this is called on, and
    /// for address spaces it does not have.
    fn new(_vm_id: VmId, vcpu_id: VCpuId, config: ArmConfig) -> AxResult<Self> {
        let features = features::<H>().ok_or(AxError::Unsupported)?;
        if !features.has_stage2(config.stage2) {
            return Err(AxError::Unsupported);
        }
        if vcpu_id >= 1 << 12 {
            return Err(AxError::InvalidInput); // there are no more affinities
        }
        let sve_bytes = if config.sve { features.sve_bytes } else { 0 };
        let shared = Image::shared(sve_bytes)?;
        let start = if config.stage2.levels() == 4 { 2 } else { 1 };
        let vs = if features.vmid_bits == 16 { VTCR_VS } else { 0 };
        let wfe = if config.trap_wfe { hcr::TWE } else { 0 };
        // SAFETY: nobody else has it yet.
        let image = unsafe { shared.image() };
        image.stage2_control = VTCR
            | vs
            | features.pa_range() << 16
            | start << 6
            | u64::from(64 - config.stage2.bits());
        image.hcr = guest_hcr(&features) | wfe;
        image.mpidr = 1 << 31 | affinity::of(vcpu_id);
        image.time_offset = config.time_offset;
        let forwarding = config.forwarding.unwrap_or_else(|| Arc::new(ForwardAll));
        Ok(Self {
            context: Context::new(),
            shared: Owned::new(shared),
            cpu: None,
            open: Open::NOTHING,
            exception: None,
            fp_value: None,
            stack_delta: 0,
            interrupts: Interrupts::new(forwarding),
            debug: crate::sysreg::Debug::default(),
            fetch_always: config.fetch_always,
            sve_bytes,
            features,
            space: None,
            time_offset: config.time_offset,
            stage2: config.stage2,
            entry: 0,
            hal: PhantomData,
        })
    }

    fn set_entry(&mut self, entry: GuestPhysAddr) -> AxResult {
        if entry.as_u64() % 4 != 0 {
            return Err(AxError::InvalidInput);
        }
        self.context.pc = entry.as_u64();
        self.open = Open::NOTHING;
        self.exception = None;
        Ok(())
    }

    unsafe fn set_ept_root(&mut self, root: HostPhysAddr) -> AxResult {
        let size = axvcpu_stage2::PAGE_SIZE * self.stage2.root_pages() as u64;
        if root.as_u64() % size != 0 || root.as_u64() >> 48 != 0 {
            return Err(AxError::InvalidInput);
        }
        let space = Space::of(root.as_u64())?;
        // SAFETY: not bound, so nobody else reaches the image.
        unsafe { self.shared().image() }.space = Some(space.clone());
        self.space = Some(space);
        Ok(())
    }

    fn setup(&mut self, _config: ()) -> AxResult {
        self.entry = self.context.pc;
        self.reset_context();
        Ok(())
    }

    fn bind(&mut self) -> AxResult {
        let slot =
            Slot::enabled::<H>().ok_or(AxError::BadCpuState { found: PerCpuState::Disabled })?;
        // SAFETY: not bound, so nobody else reaches the image.
        let image = unsafe { self.shared().image() };
        if image.space.is_none() {
            return Err(AxError::InvalidInput); // without stage 2 all of the host's memory is the guest's
        }
        // Another CPU of the machine may lack what the vCPU was made with.
        if slot.features() != self.features {
            return Err(AxError::Unsupported);
        }
        self.cpu = Some(H::cpu_id());
        self.context.host_vectors = slot.host_vectors.load(Ordering::Relaxed);
        self.shared().ask(todo::LOAD);
        slot.add_bound();
        Ok(())
    }

    fn unbind(&mut self) -> AxResult {
        let Some(bound) = self.cpu else { return Ok(()) };
        let current = H::cpu_id();
        if bound != current {
            // Dropped on another CPU than it is bound to, which must not be: what is there stays there.
            return Err(AxError::WrongCpu { bound, current });
        }
        self.on_cpu().unload();
        self.slot().remove_bound();
        self.cpu = None;
        Ok(())
    }

    #[inline(always)]
    fn run(&mut self) -> AxResult<Exit> {
        // What the last exit left open was answered, or is given up with this.
        self.open.close();
        let trap = self.enter();
        // Nothing stands between a call and its exit, which is made where it is returned. The rest has more to do.
        if trap.cause == HVC_0 {
            return Ok(hypercall(trap.x));
        }
        if trap.cause & PLAIN_BITS == PLAIN {
            return self.plain_access(trap.cause);
        }
        self.run_on(trap.cause)
    }

    fn set_gpr(&mut self, reg: usize, val: u64) -> AxResult {
        match reg {
            0..=30 => self.context.x[reg] = val,
            31 => {}
            _ => return Err(AxError::InvalidInput),
        }
        Ok(())
    }

    fn get_gpr(&mut self, reg: usize) -> AxResult<u64> {
        match reg {
            0..=30 => Ok(self.context.x[reg]),
            31 => Ok(0),
            _ => Err(AxError::InvalidInput),
        }
    }

    fn inject_interrupt(&mut self, vector: usize) -> AxResult {
        let intid = u32::try_from(vector).ok().filter(|intid| *intid < SPECIAL);
        self.interrupts.inject(intid.ok_or(AxError::InterruptFailed { vector })?);
        self.shared().ask(todo::INTERRUPTS);
        Ok(())
    }

    /// Software-generated interrupts have no lines.
    fn set_interrupt_line(&mut self, vector: usize, asserted: bool) -> AxResult {
        match u32::try_from(vector) {
            Ok(line @ SGIS..) if vector < MAX_LINES => self.interrupts.set_line(line, asserted),
            _ => return Err(AxError::InterruptFailed { vector }),
        }
        self.shared().ask(todo::INTERRUPTS);
        Ok(())
    }

    #[inline]
    fn set_return_value(&mut self, val: u64) {
        let open = self.open;
        let Some(dest) = open.dest() else {
            if open.is_call() {
                self.context.x[0] = val;
            }
            return;
        };
        let width = open.width();
        match dest {
            Dest::Integer { register, signed, wide } => {
                let unused = 64 - 8 * width.bytes() as u32;
                let shifted = val << unused;
                let value =
                    if signed { (shifted as i64 >> unused) as u64 } else { shifted >> unused };
                self.set_x(register, if wide { value } else { value & u64::from(u32::MAX) });
            }
            Dest::Float { register } => {
                self.fp_value = Some((register, val & width.mask()));
                self.shared().ask(todo::FP_VALUE);
            }
        }
        if let Some((register, delta)) = open.write_back() {
            self.add_to_base(register, delta);
        }
        self.advance();
        self.open.close();
    }

    fn reset(&mut self) -> AxResult {
        self.reset_context();
        Ok(())
    }

    fn fence(&mut self, fence: Fence) -> AxResult {
        for (part, what) in [
            (Fence::INSTRUCTION, todo::FENCE_INSTRUCTIONS),
            (Fence::GUEST_TLB, todo::FENCE_GUEST),
            (Fence::STAGE2_TLB, todo::FENCE_STAGE2),
        ] {
            if fence.contains(part) {
                self.shared().ask(what);
            }
        }
        Ok(())
    }

    fn retry(&mut self) -> AxResult {
        self.undo().map(|_| ())
    }

    fn fail_access(&mut self) -> AxResult {
        let open = self.undo()?;
        self.exception = Some(open.fault());
        self.shared().ask(todo::EXCEPTION);
        Ok(())
    }
}

impl<H> Drop for ArmVCpu<H> {
    fn drop(&mut self) {
        if self.cpu.is_some() {
            // Still bound: the CPU may hold it, and goes on pointing to it. Rather lost than freed. But nobody may share its
            // VMID by its table, which may be another one soon.
            if let Some(space) = &self.space {
                space.retire();
            }
            return;
        }
        // SAFETY: no slot points to it, as it is not bound; the owner is gone.
        unsafe { self.shared.free() };
    }
}

// What a machine's interrupt controller may inject fits into the vectors there are.
const _: () = assert!(gic::SPECIAL as usize <= axvcpu::MAX_VECTORS);

#[cfg(test)]
#[path = "vcpu_tests.rs"]
mod tests;
