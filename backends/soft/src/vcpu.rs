//! The backend: a [`Hart`] behind [`AxArchVCpu`].
#![allow(unsafe_code)] // `set_ept_root` takes over its caller's promise

use alloc::boxed::Box;
use core::marker::PhantomData;

use axvcpu::{
    AxArchPerCpu, AxArchVCpu, AxError, AxMmHal, AxResult, AxVCpuExitReason, AxVCpuHal, Fence,
    GuestPhysAddr, HostPhysAddr, Requests, VCpuId, VmId,
};
use axvcpu_riscv::csr::irq;
use axvcpu_riscv::paging::{Mode, SV39X4, SV48X4, SV57X4};

use crate::clock::{Clock, NS_PER_TICK};
use crate::exec::{R, SLICE, run_slice};
use crate::hart::Hart;
use crate::mmu::Stage2;

/// Slices between two looks at the host's clock: some tens of microseconds.
const SLICES_PER_CLOCK: u64 = 16;

/// Instructions after which a run on the instruction clock comes back by itself, unless its maker says otherwise.
const TURN: u64 = 64 * SLICE as u64;

/// How to make a [`SoftVCpu`].
#[derive(Clone, Debug)]
pub struct SoftConfig {
    /// Where guest time comes from.
    pub clock: Clock,
    /// The format of the stage-2 tables.
    pub stage2: Mode,
    /// With [`Clock::Instructions`], how many instructions and traps a run is for before it comes back with
    /// [`Nothing`](AxVCpuExitReason::Nothing); rounded to slices of about a thousand, and one at least. vCPUs that take
    /// turns are interleaved more finely with less, at the price of more runs.
    pub turn: u64,
}

impl SoftConfig {
    /// Guest time from `clock`, stage 2 in Sv39x4, turns of some tens of thousands of instructions.
    pub fn new(clock: Clock) -> Self {
        Self { clock, stage2: SV39X4, turn: TURN }
    }
}

/// A RISC-V hart in software.
///
/// It is the VS/VU part of an RV64GC hart with Zba, Zbb, Zbs, Sstc and Sv39 to Sv57 paging, over G-stage tables
/// that it walks through `H`'s memory; see [`ISA`](crate::ISA) for the list. SBI's timer extension is part of
/// it; every other environment call from S-mode is a [`Hypercall`](AxVCpuExitReason::Hypercall). General
/// purpose registers are `x0` to `x31`, interrupt vectors are the interrupt numbers of `scause`.
pub struct SoftVCpu<H> {
    hart: Box<Hart>,
    entry: u64,
    stage2: Mode,
    /// Slices in a turn.
    turn: u64,
    hal: PhantomData<fn() -> H>,
}

impl<H: AxVCpuHal> SoftVCpu<H> {
    /// Instructions retired since the vCPU was made.
    pub fn instructions(&self) -> u64 {
        self.hart.retired
    }

    /// Hands what a guest can read of its hart to `f`, 64 bits at a time, always in the same order: to compare two
    /// vCPUs, or to hash one. Not part of it are a reservation, lines and edges beyond what `sip` shows of them,
    /// and an exit that waits for its answer.
    pub fn visit_state(&self, mut f: impl FnMut(u64)) {
        let hart = &self.hart;
        let csr = &hart.csr;
        hart.x[..32].iter().chain(&hart.f[..32]).for_each(|&value| f(value));
        for value in [
            hart.pc,
            hart.user.into(),
            csr.sstatus,
            csr.sie,
            csr.sip,
            csr.stvec,
            csr.scounteren,
            csr.senvcfg,
            csr.sscratch,
            csr.sepc,
            csr.scause,
            csr.stval,
            csr.stimecmp,
            csr.satp,
            csr.fflags.into(),
            csr.frm.into(),
            hart.retired,
        ] {
            f(value);
        }
    }

    /// Instructions until the guest's time has to be looked at again.
    fn grant(&self) -> i64 {
        match &self.hart.clock {
            Clock::Host(_) => SLICE,
            // The timer has to fire at the same instruction each time.
            Clock::Instructions(clock) => match self.hart.csr.stimecmp.checked_mul(NS_PER_TICK) {
                Some(due) if due > clock.now_ns() => {
                    (due - clock.now_ns()).min(SLICE as u64) as i64
                }
                _ => SLICE, // fired already, or never
            },
        }
    }

    /// Runs slices until the guest has to be left, or `go_on` says no.
    fn run_while(&mut self, go_on: impl Fn() -> bool) -> AxVCpuExitReason {
        let hart = &mut *self.hart;
        // What the last exit left open was answered, or is given up with this.
        hart.open = None;
        // Interrupts may have come or been let through since the last run.
        hart.attention = true;
        let by_instructions = matches!(hart.clock, Clock::Instructions(_));
        // Slices are counted, not what they retire: a guest whose trap handler traps retires nothing.
        let slices = if by_instructions { self.turn } else { u64::MAX };
        for slice in 0..slices {
            if !go_on() {
                break;
            }
            if by_instructions || slice % SLICES_PER_CLOCK == 0 {
                self.hart.poll_timer(0);
            }
            if let Some(exit) = self.run_one_slice() {
                return exit;
            }
        }
        AxVCpuExitReason::Nothing
    }

