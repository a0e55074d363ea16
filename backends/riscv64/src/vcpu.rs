//! The backend: one hart on the hypervisor extension.
#![allow(unsafe_code)] // takes over the promises behind the guest's tables, enters the guest

use core::marker::PhantomData;
use core::sync::atomic::Ordering;

use axvcpu::{
    AccessWidth, AxArchVCpu, AxError, AxResult, AxVCpuExitReason as Exit, AxVCpuHal, Fence,
    GuestPhysAddr, HostPhysAddr, PerCpuState, VCpuId, VmId,
};
use axvcpu_hw::Owned;
use axvcpu_riscv::csr::{irq, sstatus as sbits};
use axvcpu_riscv::paging::{Mode, SV39X4, SV48X4, SV57X4};

use crate::edge::Edges;
use crate::hext::{cause, hstatus};
use crate::image::{Image, OnCpu, Registers, Shared, todo};
use crate::percpu::features;
use crate::sbi;
use crate::slot::{self, Slot};
use crate::switch::{Context, Trap, enter, global_pointer};

/// How to make a [`RiscvVCpu`].
#[derive(Clone, Copy, Debug)]
pub struct RiscvConfig {
    /// The format of the stage-2 tables.
    pub stage2: Mode,
    /// What is added to the host's time to get the guest's, in ticks and modulo 2^64 (`htimedelta`). The same for
    /// all vCPUs of a machine.
    pub time_offset: u64,
    /// The frequency of the time counter in hertz.
    pub timebase: u64,
    /// Whether the guest gets a timer of its own (Sstc), if the hardware has it.
    pub sstc: bool,
    /// Whether the guest gets vectors, if the hardware has them.
    pub vector: bool,
    /// Fetch an instruction that faulted from the guest's memory even where the hart tells what it was
    /// (`htinst`), as on harts that do not. For tests.
    pub fetch_always: bool,
}

impl RiscvConfig {
    /// Stage 2 in Sv39x4, the host's time at 10 MHz, everything the hardware has.
    pub fn new() -> Self {
        Self {
            stage2: SV39X4,
            time_offset: 0,
            timebase: 10_000_000,
            sstc: true,
            vector: true,
            fetch_always: false,
        }
    }
}

impl Default for RiscvConfig {
    fn default() -> Self {
        Self::new()
    }
}

/// A hart on the hypervisor extension.
///
/// General-purpose registers are `x0` to `x31`; interrupt vectors are the interrupt codes of `scause`: 1
/// (software), 5 (timer), 9 (external, also a line). SBI's timer extension is part of it; every other
/// environment call from VS-mode is a [`Hypercall`](Exit::Hypercall).
///
/// The guest's registers, floating-point and vector included, stay in the hart for as long as no other vCPU is
/// run there; those it has not written to since are not saved then.
pub struct RiscvVCpu<H> {
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
    pub(crate) edges: Edges,
    pub(crate) fetch_always: bool,
    pub(crate) time_offset: u64,
    timebase: u64,
    stage2: Mode,
    entry: u64,
    hal: PhantomData<fn() -> H>,
}

/// Whether a call of the guest is one of those that the backend answers.
#[inline(always)]
fn is_timer_call(trap: &Trap) -> bool {
    trap.a[7] == sbi::LEGACY_SET_TIMER || trap.a[7] == sbi::TIME && trap.a[6] == 0
}

/// Any other call.
#[inline(always)]
fn hypercall(trap: &Trap) -> Exit {
    let [a0, a1, a2, a3, a4, a5, function, nr] = trap.a;
    Exit::Hypercall { nr, function, args: [a0, a1, a2, a3, a4, a5] }
}

/// An exception the guest is made to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exception {
    /// `scause`.
    pub(crate) code: u64,
    /// `stval`.
    pub(crate) value: u64,
}

/// The access of an MMIO or nested-page-fault exit, as long as something can be done about it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Open {
    /// Its instruction.
    pub(crate) pc: u64,
    /// The one after it.
    pub(crate) next: u64,
    /// The guest virtual address.
    pub(crate) va: u64,
    /// What the guest gets if the access is to fail; 0 if nothing is open.
    pub(crate) fault: u64,
    /// Where the answer goes.
    pub(crate) dest: Dest,
    /// How much of it.
    pub(crate) width: AccessWidth,
}

/// Where a load's value goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dest {
    /// It was no load.
    None,
    /// To an integer register.
    Integer { register: u8, signed: bool },
    /// To a floating-point register.
    Float { register: u8 },
}

impl Open {
    pub(crate) const NOTHING: Self =
        Self { pc: 0, next: 0, va: 0, fault: 0, dest: Dest::None, width: AccessWidth::Qword };
}

impl<H: AxVCpuHal> RiscvVCpu<H> {
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The vCPU on its physical CPU. For the methods that run there: [`run`](AxArchVCpu::run) and what it calls.
    pub(crate) fn on_cpu(&self) -> OnCpu<'_> {
        // SAFETY: `AxVCpu` runs a vCPU on the CPU it is bound to only, and the host keeps its interrupts masked.
        unsafe { OnCpu::new(self.slot(), self.shared()) }
    }

    /// That of the physical CPU it is bound to.
    pub(crate) fn slot(&self) -> &'static Slot {
        self.cpu.and_then(Slot::of).unwrap_or(&slot::NOWHERE)
    }

    pub(crate) fn timebase(&self) -> u64 {
        self.timebase
    }

    /// Hands what a guest can read of its hart to `f`, as of its last exit, 64 bits at a time, always in the same
    /// order: `x0` to `x31`, `f0` to `f31`, the program counter, 1 in U-mode and else 0, and what the guest calls
    /// `sstatus`, `sie`, `sip`, `stvec`, `scounteren`, `senvcfg`, `sscratch`, `sepc`, `scause`, `stval`, `stimecmp`,
    /// `satp`, `fflags` and `frm`. For comparisons with another hart. Vectors are not part of it, and neither is what
    /// has been asked for since the exit and waits for the next entry.
    ///
    /// # Errors
    ///
    /// [`WrongCpu`](AxError::WrongCpu) on another CPU than the one it is bound to.
    pub fn visit_state(&self, f: impl FnMut(u64)) -> AxResult {
        let context = &self.context;
        let Registers { vs, vsip, timer, fp } = match self.cpu {
            Some(bound) if bound != H::cpu_id() => {
                return Err(AxError::WrongCpu { bound, current: H::cpu_id() });
            }
            Some(_) => self.on_cpu().registers(),
            // SAFETY: not bound, so nobody else reaches the image.
            None => unsafe { self.shared().image() }.registers(),
        };
        let stimecmp = if context.own_timer != 0 { timer } else { context.deadline };
        let user = u64::from(!self.in_supervisor());
        let [f_registers @ .., fcsr] = fp;
        let rest = [
            context.pc,
            user,
            vs.vsstatus,
            vs.vsie,
            vsip,
            self.edges.visible_vector(vs.vstvec),
            vs.scounteren,
            vs.senvcfg,
            vs.vsscratch,
            vs.vsepc,
            vs.vscause,
            vs.vstval,
            stimecmp,
            vs.vsatp,
            fcsr & 0x1f,
            fcsr >> 5 & 7,
        ];
        context.x.iter().chain(&f_registers).chain(&rest).copied().for_each(f);
        Ok(())
    }

    /// Enters the guest, after what has been asked for.
    #[inline(always)]
    fn enter(&mut self) -> Trap {
        // The host's timer, where it stands in for the guest's, may have fired and been dealt with in any way.
        if self.context.own_timer == 0 && self.context.armed <= self.now() {
            self.shared().ask(todo::TIMER);
        }
        if self.shared().todo() != 0 {
            self.prepare();
        }
        // SAFETY: `prepare` has loaded this vCPU here, or it was still loaded: whoever takes its place asks for
        // LOAD. The host has masked its interrupts, as the contract of `AxVCpuHal::kick_cpu` says.
        unsafe { enter(&mut self.context) }
    }

    /// Deals with a trap, and with those after it, until there is an exit.
    #[inline(never)]
    fn run_on(&mut self, mut trap: Trap) -> AxResult<Exit> {
        loop {
            if trap.cause != cause::GUEST_ECALL {
                if let Some(left) = self.trapped(trap) {
                    return Ok(left.into());
                }
            } else {
                self.context.pc = trap.pc.wrapping_add(4);
                if !is_timer_call(&trap) {
                    return Ok(hypercall(&trap));
                }
                self.timer_call(trap.a[7] == sbi::TIME, trap.a[0]);
            }
            trap = self.enter();
        }
    }

    /// Back to the reset state, at the entry; the registers in the hart follow at the next entry.
    fn reset_context(&mut self) {
        let context = &mut self.context;
        context.x = [0; 32];
        context.pc = self.entry;
        context.sstatus = context.sstatus & !sbits::FS | sbits::SPP;
        context.deadline = u64::MAX;
        context.armed = u64::MAX;
        self.open = Open::NOTHING;
        self.exception = None;
        self.fp_value = None;
        self.edges = Edges::default();
        self.shared().ask(todo::RESET);
    }
}