    fn run_one_slice(&mut self) -> Option<AxVCpuExitReason> {
        let grant = self.grant();
        let hart = &mut *self.hart;
        hart.left = grant;
        hart.granted = grant;
        let exit = run_slice(hart);
        let executed = hart.granted - hart.left;
        hart.left = 0;
        hart.granted = 0;
        hart.retired = hart.retired.wrapping_add_signed(executed);
        if let Clock::Instructions(clock) = &hart.clock {
            clock.advance_by_ns(executed.max(0) as u64);
        }
        exit
    }
}

impl<H: AxVCpuHal> AxArchVCpu for SoftVCpu<H> {
    type Hal = H;
    type CreateConfig = SoftConfig;
    type SetupConfig = ();

    fn new(_vm_id: VmId, _vcpu_id: VCpuId, config: SoftConfig) -> AxResult<Self> {
        // The fields are public: only the three modes there are have tables that the walk stays within.
        if ![SV39X4, SV48X4, SV57X4].contains(&config.stage2) {
            return Err(AxError::InvalidInput);
        }
        Ok(Self {
            hart: Hart::new(config.clock)?,
            entry: 0,
            stage2: config.stage2,
            turn: (config.turn / SLICE as u64).max(1),
            hal: PhantomData,
        })
    }

    fn set_entry(&mut self, entry: GuestPhysAddr) -> AxResult {
        if entry.as_u64() % 2 != 0 {
            return Err(AxError::InvalidInput);
        }
        self.hart.pc = entry.as_u64();
        self.hart.open = None;
        Ok(())
    }

    unsafe fn set_ept_root(&mut self, root: HostPhysAddr) -> AxResult {
        if root.as_u64() % self.stage2.root_size() as u64 != 0 {
            return Err(AxError::InvalidInput);
        }
        self.hart.stage2 =
            Some(Stage2 { root, mode: self.stage2, phys_to_virt: H::MmHal::phys_to_virt });
        self.hart.flush_stage2();
        Ok(())
    }

    fn setup(&mut self, _config: ()) -> AxResult {
        self.entry = self.hart.pc;
        self.reset()
    }

    fn run(&mut self) -> AxResult<AxVCpuExitReason> {
        Ok(self.run_while(|| true))
    }

    fn run_watching(&mut self, requests: Requests<'_>) -> AxResult<AxVCpuExitReason> {
        Ok(self.run_while(|| !requests.pending()))
    }

    // Everything is in memory that any thread of the host reaches: nothing to load or to take away.
    fn bind(&mut self) -> AxResult {
        Ok(())
    }

    fn unbind(&mut self) -> AxResult {
        Ok(())
    }

    fn set_gpr(&mut self, reg: usize, val: u64) -> AxResult {
        match reg {
            0 => {}
            1..=31 => self.hart.x[reg] = val,
            _ => return Err(AxError::InvalidInput),
        }
        Ok(())
    }

    fn get_gpr(&mut self, reg: usize) -> AxResult<u64> {
        match reg {
            0..=31 => Ok(self.hart.x[reg]),
            _ => Err(AxError::InvalidInput),
        }
    }

    fn inject_interrupt(&mut self, vector: usize) -> AxResult {
        let csr = &mut self.hart.csr;
        match vector {
            irq::SOFTWARE => csr.sip |= 1 << vector,
            irq::TIMER | irq::EXTERNAL => {
                csr.latched |= 1 << vector;
                csr.sip |= 1 << vector;
            }
            _ => return Err(AxError::InterruptFailed { vector }),
        }
        Ok(())
    }

    fn set_interrupt_line(&mut self, vector: usize, asserted: bool) -> AxResult {
        if vector != irq::EXTERNAL {
            return Err(AxError::InterruptFailed { vector });
        }
        let csr = &mut self.hart.csr;
        csr.lines = csr.lines & !(1 << vector) | u64::from(asserted) << vector;
        csr.set_pending(vector, asserted);
        Ok(())
    }

    fn set_return_value(&mut self, val: u64) {
        if self.hart.open.is_some() {
            self.hart.complete_load(val);
        } else {
            self.hart.set(R::X10, val);
        }
    }

    fn reset(&mut self) -> AxResult {
        self.hart.reset();
        self.hart.pc = self.entry;
        Ok(())
    }

    fn fence(&mut self, fence: Fence) -> AxResult {
        if fence.contains(Fence::STAGE2_TLB) {
            self.hart.flush_stage2();
        }
        if fence.contains(Fence::GUEST_TLB) {
            self.hart.flush_guest_tlb();
        }
        if fence.contains(Fence::INSTRUCTION) {
            self.hart.flush_instructions();
        }
        Ok(())
    }

    fn retry(&mut self) -> AxResult {
        self.hart.retry_access()
    }

    fn fail_access(&mut self) -> AxResult {
        self.hart.fail_access()
    }
}

/// A physical CPU as the software backend needs it: any will do.
#[derive(Debug)]
pub struct SoftPerCpu {
    enabled: bool,
}

impl AxArchPerCpu for SoftPerCpu {
    fn new(_cpu_id: usize) -> AxResult<Self> {
        Ok(Self { enabled: false })
    }

    fn is_enabled(&self) -> bool {
        self.enabled
    }

    fn hardware_enable(&mut self) -> AxResult {
        self.enabled = true;
        Ok(())
    }

    fn hardware_disable(&mut self) -> AxResult {
        self.enabled = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine's threads share its vCPUs.
    #[test]
    fn vcpus_may_change_threads() {
        const fn is_send<T: Send>() {}
        const { is_send::<Hart>() };
    }
}