impl<H: AxVCpuHal> AxArchVCpu for RiscvVCpu<H> {
    type Hal = H;
    type CreateConfig = RiscvConfig;
    type SetupConfig = ();

    /// [`Unsupported`](AxError::Unsupported) unless virtualization is enabled on the CPU this is called on, and
    /// for stage-2 modes it does not have.
    fn new(_vm_id: VmId, _vcpu_id: VCpuId, config: RiscvConfig) -> AxResult<Self> {
        if ![SV39X4, SV48X4, SV57X4].contains(&config.stage2) || config.timebase == 0 {
            return Err(AxError::InvalidInput);
        }
        let features = features::<H>().ok_or(AxError::Unsupported)?;
        if !features.has_stage2(config.stage2) {
            return Err(AxError::Unsupported);
        }
        let own_timer = features.sstc && config.sstc;
        let vlenb = if config.vector { features.vlenb } else { 0 };
        let shared = Image::shared(own_timer, config.time_offset, vlenb)?;
        let mut context = Context::new();
        context.own_timer = own_timer.into();
        context.hstatus = hstatus::SPV | hstatus::SPVP | hstatus::VTW | hstatus::VSXL_64;
        Ok(Self {
            context,
            shared: Owned::new(shared),
            cpu: None,
            open: Open::NOTHING,
            exception: None,
            fp_value: None,
            edges: Edges::default(),
            fetch_always: config.fetch_always,
            time_offset: config.time_offset,
            timebase: config.timebase,
            stage2: config.stage2,
            entry: 0,
            hal: PhantomData,
        })
    }

    fn set_entry(&mut self, entry: GuestPhysAddr) -> AxResult {
        if entry.as_u64() % 2 != 0 {
            return Err(AxError::InvalidInput);
        }
        self.context.pc = entry.as_u64();
        self.open = Open::NOTHING;
        self.exception = None;
        Ok(())
    }

    unsafe fn set_ept_root(&mut self, root: HostPhysAddr) -> AxResult {
        if root.as_u64() % self.stage2.root_size() as u64 != 0 {
            return Err(AxError::InvalidInput);
        }
        // SAFETY: not bound, so nobody else reaches the image.
        unsafe { self.shared().image() }.stage2 = self.stage2.root_register(root.as_u64());
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
        if unsafe { self.shared().image() }.stage2 == 0 {
            return Err(AxError::InvalidInput); // without stage 2 all of the host's memory is the guest's
        }
        // Another CPU of the machine may lack what the vCPU was made with.
        let features = slot.features();
        if self.context.own_timer != 0 && !features.sstc || !features.has_stage2(self.stage2) {
            return Err(AxError::Unsupported);
        }
        self.cpu = Some(H::cpu_id());
        let (context, host) = (&mut self.context, &slot.host);
        let load = |word: &core::sync::atomic::AtomicU64| word.load(Ordering::Relaxed);
        context.host_vector = load(&host.stvec);
        context.host_scratch = load(&host.sscratch);
        context.host_hstatus = load(&host.hstatus);
        context.host_gp = global_pointer();
        // The host's status but for what is the guest's: its privilege, and units that are off until it owns
        // them. MXR would let the guest read what it may only execute.
        const GUESTS: u64 = sbits::SIE
            | sbits::SPIE
            | sbits::SPP
            | sbits::FS
            | sbits::MXR
            | sbits::SD
            | crate::hext::sstatus::VS;
        context.sstatus = load(&host.sstatus) & !GUESTS | context.sstatus & sbits::SPP;
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
        self.open.fault = 0;
        let trap = self.enter();
        // Nothing stands between a call and its exit, which is made where it is returned. The rest has more to do.
        if trap.cause == cause::GUEST_ECALL && !is_timer_call(&trap) {
            self.context.pc = trap.pc.wrapping_add(4);
            return Ok(hypercall(&trap));
        }
        self.run_on(trap)
    }

    fn set_gpr(&mut self, reg: usize, val: u64) -> AxResult {
        match reg {
            0 => {}
            1..=31 => self.context.x[reg] = val,
            _ => return Err(AxError::InvalidInput),
        }
        Ok(())
    }

    fn get_gpr(&mut self, reg: usize) -> AxResult<u64> {
        self.context.x.get(reg).copied().ok_or(AxError::InvalidInput)
    }

    fn inject_interrupt(&mut self, vector: usize) -> AxResult {
        if !self.edges.inject(vector) {
            return Err(AxError::InterruptFailed { vector });
        }
        self.shared().ask(todo::INTERRUPTS);
        Ok(())
    }

    fn set_interrupt_line(&mut self, vector: usize, asserted: bool) -> AxResult {
        if vector != irq::EXTERNAL {
            return Err(AxError::InterruptFailed { vector });
        }
        self.edges.line = asserted;
        self.shared().ask(todo::INTERRUPTS);
        Ok(())
    }

    #[inline]
    fn set_return_value(&mut self, val: u64) {
        if self.open.fault == 0 {
            self.context.x[10] = val;
            return;
        }
        let Open { dest, width, next, .. } = self.open;
        let unused = 64 - 8 * width.bytes() as u32;
        match dest {
            Dest::None => {}
            Dest::Integer { register: 0, .. } => {}
            Dest::Integer { register, signed: true } => {
                self.context.x[usize::from(register & 31)] =
                    ((val << unused) as i64 >> unused) as u64;
            }
            Dest::Integer { register, signed: false } => {
                self.context.x[usize::from(register & 31)] = val & width.mask();
            }
            Dest::Float { register } => {
                // NaN boxing: all bits above the value are ones.
                self.fp_value = Some((register, val | !width.mask()));
                self.shared().ask(todo::FP_VALUE);
            }
        }
        self.context.pc = next;
        self.open.fault = 0;
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
        if self.open.fault == 0 {
            return Err(AxError::NotAsked);
        }
        self.context.pc = self.open.pc;
        self.open = Open::NOTHING;
        Ok(())
    }

    fn fail_access(&mut self) -> AxResult {
        let Open { pc, va, fault, .. } = self.open;
        if fault == 0 {
            return Err(AxError::NotAsked);
        }
        self.context.pc = pc;
        self.open = Open::NOTHING;
        self.exception = Some(Exception { code: fault, value: va });
        self.shared().ask(todo::EXCEPTION);
        Ok(())
    }
}

impl<H> Drop for RiscvVCpu<H> {
    fn drop(&mut self) {
        if self.cpu.is_some() {
            // Still bound: the CPU may hold it, and goes on pointing to it. Rather lost than freed.
            return;
        }
        // SAFETY: no slot points to it, as it is not bound; the owner is gone.
        unsafe { self.shared.free() };
    }
}

#[cfg(test)]
#[path = "vcpu_tests.rs"]
mod tests;
